"""`work`: a worker, one of any number that evaluate the trials of one storage until its budget is spent.

Workers share the storage and nothing else: there is no driver, and each may begin, end or be killed at any
time. A worker repeats three steps. It takes a trial: one whose worker has died, else the next queued point,
else a suggestion. It evaluates it in a child process, so that the worker itself stays responsive whatever the
function does. It stores the outcome. All workers together stop at the budget, exactly.

**Failures** mean what they mean to `minimize`: an exception before any evaluation of the history has finished
is a bug, and is raised; a later one is a failed trial; so is the death of the child process, of which
`retries` are repeated. A trial whose workers have died three times is failed.

**Being overtaken.** A worker that is taken for dead, such as one that was suspended, may lose its trial to
another. It looks every two seconds; if so, it kills the evaluation and goes on with another trial. The
storage refuses the outcome of an attempt that was taken over.

**The end.** When the budget is spent, a worker waits while trials of others are running, since one of these
may have to be evaluated again. **SIGTERM** ends a worker: the evaluation gets `grace` seconds, then it is
killed and its trial is handed back. That is, it is withdrawn, and its point is queued in the same
transaction. So the next worker takes the point at once, and the interruption does not count as a death. A
failure after SIGTERM is handed back, too, since the signal may have reached the processes of the function. A
second SIGTERM ends the grace. **Ctrl-C** is SIGTERM without a grace. A worker that is killed hands back
nothing: its trial is taken over.
"""

import concurrent.futures as futures
import logging
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from bo_suite.errors import BudgetSpent, SpaceExhausted, StorageError, TrialError
from bo_suite.run.arguments import (
    Function,
    check_function,
    check_no_context,
    checked_folder,
    timeout_seconds,
)
from bo_suite.run.evaluate import Expected, Outcome, evaluate
from bo_suite.run.failures import BugFound, Caught, Failures, Retries, is_current, names_of
from bo_suite.run.minimize import Result
from bo_suite.run.report_server import ReportServer
from bo_suite.run.running import Evaluations, Watch, outcome_in, refusal_of, settle, store_outcome
from bo_suite.run.stopping import Callback, check_callbacks, check_rules
from bo_suite.run.workers import ExecutorPool
from bo_suite.storage.addresses import Address, Lease
from bo_suite.storage.by_parameter import kinds_of
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.system.interrupt import TimeOver
from bo_suite.values.describe import described, error_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import python_scalar

logger = logging.getLogger("bo_suite")

TERMINATED = "terminated"
"""The reason why a worker ended that got SIGTERM."""

_LOOK_S = 2.0
"""Seconds between looks whether a trial was taken over."""

_FIRST_NAP_S, _LONGEST_NAP_S = 0.1, 5.0
"""Seconds between looks whether trials of others have ended; each nap is twice as long as the last one, but
not longer than a heartbeat, so that what is abandoned is taken over soon."""


def work(
    f: Function,
    optimizer: Optimizer,
    budget: int | None = None,
    callbacks: Sequence[Callback] = (),
    retries: int = 0,
    catch: Caught = (),
    timeout: float | None = None,
    grace: float = 0.0,
    checkpoints: str | Path | None = None,
) -> Result:
    """Evaluates trials of a shared storage, one at a time, until all workers together have spent the budget.

    The module's docstring says how a worker ends, and what it does about failures. In the main thread it
    handles SIGTERM.

    Args:
        f: as in `minimize`; it is sent to a child process.
        optimizer: of the storage that the workers share.
        budget: number of trials of the history, apart from withdrawn ones; None for that of the optimizer.
        callbacks: as in `minimize`; they see the trials of this worker. A time limit is checked before each
            evaluation, too. An evaluation that runs when the time is over is handed back.
        retries: as in `minimize`.
        catch: as in `minimize`.
        timeout: as in `minimize`.
        grace: seconds that the evaluation gets after SIGTERM.
        checkpoints: as in `minimize`; a folder that the machines of all workers share.

    Returns:
        As `minimize`; if SIGTERM has ended the worker, `stopped` is "terminated".

    Raises:
        SpaceError: the space has a context.
        TrialError: an argument is wrong, nothing says when to end, f cannot be sent, or f returned no number
            before an evaluation had finished.
        StorageError: the storage cannot be used any more.
        BaseException: what f raised before an evaluation had finished.
    """
    check_function(f, reports=optimizer.scheduler is not None)
    folder = checked_folder(checkpoints, scheduled=optimizer.scheduler is not None)
    limit = optimizer.budget if budget is None else require_int("budget", budget, at_least=1)
    check_callbacks(callbacks)
    if limit is None and not callbacks:
        raise TrialError("a worker needs an end: a budget, or a callback such as Until, got neither")
    check_rules(callbacks, optimizer.goals)
    check_no_context(optimizer.space, "work")
    require_int("retries", retries, at_least=0)
    failures = Failures(optimizer, names_of(catch))
    seconds = timeout_seconds(timeout) or math.inf  # with a timeout even one worker is a process
    expected = Expected(optimizer.goals, kinds_of(optimizer.space))
    pool = ExecutorPool(1, None, partial(evaluate, f, expected), timeout=seconds)
    watch = Watch(callbacks, optimizer, lambda: None)
    end = _End(watch, _grace_seconds(grace))
    with ReportServer(optimizer, folder) as reports, pool, _sigterm_handled_by(end.terminate):
        child = Evaluations(pool, reports, failures)
        stopped = _Worker(watch, limit, child, Retries(optimizer, retries), end).run()
    goals = optimizer.goals
    trials, space, judge = tuple(optimizer.trials), optimizer.space, optimizer.scheduler
    return Result(trials, goals.direction, stopped, space, goals.limits, judge)


def worker_name() -> str:
    """Host and process id, which tell the workers of a storage apart in logs."""
    return f"{platform.node()}:{os.getpid()}"


class _End:
    """Whether the worker is to end, by a time limit or by SIGTERM; wakes it when something happens.

    Args:
        watch: of the worker.
        grace: seconds that an evaluation gets after SIGTERM.
    """

    def __init__(self, watch: Watch, grace: float) -> None:
        self._watch, self._grace = watch, grace
        self._last = math.inf  # when the grace ends
        self._events = SimpleQueue[None]()  # may be put to in a signal handler

    @property
    def terminated(self) -> bool:
        """Whether SIGTERM has come."""
        return self._last < math.inf

    def terminate(self, *signal_and_frame: object) -> None:
        """Begins the grace, or ends it if it has begun."""
        self._last = time.monotonic() + (0.0 if self.terminated else self._grace)
        self.wake()

    def wake(self, *future: object) -> None:
        """Ends a wait."""
        self._events.put(None)

    def wait(self, seconds: float) -> None:
        """Waits until something happens, or an evaluation has to end, or the seconds are over."""
        with suppress(Empty):
            self._events.get(timeout=max(0.0, min(seconds, self.seconds_left())))

    def reason(self) -> str | None:
        """Why no evaluation may start; None if one may."""
        return TERMINATED if self.terminated else self._watch.over()

    def seconds_left(self) -> float:
        """Seconds until a running evaluation has to end."""
        return min(self._watch.seconds_left(), self._last - time.monotonic())


@dataclass
class _Held:
    """The trial that this worker evaluates.

    Attributes:
        trial: as it was handed out.
        future: of its evaluation; None before it starts.
    """

    trial: Trial
    future: "futures.Future[Any] | None" = None

    def outcome(self) -> Outcome | None:
        """The outcome of the evaluation; None if it has not ended by itself."""
        ended = self.future is not None and self.future.done() and self.future.exception() is None
        return self.future.result() if self.future is not None and ended else None


class _Worker:
    """Takes trials and evaluates them.

    Args:
        watch: the optimizer, and what happens after each trial.
        budget: number of trials of the history, or None.
        child: the process that evaluates.
        retries: which failures are repeated.
        end: whether to end.
    """

    def __init__(
        self,
        watch: Watch,
        budget: int | None,
        child: Evaluations,
        retries: Retries,
        end: _End,
    ) -> None:
        self._watch, self._budget, self._retries, self._end = watch, budget, retries, end
        self._child, self._pool, self._failures = child, child.pool, child.failures
        self._optimizer = watch.optimizer
        self._held: _Held | None = None
        self._exhausted: str | None = None
        self._stopped: str | None = None

    def run(self) -> str | None:
        """Works to the end; returns the reason if it ended before the budget was spent."""
        try:
            self._pool.start()
            reason = self._loop()
            for trial, outcome in self._retries.given_up():
                settle(self._watch, self._failures, trial, outcome)
            return reason
        except BugFound as error:
            bug = error
        except TimeOver:
            return self._end.reason()
        except KeyboardInterrupt:
            return "interrupted"
        except BaseException as error:
            if (refusal := refusal_of(error)) is not None:
                raise refusal from error
            raise
        finally:
            self._hand_back()
        bug.again()

    def _loop(self) -> str | None:
        place = self._optimizer.place
        lease = place.lease if isinstance(place, Address) else Lease()
        nap, longest = _FIRST_NAP_S, min(_LONGEST_NAP_S, lease.heartbeat)
        while (reason := self._stopped or self._end.reason()) is None:
            before = self._optimizer.trials
            trial = self._next()
            if trial is not None:
                self._held, nap = _Held(trial), _FIRST_NAP_S
                self._evaluate(self._held)
            elif before == self._optimizer.trials and all(one.state != "running" for one in before):
                return self._exhausted
            else:  # what runs elsewhere may be handed back, or abandoned
                self._end.wait(nap)
                nap = min(2 * nap, longest)
        return reason

    def _next(self) -> Trial | None:
        """The next trial: a repeated one, one whose worker died, a queued point or a suggestion, or none."""
        if (trial := self._retries.next()) is not None:
            return trial
        if abandoned := self._optimizer.reclaim(most=1):
            return abandoned[0]
        self._exhausted = None
        try:
            return self._optimizer.ask(budget=self._budget)
        except BudgetSpent:
            return None
        except SpaceExhausted as error:
            self._exhausted = str(error)
            return None

    def _evaluate(self, held: _Held) -> None:
        """Evaluates a trial, and stores its outcome unless another worker has taken it over.

        Raises:
            TimeOver: the evaluation has to end before it has an outcome.
        """
        if self._end.reason() is not None:
            raise TimeOver
        future = self._child.submit(held.trial)
        held.future = future
        future.add_done_callback(self._end.wake)
        while not future.done():
            if self._end.seconds_left() <= 0:
                raise TimeOver
            self._end.wait(_LOOK_S)
            if not future.done() and self._overtaken(held.trial):
                logger.warning(
                    "trial %d was taken over or ended by another process; its evaluation is killed",
                    held.trial.id,
                )
                self._pool.kill_tasks()
                futures.wait([future])
                self._held = None
                return
        outcome, final = outcome_in(self._pool, future)
        # if SIGTERM went to the child as well, it has arrived here while the child was replaced
        if outcome.value is None and self._end.terminated:
            held.future = None
            raise TimeOver
        self._receive(held.trial, outcome, final)
        self._held = None

    def _receive(self, trial: Trial, outcome: Outcome, final: bool) -> None:
        """Stores an outcome, or schedules the repetition of its evaluation."""
        outcome = outcome if final else self._retries.counted(trial, outcome)
        if final or not self._retries.repeats(trial, outcome):
            self._stopped = settle(self._watch, self._failures, trial, outcome)

    def _overtaken(self, trial: Trial) -> bool:
        """Whether another process has ended the trial or taken it over; its own report has not ended it."""
        try:
            return not (is_current(self._optimizer, trial) or self._child.reports.has_stopped(trial))
        except StorageError as error:  # the evaluation is worth more than this look
            logger.warning("the storage does not answer while trial %d runs: %s", trial.id, error_text(error))
            return False

    def _hand_back(self) -> None:
        """Kills a running evaluation and hands its trial back; stores an outcome that has arrived."""
        held, self._held = self._held, None
        if held is None:
            return
        self._pool.abandon()
        with suppress(StorageError, TrialError):
            if not is_current(self._optimizer, held.trial):
                return
            if (outcome := held.outcome()) is None:
                self._optimizer.withdraw(held.trial, requeue=True)
                return
            outcome = self._retries.counted(held.trial, outcome)
            bug = self._failures.bug(outcome) is not None
            store_outcome(self._optimizer, held.trial, outcome, bug)


def _grace_seconds(grace: object) -> float:
    seconds = python_scalar(grace)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise TrialError(f"a grace must be a number of seconds of at least 0, got {described(grace)}")
    return float(seconds)


@contextmanager
def _sigterm_handled_by(handle: Callable[..., None]) -> Iterator[None]:
    """Handles SIGTERM in the block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
