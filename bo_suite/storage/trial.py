"""Trials, what a history says of itself, the checks of what goes into them, and what trials tell together."""

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, SupportsFloat, cast

import pandas as pd

from bo_suite.errors import TrialError
from bo_suite.space.space import Params, Space
from bo_suite.values.copies import Copied
from bo_suite.values.describe import SHORT, described, plain_text, shortened, visible
from bo_suite.values.display import html_table, shown_point, shown_text, shown_value
from bo_suite.values.numbers import number_of, refusal

State = Literal["running", "finished", "failed", "withdrawn"]

_BEST = 5
"""Trials in the table of the best."""

STATES: tuple[State, ...] = ("running", "finished", "failed", "withdrawn")


@dataclass(frozen=True)
class Trial:
    """One evaluation, as the history holds it; whatever it hands out is the caller's own."""

    id: int  # 0, 1, 2, ... in order of asking
    params: Params
    state: State
    value: float | None  # as told, in the user's units and direction
    std: float | None  # of the value's noise, where told
    reason: str | None  # of a failure or a withdrawal
    attempt: int  # 1, and one more each time the trial was handed out again
    asked: bool  # False for an observation that came through `add`
    provenance: Mapping[str, Any]  # acquisition, hyperparameters, milliseconds, fallback
    started: float  # unix seconds at which this attempt was handed out
    ended: float | None
    transient: bool = False  # whether it failed for a cause that has nothing to do with its point
    traceback: str | None = field(default=None, repr=False)  # of the exception that it failed with
    run: str = field(default="", repr=False, compare=False)  # name of the history that it belongs to

    def __hash__(self) -> int:
        return hash((self.id, self.attempt, self.state))

    def __repr__(self) -> str:
        return shown_text(f"Trial({self.id}, {self.state}{_outcome(self)}: {shown_point(self.params)})")

    def _repr_html_(self) -> str:
        rows = [(name, shown_value(value)) for name, value in self.params.items()]
        return html_table(f"trial {self.id}, {self.state}{_outcome(self)}", (), rows)

    @property
    def informative(self) -> bool:
        """Whether later suggestions take note of it: they do not if it was withdrawn or failed by chance."""
        return self.state != "withdrawn" and not self.transient


Trial.params, Trial.provenance = Copied("params"), Copied("provenance")  # type: ignore[assignment]

if TYPE_CHECKING:

    class Finished(Trial):
        """A trial that has a value, as type checkers see it."""

        value: float

else:
    Finished = Trial


@dataclass(frozen=True)
class RegretBound:
    """How much better than the best evaluated point any other can be, in the user's units.

    Attributes:
        value: the bound of its regret; infinite where nothing is known.
        noise: standard deviation of an observation of that point: as told, or else the model's.
        trial: the trial of that point.
    """

    value: float
    noise: float
    trial: Trial


@dataclass(frozen=True)
class Header:
    """What is fixed when a history is created; the acquisition is in JSON form."""

    space: Space
    seed: int
    direction: str
    budget: int | None
    acquisition: Any
    initial: int | None = None  # number of initial points, where the user has set it
    run: str = field(default="", compare=False)  # a name of its own; "" in files of version 0.8
    schema: int = field(default=0, compare=False)  # of the file, as it was read or written last


def finite(law: str, value: SupportsFloat) -> float:
    number = number_of(value)
    if number is None or not math.isfinite(number):
        raise TrialError(refusal(law, value))
    return number + 0.0  # SQLite does not keep the sign of a zero: have none from the start


def checked_outcome(value: SupportsFloat, std: SupportsFloat | None) -> tuple[float, float | None]:
    number = finite("a value must be a finite number (use fail() where there is none)", value)
    law = "a std must be a finite number >= 0"
    noise = None if std is None else finite(law, std)
    if noise is not None and noise < 0:
        raise TrialError(f"{law}, got {described(std)}")
    return number, noise


def checked_traceback(text: str | None) -> str | None:
    """The text, cut to what is stored.

    Raises:
        TrialError: something else than a string or None.
    """
    if text is not None and not issubclass(type(text), str):
        law = "a traceback must be a string, such as traceback.format_exc() gives, or None"
        raise TrialError(f"{law}, got {described(text)}")
    return None if text is None else plain_text(text)


def provenance_text(provenance: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(provenance), allow_nan=False)
    except (TypeError, ValueError) as error:
        law = "provenance must be JSON without NaN or infinity"
        raise TrialError(f"{law}, got {described(provenance)}") from error


def kept(hyperparameters: Sequence[float]) -> list[float]:
    """Hyperparameters with seven significant digits: so a history keeps them, and the next fit starts."""
    return [float(f"{one:.7g}") for one in hyperparameters]


def record(trial: Trial) -> dict[str, Any]:
    """The fields of a trial, in JSON values."""
    return {one.name: getattr(trial, one.name) for one in fields(trial) if one.name != "run"}


def next_id(trials: Sequence[Trial]) -> int:
    """The id of the trial that follows."""
    return trials[-1].id + 1 if trials else 0


def differences(stored: Space, given: Space) -> str:
    there, here = stored.parameters, given.parameters
    names = [name for name in {**there, **here} if repr(there.get(name)) != repr(here.get(name))]
    if not names:
        return f"in the order {list(there)}, got {list(here)}"
    texts = [f"{name!r}: {there.get(name, 'absent')}, got {here.get(name, 'absent')}" for name in names]
    return "; ".join(texts)


def _outcome(trial: Trial) -> str:
    """The value or the reason of a trial, as a part of a sentence."""
    if trial.value is None:
        return f" ({shortened(' '.join(trial.reason.split()), SHORT)})" if trial.reason else ""
    return f", value={shown_value(trial.value)}" + (f", std={shown_value(trial.std)}" if trial.std else "")


def overview(trials: Sequence[Trial], direction: str) -> str:
    """How many trials there are, and what has become of them."""
    counts = [(state, sum(trial.state == state for trial in trials)) for state in STATES]
    states = ", ".join(f"{count} {state}" for state, count in counts if count)
    number = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
    return f"{direction}, {number}{f' ({states})' if states else ''}"


def html_of_best(trials: Sequence[Trial], direction: str, space: Space) -> str:
    """The best trials as a table in HTML, those at the target fidelity alone."""
    sign = -1.0 if direction == "maximize" else 1.0
    final = [(sign * one.value, one.id, one) for one in at_target(trials, space) if one.value is not None]
    rows = [
        (str(one.id), shown_value(one.value), *map(shown_value, one.params.values()))
        for _, _, one in sorted(final, key=lambda entry: entry[:2])[:_BEST]
    ]
    caption = f"{overview(trials, direction)}; the best"
    return html_table(caption, ("id", "value", *space.parameters), rows)


def at_target(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """The trials at the target fidelity: all of them where the space has no fidelities."""
    if not space.fidelities:
        return list(trials)
    return [trial for trial in trials if space.at_target(params := trial.params) == params]


def best_trial(trials: Sequence[Trial], direction: str, space: Space) -> Finished:
    """The finished trial at the target fidelity with the best value, the earliest of equal ones.

    Raises:
        TrialError: no such trial has finished.
    """
    finished = [trial for trial in trials if trial.value is not None]
    if not finished:
        reasons = [" ".join((trial.reason or "").split()) for trial in trials if trial.state == "failed"]
        last = f"; {len(reasons)} failed, the last with: {shortened(reasons[-1], SHORT)}" if reasons else ""
        raise TrialError(
            f"there is no best trial before one has finished, got {len(trials)} trials, none finished{last}"
        )
    final = at_target(finished, space)
    if not final:
        raise TrialError(
            "there is no best trial before one at the target fidelity has finished, "
            f"got {len(finished)} finished, none with {space.target_fidelity}"
        )
    sign = 1.0 if direction == "minimize" else -1.0
    return cast(Finished, min(final, key=lambda trial: sign * (trial.value or 0.0)))


def ended_text(trial: Trial, best: float | None) -> str:
    """One line about a trial that has ended.

    Args:
        trial: the trial.
        best: the best value so far, if there is one.
    """
    seconds = f"{(trial.ended or trial.started) - trial.started:.3g} s"
    if trial.value is not None:
        so_far = "" if best is None else f" (best {best:.6g})"
        return f"trial {trial.id} finished: {trial.value:.6g} in {seconds}{so_far}"
    if trial.state == "withdrawn":
        return f"trial {trial.id} was withdrawn after {seconds}"
    reason = shortened(" ".join((trial.reason or "").split()), SHORT)
    return f"trial {trial.id} failed after {seconds}: {visible(reason)}"


def to_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """One row a trial: its id and parameters first, its state and value last, for consoles show the ends.

    Between them are the noise, the reason, where the point came from, and its times: `started` and `ended`
    in UTC, and the `seconds` between.
    """
    points = [trial.params for trial in trials]
    names = list(dict.fromkeys(name for point in points for name in point))
    sources = [trial.provenance for trial in trials]
    spans = [math.nan if trial.ended is None else trial.ended - trial.started for trial in trials]
    columns: dict[str, Any] = {
        "id": [trial.id for trial in trials],
        **{f"param_{_storable(name)}": [_storable(point.get(name)) for point in points] for name in names},
        "std": _numbers([trial.std for trial in trials]),
        "reason": [trial.reason for trial in trials],
        "attempt": [trial.attempt for trial in trials],
        "source": [source.get("source", "added") for source in sources],
        "fit_ms": [source.get("fit_ms") for source in sources],
        "search_ms": [source.get("search_ms") for source in sources],
        "started": _times([trial.started for trial in trials]),
        "ended": _times([trial.ended for trial in trials]),
        "seconds": spans,
        "state": [trial.state for trial in trials],
        "value": _numbers([trial.value for trial in trials]),
    }
    return pd.DataFrame(columns)


def _storable(value: Any) -> Any:
    """Lone surrogates of a text are escaped: pandas cannot hold them."""
    return plain_text(value) if isinstance(value, str) else value


def _times(seconds: Sequence[float | None]) -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(_numbers(seconds), unit="s", utc=True)


def _numbers(values: Sequence[float | None]) -> "pd.Series[float]":
    """NaN for None, whatever else there is: so the column has one type."""
    return pd.Series([math.nan if value is None else value for value in values], dtype="float64")


def whole_number(name: str, value: object, *, at_least: int | None = None) -> int:
    """The value as an int.

    Raises:
        TrialError: a value that is no integer, or is too small.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except Exception as error:  # whatever an object of a user raises
        raise TrialError(f"{name} must be an integer, got {described(value)}") from error
    if at_least is not None and number < at_least:
        raise TrialError(f"`{name} >= {at_least}` must hold, got {described(value)}")
    return number
