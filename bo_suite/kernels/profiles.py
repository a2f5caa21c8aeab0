"""Kernels of the angle between two directions, with unit variance."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels.ridges import Rectified, Ridges, Waves
from bo_suite.kernels.sphere import funk_hecke, harmonics_count
from bo_suite.kernels.stationary import Matern52

_SQRT5 = math.sqrt(5.0)

_ROUNDING = 1e-15
"""λ_l √N(D, l) below this is rounding: the quadrature errs by 1e-16, and P_l is about 1 / √N."""

LEAST = 1e-30
"""What is returned for coefficients that vanish or can not be told from 0: √λ and its slope stay finite."""


@runtime_checkable
class Profile(Protocol):
    """A positive definite function κ(t) of the cosine of directions with κ(1) = 1.

    It is given q = |u - v|² = 2 - 2t, which is exact for directions that are nearly equal.
    """

    @property
    def homogeneity(self) -> int:
        """p: k(x, z) = s² |x'|^p |z'|^p κ(t)."""

    @property
    def has_lengthscale(self) -> bool:
        """Whether κ is a function of q / ρ², with a lengthscale ρ of its own."""

    def kappa(
        self, square: jt.Float[Tensor, "*b m n"], lengthscale: Tensor | None
    ) -> tuple[jt.Float[Tensor, "*b m n"], jt.Float[Tensor, "*b m n"]]:
        """κ and dκ / dt, finite for all q in [0, 4]. With a lengthscale, dκ / d log ρ = q dκ / dt.

        Args:
            square: q.
            lengthscale: ρ (*b 1 1), None if the profile has none.
        """

    def vanishes(self, degree: int) -> bool:
        """Whether λ of this degree is 0, whatever ρ."""

    def coefficients(
        self, dim: int, degree: int, lengthscale: Tensor | None
    ) -> tuple[jt.Float64[Tensor, "*#b degrees"], jt.Float64[Tensor, "*#b degrees"]]:
        """λ_l >= 1e-30 of κ(t) = sum_l λ_l Z_l(t) for l = 0 ... degree, and dλ / d log ρ.

        Args:
            dim: D, the dimension of directions.
            degree: largest l.
            lengthscale: ρ (*b 1), None if the profile has none.
        """

    def ridges(
        self, count: int, like: jt.Float[Tensor, "*b _ D"], lengthscale: Tensor | None, seeds: Seeds
    ) -> tuple[Ridges, jt.Float[Tensor, "*b count"]]:
        """Random functions g of directions, ψ and then χ, and weights a: κ = E[a (ψ(u) ψ(v) + χ(u) χ(v))].

        Args:
            count: number of ψ and of χ.
            like: a tensor whose batch shape, D, dtype and device the directions of the functions have.
            lengthscale: ρ (*b 1 1), None if the profile has none.
            seeds: of the draws.
        """


@dataclass(frozen=True)
class ArcCosine:
    """κ(t) = J_n(θ) / J_n(0) with θ = arccos t (Cho and Saul 2009, equations 3 to 7).

    J_1(θ) = sin θ + (π - θ) cos θ and J_2(θ) = 3 sin θ cos θ + (π - θ) (1 + 2 cos² θ). It is
    E[max(wᵀu, 0)^n max(wᵀv, 0)^n] / E[max(wᵀu, 0)^2n] for a uniform direction w: an infinite layer of
    rectified units (squared for n = 2).

    Attributes:
        order: n, 1 or 2. Functions are continuous for 1, and once differentiable for 2.
    """

    order: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.order, bool) or self.order not in (1, 2):
            raise DataError(f"the order of ArcCosine must be 1 or 2, got {self.order}")

    @property
    def homogeneity(self) -> int:
        """n."""
        return self.order

    @property
    def has_lengthscale(self) -> bool:
        """No."""
        return False

    def kappa(
        self, square: jt.Float[Tensor, "*b m n"], lengthscale: Tensor | None = None
    ) -> tuple[jt.Float[Tensor, "*b m n"], jt.Float[Tensor, "*b m n"]]:
        """κ and dκ / dt, which is (π - θ) / π or 4 J_1 / (3π)."""
        cosine = 1.0 - 0.5 * square
        sine = (square * (1.0 - 0.25 * square)).clamp_(min=0.0).sqrt_()
        opposite = torch.atan2(sine, -cosine)
        first = torch.addcmul(sine, opposite, cosine)
        if self.order == 1:
            return first / math.pi, opposite / math.pi
        second = 3.0 * sine * cosine + opposite * (1.0 + 2.0 * cosine.square())
        return second / (3.0 * math.pi), first.mul_(4.0 / (3.0 * math.pi))

    def vanishes(self, degree: int) -> bool:
        """True for degrees above n that are even with n even, or odd with n odd: max(t, 0)^n has none."""
        return degree > self.order and (degree - self.order) % 2 == 0

    def coefficients(
        self, dim: int, degree: int, lengthscale: Tensor | None = None
    ) -> tuple[jt.Float64[Tensor, "*#b degrees"], jt.Float64[Tensor, "*#b degrees"]]:
        """λ_l = c_l² / E[max(t, 0)^2n], c_l those of max(t, 0)^n: exact where λ_l is far below rounding."""
        constant = _arc_cosine_coefficients(self, dim, degree)
        return constant.clone(), torch.zeros_like(constant)

    def ridges(
        self, count: int, like: jt.Float[Tensor, "*b _ D"], lengthscale: Tensor | None, seeds: Seeds
    ) -> tuple[Ridges, jt.Float[Tensor, "*b count"]]:
        """max(wᵀ u, 0)^n of uniform w, over its root mean square, then of -w; a = ½."""
        normal = seeds.split("normal").normal((count, like.shape[-1]), like)
        units = torch.nn.functional.normalize(normal, dim=-1)
        weights = like.new_full((*units.shape[:-1],), 0.5)
        return Rectified(torch.cat((units, -units), -2), self.order), weights


@dataclass(frozen=True)
class ChordalMatern52:
    """κ(t) = (1 + √5 r + 5r²/3) exp(-√5 r) with r = √(2 - 2t) / ρ: the Matern kernel of R^D on the sphere."""

    @property
    def homogeneity(self) -> int:
        """0: the length of rows has no influence."""
        return 0

    @property
    def has_lengthscale(self) -> bool:
        """Yes."""
        return True

    def kappa(
        self, square: jt.Float[Tensor, "*b m n"], lengthscale: Tensor | None
    ) -> tuple[jt.Float[Tensor, "*b m n"], jt.Float[Tensor, "*b m n"]]:
        """κ and dκ / dt = 5 / (3ρ²) (1 + √5 r) exp(-√5 r)."""
        rho = _given(lengthscale)
        distance = (square.sqrt() / rho).mul_(_SQRT5)
        decay = torch.exp(-distance)
        slope = torch.addcmul(decay, decay, distance)
        kappa = torch.addcmul(slope, decay, distance.square_(), value=1.0 / 3.0)
        return kappa, slope * (5.0 / 3.0 * rho**-2)

    def vanishes(self, degree: int) -> bool:
        """None does."""
        return False

    def coefficients(
        self, dim: int, degree: int, lengthscale: Tensor | None
    ) -> tuple[jt.Float64[Tensor, "*#b degrees"], jt.Float64[Tensor, "*#b degrees"]]:
        """λ_l and dλ_l / d log ρ by quadrature; those below rounding are 1e-30, with slope 0."""
        return _by_quadrature(self, dim, degree, _given(lengthscale))

    def ridges(
        self, count: int, like: jt.Float[Tensor, "*b _ D"], lengthscale: Tensor | None, seeds: Seeds
    ) -> tuple[Ridges, jt.Float[Tensor, "*b count"]]:
        """Cosines and sines of wᵀ u, with w as in `Matern52.frequencies`."""
        unit = like.new_zeros(*like.shape[:-2], like.shape[-1] + 1)
        frequencies, weights = Matern52().frequencies(unit, count, like.shape[-1], seeds)
        return Waves(frequencies / _given(lengthscale)), weights


@dataclass(frozen=True)
class ChordalSquaredExponential:
    """κ(t) = exp(-(2 - 2t) / (2ρ²)): the squared exponential kernel of R^D on the sphere."""

    @property
    def homogeneity(self) -> int:
        """0: the length of rows has no influence."""
        return 0

    @property
    def has_lengthscale(self) -> bool:
        """Yes."""
        return True

    def kappa(
        self, square: jt.Float[Tensor, "*b m n"], lengthscale: Tensor | None
    ) -> tuple[jt.Float[Tensor, "*b m n"], jt.Float[Tensor, "*b m n"]]:
        """κ and dκ / dt = κ / ρ²."""
        precision = _given(lengthscale) ** -2
        kappa = torch.exp(square * (-0.5 * precision))
        return kappa, kappa * precision

    def vanishes(self, degree: int) -> bool:
        """None does."""
        return False

    def coefficients(
        self, dim: int, degree: int, lengthscale: Tensor | None
    ) -> tuple[jt.Float64[Tensor, "*#b degrees"], jt.Float64[Tensor, "*#b degrees"]]:
        """λ_l and dλ_l / d log ρ by quadrature; those below rounding are 1e-30, with slope 0."""
        return _by_quadrature(self, dim, degree, _given(lengthscale))

    def ridges(
        self, count: int, like: jt.Float[Tensor, "*b _ D"], lengthscale: Tensor | None, seeds: Seeds
    ) -> tuple[Ridges, jt.Float[Tensor, "*b count"]]:
        """Cosines and sines of wᵀ u, with w normal; a = 1."""
        frequencies = seeds.split("normal").normal((count, like.shape[-1]), like) / _given(lengthscale)
        return Waves(frequencies), torch.ones_like(frequencies[..., 0])


def _given(lengthscale: Tensor | None) -> Tensor:
    if lengthscale is None:
        raise DataError("a chordal profile needs its lengthscale ρ, got None")
    return lengthscale


@lru_cache(maxsize=64)
def _arc_cosine_coefficients(profile: ArcCosine, dim: int, degree: int) -> Tensor:
    order = profile.order
    units = funk_hecke(lambda t: torch.relu(t) ** order, dim, degree)
    size = funk_hecke(lambda t: torch.relu(t) ** (2 * order), dim, 0)
    gone = torch.tensor([profile.vanishes(each) for each in range(degree + 1)], device="cpu")
    return torch.where(gone, LEAST, (units.square() / size).clamp(min=LEAST))


def _by_quadrature(profile: Profile, dim: int, degree: int, lengthscale: Tensor) -> tuple[Tensor, Tensor]:
    rho = lengthscale.detach().double()

    def both(t: Tensor) -> Tensor:
        square = (2.0 - 2.0 * t).expand(*rho.shape[:-1], 1, -1)
        kappa, slope = profile.kappa(square, rho[..., None])
        return torch.cat((kappa, square * slope), -2)

    value, by_rho = funk_hecke(both, dim, degree, rho.device).unbind(-2)
    counts = torch.tensor([float(harmonics_count(dim, each)) for each in range(degree + 1)], **CPU_DOUBLES)
    told = value * counts.sqrt().to(rho) > _ROUNDING
    return torch.where(told, value, LEAST), torch.where(told, by_rho, 0.0)
