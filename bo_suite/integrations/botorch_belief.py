"""Joint posterior moments of a process by torch alone, differentiable also by what it was conditioned on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.kernels import Kernel
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.surrogates.lookahead import Cross
from bo_suite.surrogates.paths import Pathwise
from bo_suite.surrogates.process import Process


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows (..., *b, q, d), their means, and a = L⁻¹ k(basis, x) and b = L_B⁻¹ a, (..., *b, n, q)."""

    x: Tensor
    mean: Tensor
    a: Tensor
    b: Tensor | None


@dataclass(frozen=True, eq=False)
class Belief:
    """What is known: a process in its basis, and observations X, Y that it is given as well.

    With m and c the process's mean and covariance (see `Basis`), and S = c(X, X) + diag(variance):
    mean(x) = m(x) + c(x, X) S⁻¹ (Y - m(X)),  cov(x, z) = c(x, z) - c(x, X) S⁻¹ c(X, z).

    Attributes:
        kernel: covariance function.
        theta: its parameters (*b, p).
        rows: the basis (*b, n, d).
        chol: L (*b, n, n).
        precision_chol: L_B (*b, n, n); None for no b.
        weights: of the mean (*b, n, 1).
        prior_mean: constant mean (*b).
        noise: variance of a further observation (*b).
        x: X (..., *b, q, d), shared by fantasies; None for none.
        y: Y (..., q).
        variance: of Y about the latent function (..., q).
    """

    kernel: Kernel
    theta: Tensor
    rows: Tensor
    chol: Tensor
    precision_chol: Tensor | None
    weights: Tensor
    prior_mean: Tensor
    noise: Tensor
    x: Tensor | None = None
    y: Tensor | None = None
    variance: Tensor | None = None

    @staticmethod
    def of(process: Process, sign: float) -> "Belief":
        """A process, its outcomes times `sign`.

        Raises:
            DataError: a process with fantasies, or not expressed in rows.
        """
        if not isinstance(process, Pathwise):
            raise DataError(f"a model needs a process that is `Pathwise`, got {type(process).__name__}")
        basis, white = process.basis, process.white
        if white.ndim > basis.rows.ndim - 1:
            raise DataError("a model is made of a process without fantasies, got one with some")
        return Belief(
            basis.kernel,
            basis.theta,
            basis.rows,
            basis.chol,
            basis.precision_chol,
            sign * basis.weights(white),
            sign * process.prior_mean,
            process.noise,
        )

    @property
    def batch_shape(self) -> torch.Size:
        """Of the moments at rows without batch dimensions of their own."""
        if self.x is None or self.y is None:
            return self.prior_mean.shape
        found: torch.Size = torch.broadcast_shapes(
            self.prior_mean.shape, self.x.shape[:-2], self.y.shape[:-1]
        )
        return found

    def given(self, x: Tensor, y: Tensor, variance: Tensor) -> "Belief":
        """Conditioned on observations as well."""
        if self.x is None or self.y is None or self.variance is None:
            return replace(self, x=x, y=y, variance=variance)
        return replace(
            self,
            x=_joined(self.x, x, 2),
            y=_joined(self.y, y, 1),
            variance=_joined(self.variance, variance, 1),
        )

    def apply(self, fn: Callable[[Tensor], Tensor]) -> "Belief":
        """With a function applied to every tensor."""
        found: dict[str, Any] = {
            name: fn(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **found)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Joint mean (..., q) and covariance (..., q, q) at x (..., q, d), in the broadcast batch shape."""
        at = self._at(x)
        mean, cov = at.mean, self._cov(at, at)
        if self.x is not None and self.y is not None and self.variance is not None:
            known = self._at(self.x)
            covariance = self._cov(known, known) + torch.diag_embed(self.variance)
            scale = self.kernel.diagonal(self.theta, self.rows[..., :1, :])[..., 0]
            chol, _ = jittered_cholesky(covariance, scale.expand(covariance.shape[:-2]))
            explained = _solve(chol, self._cov(known, at))
            residual = _solve(chol, (self.y - known.mean)[..., None])
            mean = mean + (explained.mT @ residual)[..., 0]
            cov = cov - explained.mT @ explained
        batch = torch.broadcast_shapes(x.shape[:-2], self.batch_shape)
        q = x.shape[-2]
        return mean.expand(*batch, q), cov.expand(*batch, q, q)

    def _at(self, x: Tensor) -> _Rows:
        """All batch elements of x as more rows of the same replicate, so that factors are never copied."""
        own = self.prior_mean.shape
        x = x.expand(*torch.broadcast_shapes(x.shape[:-2], own), *x.shape[-2:])
        lead, (m, d) = x.shape[: x.ndim - 2 - len(own)], x.shape[-2:]
        count = math.prod(lead)
        rows = x.reshape(count, *own, m, d).movedim(0, -3).reshape(*own, count * m, d)
        k = self._prior(rows, self.rows)
        mean = (k @ self.weights)[..., 0] + self.prior_mean[..., None]
        a = solve_lower(self.chol, k.mT)
        b = None if self.precision_chol is None else solve_lower(self.precision_chol, a)

        def apart(columns: Tensor) -> Tensor:
            parts = columns.reshape(*own, columns.shape[-2], count, m).movedim(-2, 0)
            return parts.reshape(*lead, *own, columns.shape[-2], m)

        return _Rows(x, apart(mean[..., None, :])[..., 0, :], apart(a), None if b is None else apart(b))

    def _cov(self, left: _Rows, right: _Rows) -> Tensor:
        batch = torch.broadcast_shapes(left.x.shape[:-2], right.x.shape[:-2])
        x, z = (part.x.expand(*batch, *part.x.shape[-2:]) for part in (left, right))
        cov = self._prior(x, z) - left.a.mT @ right.a
        return cov if left.b is None or right.b is None else cov + left.b.mT @ right.b

    def _prior(self, x: Tensor, z: Tensor) -> Tensor:
        theta = self.theta.expand(*x.shape[:-2], -1)
        return Cross.apply(x, z, self.kernel, theta)  # type: ignore[no-untyped-call, no-any-return]


def _solve(chol: Tensor, right: Tensor) -> Tensor:
    """L⁻¹ B, where B may have batch dimensions that L has not: these become columns."""
    extra = right.ndim - chol.ndim
    if extra <= 0 or right.shape[extra:-2] != chol.shape[:-2]:
        batch = torch.broadcast_shapes(right.shape[:-2], chol.shape[:-2])
        return solve_lower(chol.expand(*batch, -1, -1), right.expand(*batch, -1, -1))
    lead = right.shape[:extra]
    columns = right.reshape(math.prod(lead), *right.shape[extra:]).movedim(0, -2).flatten(-2)
    parts = (math.prod(lead), right.shape[-1])
    solved: Tensor = solve_lower(chol, columns).reshape(*columns.shape[:-1], *parts)
    return solved.movedim(-2, 0).reshape(*lead, *solved.shape[:-2], right.shape[-1])


def _joined(first: Tensor, second: Tensor, kept: int) -> Tensor:
    """Both, one after the other along q, their batch dimensions broadcast."""
    axis = -kept
    batch = torch.broadcast_shapes(first.shape[:axis], second.shape[:axis])
    return torch.cat([part.expand(*batch, *part.shape[axis:]) for part in (first, second)], axis)
