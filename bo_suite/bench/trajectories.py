"""What each run of a suite had found, after each evaluation and each second."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bo_suite.bench.records import Records
from bo_suite.errors import DataError

_Array = npt.NDArray[np.float64]
_UNIT = ["problem", "method", "seed"]
_STATES = ("finished", "crashed", "timed out")
_FLOOR = 1e-9  # of a normalised regret, before its logarithm


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The runs of a suite as arrays: a row a unit, a column an evaluation.

    A unit that ended early, or whose problem has a smaller budget than another, holds its last values.

    Attributes:
        units: problem, method, seed, state, budget, and of the problem best_known (NaN where not known) and
            span (what its regrets are divided by, see `runs`); in the order of the first three.
        incumbent: noise-free value (or else the observed one) of the best observation; NaN before the first.
        regret: of the incumbent, inf from a crash on, see `runs`.
        normalized: of the incumbent, inf from a crash on, see `runs`.
        optimizer_seconds: spent so far in ask and tell.
        seconds: spent so far in ask, tell and evaluations.
    """

    units: pd.DataFrame
    incumbent: _Array
    regret: _Array
    normalized: _Array
    optimizer_seconds: _Array
    seconds: _Array

    @property
    def crashed(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.column("state") == "crashed", dtype=bool)

    def column(self, name: str) -> npt.NDArray[np.object_]:
        return np.asarray(self.units[name].to_numpy(dtype=object))


def trajectories(records: Records) -> Trajectories:
    """The runs of a suite as arrays; `runs` says how each is computed.

    Raises:
        DataError: no units, an unknown state, a unit of no problem, or a row that is there twice.
    """
    units = _checked_units(records)
    shape = (len(units), int(units["budget"].max()))
    rows, columns, evaluations = _places(records, units)

    def grid(values: _Array, fill: float) -> _Array:
        cells = np.full(shape, fill)
        cells[rows, columns] = values
        return cells

    value, true = _numbers(evaluations, "value"), _numbers(evaluations, "true_value")
    optimizer = sum(np.nan_to_num(_numbers(evaluations, name)) for name in ("ask_seconds", "tell_seconds"))
    observed = grid(np.where(np.isfinite(value), value, np.inf), np.inf)
    incumbent = _incumbents(observed, grid(np.where(np.isfinite(true), true, value), np.nan))
    optimizer_seconds = np.cumsum(grid(np.asarray(optimizer), 0.0), axis=1)
    evaluating = np.cumsum(grid(np.nan_to_num(_numbers(evaluations, "evaluate_seconds")), 0.0), axis=1)
    regret, span = _regrets(units, incumbent)
    made = np.bincount(rows, minlength=len(units))
    crashed = (units["state"] == "crashed").to_numpy()[:, None]
    # A crash after the last evaluation shows at that one.
    since = np.minimum(made, units["budget"].to_numpy() - 1)[:, None]
    regret[crashed & (np.arange(shape[1]) >= since)] = np.inf
    normalized = regret / np.where(span > 0.0, span, 1.0)[:, None]
    units["span"] = span
    return Trajectories(
        units, incumbent, regret, normalized, optimizer_seconds, optimizer_seconds + evaluating
    )


def runs(records: Records) -> pd.DataFrame:
    """What each run had found, a row an evaluation of each unit, 1 to the budget of its problem.

    - incumbent: the noise-free value of the evaluation with the best value observed so far, or the
      observed one where none is recorded; NaN before any succeeded.
    - regret: max(incumbent - best, 0), where best is the problem's best_known or, where that is NaN, the
      smallest incumbent that any run of the problem has had; inf from a crash on.
    - normalized: regret / span, where the span is the median of the positive among the first regrets of
      the problem's runs, at the noise-free value of the first evaluation that succeeded; where none is
      positive, the largest regret of any run; where that is 0, all are 0.
    - optimizer_seconds: spent so far in ask and tell; seconds: in evaluations as well.

    A unit that crashed or timed out keeps its last incumbent and its last seconds for the evaluations it
    did not make. One that crashed after its last evaluation has that regret, too, inf.

    Raises:
        DataError: records that do not fit together, see `trajectories`.
    """
    paths = trajectories(records)
    count, width = paths.incumbent.shape
    frame = paths.units.loc[np.repeat(np.arange(count), width), _UNIT].reset_index(drop=True)
    frame["evaluation"] = np.tile(np.arange(1, width + 1), count)
    for name in ("incumbent", "regret", "normalized", "optimizer_seconds", "seconds"):
        frame[name] = getattr(paths, name).ravel()
    made = frame["evaluation"].to_numpy() <= np.repeat(paths.units["budget"].to_numpy(), width)
    return frame[made].reset_index(drop=True)


def finals(records: Records) -> pd.DataFrame:
    """What each run left its user with: a row a (problem, method, seed).

    incumbent, regret and normalized are those of `runs` after the last evaluation. A unit that crashed
    counts as the worst there can be, inf, and so does one of which no evaluation succeeded; one that timed
    out keeps its incumbent, as its user would.

    auc is the mean over the evaluations of the budget of log10(max(normalized, 1e-9)): -1 is a run that
    was within a tenth of the reference span from the start, -9 one that had found the best known value
    from the start. Evaluations before the first success count with the largest normalised regret that a
    run of the problem has had, at least 1.

    Raises:
        DataError: records that do not fit together, see `trajectories`.
    """
    paths = trajectories(records)
    frame = paths.units[_UNIT].copy()
    lost = paths.crashed | np.isnan(paths.incumbent[:, -1])
    for name in ("incumbent", "regret", "normalized"):
        frame[name] = np.where(lost, np.inf, getattr(paths, name)[:, -1])
    frame["auc"] = np.where(lost, np.inf, _areas(paths))
    frame["optimizer_seconds"] = paths.optimizer_seconds[:, -1]
    frame["state"] = paths.units["state"]
    return frame


def common_units(frame: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether each row's (problem, seed) is one that every method of the frame has run."""
    counts = frame.groupby(["problem", "seed"])["method"].transform("nunique")
    return np.asarray(counts == frame["method"].nunique(), dtype=bool)


def _checked_units(records: Records) -> pd.DataFrame:
    """The units with their budgets, sorted."""
    units, problems = records.units, records.problems
    if len(units) == 0:
        raise DataError("a comparison needs at least one unit that has ended, got none")
    unknown = sorted(set(units["state"]) - set(_STATES))
    if unknown:
        raise DataError(f"a unit's state must be one of {', '.join(_STATES)}, got {unknown[0]!r}")
    if problems["problem"].duplicated().any() or units.duplicated(_UNIT).any():
        raise DataError("each problem and each (problem, method, seed) must be there once, got one twice")
    missing = sorted(set(units["problem"]) - set(problems["problem"]))
    if missing:
        raise DataError(f"each unit must be of a problem of the records, got {missing[0]!r}")
    budgets = problems.set_index("problem")["budget"]
    table = _keyed(units).assign(state=units["state"].to_numpy()).sort_values(_UNIT, ignore_index=True)
    table["budget"] = budgets.loc[table["problem"]].to_numpy(dtype=np.int64)
    known = pd.Series(_numbers(problems, "best_known"), index=problems["problem"])
    table["best_known"] = known.loc[table["problem"]].to_numpy()
    if int(table["budget"].min()) < 1:
        raise DataError(f"`budget >= 1` must hold, got {table['budget'].min()}")
    return table


def _places(
    records: Records, units: pd.DataFrame
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], pd.DataFrame]:
    """Row and column of each evaluation, and the evaluations that have one."""
    evaluations = records.evaluations
    if evaluations.duplicated([*_UNIT, "evaluation"]).any():
        raise DataError("each evaluation of a unit must be there once, got one twice")
    keys, wanted = pd.MultiIndex.from_frame(units[_UNIT]), pd.MultiIndex.from_frame(_keyed(evaluations))
    rows = np.asarray(keys.get_indexer(wanted), dtype=np.int64)
    columns = evaluations["evaluation"].to_numpy(dtype=np.int64) - 1
    kept = (rows >= 0) & (columns >= 0) & (columns < units["budget"].to_numpy()[rows])
    return rows[kept], columns[kept], evaluations[kept]


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """What names a unit, in types that do not depend on how the records were kept."""
    return pd.DataFrame(
        {
            "problem": frame["problem"].astype(str).to_numpy(),
            "method": frame["method"].astype(str).to_numpy(),
            "seed": frame["seed"].to_numpy(dtype=np.int64),
        }
    )


def _numbers(frame: pd.DataFrame, name: str) -> _Array:
    return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)


def _incumbents(observed: _Array, true: _Array) -> _Array:
    """The true value where the observed one was smallest so far; NaN where all were inf."""
    before = np.full_like(observed, np.inf)
    before[:, 1:] = np.minimum.accumulate(observed, axis=1)[:, :-1]
    places = np.where(observed < before, np.arange(observed.shape[1]), -1)
    latest = np.maximum.accumulate(places, axis=1)
    return np.where(latest < 0, np.nan, np.take_along_axis(true, np.maximum(latest, 0), axis=1))


def _regrets(units: pd.DataFrame, incumbent: _Array) -> tuple[_Array, _Array]:
    """Regret of the incumbents, and the span of each unit's problem."""
    regret, spans = np.full_like(incumbent, np.nan), np.zeros(len(units))
    names = units["problem"].to_numpy(dtype=object)
    for problem in dict.fromkeys(names):
        rows = names == problem
        values = incumbent[rows]
        found = ~np.isnan(values)
        best = float(units["best_known"].to_numpy()[rows][0])
        if np.isnan(best):
            best = float(np.min(values, where=found, initial=np.inf))
        over = np.maximum(values - best, 0.0)
        regret[rows] = over
        first = over[found.any(axis=1), found.argmax(axis=1)[found.any(axis=1)]]
        apart = first[first > 0.0]
        spans[rows] = np.median(apart) if len(apart) else np.max(over, where=found, initial=0.0)
    return regret, spans


def _areas(paths: Trajectories) -> _Array:
    """Mean over each unit's budget of log10(max(normalized, 1e-9))."""
    values = paths.normalized.copy()
    problems = paths.column("problem")
    for problem in dict.fromkeys(problems):
        rows = problems == problem
        found = values[rows]
        worst = float(np.max(found, where=np.isfinite(found), initial=1.0))
        values[rows] = np.where(np.isnan(found), worst, found)
    budget = paths.units["budget"].to_numpy()
    made = np.arange(values.shape[1]) < budget[:, None]
    return np.asarray(np.where(made, np.log10(np.maximum(values, _FLOOR)), 0.0).sum(axis=1) / budget)
