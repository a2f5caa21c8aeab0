"""Learning curves: outcomes of configurations after each of several steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.linalg.environment import differentiable


@dataclass(frozen=True)
class Curves:
    """Reports of configurations on one grid of steps, of `*b` replicates.

    Attributes:
        x: configurations that have reported, encoded as the rows of a `Dataset`.
        steps: ascending steps divided by the largest step, in (0, 1]; the last one is 1.
        y: outcomes after each step, on the scale of `Dataset.y`; NaN where none was reported. A row of NaN
            alone says nothing: it fills up a replicate with fewer configurations than another.
        seconds: that a step of each configuration takes, NaN where that is not known; None if it never is.

    Raises:
        DataError: the shapes do not fit together, a step is out of order or range, or a value is infinite.
    """

    x: jt.Float[Tensor, "*b n d"]
    steps: jt.Float[Tensor, " t"]
    y: jt.Float[Tensor, "*b n t"]
    seconds: jt.Float[Tensor, "*b n"] | None = None

    def __post_init__(self) -> None:
        for name in ("x", "steps", "y"):
            object.__setattr__(self, name, differentiable(getattr(self, name)))
        if self.x.ndim < 2 or self.steps.ndim != 1 or self.y.shape != (*self.x.shape[:-1], *self.steps.shape):
            raise DataError(
                "x must be (*b, n, d), steps (t,) and y (*b, n, t), got "
                f"{tuple(self.x.shape)}, {tuple(self.steps.shape)} and {tuple(self.y.shape)}"
            )
        ascending = bool((self.steps.diff() > 0).all()) and bool((self.steps > 0).all())
        if not len(self.steps) or not ascending or float(self.steps[-1]) != 1.0:
            raise DataError(f"steps must ascend within (0, 1] and end at 1, got {self.steps.tolist()!s:.100}")
        if not bool(torch.isfinite(self.x).all()) or bool(self.y.isinf().any()):
            raise DataError("inputs must be finite, and outcomes finite or NaN where none was reported")

    @property
    def observed(self) -> jt.Bool[Tensor, "*b n t"]:
        """Which outcomes were reported."""
        return ~self.y.isnan()

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Curves":
        """The curves with another form of the tensors that have replicates."""
        x = change(self.x)
        seconds = None if self.seconds is None else change(self.seconds)
        return replace(self, x=x, steps=self.steps.to(x.device), y=change(self.y), seconds=seconds)
