"""Bootstrap intervals: exact ones of a median, and resampled ones within strata.

`scipy.stats.bootstrap` resamples medians instead, and knows no strata.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

_Array = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]
RESAMPLES = 1000
LEVEL = 0.95
LEAST_VALUES = 6  # for the interval of a median: even the range of 5 values covers it in 94% of cases only
LEAST_SEEDS = 5  # in each stratum, for intervals of means over strata
_NEGLIGIBLE = 1e-13  # probability below which a pair of order statistics is left out


def median_interval(values: _Array) -> tuple[_Array, _Array]:
    """The 95% bootstrap percentile interval of the median over the last axis, without resampling.

    The median of a resample of n sorted values x is (x_i + x_j) / 2 for its two middle values (i = j for odd
    n), with a probability that depends on n alone. So the sorted midpoints give the quantiles of the
    bootstrap distribution. inf counts as the worst value. NaN for fewer than 6 values.

    Reference: Efron (1979), "Bootstrap methods: another look at the jackknife", section 3.
    """
    values = np.asarray(values, dtype=np.float64)
    count = values.shape[-1]
    if count < LEAST_VALUES:
        missing = np.full(values.shape[:-1], np.nan)
        return missing, missing
    lower, upper, weights = _median_weights(count)
    ordered = np.sort(values, axis=-1)
    middles = (ordered[..., lower] + ordered[..., upper]) / 2
    order = np.argsort(middles, axis=-1)
    cumulated = np.cumsum(weights[order], axis=-1)
    tail = (1 - LEVEL) / 2
    ends = [np.argmax(cumulated >= share - 1e-9, axis=-1)[..., None] for share in (tail, 1 - tail)]
    low, high = (np.take_along_axis(order, end, axis=-1) for end in ends)
    return np.take_along_axis(middles, low, -1)[..., 0], np.take_along_axis(middles, high, -1)[..., 0]


def percentile_interval(resampled: _Array) -> tuple[_Array, _Array]:
    """The 95% percentile interval over the first axis, of statistics that may be inf."""
    ordered = np.sort(resampled, axis=0)
    tail = (1 - LEVEL) / 2
    last = len(ordered) - 1
    return ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)]


def fewest(strata: npt.ArrayLike) -> int:
    """The size of the smallest stratum; 0 if there is none."""
    counts = np.unique(np.asarray(strata), return_counts=True)[1]
    return int(counts.min()) if len(counts) else 0


def resampled_counts(strata: npt.ArrayLike, resamples: int = RESAMPLES) -> _Integers:
    """How often each resample of the strata, with replacement, holds each member: (resamples, members).

    The seed is fixed: the same strata give the same draws.
    """
    labels = np.asarray(strata)
    generator = np.random.default_rng(0)
    counts = np.zeros((resamples, len(labels)), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts[:, members] = generator.multinomial(
            len(members), np.full(len(members), 1 / len(members)), resamples
        )
    return counts


@lru_cache(maxsize=64)
def _median_weights(count: int) -> tuple[_Integers, _Integers, _Array]:
    """Indices of the two middle values of a resample in the sorted sample, and their probabilities."""
    half = count // 2
    shares = np.arange(count + 1) / count
    if count % 2:
        singles = np.diff(special.bdtrc(half, count, shares))
        every = np.arange(count)
        return every, every, singles
    # Half of the draws are at most x_i and include it; the other half are at least x_j and include it.
    with np.errstate(divide="ignore"):
        powers = half * np.log(shares)
    both = math.lgamma(count + 1) - 2 * math.lgamma(half + 1)
    below = np.exp(both / 2 + powers[1:]) - np.exp(both / 2 + powers[:-1])
    lower, upper = np.triu_indices(count, 1)
    apart = below[lower] * below[::-1][upper]
    first = np.diff(special.bdtrc(half - 1, count, shares))
    same = first - np.bincount(lower, apart, minlength=count)
    weights = np.concatenate([np.maximum(same, 0.0), apart])
    every = np.arange(count)
    lower, upper = np.concatenate([every, lower]), np.concatenate([every, upper])
    likely = weights > _NEGLIGIBLE
    return lower[likely], upper[likely], weights[likely]
