"""What is compared: a method, told of a task, asks for points and is told what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space

if TYPE_CHECKING:  # a method in a process of its own need not bring what these import
    from bo_suite.bench.replicates import Replicates
    from bo_suite.problems import Problem


@dataclass(frozen=True)
class Task:
    """What a method is told: where to search, how often, and whether observations are noisy."""

    space: Space
    seed: int
    budget: int
    noisy: bool


@runtime_checkable
class Run(Protocol):
    """A method at work on one task."""

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last, smaller is better."""

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcome."""

    def provenance(self) -> dict[str, Any]:
        """Where the last point came from, as JSON; {} where there is nothing to say."""


@runtime_checkable
class Method(Protocol):
    """A frozen, picklable configuration of an optimiser."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    def start(self, task: Task) -> Run:
        """The method at the start of a task."""


@runtime_checkable
class Lockstep(Protocol):
    """A method that can run many seeds of a problem as one tensor program."""

    @property
    def name(self) -> str:
        """Identifies the method in records and reports."""

    @property
    def lockstep(self) -> bool:
        """Whether it can, configured as it is, with each run as it would be alone."""

    def replicates(self, problem: "Problem", seeds: Sequence[int], budget: int) -> "Replicates":
        """The runs of all seeds."""


def inside(space: Space, params: Params) -> Params:
    """The point in canonical form, its numbers moved to the nearest bound where they are beyond one.

    Some libraries return the bounds of a log scale with a rounding error.

    Raises:
        SpaceError: a parameter missing, unknown or of the wrong type.
    """
    moved = dict(params)
    for name, parameter in space:
        if name in params and not isinstance(parameter, Choice):
            moved[name] = min(max(params[name], parameter.low), parameter.high)
    return space.check(moved)
