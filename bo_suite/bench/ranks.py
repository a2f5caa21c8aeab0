"""Mean ranks of methods, and the critical difference of their ranks over problems."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from bo_suite.bench.bootstrap import LEAST_SEEDS, LEVEL, fewest, percentile_interval, resampled_counts
from bo_suite.bench.pairs import outcomes
from bo_suite.bench.trajectories import Trajectories

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of the methods by their final incumbents, 1 the best, on the (problem, seed) that all have run.

    Attributes:
        table: method, mean_rank over (problem, seed), its 95% bootstrap interval low, high over seeds within
            problems, and problem_rank, the mean over problems of the rank of the median over seeds. The best
            mean_rank comes first; ties are averaged. Ranks are NaN if no (problem, seed) is common to all;
            low and high are NaN if a problem has fewer than 5 seeds or all resamples are alike.
        problems: number of problems with a (problem, seed) that every method has run.
        seeds: number of different seeds among these.
        pairs: number of (problem, seed) that every method has run.
        left_out: number of (problem, seed) that only some methods have run.
        critical_difference: methods whose problem_rank differs by less are not separated; NaN for one method.
        friedman_p: p-value of the hypothesis that all methods rank alike over problems; NaN for one method.
    """

    table: pd.DataFrame
    problems: int
    seeds: int
    pairs: int
    left_out: int
    critical_difference: float
    friedman_p: float

    @property
    def few(self) -> bool:
        """Whether the problems are too few to separate any two methods by their ranks."""
        return self.critical_difference >= len(self.table) - 1


def ranks(paths: Trajectories) -> Ranks:
    """Ranks the methods."""
    every = outcomes(paths)
    common = every.dropna()
    problems = common.index.get_level_values("problem")
    values = _ranked(common.to_numpy(dtype=np.float64))
    medians = common.groupby(level="problem").median().to_numpy(dtype=np.float64)
    low, high = _interval(values, problems.to_numpy().astype(str))
    table = pd.DataFrame(
        {
            "method": [str(name) for name in common.columns],
            "mean_rank": _mean(values),
            "low": low,
            "high": high,
            "problem_rank": _mean(_ranked(medians)),
        }
    )
    return Ranks(
        table.sort_values(["mean_rank", "method"], ignore_index=True),
        problems=len(medians),
        seeds=common.index.get_level_values("seed").nunique(),
        pairs=len(common),
        left_out=len(every) - len(common),
        critical_difference=critical_difference(len(table), len(medians)),
        friedman_p=friedman_p(medians),
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


def friedman_p(values: _Array) -> float:
    """p-value of Friedman's test that all columns rank alike, (rows, columns), ties averaged.

    1 if all is tied; NaN for one column or no rows. Two columns, which scipy's test refuses, are compared by
    the same statistic: the chi-squared test that wins and losses are equally frequent.
    """
    rows, columns = values.shape
    if columns < 2 or rows < 1:
        return math.nan
    if (values == values[:, :1]).all():
        return 1.0
    if columns == 2:
        first, second = values.T
        return float(stats.chisquare([(first < second).sum(), (first > second).sum()]).pvalue)
    return float(stats.friedmanchisquare(*values.T).pvalue)


def _ranked(values: _Array) -> _Array:
    return np.asarray(stats.rankdata(values, axis=1)) if values.size else values


def _mean(values: _Array) -> _Array:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def _interval(values: _Array, strata: npt.NDArray[np.str_]) -> tuple[_Array, _Array]:
    if fewest(strata) < LEAST_SEEDS:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    low, high = percentile_interval(resampled_counts(strata) @ values / len(values))
    # If all resamples are alike, how the ranks would vary is unknown.
    return np.where(low < high, low, np.nan), np.where(low < high, high, np.nan)
