"""Fitted Gaussian processes: mean, covariance, and conditioning as linear algebra."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel
from bo_suite.linalg import (
    cholesky_append,
    cholesky_delete,
    cholesky_slide,
    jittered_cholesky,
    solve_lower,
)
from bo_suite.linalg.cholesky import rows_named
from bo_suite.linalg.environment import differentiable
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.lookahead import Lookahead

Hyperparameters = jt.Float[Tensor, "*b p"]
"""What a fit found: a vector a replicate, unconstrained but for a box."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """What an earlier fit has found.

    Attributes:
        hyperparameters: of the surrogate.
        observations: number that it saw.
        success: of the model of failures beside it, if there was one.
        settled: whether it saw the same observations, pending points aside: then there is nothing to refit.
    """

    hyperparameters: Hyperparameters
    observations: int
    success: "WarmStart | None" = None
    settled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", differentiable(self.hyperparameters))


@runtime_checkable
class Process(Protocol):
    """A fitted, immutable Gaussian process of `*b` replicates; `*sb` are those behind fantasy dimensions."""

    @property
    def noise(self) -> jt.Float[Tensor, "*b"]:
        """Variance of an observation about the latent function."""

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the latent function, which rounding errors of `cov` are relative to."""

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Where the next fit may start from."""

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of the latent function."""

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of the latent function, at least 0."""

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Both at once, differentiable by x."""

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of the latent function."""

    def lookahead(self, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
        """Moments anywhere with the covariances to some points, made fast by what it keeps of these."""

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "Process":
        """The process given more observations, with this process's noise where none is given."""


@runtime_checkable
class Surrogate(Protocol):
    """A frozen configuration that fits to data."""

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        """The process given the data; `start` warm-starts the search for hyperparameters, or settles them."""


@dataclass(frozen=True, eq=False)
class ExactProcess:
    """Exact Gaussian process regression, from the factor of the data covariance.

    mean(A) = prior_mean + k(A, X) L⁻ᵀ white,  cov(A, B) = k(A, B) - (L⁻¹ k(X, A))ᵀ L⁻¹ k(X, B), with
    L Lᵀ = k(X, X) + diag(noise) and white = L⁻¹ (y - prior_mean) (Rasmussen and Williams 2006, algorithm
    2.1).

    Attributes:
        kernel: covariance function.
        theta: its parameters.
        x: data rows.
        chol: L.
        white: whitened residuals, with fantasy dimensions in front.
        prior_mean: constant mean.
        noise: variance of a further observation.
        jitter: what had to be added to the diagonal of the data covariance.
    """

    kernel: Kernel
    theta: jt.Float[Tensor, "*b p"]
    x: jt.Float[Tensor, "*b n d"]
    chol: jt.Float[Tensor, "*b n n"]
    white: jt.Float[Tensor, "*sb n"]
    prior_mean: jt.Float[Tensor, "*b"]
    noise: jt.Float[Tensor, "*b"]
    jitter: jt.Float[Tensor, "*b"]

    @property
    def hyperparameters(self) -> Hyperparameters:
        """(theta, log noise)."""
        return torch.cat((self.theta, self.noise.log()[..., None]), -1)

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """k(x, x) at the first row."""
        return self.basis.scale

    @cached_property
    def basis(self) -> Basis:
        """The rows of the data as what the process is expressed in."""
        return Basis(self.kernel, self.theta, self.x, self.chol)

    @cached_property
    def _weights(self) -> Tensor:
        return self.basis.weights(self.white)

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of the latent function."""
        return self.mean_and_var(x)[0]

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of the latent function, at least 0."""
        return self.mean_and_var(x)[1]

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance of the latent function, differentiable once by x."""
        mean, var = self.basis.mean_and_var(x, self._weights)
        return with_fantasies(mean, self.white) + self.prior_mean[..., None], var

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of the latent function."""
        return self.basis.cov(x1, x2)

    def lookahead(self, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
        """Moments anywhere with the covariances to some points, made fast by what it keeps of these."""
        return Lookahead.of(self.basis, self.white, self.prior_mean, points)

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "ExactProcess":
        """The process given more observations, by appending rows to the factor: O(n² q).

        A leading dimension of y holds fantasies, which share the covariance. Conditioning a process that
        has fantasies already takes outcomes with the same ones.

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        joint = torch.cat((self.x, x), -2)
        chol = cholesky_append(self.chol, *self._covariance(joint, x, y, noise))
        n = self.x.shape[-2]
        explained = (chol[..., n:, :n] @ self.white[..., None])[..., 0]
        residual = y - self.prior_mean[..., None] - explained
        fresh = solve_lower(chol[..., n:, n:], residual[..., None])[..., 0]
        white = torch.cat((self.white.expand(*fresh.shape[:-1], n), fresh), -1)
        return replace(self, x=joint, chol=chol, white=white)

    def delete(self, index: int | slice | Tensor) -> "ExactProcess":
        """The process without some observations, by deleting rows of the factor: O(n² q).

        Args:
            index: an observation, a slice of them, a tensor of their indices (q,) or a mask (n,).

        Raises:
            DataError: no such observation, or none would be left.
        """
        mask = torch.ones(self.x.shape[-2], dtype=torch.bool, device=self.x.device)
        mask[rows_named(index, len(mask))] = False
        if not bool(mask.any()):
            raise DataError("at least one observation must be left, but all were to be deleted")
        kept = mask.nonzero()[:, 0]
        chol = cholesky_delete(self.chol, ~mask)
        residual = (self.chol @ self.white[..., None]).index_select(-2, kept)
        white = solve_lower(chol, residual)[..., 0]
        return replace(self, x=self.x.index_select(-2, kept), chol=chol, white=white)

    def slide(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "ExactProcess":
        """The process given more observations instead of as many of the first ones: O(n² q).

        A window over a stream of observations, at fixed hyperparameters and prior mean.

        Raises:
            DataError: x and y do not fit together, or are more than the window.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        q, n = x.shape[-2], self.x.shape[-2]
        if q > n:
            raise DataError(f"a window of {n} observations can not slide by {q}")
        joint = torch.cat((self.x[..., q:, :], x), -2)
        chol = cholesky_slide(self.chol, *self._covariance(joint, x, y, noise))
        fresh = y - self.prior_mean[..., None]
        residual = (self.chol[..., q:, :] @ self.white[..., None])[..., 0]
        lead = max(fresh.shape[:-1], residual.shape[:-1], key=len)
        residual = torch.cat((residual.expand(*lead, n - q), fresh.expand(*lead, q)), -1)
        white = solve_lower(chol, residual[..., None])[..., 0]
        return replace(self, x=joint, chol=chol, white=white)

    def _covariance(self, joint: Tensor, x: Tensor, y: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """k of the rows before with the last rows x, and the data covariance of these."""
        check_observations(x, y)
        k, _ = self.kernel.cross(self.theta, joint, x)
        variance = self.noise[..., None].expand(x.shape[:-1]) if noise is None else noise
        n = joint.shape[-2] - x.shape[-2]
        return k[..., :n, :], k[..., n:, :] + torch.diag_embed(variance)


def with_fantasies(mean: Tensor, white: Tensor) -> Tensor:
    """Means (*b, m, s) with the fantasies of `white` (*sb, n) in front: (*sb, m)."""
    lead = white.ndim - mean.ndim + 1
    return mean.movedim(-1, 0).reshape(*white.shape[:lead], *mean.shape[:-1])


def check_observations(x: Tensor, y: Tensor) -> None:
    """Raises unless y (*s, *b, q) are outcomes of the rows x (*b, q, d), perhaps in fantasies *s."""
    if x.shape[:-1] != y.shape[y.ndim - x.ndim + 1 :]:
        raise DataError(f"y must be (*s, *b, q) for x (*b, q, d), got {tuple(y.shape)}, {tuple(x.shape)}")


def sample_joint(
    process: Process,
    x: jt.Float[Tensor, "*b q d"],
    base: jt.Float[Tensor, "*b s q"],
    counted: jt.Bool[Tensor, "*b q"] | None = None,
) -> Tensor:
    """Joint draws of the latent function at x, mean + chol(cov) base: shape (s, *b, q).

    Rows that are not `counted` are drawn on their own, and so have no influence on the others.
    """
    cov = process.cov(x, x)
    if counted is not None:
        both = counted[..., :, None] & counted[..., None, :]
        cov = torch.where(both, cov, torch.diag_embed(process.scale[..., None].expand(counted.shape)))
    chol, _ = jittered_cholesky(cov, process.scale)
    return (base @ chol.mT).movedim(-2, 0) + process.mean(x)
