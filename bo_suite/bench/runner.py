"""Runs every method on every problem with every seed, in parallel, and loses nothing that has ended."""

import os
import pickle
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
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
from bo_suite.bench.method import Lockstep, Method
from bo_suite.bench.peers import get_method
from bo_suite.bench.records import Records
from bo_suite.bench.store import Key, Store
from bo_suite.bench.suite import problems_of
from bo_suite.bench.unit import Unit, run_together, run_unit
from bo_suite.errors import DataError, StorageError, WorkersDied
from bo_suite.problems import Problem
from bo_suite.trials import whole_number
from bo_suite.workers import Crew, Executor, Pool

_WAIT = 0.5
"""Seconds between looks at the units of other runners."""


@dataclass(frozen=True)
class Job:
    """Units of one method on one problem, for one worker.

    Attributes:
        problem: what to minimise.
        method: what suggests points.
        seeds: one a unit.
        budget: evaluations of each.
        time_limit: seconds of each; None for no limit.
        together: whether they may run as one program.
    """

    problem: Problem
    method: Method
    seeds: tuple[int, ...]
    budget: int
    time_limit: float | None
    together: bool

    @property
    def keys(self) -> list[Key]:
        """The units."""
        return [(self.problem.name, self.method.name, seed) for seed in self.seeds]

    def __call__(self) -> tuple[list[Unit], str]:
        """What has come of the units, and where they ran."""
        units = None
        if self.together and isinstance(self.method, Lockstep):
            units = run_together(self.problem, self.method, self.seeds, self.budget, self.time_limit)
        if units is None:
            units = [
                run_unit(self.problem, self.method, seed, self.budget, self.time_limit) for seed in self.seeds
            ]
        return units, environment()

    def alone(self) -> "list[Job]":
        """A job for each of the units."""
        return [replace(self, seeds=(seed,), together=False) for seed in self.seeds]

    def crashed(self, reason: str) -> list[Unit]:
        """The units, without any evaluation."""
        return [Unit(*key, "crashed", reason, 0.0, 1, ()) for key in self.keys]


def run_suite(
    problems: str | Sequence[str | Problem],
    methods: str | Sequence[str | Method],
    seeds: Sequence[int],
    budget: int,
    out: str | Path,
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    time_limit: float | None = None,
    together: int = 64,
    progress: bool = True,
) -> Records:
    """Run every method on every problem with every seed; what has ended is in the folder at once.

    Run again with the same folder, after a crash, a kill or with more seeds, it goes on where it was; several
    runners on one machine may share a folder, and the work. A method that raises, is too slow or takes its
    process down costs only that unit, which the records keep as crashed or timed out; its evaluations are kept
    unless its process died.

    Args:
        problems: names of problems or suites, separated by commas or in a list, or Problems.
        methods: names of methods likewise, or Methods.
        seeds: of the methods, and of the problems' noise: equal for all methods, so that runs are paired.
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
        progress: whether to show a progress bar.

    Returns:
        All records of the folder, also those of earlier runs.

    Raises:
        DataError: an unknown problem or method, nothing to run, what cannot be sent to processes, or an
            executor that breaks for good.
        ImportError: a method whose library is missing.
        StorageError: a folder that cannot be used, or that holds another budget, problem or method of a name.
    """
    whole_number("budget", budget, at_least=1)
    count = whole_number("workers", _cores() if workers is None else workers, at_least=1)
    if time_limit is not None and not time_limit > 0:
        raise DataError(f"`time_limit > 0` must hold, got {time_limit}")
    found, chosen = _problems(problems), _methods(methods)
    jobs = _jobs(found, chosen, seeds, budget, time_limit, whole_number("together", together, at_least=1))
    if count > 1 and executor is None:
        _check_picklable(jobs)
    with closing(Store(out)) as store, Pool(count, executor) as pool:
        _agree(store, found, chosen, budget)
        runner = _Runner(store, pool, count, {problem.name: problem.minimum for problem in found})
        with _bar(progress, store, jobs) as show:
            runner.run(jobs, show)
    return Records.read(out)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _problems(given: str | Sequence[str | Problem]) -> list[Problem]:
    parts = [given] if isinstance(given, str) else given
    found = [p for part in parts for p in (problems_of(part) if isinstance(part, str) else [part])]
    _check_names("problem", [problem.name for problem in found])
    if several := [problem.name for problem in found if problem.space.fidelities]:
        raise DataError(f"problems of a suite must have one fidelity, to be compared by value, got {several}")
    return found


def _methods(given: str | Sequence[str | Method]) -> list[Method]:
    parts = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    found = [get_method(part) if isinstance(part, str) else part for part in parts]
    for method in found:
        if isinstance(method, type) or not isinstance(method, Method):
            raise DataError(f"a method must be a name or an object with `name` and `start`, got {method!r}")
    _check_names("method", [method.name for method in found])
    return found


def _check_names(kind: str, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if not names or twice:
        raise DataError(f"a suite needs a {kind}, and names of {kind}s that differ, got {twice or 'none'}")


def _jobs(
    problems: Sequence[Problem],
    methods: Sequence[Method],
    seeds: Sequence[int],
    budget: int,
    time_limit: float | None,
    together: int,
) -> list[Job]:
    """Units that run together first, for they take longest; then seed by seed, for an early end is fair."""
    whole = [whole_number("a seed", seed, at_least=0) for seed in seeds]
    if not whole or len(set(whole)) < len(whole) or max(whole) >= 2**63:
        raise DataError(f"seeds must be given, differ and be less than 2**63, got {whole}")
    large, small = list[Job](), list[Job]()
    for problem in problems:
        for method in methods:
            lockstep = isinstance(method, Lockstep) and method.lockstep and problem.vectorized is not None
            size = together if lockstep else 1
            for first in range(0, len(whole), size):
                part = tuple(whole[first : first + size])
                jobs = large if len(part) > 1 else small
                jobs.append(Job(problem, method, part, budget, time_limit, len(part) > 1))
    return large + sorted(small, key=lambda job: whole.index(job.seeds[0]))


def _check_picklable(jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            pickle.dumps(job)
        except Exception as error:
            raise DataError(
                "problems and methods must be picklable, for other processes (workers=1 sends none), "
                f"got {job.problem.name}, {job.method.name}: {error}"
            ) from error


def _agree(store: Store, problems: Sequence[Problem], methods: Sequence[Method], budget: int) -> None:
    """Makes sure that names in the records stand for what they stood for in earlier runs."""
    for problem in problems:
        numbers = {"minimum": problem.minimum, "best_known": problem.best_known, "noise": problem.noise}
        form = numbers | {"dim": problem.space.dim, "budget": budget, "space": problem.space.fingerprint}
        store.agree("problems", "problem", problem.name, form)
    for method in methods:
        named = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(method))  # functions are shown with their addresses
        store.agree("methods", "method", method.name, {"method": named})


class _Runner:
    """One runner at work on a folder."""

    def __init__(self, store: Store, pool: Pool, workers: int, minima: dict[str, float | None]) -> None:
        self._store, self._pool, self._minima = store, pool, minima
        self._crew = Crew[Job](lambda job: pool.submit(job), workers, worked=True)
        self._left, self._again = deque[Job](), deque[Job]()
        self._command = command()

    def run(self, jobs: Sequence[Job], show: Callable[[], None]) -> None:
        """Works until every unit has ended, here or in another runner."""
        try:
            # A worker of a script without a main guard comes here too, and must not wait for its parent.
            if self._not_ended(jobs) and not self._pool.works():
                raise WorkersDied("worker processes must be able to do nothing at all")
            while left := self._not_ended(jobs):
                self._left = deque(left)
                for job, future in self._crew.completed(self._following):
                    self._keep(job, future)
                    show()
                if self._not_ended(left):
                    time.sleep(_WAIT)  # somebody else is at them, or has died with them
                    show()
        except BaseException as error:
            self._pool.abandon()
            for job, (units, where) in self._crew.ended():
                with suppress(StorageError):
                    self._store_units(job, units, where)
            if isinstance(error, WorkersDied):
                law = "worker processes must be able to run a unit, but they died before the first"
                hint = '(does the script have `if __name__ == "__main__":`?)'
                raise DataError(f"{law} {hint}") from error
            if isinstance(error, BrokenExecutor):
                law = "an executor whose workers may die must be given as a function that makes it"
                raise DataError(f"{law}, got one that broke: {error}") from error
            raise

    def _not_ended(self, jobs: Sequence[Job]) -> list[Job]:
        states = self._store.states()
        return [job for job in jobs if any(states.get(key, "running") == "running" for key in job.keys)]

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

    def _keep(self, job: Job, future: "Future[tuple[list[Unit], str]] | None") -> None:
        """Stores what has come of a job; units of which nothing came together run again, alone."""
        units, where, reason = None, "", "its worker process died"
        if future is not None:
            try:
                units, where = future.result()
            except Exception as error:  # of the executor: a unit raises nothing
                reason = f"the executor must be able to run a unit, got {type(error).__name__}: {error}"
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
