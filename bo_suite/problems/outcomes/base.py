"""A problem of several outcomes: objectives with directions, and outcomes that must lie in intervals."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import SupportsFloat

from bo_suite.errors import DataError
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.values.describe import described


@dataclass(frozen=True)
class OutcomeProblem:
    """A function from points to outcomes by name, without noise.

    What a run has found is one number, its merit, smaller is better. With one objective it is the best
    feasible value so far (negated if the objective is maximised), and there is none before a feasible point.
    With several it is minus the hypervolume that the feasible points so far dominate, up to the reference
    point. So regret is the feasible regret, or the gap to the largest hypervolume.

    Attributes:
        name: Identifies the problem in reports.
        space: Space to search.
        function: Outcomes by name of a point in canonical form (every parameter once, in the order of the
            space): the names of the goals and no others. Picklable: a function of a module or a frozen
            callable, not a lambda.
        goals: Objectives with directions, and constraints: `Goals.of(direction, constraints)`.
        reference: Reference point of the hypervolume in the order of the objectives, in the user's units;
            () with one objective.
        optimum: The best feasible value of the one objective, or the largest hypervolume; None if unknown.
        best_seen: Equals the optimum if that is known, and None is replaced by it. Otherwise the best value
            or hypervolume seen so far, which is not proven to be the best, or None.

    Raises:
        DataError: an empty name, a reference point of another length than the objectives (or of one
            objective), or a best value seen that differs from the optimum.
    """

    name: str
    space: Space
    function: Callable[[Params], Mapping[str, SupportsFloat]]
    goals: Goals
    reference: tuple[float, ...] = ()
    optimum: float | None = None
    best_seen: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise DataError(f"a problem's name must be a non-empty string, got {described(self.name)}")
        for field, kind in (("space", Space), ("goals", Goals)):
            if not isinstance(value := getattr(self, field), kind):
                raise DataError(f"a problem's {field} must be a {kind.__name__}, got {described(value)}")
        if not callable(self.function):
            raise DataError(f"a problem's function must be callable, got {described(self.function)}")
        count = len(self.goals.objectives) if self.goals.several else 0
        object.__setattr__(self, "reference", tuple(map(float, self.reference)))
        if len(self.reference) != count or not all(map(math.isfinite, self.reference)):
            raise DataError(
                f"a problem needs a reference point of a finite number for each of several objectives, and "
                f"none for one, got {self.reference} for {len(self.goals.objectives)}"
            )
        for field in ("optimum", "best_seen"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise DataError(f"{field} must be a finite number or None, got {value!r}")
        if self.best_seen is None:
            object.__setattr__(self, "best_seen", self.optimum)
        elif self.optimum is not None and self.best_seen != self.optimum:
            raise DataError(
                "`best_seen == optimum` must hold if the optimum is known, "
                f"got best_seen={self.best_seen!r}, optimum={self.optimum!r}"
            )

    @property
    def minimum(self) -> float | None:
        """The smallest possible merit; None if unknown."""
        return None if self.optimum is None else self._merit_of(self.optimum)

    @property
    def best_known(self) -> float | None:
        """The smallest merit seen so far; the minimum if that is known."""
        return None if self.best_seen is None else self._merit_of(self.best_seen)

    def _merit_of(self, best: float) -> float:
        return -best if self.goals.several else self.goals.objectives[0].sign * best

    @property
    def reference_losses(self) -> tuple[float, ...]:
        """The reference point with the sign of objectives to maximise changed."""
        return tuple(
            one.sign * value for one, value in zip(self.goals.objectives, self.reference, strict=False)
        )

    def __call__(self, params: Params) -> dict[str, float]:
        """The outcomes of a point, in the order of the names of the goals.

        Raises:
            SpaceError: params are not a point of the space.
            DataError: the function returns other names, or a number that is not finite.
        """
        outcomes = self.function(self.space.check(params))
        if not isinstance(outcomes, Mapping) or set(outcomes) != set(self.goals.names):
            names = sorted(self.goals.names)
            raise DataError(f"{self.name} must return the outcomes {names}, got {described(outcomes)}")
        numbers = {name: float(outcomes[name]) for name in self.goals.names}
        if infinite := [name for name, value in numbers.items() if not math.isfinite(value)]:
            raise DataError(f"an outcome must be a finite number, got {infinite[0]}={numbers[infinite[0]]}")
        return numbers
