"""The units of a suite as jobs for workers, and the checks of problems and methods."""

import math
import pickle
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from bo_suite.bench.environment import environment
from bo_suite.bench.merit import require_moocore
from bo_suite.bench.method import AnyMethod, BatchMethod, Method, OutcomeMethod
from bo_suite.bench.peers import get_method
from bo_suite.bench.store import Key, Store
from bo_suite.bench.suite import problems_of
from bo_suite.bench.unit import Unit, run_together, run_unit
from bo_suite.errors import DataError
from bo_suite.problems import Problem
from bo_suite.problems.outcomes import AnyProblem, OutcomeProblem
from bo_suite.values.describe import LONGEST, described, error_text, plain_text, shortened
from bo_suite.values.numbers import require_int


@dataclass(frozen=True)
class Limits:
    """The limits of each unit.

    Attributes:
        budget: number of evaluations.
        time_limit: seconds; None for no limit.

    Raises:
        TrialError: the budget is not an integer of at least 1.
        DataError: the time limit is not a positive number.
    """

    budget: int
    time_limit: float | None = None

    def __post_init__(self) -> None:
        require_int("budget", self.budget, at_least=1)
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise DataError(f"`0 < time_limit < inf` must hold, got {self.time_limit}")


@dataclass(frozen=True)
class Job:
    """Units of one method on one problem, for one worker.

    Attributes:
        problem: problem to minimise.
        method: suggests the points.
        seeds: one per unit; several run as one tensor program.
        limits: of each unit.
    """

    problem: AnyProblem
    method: AnyMethod
    seeds: tuple[int, ...]
    limits: Limits

    @property
    def keys(self) -> list[Key]:
        """Keys of the units."""
        return [(self.problem.name, self.method.name, seed) for seed in self.seeds]

    def __call__(self) -> tuple[list[Unit], str]:
        """Runs the units; returns them and a description of the environment."""
        units, limits = None, (self.limits.budget, self.limits.time_limit)
        if len(self.seeds) > 1 and isinstance(self.method, BatchMethod) and isinstance(self.problem, Problem):
            units = run_together(self.problem, self.method, self.seeds, *limits)
        if units is None:
            units = [run_unit(self.problem, self.method, seed, *limits) for seed in self.seeds]
        return units, environment()

    def alone(self) -> "list[Job]":
        """One job per unit."""
        return [replace(self, seeds=(seed,)) for seed in self.seeds]

    def crashed(self, reason: str) -> list[Unit]:
        """The units as crashed, without evaluations."""
        return [Unit(*key, "crashed", reason, 0.0, 1, ()) for key in self.keys]


def chosen_problems(specs: str | AnyProblem | Sequence[str | AnyProblem]) -> list[AnyProblem]:
    """The problems that names of problems or suites, or Problems, stand for.

    Raises:
        DataError: an unknown name, an object that is not a Problem or an OutcomeProblem, equal names, no
            problem, fidelities, or several objectives without the library for hypervolumes.
    """
    entries = [specs] if isinstance(specs, str | Problem | OutcomeProblem) else specs
    problems = [p for entry in entries for p in (problems_of(entry) if isinstance(entry, str) else [entry])]
    for problem in problems:
        if not isinstance(problem, Problem | OutcomeProblem):
            raise DataError(f"a problem must be a name or a Problem, got {described(problem)}")
    _check_names("problem", [problem.name for problem in problems])
    if several := [problem.name for problem in problems if problem.space.fidelities]:
        raise DataError(f"problems of a suite must have one fidelity, to be compared by value, got {several}")
    if any(isinstance(problem, OutcomeProblem) and problem.goals.several for problem in problems):
        require_moocore()
    return problems


def chosen_methods(specs: str | AnyMethod | Sequence[str | AnyMethod]) -> list[AnyMethod]:
    """The methods that names, or Methods, stand for.

    Raises:
        DataError: an unknown name, an object that is not a Method, equal names, or no method.
        ImportError: the library of a method is not installed.
    """
    if isinstance(specs, str):
        specs = [name.strip() for name in specs.split(",")]
    entries = [specs] if isinstance(specs, Method | OutcomeMethod) else specs
    methods = [get_method(entry) if isinstance(entry, str) else entry for entry in entries]
    for method in methods:
        if isinstance(method, type) or not isinstance(method, Method | OutcomeMethod):
            law = "a method must be a name or an object with `name` and `start`, or `start_outcomes`"
            raise DataError(f"{law}, got {described(method)}")
    _check_names("method", [method.name for method in methods])
    return methods


def check_goals(problems: Sequence[AnyProblem], methods: Sequence[AnyMethod]) -> None:
    """Raises a DataError if a method cannot run on one of the problems."""
    for problem in problems:
        for method in methods:
            if isinstance(problem, OutcomeProblem):
                fits = isinstance(method, OutcomeMethod) and method.accepts(problem.goals)
                needed = str(problem.goals)
            else:
                fits, needed = isinstance(method, Method), "one value"
            if not fits:
                law = f"every method must accept the goals of every problem ({problem.name}: {needed})"
                raise DataError(f"{law}, got {method.name}")


def _check_names(kind: str, names: Sequence[object]) -> None:
    """Raises a DataError unless there are names, all different non-empty strings that can be stored."""
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise DataError(f"the name of a {kind} must be a non-empty string, got {described(wrong[0])}")
    if wrong := [name for name in names if plain_text(name, sys.maxsize) != name]:
        law = f"the name of a {kind} must have no lone surrogates, which cannot be stored"
        raise DataError(f"{law}, got {described(wrong[0])}")
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if not names or duplicates:
        raise DataError(f"a suite needs {kind}s with different names, got {duplicates or 'none'}")


def all_jobs(
    problems: Sequence[AnyProblem],
    methods: Sequence[AnyMethod],
    seeds: Sequence[int],
    limits: Limits,
    seeds_per_batch: int,
) -> list[Job]:
    """Jobs in the order in which they run.

    Batches run first, as they take longest; then single units, seed by seed, so that methods are comparable
    if the run ends early.

    Args:
        problems: of the suite.
        methods: to compare.
        seeds: of the units.
        limits: of each unit.
        seeds_per_batch: most seeds that run as one tensor program.

    Raises:
        TrialError, DataError: seeds that are not different integers in [0, 2**63).
    """
    if not isinstance(seeds, Iterable):
        raise DataError(f"seeds must be several integers, such as range(20), got {described(seeds)}")
    integers = [require_int("a seed", seed, at_least=0) for seed in seeds]
    if not integers or len(set(integers)) < len(integers) or max(integers) >= 2**63:
        raise DataError(f"seeds must be given, differ and be less than 2**63, got {integers}")
    batches, single = list[Job](), list[Job]()
    for problem in problems:
        for method in methods:
            in_rows = isinstance(problem, Problem) and problem.vectorized is not None
            batched = in_rows and isinstance(method, BatchMethod) and method.lockstep
            size = seeds_per_batch if batched else 1
            for first in range(0, len(integers), size):
                batch = tuple(integers[first : first + size])
                jobs = batches if len(batch) > 1 else single
                jobs.append(Job(problem, method, batch, limits))
    return batches + sorted(single, key=lambda job: integers.index(job.seeds[0]))


def check_picklable(jobs: Sequence[Job]) -> None:
    """Raises a DataError if a job cannot be pickled for a worker process."""
    for job in jobs:
        try:
            pickle.dumps(job)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise DataError(
                "problems and methods must be picklable for worker processes (workers=1 needs none), "
                f"got {job.problem.name}, {job.method.name}: {error_text(error)}"
            ) from error


def check_or_store(
    store: Store, problems: Sequence[AnyProblem], methods: Sequence[AnyMethod], limits: Limits
) -> None:
    """Stores the definitions of problems and methods, or checks that they equal those of earlier runs.

    Raises:
        StorageError: a name has another definition in the store.
    """
    for problem in problems:
        numbers: dict[str, object] = {"minimum": problem.minimum, "best_known": problem.best_known}
        form: dict[str, object] = {"dim": problem.space.dim, "space": problem.space.fingerprint}
        if isinstance(problem, OutcomeProblem):
            goals = {"direction": problem.goals.direction, "constraints": problem.goals.limits}
            form |= {"noise": 0.0, "goals": {**goals, "reference": list(problem.reference)}}
        else:
            form["noise"] = problem.noise
        if isinstance(problem, Problem) and problem.noise_model is not None:
            form["noise_model"] = described(problem.noise_model, sys.maxsize)
        store.agree("problems", "problem", problem.name, numbers | asdict(limits) | form)
    for method in methods:
        plain = type(method).__repr__ is object.__repr__
        text = described(vars(method) if plain else method, sys.maxsize)
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", text)  # the repr of a function has its address
        shown = shortened(f"{type(method).__name__} {text}" if plain else text, LONGEST)
        store.agree("methods", "method", method.name, {"method": shown})
