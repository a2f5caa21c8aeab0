"""A problem whose evaluation takes many steps, with an outcome and a time after each."""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bo_suite.space.space import Params, Space


class Curve(NamedTuple):
    """A whole evaluation.

    Attributes:
        values: the outcome after each step, (max_step,), in the user's units and direction.
        seconds: that the evaluation has taken up to each step, (max_step,); strictly increasing, above 0.
    """

    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


@runtime_checkable
class LearningCurves(Protocol):
    """A frozen, picklable value that gives the whole curve of every point, the same at every call."""

    @property
    def name(self) -> str:
        """Identifies the problem in records and reports."""

    @property
    def space(self) -> Space:
        """The space to search."""

    @property
    def max_step(self) -> int:
        """The number of steps of a whole evaluation."""

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Whether smaller or larger outcomes are better."""

    def curve(self, params: Params) -> Curve:
        """The outcomes and the times of a point of the space."""
