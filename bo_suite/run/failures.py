"""What failed evaluations mean for a run: which are repeated, which end it, and what is logged."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from bo_suite.errors import TrialError
from bo_suite.run.evaluate import Outcome
from bo_suite.run.raised import Raised, kind_name
from bo_suite.storage.trial import Trial
from bo_suite.values.describe import SHORT, described, shortened, visible

if TYPE_CHECKING:
    from bo_suite.study.optimizer import Optimizer

Caught = type[BaseException] | tuple[type[BaseException], ...]

_WORKED = ("finished", "stopped", "paused")
"""States of trials whose evaluations have shown that the function works."""

logger = logging.getLogger("bo_suite")


def is_current(optimizer: "Optimizer", trial: Trial) -> bool:
    """Whether the trial still runs as this attempt: no other process has ended it or taken it over."""
    stored = optimizer.trial(trial.id)
    return (stored.state, stored.attempt) == ("running", trial.attempt)


class BugFound(Exception):
    """Ends a run: the exception of a trial shows that the function has a bug."""

    def __init__(self, trial: Trial, raised: Raised) -> None:
        super().__init__()
        self._trial, self._raised = trial, raised

    def again(self) -> NoReturn:
        """Raises the exception of the trial, with a note that says where and why it ends the run."""
        self._raised.again(
            f"Trial {self._trial.id} failed like this, at {described(self._trial.params, SHORT)}, before any "
            "evaluation had finished, which ends a run of bo_suite; catch=Exception records such failures "
            "and continues."
        )


def names_of(catch: object) -> frozenset[str]:
    """The names of exception classes.

    Raises:
        TrialError: `catch` is not an exception class or a tuple of them.
    """
    kinds = catch if isinstance(catch, tuple) else (catch,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            requirement = "catch must be an exception class or a tuple of them, such as catch=Exception"
            raise TrialError(f"{requirement}, got {described(catch)}")
    return frozenset(map(kind_name, kinds))


class Failures:
    """Distinguishes bugs of the program from failures of single points.

    Until an evaluation of the history has finished, an exception counts as a bug. Exception classes are
    compared by name, since a class from another process may not be importable here.

    Args:
        optimizer: the optimizer of the run.
        caught: names of exception classes that never count as bugs.
    """

    def __init__(self, optimizer: "Optimizer", caught: frozenset[str]) -> None:
        self._optimizer, self._caught = optimizer, caught
        self._finished = False
        self._logged: set[str] = set()

    def all_so_far(self) -> bool:
        """Whether no evaluation of the history has finished yet."""
        if not self._finished:
            self._finished = any(trial.state in _WORKED for trial in self._optimizer.trials)
        return not self._finished

    def bug(self, outcome: Outcome, others: Iterable[Outcome] = ()) -> Raised | None:
        """The exception if it shows a bug of the program; None if only the point has failed.

        Args:
            outcome: outcome of the evaluation.
            others: outcomes that have arrived and are not stored yet.
        """
        raised = outcome.raised
        if raised is None or not self._caught.isdisjoint(outcome.kinds):
            return None
        if not self.all_so_far() or any(other.value is not None or other.ended for other in others):
            return None
        return raised

    def passed(self, trial: Trial | None, outcome: Outcome) -> None:
        """Drops the exception of a failure that does not end the run, and logs the first of its kind.

        Args:
            trial: the stored trial; None if it was not stored.
            outcome: its outcome.
        """
        if outcome.raised is not None:
            outcome.raised.forget()
        kind = outcome.kinds[0] if outcome.kinds else outcome.reason or ""
        if trial is None or outcome.value is not None or kind in self._logged:
            return
        self._logged.add(kind)
        logger.warning(
            "trial %d failed: %s (later failures of this kind are logged at level INFO, one line each)%s",
            trial.id,
            visible(shortened(outcome.reason or "", SHORT)),
            "".join(f"\n{visible(line)}" for line in (outcome.traceback or "").splitlines()),
        )


class Retries:
    """Decides which failed evaluations are repeated, and counts the tries."""

    def __init__(self, optimizer: "Optimizer", retries: int) -> None:
        self._optimizer, self._retries = optimizer, retries
        self._repeated = Counter[int]()
        self._waiting = deque[tuple[Trial, Outcome]]()

    def counted(self, trial: Trial, outcome: Outcome) -> Outcome:
        """The outcome; if it is a failure and failures are repeated, with the number of tries."""
        if outcome.value is not None or outcome.ended or not self._retries:
            return outcome
        count = 1 + self._repeated[trial.id]
        return replace(outcome, reason=f"{outcome.reason} ({count} {'try' if count == 1 else 'tries'})")

    def repeats(self, trial: Trial, outcome: Outcome) -> bool:
        """Whether the trial is evaluated again after this outcome; if so, `next` returns it later."""
        if outcome.value is not None or self._repeated[trial.id] >= self._retries:
            return False
        if not is_current(self._optimizer, trial):
            return False
        reason = visible(shortened(outcome.reason or "", SHORT))
        logger.info("trial %d is evaluated again, since it failed: %s", trial.id, reason)
        self._repeated[trial.id] += 1
        self._waiting.append((trial, outcome))
        return True

    def next(self) -> Trial | None:
        """The next trial to evaluate again; None if there is none."""
        if not self._waiting:
            return None
        trial, outcome = self._waiting.popleft()
        if outcome.raised is not None:
            outcome.raised.forget()
        return trial

    def given_up(self) -> Iterator[tuple[Trial, Outcome]]:
        """Trials that were to be repeated when the run ended, with their last outcomes."""
        while self._waiting:
            yield self._waiting.popleft()
