"""Units of a neural network as inducing variables, so that the posterior mean is a network of one layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel, Zonal
from bo_suite.kernels.base import CrossTo, Features
from bo_suite.kernels.profiles import LEAST
from bo_suite.kernels.ridges import RidgeFunctions
from bo_suite.kernels.sphere import funk_hecke, harmonics_count, legendre, zonal_sum
from bo_suite.linalg.factors import Lower
from bo_suite.surrogates.features.points import Points, Stacked, add_jitter
from bo_suite.surrogates.features.spherical import require_zonal
from bo_suite.surrogates.features.variables import InducingCovariance, VariablesPullback
from bo_suite.surrogates.subsample import rows_at

_NEGLIGIBLE = 1e-10
"""λ of the degrees that an activation loses, so that its norm in the space of the kernel stays finite."""

_LEAST_DEGREE, _MOST_DEGREE = 8, 30
"""Range of the largest degree when it is not given."""

_BOX = 10.0
"""Largest entry of the direction of a unit, of which only the direction matters."""


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
    """Inner products of the function with activations σ(zᵀ x̂) in the space of the kernel.

    k_u(x) = a(x) σ(zᵀ x̂): the posterior mean is a network with one hidden layer of these units (Dutordoir et
    al. 2021). Three faults of it as published are answered here (Tiao, Dutordoir and Picheny 2023):

    - σ may have no finite norm in the space of the kernel: its square is the limit of sum_l σ_l² / λ_l N_l.
      Here σ is its projection on the degrees up to `degree`, and is damped where λ_l is negligible.
    - The published K_uu is cut at a degree and k_u is not, so that Q_ff may exceed K_ff. Here both have the
      same degrees, so that they belong to a Gaussian variable.
    - Degrees that σ lacks (odd ones above 1 of `ReLU`), and those above `degree`, are never learnt, and their
      variance stays: take `Orthogonal(Activations(...), points)`, whose points learn them.

    The kernel must be `Zonal`; the default is the arc-cosine kernel of order 1. At the start, the units
    switch (zᵀ x̂ = 0) at random observations.

    Attributes:
        count: number of units.
        activation: σ.
        degree: largest degree of σ; when None, the least one, from 8 to 30, with twice as many harmonics as
            units.
    """

    count: int = 64
    activation: Activation = field(default_factory=ReLU)
    degree: int | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.count, int) and self.count >= 1):
            raise DataError(f"`count >= 1` must hold, a whole number, got {self.count!r}")
        if self.degree is not None and not (isinstance(self.degree, int) and self.degree >= 1):
            raise DataError(f"`degree >= 1` must hold, a whole number, got {self.degree!r}")
        if not isinstance(self.activation, Activation):
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
        return Units(directions, self.activation, self._degree(dim), data.x.shape[-1])

    def _degree(self, dim: int) -> int:
        if self.degree is not None:
            return self.degree
        total, degree = 0, -1
        while degree < _LEAST_DEGREE or (total < 2 * self.count and degree < _MOST_DEGREE):
            degree += 1
            total += harmonics_count(dim, degree)
        return degree


@dataclass(frozen=True, eq=False)
class Units:
    """u = <f / a, σ(zᵀ .)>: K_uu = sum_l c_l² / λ_l Z_l(zᵀ z'), k_u(x) = a(x) sum_l c_l Z_l(zᵀ x̂).

    c_l = σ_l λ_l / (λ_l + 1e-10), with σ_l the coefficients of σ and λ_l those of the kernel, both up to the
    degree; only the directions of z matter.

    Attributes:
        directions: z.
        activation: σ.
        degree: largest l.
        columns: number of columns of the rows.
    """

    directions: jt.Float[Tensor, "*b m D"]
    activation: Activation
    degree: int
    columns: int

    @property
    def count(self) -> int:
        """m."""
        return self.directions.shape[-2]

    @property
    def points(self) -> jt.Float[Tensor, "*b j d"]:
        """None."""
        return self.directions.new_zeros(*self.directions.shape[:-2], 0, self.columns)

    @property
    def parameters(self) -> jt.Float[Tensor, "*b q"]:
        """z, flattened."""
        return self.directions.flatten(-2)

    def moved(self, parameters: jt.Float[Tensor, "*b q"]) -> "Units":
        """Units in other directions."""
        shape = (*parameters.shape[:-1], *self.directions.shape[-2:])
        return replace(self, directions=parameters.reshape(shape))

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b q"], jt.Float[Tensor, "*b q"]]:
        """[-10, 10] for each entry."""
        upper = torch.full_like(self.parameters, _BOX)
        return -upper, upper

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """sum_l c_l² / λ_l Z_l(zᵀ z'), its diagonal times 1 + jitter."""
        units, lengths = self._units()
        series = _Series.of(self, kernel, theta).squared
        k, pull = series.between(units, units)
        chol, info = torch.linalg.cholesky_ex(add_jitter(k, jitter))

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            by_theta, left, right = pull(add_jitter(weights, jitter))
            return by_theta, _by_entries(left + right, units, lengths).flatten(-2)

        return InducingCovariance(Lower(chol), info, pullback)

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> jt.Float[Tensor, "*b m n"]:
        """a(x) σ(zᵀ x̂)."""
        rows, amplitude, _ = require_zonal(kernel).project(theta, x)
        return _Series.of(self, kernel, theta).between(self._units()[0], rows)[0] * amplitude[..., None, :]

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """k_u(x), and the map of W to its gradients."""
        k, pull = self._with_pullback(kernel, theta, x)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            by_theta, by_entries, _ = pull(weights)
            return by_theta, by_entries.flatten(-2)

        return k, pullback

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """k_uᵀ as a function of x."""

        def cross(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            k, pull = self._with_pullback(kernel, theta, x)
            return k.mT, lambda weights: pull(weights.mT)[2]

        return cross

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """sum_l c_l² / λ_l N_l, the same for all."""
        one = theta.new_ones(*theta.shape[:-1], 1, 1)
        series = _Series.of(self, kernel, theta).squared
        return zonal_sum(one, series.coefficients, series.dim)[0][..., 0].expand(
            *theta.shape[:-1], self.count
        )

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """sum_l c_l g_sl / λ_l Z_l(zᵀ w_s) of ridge functions sum_l g_sl Z_l(w_sᵀ x̂)."""
        assert isinstance(functions, RidgeFunctions), "a zonal kernel has ridge functions"
        series = _Series.of(self, kernel, theta)
        weights = functions.coefficients(self.degree) * (series.coefficients * series.inverse)[..., None, :]
        counts = [float(harmonics_count(series.dim, each)) for each in range(self.degree + 1)]
        cosines = (self._units()[0] @ functions.directions.mT).clamp(-1.0, 1.0)
        polynomials = legendre(cosines, series.dim, self.degree)
        return (polynomials * (weights * weights.new_tensor(counts))[..., None, :, :]).sum(-1)

    def with_points(self, x: jt.Float[Tensor, "*b j d"]) -> Stacked:
        """These, then the values at points."""
        return Stacked(self, Points(x))

    def _units(self) -> tuple[Tensor, Tensor]:
        """Unit vectors, and the lengths of z."""
        lengths = torch.linalg.vector_norm(self.directions, dim=-1, keepdim=True).clamp(min=1e-12)
        return self.directions / lengths, lengths

    def _with_pullback(
        self, kernel: Kernel, theta: Tensor, x: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
        """k_u, and the map of W to d sum(W * k_u) by theta, z and x."""
        rows, amplitude, pull_rows = require_zonal(kernel).project(theta, x)
        units, lengths = self._units()
        value, pull = _Series.of(self, kernel, theta).between(units, rows)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_units, by_rows = pull(weights * amplitude[..., None, :])
            also, by_x = pull_rows(by_rows, (weights * value).sum(-2))
            return by_theta + also, _by_entries(by_units, units, lengths), by_x

        return value * amplitude[..., None, :], pullback


@dataclass(frozen=True, eq=False)
class _Series:
    """sum_l c_l Z_l(t), with c_l = shape_l λ_l / (λ_l + 1e-10), or the same with c_l² / λ_l.

    Attributes:
        coefficients: those of the series (*b, degree + 1).
        slopes: their derivatives by λ.
        inverse: 1 / λ, 0 where λ can not be told from 0.
        pull: the map of a gradient by λ to that by theta.
        changes: whether λ depends on theta.
        dim: D.
    """

    coefficients: Tensor
    slopes: Tensor
    inverse: Tensor
    pull: Callable[[Tensor], Tensor]
    changes: bool
    dim: int

    @staticmethod
    def of(units: Units, kernel: Kernel, theta: Tensor) -> "_Series":
        """c_l."""
        zonal = require_zonal(kernel)
        dim = zonal.sphere_dim(units.columns)
        variances, pull = zonal.coefficients(theta, dim, units.degree)
        shape = funk_hecke(units.activation, dim, units.degree, theta.device).to(theta)
        sums = variances + _NEGLIGIBLE
        return _Series(
            shape * variances / sums,
            shape * _NEGLIGIBLE / sums.square(),
            torch.where(variances > 2.0 * LEAST, variances.reciprocal(), 0.0),
            pull,
            zonal.profile.has_lengthscale,
            dim,
        )

    @property
    def squared(self) -> "_Series":
        """c_l² / λ_l."""
        ratio = self.coefficients * self.inverse
        slopes = ratio * (2.0 * self.slopes - ratio)
        return replace(self, coefficients=self.coefficients * ratio, slopes=slopes)

    def between(
        self, left: Tensor, right: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
        """The series of cosines (*b, m, n), and the map of W to gradients by theta, left and right."""
        cosines = (left @ right.mT).clamp(-1.0, 1.0)
        value, slope = zonal_sum(cosines, self.coefficients, self.dim)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_cosines = weights * slope
            by_coefficients = torch.zeros_like(self.coefficients)
            if self.changes:
                polynomials = legendre(cosines, self.dim, self.coefficients.shape[-1] - 1)
                counts = [harmonics_count(self.dim, each) for each in range(self.coefficients.shape[-1])]
                sums = torch.einsum("...mn,...mnl->...l", weights, polynomials)
                by_coefficients = sums * sums.new_tensor([float(each) for each in counts])
            by_theta = self.pull(by_coefficients * self.slopes)
            return by_theta, by_cosines @ right, by_cosines.mT @ left

        return value, pullback


def _by_entries(by_units: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """A gradient by unit vectors as that by vectors of these lengths."""
    return (by_units - (by_units * units).sum(-1, keepdim=True) * units) / lengths


def _check_steepness(steepness: float) -> None:
    if not 0 < steepness < math.inf:
        raise DataError(f"`0 < steepness < inf` must hold, got {steepness!r}")
