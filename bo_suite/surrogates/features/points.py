"""Inducing variables that are values of the function: at points, and at points after other variables."""

from collections.abc import Callable
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Kernel, PreparedKernel
from bo_suite.kernels.base import CrossTo, Features
from bo_suite.linalg.factor import add_jitter
from bo_suite.linalg.factors import Bordered, Lower
from bo_suite.surrogates.features.observables import Observables
from bo_suite.surrogates.features.variables import (
    InducingCovariance,
    InducingVariables,
    VariablesPullback,
)
from bo_suite.surrogates.observed import Observed, covariance, joined, rows_of


@dataclass(frozen=True, eq=False)
class Points:
    """u = f(Z), K_uu = k(Z, Z), k_u(x) = k(Z, x).

    Attributes:
        x: Z.
    """

    x: jt.Float[Tensor, "*b m d"]

    @property
    def count(self) -> int:
        """m."""
        return self.x.shape[-2]

    @property
    def points(self) -> jt.Float[Tensor, "*b m d"]:
        """Z."""
        return self.x

    @property
    def parameters(self) -> jt.Float[Tensor, "*b k"]:
        """Z, flattened."""
        return self.x.flatten(-2)

    def moved(self, parameters: jt.Float[Tensor, "*b k"]) -> "Points":
        """Other points."""
        return Points(parameters.reshape(*parameters.shape[:-1], *self.x.shape[-2:]))

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b k"], jt.Float[Tensor, "*b k"]]:
        """The smallest box that holds the rows of the data, for each point."""
        lower, upper = x.aminmax(dim=-2)
        shape = self.x.shape
        return lower[..., None, :].expand(shape).flatten(-2), upper[..., None, :].expand(shape).flatten(-2)

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """k(Z, Z), its diagonal times 1 + jitter."""
        k, pull = kernel.joint(theta, self.x, self.x)
        chol, info = torch.linalg.cholesky_ex(add_jitter(k, jitter))

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            by_theta, left, right = pull(add_jitter(weights, jitter))
            return by_theta, (left + right).flatten(-2)

        return InducingCovariance(Lower(chol), info, pullback)

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> jt.Float[Tensor, "*b m n"]:
        """k(Z, x), or the covariance with functionals."""
        return covariance(kernel, theta, self.x, x)

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """k(Z, x), and the map of W to d sum(W * k) by theta and by Z."""
        k, pull = kernel.joint(theta, self.x, x)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            by_theta, by_points, _ = pull(weights)
            return by_theta, by_points.flatten(-2)

        return k, pullback

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """`cross` of the kernel, or what it prepares."""
        if isinstance(kernel, PreparedKernel):
            return kernel.prepared(theta, self.x)
        return lambda x: kernel.cross(theta, x, self.x)

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """k(z, z)."""
        return kernel.diagonal(theta, self.x)

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """The functions at Z."""
        return functions(self.x)

    def with_points(self, x: Observed) -> "Points | Observables":
        """More points, or functionals after them."""
        more = joined(self.x, x)
        return Points(more) if isinstance(more, Tensor) else Observables(more)


@dataclass(frozen=True, eq=False)
class Stacked:
    """Some inducing variables u, then the values v of f at points.

    Whitening makes v orthogonal to u: its factor is that of k(O, O) - k_u(O)ᵀ K_uu⁻¹ k_u(O), as in SOLVE-GP
    (Shi, Titsias and Mnih 2020), and what K_uu saves is saved.

    Attributes:
        first: u.
        orthogonal: v.
    """

    first: InducingVariables
    orthogonal: Points

    @property
    def count(self) -> int:
        """Number of both."""
        return self.first.count + self.orthogonal.count

    @property
    def points(self) -> jt.Float[Tensor, "*b j d"]:
        """The inputs of both."""
        return torch.cat((self.first.points, self.orthogonal.x), -2)

    @property
    def parameters(self) -> jt.Float[Tensor, "*b q"]:
        """Those of u, then the points of v, flattened."""
        return torch.cat((self.first.parameters, self.orthogonal.parameters), -1)

    def moved(self, parameters: jt.Float[Tensor, "*b q"]) -> "Stacked":
        """The variables with other parameters."""
        first, second = self._split(parameters)
        return Stacked(self.first.moved(first), self.orthogonal.moved(second))

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b q"], jt.Float[Tensor, "*b q"]]:
        """The boxes of both."""
        (low, high), (below, above) = self.first.box(x), self.orthogonal.box(x)
        return torch.cat((low, below), -1), torch.cat((high, above), -1)

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """K of both, bordered."""
        first = self.first.covariance(kernel, theta, jitter)
        k, pull_cross = self.first.joint(kernel, theta, self.orthogonal.x)
        corner, pull_corner = kernel.joint(theta, self.orthogonal.x, self.orthogonal.x)
        cross, m = first.factor.solve(k), self.first.count
        chol, info = torch.linalg.cholesky_ex(add_jitter(corner, jitter) - cross.mT @ cross)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            between = 2.0 * weights[..., :m, m:]
            parts = [first.pullback(weights[..., :m, :m]), pull_cross(between)]
            by_theta, left, right = pull_corner(add_jitter(weights[..., m:, m:], jitter))
            _, by_points = self.first.cross_to(kernel, theta)(self.orthogonal.x)
            moved = by_points(between.mT) + left + right
            by_first = parts[0][1] + parts[1][1]
            return parts[0][0] + parts[1][0] + by_theta, torch.cat((by_first, moved.flatten(-2)), -1)

        return InducingCovariance(
            Bordered(first.factor, cross, chol), first.info + (first.info == 0) * info, pullback
        )

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> jt.Float[Tensor, "*b m n"]:
        """Covariances of both with f(x), or with functionals."""
        return torch.cat((self.first.cross(kernel, theta, x), self.orthogonal.cross(kernel, theta, x)), -2)

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """Covariances of both with f(x), and the map to gradients by theta and by the parameters."""
        first, pull_first = self.first.joint(kernel, theta, x)
        second, pull_second = self.orthogonal.joint(kernel, theta, x)
        m = self.first.count

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            upper, lower = pull_first(weights[..., :m, :]), pull_second(weights[..., m:, :])
            return upper[0] + lower[0], torch.cat((upper[1], lower[1]), -1)

        return torch.cat((first, second), -2), pullback

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """Both side by side."""
        first, second = self.first.cross_to(kernel, theta), self.orthogonal.cross_to(kernel, theta)
        m = self.first.count

        def both(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            (left, pull_left), (right, pull_right) = first(x), second(x)
            return torch.cat(
                (left, right), -1
            ), lambda weights: pull_left(weights[..., :m]) + pull_right(weights[..., m:])

        return both

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """Variances of both."""
        return torch.cat((self.first.variances(kernel, theta), self.orthogonal.variances(kernel, theta)), -1)

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """The values of both."""
        first = self.first.values(kernel, theta, functions)
        return torch.cat((first, self.orthogonal.values(kernel, theta, functions)), -2)

    def with_points(self, x: Observed) -> "Stacked":
        """The same with more points."""
        return Stacked(self.first, Points(torch.cat((self.orthogonal.x, rows_of(x)), -2)))

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        size = self.first.parameters.shape[-1]
        return parameters[..., :size], parameters[..., size:]
