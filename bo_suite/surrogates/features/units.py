"""Units of a neural network as inducing variables."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Kernel
from bo_suite.kernels.base import CrossTo, Features
from bo_suite.kernels.profiles import LEAST
from bo_suite.kernels.ridges import RidgeFunctions
from bo_suite.kernels.sphere import harmonics_count, legendre, zonal_products, zonal_sum
from bo_suite.linalg.factor import add_jitter
from bo_suite.linalg.factors import Lower
from bo_suite.surrogates.features.points import Points, Stacked
from bo_suite.surrogates.features.spherical import require_zonal
from bo_suite.surrogates.features.variables import InducingCovariance, VariablesPullback
from bo_suite.surrogates.observed import Observed, rows_of

_BOX = 10.0
"""Largest entry of the direction of a unit, of which only the direction matters."""

_SeriesPullback = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Units:
    """u = <f / a, σ(zᵀ .)>: K_uu = sum_l c_l² / λ_l Z_l(zᵀ z'), k_u(x) = a(x) sum_l c_l Z_l(zᵀ x̂).

    c_l = σ_l λ_l / (λ_l + smoothing λ_0), with σ_l the coefficients of σ and λ_l those of the kernel; only
    the directions of z matter.

    Attributes:
        directions: z.
        activation: σ_l, l = 0 ... degree.
        smoothing: of σ.
        columns: number of columns of the rows.
    """

    directions: jt.Float[Tensor, "*b m D"]
    activation: jt.Float[Tensor, " degrees"]
    smoothing: float
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
        k, pull = self._smoothed(kernel, theta).covariance(units)
        chol, info = torch.linalg.cholesky_ex(add_jitter(k, jitter))

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            by_theta, left, right = pull(add_jitter(weights, jitter))
            return by_theta, _by_entries(left + right, units, lengths).flatten(-2)

        return InducingCovariance(Lower(chol), info, pullback)

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> jt.Float[Tensor, "*b m n"]:
        """a(x) σ(zᵀ x̂)."""
        rows, amplitude, _ = require_zonal(kernel).project(theta, rows_of(x))
        return self._smoothed(kernel, theta).cross(self._units()[0], rows)[0] * amplitude[..., None, :]

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
        smoothed = self._smoothed(kernel, theta)
        total = (smoothed.norms.detach() * smoothed.counts).sum(-1, keepdim=True)
        return total.expand(*theta.shape[:-1], self.count)

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """sum_l c_l g_sl / λ_l Z_l(zᵀ w_s) of ridge functions sum_l g_sl Z_l(w_sᵀ x̂)."""
        assert isinstance(functions, RidgeFunctions), "a zonal kernel has ridge functions"
        smoothed = self._smoothed(kernel, theta)
        ratio = torch.where(smoothed.variances > 2.0 * LEAST, smoothed.shape / smoothed.variances, 0.0)
        coefficients = functions.coefficients(len(self.activation) - 1)
        weights = coefficients * (ratio.detach() * smoothed.counts)[..., None, :]
        cosines = (self._units()[0] @ functions.directions.mT).clamp(-1.0, 1.0)
        polynomials = legendre(cosines, smoothed.dim, len(self.activation) - 1)
        return (polynomials * weights[..., None, :, :]).sum(-1)

    def with_points(self, x: Observed) -> Stacked:
        """These, then the values at points."""
        return Stacked(self, Points(rows_of(x)))

    def _units(self) -> tuple[Tensor, Tensor]:
        """Unit vectors, and the lengths of z."""
        lengths = torch.linalg.vector_norm(self.directions, dim=-1, keepdim=True).clamp(min=1e-12)
        return self.directions / lengths, lengths

    def _smoothed(self, kernel: Kernel, theta: Tensor) -> "_Smoothed":
        """c and c² / λ of the kernel."""
        zonal, largest = require_zonal(kernel), len(self.activation) - 1
        dim = zonal.sphere_dim(self.columns)
        variances, pull = zonal.coefficients(theta, dim, largest)
        leaf = variances.detach().requires_grad_()
        with torch.enable_grad():
            share = self.activation / (leaf + self.smoothing * leaf[..., :1])
            shape, norms = share * leaf, share.square() * leaf
        counts = theta.new_tensor([float(harmonics_count(dim, degree)) for degree in range(largest + 1)])
        return _Smoothed(leaf, shape, norms, counts, pull, zonal.profile.has_lengthscale, dim)

    def _with_pullback(
        self, kernel: Kernel, theta: Tensor, x: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]]:
        """k_u, and the map of W to d sum(W * k_u) by theta, z and x."""
        rows, amplitude, pull_rows = require_zonal(kernel).project(theta, x)
        units, lengths = self._units()
        value, pull = self._smoothed(kernel, theta).cross(units, rows)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_units, by_rows = pull(weights * amplitude[..., None, :])
            also, by_x = pull_rows(by_rows, (weights * value).sum(-2))
            return by_theta + also, _by_entries(by_units, units, lengths), by_x

        return value * amplitude[..., None, :], pullback


@dataclass(frozen=True, eq=False)
class _Smoothed:
    """Coefficients of a smoothed activation, which autograd can differentiate by those of the kernel.

    Attributes:
        variances: λ (*b, degrees).
        shape: c.
        norms: c_l² / λ_l.
        counts: N_l.
        pull: the map of a gradient by λ to that by theta.
        changes: whether λ depends on theta.
        dim: D.
    """

    variances: Tensor
    shape: Tensor
    norms: Tensor
    counts: Tensor
    pull: Callable[[Tensor], Tensor]
    changes: bool
    dim: int

    def cross(self, units: Tensor, rows: Tensor) -> tuple[Tensor, _SeriesPullback]:
        """sum_l c_l Z_l (*b, m, n), and the map of W to gradients by theta, units and rows."""
        return self._series(self.shape, units, rows)

    def covariance(self, units: Tensor) -> tuple[Tensor, _SeriesPullback]:
        """sum_l c_l² / λ_l Z_l (*b, m, m), and the map of W to gradients by theta, units and units."""
        return self._series(self.norms, units, units)

    def _series(self, coefficients: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, _SeriesPullback]:
        cosines = (left @ right.mT).clamp(-1.0, 1.0)
        value, slope = zonal_sum(cosines, coefficients.detach(), self.dim)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_cosines = weights * slope
            by_variances = torch.zeros_like(self.variances)
            if self.changes:
                sums = zonal_products(weights, cosines, self.dim, len(self.counts) - 1)
                (by_variances,) = torch.autograd.grad(coefficients, self.variances, sums, retain_graph=True)
            return self.pull(by_variances), by_cosines @ right, by_cosines.mT @ left

        return value, pullback


def _by_entries(by_units: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """A gradient by unit vectors as that by vectors of these lengths."""
    return (by_units - (by_units * units).sum(-1, keepdim=True) * units) / lengths
