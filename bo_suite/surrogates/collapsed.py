"""The collapsed evidence lower bound of sparse regression, its optimal q, and its analytic gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import reduce

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.kernels import Kernel
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.surrogates.noise import log_noise_prior, observation_noise

_CACHED = 131_072
"""Covariances with observations that are worked on at once, so few that they stay in the cache."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """All that the bound and the optimal q(v) need of the data, at given hyperparameters and inducing inputs.

    With A = L⁻¹ k(Z, X) and b = 1 / noise: sums over the observations, so that parts of the data add up.

    Attributes:
        outer: A diag(b) Aᵀ.
        linear: A diag(b) y.
        one: A diag(b) 1.
        yy: yᵀ diag(b) y.
        y1: yᵀ diag(b) 1.
        total: 1ᵀ diag(b) 1.
        residual: tr(diag(b) (k(X, X) - AᵀA)), what the inducing values leave unexplained.
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
        """Those of both parts of the data."""
        both = {part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)}
        return Statistics(**both)


@dataclass(frozen=True, eq=False)
class Collapsed:
    """The optimal q(v) and the bound.

    B = I + A diag(b) Aᵀ = L_B L_Bᵀ, c = L_B⁻¹ A diag(b) r with r = y - prior_mean:
    bound = -½ (log|2π noise| + log|B| + rᵀ diag(b) r - cᵀc) - ½ tr(diag(b) (k(X, X) - AᵀA)),
    q(v) = N(L_B⁻ᵀ c, B⁻¹) (Titsias 2009, equations 9 and 10). Where no prior mean is given, it is
    argmax N(y | mean, Q + diag(noise)) N(mean | 0, 1), Q = AᵀA.

    Attributes:
        precision_chol: L_B.
        linear: A diag(b) r.
        white: c.
        prior_mean: constant mean.
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
            mean: prior mean, perhaps of each replicate; None for the most probable one under N(0, 1).
        """
        precision = statistics.outer.clone()
        precision.diagonal(dim1=-2, dim2=-1).add_(1.0)
        chol = torch.linalg.cholesky_ex(precision)[0]
        both = solve_lower(chol, torch.stack((statistics.linear, statistics.one), -1))
        outcome, one = both[..., 0], both[..., 1]
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


def jitter_of(chosen: float | None, dtype: torch.dtype) -> float:
    """What was chosen, or 1e-8 (1e-5 in float32)."""
    if chosen is not None:
        return chosen
    return 1e-8 if dtype == torch.float64 else 1e-5


def raised(matrix: jt.Float[Tensor, "*b m m"], jitter: float) -> jt.Float[Tensor, "*b m m"]:
    """A + jitter diag(A); and the gradient by A, given the one by that."""
    return matrix + torch.diag_embed(jitter * matrix.diagonal(dim1=-2, dim2=-1))


def inducing_chol(
    kernel: Kernel, theta: jt.Float[Tensor, "*b p"], inducing: jt.Float[Tensor, "*b m d"], jitter: float
) -> jt.Float[Tensor, "*b m m"]:
    """Factor of k(Z, Z), its diagonal raised by `jitter` times itself.

    Raises:
        NumericalError: k(Z, Z) is not positive definite, with more jitter neither.
    """
    return jittered_cholesky(raised(kernel.gram(theta, inducing)[0], jitter))[0]


def statistics_of(
    kernel: Kernel,
    theta: jt.Float[Tensor, "*b p"],
    inducing: jt.Float[Tensor, "*b m d"],
    chol: jt.Float[Tensor, "*b m m"],
    data: Dataset,
    noise: jt.Float[Tensor, "*b"],
    *,
    independent: bool = False,
) -> Statistics:
    """The statistics of the data, in chunks whose memory does not grow with their number.

    Args:
        kernel: covariance function.
        theta: its parameters.
        inducing: Z.
        chol: factor of k(Z, Z).
        data: all observations.
        noise: variance of those where it is not known.
        independent: whether what the inducing values leave unexplained of an observation adds to its noise.
    """
    variance, _ = observation_noise(noise, data.noise, data.y.shape[-1])
    found: Statistics | None = None
    for rows in _chunks(data.y.shape[-1], inducing.shape[-2]):
        x = data.x[..., rows, :]
        a = solve_lower(chol, kernel.cross(theta, inducing, x)[0])
        diagonal, level = kernel.diagonal(theta, x), variance[..., rows]
        if independent:
            level = level + (diagonal - a.square().sum(-2)).clamp(min=0.0)
        part = Statistics.of(a, diagonal, data.y[..., rows], level)
        found = part if found is None else found.plus(part)
    assert found is not None, "data have at least one observation"
    return found


def _chunks(n: int, m: int) -> Iterator[slice]:
    size = _CACHED // m + 1
    return (slice(first, first + size) for first in range(0, n, size))


@dataclass(frozen=True, eq=False)
class CollapsedObjective:
    """-(bound + log priors) of (theta, log noise) and its gradient, for `minimize_batch`.

    The points may go on with the inducing inputs, flattened, which are then moved as well. The gradient is
    that of the evidence lower bound at the optimal q(v), by which it is stationary: with S = B⁻¹,
    m = L_B⁻ᵀ c, e = r - Aᵀm, G = (m eᵀ + (I - S) A) diag(b),
    d bound = tr(Gᵀ L⁻¹ dk(Z, X)) - ½ tr(L⁻ᵀ (m mᵀ + B - 2I + S) L⁻¹ dk(Z, Z)) - ½ bᵀ dk(X, X)
    + Σ ½ (b² (e² + k - aᵀ(I - S)a) - b) dnoise.

    Attributes:
        kernel: covariance function.
        data: observations, all in memory at once.
        inducing: Z; where the points hold none.
        mean: prior mean; None for the most probable one.
        jitter: share of k(Z, Z)'s diagonal that is added to it.
        noise_location: median of the log noise variance under its prior.
        noise_spread: half the distance between its quartiles.
        losses: values met, in order; only appended to.
    """

    kernel: Kernel
    data: Dataset
    inducing: jt.Float[Tensor, "*b m d"]
    mean: float | None
    jitter: float
    noise_location: float
    noise_spread: float
    losses: list[Tensor]

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values and gradients (r, *b, p)."""
        shape = self.inducing.shape
        learned = points.shape[-1] > self._parameters
        eta = points[..., : self._parameters]
        lead = points.shape[:-1]
        inducing = points[..., self._parameters :].reshape(*lead, *shape[-2:]) if learned else self.inducing
        value, gradient, by_inducing = self._evaluate(eta, inducing.expand(*lead, *shape[-2:]), learned)
        prior, by_prior = self._log_prior(eta)
        self.losses.append(value - prior)
        gradient = gradient - by_prior
        if learned:
            gradient = torch.cat((gradient, by_inducing.reshape(*lead, -1)), -1)
        return value - prior, gradient

    @property
    def _parameters(self) -> int:
        return len(self.kernel.start(self.data.x.shape[-1])) + 1

    def _log_prior(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        prior, gradient = self.kernel.log_prior(eta[..., :-1], self.data.x.shape[-1])
        noise_prior, slope = log_noise_prior(eta[..., -1], self.noise_location, self.noise_spread)
        return prior + noise_prior, torch.cat((gradient, slope[..., None]), -1)

    def _evaluate(self, eta: Tensor, inducing: Tensor, learned: bool) -> tuple[Tensor, Tensor, Tensor]:
        """-bound, and its gradients by (theta, log noise) and by Z."""
        theta, noise = eta[..., :-1], eta[..., -1].exp()
        lead, data = eta.shape[:-1], self.data
        x, y = data.x.expand(*lead, *data.x.shape[-2:]), data.y.expand(*lead, data.y.shape[-1])
        k_zz, pull_zz = self.kernel.joint(theta, inducing, inducing)
        chol, info = torch.linalg.cholesky_ex(raised(k_zz, self.jitter))
        variance, fitted = observation_noise(noise, data.noise, y.shape[-1])
        chunks = list(_chunks(y.shape[-1], inducing.shape[-2]))
        parts = [
            _Part(self.kernel, theta, inducing, chol, x[..., rows, :], y[..., rows], variance[..., rows])
            for rows in chunks
        ]
        statistics = reduce(Statistics.plus, (part.statistics for part in parts))
        found = Collapsed.of(statistics, self.mean)
        value = -found.bound
        if self.mean is None:
            value = value + 0.5 * found.prior_mean.square()

        m = solve_lower(found.precision_chol, found.white[..., None], transposed=True)
        cov = torch.cholesky_inverse(found.precision_chol)
        eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
        back = solve_lower(chol, torch.cat((eye - cov, m), -1), transposed=True)
        inner = m @ m.mT + statistics.outer - eye + cov
        half = solve_lower(chol, inner, transposed=True)
        theta_zz, z_left, z_right = pull_zz(
            raised(-0.5 * solve_lower(chol, half.mT, transposed=True), self.jitter)
        )
        by_theta = theta_zz + self.kernel.diagonal_gradient(theta, x, -0.5 / variance)[0]
        by_inducing = z_left + z_right
        by_noise = torch.zeros_like(noise)
        known = None if data.noise is None else eye - cov
        for part, rows in zip(parts, chunks, strict=True):
            found_here = part.gradients(back, m, found.prior_mean, fitted[..., rows], known)
            by_theta, by_inducing = by_theta + found_here[0], by_inducing + found_here[1]
            by_noise = by_noise + found_here[2]
        if known is None:
            by_noise = by_noise - ((eye - cov) * statistics.outer).sum((-2, -1)) / noise
        gradient = torch.cat((by_theta, (0.5 * by_noise * noise)[..., None]), -1)
        return torch.where(info == 0, value, torch.inf), -gradient, -by_inducing


class _Part:
    """Some observations, so few that what is computed of them stays in the cache."""

    def __init__(
        self,
        kernel: Kernel,
        theta: Tensor,
        inducing: Tensor,
        chol: Tensor,
        x: Tensor,
        y: Tensor,
        variance: Tensor,
    ) -> None:
        k, self._pull = kernel.joint(theta, inducing, x)
        self._a = solve_lower(chol, k)
        self._y, self._weight = y, variance.reciprocal()
        self._diagonal = kernel.diagonal(theta, x)
        self.statistics = Statistics.of(self._a, self._diagonal, y, variance)

    def gradients(
        self, back: Tensor, m: Tensor, prior_mean: Tensor, fitted: Tensor, known: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the bound by theta and Z through k(Z, X), and twice that by noise.

        Where `known`, I - S, is None, the variance that the inducing values explain is left out of the last.
        """
        error = self._y - prior_mean[..., None] - (m.mT @ self._a)[..., 0, :]
        by_zx = torch.addcmul(back[..., :-1] @ self._a, back[..., -1:], error[..., None, :]).mul_(
            self._weight[..., None, :]
        )
        by_theta, by_inducing, _ = self._pull(by_zx)
        square = self._weight.square() * fitted
        spread = error.square() + self._diagonal
        if known is not None:
            spread = spread - (self._a * (known @ self._a)).sum(-2)
        by_noise = (square * spread - self._weight * fitted).sum(-1)
        return by_theta, by_inducing, by_noise
