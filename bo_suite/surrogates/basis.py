"""Mean, variance and covariance of a process that is written in covariances with some rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.kernels import Kernel, PreparedKernel
from bo_suite.kernels.base import CrossTo, Pullback
from bo_suite.linalg import jittered_cholesky, solve_lower


@dataclass(frozen=True, eq=False)
class Basis:
    """cov(x, z) = k(x, z) - a(x)ᵀ a(z) + b(x)ᵀ b(z), with a(x) = L⁻¹ k(rows, x) and b = L_B⁻¹ a.

    The rows of an exact process are its data, L factorises their covariance with the noise, and there is no
    b. The rows of a sparse process are its inducing inputs, and L_B L_Bᵀ is the precision of their whitened
    values (Titsias 2009, equation 6).

    Attributes:
        kernel: covariance function.
        theta: its parameters.
        rows: inputs.
        chol: L.
        precision_chol: L_B; None for no b.
    """

    kernel: Kernel
    theta: jt.Float[Tensor, "*b p"]
    rows: jt.Float[Tensor, "*b n d"]
    chol: jt.Float[Tensor, "*b n n"]
    precision_chol: jt.Float[Tensor, "*b n n"] | None = None

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """k(x, x) at the first row."""
        return self.kernel.diagonal(self.theta, self.rows[..., :1, :])[..., 0]

    def cross(self, x: jt.Float[Tensor, "*b m d"]) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, rows), and the map of W to d sum(W * k) / d x."""
        return self.kernel.cross(self.theta, x, self.rows) if self._prepared is None else self._prepared(x)

    @cached_property
    def _prepared(self) -> CrossTo | None:
        return (
            self.kernel.prepared(self.theta, self.rows) if isinstance(self.kernel, PreparedKernel) else None
        )

    def fantasies(self, white: jt.Float[Tensor, "*sb n"]) -> tuple[int, ...]:
        """Shape of the fantasy dimensions, in front of those of the replicates; () without fantasies."""
        return tuple(white.shape[: white.ndim - self.rows.ndim + 1])

    def whiten(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b n m"]:
        """a(x) = L⁻¹ k(rows, x)."""
        return solve_lower(self.chol, self.kernel.cross(self.theta, self.rows, x)[0])

    def weights(self, white: jt.Float[Tensor, "*sb n"]) -> jt.Float[Tensor, "*b n s"]:
        """L⁻ᵀ white, or L⁻ᵀ L_B⁻ᵀ white, with the fantasies, flattened, as columns."""
        count = len(self.fantasies(white))
        flat = (white.flatten(0, count - 1) if count else white[None]).movedim(0, -1)
        if self.precision_chol is not None:
            flat = solve_lower(self.precision_chol, flat, transposed=True)
        return solve_lower(self.chol, flat, transposed=True)

    def explained(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b n m"]:
        """V with cov(z, x) = k(z, x) - k(z, rows) V: L⁻ᵀ (a(x) - L_B⁻ᵀ b(x))."""
        a = self.whiten(x)
        if self.precision_chol is not None:
            b = solve_lower(self.precision_chol, a)
            a = a - solve_lower(self.precision_chol, b, transposed=True)
        return solve_lower(self.chol, a, transposed=True)

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"], weights: jt.Float[Tensor, "*b n s"]
    ) -> tuple[jt.Float[Tensor, "*b m s"], jt.Float[Tensor, "*b m"]]:
        """k(x, rows) weights, and the variance, at least 0; both differentiable once by x."""
        mean, var = _MeanAndVar.apply(x, self, weights)  # type: ignore[no-untyped-call]
        return mean, var

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance."""
        left = self.whiten(x1)
        right = left if x2 is x1 else self.whiten(x2)
        cov = self.kernel.cross(self.theta, x1, x2)[0] - left.mT @ right
        if self.precision_chol is None:
            return cov
        left = solve_lower(self.precision_chol, left)
        return cov + left.mT @ (left if x2 is x1 else solve_lower(self.precision_chol, right))


def fantasies_first(columns: jt.Float[Tensor, "*b m s"], fantasies: tuple[int, ...]) -> Tensor:
    """Columns, one a fantasy, as values (*fantasies, *b, m)."""
    return columns.movedim(-1, 0).reshape(*fantasies, *columns.shape[:-1])


def inducing_basis(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], inducing: jt.Float[Tensor, "*b m d"], jitter: float
) -> Basis:
    """The inducing inputs as the rows of a basis without L_B: that of the prior.

    Args:
        kernel: covariance function.
        theta: its parameters.
        inducing: Z.
        jitter: share of the diagonal of k(Z, Z) that is added to it.

    Raises:
        NumericalError: k(Z, Z) is not positive definite, even with more jitter.
    """
    covariance = add_jitter(kernel.gram(theta, inducing)[0], jitter)
    return Basis(kernel, theta, inducing, jittered_cholesky(covariance)[0])


def jitter_or_default(jitter: float | None, dtype: torch.dtype) -> float:
    """The jitter; when None, 1e-8 in float64 and 1e-5 in float32."""
    if jitter is not None:
        return jitter
    return 1e-8 if dtype == torch.float64 else 1e-5


def add_jitter(matrix: jt.Float[Tensor, "*b m m"], jitter: float) -> jt.Float[Tensor, "*b m m"]:
    """A + jitter diag(A). The same map takes a gradient by the result to the one by A."""
    return matrix + torch.diag_embed(jitter * matrix.diagonal(dim1=-2, dim2=-1))


class _MeanAndVar(torch.autograd.Function):
    """`Basis.mean_and_var` with the analytic gradient by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Basis, weights: Tensor) -> tuple[Tensor, Tensor]:
        k, pullback = basis.cross(x)
        a = solve_lower(basis.chol, k.mT)
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
        by_k = solve_lower(ctx.basis.chol, by_a * (-2.0 * by_var), transposed=True).mT
        by_x = ctx.pullback(mean_gradient @ ctx.weights.mT + by_k)
        _, by_diagonal = ctx.basis.kernel.diagonal_gradient(ctx.basis.theta, ctx.x, by_var[..., 0, :])
        return by_x + by_diagonal, None, None
