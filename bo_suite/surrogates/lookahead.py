"""How one more observation would change the posterior mean at some points."""

from dataclasses import dataclass
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.kernels import Kernel
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.basis import Basis, fantasies_first
from bo_suite.surrogates.prior_mean import PriorMean


@dataclass(frozen=True, eq=False)
class Lookahead:
    """Posterior moments at x with the covariances between x and fixed points, differentiable once by x.

    An observation of variance s² at x moves the posterior mean at a point by cov(x, point) / √(var(x) + s²)
    standard normal variables (Frazier, Powell and Dayanik 2009, equation 10). Here cov(x, points) =
    k(x, points) - k_u(x)ᵀ V, with V = L⁻ᵀ (a - L_B⁻ᵀ L_B⁻¹ a) of a = L⁻¹ k_u(points) computed once:
    a covariance costs no more than a mean, and a batch of x one triangular solve, for its variances.

    Attributes:
        basis: of the process.
        points: rows whose mean matters.
        weights: columns of the posterior mean, one a fantasy, followed by V.
        fantasies: shape of the fantasy dimensions.
        prior_mean: mean before any observation.
    """

    basis: Basis
    points: jt.Float[Tensor, "*b j d"]
    weights: jt.Float[Tensor, "*b n w"]
    fantasies: tuple[int, ...]
    prior_mean: PriorMean

    @staticmethod
    def of(
        basis: Basis,
        white: jt.Float[Tensor, "*sb n"],
        prior_mean: PriorMean,
        points: jt.Float[Tensor, "*b j d"],
    ) -> "Lookahead":
        """The lookahead of a process with whitened residuals `white`; computes V."""
        weights = torch.cat((basis.weights(white), basis.explained(points)), -1)
        return Lookahead(basis, points, weights, basis.fantasies(white), prior_mean)

    def moments(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"], jt.Float[Tensor, "*b m j"]]:
        """Means and variances at x, and covariances with the points."""
        columns, var = self.basis.mean_and_var(x, self.weights)
        mean, cov = self._mean_and_cov(x, columns)
        return mean, var, cov

    def mean_and_cov(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m j"]]:
        """Means at x and covariances with the points, without a triangular solve."""
        return self._mean_and_cov(x, with_variables(x, self.basis) @ self.weights)

    def pair_cov(
        self, x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """Covariance of each row of x with the row of z of the same index, differentiable once by both."""
        basis, m = self.basis, x.shape[-2]
        theta = basis.theta[..., None, :].expand(*x.shape[:-1], -1)
        prior = Cross.apply(x[..., None, :], z[..., None, :], basis.kernel, theta)  # type: ignore[no-untyped-call]
        a = basis.factor.solve(with_variables(torch.cat((x, z), -2), basis).mT)
        cov = prior[..., 0, 0] - (a[..., :m] * a[..., m:]).sum(-2)
        if basis.precision_chol is None:
            return cov  # type: ignore[no-any-return]
        b = solve_lower(basis.precision_chol, a)
        return cov + (b[..., :m] * b[..., m:]).sum(-2)  # type: ignore[no-any-return]

    def _mean_and_cov(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Means, fantasies in front, and covariances, from the columns k_u(x)ᵀ weights."""
        count = columns.shape[-1] - self.points.shape[-2]
        mean = fantasies_first(columns[..., :count], self.fantasies) + self.prior_mean(x)
        prior = Cross.apply(x, self.points, self.basis.kernel, self.basis.theta)  # type: ignore[no-untyped-call]
        return mean, prior - columns[..., count:]


class Cross(torch.autograd.Function):
    """k(x, z), with the analytic gradients by x and z."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, kernel: Kernel, theta: Tensor) -> Tensor:
        ctx.joint = ctx.needs_input_grad[1]
        k, ctx.pullback = (kernel.joint if ctx.joint else kernel.cross)(theta, x, z)
        return k

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        if ctx.joint:
            _, by_x, by_z = ctx.pullback(gradients[0])
            return by_x, by_z, None, None
        return ctx.pullback(gradients[0]), None, None, None


class _WithVariables(torch.autograd.Function):
    """k_u(x)ᵀ, with the analytic gradient by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Basis) -> Tensor:
        k, ctx.pullback = basis.cross(x)
        return k

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.pullback(gradients[0]), None


def with_variables(x: jt.Float[Tensor, "*b m d"], basis: Basis) -> jt.Float[Tensor, "*b m n"]:
    """k_u(x)ᵀ, the covariances with a basis' variables, differentiable once by x."""
    return _WithVariables.apply(x, basis)  # type: ignore[no-untyped-call, no-any-return]
