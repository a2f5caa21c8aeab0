"""Several objectives and constrained outcomes of the same rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jaxtyping as jt
from torch import Tensor

from bo_suite.errors import DataError

MISSING = 1e6
"""Noise variance of values that were not measured, which outcomes of variance 1 do not notice."""


@dataclass(frozen=True)
class LinearObjectives:
    """Several objectives on a scale that is linear in the user's units, beside that of `Outcomes.y`.

    Attributes:
        y: outcomes of mean 0 and variance 1, NaN where one was not measured.
        log_slope: log of the derivative of `Outcomes.y` by y.
        scaled: values of the objectives in the user's units on this scale.
    """

    y: jt.Float[Tensor, "*b k n"]
    log_slope: jt.Float[Tensor, "*b k n"]
    scaled: Callable[[Sequence[float]], Sequence[float]]


@dataclass(frozen=True)
class Outcomes:
    """Named outcomes of the same rows: objectives first, then those that must lie in intervals.

    With one objective it holds the constrained outcomes alone: the objective is `Dataset.y`.

    Attributes:
        x: rows with at least one outcome.
        y: outcomes, NaN where one was not measured: objectives on the surrogate's scale, minimised; numbers
            that must lie in an interval as distances from its boundary, of which the typical one is 1.
        objectives: number of objectives in y, the first outcomes: 0, or at least 2.
        low: lower end of the interval of each outcome, on the scale of y; -inf for an objective.
        high: upper end of the interval; inf for an objective.
        noise: known observation variances on that scale, NaN where unknown; None when all are unknown.
        labels: number of labels, the last outcomes: 1 if a constraint is met, else 0.
        violation: by how much rows violate constraints: 0 if all that were measured are met, summed over
            constraints otherwise, inf if none was measured; None without constraints.
        scaled: values of the objectives in the user's units on the scale of y; None if the scales are equal.
        linear: the objectives on a linear scale; None if there is none.

    Raises:
        DataError: the shapes do not fit together, or an outcome is infinite.
    """

    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b o n"]
    objectives: int
    low: jt.Float[Tensor, "*b o"]
    high: jt.Float[Tensor, "*b o"]
    noise: jt.Float[Tensor, "*b o n"] | None = None
    labels: int = 0
    violation: jt.Float[Tensor, "*b n"] | None = None
    scaled: Callable[[Sequence[float]], Sequence[float]] | None = None
    linear: LinearObjectives | None = None

    def __post_init__(self) -> None:
        lead, n = self.x.shape[:-2], self.x.shape[-2]
        if self.y.shape[:-2] != lead or self.y.shape[-1] != n or self.low.shape != self.y.shape[:-1]:
            raise DataError(
                "x must be (*b, n, d), y (*b, o, n), low and high (*b, o), got "
                f"{tuple(self.x.shape)}, {tuple(self.y.shape)} and {tuple(self.low.shape)}"
            )
        if bool(self.y.isinf().any()):
            raise DataError("outcomes must be finite, or NaN where one was not measured")

    @property
    def constraints(self) -> int:
        """Number of constrained outcomes."""
        return self.y.shape[-2] - self.objectives
