"""Progress of the methods: medians with intervals, and shares of targets, as tidy tables.

The figures of a report and `plot_regret` draw these tables.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from bo_suite.bench.bootstrap import (
    LEAST_SEEDS,
    fewest,
    median_interval,
    percentile_interval,
    resampled_counts,
)
from bo_suite.bench.trajectories import Trajectories, common_units

_Array = npt.NDArray[np.float64]
_TARGETS = np.logspace(0, -4, 41)


def curves(paths: Trajectories) -> pd.DataFrame:
    """Medians of the regrets over the seeds: a row a (problem, method, evaluation).

    Columns regret, regret_low, regret_high and normalized, normalized_low, normalized_high: the median over
    the seeds and its 95% bootstrap interval (NaN for fewer than 6 seeds). A run counts as inf before its
    first success and from its crash on; one that timed out keeps what it had.
    """
    problems, methods, tables = paths.column("problem"), paths.column("method"), []
    for problem, method in dict.fromkeys(zip(problems, methods, strict=True)):
        rows = np.flatnonzero((problems == problem) & (methods == method))
        budget = int(paths.units["budget"].iloc[rows[0]])
        table = pd.DataFrame({"problem": problem, "method": method, "evaluation": paths.points[:budget]})
        for name in ("regret", "normalized"):
            values = _worst_for_nan(getattr(paths, name)[rows, :budget]).T
            table[name] = np.median(values, axis=1)
            table[f"{name}_low"], table[f"{name}_high"] = median_interval(values)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def overall_curves(paths: Trajectories) -> pd.DataFrame:
    """Median of the normalised regret over all problems and seeds: a row a (method, point of the axis).

    It is over the (problem, seed) that every method has run. normalized_low and normalized_high are a 95%
    interval that resamples the seeds within each problem, NaN if a problem has fewer than 5. A run keeps what
    it had once its problem's budget is spent, and counts as inf before its first success and from its crash
    on.
    """
    tables = []
    for method, rows in _common_rows(paths).items():
        problems = paths.column("problem")[rows].astype(str)
        values = _worst_for_nan(paths.normalized[rows]).T
        table = pd.DataFrame({"method": method, paths.axis: paths.points})
        table["normalized"] = np.median(values, axis=1)
        table[["normalized_low", "normalized_high"]] = np.nan
        if fewest(problems) >= LEAST_SEEDS:
            counts = resampled_counts(problems)
            resampled = np.stack([_weighted_medians(one, counts) for one in values], axis=1)
            table["normalized_low"], table["normalized_high"] = percentile_interval(resampled)
        tables.append(table)
    columns = ["method", paths.axis, "normalized", "normalized_low", "normalized_high"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def profile(paths: Trajectories) -> pd.DataFrame:
    """Share of the (problem, seed, target) that a method has reached: a row a (method, point of the axis).

    The targets are normalised regrets of 10^0, 10^-0.1, ..., 10^-4. A target once reached stays reached until
    the run crashes: a crashed run has reached none. The shares are over the (problem, seed) that every method
    has run.

    Reference: Hansen et al. (2021), "COCO: a platform for comparing continuous optimizers", section 4.
    """
    slack = 1.0 + 1e-9  # for targets that are missed by a rounding error
    values = _worst_for_nan(paths.normalized)
    smallest = np.where(np.isinf(values), np.inf, np.minimum.accumulate(values, axis=1))
    counts = len(_TARGETS) - np.searchsorted(_TARGETS[::-1] * slack, smallest)
    tables = [
        pd.DataFrame(
            {"method": method, paths.axis: paths.points, "share": counts[rows].mean(axis=0) / len(_TARGETS)}
        )
        for method, rows in _common_rows(paths).items()
    ]
    columns = ["method", paths.axis, "share"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _common_rows(paths: Trajectories) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each method, of the (problem, seed) that every method has run."""
    common, methods = common_units(paths.units), paths.column("method")
    return {str(name): np.flatnonzero(common & (methods == name)) for name in sorted(set(methods[common]))}


def _worst_for_nan(values: _Array) -> _Array:
    return np.where(np.isnan(values), np.inf, values)


def _weighted_medians(values: _Array, counts: npt.NDArray[np.int64]) -> _Array:
    """The median of each resample, which holds each value as often as its row of the counts says."""
    order = np.argsort(values)
    cumulated = np.cumsum(counts[:, order], axis=1)
    total = len(values)
    lower = np.argmax(cumulated > (total - 1) // 2, axis=1)
    upper = np.argmax(cumulated > total // 2, axis=1)
    ordered = values[order]
    return np.asarray((ordered[lower] + ordered[upper]) / 2)
