"""Mean ranks of methods, and the critical difference of their ranks over problems."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from bo_suite.bench.bootstrap import LEAST_SEEDS, LEVEL, fewest, percentile_interval, resampled_counts
from bo_suite.bench.pairs import outcomes
from bo_suite.bench.records import Records

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranks:
    """How methods rank by their final incumbents, 1 the best, on the (problem, seed) that all have run.

    Attributes:
        table: method, mean_rank over (problem, seed), low, high (95% bootstrap over seeds within problems,
            NaN where a problem has fewer than 5 seeds, and where it has no width), problem_rank (mean over
            problems of the rank of the median over seeds); best mean_rank first. Ties are averaged. Ranks are
            NaN where no pair is common.
        problems: with a (problem, seed) that every method has run.
        seeds: that are in these.
        pairs: (problem, seed) that every method has run.
        left_out: (problem, seed) that some method has not run.
        critical_difference: methods whose problem_rank differ by less are not separated; NaN for one method.
        friedman_p: p-value of the hypothesis that all methods rank alike over problems; NaN for one method.
        groups: the maximal sets of two methods or more that the critical difference does not separate.
        few: whether there are too few problems for their ranks to separate any two methods: the critical
            difference is no less than methods - 1, the largest difference that there can be.
    """

    table: pd.DataFrame
    problems: int
    seeds: int
    pairs: int
    left_out: int
    critical_difference: float
    friedman_p: float
    groups: tuple[tuple[str, ...], ...]

    @property
    def few(self) -> bool:
        return self.critical_difference >= len(self.table) - 1


def ranks(records: Records) -> Ranks:
    """How the methods rank.

    Raises:
        DataError: records that do not fit together.
    """
    found = outcomes(records)
    common = found.dropna()
    names = [str(name) for name in common.columns]
    problems = common.index.get_level_values("problem")
    values = _ranked(common.to_numpy(dtype=np.float64))
    medians = common.groupby(level="problem").median().to_numpy(dtype=np.float64)
    problem_rank = _mean(_ranked(medians))
    low, high = _interval(values, problems.to_numpy().astype(str))
    table = pd.DataFrame(
        {"method": names, "mean_rank": _mean(values), "low": low, "high": high, "problem_rank": problem_rank}
    )
    difference = critical_difference(len(names), len(medians))
    return Ranks(
        table.sort_values(["mean_rank", "method"], ignore_index=True),
        problems=len(medians),
        seeds=common.index.get_level_values("seed").nunique(),
        pairs=len(common),
        left_out=len(found) - len(common),
        critical_difference=difference,
        friedman_p=friedman_p(medians),
        groups=_groups(dict(zip(names, problem_rank.tolist(), strict=True)), difference),
    )


def critical_difference(methods: int, problems: int) -> float:
    """Nemenyi's critical difference of mean ranks at the 5% level: q sqrt(k (k + 1) / (6 N)).

    q is the 95% quantile of the studentised range of k methods with infinitely many degrees of freedom,
    over sqrt(2). NaN for fewer than two methods, or no problems.

    Reference: Demšar (2006), "Statistical comparisons of classifiers over multiple data sets", section 3.2.2.
    """
    if methods < 2 or problems < 1:
        return math.nan
    q = float(stats.studentized_range.ppf(LEVEL, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * problems))


def friedman_p(values: npt.ArrayLike) -> float:
    """p-value of Friedman's test that columns rank alike in all rows, (rows, columns), ties averaged.

    chi2 = (k - 1) sum_j (R_j - n (k + 1) / 2)^2 / (sum_ij r_ij^2 - n k (k + 1)^2 / 4), against k - 1 degrees
    of freedom, where R_j sums the ranks r_ij of column j. 1 where all is tied; NaN for one column or no rows.

    Reference: Friedman (1937); Conover (1999), equation 5.8.4, for ties.
    """
    table = np.asarray(values, dtype=np.float64)
    rows, columns = table.shape
    if columns < 2 or rows < 1:
        return math.nan
    ranked = _ranked(table)
    spread = float((ranked**2).sum()) - rows * columns * (columns + 1) ** 2 / 4
    if spread <= 0.0:
        return 1.0
    between = float(((ranked.sum(axis=0) - rows * (columns + 1) / 2) ** 2).sum())
    return float(special.chdtrc(columns - 1, (columns - 1) * between / spread))


def _ranked(values: _Array) -> _Array:
    return np.asarray(stats.rankdata(values, axis=1)) if values.size else values


def _mean(values: _Array) -> _Array:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _interval(values: _Array, strata: npt.NDArray[np.str_]) -> tuple[_Array, _Array]:
    if fewest(strata) < LEAST_SEEDS:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    low, high = percentile_interval(resampled_counts(strata) @ values / len(values))
    # Ranks that were all alike say nothing of how they would vary.
    return np.where(low < high, low, np.nan), np.where(low < high, high, np.nan)


def _groups(problem_rank: dict[str, float], difference: float) -> tuple[tuple[str, ...], ...]:
    """Maximal runs, in order of rank, whose ends differ by less than the critical difference."""
    names = sorted(problem_rank, key=lambda name: (problem_rank[name], name))
    found: list[tuple[str, ...]] = []
    reached = 0
    for start, name in enumerate(names):
        near = [other for other in names[start:] if problem_rank[other] - problem_rank[name] < difference]
        if len(near) > 1 and start + len(near) > reached:
            found.append(tuple(near))
            reached = start + len(near)
    return tuple(found)
