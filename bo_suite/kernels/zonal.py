"""Kernels of the angle between rows that are projected to a sphere, with analytic derivatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels.base import CrossTo, JointPullback, Pullback
from bo_suite.kernels.profiles import ArcCosine, Profile
from bo_suite.kernels.projection import Projection
from bo_suite.kernels.ridges import RidgeFunctions

_MODE = 0.3
"""Mode of the prior of l over √d: a typical row then is as far from the centre as the constant 1 is long."""

_SPREAD = math.sqrt(3.0)
"""Standard deviation of log l under its prior, that of `Matern52`."""

_OWN_MODE, _OWN_SPREAD = 0.5, 1.5
"""Mode of the prior of ρ and its spread. At the modes two typical rows are a chord of 1 apart, so at r = 2,
as they are at the mode of `Matern52`. If l is large, rows hardly leave the pole, and l ρ alone matters: it is
the lengthscale of a stationary kernel."""

_OWN_START = 1.0
"""ρ at which a fit starts: typical rows are at r = 1."""

_STEP = 0.1
"""Rate of the prior of 1 / l² if the function is constant in steps, as for `Matern52`."""

ProjectionPullback = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
CoefficientsPullback = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Zonal:
    """k(x, z) = s² |x'|^p |z'|^p κ(cos of the angle between x' and z'), with x' = ((x - 1/2) / l, 1) in R^D.

    An unordered column of K levels is K coordinates of x', the indicator of its level / (√12 l): two levels
    are √(1/6) / l apart, as two typical values of a real column are; a code beyond the levels has none of
    them. Theta is (log l_1 ... log l_d, [log ρ], log s²); all columns are in [0, 1]. Spherical harmonics are
    the eigenfunctions of κ (Dutordoir, Durrande and Hensman 2020).

    Priors: l ~ LogNormal with mode 0.3 √d and the spread √3 of `Matern52`, the chordal kernels' ρ ~ LogNormal
    with mode 0.5 and spread 1.5, and s² ~ LogNormal(0, `outputscale_spread`). If the function is constant in
    steps, the density is multiplied by exp(-0.1 / l²), as that of `Matern52`.

    Attributes:
        profile: κ and p.
        categories: unordered columns, each with its number of levels.
        outputscale_spread: standard deviation of log s² under its prior.
    """

    profile: Profile = field(default_factory=ArcCosine)
    categories: tuple[tuple[int, int], ...] = ()
    outputscale_spread: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.profile, type) or not isinstance(self.profile, Profile):
            raise DataError(
                f"the profile must be one of `kernels`, such as ArcCosine(), got {self.profile!r}"
            )
        columns = [column for column, _ in self.categories]
        if len({*columns}) < len(columns) or any(c < 0 or levels < 1 for c, levels in self.categories):
            raise DataError(
                "categories must be pairs of a column, each column once, and its number of levels, "
                f"got {self.categories}"
            )

    def over(self, columns: Columns) -> "Zonal":
        """The kernel for data with these columns, unless it has categories already.

        Categories are unordered whether they have descriptors or not, fidelities are columns as others are,
        and inactive columns are at 0.
        """
        if self.categories:
            return self
        levels = tuple((column, columns.levels[column] or 1) for column in columns.unordered)
        return replace(self, categories=levels)

    def sphere_dim(self, dim: int) -> int:
        """D, for rows with a number of columns."""
        return dim + 1 + sum(levels - 1 for _, levels in self.categories)

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Lengthscales 0.3 √d, ρ one, and outputscale one."""
        own = [math.log(_OWN_START)] * self.profile.has_lengthscale
        theta = [math.log(_MODE * math.sqrt(dim))] * dim + own + [0.0]
        return torch.tensor(theta, dtype=torch.float64, device="cpu")

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Lengthscales, ρ and outputscale in [0.01, 1000]."""
        lower = torch.full_like(self.start(dim), math.log(0.01))
        return lower, torch.full_like(lower, math.log(1e3))

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, ρ, s²), not of their logarithms, up to a constant, and its gradient by theta.

        Args:
            theta: hyperparameters.
            dim: number of columns.
            stepped: whether the function is known to be constant in steps; None if it is not.
        """
        own = self.profile.has_lengthscale
        location = [math.log(_MODE) + 0.5 * math.log(dim) + _SPREAD**2] * dim
        location += [math.log(_OWN_MODE) + _OWN_SPREAD**2] * own + [0.0]
        spread = [_SPREAD] * dim + [_OWN_SPREAD] * own + [self.outputscale_spread]
        standard = (theta - theta.new_tensor(location)) / theta.new_tensor(spread)
        value, gradient = (
            -(0.5 * standard.square() + theta).sum(-1),
            -(standard / theta.new_tensor(spread) + 1),
        )
        if stepped is None:
            return value, gradient
        step = _STEP * torch.exp(-2.0 * theta) * stepped[..., None]
        step[..., [*(column for column, _ in self.categories), *range(dim, theta.shape[-1])]] = 0.0
        return value - step.sum(-1), gradient + 2.0 * step

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta, in O(n² D)."""
        rows = self._projection(theta, x)
        square = rows.squares(rows)
        square.diagonal(dim1=-2, dim2=-1).zero_()
        k, slope = self._scaled(rows, rows, theta, square)

        def pullback(weights: Tensor) -> Tensor:
            pull = weights * slope
            by_rows = 2.0 * (pull @ rows.offsets - pull.sum(-1, keepdim=True) * rows.offsets)
            by_theta, _ = rows.pull(by_rows, 2.0 * torch.linalg.vecdot(weights, k))
            self._by_own(by_theta, pull, square)
            return by_theta

        return k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered columns), in O(m n D)."""
        return self.prepared(theta, z)(x)

    def prepared(self, theta: jt.Float[Tensor, "*b p"], z: jt.Float[Tensor, "*b n d"]) -> CrossTo:
        """`cross` as a function of x."""
        right = self._projection(theta, z)

        def cross(x: Tensor) -> tuple[Tensor, Pullback]:
            left = self._projection(theta, x)
            k, slope = self._scaled(left, right, theta, left.squares(right))

            def pullback(weights: Tensor) -> Tensor:
                pull = weights * slope
                by_rows = pull @ right.offsets - pull.sum(-1, keepdim=True) * left.offsets
                return left.pull(by_rows, torch.linalg.vecdot(weights, k))[1]

            return k, pullback

        return cross

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero for unordered columns)."""
        left, right = self._projection(theta, x), self._projection(theta, z)
        square = left.squares(right)
        k, slope = self._scaled(left, right, theta, square)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            pull, weighted = weights * slope, weights * k
            by_left = pull @ right.offsets - pull.sum(-1, keepdim=True) * left.offsets
            by_right = pull.mT @ left.offsets - pull.sum(-2)[..., None] * right.offsets
            by_theta, by_x = left.pull(by_left, weighted.sum(-1))
            also, by_z = right.pull(by_right, weighted.sum(-2))
            by_theta = by_theta + also
            self._by_own(by_theta, pull, square)
            return by_theta, by_x, by_z

        return k, pullback

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """s² |x'|^2p."""
        return self._projection(theta, x).amplitude.square()

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): 0 by ρ and by unordered columns."""
        rows = self._projection(theta, x)
        return rows.pull(torch.zeros_like(rows.directions), 2.0 * weights * rows.amplitude.square())

    def project(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n D"], jt.Float[Tensor, "*b n"], ProjectionPullback]:
        """x' / |x'|, amplitudes s |x'|^p, and the map of gradients by both to those by theta and by x.

        The bias, which is positive, is the last coordinate. Differentiable by autograd, too.
        """
        rows = self._projection(theta, x)

        def pullback(by_directions: Tensor, by_amplitude: Tensor) -> tuple[Tensor, Tensor]:
            return rows.pull(by_directions, by_amplitude * rows.amplitude)

        return rows.directions, rows.amplitude, pullback

    def coefficients(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, degree: int
    ) -> tuple[jt.Float[Tensor, "*b degrees"], CoefficientsPullback]:
        """λ_l of κ(t) = sum_l λ_l Z_l(t), l = 0 ... degree, and the map of a gradient by λ to that by theta.

        A λ that vanishes or can not be told from 0 is 1e-30, with slope 0 (see `Profile.vanishes`).

        Args:
            theta: hyperparameters.
            dim: D, the dimension of directions.
            degree: largest l.
        """
        own = torch.exp(theta[..., -2, None]) if self.profile.has_lengthscale else None
        value, by_own = (each.to(theta) for each in self.profile.coefficients(dim, degree, own))

        def pullback(by_value: Tensor) -> Tensor:
            by_theta = torch.zeros_like(theta)
            if self.profile.has_lengthscale:
                by_theta[..., -2] = (by_value * by_own).sum(-1)
            return by_theta

        return value.expand(*theta.shape[:-1], -1), pullback

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[RidgeFunctions, jt.Float[Tensor, "*b count"]]:
        """Random functions s |x'|^p g(wᵀ x' / |x'|), as `FeatureKernel` has them."""
        own = torch.exp(theta[..., -2, None, None]) if self.profile.has_lengthscale else None
        like = theta.new_empty(*theta.shape[:-1], 0, self.sphere_dim(dim))
        ridges, weights = self.profile.ridges(count, like, own, seeds)
        return RidgeFunctions(lambda x: self.project(theta, x)[:2], ridges), weights

    def _projection(self, theta: Tensor, x: Tensor) -> Projection:
        return Projection.of(theta, x, self.categories, self.profile.homogeneity)

    def _scaled(
        self, left: Projection, right: Projection, theta: Tensor, square: Tensor
    ) -> tuple[Tensor, Tensor]:
        """k, and its derivative by the cosine."""
        own = torch.exp(theta[..., -2, None, None]) if self.profile.has_lengthscale else None
        kappa, slope = self.profile.kappa(square, own)
        scale = left.amplitude[..., :, None] * right.amplitude[..., None, :]
        return kappa.mul_(scale), slope.mul_(scale)

    def _by_own(self, by_theta: Tensor, pull: Tensor, square: Tensor) -> None:
        """Write the derivative by log ρ."""
        if self.profile.has_lengthscale:
            by_theta[..., -2] = torch.linalg.vecdot(pull.flatten(-2), square.flatten(-2))
