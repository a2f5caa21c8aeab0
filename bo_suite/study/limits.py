"""The map of a constrained outcome from the user's units to the scale of a surrogate."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.storage.goals import Constraint

_WORST_STD = 1e3
"""Standard deviations of the noise are clipped here; outcomes have standard deviation 1."""


@dataclass(frozen=True)
class LimitTransform:
    """t(c) = (sign(z) log(1 + |z|) - location) / spread, z = (c - boundary) / size: mean 0 and variance 1.

    The boundary is the only end of the interval, or the middle of two; the size is the median distance of
    outcomes from it, and at least half the width of an interval with two ends. The logarithm on both sides
    (the bilog of Eriksson and Poloczek 2021) magnifies the surroundings of the boundary, and shortens the
    tails that penalties and forces have.
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
        distance = 2.0 * float((0.5 * values - 0.5 * boundary).abs().quantile(0.5))
        size = min(max(distance, half), torch.finfo(values.dtype).max) or 1.0
        unscaled = LimitTransform(boundary, size, 0.0, 1.0)
        t = unscaled(values)
        location, spread = float(t.mean()), float(t.std(correction=0))
        return LimitTransform(boundary, size, location, spread if spread > 1e-9 else 1.0)

    def __call__(self, values: jt.Float64[Tensor, " n"]) -> jt.Float64[Tensor, " n"]:
        """Outcomes on the surrogate's scale; infinite ones, as ends of intervals, stay infinite."""
        z = self._relative(values)
        return (z.sign() * torch.log1p(z.abs()) - self.location) / self.spread

    def noise(
        self, values: jt.Float64[Tensor, " n"], std: jt.Float64[Tensor, " n"]
    ) -> jt.Float64[Tensor, " n"]:
        """Variances on the surrogate's scale, (std dt/dc)², of outcomes with standard deviations std."""
        slope = 1.0 / ((1.0 + self._relative(values).abs()) * self.spread)
        return (std / self.size * slope).clamp(max=_WORST_STD).square()

    def violation(self, values: jt.Float64[Tensor, " n"], constraint: Constraint) -> jt.Float64[Tensor, " n"]:
        """log(1 + the distance from the interval in sizes); 0 inside."""
        outside = torch.maximum(constraint.low - values, values - constraint.high).clamp(min=0.0)
        least = torch.where(outside > 0.0, 1e-12, 0.0)  # a distance that underflows stays a violation
        return torch.maximum(torch.log1p(outside / self.size), least)

    def _relative(self, values: Tensor) -> Tensor:
        """Signed distances from the boundary, in sizes."""
        return values / self.size - self.boundary / self.size
