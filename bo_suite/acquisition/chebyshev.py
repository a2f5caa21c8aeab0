"""Several objectives as one number: the augmented Chebyshev scalarisation."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.hypervolume import front_range
from bo_suite.data import Seeds


@dataclass(frozen=True, eq=False)
class Chebyshev:
    """max_j w_j z_j + rho Σ_j w_j z_j of objectives z_j = (y_j - ideal_j) / width_j (Knowles 2006).

    Attributes:
        weights: w, which sum to 1.
        ideal: smallest values on the front.
        width: range of the front.
        rho: weight of the sum, which tells weakly dominated points from others.
    """

    weights: jt.Float[Tensor, " k"]
    ideal: jt.Float[Tensor, " k"]
    width: jt.Float[Tensor, " k"]
    rho: float

    @staticmethod
    def of(
        y: jt.Float[Tensor, "k n"], front: jt.Bool[Tensor, " n"], weights: jt.Float[Tensor, " k"], rho: float
    ) -> "Chebyshev":
        """The function for observations, NaN where an objective was not measured, and their front."""
        least, _, width = front_range(y, front)
        return Chebyshev(weights, least, width, rho)

    def __call__(self, y: jt.Float[Tensor, "k m"]) -> jt.Float[Tensor, " m"]:
        """One number for each point, smaller is better."""
        terms = (self.weights / self.width)[:, None] * (y - self.ideal[:, None])
        return terms.amax(0) + self.rho * terms.sum(0)

    def variance(self, y: jt.Float[Tensor, "k m"], noise: jt.Float[Tensor, "k m"]) -> jt.Float[Tensor, " m"]:
        """Noise variance of the number at y, to first order; NaN where that of an objective is unknown."""
        slopes = (self.weights / self.width)[:, None]
        largest = torch.nn.functional.one_hot((slopes * (y - self.ideal[:, None])).argmax(0), len(y)).T
        return ((slopes * (largest + self.rho)).square() * noise).sum(0)


def uniform_weights(count: int, seeds: Seeds, like: Tensor) -> jt.Float[Tensor, " k"]:
    """Weights drawn uniformly from the simplex."""
    draws = -seeds.split("weights").uniform((count,), like).clamp(min=1e-12).log()
    return draws / draws.sum()
