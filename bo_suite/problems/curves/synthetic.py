"""Learning curves by formula, for tests and examples."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bo_suite.errors import DataError
from bo_suite.problems.curves.base import Curve
from bo_suite.space.parameters import Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.values.numbers import require_int

_SPACE = Space({"rate": Float(1e-3, 1.0, log=True), "width": Int(4, 256, log=True)})
_BEST_RATE = 0.35  # on the log scale from 0 to 1
_BEST_WIDTH = 0.7


@dataclass(frozen=True)
class SlowStarters:
    """Losses that fall from 1 at the speed of `rate`; the best points fall slowly, so that curves cross.

    With u and w in [0, 1] the log scales of `rate` and `width`, and T the last step, the loss after step t is
    f + (1 - f) exp(-3 (1 + 6 u) t / T), where f = 0.1 + 0.6 (u - 0.35)^2 + 0.3 (w - 0.7)^2 is about the loss
    at T, and a step takes 0.5 + 2 w seconds. Smaller is better. A large rate is ahead early and behind late.

    Attributes:
        max_step: the number of steps of a whole evaluation.
        name: identifies the problem.

    Raises:
        DataError: max_step < 1.
    """

    max_step: int = 27
    name: str = "slow_starters"

    def __post_init__(self) -> None:
        require_int("max_step", self.max_step, at_least=1, error=DataError)

    @property
    def space(self) -> Space:
        """`rate` in [0.001, 1] and `width` in 4, ..., 256, both on a log scale."""
        return _SPACE

    @property
    def direction(self) -> Literal["minimize"]:
        """The loss is to be small."""
        return "minimize"

    def curve(self, params: Params) -> Curve:
        """The losses and times; raises a SpaceError if params are not a point of the space."""
        point = _SPACE.check(params)
        u = math.log(point["rate"] / 1e-3) / math.log(1e3)
        w = math.log(point["width"] / 4) / math.log(64)
        floor = 0.1 + 0.6 * (u - _BEST_RATE) ** 2 + 0.3 * (w - _BEST_WIDTH) ** 2
        steps = np.arange(1, self.max_step + 1, dtype=np.float64)
        values = floor + (1.0 - floor) * np.exp(-3.0 * (1.0 + 6.0 * u) * steps / self.max_step)
        return Curve(values, np.asarray((0.5 + 2.0 * w) * steps))
