"""What a fitted process and a surrogate must offer, and exact Gaussian process regression."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Functionals, Kernel
from bo_suite.linalg import (
    cholesky_append,
    cholesky_delete,
    cholesky_slide,
    jittered_cholesky,
    solve_lower,
)
from bo_suite.linalg.cholesky import rows_named
from bo_suite.linalg.environment import differentiable
from bo_suite.surrogates import moments
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.features.observables import Observables
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.observed import (
    Observed,
    chosen,
    covariance,
    joined,
    number_of,
    prior_means,
)
from bo_suite.surrogates.prior_mean import PriorMean

Hyperparameters = jt.Float[Tensor, "*b p"]
"""Fitted free parameters, one vector a replicate, unconstrained but for a box."""

ROWS_AT_ONCE = 4096
"""Number of rows whose covariances with the basis of a process are in memory at once."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """The result of an earlier fit, from which the next fit may start.

    Attributes:
        hyperparameters: of the surrogate.
        observations: number of observations that were fitted.
        success: of the model of failures, if one was fitted too.
        feasibility: of the model of constraints, if one was fitted too.
        settled: whether the observations are the same, pending points aside: then nothing is searched.
    """

    hyperparameters: Hyperparameters
    observations: int
    success: "WarmStart | None" = None
    feasibility: "WarmStart | None" = None
    settled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", differentiable(self.hyperparameters))


@runtime_checkable
class Process(Protocol):
    """A fitted, immutable Gaussian process of `*b` replicates; `*sb` puts fantasy dimensions in front."""

    @property
    def noise(self) -> jt.Float[Tensor, "*b"]:
        """Variance of an observation about the latent function."""

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the latent function. Rounding errors of `cov` are relative to it."""

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Where the next fit may start."""

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of the latent function."""

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of the latent function, at least 0."""

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance, differentiable by x."""

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of the latent function."""

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "Process":
        """The process given more observations, with this process's noise when `noise` is None."""


@runtime_checkable
class SupportsLookahead(Process, Protocol):
    """A process that the knowledge gradient can look ahead with."""

    def lookahead(self, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
        """Moments at any rows with their covariances to the points."""

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SupportsLookahead":
        """The process given more observations; it can look ahead too."""


@runtime_checkable
class CoupledOutputs(Process, Protocol):
    """A process of several outputs, its first dimension, whose values depend on each other."""

    def joint_samples(self, x: jt.Float[Tensor, "*b q d"], base: jt.Float[Tensor, "*b s q"]) -> Tensor:
        """Joint draws of all outputs at the same rows from standard normal numbers: (s, *b, q)."""


@runtime_checkable
class Surrogate(Protocol):
    """A frozen configuration that fits to data.

    Two attributes are optional. `batched` is True if it fits several replicates at once, and
    `learns_from_derivatives` is True if it learns from `Dataset.gradient`, which others ignore.
    """

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        """The process given the data; a search for hyperparameters starts at `start`, if given."""


@dataclass(frozen=True, eq=False)
class ExactProcess:
    """Exact Gaussian process regression, from the factor of the data covariance.

    Observations are of values at rows, or of linear functionals: X stands for both.
    mean(A) = m(A) + k(A, X) L⁻ᵀ white,  cov(A, B) = k(A, B) - (L⁻¹ k(X, A))ᵀ L⁻¹ k(X, B), with
    L Lᵀ = k(X, X) + diag(noise), prior mean m and white = L⁻¹ (y - m(X)) (Rasmussen and Williams 2006,
    algorithm 2.1).

    Attributes:
        basis: kernel, its parameters theta, the data rows X and L.
        white: whitened residuals, with fantasy dimensions in front.
        prior_mean: m.
        noise: variance of a further observation.
        jitter: what was added to the diagonal of the data covariance so that it factorises.
        derivative_noise: level of the noise of derivatives, as in `Observations`; None if none were fitted.
    """

    basis: Basis
    white: jt.Float[Tensor, "*sb n"]
    prior_mean: PriorMean
    noise: jt.Float[Tensor, "*b"]
    jitter: jt.Float[Tensor, "*b"]
    derivative_noise: jt.Float[Tensor, "*b"] | None = None

    @property
    def weights(self) -> jt.Float[Tensor, "*b n s"]:
        """Weights of the covariances with the rows in the mean, one column a fantasy."""
        return self._weights

    @cached_property
    def _weights(self) -> Tensor:
        return self.basis.weights(self.white)

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the latent function, at the first row."""
        return self.basis.scale

    mean = moments.mean
    var = moments.var
    mean_and_var = moments.mean_and_var
    cov = moments.cov
    lookahead = moments.lookahead

    @property
    def kernel(self) -> Kernel:
        """Covariance function."""
        return self.basis.kernel

    @property
    def theta(self) -> jt.Float[Tensor, "*b p"]:
        """The kernel's parameters."""
        return self.basis.theta

    @property
    def x(self) -> jt.Float[Tensor, "*b n d"]:
        """Data rows; of functionals, their nodes."""
        return self.basis.rows

    @property
    def observed(self) -> Observed:
        """What is observed: values at rows, or functionals."""
        variables = self.basis.variables
        return variables.functionals if isinstance(variables, Observables) else variables.points

    @property
    def chol(self) -> jt.Float[Tensor, "*b n n"]:
        """L."""
        return self.basis.factor.dense

    @property
    def hyperparameters(self) -> Hyperparameters:
        """(theta, log noise), and the log of the noise of derivatives if it was fitted."""
        levels = [self.noise] if self.derivative_noise is None else [self.noise, self.derivative_noise]
        return torch.cat((self.theta, torch.stack(levels, -1).log()), -1)

    def condition(
        self,
        x: Observed,
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "ExactProcess":
        """The process given more observations, by appending rows to the factor: O(n² q).

        A leading dimension of y holds fantasies, which share the covariance. A process that has fantasies
        already is conditioned on outcomes with the same fantasy dimensions.

        Args:
            x: rows whose values are observed, or functionals of the function, such as its derivatives.
            y: the observations.
            noise: their variances; None for that of this process, for values alone.

        Raises:
            DataError: x and y do not fit together, or functionals without noise or a smooth kernel.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        joint, n = joined(self.observed, x), number_of(self.observed)
        chol = cholesky_append(self.chol, *self._covariance(joint, x, y, noise))
        explained = (chol[..., n:, :n] @ self.white[..., None])[..., 0]
        residual = y - prior_means(self.prior_mean, x) - explained
        added = solve_lower(chol[..., n:, n:], residual[..., None])[..., 0]
        white = torch.cat((self.white.expand(*added.shape[:-1], n), added), -1)
        return self._with_observed(joint, chol, white)

    def delete(self, index: int | slice | Tensor) -> "ExactProcess":
        """The process without some observations, by deleting rows of the factor: O(n² q).

        Args:
            index: an observation, a slice of them, a tensor of their indices (q,) or a mask (n,).

        Raises:
            DataError: no such observation, or none would be left.
        """
        mask = torch.ones(number_of(self.observed), dtype=torch.bool, device=self.x.device)
        mask[rows_named(index, len(mask))] = False
        if not bool(mask.any()):
            raise DataError("at least one observation must be left, but all were to be deleted")
        remaining = mask.nonzero()[:, 0]
        chol = cholesky_delete(self.chol, ~mask)
        residual = (self.chol @ self.white[..., None]).index_select(-2, remaining)
        white = solve_lower(chol, residual)[..., 0]
        return self._with_observed(chosen(self.observed, remaining), chol, white)

    def slide(
        self,
        x: Observed,
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "ExactProcess":
        """The process with the q oldest observations replaced by q new ones: O(n² q).

        A window over a stream of observations, at fixed hyperparameters and prior mean.

        Raises:
            DataError: x and y do not fit together, or are more than the window.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        q, n = number_of(x), number_of(self.observed)
        if q > n:
            raise DataError(f"a window of {n} observations can not slide by {q}")
        joint = joined(chosen(self.observed, torch.arange(q, n, device=self.x.device)), x)
        chol = cholesky_slide(self.chol, *self._covariance(joint, x, y, noise))
        added = y - prior_means(self.prior_mean, x)
        residual = (self.chol[..., q:, :] @ self.white[..., None])[..., 0]
        lead = max(added.shape[:-1], residual.shape[:-1], key=len)
        residual = torch.cat((residual.expand(*lead, n - q), added.expand(*lead, q)), -1)
        return self._with_observed(joint, chol, solve_lower(chol, residual[..., None])[..., 0])

    def _with_observed(self, observed: Observed, chol: Tensor, white: Tensor) -> "ExactProcess":
        return replace(self, basis=Basis.of_observed(self.kernel, self.theta, observed, chol), white=white)

    def _covariance(
        self, joint: Observed, x: Observed, y: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """k of the earlier observations with the last ones x, and the data covariance of x."""
        check_observations(x, y, noise)
        k = covariance(self.kernel, self.theta, joint, x)
        lead = (*self.theta.shape[:-1], number_of(x))
        variance = self.noise[..., None].expand(lead) if noise is None else noise
        n = k.shape[-2] - k.shape[-1]
        return k[..., :n, :], k[..., n:, :] + torch.diag_embed(variance)


def check_observations(x: Observed, y: Tensor, noise: Tensor | None) -> None:
    """Raise DataError unless y is (*s, *b, q), with fantasies *s, for q observations; the noise likewise."""
    if isinstance(x, Functionals):
        shape = (*x.x.shape[:-2], x.count)
        if noise is None:
            raise DataError("the noise of observed functionals must be given: that of values is not theirs")
    else:
        shape = tuple(x.shape[:-1])
    if shape != tuple(y.shape[y.ndim - len(shape) :]):
        raise DataError(f"y must be (*s, *b, q), with (*b, q) = {shape} of x, got {tuple(y.shape)}")


def sample_joint(
    process: Process,
    x: jt.Float[Tensor, "*b q d"],
    base: jt.Float[Tensor, "*b s q"],
    counted: jt.Bool[Tensor, "*b q"] | None = None,
) -> Tensor:
    """Joint draws of the latent function at x, mean + chol(cov) base: shape (s, *b, q).

    Rows that are not `counted` are drawn independently, so that they do not influence the others. `counted`
    is for processes of one output alone.
    """
    if isinstance(process, CoupledOutputs) and counted is None:
        return process.joint_samples(x, base)
    cov = process.cov(x, x)
    if counted is not None:
        both = counted[..., :, None] & counted[..., None, :]
        cov = torch.where(both, cov, torch.diag_embed(process.scale[..., None].expand(counted.shape)))
    chol, _ = jittered_cholesky(cov, process.scale)
    return (base @ chol.mT).movedim(-2, 0) + process.mean(x)
