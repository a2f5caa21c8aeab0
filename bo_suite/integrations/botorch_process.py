"""Joint posterior moments of a process, differentiable also by the observations it is conditioned on."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.linalg.factors import Factor
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.features import InducingVariables
from bo_suite.surrogates.lookahead import Cross, with_variables
from bo_suite.surrogates.moments import Pathwise
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import Process


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows (..., *b, q, d), their means, and a = L⁻¹ k(basis, x) and b = L_B⁻¹ a, (..., *b, n, q)."""

    x: Tensor
    mean: Tensor
    a: Tensor
    b: Tensor | None


@dataclass(frozen=True, eq=False)
class ConditionedProcess:
    """A process in its basis, conditioned on observations X, Y.

    With m and c the mean and covariance of the process (see `Basis`), and S = c(X, X) + diag(variance):
    mean(x) = m(x) + c(x, X) S⁻¹ (Y - m(X)),  cov(x, z) = c(x, z) - c(x, X) S⁻¹ c(X, z).

    Attributes:
        basis: of the process.
        weights: of the mean (*b, n, 1).
        prior_mean: mean before any observation.
        sign: factor of the mean, 1 or -1.
        noise: variance of a further observation (*b).
        x: X (..., *b, q, d), shared by fantasies; None for none.
        y: Y (..., q).
        variance: of Y about the latent function (..., q).
    """

    basis: Basis
    weights: Tensor
    prior_mean: PriorMean
    sign: float
    noise: Tensor
    x: Tensor | None = None
    y: Tensor | None = None
    variance: Tensor | None = None

    @staticmethod
    def of(process: Process, sign: float) -> "ConditionedProcess":
        """A process whose outcomes are multiplied by `sign`, without further observations.

        Raises:
            DataError: a process with fantasies, or without a basis.
        """
        if not isinstance(process, Pathwise):
            raise DataError(f"a model needs a process that is `Pathwise`, got {type(process).__name__}")
        basis, white = process.basis, process.white
        if basis.fantasies(white):
            raise DataError("a model needs a process without fantasies, got one with fantasies")
        return ConditionedProcess(basis, basis.weights(white), process.prior_mean, sign, process.noise)

    @property
    def rows(self) -> Tensor:
        """The rows of the basis (*b, n, d)."""
        return self.basis.rows

    @property
    def batch_shape(self) -> torch.Size:
        """Batch shape of the moments at rows without batch dimensions of their own."""
        own = self.noise.shape
        if self.x is None or self.y is None:
            return own
        return torch.Size(torch.broadcast_shapes(own, self.x.shape[:-2], self.y.shape[:-1]))

    def given(self, x: Tensor, y: Tensor, variance: Tensor) -> "ConditionedProcess":
        """The process conditioned on these observations too."""
        if self.x is None or self.y is None or self.variance is None:
            return replace(self, x=x, y=y, variance=variance)
        return replace(
            self,
            x=_joined(self.x, x, 2),
            y=_joined(self.y, y, 1),
            variance=_joined(self.variance, variance, 1),
        )

    def apply(self, fn: Callable[[Tensor], Tensor]) -> "ConditionedProcess":
        """The process with a function applied to every tensor, but not to a mean function or a kernel."""
        basis = _applied(self.basis, fn)
        prior_mean = replace(self.prior_mean, constant=fn(self.prior_mean.constant))
        tensors: dict[str, Any] = {
            name: fn(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, basis=basis, prior_mean=prior_mean, **tensors)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Joint mean (..., q) and covariance (..., q, q) at x (..., q, d), in the broadcast batch shape."""
        at = self._at(x)
        mean, cov = at.mean, self._cov(at, at)
        if self.x is not None and self.y is not None and self.variance is not None:
            observed = self._at(self.x)
            covariance = self._cov(observed, observed) + torch.diag_embed(self.variance)
            chol, _ = jittered_cholesky(covariance, self.basis.scale.expand(covariance.shape[:-2]))
            explained = _solve(chol, self._cov(observed, at))
            residual = _solve(chol, (self.y - observed.mean)[..., None])
            mean = mean + (explained.mT @ residual)[..., 0]
            cov = cov - explained.mT @ explained
        batch = torch.broadcast_shapes(x.shape[:-2], self.batch_shape)
        q = x.shape[-2]
        return mean.expand(*batch, q), cov.expand(*batch, q, q)

    def _at(self, x: Tensor) -> _Rows:
        """All batch elements of x as more rows of the same replicate, so that factors are never copied."""
        own, basis = self.noise.shape, self.basis
        x = x.expand(*torch.broadcast_shapes(x.shape[:-2], own), *x.shape[-2:])
        lead, (m, d) = x.shape[: x.ndim - 2 - len(own)], x.shape[-2:]
        count = math.prod(lead)
        rows = x.reshape(count, *own, m, d).movedim(0, -3).reshape(*own, count * m, d)
        k = with_variables(rows, basis)
        mean = self.sign * ((k @ self.weights)[..., 0] + self.prior_mean(rows))
        a = basis.factor.solve(k.mT)
        b = None if basis.precision_chol is None else solve_lower(basis.precision_chol, a)

        def split(columns: Tensor) -> Tensor:
            parts = columns.reshape(*own, columns.shape[-2], count, m).movedim(-2, 0)
            return parts.reshape(*lead, *own, columns.shape[-2], m)

        return _Rows(x, split(mean[..., None, :])[..., 0, :], split(a), None if b is None else split(b))

    def _cov(self, left: _Rows, right: _Rows) -> Tensor:
        batch = torch.broadcast_shapes(left.x.shape[:-2], right.x.shape[:-2])
        x, z = (rows.x.expand(*batch, *rows.x.shape[-2:]) for rows in (left, right))
        cov = self._prior_cov(x, z) - left.a.mT @ right.a
        return cov if left.b is None or right.b is None else cov + left.b.mT @ right.b

    def _prior_cov(self, x: Tensor, z: Tensor) -> Tensor:
        theta = self.basis.theta.expand(*x.shape[:-2], -1)
        return Cross.apply(x, z, self.basis.kernel, theta)  # type: ignore[no-untyped-call, no-any-return]


def _applied(holder: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """A basis, or variables or a factor of it, with a function applied to every tensor."""
    changed = {}
    for field in fields(holder):
        value = getattr(holder, field.name)
        if isinstance(value, Tensor):
            changed[field.name] = fn(value)
        elif isinstance(value, InducingVariables | Factor):
            changed[field.name] = _applied(value, fn)
    return replace(holder, **changed)


def _solve(chol: Tensor, right: Tensor) -> Tensor:
    """L⁻¹ B. Batch dimensions of B that L does not have become columns."""
    extra = right.ndim - chol.ndim
    if extra <= 0 or right.shape[extra:-2] != chol.shape[:-2]:
        batch = torch.broadcast_shapes(right.shape[:-2], chol.shape[:-2])
        return solve_lower(chol.expand(*batch, -1, -1), right.expand(*batch, -1, -1))
    lead = right.shape[:extra]
    columns = right.reshape(math.prod(lead), *right.shape[extra:]).movedim(0, -2).flatten(-2)
    parts = (math.prod(lead), right.shape[-1])
    solved: Tensor = solve_lower(chol, columns).reshape(*columns.shape[:-1], *parts)
    return solved.movedim(-2, 0).reshape(*lead, *solved.shape[:-2], right.shape[-1])


def _joined(first: Tensor, second: Tensor, dimensions: int) -> Tensor:
    """Both, one after the other along q, the first of the last `dimensions`; batch dimensions broadcast."""
    axis = -dimensions
    batch = torch.broadcast_shapes(first.shape[:axis], second.shape[:axis])
    return torch.cat([each.expand(*batch, *each.shape[axis:]) for each in (first, second)], axis)
