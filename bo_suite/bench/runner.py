"""Runs every method on every problem with every seed, in parallel, and loses nothing that has ended."""

import concurrent.futures as futures
import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
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
from bo_suite.bench.jobs import Job, agree, all_jobs, check_picklable, chosen_methods, chosen_problems
from bo_suite.bench.method import Method
from bo_suite.bench.records import Records
from bo_suite.bench.store import Store
from bo_suite.bench.unit import Unit
from bo_suite.errors import DataError, StorageError, TrialError, WorkersDied
from bo_suite.linalg.environment import one_thread
from bo_suite.problems import Problem
from bo_suite.run.evaluate import TaskEnded
from bo_suite.run.task_runner import TaskRunner
from bo_suite.run.workers import Executor, ExecutorPool
from bo_suite.values.describe import described, error_text
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import flag

logger = logging.getLogger("bo_suite")

_WAIT = 0.5
"""Seconds between looks at the units of other runners."""

_PATIENCE = 10.0
"""Seconds after which the user is told of them."""


def run_suite(
    problems: str | Problem | Sequence[str | Problem],
    methods: str | Method | Sequence[str | Method],
    seeds: Sequence[int],
    budget: int,
    out: str | Path,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    time_limit: float | None = None,
    together: int = 64,
    again: Collection[str] = (),
    progress: bool = True,
) -> Records:
    """Run every method on every problem with every seed; what has ended is in the folder at once.

    Run again with the same folder, after a crash, a kill or with more seeds, it goes on where it was; several
    runners on one machine may share a folder, and the work. A method that raises, is too slow or takes its
    process down costs only that unit, which the records keep as crashed or timed out, with its evaluations
    unless its process died.

    Args:
        problems: names of problems or suites, separated by commas or in a list, or Problems.
        methods: names of methods likewise, or Methods.
        seeds: one a run of a method on a problem. What a run draws depends on (problem, seed), and so does
            the noise, which all methods meet alike: runs are paired on a problem, and independent between.
        budget: number of evaluations of each unit.
        out: folder of the records, created where it is missing.
        executor: where to run instead of processes of our own: any `concurrent.futures.Executor`, left open,
            or a function that makes one, called again when its workers break. On Ray,
            `bo_suite.integrations.ray.RayExecutor()`; on Dask, `client.get_executor(pure=False)`, for by
            default Dask makes equal calls only once.
        workers: units at once; by default as many as this process may use cores. Give the number of workers
            of a cluster.
        time_limit: seconds after which a unit is ended; None for no limit. In threads, such as Dask's, it is
            looked at between suggestions only.
        together: at most so many seeds of a cheap problem run as one tensor program, where the method is
            able to (`run_replicates`); 1 runs each on its own, for times of single suggestions.
        again: states of units that are forgotten and run anew: "crashed" once a method is mended, "timed
            out", or "running" after a runner on another machine has died, which cannot be seen from here.
        progress: whether to show a progress bar.

    Returns:
        All records of the folder, also those of earlier runs.

    Raises:
        DataError: an unknown problem or method, nothing to run, what cannot be sent to processes, or an
            executor that breaks for good.
        ImportError: a method whose library is missing.
        StorageError: a folder that cannot be used, or that holds another budget, time limit, problem or
            method of a name.
    """
    require_int("budget", budget, at_least=1)
    progress = flag("progress", progress, DataError)
    count = require_int("workers", _cores() if workers is None else workers, at_least=1)
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise DataError(f"`0 < time_limit < inf` must hold, got {time_limit}")
    if unknown := set(again) - {"crashed", "timed out", "running"}:
        raise DataError(f"again must name states among crashed, timed out and running, got {unknown}")
    if executor is not None and not (isinstance(executor, futures.Executor) or callable(executor)):
        raise DataError(
            f"an executor must be an Executor or a function that makes one, got {described(executor)}"
        )
    found, chosen = chosen_problems(problems), chosen_methods(methods)
    jobs = all_jobs(found, chosen, seeds, budget, time_limit, require_int("together", together, at_least=1))
    here = executor is None and count == 1
    if not here and not isinstance(executor, futures.ThreadPoolExecutor):
        check_picklable(jobs)
    # as in processes of our own, one thread for all arithmetic: seconds are to be comparable
    with (
        closing(Store(out)) as store,
        ExecutorPool(count, executor, Job.__call__, "a unit") as pool,
        one_thread() if here else nullcontext(),
    ):
        store.forget([key for job in jobs for key in job.keys], again)
        agree(store, found, chosen, budget, time_limit)
        runner = _Runner(store, pool, count, {problem.name: problem.minimum for problem in found})
        with _bar(progress, store, jobs) as show:
            runner.run(jobs, show)
    return Records.read(out)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Runner:
    """One runner at work on a folder."""

    def __init__(
        self, store: Store, pool: ExecutorPool, workers: int, minima: dict[str, float | None]
    ) -> None:
        self._store, self._pool, self._minima = store, pool, minima
        self._tasks = TaskRunner[Job](lambda job: pool.submit(job), workers, worked=True)
        self._left, self._again = deque[Job](), deque[Job]()
        self._command = command()
        self._waited = 0.0

    def run(self, jobs: Sequence[Job], show: Callable[[], None]) -> None:
        """Works until every unit has ended, here or in another runner."""
        try:
            # A worker of a script without a main guard comes here too, and must not wait for its parent.
            if self._not_ended(jobs) and not self._pool.works():
                raise WorkersDied("worker processes must be able to do nothing at all")
            while left := self._not_ended(jobs):
                self._left = deque(left)
                for job, future in self._tasks.completed(self._following):
                    self._keep(job, future)
                    show()
                if others := self._not_ended(left):
                    self._wait(others)
                    show()
        except BaseException as error:
            self._pool.abandon()
            for job, (units, where) in self._tasks.ended():
                with suppress(StorageError):
                    self._store_units(job, units, where)
            if isinstance(error, WorkersDied):
                law = "worker processes must be able to run a unit, but they died before the first"
                hint = '(does the script have `if __name__ == "__main__":`?)'
                raise DataError(f"{law} {hint}") from error
            if isinstance(error, futures.BrokenExecutor):
                law = "an executor whose workers may die must be given as a function that makes it"
                raise DataError(f"{law}, got one that broke: {error_text(error)}") from error
            raise

    def _not_ended(self, jobs: Sequence[Job]) -> list[Job]:
        states = self._store.states()
        return [job for job in jobs if any(states.get(key, "running") == "running" for key in job.keys)]

    def _wait(self, jobs: Sequence[Job]) -> None:
        """Gives another runner time, and says once that it is waited for."""
        self._waited += _WAIT
        if self._waited == _PATIENCE:
            count = sum(len(job.keys) for job in jobs)
            logger.warning(
                "up to %d units are at work in another runner, which is waited for; if none lives any more, "
                'say again=["running"] (bo-suite bench --again running)',
                count,
            )
        time.sleep(_WAIT)

    def _following(self) -> Job | None:
        """The next job, with those of its units that are free."""
        if self._again:
            return self._again.popleft()
        while self._left:
            job = self._left.popleft()
            free = {seed for _, _, seed in self._store.claim(job.keys)}
            if free:
                return replace(job, seeds=tuple(seed for seed in job.seeds if seed in free))
        return None

    def _keep(self, job: Job, future: "futures.Future[tuple[list[Unit], str]] | None") -> None:
        """Stores what has come of a job; units of which nothing came together run again, alone."""
        units, where, reason = None, "", "its worker process died"
        if future is not None:
            try:
                units, where = self._pool.result(future)
            except (TrialError, TaskEnded) as error:
                reason = str(error)
        if units is not None:
            self._store_units(job, units, where)
        elif len(job.seeds) > 1:
            self._again.extend(job.alone())
        else:
            self._store_units(job, job.crashed(reason), environment())

    def _store_units(self, job: Job, units: Sequence[Unit], where: str) -> None:
        self._store.finish(units, where, self._command, self._minima[job.problem.name])


@contextmanager
def _bar(shown: bool, store: Store, jobs: Sequence[Job]) -> Iterator[Callable[[], None]]:
    """A progress bar, and the function that brings it up to date."""
    if not shown:
        yield lambda: None
        return
    keys = {key for job in jobs for key in job.keys}
    columns: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.description}")
    with Progress(*columns, *left, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(keys))

        def show() -> None:
            states = Counter(state for key, state in store.states().items() if key in keys)
            wrong = [f"{states[state]} {state}" for state in ("crashed", "timed out") if states[state]]
            ended = sum(states.values()) - states["running"]
            bar.update(task, completed=ended, description=", ".join(wrong))

        show()
        yield show
