"""The evidence of several outputs and its gradient: by Kronecker algebra, or of the outcomes measured."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Coregional
from bo_suite.linalg import solve_lower
from bo_suite.linalg.factor import cholesky_or_identity
from bo_suite.surrogates.noise import observation_noise
from bo_suite.surrogates.outputs.observations import Entries, OutputData

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class Rotation:
    """The outputs as independent functions: f_i = Σ_a A_ia g_a with g_a ~ GP(0, s_a k) and noise 1.

    With D = diag(σ²) the variances of the noise and D^-½ B D^-½ = U diag(s) Uᵀ, A = D^½ U and A⁻¹ = Aᵀ D⁻¹
    (Stegle et al. 2011, section 2).

    Attributes:
        variances: s, at least 0.
        mixing: A.
        inverse: A⁻¹.
    """

    variances: jt.Float[Tensor, "*b p"]
    mixing: jt.Float[Tensor, "*b p p"]
    inverse: jt.Float[Tensor, "*b p p"]

    @staticmethod
    def of(between: jt.Float[Tensor, "*b p p"], noise: jt.Float[Tensor, "*b p"]) -> "Rotation":
        """That of a covariance B between outputs, and σ²."""
        std = noise.sqrt()
        variances, vectors = torch.linalg.eigh(between / (std[..., :, None] * std[..., None, :]))
        return Rotation(variances.clamp(min=0.0), std[..., None] * vectors, vectors.mT / std[..., None, :])


@dataclass(frozen=True, eq=False)
class KroneckerEvidence:
    """-log N(y | m ⊗ 1, B ⊗ K + D ⊗ I) - log N(m | 0, I) at the best m, in O(n³ + p³).

    With `Rotation` and K = V diag(λ) Vᵀ the covariance is diagonal, 1 + s_a λ_j, in rotated coordinates.

    Attributes:
        kernel: of one term.
        data: complete.
    """

    kernel: Coregional
    data: OutputData

    def __call__(self, theta: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its gradients by theta (*b, t) and log σ² (*b, p)."""
        kernel, data, lead = self.kernel, self.data, theta.shape[:-1]
        ((inner, weights, _),) = kernel.split(theta)
        between, noise = kernel.between(theta)[0], log_noise.exp()
        k, pullback = kernel.inner.gram(inner, data.x.expand(*lead, *data.x.shape[-2:]))
        rotation = Rotation.of(between, noise)
        eigenvalues, vectors = torch.linalg.eigh(k)
        eigenvalues = eigenvalues.clamp(min=0.0)[..., None, :]
        s, to_latent = rotation.variances[..., None], rotation.inverse
        diagonal = 1.0 + s * eigenvalues
        y = to_latent @ data.y @ vectors
        one = vectors.sum(-2)[..., None, :]
        mean = best_means(
            to_latent.mT @ ((one.square() / diagonal).sum(-1, keepdim=True) * to_latent),
            (to_latent.mT @ (y * one / diagonal).sum(-1, keepdim=True))[..., 0],
        )
        residual = y - (to_latent @ mean[..., None]) * one
        alpha = residual / diagonal
        n, p = data.y.shape[-1], data.y.shape[-2]
        value = 0.5 * ((residual * alpha).sum((-2, -1)) + mean.square().sum(-1) + n * p * _LOG_2PI)
        value = value + 0.5 * (n * log_noise.sum(-1) + diagonal.log().sum((-2, -1)))

        outer = to_latent.mT @ alpha
        at_rows = outer @ vectors.mT
        by_k = (vectors * (s / diagonal).sum(-2, keepdim=True)) @ vectors.mT - at_rows.mT @ between @ at_rows
        traces = (eigenvalues / diagonal).sum(-1, keepdim=True)
        by_between = to_latent.mT @ (traces * to_latent) - (outer * eigenvalues) @ outer.mT
        inverse = (to_latent.square() * (1.0 / diagonal).sum(-1, keepdim=True)).sum(-2)
        by_noise = 0.5 * (inverse - outer.square().sum(-1)) * noise
        by_weights = by_between @ weights
        by_own = 0.5 * by_between.diagonal(dim1=-2, dim2=-1) * kernel.split(theta)[0][2].exp()
        by_inner = pullback(0.5 * by_k)[..., :-1]
        return value, torch.cat((by_inner, by_weights.flatten(-2), by_own), -1), by_noise


@dataclass(frozen=True, eq=False)
class EntriesEvidence:
    """-log N(y | m_output, K + noise) - log N(m | 0, I) at the best m, of the e outcomes measured, in O(e³).

    Attributes:
        kernel: of any number of terms.
        entries: the outcomes.
    """

    kernel: Coregional
    entries: Entries

    def __call__(self, theta: Tensor, log_noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value, and its gradients by theta (*b, t) and log σ² (*b, p); infinite without a factor."""
        entries, lead, e = self.entries, theta.shape[:-1], len(self.entries.row)
        k, pullback = self.kernel.gram(theta, entries.x.expand(*lead, *entries.x.shape[-2:]))
        variance, fitted = entry_noise(entries, log_noise.exp())
        chol, exists = cholesky_or_identity(k + torch.diag_embed(variance))
        mean, white = means_and_white(chol, entries)
        alpha = solve_lower(chol, white[..., None], transposed=True)
        value = 0.5 * (white.square().sum(-1) + mean.square().sum(-1) + e * _LOG_2PI)
        value = value + chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        by_k = 0.5 * (torch.cholesky_inverse(chol) - alpha @ alpha.mT)
        by_variance = by_k.diagonal(dim1=-2, dim2=-1) * fitted * variance
        return torch.where(exists, value, torch.inf), pullback(by_k), by_variance @ entries.of_output


def entry_noise(entries: Entries, noise: jt.Float[Tensor, "*b p"]) -> tuple[Tensor, Tensor]:
    """Variance of each entry; and 1 if it is the fitted one of its output, 0 if it was given."""
    each = noise[..., entries.output]
    variance, fitted = observation_noise(each, entries.noise[..., None], 1)
    return variance[..., 0], fitted[..., 0]


def means_and_white(chol: Tensor, entries: Entries) -> tuple[Tensor, Tensor]:
    """The best prior mean of each output, (*b, p), and L⁻¹ (y - m)."""
    e = len(entries.row)
    of_output = entries.of_output.expand(*chol.shape[:-2], *entries.of_output.shape)
    columns = torch.cat((entries.y.expand(*chol.shape[:-2], e)[..., None], of_output), -1)
    white = solve_lower(chol, columns)
    y, ones = white[..., 0], white[..., 1:]
    mean = best_means(ones.mT @ ones, (ones.mT @ y[..., None])[..., 0])
    return mean, y - (ones @ mean[..., None])[..., 0]


def best_means(precision: Tensor, linear: Tensor) -> Tensor:
    """argmax_m of the likelihood, given its precision and linear term, times N(m | 0, I)."""
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    chol = torch.linalg.cholesky_ex(precision + identity)[0]
    return torch.cholesky_solve(linear[..., None], chol)[..., 0]
