"""Asks of many threads and processes on one history: one after the other, and no point twice by accident."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Trial, next_id

if TYPE_CHECKING:
    from bo_suite.study.suggest import Suggestion

_PATIENT_ASKS = 2
"""Times that an ask starts again because a trial was added meanwhile, before any new point will do."""

_MOMENT, _POLL = 0.005, 0.0002
"""Seconds that quick evaluations are waited for, and between looks at them."""

_LATEST = 64
"""Trials that such evaluations may be of."""


def asked_in_turn(
    history: Storage, suggest: Callable[[Sequence[Trial]], Sequence["Suggestion"]]
) -> list[Trial]:
    """Points stored as running trials, suggested in view of all trials that were stored before.

    Args:
        history: where trials are stored.
        suggest: the points to evaluate, given all trials.
    """
    began = time.monotonic()
    with history.turn():
        if time.monotonic() - began > _POLL:  # another one has just asked
            _await_outcomes(history)
        asks = 0
        while True:
            trials = history.trials()
            suggestions = suggest(trials)
            asked = _stored(history, suggestions, trials)
            asks += 1
            if asked is None and asks >= _PATIENT_ASKS:
                asked = _settled(history, suggestions)
            if asked is not None:
                return asked


def _stored(
    history: Storage, suggestions: Sequence["Suggestion"], known: Sequence[Trial]
) -> list[Trial] | None:
    """The trials of suggestions; None where others have been stored meanwhile."""
    points, sources = [one.params for one in suggestions], [one.provenance for one in suggestions]
    return history.insert(points, sources, expected=next_id(known))


def _await_outcomes(history: Storage) -> None:
    """Gives evaluations that have just begun a moment to end: outcomes tell more than pending points."""
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        latest, recent = history.trials()[-_LATEST:], time.time() - 4 * _MOMENT
        if not any(trial.state == "running" and trial.started > recent for trial in latest):
            return
        time.sleep(_POLL)


def _settled(history: Storage, suggestions: Sequence["Suggestion"]) -> list[Trial] | None:
    """Stores points found without knowing the latest trials, if no new one of them is known by now."""
    new = [one.params for one in suggestions if not one.provenance.get("repeat")]
    for _ in range(_PATIENT_ASKS):
        known = history.trials()
        if any(trial.informative and trial.params in new for trial in known):
            return None
        if (asked := _stored(history, suggestions, known)) is not None:
            return asked
    return None
