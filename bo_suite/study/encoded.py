"""Trials as rows, with what is known of each beside its outcome."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jaxtyping as jt
import torch

from bo_suite.space.parameters import Choice, Parameter
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial

_WIDEST = 1e3
"""Largest standard deviation of a column, whose range is 1: a larger one says nothing more."""


class EncodedTrials(NamedTuple):
    """Encoded trials, and what is known of each.

    Attributes:
        x: the rows.
        outside: which of these are outside of the space.
        gradient: derivatives of the values in the user's units by the columns, NaN where unknown.
        x_std: standard deviations of what was really set, in the units of the columns.
    """

    x: jt.Float64[torch.Tensor, "n d"]
    outside: jt.Bool[torch.Tensor, " n"]
    gradient: jt.Float64[torch.Tensor, "n d"]
    x_std: jt.Float64[torch.Tensor, "n d"]

    @staticmethod
    def of(space: Space, trials: Sequence[Trial]) -> "EncodedTrials":
        """The rows of trials, which may have more parameters than the space.

        A column u holds the position of a parameter v, so df/du = df/dv dv/du, and a small deviation s of v
        is one of s / (dv/du) of u, where dv/du is the parameter's `slope` at the point.

        Args:
            space: of the columns.
            trials: with any points that the space accepts.
        """
        points = [
            {name: p[name] for name in space.names if name in p} for p in (one.params for one in trials)
        ]
        outside = [not space.contains(point) for point in points]
        x = space.encode(points)
        gradient, x_std = torch.full_like(x, math.nan), torch.zeros_like(x)
        for row, (trial, point) in enumerate(zip(trials, points, strict=True)):
            derivatives, deviations = trial.gradient or {}, trial.params_std or {}
            if derivatives or deviations:
                slope = x.new_tensor([_slope(parameter, point.get(name)) for name, parameter in space])
                gradient[row] = slope * x.new_tensor(
                    [derivatives.get(name, math.nan) for name in space.names]
                )
                x_std[row] = x.new_tensor([deviations.get(name, 0.0) for name in space.names]) / slope
        x_std = x_std.nan_to_num(0.0).clamp(max=_WIDEST)
        return EncodedTrials(x, torch.tensor(outside, dtype=torch.bool, device="cpu"), gradient, x_std)

    def at(self, index: slice | torch.Tensor) -> "EncodedTrials":
        """Some of the trials."""
        return EncodedTrials(*(part[index] for part in self))

    def joined(self, other: "EncodedTrials") -> "EncodedTrials":
        """The trials, and others after these."""
        return EncodedTrials(*(torch.cat(pair) for pair in zip(self, other, strict=True)))

    @property
    def known_gradient(self) -> jt.Float64[torch.Tensor, "n d"] | None:
        """`gradient`, or None if all derivatives are unknown."""
        return None if bool(self.gradient.isnan().all()) else self.gradient

    @property
    def known_x_std(self) -> jt.Float64[torch.Tensor, "n d"] | None:
        """`x_std`, or None if all rows are exact."""
        return self.x_std if bool(self.x_std.any()) else None


def _slope(parameter: Parameter, value: Any) -> float:
    """The slope of a parameter at a value; NaN if it is a Choice, inactive, or has a single value."""
    if value is None or isinstance(parameter, Choice) or parameter.levels == 1:
        return math.nan
    return parameter.slope(value)
