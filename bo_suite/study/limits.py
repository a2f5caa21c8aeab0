"""The map of a constrained outcome from the user's units to the scale of a surrogate."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.storage.goals import Constraint

_FARTHEST = 1e9
"""Distances from a boundary are clipped here, in typical ones."""


@dataclass(frozen=True)
class LimitTransform:
    """t(c) = (c - boundary) / size.

    The boundary is the only end of the interval, or the middle of two; the size is the median distance of
    outcomes from it, and at least half the width of an interval with two ends.
    """

    boundary: float
    size: float

    @staticmethod
    def fit(values: jt.Float64[Tensor, " n"], constraint: Constraint) -> "LimitTransform":
        """The transform fitted to the measured outcomes, n >= 1, in the user's units."""
        low, high = constraint.low, constraint.high
        boundary, half = low if math.isinf(high) else high, 0.0
        if math.isfinite(low) and math.isfinite(high):
            boundary, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        distance = 2.0 * float((0.5 * values - 0.5 * boundary).abs().quantile(0.5))
        size = min(max(distance, half), torch.finfo(values.dtype).max) or 1.0
        return LimitTransform(boundary, size)

    def __call__(self, values: jt.Float64[Tensor, " n"]) -> jt.Float64[Tensor, " n"]:
        """Outcomes on the surrogate's scale; infinite ones, as ends of intervals, stay infinite."""
        z = values / self.size - self.boundary / self.size
        return torch.where(values.isinf(), values, z.clamp(-_FARTHEST, _FARTHEST))

    def noise(self, std: jt.Float64[Tensor, " n"]) -> jt.Float64[Tensor, " n"]:
        """Variances on the surrogate's scale of outcomes with standard deviations std."""
        return (std / self.size).clamp(max=_FARTHEST).square()

    def violation(self, values: jt.Float64[Tensor, " n"], constraint: Constraint) -> jt.Float64[Tensor, " n"]:
        """log(1 + the distance from the interval in sizes); 0 inside."""
        outside = torch.maximum(constraint.low - values, values - constraint.high).clamp(min=0.0)
        least = torch.where(outside > 0.0, 1e-12, 0.0)  # a distance that underflows stays a violation
        return torch.maximum(torch.log1p(outside / self.size), least)
