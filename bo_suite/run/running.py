"""One run of a function: points evaluated side by side, outcomes stored as they come, and an end in order."""

import concurrent.futures as futures
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bo_suite.errors import SpaceExhausted, StorageError, TrialError, WorkersDied
from bo_suite.run.crew import Crew
from bo_suite.run.evaluate import Outcome, TookTooLong, WorkerDied
from bo_suite.run.failures import BugFound, Failures, Tries
from bo_suite.run.stopping import Callback, first_deadline, reason_to_stop
from bo_suite.run.workers import Pool
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.system.interrupt import TimeOver
from bo_suite.values.describe import LONGEST, SHORT, described, error_text, visible

logger = logging.getLogger("bo_suite")

ATTEMPTS = 3
"""Times that a point may take the whole run down before its trial is failed."""


@dataclass(frozen=True)
class Watch:
    """What follows each trial that was stored: the progress bar and the callbacks."""

    callbacks: Sequence[Callback]
    optimizer: Optimizer
    show: Callable[[], None]

    def __call__(self, trial: Trial | None) -> str | None:
        """A reason to end the run; None of a trial that was not stored."""
        self.show()
        return None if trial is None else reason_to_stop(self.callbacks, self.optimizer, trial)

    def seconds_left(self) -> float:
        """Seconds for which evaluations that go on are waited for."""
        deadline = first_deadline(self.callbacks, self.optimizer)
        return math.inf if deadline is None else deadline.seconds_left(self.optimizer)

    def time_over(self) -> str | None:
        """Why the run ends where evaluations go on after that."""
        deadline = first_deadline(self.callbacks, self.optimizer)
        return None if deadline is None else deadline.reason


def spent(trials: Sequence[Trial], budget: int) -> str | None:
    """Says that the budget of a run was spent before it began; None where it was not."""
    counted = _counted(trials)
    if len(counted) < budget:
        return None
    running = sum(trial.state == "running" for trial in counted)
    more = f", {running} of them running elsewhere" if running else ""
    return f"the budget of {budget} was spent already: the storage has {len(counted)} trials{more}"


def keep_going(
    optimizer: Optimizer,
    budget: int,
    crew: Crew[Trial],
    pool: Pool,
    watch: Watch,
    tries: Tries,
    failures: Failures,
) -> str | None:
    """Keeps the crew going until the budget is spent; the reason if the run ends before."""
    again = deque(_survivors(optimizer))
    idle = None if again else spent(optimizer.trials, budget)
    if idle:
        logger.warning("nothing is evaluated: %s", idle)
    exhausted: str | None = None
    stopped: str | None = None

    def following() -> Trial | None:
        nonlocal exhausted
        if stopped:
            return None
        if (trial := tries.next()) is not None:
            return trial
        try:
            trial, exhausted = _next(optimizer, again, budget), None
        except SpaceExhausted as error:
            exhausted = str(error)  # until outcomes of those that run show that there is noise
        return trial

    def ended(trial: Trial, outcome: Outcome) -> str | None:
        bug = failures.bug(outcome, (other for _, other in crew.ended()))
        stored = _record(optimizer, trial, outcome, bug is not None)
        if bug is not None and stored is not None:  # what somebody else has ended says nothing of f
            watch.show()
            raise BugFound(trial, bug)
        failures.passed(stored, outcome)
        return watch(stored)

    try:
        pool.start(watch.seconds_left)
        for trial, future in crew.completed(following, watch.seconds_left):
            if future is None and not pool.works():
                raise WorkersDied("workers must live while they have nothing to do")
            if future is None:
                outcome = Outcome(None, "its worker process died")
            else:
                outcome, final = _outcome(pool, future)
                outcome = outcome if final else tries.counted(trial, outcome)
                if not (stopped or final) and tries.repeats(trial, outcome):
                    continue
            reason = ended(trial, outcome)
            stopped = stopped or reason
        if crew.running:
            raise TimeOver
        for trial, outcome in tries.given_up():
            ended(trial, outcome)
        return exhausted or stopped or idle
    except BugFound as error:
        found = error
        _cut_short(optimizer, crew, pool, tries, failures)
    except BaseException as error:
        _cut_short(optimizer, crew, pool, tries, failures)
        if isinstance(error, TimeOver):
            return stopped or watch.time_over()
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        if (refusal := _refusal(error)) is not None:
            raise refusal from error
        raise
    at = described(found.trial.params, SHORT)
    found.raised.again(
        f"Trial {found.trial.id} failed so, at {at}, before an evaluation had finished, which ends "
        "a run of bo_suite; catch=Exception would record such failures and go on."
    )


def _refusal(error: BaseException) -> TrialError | None:
    """What to do about workers that died; None of another error."""
    if isinstance(error, WorkersDied):
        return TrialError(
            f"worker processes must be able to run f, but they died: {error} "
            '(on an executor that spawns them a script needs `if __name__ == "__main__":`, and a '
            "notebook f in a module; workers without an executor, and threads, need neither)"
        )
    if isinstance(error, futures.BrokenExecutor):
        return TrialError(
            "an executor whose workers can die must be given as a function that makes one, to be "
            f"made again, got one that broke: {error_text(error)}"
        )
    return None


def _outcome(pool: Pool, future: "futures.Future[Any]") -> tuple[Outcome, bool]:
    """What has come of an evaluation, and whether it would be the same again."""
    try:
        outcome: Outcome = pool.result(future)
        return outcome, False
    except WorkerDied as error:
        return Outcome(None, str(error)), False
    except TookTooLong as error:
        return Outcome(None, str(error)), True


def _survivors(optimizer: Optimizer) -> Iterator[Trial]:
    """Running trials of processes that died, but for those that no process has survived."""
    for trial in optimizer.reclaim():
        if trial.attempt > ATTEMPTS:
            optimizer.fail(trial, f"{ATTEMPTS} processes died while evaluating it")
        else:
            yield trial


def _next(optimizer: Optimizer, again: deque[Trial], budget: int) -> Trial | None:
    """A trial to evaluate: one that was lost, else a new one while the budget lasts."""
    if again:
        return again.popleft()
    return optimizer.ask() if len(_counted(optimizer.trials)) < budget else None


def _counted(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that a budget counts."""
    return [trial for trial in trials if trial.state != "withdrawn"]


def _cut_short(optimizer: Optimizer, crew: Crew[Trial], pool: Pool, tries: Tries, failures: Failures) -> None:
    """Ends the workers, and stores what has come back and was not stored yet, as far as it can be stored."""
    pool.abandon()
    crew.cancel()
    with suppress(StorageError):
        running = {trial.id for trial in optimizer.trials if trial.state == "running"}
        back = [(trial, tries.counted(trial, outcome)) for trial, outcome in crew.ended()]
        back = [*tries.given_up(), *back]
        bugs = [failures.bug(outcome, (other for _, other in back)) is not None for _, outcome in back]
        for (trial, outcome), bug in zip(back, bugs, strict=True):
            if trial.id in running:
                with suppress(StorageError):
                    _record(optimizer, trial, outcome, bug)


def _record(optimizer: Optimizer, trial: Trial, outcome: Outcome, bug: bool) -> Trial | None:
    """Tells or fails the trial; None of one that somebody else has ended meanwhile, which stays as it is.

    Args:
        optimizer: whose trial it is.
        trial: the trial.
        outcome: what came of it.
        bug: whether the program has failed, which says nothing about the point.
    """
    try:
        if outcome.value is not None:
            return optimizer.tell(trial, outcome.value)
        return optimizer.fail(trial, outcome.reason or "no reason given", bug, outcome.traceback)
    except TrialError as error:
        logger.warning("an outcome was not stored: %s", visible(str(error)))
        return None
    except StorageError as error:
        error.add_note(f"the outcome that was not stored: trial {trial.id}, {described(outcome, LONGEST)}")
        raise
