"""Mixtures of exponential decays over the steps of a learning curve."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels.base import Pullback

LEAST, MOST = math.log(1e-3), math.log(100.0)
"""Bounds of log α, log λ̄ and the logarithm of a standard deviation."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Values of κ(r) = (β / (r + β))^α with β = α / λ̄, and its derivatives.

    κ(r) = E[exp(-λ r)] for λ ~ Gamma(α, β), whose mean is λ̄: κ(r + s) is the mean of products of decays,
    so that it is positive semidefinite, and so is the covariance κ(r + s) - κ(r) κ(s) (Swersky, Snoek and
    Adams 2014).

    Attributes:
        value: κ(r).
        by_shape: its derivative by log α.
        by_rate: by log λ̄.
        by_step: by r.
    """

    value: Tensor
    by_shape: Tensor
    by_rate: Tensor
    by_step: Tensor

    @staticmethod
    def of(log_shape: Tensor, log_rate: Tensor, r: Tensor) -> "Mixture":
        """κ(r), for log α and log λ̄ that broadcast with r >= 0."""
        shape, rate = log_shape.exp(), log_rate.exp()
        ratio = r * rate / shape
        power = shape * torch.log1p(ratio)
        value = torch.exp(-power)
        by_rate = -value * shape * ratio / (1.0 + ratio)
        return Mixture(value, -value * power - by_rate, by_rate, -value * rate / (1.0 + ratio))


@runtime_checkable
class StepKernel(Protocol):
    """A covariance over the steps of a curve, with a mean, as a model of curves needs it."""

    def start(self) -> jt.Float[Tensor, " p"]:
        """Theta at which a fit starts."""

    def bounds(self) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Smallest and largest theta."""

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log prior density of theta, up to a constant, and its gradient."""

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t t"], Pullback]:
        """k(t, t), and the map of a symmetric matrix W (*b t t) to d sum(W * k) / d theta."""

    def prior_mean(
        self, theta: jt.Float[Tensor, "*b p"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t"], Pullback]:
        """Mean of a curve less its level, and the map of w (*b t) to d (w · mean) / d theta."""


@dataclass(frozen=True)
class Decay:
    """Deviations from a curve's level that decay: k(r, s) = v κ(r + s), with κ as in `Mixture`.

    Their mean is m √v κ(r): curves may approach their levels from one side. Theta is (log α, log λ̄, log √v,
    m). Priors: log α ~ N(0, 1), log λ̄ ~ N(log 5, 1.5²), so that half of a deviation is gone after a fifth of
    the steps, log √v ~ N(log ½, 1), and m ~ N(0, 1).
    """

    def start(self) -> jt.Float[Tensor, " p"]:
        """The medians of the prior."""
        return torch.tensor([0.0, math.log(5.0), math.log(0.5), 0.0], dtype=torch.float64, device="cpu")

    def bounds(self) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """α, λ̄ and √v in [0.001, 100], m in [-5, 5]."""
        lower, upper = torch.full_like(self.start(), LEAST), torch.full_like(self.start(), MOST)
        lower[-1], upper[-1] = -5.0, 5.0
        return lower, upper

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of theta, up to a constant, and its gradient."""
        spread = theta.new_tensor([1.0, 1.5, 1.0, 1.0])
        standard = (theta - self.start().to(theta)) / spread
        return -0.5 * standard.square().sum(-1), -standard / spread

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t t"], Pullback]:
        """k(t, t), and the map of a symmetric matrix W to d sum(W * k) / d theta."""
        log_shape, log_rate, log_deviation, _ = theta[..., None, None].unbind(-3)
        mixture = Mixture.of(log_shape, log_rate, steps[:, None] + steps)
        variance = torch.exp(2.0 * log_deviation)
        k = variance * mixture.value

        def pullback(weights: Tensor) -> Tensor:
            scaled = weights * variance
            each = (
                scaled * mixture.by_shape,
                scaled * mixture.by_rate,
                2.0 * weights * k,
                torch.zeros_like(k),
            )
            return torch.stack([one.sum((-2, -1)) for one in each], -1)

        return k, pullback

    def prior_mean(
        self, theta: jt.Float[Tensor, "*b p"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t"], Pullback]:
        """m √v κ(t), and the map of w (*b t) to d (w · mean) / d theta."""
        log_shape, log_rate, log_deviation, mean = theta[..., None].unbind(-2)
        mixture, deviation = Mixture.of(log_shape, log_rate, steps), log_deviation.exp()
        amplitude = mean * deviation

        def pullback(weights: Tensor) -> Tensor:
            each = (
                *(amplitude * mixture.by_shape, amplitude * mixture.by_rate),
                *(amplitude * mixture.value, deviation * mixture.value),
            )
            return torch.stack([(weights * one).sum(-1) for one in each], -1)

        return amplitude * mixture.value, pullback
