"""The records of a trial, of a queued point, and of what holds for all trials of a history."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from bo_suite.space.space import Params, Space
from bo_suite.storage.by_parameter import ByName
from bo_suite.storage.goals import Constraints, Direction, Goals, Noise, Told
from bo_suite.values.copies import Copied
from bo_suite.values.describe import SHORT, shortened
from bo_suite.values.display import html_table, shown_point, shown_text, shown_value

State = Literal["running", "finished", "failed", "withdrawn", "stopped", "paused"]

STATES: tuple[State, ...] = ("running", "finished", "failed", "withdrawn", "stopped", "paused")

Verdict = Literal["continue", "stop", "pause"]

VERDICTS: tuple[Verdict, ...] = ("continue", "stop", "pause")

_RARE = ("gradient", "params_std", "reports")
"""Fields that most trials lack."""


@dataclass(frozen=True)
class Report:
    """An intermediate outcome of an evaluation.

    Attributes:
        step: number of the step, from 1 on.
        value: the outcome after the step, in the user's units and direction.
        seconds: that the evaluation has taken up to this step, over all attempts.
        attempt: the attempt that reported it.
        verdict: what was decided at this step; None if nothing is decided yet.
    """

    step: int
    value: float
    seconds: float
    attempt: int
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Trial:
    """One evaluation, as stored in the history; mappings are copied at each access."""

    id: int  # 0, 1, 2, ... in order of asking
    params: Params
    state: State
    value: float | None  # of the only objective, in the user's units and direction
    std: float | None  # standard deviation of the value's noise, if known
    reason: str | None  # of a failure or a withdrawal
    attempt: int  # 1, plus one each time the trial was handed out again
    asked: bool  # False for an observation that came through `add`
    provenance: Mapping[str, Any]  # acquisition, hyperparameters, milliseconds, fallback
    started: float  # unix seconds at which this attempt was handed out
    ended: float | None
    transient: bool = False  # whether it failed for a cause unrelated to its point
    traceback: str | None = field(default=None, repr=False)  # of the exception that it failed with
    outcomes: Mapping[str, float | None] | None = None  # by name; NaN as None; None if `value` is all
    stds: Mapping[str, float] | None = None  # standard deviations of their noise, of those that are known
    gradient: Mapping[str, float] | None = None  # known derivatives of `value`, by parameter
    params_std: Mapping[str, float] | None = None  # standard deviations of what was really set, by parameter
    reports: tuple[Report, ...] = ()  # intermediate outcomes by ascending step, of each the latest attempt's
    run: str = field(default="", repr=False, compare=False)  # name of the history that it belongs to

    def __hash__(self) -> int:
        return hash((self.id, self.attempt, self.state))

    def __repr__(self) -> str:
        return shown_text(f"Trial({self.id}, {self.fate}{_outcome(self)}: {shown_point(self.params)})")

    def _repr_html_(self) -> str:
        rows = [(name, shown_value(value)) for name, value in self.params.items()]
        return html_table(f"trial {self.id}, {self.fate}{_outcome(self)}", (), rows)

    @property
    def step(self) -> int:
        """The last step that was reported; 0 if none was."""
        return self.reports[-1].step if self.reports else 0

    @property
    def fate(self) -> str:
        """The state as text, of a stopped or paused trial with the step, whose value it has."""
        return f"{self.state} at step {self.step}" if self.state in ("stopped", "paused") else self.state

    @property
    def measured(self) -> bool:
        """Whether it is finished with a value of the only objective: not one of an earlier step."""
        return self.state == "finished" and self.value is not None

    @property
    def informative(self) -> bool:
        """Whether later suggestions use it: not if it was withdrawn or failed by chance."""
        return self.state != "withdrawn" and not self.transient


Trial.params, Trial.provenance = Copied("params"), Copied("provenance")  # type: ignore[assignment]
Trial.outcomes, Trial.stds = Copied("outcomes"), Copied("stds")  # type: ignore[assignment]
Trial.gradient, Trial.params_std = Copied("gradient"), Copied("params_std")  # type: ignore[assignment]

if TYPE_CHECKING:

    class Finished(Trial):
        """A trial that has a value, for type checkers."""

        value: float

else:
    Finished = Trial


@dataclass(frozen=True)
class Header:
    """What holds for all trials of a history; the acquisition and the scheduler are in JSON form."""

    space: Space
    seed: int
    direction: Direction  # "minimize", "maximize", or one of these by name of an objective
    budget: int | None
    acquisition: Any
    initial: int | None = None  # number of initial points, if the user has set it
    repeats: bool | None = None  # whether points may be evaluated again under noise, if the user has set it
    since: int = 0  # id of the first trial since the space or an outcome was last changed
    extended: bool = False  # whether the space was changed, so that points of trials may be outside
    constraints: Constraints | None = None  # intervals by name of an outcome, or None
    scheduler: Any = None
    run: str = field(default="", compare=False)  # a unique name; "" in files of version 0.8
    schema: int = field(default=0, compare=False)  # version of the file when it was last read or written

    @cached_property
    def goals(self) -> Goals:
        """The objectives and the constraints."""
        return Goals.of(self.direction, self.constraints)

    @property
    def canonical(self) -> Callable[[object], Params]:
        """What brings the point of a trial into canonical form; raises SpaceError if it cannot be one."""
        return self.space.accept if self.extended else self.space.unlisted.check


@dataclass(frozen=True)
class Queued:
    """A point that is asked next; the model chooses the parameters that it lacks."""

    id: int
    params: Params


@dataclass(frozen=True)
class Observation:
    """The outcome, or the failure, of a point from elsewhere.

    Attributes:
        params: the point.
        value: its outcome, or outcomes by name; None if its evaluation failed.
        std: standard deviation of the noise of the value, or these by name, if known.
        reason: why it failed; None if it has a value.
        gradient: derivatives of the value by parameters, if known, as `Optimizer.tell` takes them.
        params_std: standard deviations of what was really set, by parameter, if known.
    """

    params: Params
    value: Told | None
    std: Noise = None
    reason: str | None = None
    gradient: ByName = None
    params_std: ByName = None


@dataclass(frozen=True)
class Snapshot:
    """What a history holds at one instant."""

    header: Header
    trials: Sequence[Trial]
    queue: Sequence[Queued]


def next_id(trials: Sequence[Trial]) -> int:
    """The id of the next trial."""
    return trials[-1].id + 1 if trials else 0


def record(trial: Trial) -> dict[str, Any]:
    """The fields of a trial in JSON values; `gradient`, `params_std` and `reports` only if there are any."""
    form = {column.name: getattr(trial, column.name) for column in fields(trial) if column.name != "run"}
    if trial.reports:
        form["reports"] = [asdict(report) for report in trial.reports]
    return {name: value for name, value in form.items() if value or name not in _RARE}


def round_hyperparameters(hyperparameters: Sequence[float]) -> list[float]:
    """Round to 7 significant digits, as stored in the history and used to warm-start the next fit."""
    return [float(f"{number:.7g}") for number in hyperparameters]


def _outcome(trial: Trial) -> str:
    """The outcome or the reason of a trial, for its repr."""
    if outcomes := trial.outcomes:
        shown = (
            f"{name}={'nan' if value is None else shown_value(value)}" for name, value in outcomes.items()
        )
        return f", {', '.join(shown)}"
    if trial.value is None:
        return f" ({shortened(' '.join(trial.reason.split()), SHORT)})" if trial.reason else ""
    return f", value={shown_value(trial.value)}" + (f", std={shown_value(trial.std)}" if trial.std else "")
