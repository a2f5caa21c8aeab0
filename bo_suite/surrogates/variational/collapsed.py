"""The collapsed evidence lower bound of sparse regression, the optimal q, and the analytic gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.kernels import Functionals, Kernel
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.noise import log_noise_prior, observation_noise
from bo_suite.surrogates.noisy_inputs import averaged
from bo_suite.surrogates.observed import Observed

_CACHED = 131_072
"""Number of covariances with observations in a chunk: so few that they stay in the cache."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the bound and the optimal q(v) need of the data, at given hyperparameters and inducing variables.

    With A = L⁻¹ k_u(X) and b = 1 / noise: sums over the observations, so that chunks of the data add up.

    Attributes:
        outer: A diag(b) Aᵀ.
        linear: A diag(b) y.
        one: A diag(b) 1.
        yy: yᵀ diag(b) y.
        y1: yᵀ diag(b) 1.
        total: 1ᵀ diag(b) 1.
        residual: tr(diag(b) (k(X, X) - AᵀA)), the variance that the inducing variables leave unexplained.
        log_noise: log |diag(noise)| + n log 2π.
    """

    outer: jt.Float[Tensor, "*b m m"]
    linear: jt.Float[Tensor, "*b m"]
    one: jt.Float[Tensor, "*b m"]
    yy: jt.Float[Tensor, "*b"]
    y1: jt.Float[Tensor, "*b"]
    total: jt.Float[Tensor, "*b"]
    residual: jt.Float[Tensor, "*b"]
    log_noise: jt.Float[Tensor, "*b"]

    @staticmethod
    def of(
        a: jt.Float[Tensor, "*b m n"],
        diagonal: jt.Float[Tensor, "*b n"],
        y: jt.Float[Tensor, "*b n"],
        noise: jt.Float[Tensor, "*b n"],
    ) -> "Statistics":
        """The statistics of some observations with whitened covariances a and prior variances diagonal."""
        weight = noise.reciprocal()
        scaled = a * weight[..., None, :]
        weighted = weight * y
        return Statistics(
            outer=scaled @ a.mT,
            linear=(scaled @ y[..., None])[..., 0],
            one=scaled.sum(-1),
            yy=(weighted * y).sum(-1),
            y1=weighted.sum(-1),
            total=weight.sum(-1),
            residual=(weight * (diagonal - a.square().sum(-2))).sum(-1),
            log_noise=(noise.log() + math.log(2.0 * math.pi)).sum(-1),
        )

    def plus(self, other: "Statistics") -> "Statistics":
        """The statistics of both chunks of the data."""
        sums = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Statistics(**sums)


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The optimal q(v) and the bound.

    B = I + A diag(b) Aᵀ = L_B L_Bᵀ, c = L_B⁻¹ A diag(b) r with r = y - prior_mean:
    bound = -½ (log|2π noise| + log|B| + rᵀ diag(b) r - cᵀc) - ½ tr(diag(b) (k(X, X) - AᵀA)),
    q(v) = N(L_B⁻ᵀ c, B⁻¹) (Titsias 2009, equations 9 and 10). When no prior mean is given, it is
    argmax N(y | mean, Q + diag(noise)) N(mean | 0, 1), Q = AᵀA.

    Attributes:
        precision_chol: L_B.
        linear: A diag(b) r.
        white: c.
        prior_mean: constant prior mean.
        bound: lower bound of the log evidence at the prior mean.
    """

    precision_chol: jt.Float[Tensor, "*b m m"]
    linear: jt.Float[Tensor, "*b m"]
    white: jt.Float[Tensor, "*b m"]
    prior_mean: jt.Float[Tensor, "*b"]
    bound: jt.Float[Tensor, "*b"]

    @staticmethod
    def of(statistics: Statistics, mean: float | Tensor | None) -> "Collapsed":
        """The optimum given the data's statistics.

        Args:
            statistics: of all data.
            mean: constant prior mean, one for all or one a replicate; None for the most probable one under
                N(0, 1).
        """
        precision = statistics.outer.clone()
        precision.diagonal(dim1=-2, dim2=-1).add_(1.0)
        chol = torch.linalg.cholesky_ex(precision)[0]
        white_sums = solve_lower(chol, torch.stack((statistics.linear, statistics.one), -1))
        outcome, one = white_sums[..., 0], white_sums[..., 1]
        if mean is None:
            information = statistics.total - one.square().sum(-1)
            prior_mean = (statistics.y1 - (one * outcome).sum(-1)) / (information + 1.0)
        else:
            prior_mean = torch.zeros_like(statistics.total) + mean
        white = outcome - prior_mean[..., None] * one
        squares = statistics.yy - prior_mean * (2.0 * statistics.y1 - prior_mean * statistics.total)
        determinant = 2.0 * chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        fit = statistics.log_noise + determinant + squares - white.square().sum(-1)
        bound = -0.5 * (fit + statistics.residual)
        linear = statistics.linear - prior_mean[..., None] * statistics.one
        return Collapsed(chol, linear, white, prior_mean, bound)


def statistics_of(
    basis: Basis, data: Dataset, noise: jt.Float[Tensor, "*b"], *, independent: bool = False
) -> Statistics:
    """The statistics of the data, in chunks whose memory does not grow with their number.

    Args:
        basis: the inducing variables; L_B is not used.
        data: all observations.
        noise: variance of those without a given one.
        independent: whether the variance that the inducing variables leave unexplained adds to the noise. So
            does what the noise of inputs leaves, over which covariances are averaged; otherwise inputs count
            as exact.
    """
    variance, _ = observation_noise(noise, data.noise, data.y.shape[-1])
    sums = []
    for rows in _chunks(data.y.shape[-1], basis.variables.count):
        x = data.x[..., rows, :]
        a = basis.whiten(_at_noisy_inputs(x, data.x_std, rows) if independent else x)
        diagonal, level = basis.kernel.diagonal(basis.theta, x), variance[..., rows]
        if independent:
            level = level + (diagonal - a.square().sum(-2)).clamp(min=0.0)
        sums.append(Statistics.of(a, diagonal, data.y[..., rows], level))
    return reduce(Statistics.plus, sums)


def _at_noisy_inputs(x: Tensor, std: Tensor | None, rows: slice) -> Observed:
    """What is observed at some rows whose inputs have noise: averages of the function over it."""
    if std is None or not bool((std[..., rows, :] > 0.0).any()):
        return x
    return averaged(Functionals.values(x), std[..., rows, :])


def _chunks(n: int, m: int) -> Iterator[slice]:
    size = _CACHED // m + 1
    return (slice(first, first + size) for first in range(0, n, size))


@dataclass(frozen=True, eq=False)
class CollapsedObjective:
    """-(bound + log priors) of (theta, log noise) and its gradient, for `minimize_batch`.

    A point may also hold the parameters of the inducing variables behind these: they are then moved too. The
    gradient is that of the evidence lower bound at the optimal q(v), where it is stationary in q: with
    S = B⁻¹, m = L_B⁻ᵀ c, e = r - Aᵀm, G = (m eᵀ + (I - S) A) diag(b),
    d bound = tr(Gᵀ L⁻¹ dk_u(X)) - ½ tr(L⁻ᵀ (m mᵀ + B - 2I + S) L⁻¹ dK_uu) - ½ bᵀ dk(X, X)
    + Σ ½ (b² (e² + k - aᵀ(I - S)a) - b) dnoise.

    Attributes:
        kernel: covariance function.
        data: observations, all in memory at once.
        variables: u; a point may hold other parameters of theirs.
        mean: constant prior mean; None for the most probable one.
        jitter: share of the variances of u that is added to them.
        noise_location: median of the log noise variance under its prior.
        noise_spread: half the distance between its quartiles.
        losses: the value of each evaluation is appended.
    """

    kernel: Kernel
    data: Dataset
    variables: InducingVariables
    mean: float | None
    jitter: float
    noise_location: float
    noise_spread: float
    losses: list[Tensor]

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values and gradients (r, *b, p)."""
        eta, parameters = points[..., : self._parameters], points[..., self._parameters :]
        learned = parameters.shape[-1] > 0
        moved = parameters if learned else self.variables.parameters.expand(*points.shape[:-1], -1)
        value, gradient, by_variables = self._evaluate(eta, self.variables.moved(moved))
        prior, by_prior = self._log_prior(eta)
        self.losses.append(value - prior)
        gradient = gradient - by_prior
        if learned:
            gradient = torch.cat((gradient, by_variables), -1)
        return value - prior, gradient

    @property
    def _parameters(self) -> int:
        return len(self.kernel.start(self.data.x.shape[-1])) + 1

    def _log_prior(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        prior, gradient = self.kernel.log_prior(eta[..., :-1], self.data.x.shape[-1])
        noise_prior, slope = log_noise_prior(eta[..., -1], self.noise_location, self.noise_spread)
        return prior + noise_prior, torch.cat((gradient, slope[..., None]), -1)

    def _evaluate(self, eta: Tensor, variables: InducingVariables) -> tuple[Tensor, Tensor, Tensor]:
        """-bound, and its gradients by (theta, log noise) and by the parameters of u."""
        theta, noise = eta[..., :-1], eta[..., -1].exp()
        lead, data = eta.shape[:-1], self.data
        x, y = data.x.expand(*lead, *data.x.shape[-2:]), data.y.expand(*lead, data.y.shape[-1])
        covariance = variables.covariance(self.kernel, theta, self.jitter)
        factor = covariance.factor
        variance, fitted = observation_noise(noise, data.noise, y.shape[-1])
        chunks = list(_chunks(y.shape[-1], variables.count))
        basis = Basis(self.kernel, theta, variables, factor)
        parts = [_Chunk(basis, x[..., rows, :], y[..., rows], variance[..., rows]) for rows in chunks]
        statistics = reduce(Statistics.plus, (part.statistics for part in parts))
        optimum = Collapsed.of(statistics, self.mean)
        value = -optimum.bound
        if self.mean is None:
            value = value + 0.5 * optimum.prior_mean.square()

        m = solve_lower(optimum.precision_chol, optimum.white[..., None], transposed=True)
        cov = torch.cholesky_inverse(optimum.precision_chol)
        eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
        back = factor.solve(torch.cat((eye - cov, m), -1), transposed=True)
        inner = m @ m.mT + statistics.outer - eye + cov
        half = factor.solve(inner, transposed=True)
        by_theta, by_variables = covariance.pullback(-0.5 * factor.solve(half.mT, transposed=True))
        by_theta = by_theta + self.kernel.diagonal_gradient(theta, x, -0.5 / variance)[0]
        by_noise = torch.zeros_like(noise)
        explained = None if data.noise is None else eye - cov
        for part, rows in zip(parts, chunks, strict=True):
            gradients = part.gradients(back, m, optimum.prior_mean, fitted[..., rows], explained)
            by_theta, by_variables = by_theta + gradients[0], by_variables + gradients[1]
            by_noise = by_noise + gradients[2]
        if explained is None:
            by_noise = by_noise - ((eye - cov) * statistics.outer).sum((-2, -1)) / noise
        gradient = torch.cat((by_theta, (0.5 * by_noise * noise)[..., None]), -1)
        return torch.where(covariance.info == 0, value, torch.inf), -gradient, -by_variables


class _Chunk:
    """Some observations, so few that what is computed of them stays in the cache."""

    def __init__(self, basis: Basis, x: Tensor, y: Tensor, variance: Tensor) -> None:
        k, self._pull = basis.variables.joint(basis.kernel, basis.theta, x)
        self._a = basis.factor.solve(k)
        self._y, self._weight = y, variance.reciprocal()
        self._diagonal = basis.kernel.diagonal(basis.theta, x)
        self.statistics = Statistics.of(self._a, self._diagonal, y, variance)

    def gradients(
        self, back: Tensor, m: Tensor, prior_mean: Tensor, fitted: Tensor, explained: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the bound by theta and u through k_u(X), and twice that by the noise.

        When `explained`, I - S, is None, the last one leaves out the variance explained by u.
        """
        error = self._y - prior_mean[..., None] - (m.mT @ self._a)[..., 0, :]
        by_k = torch.addcmul(back[..., :-1] @ self._a, back[..., -1:], error[..., None, :]).mul_(
            self._weight[..., None, :]
        )
        by_theta, by_variables = self._pull(by_k)
        square = self._weight.square() * fitted
        spread = error.square() + self._diagonal
        if explained is not None:
            spread = spread - (self._a * (explained @ self._a)).sum(-2)
        by_noise = (square * spread - self._weight * fitted).sum(-1)
        return by_theta, by_variables, by_noise
