"""Spherical harmonics as inducing variables, whose covariance is diagonal."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from itertools import count as counting

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel, Zonal
from bo_suite.kernels.base import CrossTo, Features, Pullback
from bo_suite.kernels.ridges import RidgeFunctions
from bo_suite.kernels.sphere import harmonics_count
from bo_suite.linalg.factors import Diagonal
from bo_suite.surrogates.features.harmonics import harmonics, harmonics_gradient, harmonics_up_to
from bo_suite.surrogates.features.points import Points, Stacked
from bo_suite.surrogates.features.variables import InducingCovariance, VariablesPullback
from bo_suite.surrogates.inducing import check_whole
from bo_suite.surrogates.observed import Observed, rows_of

_MOST = 4096
"""Largest number of harmonics: the precision of q has the square of it as entries."""

_DEFAULT = 512
"""Number of harmonics when neither it nor the degree is given; at most one for each observation."""


@dataclass(frozen=True)
class SphericalHarmonics:
    """The projections of the function on the spherical harmonics of lowest degree (VISH).

    Rows are projected to a sphere, as `Zonal` kernels see them: u_lm is the coefficient of Y_lm in the
    function over its amplitude. K_uu is diagonal, and is never factorised (Dutordoir, Durrande and Hensman
    2020). The kernel must be `Zonal`; the default is the arc-cosine kernel of order 1. There are many
    harmonics of a degree in many dimensions: beyond about 10 columns, 512 of them reach degree 2 only.

    Attributes:
        degree: largest degree l, all of whose harmonics are used. Degrees that the kernel lacks are left out.
        count: largest number of harmonics, if the degree is not given. Of the last degree those of the lowest
            orders are used, which are of most use near the pole, where rows are; whole orders, so that no
            direction is preferred. When both are None, 512, or the number of observations if it is smaller.
    """

    degree: int | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.degree is not None and self.count is not None:
            raise DataError("give the degree of spherical harmonics or their count, not both")
        for name, value, least in (("degree", self.degree, 0), ("count", self.count, 1)):
            if value is not None:
                check_whole(name, value, least)
        if self.count is not None and self.count > _MOST:
            raise DataError(f"at most {_MOST} spherical harmonics can be used, got count={self.count}")

    @property
    def kernel(self) -> Zonal:
        """The arc-cosine kernel of order 1."""
        return Zonal()

    def limited(self, count: int) -> "SphericalHarmonics":
        """The same with at most twice as many harmonics; unchanged if the degree is given.

        128 harmonics of 20 columns would have no complete degree above 1, and no interactions of columns.
        """
        if self.degree is not None:
            return self
        return SphericalHarmonics(count=min(2 * count, self.count or _DEFAULT))

    def place(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], seeds: Seeds
    ) -> "Harmonics":
        """The harmonics on the sphere of the data; nothing of them depends on theta or the seeds.

        Raises:
            DataError: the kernel is not `Zonal`, or the harmonics are more than 4,096.
        """
        zonal, (n, d) = require_zonal(kernel), data.x.shape[-2:]
        dim, nothing = zonal.sphere_dim(d), data.x.new_zeros(*data.batch_shape, 0)
        most = min(n, _DEFAULT) if self.count is None else self.count
        degrees = _few_enough(zonal, dim, most) if self.degree is None else self._given(zonal, dim)
        harmonics = Harmonics(nothing, degrees, degrees[-1], d, dim)
        while self.degree is None and harmonics.orders > 0 and harmonics.count > most:
            harmonics = replace(harmonics, orders=harmonics.orders - 1)
        return harmonics

    def _given(self, kernel: Zonal, dim: int) -> tuple[int, ...]:
        """The degrees up to the given one that the kernel has."""
        assert self.degree is not None
        degrees = tuple(each for each in range(self.degree + 1) if not kernel.profile.vanishes(each))
        totals = list(accumulate(harmonics_count(dim, each) for each in degrees))
        if totals[-1] > _MOST:
            fitting = sum(total <= _MOST for total in totals)
            raise DataError(
                f"the spherical harmonics of degree 0 to {self.degree} in {dim} dimensions are {totals[-1]}, "
                f"more than {_MOST}: take degree <= {degrees[fitting] - 1}, or give their count"
            )
        return degrees


def _few_enough(kernel: Zonal, dim: int, most: int) -> tuple[int, ...]:
    """The lowest degrees that the kernel has, of whose last at least the lowest order is among `most`."""
    degrees, total = [0], 1
    for degree in counting(1):
        if kernel.profile.vanishes(degree):
            continue
        if total + harmonics_up_to(dim, degree, 0) > most:
            return tuple(degrees)
        degrees.append(degree)
        total += harmonics_count(dim, degree)
    raise AssertionError("every count is exceeded")


@dataclass(frozen=True, eq=False)
class Harmonics:
    """u_lm = the coefficient of Y_lm: K_uu = diag(λ_l), k_u(x) = λ_l a(x) Y_lm(x̂), a the amplitude.

    Attributes:
        parameters: none; an empty tensor with the batch shape, dtype and device of the data.
        degrees: l, ascending.
        orders: largest order of the last degree.
        columns: number of columns of the rows.
        dim: D, the dimension of the directions.
    """

    parameters: jt.Float[Tensor, "*b q"]
    degrees: tuple[int, ...]
    orders: int
    columns: int
    dim: int

    @property
    def count(self) -> int:
        """m."""
        return len(self._levels)

    @property
    def points(self) -> jt.Float[Tensor, "*b j d"]:
        """None."""
        return self.parameters.new_zeros(*self.parameters.shape[:-1], 0, self.columns)

    def moved(self, parameters: jt.Float[Tensor, "*b q"]) -> "Harmonics":
        """The same, with the batch shape of the parameters."""
        return replace(self, parameters=parameters)

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b q"], jt.Float[Tensor, "*b q"]]:
        """No parameters, no box."""
        return self.parameters, self.parameters

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """diag(λ), without jitter."""
        variances, pull = self._variances(kernel, theta)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            return pull(weights.diagonal(dim1=-2, dim2=-1)), self._nothing(weights)

        info = torch.zeros(variances.shape[:-1], dtype=torch.int32, device=variances.device)
        return InducingCovariance(Diagonal(variances.sqrt()), info, pullback)

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> jt.Float[Tensor, "*b m n"]:
        """λ_l a(x) Y_lm(x̂)."""
        directions, amplitude, _ = require_zonal(kernel).project(theta, rows_of(x))
        return (
            self._at(directions).mT * self._variances(kernel, theta)[0][..., None] * amplitude[..., None, :]
        )

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """k_u(x), and the map of W to its gradients."""
        k, pull = self._with_pullback(kernel, theta, x)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            return pull(weights.mT)[0], self._nothing(weights)

        return k.mT, pullback

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """k_uᵀ as a function of x."""

        def cross(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            k, pull = self._with_pullback(kernel, theta, x)
            return k, lambda weights: pull(weights)[1]

        return cross

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """λ, one for each harmonic."""
        return self._variances(kernel, theta)[0]

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """c_sl Y_lm(w_s) of ridge functions g_s(w_sᵀ x̂) = sum_l c_sl Z_l(w_sᵀ x̂) (Funk and Hecke)."""
        assert isinstance(functions, RidgeFunctions), "a zonal kernel has ridge functions"
        coefficients = functions.coefficients(self.degrees[-1])[..., self._levels]
        return (self._at(functions.directions) * coefficients).mT

    def with_points(self, x: Observed) -> Stacked:
        """These, then the values at points."""
        return Stacked(self, Points(rows_of(x)))

    def _at(self, directions: Tensor) -> Tensor:
        """Y_lm of directions (*b n m)."""
        return harmonics(directions, self.degrees, self.orders)

    @cached_property
    def _levels(self) -> list[int]:
        """The degree of each harmonic."""
        counts = [harmonics_count(self.dim, degree) for degree in self.degrees[:-1]]
        counts.append(harmonics_up_to(self.dim, self.degrees[-1], self.orders))
        return [degree for degree, count in zip(self.degrees, counts, strict=True) for _ in range(count)]

    def _variances(self, kernel: Kernel, theta: Tensor) -> tuple[Tensor, Pullback]:
        """λ of each harmonic (*b, m), and the map of a gradient by them to that by theta."""
        coefficients, pull = require_zonal(kernel).coefficients(theta, self.dim, self.degrees[-1])
        levels = self._levels

        def pullback(weights: Tensor) -> Tensor:
            index = torch.tensor(levels, device=weights.device)
            by_coefficients = weights.new_zeros(*weights.shape[:-1], coefficients.shape[-1])
            return pull(by_coefficients.index_add(-1, index, weights))

        return coefficients[..., levels], pullback

    def _with_pullback(
        self, kernel: Kernel, theta: Tensor, x: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """k_uᵀ (*b, n, m), and the map of W to d sum(W * k_uᵀ) by theta and by x."""
        directions, amplitude, pull_rows = require_zonal(kernel).project(theta, x)
        variances, pull_variances = self._variances(kernel, theta)
        basis = self._at(directions)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            weighted = weights * basis
            by_basis = weights * variances[..., None, :] * amplitude[..., None]
            by_directions = harmonics_gradient(directions, by_basis, self.degrees, self.orders)
            by_theta, by_x = pull_rows(by_directions, (weighted * variances[..., None, :]).sum(-1))
            return by_theta + pull_variances((weighted * amplitude[..., None]).sum(-2)), by_x

        return basis * variances[..., None, :] * amplitude[..., None], pullback

    def _nothing(self, weights: Tensor) -> Tensor:
        """The gradient by no parameters."""
        return weights.new_zeros(*weights.shape[:-2], 0)


def require_zonal(kernel: Kernel) -> Zonal:
    """The kernel.

    Raises:
        DataError: it is not zonal.
    """
    if not isinstance(kernel, Zonal):
        raise DataError(
            "features on the sphere need a kernel of the angle between rows, `kernels.Zonal` (the default "
            f"when no kernel is given), got {type(kernel).__name__}"
        )
    return kernel
