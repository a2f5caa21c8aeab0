"""Signed-rank tests of paired differences within strata, effect sizes, and Holm's correction."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from bo_suite.bench.bootstrap import LEAST_SEEDS, fewest, percentile_interval, resampled_counts
from bo_suite.errors import DataError

_Array = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]
_WORK = 20_000_000  # additions that an exact distribution may take
_EXACT_PAIRS = 1000  # with more, probabilities underflow
_MOST_SEEDS = 10_000
_WHOLE = 2**62  # largest sum of whole weights


def differences(first: npt.ArrayLike, second: npt.ArrayLike) -> _Array:
    """first - second; equal infinities differ by 0."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def signed_rank_p(differences: npt.ArrayLike, strata: npt.ArrayLike) -> float:
    """Two-sided p-value of the stratified signed-rank test that differences are symmetric about 0.

    T = sum_i sum_j sign(d_ij) r_ij / (N_i (N_i + 1) / 2), where r_ij is the rank of |d_ij| among the N_i of
    stratum i, ties averaged, so that each stratum has the same weight. Differences of 0 are ranked but have
    no sign (Pratt 1959), so that a stratum of ties does not leave its weight to a few pairs.

    p = P(|T| >= |t|) if each sign other than 0 is + or - with probability 1/2. It is exact, from the
    distribution of the sums of the ranks over a common denominator. If that takes more than 2e7 additions, or
    the denominator is too large, it is from a normal distribution with the exact variance, the sum of the
    squared weights. 1 if every difference is 0.

    Args:
        differences: one a pair; may be inf, not NaN.
        strata: the label of each pair's stratum.

    Raises:
        DataError: a difference is NaN, or there are no pairs.

    Reference: Wilcoxon (1945); Pratt (1959); van Elteren (1960) for the sum over strata.
    """
    signs, doubled, sizes = _signed_ranks(differences, strata)
    whole = math.lcm(*(int(size * (size + 1)) for size in np.unique(sizes)))
    signed = signs != 0
    if not signed.any():
        return 1.0
    signs, doubled, parts = signs[signed], doubled[signed], sizes[signed] * (sizes[signed] + 1)
    if len(sizes) * whole < _WHOLE:
        weights = doubled * (whole // parts)
        weights //= np.gcd.reduce(weights)
        total, positive = int(weights.sum()), int(weights[signs > 0].sum())
        if len(weights) <= _EXACT_PAIRS and len(weights) * total <= _WORK:
            tails = _tails(tuple(np.sort(weights).tolist()))
            return min(1.0, 2 * float(tails[max(positive, total - positive)]))
    shares = doubled / parts
    return float(special.erfc(abs(float(signs @ shares)) / math.sqrt(2 * float(shares @ shares))))


def rank_biserial(differences: npt.ArrayLike, strata: npt.ArrayLike) -> float:
    """Matched-pairs rank-biserial correlation, the mean over the strata: T of `signed_rank_p` / strata.

    In each stratum: the ranks of positive differences minus those of negative ones, over the sum of all
    ranks. -1 if all are negative, 1 if all are positive.

    Raises:
        DataError: a difference is NaN, or there are no pairs.

    Reference: Kerby (2014), "The simple difference formula", equation 1.
    """
    signs, doubled, sizes = _signed_ranks(differences, strata)
    return float(np.sum(signs * doubled / (sizes * (sizes + 1))) / len(np.unique(np.asarray(strata))))


def rank_biserial_interval(differences: npt.ArrayLike, strata: npt.ArrayLike) -> tuple[float, float]:
    """The 95% bootstrap percentile interval of `rank_biserial`, pairs resampled within strata.

    NaN if a stratum has fewer than 5 pairs.
    """
    values, labels = np.asarray(differences, dtype=np.float64), np.asarray(strata)
    names = np.unique(labels)
    if fewest(labels) < LEAST_SEEDS:
        return math.nan, math.nan
    counts = resampled_counts(labels)
    effects = np.zeros(len(counts))
    for name in names:
        members = np.flatnonzero(labels == name)
        members = members[np.argsort(np.abs(values[members]), kind="stable")]
        sizes = np.abs(values[members])
        starts = np.flatnonzero(np.concatenate([[True], sizes[1:] != sizes[:-1]]))
        drawn = np.add.reduceat(counts[:, members], starts, axis=1)
        signed = np.add.reduceat(counts[:, members] * np.sign(values[members]), starts, axis=1)
        ranks = np.cumsum(drawn, axis=1) - (drawn - 1) / 2
        effects += (signed * ranks).sum(axis=1) * 2 / (len(members) * (len(members) + 1))
    low, high = percentile_interval(effects / len(names))
    return float(low), float(high)


def holm(p: npt.ArrayLike) -> _Array:
    """Holm's step-down p-values: the maximum of (m - i + 1) p_i up to the i-th smallest p, at most 1.

    NaN stands for a test that was not made, and does not count (statsmodels' `multipletests` counts it).

    Reference: Holm (1979).
    """
    values = np.asarray(p, dtype=np.float64)
    made = np.flatnonzero(~np.isnan(values))
    order = made[np.argsort(values[made], kind="stable")]
    adjusted = np.full_like(values, np.nan)
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps * values[order]))
    return adjusted


def seeds_needed(effect: float, problems: int, level: float) -> int | None:
    """Seeds a problem that give a test at the level 80% power if the true effect is the observed one.

    The smallest N with |effect| sqrt(3 problems N (N + 1) / (2 (2 N + 1))) >= z(1 - level / 2) + z(0.8), the
    left side being the mean of T over its standard deviation under no difference. None if above 10,000.

    Reference: Noether (1987), "Sample size determination for some common nonparametric tests".
    """
    needed = float(special.ndtri(1 - level / 2) + special.ndtri(0.8))
    seeds = np.arange(1, _MOST_SEEDS + 1, dtype=np.float64)
    reached = abs(effect) * np.sqrt(3 * problems * seeds * (seeds + 1) / (2 * (2 * seeds + 1))) >= needed
    return int(np.argmax(reached)) + 1 if reached.any() else None


def _signed_ranks(differences: npt.ArrayLike, strata: npt.ArrayLike) -> tuple[_Array, _Integers, _Integers]:
    """The sign of each pair, twice the rank of its size within its stratum, and the size of the stratum."""
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or np.isnan(values).any():
        raise DataError(f"a signed-rank test needs at least one pair, and no NaN, got {values}")
    labels = np.unique(np.asarray(strata), return_inverse=True)[1]
    sizes = np.abs(values)
    order = np.lexsort((sizes, labels))
    ordered, groups = sizes[order], labels[order]
    fresh = np.concatenate([[True], (ordered[1:] != ordered[:-1]) | (groups[1:] != groups[:-1])])
    starts = np.flatnonzero(fresh)
    lengths = np.diff(np.concatenate([starts, [len(values)]]))
    counts = np.bincount(labels)
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    # Twice the mean of the ranks start + 1 to start + length, without those of earlier strata.
    doubled = np.repeat(2 * starts + lengths + 1, lengths) - 2 * before[groups]
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = doubled
    return np.sign(values), ranks, counts[labels].astype(np.int64)


@lru_cache(maxsize=16)
def _tails(weights: tuple[int, ...]) -> _Array:
    """P(S >= s) for s = 0, ..., sum of the weights, where S sums a random half of the weights."""
    chances = np.zeros(sum(weights) + 1)
    chances[0] = 1.0
    reach = 0
    for weight in weights:
        reach += weight
        head = chances[: reach + 1] / 2
        head[weight:] += chances[: reach + 1 - weight] / 2
        chances[: reach + 1] = head
    return np.asarray(np.cumsum(chances[::-1])[::-1])
