"""Asking for trials from several threads and processes on one history, one after another."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Trial, next_id

if TYPE_CHECKING:
    from bo_suite.study.suggest import Suggestion

_PATIENT_ASKS = 2
"""Attempts to suggest in view of the latest trials; after these, any point that is new is accepted."""

_MOMENT, _POLL = 0.005, 0.0002
"""Seconds to wait for quick evaluations, and between two polls of their trials."""

_LATEST = 64
"""Latest trials that are polled."""


def asked_in_turn(
    history: Storage, suggest: Callable[[Sequence[Trial]], Sequence["Suggestion"]]
) -> list[Trial]:
    """Stores suggested points as running trials, given all trials stored before, and returns these.

    If others store trials during `suggest`, it runs again; after two attempts a point is accepted unless a
    trial has it.

    Args:
        history: stores the trials.
        suggest: returns points to evaluate, given all trials.
    """
    began = time.monotonic()
    with history.turn():
        if time.monotonic() - began > _POLL:  # another thread or process has just asked
            _await_outcomes(history)
        attempts = 0
        while True:
            trials = history.trials()
            suggestions = suggest(trials)
            stored = _store(history, suggestions, trials)
            attempts += 1
            if stored is None and attempts >= _PATIENT_ASKS:
                stored = _store_if_new(history, suggestions)
            if stored is not None:
                return stored


def _store(
    history: Storage, suggestions: Sequence["Suggestion"], trials: Sequence[Trial]
) -> list[Trial] | None:
    """Stores the suggestions; returns None if the history has more trials than the given ones."""
    points = [suggestion.params for suggestion in suggestions]
    sources = [suggestion.provenance for suggestion in suggestions]
    return history.insert(points, sources, expected=next_id(trials))


def _await_outcomes(history: Storage) -> None:
    """Waits a moment for evaluations that have just begun: an outcome is worth more than a pending point."""
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        latest = history.trials()[-_LATEST:]
        recent = time.time() - 4 * _MOMENT  # an evaluation that takes longer will not end within a moment
        if not any(trial.state == "running" and trial.started > recent for trial in latest):
            return
        time.sleep(_POLL)


def _store_if_new(history: Storage, suggestions: Sequence["Suggestion"]) -> list[Trial] | None:
    """Stores suggestions that were made without the latest trials, unless one of these has the same point."""
    new = [suggestion.params for suggestion in suggestions if not suggestion.provenance.get("repeat")]
    for _ in range(_PATIENT_ASKS):
        trials = history.trials()
        if any(trial.informative and trial.params in new for trial in trials):
            return None
        if (stored := _store(history, suggestions, trials)) is not None:
            return stored
    return None
