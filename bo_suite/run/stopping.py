"""Rules that end a run before its budget is spent, as callbacks of `minimize`.

A rule is called with the Optimizer and the trial that has just ended, and returns the reason to end the run,
or None. Rules have no state: the answer depends on the history alone, that of `TimeLimit` also on the time at
which the Optimizer was created or resumed. A run that a rule has ended evaluates at least one more trial when
it is resumed.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bo_suite.errors import DataError, FitError, NumericalError, TrialError
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import best_trial
from bo_suite.values.describe import described, plain_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import python_scalar

if TYPE_CHECKING:
    from bo_suite.study.optimizer import Optimizer

Callback = Callable[["Optimizer", Trial], str | None]
"""Called after each evaluation; if it returns a string, the run ends."""

logger = logging.getLogger("bo_suite")


@runtime_checkable
class Deadline(Protocol):
    """A callback that also ends a run while evaluations are running, since they may hang.

    Attributes:
        reason: the reason to end the run.
    """

    @property
    def reason(self) -> str: ...

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None: ...

    def seconds_left(self, optimizer: "Optimizer") -> float:
        """Seconds to wait for running evaluations."""


@runtime_checkable
class RuleOfGoals(Protocol):
    """A callback that is made for some goals alone."""

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None: ...

    def check_goals(self, goals: Goals) -> None:
        """Raises a TrialError if the rule says nothing about runs with these goals."""


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raises a TrialError unless `callbacks` is a list of functions."""
    if not isinstance(callbacks, Sequence):
        raise TrialError(f"callbacks must be a list of functions, got {described(callbacks)}")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(callback):
            requirement = "a callback must be a function of an Optimizer and a Trial"
            raise TrialError(f"{requirement}, got {described(callback)}")


def check_rules(callbacks: Sequence[Callback], goals: Goals) -> None:
    """Raises a TrialError if a rule says nothing about runs with these goals, before any evaluation."""
    for callback in callbacks:
        if isinstance(callback, RuleOfGoals):
            callback.check_goals(goals)


def reason_to_stop(callbacks: Sequence[Callback], optimizer: "Optimizer", trial: Trial) -> str | None:
    """The first reason to end a run, after all callbacks were called; None if there is none.

    Raises:
        TrialError: a callback returns something other than None or a non-empty string.
    """
    reasons = [callback(optimizer, trial) for callback in callbacks]
    for reason, callback in zip(reasons, callbacks, strict=True):
        # the true type: `__class__` of a user's object may raise
        if reason is not None and not (issubclass(type(reason), str) and reason):
            requirement = "a callback must return None, or why the run is to end, a string"
            raise TrialError(f"{requirement}, got {described(reason)} from {described(callback)}")
    return next((plain_text(reason) for reason in reasons if reason), None)


def first_deadline(callbacks: Sequence[Callback], optimizer: "Optimizer") -> Deadline | None:
    """The Deadline among the callbacks with the least time left; None if there is none."""
    deadlines = [callback for callback in callbacks if isinstance(callback, Deadline)]
    return min(deadlines, key=lambda deadline: deadline.seconds_left(optimizer), default=None)


def _number(value: object) -> float:
    """The value as a float; NaN if it is not a number."""
    scalar = python_scalar(value)
    if isinstance(scalar, int | float) and not isinstance(scalar, bool):
        return float(scalar)
    return math.nan


@dataclass(frozen=True)
class TimeLimit:
    """Ends a run a number of seconds after its Optimizer was created or resumed.

    No evaluation starts after that. Running evaluations get a grace time; then the run ends without them, so
    that one that hangs cannot block it. Their trials stay running, as after Ctrl-C, and are evaluated again
    when the run is resumed. Worker processes are killed. f in the main thread is interrupted as by Ctrl-C,
    which C code does not notice before it returns to Python. Other threads and tasks on an executor run on.

    Attributes:
        seconds: seconds of wall time.
        grace: seconds that running evaluations get; None for the duration of the longest evaluation since the
            run began, at least one second.

    Raises:
        DataError: seconds is not above 0, grace is below 0, or one of them is not a number.
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

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None:
        """The reason to end the run, or None."""
        return self.reason if time.monotonic() - optimizer.opened >= self.seconds else None

    def seconds_left(self, optimizer: "Optimizer") -> float:
        """Seconds to wait for running evaluations, the grace included."""
        spent = time.monotonic() - optimizer.opened
        grace = _longest(optimizer, time.time() - spent) if self.grace is None else self.grace
        return self.seconds + grace - spent


_LEAST_GRACE_S = 1.0
"""Seconds of the shortest grace that is chosen by itself."""


def _longest(optimizer: "Optimizer", since: float) -> float:
    """Seconds of the longest ended evaluation that began after `since`, in unix seconds."""
    trials = [trial for trial in optimizer.trials if trial.state in ("finished", "failed")]
    seconds = [(trial.ended or trial.started) - trial.started for trial in trials if trial.started >= since]
    return max([_LEAST_GRACE_S, *seconds])


@dataclass(frozen=True)
class Until:
    """Ends a run at a moment of the clock.

    No evaluation starts after that, and running ones are ended as those of `TimeLimit`, without a grace time.

    Attributes:
        moment: a datetime; without a time zone it is local time.

    Raises:
        DataError: it is no datetime.
    """

    moment: datetime

    def __post_init__(self) -> None:
        if not isinstance(self.moment, datetime):
            raise DataError(f"a moment must be a datetime, got {described(self.moment)}")

    @property
    def reason(self) -> str:
        """Why the run ends."""
        return f"it is {self.moment.isoformat(' ')}"

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None:
        """The reason to end the run, or None."""
        return self.reason if self.seconds_left(optimizer) <= 0 else None

    def seconds_left(self, optimizer: "Optimizer") -> float:
        """Seconds to wait for running evaluations."""
        return self.moment.timestamp() - time.time()


@dataclass(frozen=True)
class TargetValue:
    """Ends a run when a feasible value this good was observed, at the target fidelity if there is one.

    Under noise, a lucky observation is enough.

    Attributes:
        value: the value in the user's units; a smaller one is better, or a larger one if the run maximises.

    Raises:
        DataError: the value is not finite.
        TrialError: a run has several objectives.
    """

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(_number(self.value)):
            raise DataError(f"a target value must be finite, got {described(self.value)}")

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None:
        """The reason to end the run, or None."""
        self.check_goals(optimizer.goals)
        try:
            best = best_trial(optimizer.trials, optimizer.goals, optimizer.space)
        except TrialError:  # none is finished, at the target fidelity, inside the space and feasible
            return None
        sign = optimizer.goals.objectives[0].sign
        good = sign * best.value <= sign * self.value
        return f"trial {best.id} reached the target {self.value:g} with {best.value:g}" if good else None

    def check_goals(self, goals: Goals) -> None:
        """Raises a TrialError if there are several objectives."""
        if goals.several:
            raise TrialError(f"a target value is of a run with one objective, got {goals}")


@dataclass(frozen=True)
class RegretBelow:
    """Ends a run when, by a Gaussian process, no point can be much better than the best evaluated one.

    That is when `Optimizer.regret_bound(width).value <= bound`; see there for the formula and its accuracy.
    If `bound` is None, the run ends when the possible gain is less than the noise: the standard deviation of
    an observation of the best point, as told or else as estimated by the model. This takes at least 4 width²
    evaluations near that point, 80 by default: of 30 noisy runs of 60 evaluations it ended none. A function
    without noise needs a bound. If the model cannot be fitted, this is logged, and the run continues.

    Makarova et al. (2022), algorithm 1.

    Attributes:
        bound: in the user's units; None for the noise.
        width: of the bound, in standard deviations; None for the default of `regret_bound`. A narrower bound
            holds less often: with width 2, in two thirds of the runs.
        after: minimum number of finished trials, since the bound holds less often before.
        every: check only at every `every`-th finished trial; a check takes as long as a suggestion.

    Raises:
        DataError: bound or width is not above 0.
        TrialError: after or every is below 1; or a run has constraints or several objectives.
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
        require_int("after", self.after, at_least=1)
        require_int("every", self.every, at_least=1)

    def __call__(self, optimizer: "Optimizer", trial: Trial) -> str | None:
        """The reason to end the run, or None."""
        self.check_goals(optimizer.goals)
        count = sum(stored.state == "finished" for stored in optimizer.trials)
        if count < self.after or count % self.every:
            return None
        try:
            regret = optimizer.regret_bound(self.width)
        except (FitError, NumericalError) as error:
            logger.warning("the regret bound is unknown, since the model failed: %s", error)
            return None
        limit, name = (regret.noise, "the noise ") if self.bound is None else (self.bound, "")
        if not regret.value <= limit:
            return None
        return f"the regret of trial {regret.trial.id} is below {regret.value:.3g}, within {name}{limit:.3g}"

    def check_goals(self, goals: Goals) -> None:
        """Raises a TrialError if there are constraints or several objectives."""
        if goals.aspects:
            law = "a regret bound is of a run with one objective and no constraint"
            raise TrialError(f"{law}, got {goals}")
