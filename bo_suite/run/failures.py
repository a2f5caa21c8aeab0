"""What failed evaluations mean for a run: which are repeated, which end it, and what is logged of them."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from bo_suite.errors import TrialError
from bo_suite.run.evaluate import Outcome
from bo_suite.run.raised import Raised, kind_name
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import SHORT, described, shortened, visible

Caught = type[BaseException] | tuple[type[BaseException], ...]

logger = logging.getLogger("bo_suite")


class BugFound(Exception):
    """Ends a run: the function has a bug, says the exception that it raised in a trial."""

    def __init__(self, trial: Trial, raised: Raised) -> None:
        super().__init__()
        self.trial, self.raised = trial, raised


def names_of(catch: object) -> frozenset[str]:
    """The names of exception classes.

    Raises:
        TrialError: something else.
    """
    kinds = catch if isinstance(catch, tuple) else (catch,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            law = "catch must be an exception class or a tuple of them, such as catch=Exception"
            raise TrialError(f"{law}, got {described(catch)}")
    return frozenset(map(kind_name, kinds))


class Failures:
    """Tells the bugs of a program from the failures of its points.

    While no evaluation of the history has finished, an exception is taken for a bug. Classes are compared by
    name, since those of another process may not be readable here.

    Args:
        optimizer: whose trials they are.
        caught: names of exceptions that are never taken for bugs.
    """

    def __init__(self, optimizer: Optimizer, caught: frozenset[str]) -> None:
        self._optimizer, self._caught = optimizer, caught
        self._finished = False
        self._logged: set[str] = set()

    def all_so_far(self) -> bool:
        """Whether no evaluation of the history has finished yet."""
        if not self._finished:
            self._finished = any(trial.state == "finished" for trial in self._optimizer.trials)
        return not self._finished

    def bug(self, outcome: Outcome, others: Iterable[Outcome] = ()) -> Raised | None:
        """The exception that says that the program has a bug; None where the point has failed.

        Args:
            outcome: of the evaluation.
            others: outcomes that have come back and are not stored yet.
        """
        raised = outcome.raised
        if raised is None or not self._caught.isdisjoint(outcome.kinds):
            return None
        if not self.all_so_far() or any(other.value is not None for other in others):
            return None
        return raised

    def passed(self, trial: Trial | None, outcome: Outcome) -> None:
        """Forgets the exception of a failure that does not end the run, and logs the first of its kind.

        Args:
            trial: as it was stored; None of one that was not.
            outcome: what came of it.
        """
        if outcome.raised is not None:
            outcome.raised.forget()
        kind = outcome.kinds[0] if outcome.kinds else outcome.reason or ""
        if trial is None or outcome.value is not None or kind in self._logged:
            return
        self._logged.add(kind)
        logger.warning(
            "trial %d failed: %s (of later failures of this kind, the level INFO has one line each)%s",
            trial.id,
            visible(shortened(outcome.reason or "", SHORT)),
            "".join(f"\n{visible(line)}" for line in (outcome.traceback or "").splitlines()),
        )


class Tries:
    """Which failed evaluations are repeated, and how often they were."""

    def __init__(self, optimizer: Optimizer, retries: int) -> None:
        self._optimizer, self._retries = optimizer, retries
        self._repeated = Counter[int]()
        self._waiting = deque[tuple[Trial, Outcome]]()

    def counted(self, trial: Trial, outcome: Outcome) -> Outcome:
        """The outcome; of a failure that may be repeated, with the number of tries."""
        if outcome.value is not None or not self._retries:
            return outcome
        count = 1 + self._repeated[trial.id]
        return replace(outcome, reason=f"{outcome.reason} ({count} {'try' if count == 1 else 'tries'})")

    def repeats(self, trial: Trial, outcome: Outcome) -> bool:
        """Whether the trial is to be evaluated again after this outcome; if so, it waits for `next`."""
        if outcome.value is not None or self._repeated[trial.id] >= self._retries:
            return False
        now = self._optimizer.trial(trial.id)
        if (now.state, now.attempt) != ("running", trial.attempt):
            return False  # somebody else has ended it meanwhile
        reason = visible(shortened(outcome.reason or "", SHORT))
        logger.info("trial %d is evaluated again, since it failed: %s", trial.id, reason)
        self._repeated[trial.id] += 1
        self._waiting.append((trial, outcome))
        return True

    def next(self) -> Trial | None:
        """A trial to evaluate again."""
        if not self._waiting:
            return None
        trial, outcome = self._waiting.popleft()
        if outcome.raised is not None:
            outcome.raised.forget()
        return trial

    def given_up(self) -> Iterator[tuple[Trial, Outcome]]:
        """Trials that are not evaluated again after all, with their last outcomes."""
        while self._waiting:
            yield self._waiting.popleft()
