"""Runs every method on every problem with every seed in parallel, and stores each unit when it ends."""

import concurrent.futures as futures
import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bo_suite.bench.environment import command, environment
from bo_suite.bench.jobs import (
    Job,
    Limits,
    all_jobs,
    check_goals,
    check_or_store,
    check_picklable,
    chosen_methods,
    chosen_problems,
)
from bo_suite.bench.method import AnyMethod
from bo_suite.bench.records import Records
from bo_suite.bench.store import Store
from bo_suite.bench.unit import Unit
from bo_suite.errors import DataError, StorageError, TrialError, WorkersDied
from bo_suite.linalg.environment import one_thread
from bo_suite.problems.outcomes import AnyProblem
from bo_suite.run.evaluate import TaskEnded
from bo_suite.run.task_runner import TaskRunner
from bo_suite.run.workers import Executor, ExecutorPool
from bo_suite.storage.addresses import Location
from bo_suite.values.describe import described, error_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import flag

logger = logging.getLogger("bo_suite")

_WAITS = (0.5, 5.0)
"""First and longest time between two polls of the units of other runners, in seconds."""

_SHOWN = 1.0
"""Seconds between two updates of the progress bar, each of which reads the states of all units."""

_PATIENCE = 10.0
"""Seconds of waiting for other runners after which a warning is logged."""


def run_suite(
    problems: str | AnyProblem | Sequence[str | AnyProblem],
    methods: str | AnyMethod | Sequence[str | AnyMethod],
    seeds: Sequence[int],
    budget: int,
    out: Location,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    time_limit: float | None = None,
    together: int = 64,
    again: Collection[str] = (),
    progress: bool = True,
) -> Records:
    """Runs every method on every problem with every seed, and stores each unit of the suite when it ends.

    A run with the folder of an earlier one continues it: after a crash, a kill, or with more seeds. Several
    runners can share the units: those of a folder on one machine, those of a database on any number. The
    units of a runner that has died are free for others once its process or its lease has ended. A method
    that raises, is too slow or kills its process costs that unit alone, which is recorded as crashed or timed
    out, with its evaluations unless its process died.

    Args:
        problems: names of problems or suites, separated by commas or in a list, or Problems and
            OutcomeProblems.
        methods: names of methods likewise, or Methods.
        seeds: one per run of a method on a problem. The draws of a run depend on (problem,
            seed), and its noise on these and the point: at equal points methods meet equal noise. Runs on one
            problem are paired, others are independent.
        budget: number of evaluations of each unit.
        out: folder of the records, created if it does not exist, or the address of a suite in a PostgreSQL
            database, `postgresql://user@host/database?run=NAME` (`&lease=SECONDS` that a runner may be
            silent, 120 by default).
        executor: runs the units; None for worker processes. Any `concurrent.futures.Executor`, which stays
            open, or a function that makes one, called again if its workers break. On Ray,
            `bo_suite.integrations.ray.RayExecutor()`; on Dask, `client.get_executor(pure=False)`, since by
            default Dask runs equal calls once.
        workers: number of units at once; None for the number of cores of this process. For a cluster, the
            number of its workers.
        time_limit: seconds after which a unit is ended; None for no limit. In threads, such as Dask's, it is
            checked between suggestions alone.
        together: most seeds of a cheap problem that run as one tensor program, if the method can do so
            (`run_replicates`). With 1 each runs alone, which measures times of single suggestions.
        again: states of units that are deleted and run again: "crashed" after a method was repaired, "timed
            out", or "running" for those of runners that have died, before their leases end.
        progress: whether to show a progress bar.

    Returns:
        All records of the suite, with those of earlier runs.

    Raises:
        DataError: an unknown problem or method, nothing to run, a method that does not accept the goals of a
            problem, a problem or method that cannot be pickled, or an executor that breaks repeatedly.
        TrialError: a number that is not an integer or is out of range.
        ImportError: the library of a method is not installed.
        StorageError: the suite cannot be used, or holds another budget, time limit, problem or method of a
            name.
    """
    limits = Limits(budget, time_limit)
    progress = flag("progress", progress, DataError)
    count = require_int("workers", _cores() if workers is None else workers, at_least=1)
    _check_states_and_executor(again, executor)
    suite, compared = chosen_problems(problems), chosen_methods(methods)
    check_goals(suite, compared)
    jobs = all_jobs(suite, compared, seeds, limits, require_int("together", together, at_least=1))
    in_this_process = executor is None and count == 1
    if not in_this_process and not isinstance(executor, futures.ThreadPoolExecutor):
        check_picklable(jobs)
    # one thread for all arithmetic, as in worker processes: seconds must be comparable
    with (
        Store(out) as store,
        ExecutorPool(count, executor, Job.__call__, "a unit") as pool,
        one_thread() if in_this_process else nullcontext(),
    ):
        store.forget([key for job in jobs for key in job.keys], again)
        check_or_store(store, suite, compared, limits)
        runner = _Runner(store, pool, count, {problem.name: problem.minimum for problem in suite})
        with _bar(progress, store, jobs) as show:
            runner.run(jobs, show)
    return Records.read(out)


def _check_states_and_executor(again: Collection[str], executor: object) -> None:
    """Raises a DataError if `again` names a state that does not exist, or if the executor is not usable."""
    if unknown := set(again) - {"crashed", "timed out", "running"}:
        raise DataError(f"again must name states among crashed, timed out and running, got {unknown}")
    if executor is not None and not (isinstance(executor, futures.Executor) or callable(executor)):
        raise DataError(
            f"an executor must be an Executor or a function that makes one, got {described(executor)}"
        )


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Runner:
    """Runs jobs and stores their units."""

    def __init__(
        self, store: Store, pool: ExecutorPool, workers: int, minima: dict[str, float | None]
    ) -> None:
        self._store, self._pool, self._minima = store, pool, minima
        self._tasks = TaskRunner[Job](lambda job: pool.submit(job), workers, worked=True)
        self._queue, self._retries = deque[Job](), deque[Job]()
        self._command = command()
        self._waited, self._pause, self._told = 0.0, _WAITS[0], False

    def run(self, jobs: Sequence[Job], show: Callable[[], None]) -> None:
        """Runs jobs until every unit has ended, here or in another runner."""
        try:
            # A worker of a script without a main guard gets here too, and must not wait for its parent.
            if self._not_ended(jobs) and not self._pool.works():
                raise WorkersDied("a task that does nothing failed: worker processes cannot start")
            while left := self._not_ended(jobs):
                self._queue = deque(left)
                for job, future in self._tasks.completed(self._next_job):
                    self._collect(job, future)
                    show()
                if others := self._not_ended(left):
                    self._wait(others)
                    show()
        except BaseException as error:
            self._pool.abandon()
            for job, (units, where) in self._tasks.ended():
                with suppress(StorageError):
                    if not isinstance(error, StorageError):  # a server may take minutes to give up again
                        self._store_units(job, units, where)
            if isinstance(error, WorkersDied):
                raise DataError(
                    "worker processes died before they ran a unit; does the script have "
                    '`if __name__ == "__main__":`?'
                ) from error
            if isinstance(error, futures.BrokenExecutor):
                raise DataError(
                    f"the executor broke: {error_text(error)}; give a function that makes an executor, "
                    "which is called again when workers die"
                ) from error
            raise

    def _not_ended(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs with a unit that has not ended."""
        states = self._store.states()
        return [job for job in jobs if any(states.get(key, "running") == "running" for key in job.keys)]

    def _wait(self, jobs: Sequence[Job]) -> None:
        """Waits for other runners; logs a warning once."""
        if self._waited >= _PATIENCE and not self._told:
            self._told = True
            logger.warning(
                "waiting for up to %d units that other runners work on; those of a runner that has died are "
                'free %g s after its last sign of life, or at once with again=["running"] (bo-suite bench '
                "--again running)",
                sum(len(job.keys) for job in jobs),
                self._store.lease.seconds,
            )
        time.sleep(self._pause)
        self._waited += self._pause
        self._pause = min(1.2 * self._pause, _WAITS[1])

    def _next_job(self) -> Job | None:
        """The next job with its units that no runner has claimed; None if no job is left."""
        if self._retries:
            return self._retries.popleft()
        while self._queue:
            job = self._queue.popleft()
            free = {seed for _, _, seed in self._store.claim(job.keys)}
            if free:
                return replace(job, seeds=tuple(seed for seed in job.seeds if seed in free))
        return None

    def _collect(self, job: Job, future: "futures.Future[tuple[list[Unit], str]] | None") -> None:
        """Stores the units of a job that has ended; if a batch of units failed, queues each unit alone."""
        units, where, reason = None, "", "its worker process died"
        if future is not None:
            try:
                units, where = self._pool.result(future)
            except (TrialError, TaskEnded) as error:
                reason = str(error)
        if units is not None:
            self._store_units(job, units, where)
        elif len(job.seeds) > 1:
            self._retries.extend(job.alone())
        else:
            self._store_units(job, job.crashed(reason), environment())

    def _store_units(self, job: Job, units: Sequence[Unit], where: str) -> None:
        self._store.finish(units, where, self._command, self._minima[job.problem.name])


@contextmanager
def _bar(shown: bool, store: Store, jobs: Sequence[Job]) -> Iterator[Callable[[], None]]:
    """A progress bar; yields the function that updates it."""
    if not shown:
        yield lambda: None
        return
    keys = {key for job in jobs for key in job.keys}
    columns: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, *left, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(keys))

        last = -math.inf

        def show(*, now: bool = False) -> None:
            nonlocal last
            if not now and time.monotonic() < last + _SHOWN:
                return
            last = time.monotonic()
            states = Counter(state for key, state in store.states().items() if key in keys)
            failures = [f"{states[state]} {state}" for state in ("crashed", "timed out") if states[state]]
            ended = sum(states.values()) - states["running"]
            bar.update(task, completed=ended, description=", ".join(failures))

        show()
        yield show
        show(now=True)
