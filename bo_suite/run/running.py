"""One run of a function: evaluates points side by side, stores each outcome at once, and ends in order."""

import concurrent.futures as futures
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bo_suite.errors import BudgetSpent, SpaceExhausted, StorageError, TrialError, WorkersDied
from bo_suite.run.evaluate import Outcome, TookTooLong, WorkerDied
from bo_suite.run.failures import BugFound, Failures, Retries, is_current
from bo_suite.run.report_server import ReportServer
from bo_suite.run.stopping import Callback, Deadline, first_deadline, reason_to_stop
from bo_suite.run.task_runner import TaskRunner
from bo_suite.run.workers import ExecutorPool
from bo_suite.storage.trial import Trial
from bo_suite.study.asking import spent
from bo_suite.system.interrupt import TimeOver
from bo_suite.values.describe import LONGEST, described, error_text, visible

if TYPE_CHECKING:
    from bo_suite.study.optimizer import Optimizer

logger = logging.getLogger("bo_suite")

_UNHEARD = "its reports have not reached the process of the run"
"""Why a trial has failed that runs as before, though its evaluation was told to end."""


@dataclass(frozen=True)
class Watch:
    """What happens after each stored trial: the progress bar is updated, the callbacks are called."""

    callbacks: Sequence[Callback]
    optimizer: "Optimizer"
    show: Callable[[], None]

    def __call__(self, trial: Trial | None) -> str | None:
        """A reason to end the run, or None; the trial is None if it was not stored."""
        self.show()
        return None if trial is None else reason_to_stop(self.callbacks, self.optimizer, trial)

    def seconds_left(self) -> float:
        """Seconds to wait for running evaluations."""
        deadline = first_deadline(self.callbacks, self.optimizer)
        return math.inf if deadline is None else deadline.seconds_left(self.optimizer)

    def over(self) -> str | None:
        """The reason not to start an evaluation, if a time limit has passed; else None."""
        deadlines = [callback for callback in self.callbacks if isinstance(callback, Deadline)]
        reasons = (reason_to_stop(deadlines, self.optimizer, trial) for trial in self.optimizer.trials[-1:])
        return next(reasons, None) or (self.time_over() if self.seconds_left() <= 0 else None)

    def time_over(self) -> str | None:
        """The reason to end the run if evaluations still run after that."""
        deadline = first_deadline(self.callbacks, self.optimizer)
        return None if deadline is None else deadline.reason


@dataclass(frozen=True)
class Workers:
    """Where evaluations run, and which of them are running."""

    pool: ExecutorPool
    runner: TaskRunner[Trial]

    def outcome(self, future: "futures.Future[Any] | None") -> tuple[Outcome, bool]:
        """The outcome of an evaluation, and whether a repetition would have the same one.

        Args:
            future: of the evaluation; None if it killed its worker.

        Raises:
            WorkersDied: workers die even without a task.
        """
        if future is None:
            if not self.pool.works():
                raise WorkersDied("the worker pool died while idle")
            return Outcome(None, "its worker process died"), True
        return outcome_in(self.pool, future)

    def abandon(self) -> None:
        """Ends the workers, and cancels what has not started."""
        self.pool.abandon()
        self.runner.cancel()


@dataclass(frozen=True)
class Evaluations:
    """Starts evaluations: where they run, what receives their reports, and which failures are bugs."""

    pool: ExecutorPool
    reports: ReportServer
    failures: Failures

    def submit(self, trial: Trial) -> "futures.Future[Any]":
        """Starts the evaluation of a trial."""
        return self.pool.submit(trial.params, self.failures.all_so_far(), *self.reports.reporters(trial))


def outcome_in(pool: ExecutorPool, future: "futures.Future[Any]") -> tuple[Outcome, bool]:
    """The outcome of an evaluation that has ended, and whether a repetition would have the same one.

    Raises:
        WorkersDied: a dead worker process cannot be replaced.
        TrialError: the executor did not run the evaluation.
    """
    try:
        outcome: Outcome = pool.result(future)
        return outcome, False
    except WorkerDied as error:
        return Outcome(None, str(error)), False
    except TookTooLong as error:
        return Outcome(None, str(error)), True


class Run:
    """Evaluates trials until the budget is spent or there is a reason to end.

    Args:
        watch: the optimizer of the run, and what happens after each trial.
        budget: number of trials of the history, apart from withdrawn ones.
        workers: where evaluations run.
        failures: which failures are bugs of the program.
        retries: which failures are repeated.
    """

    def __init__(
        self, watch: Watch, budget: int, workers: Workers, failures: Failures, retries: Retries
    ) -> None:
        self._watch, self._budget, self._workers = watch, budget, workers
        self._failures, self._retries = failures, retries
        self._optimizer = watch.optimizer
        self._lost = deque[Trial]()  # trials of dead processes, to be evaluated first
        self._exhausted: str | None = None
        self._stopped: str | None = None

    def evaluate(self) -> str | None:
        """Runs to the end; returns the reason if it ended before the budget was spent."""
        self._lost.extend(self._optimizer.reclaim())
        trials = self._optimizer.trials
        paused = any(trial.state == "paused" for trial in trials)  # one of these may be continued
        idle = None if self._lost or paused else spent(trials, self._budget)
        if idle:
            logger.warning("nothing is evaluated: %s", idle)
        runner, seconds_left = self._workers.runner, self._watch.seconds_left
        try:
            self._workers.pool.start(seconds_left)
            for trial, future in runner.completed(self._next, seconds_left):
                self._receive(trial, future)
            if runner.running:
                raise TimeOver
            for trial, outcome in self._retries.given_up():
                self._store(trial, outcome)
            return self._exhausted or self._stopped or idle
        except BugFound as error:
            bug = error
            self._cut_short()
        except BaseException as error:
            self._cut_short()
            if isinstance(error, TimeOver):
                return self._stopped or self._watch.time_over()
            if isinstance(error, KeyboardInterrupt):
                return "interrupted"
            if (refusal := refusal_of(error)) is not None:
                raise refusal from error
            raise
        bug.again()

    def _next(self) -> Trial | None:
        """The next trial to evaluate: a repeated one, a lost one, or a new one while the budget lasts."""
        if self._stopped:
            return None
        if (trial := self._retries.next()) is not None:
            return trial
        if self._lost:
            return self._lost.popleft()
        try:
            trial = self._optimizer.ask(budget=self._budget)
            self._exhausted = None
        except BudgetSpent:
            self._exhausted = None
        except SpaceExhausted as error:
            self._exhausted = str(error)  # later outcomes may reveal noise, so that points are repeated
        return trial

    def _receive(self, trial: Trial, future: "futures.Future[Any] | None") -> None:
        """Stores the outcome of an evaluation, or schedules its repetition."""
        outcome, final = self._workers.outcome(future)
        outcome = outcome if final else self._retries.counted(trial, outcome)
        if not (self._stopped or final) and self._retries.repeats(trial, outcome):
            return
        reason = self._store(trial, outcome)
        self._stopped = self._stopped or reason

    def _store(self, trial: Trial, outcome: Outcome) -> str | None:
        """Stores an outcome; returns a reason to end the run, or None."""
        others = [other for _, other in self._workers.runner.ended()]
        return settle(self._watch, self._failures, trial, outcome, others)

    def _cut_short(self) -> None:
        """Ends the workers, and stores outcomes that have arrived, as far as possible."""
        self._workers.abandon()
        with suppress(StorageError):
            running = {trial.id for trial in self._optimizer.trials if trial.state == "running"}
            ended = self._workers.runner.ended()
            arrived = [(trial, self._retries.counted(trial, outcome)) for trial, outcome in ended]
            arrived = [*self._retries.given_up(), *arrived]
            outcomes = [outcome for _, outcome in arrived]
            bugs = [self._failures.bug(outcome, outcomes) is not None for outcome in outcomes]
            for (trial, outcome), bug in zip(arrived, bugs, strict=True):
                if trial.id in running:
                    with suppress(StorageError):
                        store_outcome(self._optimizer, trial, outcome, bug)


def settle(
    watch: Watch, failures: Failures, trial: Trial, outcome: Outcome, others: Sequence[Outcome] = ()
) -> str | None:
    """Stores the outcome of an evaluation; returns a reason to end the run, or None.

    Args:
        watch: the optimizer of the run, and what happens after each trial.
        failures: which failures are bugs of the program.
        trial: the trial.
        outcome: its outcome.
        others: outcomes that have arrived and are not stored yet.

    Raises:
        BugFound: the outcome shows a bug of the program.
    """
    if (ended := _ended_by_a_report(watch.optimizer, trial, outcome)) is not None:
        if ended.state == "failed":
            failures.passed(ended, replace(outcome, reason=ended.reason))
        return watch(ended)
    bug = failures.bug(outcome, others)
    stored = store_outcome(watch.optimizer, trial, outcome, bug is not None)
    if bug is not None and stored is not None:  # else another process has ended it
        watch.show()
        raise BugFound(trial, bug)
    failures.passed(stored, outcome)
    return watch(stored)


def _ended_by_a_report(optimizer: "Optimizer", trial: Trial, outcome: Outcome) -> Trial | None:
    """The trial if a report of this evaluation has ended it, so that there is nothing to store; else None."""
    if optimizer.scheduler is None:
        return None
    stored = optimizer.trial(trial.id)
    if stored.state == "running" or stored.attempt != trial.attempt:
        return None
    if outcome.ended and outcome.reason is not None:
        logger.info("trial %d had ended before its evaluation raised %s", trial.id, visible(outcome.reason))
    return stored if outcome.ended or stored.state in ("stopped", "paused") else None


def refusal_of(error: BaseException) -> TrialError | None:
    """The TrialError for workers that died, which says what to do; None for another error."""
    if isinstance(error, WorkersDied):
        return TrialError(
            f"worker processes must be able to run f, but they died: {error} "
            '(on an executor that spawns processes, a script needs `if __name__ == "__main__":`, and a '
            "notebook must import f from a module; workers= and threads need neither)"
        )
    if isinstance(error, futures.BrokenExecutor):
        return TrialError(
            "an executor whose workers can die must be passed as a function that creates it, so that it can "
            f"be created again, got one that broke: {error_text(error)}"
        )
    return None


def store_outcome(optimizer: "Optimizer", trial: Trial, outcome: Outcome, bug: bool) -> Trial | None:
    """Tells or fails the trial; returns None, and changes nothing, if another process has ended it.

    Args:
        optimizer: the optimizer of the run.
        trial: the trial.
        outcome: its outcome.
        bug: whether the program has a bug, so that nothing is learnt about the point.
    """
    if outcome.ended and not is_current(optimizer, trial):
        logger.warning("trial %d was taken over by another process, so its evaluation has ended", trial.id)
        return None
    try:
        if outcome.value is not None:
            return optimizer.tell(trial, outcome.value, gradient=_finite(outcome, trial))
        if outcome.ended:
            return optimizer.fail(trial, _UNHEARD, transient=True)
        return optimizer.fail(trial, outcome.reason or "no reason given", bug, outcome.traceback)
    except TrialError as error:
        logger.warning("an outcome was not stored: %s", visible(str(error)))
        return None
    except StorageError as error:
        error.add_note(f"the outcome that was not stored: trial {trial.id}, {described(outcome, LONGEST)}")
        raise


def _finite(outcome: Outcome, trial: Trial) -> dict[str, float] | None:
    """The finite derivatives of an outcome; those that are not are logged."""
    if outcome.gradient is None:
        return None
    gradient = {name: one for name, one in outcome.gradient.items() if math.isfinite(one)}
    if left_out := [name for name in outcome.gradient if name not in gradient]:
        logger.warning("trial %d: derivatives that are not finite are left out, by %s", trial.id, left_out)
    return gradient
