"""Trials, and changes of them, as pandas tables."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bo_suite.storage.changes import Change
from bo_suite.storage.csv_outcomes import outcome_heading
from bo_suite.storage.goals import Goals
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Trial
from bo_suite.values.describe import plain_text

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd


def to_frame(trials: Sequence[Trial], goals: Goals) -> "pd.DataFrame":
    """One row a trial: first its id and parameters, last its state and value, since consoles show the ends.

    Between them are the noise, the reason, the source of the point, and the times: `started` and `ended` in
    UTC, and the `seconds` between. Outcomes by name have a column `value_NAME` each, in place of `value`, and
    `std_NAME` if a noise is known. What is known by parameter has columns `gradient_NAME` and
    `params_std_NAME`. `feasible` says whether a trial meets all constraints. Trials that have
    reported have a `step`: the value of a stopped or paused one is that of its last step.
    """
    import pandas as pd

    points = [trial.params for trial in trials]
    names = list(dict.fromkeys(name for point in points for name in point))
    sources = [trial.provenance for trial in trials]
    columns: dict[str, Any] = {
        "id": [trial.id for trial in trials],
        **{f"param_{_escaped(name)}": [_escaped(point.get(name)) for point in points] for name in names},
        **({} if goals.named else {"std": _numbers([trial.std for trial in trials])}),
        **(_stds(trials, goals) if goals.named else {}),
        **_by_parameter("gradient", [trial.gradient or {} for trial in trials]),
        **_by_parameter("params_std", [trial.params_std or {} for trial in trials]),
        "reason": [trial.reason for trial in trials],
        "attempt": [trial.attempt for trial in trials],
        **({"step": [trial.step for trial in trials]} if any(trial.reports for trial in trials) else {}),
        "source": [source.get("source", "added") for source in sources],
        "fit_ms": [source.get("fit_ms") for source in sources],
        "search_ms": [source.get("search_ms") for source in sources],
        "started": _times([trial.started for trial in trials]),
        "ended": _times([trial.ended for trial in trials]),
        "seconds": [math.nan if trial.ended is None else trial.ended - trial.started for trial in trials],
        "state": [trial.state for trial in trials],
        **(_named(trials, goals) if goals.named else {"value": _numbers([trial.value for trial in trials])}),
    }
    return pd.DataFrame(columns)


def _stds(trials: Sequence[Trial], goals: Goals) -> dict[str, Any]:
    """Columns of the noise of outcomes by name, of those with a known one."""
    stds = [trial.stds or {} for trial in trials]
    known = [name for name in goals.names if any(name in one for one in stds)]
    return {
        _escaped(outcome_heading("std", name)): _numbers([one.get(name) for one in stds]) for name in known
    }


def _named(trials: Sequence[Trial], goals: Goals) -> dict[str, Any]:
    """Columns of outcomes by name, before these whether they meet the constraints."""
    outcomes = [trial.outcomes or {} for trial in trials]
    feasible = [goals.is_feasible(one) if one else None for one in outcomes]
    columns: dict[str, Any] = {"feasible": feasible} if goals.constraints else {}
    for name in goals.names:
        columns[_escaped(outcome_heading("value", name))] = _numbers([one.get(name) for one in outcomes])
    return columns


def frame_of(history: Storage, changes: bool, reports: bool) -> "pd.DataFrame":
    """The trials of a history, or its changes, or what its trials have reported."""
    if changes:
        return frame_of_changes(history.changes())
    trials = history.trials()
    return frame_of_reports(trials) if reports else to_frame(trials, history.header.goals)


def frame_of_reports(trials: Sequence[Trial]) -> "pd.DataFrame":
    """One row a report of each trial: its id and the fields of the report."""
    import pandas as pd

    rows = [(trial.id, report) for trial in trials for report in trial.reports]
    columns: dict[str, Any] = {
        "id": pd.Series([number for number, _ in rows], dtype="int64"),
        "step": pd.Series([report.step for _, report in rows], dtype="int64"),
        "value": _numbers([report.value for _, report in rows]),
        "seconds": _numbers([report.seconds for _, report in rows]),
        "attempt": pd.Series([report.attempt for _, report in rows], dtype="int64"),
        "verdict": pd.Series([report.verdict for _, report in rows], dtype="object"),
    }
    return pd.DataFrame(columns)


def frame_of_changes(changes: Sequence[Change]) -> "pd.DataFrame":
    """One row a change: who changed what, when, and what was there before and after.

    The outcomes of trials have columns of their own; the forms of spaces are in `before` and `after`. What is
    `after` in a "late" change was told of an earlier `attempt`, and not taken.
    """
    import pandas as pd

    columns: dict[str, Any] = {
        "trial": pd.array([change.trial for change in changes], dtype="Int64"),
        "action": [change.action for change in changes],
        "author": [_escaped(change.author) for change in changes],
        "made": _times([change.made for change in changes]),
    }
    if any(change.action == "late" for change in changes):
        columns["attempt"] = pd.array([change.after.get("attempt") for change in changes], dtype="Int64")
    for side in ("before", "after"):
        forms = [getattr(change, side) for change in changes]
        outcomes = [{} if change.trial is None else form for change, form in zip(changes, forms, strict=True)]
        columns[f"{side}_state"] = [outcome.get("state") for outcome in outcomes]
        columns[f"{side}_value"] = _numbers([outcome.get("value") for outcome in outcomes])
        columns[f"{side}_std"] = _numbers([outcome.get("std") for outcome in outcomes])
        if any(outcome.get("outcomes") for outcome in outcomes):
            columns[f"{side}_outcomes"] = [json.loads(one.get("outcomes") or "null") for one in outcomes]
        for kind in ("gradient", "params_std"):
            texts = [outcome.get(kind) or "null" for outcome in outcomes]
            if any(text != "null" for text in texts):
                columns[f"{side}_{kind}"] = list(map(json.loads, texts))
        columns[f"{side}_reason"] = [_escaped(outcome.get("reason")) for outcome in outcomes]
        columns[f"{side}_space"] = [
            form if change.trial is None else None for change, form in zip(changes, forms, strict=True)
        ]
    return pd.DataFrame(columns)


def _by_parameter(kind: str, by_name: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Columns kind_NAME of the parameters that have numbers."""
    names = dict.fromkeys(name for numbers in by_name for name in numbers)
    return {
        _escaped(f"{kind}_{name}"): _numbers([numbers.get(name) for numbers in by_name]) for name in names
    }


def _numbers(values: Sequence[float | None]) -> "pd.Series[float]":
    """A column of floats, with NaN for None, even if all are None."""
    import pandas as pd

    return pd.Series([math.nan if value is None else value for value in values], dtype="float64")


def _times(seconds: Sequence[float | None]) -> "pd.Series[pd.Timestamp]":
    """A column of times in UTC."""
    import pandas as pd

    return pd.to_datetime(_numbers(seconds), unit="s", utc=True)


def _escaped(value: Any) -> Any:
    """A text with its lone surrogates escaped, since pandas cannot store them; other values unchanged."""
    return plain_text(value) if isinstance(value, str) else value
