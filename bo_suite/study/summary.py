"""What the trials of a run show together: the best one, tables and lines of text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from bo_suite.errors import TrialError
from bo_suite.space.space import Space
from bo_suite.storage.trial import STATES, Finished, Trial
from bo_suite.values.describe import SHORT, plain_text, shortened, visible
from bo_suite.values.display import html_table, shown_value

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

_BEST = 5
"""Rows of the table of the best trials."""


@dataclass(frozen=True)
class RegretBound:
    """An upper bound of the regret of an evaluated point, in the user's units.

    Attributes:
        value: the bound; infinite if nothing is known.
        noise: standard deviation of an observation of that point, from its trial or else from the model.
        trial: the trial of that point.
    """

    value: float
    noise: float
    trial: Trial


def best_trial(trials: Sequence[Trial], direction: str, space: Space) -> Finished:
    """The finished trial at the target fidelity with the best value, the earliest of equal ones.

    Raises:
        TrialError: no such trial is finished.
    """
    finished = [trial for trial in trials if trial.value is not None]
    if not finished:
        reasons = [" ".join((trial.reason or "").split()) for trial in trials if trial.state == "failed"]
        last = f"; {len(reasons)} failed, the last with: {shortened(reasons[-1], SHORT)}" if reasons else ""
        raise TrialError(
            f"there is no best trial before one has finished, got {len(trials)} trials, none finished{last}"
        )
    final = trials_at_target(finished, space)
    if not final:
        raise TrialError(
            "there is no best trial before one at the target fidelity has finished, "
            f"got {len(finished)} finished, none with {space.target_fidelity}"
        )
    sign = 1.0 if direction == "minimize" else -1.0
    return cast(Finished, min(final, key=lambda trial: sign * (trial.value or 0.0)))


def trials_at_target(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """The trials at the target fidelity; all trials if the space has no fidelities."""
    if not space.fidelities:
        return list(trials)
    return [trial for trial in trials if space.at_target(params := trial.params) == params]


def explanation(provenance: Mapping[str, Any]) -> str:
    """How a point was chosen, in words."""
    source = provenance.get("source", "added")
    observations = f"{provenance.get('observations', 0)} observations"
    if source == "added":
        return "added by the user, not suggested"
    if source == "design":
        return f"an initial point, spread over the space, after {observations}"
    if source == "fallback":
        return f"a random point after {observations}, since the model failed: {provenance.get('fallback')}"
    acquisition = str(provenance.get("acquisition")).split("(")[0]
    choices = "".join(f"; {name}: {value}" for name, value in provenance.get("chosen", {}).items())
    return f"chosen from {observations} by {acquisition}{choices}"


def ranked(trials: Sequence[Trial], direction: str) -> list[Trial]:
    """The trials with a value, best first, the earliest first of equal ones."""
    sign = -1.0 if direction == "maximize" else 1.0
    finished = [(sign * trial.value, trial.id, trial) for trial in trials if trial.value is not None]
    return [trial for _, _, trial in sorted(finished, key=lambda entry: entry[:2])]


def overview(trials: Sequence[Trial], direction: str) -> str:
    """The number of trials, and how many are in each state."""
    counts = [(state, sum(trial.state == state for trial in trials)) for state in STATES]
    states = ", ".join(f"{count} {state}" for state, count in counts if count)
    number = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
    return f"{direction}, {number}{f' ({states})' if states else ''}"


def html_of_best(trials: Sequence[Trial], direction: str, space: Space) -> str:
    """The best trials at the target fidelity, as an HTML table."""
    rows = [
        (str(trial.id), shown_value(trial.value), *map(shown_value, trial.params.values()))
        for trial in ranked(trials_at_target(trials, space), direction)[:_BEST]
    ]
    caption = f"{overview(trials, direction)}; the best"
    return html_table(caption, ("id", "value", *space.parameters), rows)


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


def to_frame(trials: Sequence[Trial]) -> "pd.DataFrame":
    """One row a trial: first its id and parameters, last its state and value, since consoles show the ends.

    Between them are the noise, the reason, the source of the point, and the times: `started` and `ended` in
    UTC, and the `seconds` between.
    """
    import pandas as pd

    def numbers(values: Sequence[float | None]) -> "pd.Series[float]":
        """A column of floats, with NaN for None, even if all are None."""
        return pd.Series([math.nan if value is None else value for value in values], dtype="float64")

    def times(seconds: Sequence[float | None]) -> "pd.Series[pd.Timestamp]":
        return pd.to_datetime(numbers(seconds), unit="s", utc=True)

    points = [trial.params for trial in trials]
    names = list(dict.fromkeys(name for point in points for name in point))
    sources = [trial.provenance for trial in trials]
    columns: dict[str, Any] = {
        "id": [trial.id for trial in trials],
        **{f"param_{_escaped(name)}": [_escaped(point.get(name)) for point in points] for name in names},
        "std": numbers([trial.std for trial in trials]),
        "reason": [trial.reason for trial in trials],
        "attempt": [trial.attempt for trial in trials],
        "source": [source.get("source", "added") for source in sources],
        "fit_ms": [source.get("fit_ms") for source in sources],
        "search_ms": [source.get("search_ms") for source in sources],
        "started": times([trial.started for trial in trials]),
        "ended": times([trial.ended for trial in trials]),
        "seconds": [math.nan if trial.ended is None else trial.ended - trial.started for trial in trials],
        "state": [trial.state for trial in trials],
        "value": numbers([trial.value for trial in trials]),
    }
    return pd.DataFrame(columns)


def _escaped(value: Any) -> Any:
    """A text with its lone surrogates escaped, since pandas cannot store them; other values unchanged."""
    return plain_text(value) if isinstance(value, str) else value
