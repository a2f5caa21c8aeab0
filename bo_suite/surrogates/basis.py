"""Mean, variance and covariance of a process that is written in covariances with some variables."""

import logging
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.errors import NumericalError
from bo_suite.kernels import Functionals, Kernel
from bo_suite.kernels.base import CrossTo, Pullback
from bo_suite.linalg import solve_lower
from bo_suite.linalg.factors import Factor, Lower
from bo_suite.surrogates.features.observables import Observables
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.observed import Observed, covariance, variances

logger = logging.getLogger("bo_suite")

_FIRST_JITTER, _LAST_JITTER = 1e-10, 1e-4
"""Shares of the variances that are added to K_uu when it does not factorise."""


@dataclass(frozen=True, eq=False)
class Basis:
    """cov(x, z) = k(x, z) - a(x)ᵀ a(z) + b(x)ᵀ b(z), with a(x) = L⁻¹ k_u(x) and b = L_B⁻¹ a.

    The variables u of an exact process are the function at its data, L factorises their covariance with the
    noise, and there is no b. Those of a sparse process are its inducing variables, and L_B L_Bᵀ is the
    precision of their whitened values (Titsias 2009, equation 6).

    Attributes:
        kernel: covariance function.
        theta: its parameters.
        variables: u.
        factor: L.
        precision_chol: L_B; None for no b.
    """

    kernel: Kernel
    theta: jt.Float[Tensor, "*b p"]
    variables: InducingVariables
    factor: Factor
    precision_chol: jt.Float[Tensor, "*b n n"] | None = None

    @staticmethod
    def of_observed(
        kernel: Kernel,
        theta: jt.Float[Tensor, "*b p"],
        observed: Observed,
        chol: jt.Float[Tensor, "*b n n"],
    ) -> "Basis":
        """That of an exact process: what it observes, and the factor of its covariance with the noise."""
        variables = Points(observed) if isinstance(observed, Tensor) else Observables(observed)
        return Basis(kernel, theta, variables, Lower(chol))

    @property
    def rows(self) -> jt.Float[Tensor, "*b j d"]:
        """The inputs among the variables."""
        return self.variables.points

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """k(x, x) at the first row, or in the middle of the unit cube if there is none."""
        rows = self.rows[..., :1, :]
        if not rows.shape[-2]:
            rows = rows.new_full((*rows.shape[:-2], 1, rows.shape[-1]), 0.5)
        return self.kernel.diagonal(self.theta, rows)[..., 0]

    def cross(self, x: jt.Float[Tensor, "*b m d"]) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k_u(x)ᵀ, and the map of W to d sum(W * k_uᵀ) / d x."""
        return self._cross_to(x)

    @cached_property
    def _cross_to(self) -> CrossTo:
        return self.variables.cross_to(self.kernel, self.theta)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is computed of them is a function, which no pickle holds."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def fantasies(self, white: jt.Float[Tensor, "*sb n"]) -> tuple[int, ...]:
        """Shape of the fantasy dimensions, in front of those of the replicates; () without fantasies."""
        return tuple(white.shape[: white.ndim - self.theta.ndim])

    def whiten(self, x: Observed) -> jt.Float[Tensor, "*b n m"]:
        """a(x) = L⁻¹ k_u(x), or L⁻¹ cov(u, functionals)."""
        return self.factor.solve(self.variables.cross(self.kernel, self.theta, x))

    def weights(self, white: jt.Float[Tensor, "*sb n"]) -> jt.Float[Tensor, "*b n s"]:
        """L⁻ᵀ white, or L⁻ᵀ L_B⁻ᵀ white, with the fantasies, flattened, as columns."""
        count = len(self.fantasies(white))
        flat = (white.flatten(0, count - 1) if count else white[None]).movedim(0, -1)
        if self.precision_chol is not None:
            flat = solve_lower(self.precision_chol, flat, transposed=True)
        return self.factor.solve(flat, transposed=True)

    def explained(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b n m"]:
        """V with cov(z, x) = k(z, x) - k_u(z)ᵀ V: L⁻ᵀ (a(x) - L_B⁻ᵀ b(x))."""
        a = self.whiten(x)
        if self.precision_chol is not None:
            b = solve_lower(self.precision_chol, a)
            a = a - solve_lower(self.precision_chol, b, transposed=True)
        return self.factor.solve(a, transposed=True)

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"], weights: jt.Float[Tensor, "*b n s"]
    ) -> tuple[jt.Float[Tensor, "*b m s"], jt.Float[Tensor, "*b m"]]:
        """k_u(x)ᵀ weights, and the variance, at least 0; both differentiable once by x."""
        mean, var = _MeanAndVar.apply(x, self, weights)  # type: ignore[no-untyped-call]
        return mean, var

    def moments(
        self, functionals: Functionals, weights: jt.Float[Tensor, "*b n s"]
    ) -> tuple[jt.Float[Tensor, "*b m s"], jt.Float[Tensor, "*b m"]]:
        """The covariances with u times the weights, and the variances, at least 0, of functionals."""
        k = self.variables.cross(self.kernel, self.theta, functionals)
        a = self.factor.solve(k)
        var = variances(self.kernel, self.theta, functionals) - a.square().sum(-2)
        if self.precision_chol is not None:
            var = var + solve_lower(self.precision_chol, a).square().sum(-2)
        return k.mT @ weights, var.clamp(min=0.0)

    def cov(self, x1: Observed, x2: Observed) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance."""
        left = self.whiten(x1)
        right = left if x2 is x1 else self.whiten(x2)
        cov = covariance(self.kernel, self.theta, x1, x2) - left.mT @ right
        if self.precision_chol is None:
            return cov
        left = solve_lower(self.precision_chol, left)
        return cov + left.mT @ (left if x2 is x1 else solve_lower(self.precision_chol, right))


def fantasies_first(columns: jt.Float[Tensor, "*b m s"], fantasies: tuple[int, ...]) -> Tensor:
    """Columns, one a fantasy, as values (*fantasies, *b, m)."""
    return columns.movedim(-1, 0).reshape(*fantasies, *columns.shape[:-1])


def inducing_basis(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], variables: InducingVariables, jitter: float
) -> Basis:
    """The inducing variables as those of a basis without L_B: that of the prior.

    Args:
        kernel: covariance function.
        theta: its parameters.
        variables: u.
        jitter: share of the variances of u that is added to them.

    Raises:
        NumericalError: K_uu is not positive definite, even with more jitter.
    """
    covariance = variables.covariance(kernel, theta, jitter)
    shares, more = theta.new_full(theta.shape[:-1], jitter), _FIRST_JITTER
    while bool(covariance.info.any()):
        if more > 1.5 * _LAST_JITTER:
            raise NumericalError(
                "the covariance of the inducing variables must be finite and positive definite, but with "
                f"jitter {jitter + _LAST_JITTER:g} of their variances it is not. Check the kernel"
            )
        logger.info("the covariance of inducing variables was factorised with jitter %g", jitter + more)
        shares = torch.where(covariance.info == 0, shares, jitter + more)
        covariance = variables.covariance(kernel, theta, shares)
        more *= 10.0
    return Basis(kernel, theta, variables, covariance.factor)


def jitter_or_default(jitter: float | None, dtype: torch.dtype) -> float:
    """The jitter; when None, 1e-8 in float64 and 1e-5 in float32."""
    if jitter is not None:
        return jitter
    return 1e-8 if dtype == torch.float64 else 1e-5


class _MeanAndVar(torch.autograd.Function):
    """`Basis.mean_and_var` with the analytic gradient by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Basis, weights: Tensor) -> tuple[Tensor, Tensor]:
        k, pullback = basis.cross(x)
        a = basis.factor.solve(k.mT)
        raw = basis.kernel.diagonal(basis.theta, x) - a.square().sum(-2)
        ctx.b = None
        if basis.precision_chol is not None:
            ctx.b = solve_lower(basis.precision_chol, a)
            raw = raw + ctx.b.square().sum(-2)
        ctx.pullback, ctx.basis, ctx.a, ctx.weights, ctx.positive = pullback, basis, a, weights, raw > 0
        ctx.x = x.detach()
        return k @ weights, raw.clamp(min=0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        mean_gradient, var_gradient = gradients
        by_a = ctx.a
        if ctx.b is not None:
            by_a = by_a - solve_lower(ctx.basis.precision_chol, ctx.b, transposed=True)
        by_var = torch.where(ctx.positive, var_gradient, 0.0)[..., None, :]
        by_k = ctx.basis.factor.solve(by_a * (-2.0 * by_var), transposed=True).mT
        by_x = ctx.pullback(mean_gradient @ ctx.weights.mT + by_k)
        _, by_diagonal = ctx.basis.kernel.diagonal_gradient(ctx.basis.theta, ctx.x, by_var[..., 0, :])
        return by_x + by_diagonal, None, None
