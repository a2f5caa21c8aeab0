"""Units of a neural network as features, so that the posterior mean is a network of one layer."""

import math
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel, Zonal
from bo_suite.kernels.sphere import funk_hecke, harmonics_count
from bo_suite.surrogates.features.spherical import require_zonal
from bo_suite.surrogates.features.units import Units
from bo_suite.surrogates.inducing import check_whole
from bo_suite.surrogates.subsample import rows_at

_LEAST_DEGREE, _MOST_DEGREE = 8, 30
"""Range of the largest degree when it is not given."""


@runtime_checkable
class Activation(Protocol):
    """A function of the cosine between a row and the direction of a unit."""

    def __call__(self, t: jt.Float[Tensor, "*t"]) -> jt.Float[Tensor, "*t"]:
        """The function of t in [-1, 1]."""


@dataclass(frozen=True)
class ReLU:
    """max(t, 0)."""

    def __call__(self, t: jt.Float[Tensor, "*t"]) -> jt.Float[Tensor, "*t"]:
        """max(t, 0)."""
        return torch.relu(t)


@dataclass(frozen=True)
class Erf:
    """erf(steepness t).

    Attributes:
        steepness: positive.
    """

    steepness: float = 3.0

    def __post_init__(self) -> None:
        _check_steepness(self.steepness)

    def __call__(self, t: jt.Float[Tensor, "*t"]) -> jt.Float[Tensor, "*t"]:
        """erf(steepness t)."""
        return torch.erf(self.steepness * t)


@dataclass(frozen=True)
class Softplus:
    """log(1 + exp(steepness t)) / steepness.

    Attributes:
        steepness: positive; the larger, the closer to `ReLU`.
    """

    steepness: float = 3.0

    def __post_init__(self) -> None:
        _check_steepness(self.steepness)

    def __call__(self, t: jt.Float[Tensor, "*t"]) -> jt.Float[Tensor, "*t"]:
        """log(1 + exp(steepness t)) / steepness."""
        return torch.nn.functional.softplus(self.steepness * t) / self.steepness


@dataclass(frozen=True)
class Activations:
    """Inner products of the function with activations σ(zᵀ x̂), smoothed, in the space of the kernel.

    k_u(x) = a(x) σ(zᵀ x̂): the posterior mean is a network with one hidden layer of these units (Dutordoir et
    al. 2021). Three faults of it as published (Tiao, Dutordoir and Picheny 2023) are answered here:

    - σ mostly has no finite norm in the space of the kernel: its square is sum_l σ_l² / λ_l N_l. The more
      degrees are summed, the less the units explain. Here σ is smoothed: its coefficients are
      σ_l λ_l / (λ_l + `smoothing` λ_0), those of the function closest to σ at that price of its norm.
    - The published K_uu is cut at a degree and k_u is not, so that Q_ff may exceed K_ff by any amount. Here
      both have the same degrees, so that they belong to a Gaussian variable.
    - Degrees that σ lacks (odd ones above 1 of `ReLU` and `Softplus`, even ones of `Erf`) are never learnt,
      and their variance stays: take `Orthogonal(Activations(...), points)`, whose points learn them.

    The kernel must be `Zonal`; the default is the arc-cosine kernel of order 1. At the start, the units
    switch (zᵀ x̂ = 0) at random observations.

    Attributes:
        count: number of units.
        activation: σ.
        degree: largest degree of σ; when None, the least one, from 8 to 30, with twice as many harmonics as
            units.
        smoothing: how much of λ_0 is the price of the norm; the published features are the limit 0.
    """

    count: int = 64
    activation: Activation = field(default_factory=ReLU)
    degree: int | None = None
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.smoothing < math.inf:
            raise DataError(f"`0 < smoothing < inf` must hold, got {self.smoothing!r}")
        check_whole("count", self.count, 1)
        if self.degree is not None:
            check_whole("degree", self.degree, 1)
        if isinstance(self.activation, type) or not isinstance(self.activation, Activation):
            raise DataError(f"an activation must be a function of cosines, got {self.activation!r}")

    @property
    def kernel(self) -> Zonal:
        """The arc-cosine kernel of order 1."""
        return Zonal()

    def limited(self, count: int) -> "Activations":
        """The same with at most that many units."""
        return replace(self, count=min(count, self.count))

    def place(self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], seeds: Seeds) -> "Units":
        """Units in random directions orthogonal to random rows.

        Raises:
            DataError: the kernel is not `Zonal`.
        """
        zonal, seeds = require_zonal(kernel), seeds.split("units")
        dim = zonal.sphere_dim(data.x.shape[-1])
        rank = seeds.split("rows").uniform((max(data.x.shape[-2], self.count),), data.x)
        index = rank.argsort(-1)[..., : self.count] % data.x.shape[-2]
        rows = zonal.project(theta, rows_at(data.x, index.expand(*data.batch_shape, -1)))[0]
        normal = seeds.split("directions").normal((self.count, dim), data.x)
        normal = normal - (normal * rows).sum(-1, keepdim=True) * rows
        directions = torch.nn.functional.normalize(normal, dim=-1)
        coefficients = funk_hecke(self.activation, dim, self._degree(dim), data.x.device).to(data.x)
        return Units(directions, coefficients, self.smoothing, data.x.shape[-1])

    def _degree(self, dim: int) -> int:
        if self.degree is not None:
            return self.degree
        total, degree = 0, -1
        while degree < _LEAST_DEGREE or (total < 2 * self.count and degree < _MOST_DEGREE):
            degree += 1
            total += harmonics_count(dim, degree)
        return degree


def _check_steepness(steepness: float) -> None:
    if not 0 < steepness < math.inf:
        raise DataError(f"`0 < steepness < inf` must hold, got {steepness!r}")
