"""The units of a suite as jobs for workers, and the checks of what they are made of."""

import pickle
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bo_suite.bench.environment import environment
from bo_suite.bench.method import Lockstep, Method
from bo_suite.bench.peers import get_method
from bo_suite.bench.store import Key, Store
from bo_suite.bench.suite import problems_of
from bo_suite.bench.unit import Unit, run_together, run_unit
from bo_suite.errors import DataError
from bo_suite.problems import Problem
from bo_suite.values.describe import LONGEST, described, error_text, plain_text, shortened
from bo_suite.values.numbers import require_int


@dataclass(frozen=True)
class Job:
    """Units of one method on one problem, for one worker.

    Attributes:
        problem: what to minimise.
        method: what suggests points.
        seeds: one a unit; several run as one program.
        budget: evaluations of each.
        time_limit: seconds of each; None for no limit.
    """

    problem: Problem
    method: Method
    seeds: tuple[int, ...]
    budget: int
    time_limit: float | None

    @property
    def keys(self) -> list[Key]:
        """The units."""
        return [(self.problem.name, self.method.name, seed) for seed in self.seeds]

    def __call__(self) -> tuple[list[Unit], str]:
        """What has come of the units, and where they ran."""
        units = None
        if len(self.seeds) > 1 and isinstance(self.method, Lockstep):
            units = run_together(self.problem, self.method, self.seeds, self.budget, self.time_limit)
        if units is None:
            units = [
                run_unit(self.problem, self.method, seed, self.budget, self.time_limit) for seed in self.seeds
            ]
        return units, environment()

    def alone(self) -> "list[Job]":
        """A job for each of the units."""
        return [replace(self, seeds=(seed,)) for seed in self.seeds]

    def crashed(self, reason: str) -> list[Unit]:
        """The units, without any evaluation."""
        return [Unit(*key, "crashed", reason, 0.0, 1, ()) for key in self.keys]


def chosen_problems(given: str | Problem | Sequence[str | Problem]) -> list[Problem]:
    parts = [given] if isinstance(given, str | Problem) else given
    found = [p for part in parts for p in (problems_of(part) if isinstance(part, str) else [part])]
    for problem in found:
        if not isinstance(problem, Problem):
            raise DataError(f"a problem must be a name or a Problem, got {described(problem)}")
    _check_names("problem", [problem.name for problem in found])
    if several := [problem.name for problem in found if problem.space.fidelities]:
        raise DataError(f"problems of a suite must have one fidelity, to be compared by value, got {several}")
    return found


def chosen_methods(given: str | Method | Sequence[str | Method]) -> list[Method]:
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    parts = [given] if isinstance(given, Method) else given
    found = [get_method(part) if isinstance(part, str) else part for part in parts]
    for method in found:
        if isinstance(method, type) or not isinstance(method, Method):
            law = "a method must be a name or an object with `name` and `start`"
            raise DataError(f"{law}, got {described(method)}")
    _check_names("method", [method.name for method in found])
    return found


def _check_names(kind: str, names: Sequence[object]) -> None:
    if odd := [name for name in names if not isinstance(name, str) or not name]:
        law = f"the name of a {kind} must be a string that is not empty"
        raise DataError(f"{law}, got {described(odd[0])}")
    if odd := [name for name in names if plain_text(name, sys.maxsize) != name]:
        law = f"the name of a {kind} must have no lone surrogates, which cannot be stored"
        raise DataError(f"{law}, got {described(odd[0])}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if not names or twice:
        raise DataError(f"a suite needs a {kind}, and names of {kind}s that differ, got {twice or 'none'}")


def all_jobs(
    problems: Sequence[Problem],
    methods: Sequence[Method],
    seeds: Sequence[int],
    budget: int,
    time_limit: float | None,
    together: int,
) -> list[Job]:
    """Units that run together first, for they take longest; then seed by seed, for an early end is fair."""
    if not isinstance(seeds, Iterable):
        raise DataError(f"seeds must be several integers, such as range(20), got {described(seeds)}")
    whole = [require_int("a seed", seed, at_least=0) for seed in seeds]
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
                jobs.append(Job(problem, method, part, budget, time_limit))
    return large + sorted(small, key=lambda job: whole.index(job.seeds[0]))


def check_picklable(jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            pickle.dumps(job)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise DataError(
                "problems and methods must be picklable, for other processes (workers=1 sends none), "
                f"got {job.problem.name}, {job.method.name}: {error_text(error)}"
            ) from error


def agree(
    store: Store,
    problems: Sequence[Problem],
    methods: Sequence[Method],
    budget: int,
    time_limit: float | None,
) -> None:
    """Makes sure that names in the records stand for what they stood for in earlier runs."""
    for problem in problems:
        numbers = {"minimum": problem.minimum, "best_known": problem.best_known, "noise": problem.noise}
        limits = {"budget": budget, "time_limit": time_limit}
        form = {"dim": problem.space.dim, "space": problem.space.fingerprint}
        store.agree("problems", "problem", problem.name, numbers | limits | form)
    for method in methods:
        plain = type(method).__repr__ is object.__repr__
        text = described(vars(method) if plain else method, sys.maxsize)
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)  # functions are shown with their addresses
        shown = shortened(f"{type(method).__name__} {text}" if plain else text, LONGEST)
        store.agree("methods", "method", method.name, {"method": shown})
