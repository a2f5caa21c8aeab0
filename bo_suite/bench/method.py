"""The protocols of a method: it starts a run on a task, which suggests points and takes their outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals

if TYPE_CHECKING:  # a method in its own interpreter need not have what these import
    from bo_suite.bench.replicates import Replicates
    from bo_suite.problems import Problem


@dataclass(frozen=True)
class Task:
    """The input of a method: space, seed, number of evaluations, and whether observations are noisy."""

    space: Space
    seed: int
    budget: int
    noisy: bool


@dataclass(frozen=True)
class OutcomeTask:
    """The input of a method on a problem of several outcomes.

    Attributes:
        space: to search.
        seed: of the run.
        budget: number of evaluations.
        goals: objectives with directions, and constraints.
        reference: reference point of the hypervolume in the order of the objectives, in the user's units; ()
            with one objective. Only methods whose documentation asks for one use it.
    """

    space: Space
    seed: int
    budget: int
    goals: Goals
    reference: tuple[float, ...] = ()


@runtime_checkable
class Run(Protocol):
    """The run of a method on one task."""

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the last suggested point, smaller is better."""

    def fail(self, params: Params, reason: str) -> None:
        """Takes the failure of the last suggested point."""

    def provenance(self) -> dict[str, Any]:
        """How the last point was chosen, as JSON; {} if unknown."""


@runtime_checkable
class OutcomeRun(Protocol):
    """The run of a method on one task of several outcomes."""

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        """Takes the outcomes by name of the last suggested point, in the user's units."""

    def fail(self, params: Params, reason: str) -> None:
        """Takes the failure of the last suggested point."""

    def provenance(self) -> dict[str, Any]:
        """How the last point was chosen, as JSON; {} if unknown."""


@runtime_checkable
class Method(Protocol):
    """A frozen, picklable configuration of an optimiser."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    def start(self, task: Task) -> Run:
        """Starts a run on a task."""


@runtime_checkable
class OutcomeMethod(Protocol):
    """A frozen, picklable configuration of an optimiser for several outcomes; it may be a `Method` too."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    def accepts(self, goals: Goals) -> bool:
        """Whether it can pursue the goals: their numbers of objectives and constraints."""

    def start_outcomes(self, task: OutcomeTask) -> OutcomeRun:
        """Starts a run on a task whose goals it accepts."""


AnyMethod = Method | OutcomeMethod
"""A method for problems of one value, of several outcomes, or of both."""


@runtime_checkable
class BatchMethod(Protocol):
    """A method that can run many seeds of a problem as one tensor program."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    @property
    def lockstep(self) -> bool:
        """Whether this configuration can, with each run equal to its solo run."""

    def replicates(self, problem: "Problem", seeds: Sequence[int], budget: int) -> "Replicates":
        """Runs all seeds."""


def inside(space: Space, params: Params) -> Params:
    """The point in canonical form, with numbers clipped to their bounds and rounded to their steps.

    Some libraries return the bounds of a log scale with a rounding error, and most know no steps.

    Raises:
        SpaceError: a parameter is missing, unknown or of the wrong type.
    """
    moved = dict(params)
    for name, parameter in space:
        if name in params and not isinstance(parameter, Choice):
            moved[name] = min(max(params[name], parameter.low), parameter.high)
            if parameter.has_step:
                moved[name] = parameter.decode(parameter.encode(moved[name]))
    return space.check(moved)


def task_to_json(task: Task | OutcomeTask) -> dict[str, Any]:
    """The task in JSON values, for a method in another process."""
    fields: dict[str, Any] = {"space": task.space.to_dict(), "seed": task.seed, "budget": task.budget}
    if isinstance(task, Task):
        return fields | {"noisy": task.noisy}
    goals = {"direction": task.goals.direction, "constraints": task.goals.limits}
    return fields | {"goals": goals, "reference": list(task.reference)}


def task_from_json(fields: dict[str, Any]) -> Task | OutcomeTask:
    """The task that `task_to_json` returned as `fields`."""
    space = Space.from_dict(fields["space"])
    if "goals" not in fields:
        return Task(**fields | {"space": space})
    goals, reference = Goals.of(**fields["goals"]), tuple(fields["reference"])
    return OutcomeTask(**fields | {"space": space, "goals": goals, "reference": reference})
