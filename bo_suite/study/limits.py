"""The map of a constrained outcome from the user's units to the scale of a surrogate."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.storage.goals import Constraint

_FARTHEST = 10.0
"""Distances from the boundary are clipped at so many times their median: outliers would hide the boundary."""


@dataclass(frozen=True)
class LimitTransform:
    """z = (clip((c - boundary) / size, ±10) - location) / spread: mean 0 and variance 1.

    The boundary is the only end of the interval, or the middle of two; the size is the median distance of
    outcomes from it, and at least half the width of an interval with two ends.
    """

    boundary: float
    size: float
    location: float
    spread: float

    @staticmethod
    def fit(values: jt.Float64[Tensor, " n"], constraint: Constraint) -> "LimitTransform":
        """The transform fitted to the measured outcomes, n >= 1, in the user's units."""
        low, high = constraint.low, constraint.high
        boundary, half = low if math.isinf(high) else high, 0.0
        if math.isfinite(low) and math.isfinite(high):
            boundary, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        size = max(float((0.5 * values - 0.5 * boundary).abs().quantile(0.5)) * 2.0, half) or 1.0
        unscaled = LimitTransform(boundary, min(size, torch.finfo(values.dtype).max), 0.0, 1.0)
        clipped = unscaled(values)
        location = float(clipped.mean())
        spread = float((clipped - location).square().mean().sqrt())
        return LimitTransform(boundary, unscaled.size, location, spread if spread > 1e-9 else 1.0)

    def __call__(self, values: jt.Float64[Tensor, " n"]) -> jt.Float64[Tensor, " n"]:
        """Outcomes on the surrogate's scale; infinite ones, as ends of intervals, stay infinite."""
        relative = values / self.size - self.boundary / self.size
        clipped = torch.where(values.isinf(), values, relative.clamp(-_FARTHEST, _FARTHEST))
        return (clipped - self.location) / self.spread

    def noise(self, std: jt.Float64[Tensor, " n"]) -> jt.Float64[Tensor, " n"]:
        """Variances on the surrogate's scale, of outcomes with standard deviations std."""
        return (std / self.size / self.spread).clamp(max=1e3).square()

    def violation(self, values: jt.Float64[Tensor, " n"], constraint: Constraint) -> jt.Float64[Tensor, " n"]:
        """The distance from the interval, in sizes and at most 10; 0 inside."""
        outside = torch.maximum(constraint.low - values, values - constraint.high).clamp(min=0.0)
        least = torch.where(outside > 0.0, 1e-12, 0.0)  # a distance that underflows stays a violation
        return torch.maximum((outside / self.size).clamp(max=_FARTHEST), least)
