"""Progress over evaluations and over time: medians with intervals, and data profiles."""

from dataclasses import replace

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
from bo_suite.bench.records import Records
from bo_suite.bench.trajectories import Trajectories, common_units, trajectories

_Array = npt.NDArray[np.float64]
_INSTANTS = 50
_TARGETS = np.logspace(0, -4, 41)


def curves(records: Records) -> pd.DataFrame:
    """Median and interval of what the runs had found: a row a (problem, method, evaluation).

    Columns regret, regret_low, regret_high and normalized, normalized_low, normalized_high: the median
    over the seeds of the columns of `runs`, and its 95% bootstrap interval (NaN for fewer than 6 seeds).
    Before its first success and from its crash on a run counts as inf; one that timed out keeps what it had.

    Raises:
        DataError: records that do not fit together.
    """
    paths = trajectories(records)
    problems, methods = paths.column("problem"), paths.column("method")
    tables = []
    for problem, method in dict.fromkeys(zip(problems, methods, strict=True)):
        rows = np.flatnonzero((problems == problem) & (methods == method))
        budget = int(paths.units["budget"].iloc[rows[0]])
        table = pd.DataFrame({"problem": problem, "method": method, "evaluation": range(1, budget + 1)})
        for name in ("regret", "normalized"):
            values = _worst_for_nan(getattr(paths, name)[rows, :budget]).T
            table[name] = np.median(values, axis=1)
            table[f"{name}_low"], table[f"{name}_high"] = median_interval(values)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def overall_curves(records: Records) -> pd.DataFrame:
    """Median of the normalised regret over all problems and seeds: a row a (method, evaluation).

    Over the (problem, seed) that every method has run; columns normalized, normalized_low and
    normalized_high, a 95% interval that resamples the seeds within each problem, NaN where one has fewer
    than 5. Where a problem's budget is spent its runs keep what they had; from its crash on a run is inf.

    Raises:
        DataError: records that do not fit together.
    """
    paths = trajectories(records)
    return _overall(paths, "evaluation", _evaluations(paths))


def overall_curves_over_time(records: Records) -> pd.DataFrame:
    """As `overall_curves`, but a row a (method, optimizer_seconds).

    The seconds are those spent in ask and tell, 50 instants spread evenly over the logarithm, from the
    first evaluation of the fastest run to the last of the slowest; between evaluations a run keeps
    what it had, and before its first it counts as inf. A crash shows with the last evaluation before it.

    Raises:
        DataError: records that do not fit together.
    """
    paths = trajectories(records)
    instants = _instants(paths)
    return _overall(_at_instants(paths, instants), "optimizer_seconds", instants)


def profile(records: Records) -> pd.DataFrame:
    """Share of the (problem, seed, target) that a method has reached: a row a (method, evaluation).

    The targets are normalised regrets of 10^0, 10^-0.1, ..., 10^-4; one that an incumbent has reached
    stays reached until the run crashes: a crashed one has reached none. Over the (problem, seed) that every
    method has run.

    Raises:
        DataError: records that do not fit together.

    Reference: Hansen et al. (2021), "COCO: a platform for comparing continuous optimizers", section 4.
    """
    paths = trajectories(records)
    return _profile(paths, "evaluation", _evaluations(paths))


def profile_over_time(records: Records) -> pd.DataFrame:
    """As `profile`, but a row a (method, optimizer_seconds), as in `overall_curves_over_time`.

    Raises:
        DataError: records that do not fit together.
    """
    paths = trajectories(records)
    instants = _instants(paths)
    return _profile(_at_instants(paths, instants), "optimizer_seconds", instants)


def _evaluations(paths: Trajectories) -> npt.NDArray[np.int64]:
    return np.arange(1, paths.incumbent.shape[1] + 1)


def _instants(paths: Trajectories) -> _Array:
    """Seconds spread evenly over the logarithm; a run that took no time was done at the first."""
    seconds = paths.optimizer_seconds
    starts = seconds[:, 0][seconds[:, 0] > 0.0]
    low = float(starts.min()) if len(starts) else 1e-6
    instants = np.geomspace(low, max(float(seconds.max()), 1.001 * low), _INSTANTS)
    instants[-1] = max(instants[-1], float(seconds.max()))  # rounding must not lose the last evaluation
    return instants


def _at_instants(paths: Trajectories, instants: _Array) -> Trajectories:
    """The trajectories with a column an instant instead of an evaluation."""
    places = np.stack(
        [np.searchsorted(seconds, instants, side="right") - 1 for seconds in paths.optimizer_seconds]
    )

    def at(values: _Array) -> _Array:
        return np.where(places < 0, np.nan, np.take_along_axis(values, np.maximum(places, 0), axis=1))

    return replace(
        paths, incumbent=at(paths.incumbent), regret=at(paths.regret), normalized=at(paths.normalized)
    )


def _overall(paths: Trajectories, axis: str, points: npt.NDArray[np.generic]) -> pd.DataFrame:
    tables = []
    for method, rows in _common_rows(paths).items():
        counts = resampled_counts(paths.column("problem")[rows].astype(str))
        values = _worst_for_nan(paths.normalized[rows]).T
        resampled = np.stack([_weighted_medians(one, counts) for one in values], axis=1)
        low, high = percentile_interval(resampled)
        if fewest(paths.column("problem")[rows].astype(str)) < LEAST_SEEDS:
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        tables.append(
            pd.DataFrame(
                {
                    "method": method,
                    axis: points,
                    "normalized": np.median(values, axis=1),
                    "normalized_low": low,
                    "normalized_high": high,
                }
            )
        )
    columns = ["method", axis, "normalized", "normalized_low", "normalized_high"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _profile(paths: Trajectories, axis: str, points: npt.NDArray[np.generic]) -> pd.DataFrame:
    slack = 1.0 + 1e-9  # a target reached but for rounding
    values = _worst_for_nan(paths.normalized)
    reached = np.where(np.isinf(values), np.inf, np.minimum.accumulate(values, axis=1))
    counts = len(_TARGETS) - np.searchsorted(_TARGETS[::-1] * slack, reached)
    tables = [
        pd.DataFrame({"method": method, axis: points, "share": counts[rows].mean(axis=0) / len(_TARGETS)})
        for method, rows in _common_rows(paths).items()
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["method", axis, "share"])


def _common_rows(paths: Trajectories) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each method, of the (problem, seed) that every method has run."""
    common = common_units(paths.units)
    methods = paths.column("method")
    kept = {method: np.flatnonzero(common & (methods == method)) for method in sorted(set(methods))}
    return {method: rows for method, rows in kept.items() if len(rows)}


def _worst_for_nan(values: _Array) -> _Array:
    return np.where(np.isnan(values), np.inf, values)


def _weighted_medians(values: _Array, counts: npt.NDArray[np.int64]) -> _Array:
    """The median of each resample, of which the counts say how often it has each value."""
    order = np.argsort(values)
    cumulated = np.cumsum(counts[:, order], axis=1)
    total = len(values)
    lower = np.argmax(cumulated > (total - 1) // 2, axis=1)
    upper = np.argmax(cumulated > total // 2, axis=1)
    ordered = values[order]
    return np.asarray((ordered[lower] + ordered[upper]) / 2)
