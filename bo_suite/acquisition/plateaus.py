"""The chance that an outcome repeats that of the nearest observation, if the surface is constant in steps."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.data import Dataset
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.subsample import best_and_evenly_spaced
from bo_suite.surrogates.ties import tied

_MOST = 500
"""Most observations that a point is compared with."""

_LOG_POWERS = torch.linspace(-4.6, 4.6, 41, dtype=torch.float64)
"""Logarithms of the powers that are tried."""

_SPREAD = 1.5
"""Standard deviation of the log power under its prior, whose mean is 0."""

LARGEST_CHANCE = {torch.float64: 1.0 - 1e-9, torch.float32: 1.0 - 1e-6}
"""Chances are clamped here, so that the logarithm of the rest stays finite."""

_SMALLEST_CORRELATION = 1e-30
"""Correlations are clamped here, so that their logarithm stays finite."""


class _Correlation(torch.autograd.Function):
    """k(x, z) / √(k(x, x) k(z, z)), differentiable once by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Basis, rows: Tensor) -> Tensor:
        kernel, theta = basis.kernel, basis.theta
        k, ctx.pullback = kernel.cross(theta, x, rows)
        ctx.basis, ctx.x, ctx.own = basis, x.detach(), kernel.diagonal(theta, x)
        ctx.scale = (ctx.own[..., None] * kernel.diagonal(theta, rows)[..., None, :]).sqrt()
        ctx.correlation = k / ctx.scale
        return ctx.correlation  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        by_own = -0.5 * (gradients[0] * ctx.correlation).sum(-1) / ctx.own
        _, by_x = ctx.basis.kernel.diagonal_gradient(ctx.basis.theta, ctx.x, by_own)
        return ctx.pullback(gradients[0] / ctx.scale) + by_x, None, None


class Repetition(NamedTuple):
    """That an outcome is one which was observed already.

    Attributes:
        chance: of it, below 1.
        outcome: that would be repeated.
    """

    chance: jt.Float[Tensor, "*b m"]
    outcome: jt.Float[Tensor, "*b m"]


@dataclass(frozen=True, eq=False)
class Plateaus:
    """P(x) = c(x)^κ, the chance that f(x) is the outcome of the observation that correlates most with f(x).

    c is the largest correlation of f(x) with an observation under the Gaussian process. The power κ is fitted
    to the observations: it maximises the product, over all i, of P_i if observation i has the outcome of the
    observation that correlates most with it, else of 1 - P_i, times a log-normal prior. P is zero for
    replicates without ties.

    Attributes:
        basis: kernel and hyperparameters of the process.
        rows: observed rows.
        y: their outcomes.
        power: κ.
        found: replicates with ties.
    """

    basis: Basis
    rows: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b n"]
    power: jt.Float[Tensor, "*b"]
    found: jt.Bool[Tensor, "*b"]

    @staticmethod
    def of(basis: Basis, data: Dataset) -> "Plateaus | None":
        """Fitted to the observations; None if no replicate has ties."""
        data = best_and_evenly_spaced(data, _MOST)
        ties = tied(data)
        found = ties.any(-1)
        if not bool(found.any()):
            return None
        variances = basis.kernel.diagonal(basis.theta, data.x)
        scale = (variances[..., :, None] * variances[..., None, :]).sqrt()
        correlation = basis.kernel.gram(basis.theta, data.x)[0] / scale
        itself = torch.eye(data.x.shape[-2], dtype=torch.bool, device=data.x.device)
        nearest, index = correlation.masked_fill(itself, -torch.inf).max(-1)
        repeats = ties & (data.y == data.y.gather(-1, index))
        log_powers = _LOG_POWERS.to(data.x)
        nearest = nearest.clamp(_SMALLEST_CORRELATION, LARGEST_CHANCE[data.x.dtype])
        log_chance = nearest.log()[..., None] * log_powers.exp()
        likelihood = torch.where(repeats[..., None], log_chance, torch.log1p(-log_chance.exp()))
        counted = (data.y < data.y.amax(-1, keepdim=True)).to(likelihood)[..., None]
        posterior = (likelihood * counted).sum(-2) - 0.5 * (log_powers / _SPREAD).square()
        return Plateaus(basis, data.x, data.y, log_powers.exp()[posterior.argmax(-1)], found)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> Repetition:
        """P and the outcome of the nearest observation, at each row; differentiable once by x."""
        correlation, index = _Correlation.apply(x, self.basis, self.rows).max(-1)  # type: ignore[no-untyped-call]
        largest = LARGEST_CHANCE[x.dtype]
        chance = correlation.clamp(_SMALLEST_CORRELATION, largest) ** self.power[..., None]
        chance = torch.where(self.found[..., None], chance, 0.0).clamp(max=largest)
        return Repetition(chance, self.y.gather(-1, index))
