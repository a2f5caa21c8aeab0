"""What each run of a suite had found after each evaluation, and after each second."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bo_suite.bench.records import Records
from bo_suite.errors import DataError

_Array = npt.NDArray[np.float64]
_UNIT = ["problem", "method", "seed"]
_STATES = ("finished", "crashed", "timed out")
_FLOOR = 1e-9  # of a normalised regret, before its logarithm
_INSTANTS = 50


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The runs of a suite as arrays: a row a unit, a column a point of the axis.

    A unit that ended early, or whose problem has a smaller budget than another, holds its last values.

    Attributes:
        units: problem, method, seed, state, budget, and of the problem best_known (NaN if not known) and
            span (what its regrets are divided by); in the order of the first three.
        axis: "evaluation" or "optimizer_seconds", the seconds in ask and tell.
        points: evaluations (1, 2, ...) or seconds.
        incumbent: the noise-free value of the evaluation with the best observed value so far, or the observed
            value if no noise-free one is recorded; NaN before any evaluation succeeded.
        regret: max(incumbent - best, 0), where best is the problem's best_known or, if that is NaN, the
            smallest incumbent of any run on the problem; inf from a crash on.
        normalized: regret / span, where the span is the median of the positive first regrets on the problem,
            each after the first successful evaluation of a run; if none is positive, the largest regret of
            any run; if that is 0, all are 0. inf from a crash on.
        optimizer_seconds: spent so far in ask and tell, a column an evaluation.
    """

    units: pd.DataFrame
    axis: str
    points: npt.NDArray[np.generic]
    incumbent: _Array
    regret: _Array
    normalized: _Array
    optimizer_seconds: _Array

    @property
    def crashed(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.column("state") == "crashed", dtype=bool)

    def column(self, name: str) -> npt.NDArray[np.object_]:
        return np.asarray(self.units[name].to_numpy(dtype=object))

    def over_seconds(self) -> "Trajectories":
        """The trajectories over the seconds in ask and tell.

        The points are 50 instants spread evenly over the logarithm, from the first evaluation of the fastest
        run to the last of the slowest. Between evaluations a run keeps what it had. A crash shows with the
        last evaluation before it.
        """
        spent = self.optimizer_seconds
        starts = spent[:, 0][spent[:, 0] > 0.0]
        low = float(starts.min()) if len(starts) else 1e-6
        instants = np.geomspace(low, max(float(spent.max()), 1.001 * low), _INSTANTS)
        instants[-1] = max(instants[-1], float(spent.max()))  # rounding must not lose the last evaluation
        columns = np.stack([np.searchsorted(row, instants, side="right") - 1 for row in spent])

        def at(values: _Array) -> _Array:
            taken = np.take_along_axis(values, np.maximum(columns, 0), axis=1)
            return np.where(columns < 0, np.nan, taken)

        return replace(
            self,
            axis="optimizer_seconds",
            points=instants,
            incumbent=at(self.incumbent),
            regret=at(self.regret),
            normalized=at(self.normalized),
        )


def trajectories(records: Records) -> Trajectories:
    """Computes the trajectories of a suite over evaluations.

    A unit that crashed after its last evaluation has an infinite regret at that evaluation.

    Raises:
        DataError: there are no units, a state is unknown, a unit is of no problem, or a row is there twice.
    """
    units = _checked_units(records)
    shape = (len(units), int(units["budget"].max()))
    rows, columns, evaluations = _indices(records, units)

    def grid(values: _Array, fill: float) -> _Array:
        cells = np.full(shape, fill)
        cells[rows, columns] = values
        return cells

    value, true = _numbers(evaluations, "value"), _numbers(evaluations, "true_value")
    spent = sum(np.nan_to_num(_numbers(evaluations, name)) for name in ("ask_seconds", "tell_seconds"))
    observed = grid(np.where(np.isfinite(value), value, np.inf), np.inf)
    incumbent = _incumbents(observed, grid(np.where(np.isfinite(true), true, value), np.nan))
    regret, span = _regrets(units, incumbent)
    made = np.bincount(rows, minlength=len(units))
    crashed = (units["state"] == "crashed").to_numpy()[:, None]
    since = np.minimum(made, units["budget"].to_numpy() - 1)[:, None]
    regret[crashed & (np.arange(shape[1]) >= since)] = np.inf
    return Trajectories(
        units.assign(span=span),
        axis="evaluation",
        points=np.arange(1, shape[1] + 1),
        incumbent=incumbent,
        regret=regret,
        normalized=regret / np.where(span > 0.0, span, 1.0)[:, None],
        optimizer_seconds=np.cumsum(grid(np.asarray(spent), 0.0), axis=1),
    )


def finals(paths: Trajectories) -> pd.DataFrame:
    """What each run left its user with: a row a (problem, method, seed).

    incumbent, regret and normalized are those after the last evaluation. A unit that crashed, or of which no
    evaluation succeeded, counts as inf, the worst possible; one that timed out keeps its incumbent.

    auc is the mean over the evaluations of the budget of log10(max(normalized, 1e-9)): -1 is a run that was
    within a tenth of the span from the start, -9 one that had found the best known value from the start.
    Evaluations before the first success count with the largest normalised regret of any run of the problem,
    at least 1.
    """
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
    if unknown := sorted(set(units["state"]) - set(_STATES)):
        raise DataError(f"a unit's state must be one of {', '.join(_STATES)}, got {unknown[0]!r}")
    if problems["problem"].duplicated().any() or units.duplicated(_UNIT).any():
        raise DataError("records hold a problem or a (problem, method, seed) more than once")
    if missing := sorted(set(units["problem"]) - set(problems["problem"])):
        raise DataError(f"records hold a unit of the problem {missing[0]!r}, but not the problem")
    table = _keyed(units).assign(state=units["state"].to_numpy()).sort_values(_UNIT, ignore_index=True)
    facts = problems.set_index("problem").loc[table["problem"]]
    table["budget"] = facts["budget"].to_numpy(dtype=np.int64)
    table["best_known"] = _numbers(facts, "best_known")
    if int(table["budget"].min()) < 1:
        raise DataError(f"`budget >= 1` must hold, got {table['budget'].min()}")
    return table


def _indices(
    records: Records, units: pd.DataFrame
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], pd.DataFrame]:
    """Row and column of each evaluation, and the evaluations that have one."""
    evaluations = records.evaluations
    if evaluations.duplicated([*_UNIT, "evaluation"]).any():
        raise DataError("records hold an evaluation of a unit more than once")
    keys, wanted = pd.MultiIndex.from_frame(units[_UNIT]), pd.MultiIndex.from_frame(_keyed(evaluations))
    rows = np.asarray(keys.get_indexer(wanted), dtype=np.int64)
    columns = evaluations["evaluation"].to_numpy(dtype=np.int64) - 1
    inside = (rows >= 0) & (columns >= 0) & (columns < units["budget"].to_numpy()[rows])
    return rows[inside], columns[inside], evaluations[inside]


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that identify a unit, in types that do not depend on how the records were stored."""
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
    """The true value at the smallest observed one so far; NaN while all are inf."""
    before = np.full_like(observed, np.inf)
    before[:, 1:] = np.minimum.accumulate(observed, axis=1)[:, :-1]
    improved = np.where(observed < before, np.arange(observed.shape[1]), -1)
    latest = np.maximum.accumulate(improved, axis=1)
    return np.where(latest < 0, np.nan, np.take_along_axis(true, np.maximum(latest, 0), axis=1))


def _regrets(units: pd.DataFrame, incumbent: _Array) -> tuple[_Array, _Array]:
    """Regret of the incumbents, and the span of each unit's problem."""
    regret, spans = np.full_like(incumbent, np.nan), np.zeros(len(units))
    for _, rows in units.groupby("problem").indices.items():
        values = incumbent[rows]
        has_value = ~np.isnan(values)
        best = float(units["best_known"].to_numpy()[rows[0]])
        if np.isnan(best):
            best = float(np.min(values, where=has_value, initial=np.inf))
        regret[rows] = over = np.maximum(values - best, 0.0)
        started = has_value.any(axis=1)
        first = over[started, has_value.argmax(axis=1)[started]]
        positive = first[first > 0.0]
        spans[rows] = np.median(positive) if len(positive) else np.max(over, where=has_value, initial=0.0)
    return regret, spans


def _areas(paths: Trajectories) -> _Array:
    """Mean over each unit's budget of log10(max(normalized, 1e-9))."""
    values = paths.normalized.copy()
    for _, rows in paths.units.groupby("problem").indices.items():
        worst = float(np.max(values[rows], where=np.isfinite(values[rows]), initial=1.0))
        values[rows] = np.where(np.isnan(values[rows]), worst, values[rows])
    budget = paths.units["budget"].to_numpy()
    made = np.arange(values.shape[1]) < budget[:, None]
    return np.asarray(np.where(made, np.log10(np.maximum(values, _FLOOR)), 0.0).sum(axis=1) / budget)
