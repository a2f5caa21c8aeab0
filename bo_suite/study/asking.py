"""Asking for trials from several threads and processes on one history, one after another."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from bo_suite.errors import BoSuiteError, BudgetSpent, SpaceExhausted
from bo_suite.space.space import Params, Space
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Snapshot, Trial, next_id
from bo_suite.study.summary import best_trial, ended_text

if TYPE_CHECKING:
    from bo_suite.study.suggest import Suggestion

logger = logging.getLogger("bo_suite")

_PATIENT_ASKS = 2
"""Attempts to suggest in view of the latest trials; after these, any point that is new is accepted."""

_QUICK_TRIES = 50
"""Attempts to store points that were not suggested in view of the latest trials."""

_MOMENT, _POLL = 0.005, 0.0002
"""Seconds to wait for quick evaluations, and between two polls of their trials."""

_LATEST = 64
"""Latest trials that are polled."""


Suggest = Callable[[Snapshot, int], Sequence["Suggestion"]]
"""Returns so many points to evaluate, or fewer, given what a history holds."""

Promoted = Callable[[Sequence[Trial]], Trial | None]
"""Returns the paused trial that is continued next, or None, given all trials."""


def asked_in_turn(
    history: Storage, promoted: Promoted, suggest: Suggest, count: int, budget: int | None
) -> list[Trial]:
    """Continues paused trials, stores suggested points as running trials, and returns all of these.

    If others store trials during `suggest`, it runs again; after two attempts a point is accepted unless a
    trial has it.

    Args:
        history: stores the trials.
        promoted: chooses paused trials, which come first and count for no budget.
        suggest: returns points to evaluate, given all trials.
        count: number of trials, fewer if the budget or the space has fewer left.
        budget: maximum number of trials of the history that are not withdrawn, or None.

    Raises:
        BudgetSpent: no trial is left.
    """
    began = time.monotonic()
    with history.turn():
        if time.monotonic() - began > _POLL:  # another thread or process has just asked
            _await_outcomes(history)
        continued = _continued(history, promoted, count)
        if len(continued) == count:
            return continued
        try:
            return continued + _suggested(history, suggest, count - len(continued), budget)
        except (BudgetSpent, SpaceExhausted):
            if continued:
                return continued
            raise


def counted(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that count towards a budget."""
    return [trial for trial in trials if trial.state != "withdrawn"]


def spent(trials: Sequence[Trial], budget: int) -> str | None:
    """A sentence if the budget was spent before; else None."""
    present = counted(trials)
    if len(present) < budget:
        return None
    running = sum(trial.state == "running" for trial in present)
    more = f", {running} of them running elsewhere" if running else ""
    return f"the budget of {budget} was spent already: the storage has {len(present)} trials{more}"


def enqueued(history: Storage, points: Sequence[Params], repeats: bool = True) -> None:
    """Queues points; if some repeat a trial or another queued point, that is logged once.

    Raises:
        SpaceError: a point has an unknown parameter, or one that does not have the value.
    """
    earlier = [trial.params for trial in history.trials() if trial.informative]
    earlier += [queued.params for queued in history.queue()]
    repeated = []
    for queued in history.enqueue(points, repeats=repeats):
        repeated += [queued.params] if queued.params in earlier else []
        earlier.append(queued.params)
    if repeated:
        logger.warning("queued points that repeat earlier ones: %d, such as %s", len(repeated), repeated[0])


def logged(trial: Trial, history: Storage) -> Trial:
    """Logs one line about a trial that has ended, and returns it."""
    if logger.isEnabledFor(logging.INFO):
        best = None
        with suppress(BoSuiteError):  # no trial is feasible, or the storage cannot be read
            best = best_trial(history.trials(), history.header.goals, history.header.space).value
        logger.info("%s", ended_text(trial, best))
    return trial


def _continued(history: Storage, promoted: Promoted, count: int) -> list[Trial]:
    """At most so many paused trials, which run again."""
    continued: list[Trial] = []
    while len(continued) < count and (trial := promoted(history.trials())) is not None:
        if (again := history.promote(trial.id, trial.attempt)) is not None:  # or another one was faster
            continued.append(again)
    return continued


def _suggested(history: Storage, suggest: Suggest, count: int, budget: int | None) -> list[Trial]:
    """New trials at suggested points."""
    attempts = 0
    while True:
        snapshot = history.snapshot()
        suggestions = suggest(snapshot, _allowed(snapshot.trials, count, budget))
        stored = _store(history, suggestions, snapshot.trials, snapshot.header.space)
        attempts += 1
        if stored is None and attempts >= _PATIENT_ASKS:
            stored = _store_if_new(history, suggestions, snapshot.header.space, budget)
        if stored is not None:
            return stored


def _store(
    history: Storage, suggestions: Sequence["Suggestion"], trials: Sequence[Trial], space: Space
) -> list[Trial] | None:
    """Stores the suggestions; returns None if the history is not in the given state any more."""
    return history.insert(
        [suggestion.params for suggestion in suggestions],
        [suggestion.provenance for suggestion in suggestions],
        expected=next_id(trials),
        space=space,
        queued=[suggestion.queued for suggestion in suggestions if suggestion.queued is not None],
    )


def _await_outcomes(history: Storage) -> None:
    """Waits a moment for evaluations that have just begun: an outcome is worth more than a pending point."""
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        latest = history.trials()[-_LATEST:]
        recent = time.time() - 4 * _MOMENT  # an evaluation that takes longer will not end within a moment
        if not any(trial.state == "running" and trial.started > recent for trial in latest):
            return
        time.sleep(_POLL)


def _allowed(trials: Sequence[Trial], count: int, budget: int | None) -> int:
    """How many of `count` trials the budget has left; raises BudgetSpent if it has none."""
    if budget is None:
        return count
    if (sentence := spent(trials, budget)) is not None:
        raise BudgetSpent(sentence)
    return min(count, budget - len(counted(trials)))


def _store_if_new(
    history: Storage, suggestions: Sequence["Suggestion"], space: Space, budget: int | None
) -> list[Trial] | None:
    """Stores suggestions that were made without the latest trials, unless one of these has the same point."""
    new = [suggestion.params for suggestion in suggestions if not suggestion.may_repeat]
    for _ in range(_QUICK_TRIES):  # each of them costs little beside another suggestion
        trials = history.trials()
        if any(trial.informative and trial.params in new for trial in trials):
            return None
        allowed = suggestions[: _allowed(trials, len(suggestions), budget)]
        if (stored := _store(history, allowed, trials, space)) is not None:
            return stored
    return None
