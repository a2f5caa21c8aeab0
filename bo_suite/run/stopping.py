"""Rules that end a run before its budget is spent: callbacks of `minimize`, each a function of what is known.

A rule is called with the Optimizer and the trial that has just ended, and returns why the run is to end, or
None. It holds no state: what it says depends on the history alone, that of `TimeLimit` also on when the
Optimizer was made or resumed. A run that is resumed after a rule had ended it goes on for one trial at least.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from bo_suite.errors import DataError, FitError, NumericalError, TrialError
from bo_suite.storage.trial import Trial, at_target, best_trial, whole_number
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import described, plain_text

Callback = Callable[[Optimizer, Trial], str | None]
"""Called after each evaluation; a string that it returns ends the run."""

logger = logging.getLogger("bo_suite")


@runtime_checkable
class Deadline(Protocol):
    """A callback that also ends a run while evaluations go on, which may hang.

    Attributes:
        reason: why the run has ended then.
    """

    @property
    def reason(self) -> str: ...

    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None: ...

    def seconds_left(self, optimizer: Optimizer) -> float:
        """Seconds for which evaluations that go on are waited for."""


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raises a TrialError unless callbacks are a list of functions."""
    if not isinstance(callbacks, Sequence):
        raise TrialError(f"callbacks must be a list of functions, got {described(callbacks)}")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(callback):
            law = "a callback must be a function of an Optimizer and a Trial"
            raise TrialError(f"{law}, got {described(callback)}")


def reason_to_stop(callbacks: Sequence[Callback], optimizer: Optimizer, trial: Trial) -> str | None:
    """The first reason to end a run, after all callbacks were called; None where they give none.

    Raises:
        TrialError: a callback returns something else than None or a reason.
    """
    reasons = [callback(optimizer, trial) for callback in callbacks]
    for reason, callback in zip(reasons, callbacks, strict=True):
        # by the true type: `__class__` of a user's object may raise
        if reason is not None and not (issubclass(type(reason), str) and reason):
            law = "a callback must return None, or why the run is to end, a string"
            raise TrialError(f"{law}, got {described(reason)} from {described(callback)}")
    return next((plain_text(reason) for reason in reasons if reason), None)


def first_deadline(callbacks: Sequence[Callback], optimizer: Optimizer) -> Deadline | None:
    """Of the callbacks that are Deadlines, the one with the least time left."""
    deadlines = [callback for callback in callbacks if isinstance(callback, Deadline)]
    return min(deadlines, key=lambda one: one.seconds_left(optimizer), default=None)


def _number(value: object) -> float:
    """The value, NaN where it is no number."""
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    return math.nan


@dataclass(frozen=True)
class TimeLimit:
    """Ends a run so many seconds after its Optimizer was made or, of a run that goes on, resumed.

    No evaluation starts after that. Those that go on get a grace: then the run ends without them, so that
    one that hangs cannot hold it. Their trials are left running, as by Ctrl-C, and are evaluated again when
    the run goes on. Processes of `minimize` are killed with them; f in the main thread is interrupted as by
    Ctrl-C, which code in C does not notice before it has returned to Python; other threads, and tasks on an
    executor, are left to themselves.

    Attributes:
        seconds: of the clock on the wall.
        grace: seconds that evaluations get that go on then; None for those that the longest one has taken
            which has ended since the run began, and one second at least.

    Raises:
        DataError: seconds not above 0 or grace below 0, or not a number.
    """

    seconds: float
    grace: float | None = None

    def __post_init__(self) -> None:
        if not _number(self.seconds) > 0:
            raise DataError(f"`seconds > 0` must hold, got {described(self.seconds)}")
        if self.grace is not None and not _number(self.grace) >= 0:
            raise DataError(f"`grace >= 0` must hold, got {described(self.grace)}")

    @property
    def reason(self) -> str:
        """Why the run ends."""
        return f"the {self.seconds:g} seconds are over"

    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None:
        """Why the run is to end, or None."""
        return self.reason if time.monotonic() - optimizer.opened >= self.seconds else None

    def seconds_left(self, optimizer: Optimizer) -> float:
        """Seconds for which evaluations that go on are waited for, the grace included."""
        spent = time.monotonic() - optimizer.opened
        grace = _longest(optimizer, time.time() - spent) if self.grace is None else self.grace
        return self.seconds + grace - spent


_MOMENT = 1.0
"""The least grace, seconds."""


def _longest(optimizer: Optimizer, since: float) -> float:
    """Seconds of the longest evaluation that began since then, unix seconds, and has ended."""
    ended = (one for one in optimizer.trials if one.state in ("finished", "failed") and one.started >= since)
    return max([_MOMENT, *((one.ended or one.started) - one.started for one in ended)])


@dataclass(frozen=True)
class TargetValue:
    """Ends a run when a value as good as this was observed, at the target where the space has fidelities.

    Under noise a lucky observation counts as well.

    Attributes:
        value: in the user's units; smaller is better, or larger where the Optimizer maximises.

    Raises:
        DataError: a value that is not finite.
    """

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(_number(self.value)):
            raise DataError(f"a target value must be finite, got {described(self.value)}")

    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None:
        """Why the run is to end, or None."""
        finished = [one for one in optimizer.trials if one.value is not None]
        final = at_target(finished, optimizer.space)
        if not final:
            return None
        best = best_trial(final, optimizer.direction, optimizer.space)
        found = best.value or 0.0
        good = found <= self.value if optimizer.direction == "minimize" else found >= self.value
        return f"trial {best.id} reached the target {self.value:g} with {found:g}" if good else None


@dataclass(frozen=True)
class RegretBelow:
    """Ends a run when no point can be much better than the best evaluated one, says a Gaussian process.

    That is, when `Optimizer.regret_bound(width).value <= bound`: see there for the formula, and for what it
    is worth. Without a bound of its own it ends when what is left to gain is less than the noise: the
    standard deviation of an observation of the best point, as told or else as the model finds it. That takes
    at least 4 width² evaluations near that point, 80 by default: of 30 noisy runs of 60 evaluations it ended
    none. A function without noise needs a bound. Where the model cannot be fitted, that is logged, and the
    run goes on.

    Makarova et al. (2022), algorithm 1.

    Attributes:
        bound: in the user's units; None for the noise.
        width: of the bound, standard deviations; None for its own. Narrower ones hold less often: of width 2,
            in two thirds of the runs.
        after: finished trials before which nothing is said: the bound holds less often there.
        every: asked of each trial whose number of finished ones this divides; the bound takes as long as
            a suggestion.

    Raises:
        DataError: a bound not above 0, or a width not above 0.
        TrialError: after or every below 1.
    """

    bound: float | None = None
    width: float | None = None
    after: int = 30
    every: int = 1

    def __post_init__(self) -> None:
        if self.bound is not None and not _number(self.bound) > 0:
            raise DataError(f"`bound > 0` must hold, got {described(self.bound)}")
        if self.width is not None and not 0 < _number(self.width) < math.inf:
            raise DataError(f"`0 < width < inf` must hold, got {described(self.width)}")
        whole_number("after", self.after, at_least=1)
        whole_number("every", self.every, at_least=1)

    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None:
        """Why the run is to end, or None."""
        count = sum(one.state == "finished" for one in optimizer.trials)
        if count < self.after or count % self.every:
            return None
        try:
            found = optimizer.regret_bound(self.width)
        except (FitError, NumericalError) as error:
            logger.warning("there is no regret bound, since the model failed: %s", error)
            return None
        limit, what = (found.noise, "the noise ") if self.bound is None else (self.bound, "")
        if not found.value <= limit:
            return None
        return f"the regret of trial {found.trial.id} is below {found.value:.3g}, within {what}{limit:.3g}"
