"""A kernel over configurations and steps: a level of each configuration plus a decay."""

import math
from dataclasses import dataclass, field

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels.base import JointPullback, Kernel, Pullback
from bo_suite.kernels.decay import LEAST, MOST, Mixture
from bo_suite.kernels.stationary import Matern52

_SPREAD = 1.0
"""Standard deviation of log α, log λ̄ and log γ under their priors."""


@dataclass(frozen=True)
class ExponentialDecay:
    """k((x, r), (z, s)) = k_x(x, z) + γ² (κ(r + s) - κ(r) κ(s)), with prior mean γ κ(r).

    It is the covariance, and the mean, of f(x) + γ exp(-λ r), with f of covariance k_x and λ ~ Gamma(α, β)
    of mean λ̄ (Klein, Tiao et al. 2020, MOBSTER); κ is `Mixture`. The last column of a row is the step r >= 0,
    in units of the largest step; the others are the configuration x.

    Theta is (theta of k_x, log α, log λ̄, log γ). The logarithms are normal under the prior, with median
    α = 1, λ̄ = ½ and γ = ½, where a fit starts, and standard deviation 1.

    Attributes:
        kernel: k_x, over all columns but the last.
    """

    kernel: Kernel = field(default_factory=Matern52)

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """That of k_x, and the medians of the others."""
        return torch.cat((self.kernel.start(dim - 1), _median()))

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Those of k_x, and the others in [0.001, 100]."""
        lower, upper = self.kernel.bounds(dim - 1)
        return (
            torch.cat((lower, torch.full_like(_median(), LEAST))),
            torch.cat((upper, torch.full_like(_median(), MOST))),
        )

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """That of k_x, and log density of (log α, log λ̄, log γ), up to a constant; the gradient by theta."""
        value, gradient = self.kernel.log_prior(theta[..., :-3], dim - 1, stepped)
        standard = (theta[..., -3:] - _median().to(theta)) / _SPREAD
        by_theta = torch.cat((gradient, -standard / _SPREAD), -1)
        return value - 0.5 * standard.square().sum(-1), by_theta

    def prior_mean(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*b m"], Pullback]:
        """γ κ(r), differentiable by autograd, and the map of weights w (*b m) to d (w · mean) / d theta."""
        side = _Side.of(theta, x)
        at, gamma = side.at, side.gamma[..., 0]

        def pullback(weights: Tensor) -> Tensor:
            gradient, scaled = torch.zeros_like(theta), gamma * weights
            for index, derivative in enumerate((at.by_shape, at.by_rate, at.value)):
                gradient[..., index - 3] = (scaled * derivative).sum(-1)
            return gradient

        return gamma * at.value, pullback

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta."""
        k, pullback = self.kernel.gram(theta[..., :-3], x[..., :-1])
        decay = _Decay.of(theta, x, x)
        return k + decay.k, lambda weights: torch.cat((pullback(weights), decay.by_theta(weights)), -1)

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x."""
        k, pullback = self.kernel.cross(theta[..., :-3], x[..., :-1], z[..., :-1])
        decay = _Decay.of(theta, x, z)
        return k + decay.k, lambda weights: torch.cat((pullback(weights), decay.by_left(weights)), -1)

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, by x and by z."""
        k, pullback = self.kernel.joint(theta[..., :-3], x[..., :-1], z[..., :-1])
        decay = _Decay.of(theta, x, z)

        def by_all(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_x, by_z = pullback(weights)
            return (
                torch.cat((by_theta, decay.by_theta(weights)), -1),
                torch.cat((by_x, decay.by_left(weights)), -1),
                torch.cat((by_z, decay.by_right(weights)), -1),
            )

        return k + decay.k, by_all

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """k_x(x, x) + γ² (κ(2r) - κ(r)²)."""
        side = _Side.of(theta, x)
        twice = side.mixture(2.0 * side.r).value
        decay = side.gamma[..., 0].square() * (twice - side.at.value.square())
        return self.kernel.diagonal(theta[..., :-3], x[..., :-1]) + decay

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i) by theta and by x."""
        side = _Side.of(theta, x)
        once, twice, squared = side.at, side.mixture(2.0 * side.r), side.gamma[..., 0].square()
        by_theta, by_x = self.kernel.diagonal_gradient(theta[..., :-3], x[..., :-1], weights)
        scaled = weights * squared
        own = (
            scaled * (twice.by_shape - 2.0 * once.value * once.by_shape),
            scaled * (twice.by_rate - 2.0 * once.value * once.by_rate),
            2.0 * scaled * (twice.value - once.value.square()),
        )
        by_step = 2.0 * scaled * (twice.by_step - once.value * once.by_step)
        return (
            torch.cat((by_theta, torch.stack([one.sum(-1) for one in own], -1)), -1),
            torch.cat((by_x, by_step[..., None]), -1),
        )


@dataclass(frozen=True, eq=False)
class _Side:
    """Steps of rows, and κ there.

    Attributes:
        theta: (log α, log λ̄, log γ).
        r: steps.
        at: κ(r).
    """

    theta: Tensor
    r: Tensor
    at: Mixture

    @staticmethod
    def of(theta: Tensor, x: Tensor) -> "_Side":
        own, r = theta[..., -3:], x[..., -1]
        return _Side(own, r, Mixture.of(own[..., 0, None], own[..., 1, None], r))

    @property
    def gamma(self) -> Tensor:
        """γ, for matrices."""
        return self.theta[..., 2, None, None].exp()

    def mixture(self, r: Tensor) -> Mixture:
        """κ of other steps, as many dimensions as the rows have."""
        return Mixture.of(self.theta[..., 0, None], self.theta[..., 1, None], r)


@dataclass(frozen=True, eq=False)
class _Decay:
    """The matrix γ² (κ(r + s) - κ(r) κ(s)) and its derivatives.

    Attributes:
        left: steps r.
        right: steps s.
        sums: κ(r + s).
    """

    left: _Side
    right: _Side
    sums: Mixture

    @staticmethod
    def of(theta: Tensor, x: Tensor, z: Tensor) -> "_Decay":
        sums = x[..., :, None, -1] + z[..., None, :, -1]
        shape, rate = theta[..., -3, None, None], theta[..., -2, None, None]
        return _Decay(_Side.of(theta, x), _Side.of(theta, z), Mixture.of(shape, rate, sums))

    @property
    def k(self) -> Tensor:
        """The matrix."""
        product = self.left.at.value[..., :, None] * self.right.at.value[..., None, :]
        return self.left.gamma.square() * (self.sums.value - product)

    def by_theta(self, weights: Tensor) -> Tensor:
        """Gradient of sum(W * k) by (log α, log λ̄, log γ)."""
        scaled = weights * self.left.gamma.square()
        left, right = self.left.at, self.right.at
        by_left = (scaled @ right.value[..., None])[..., 0]
        by_right = (scaled.mT @ left.value[..., None])[..., 0]
        by_shape = (scaled * self.sums.by_shape).sum((-2, -1)) - (by_left * left.by_shape).sum(-1)
        by_rate = (scaled * self.sums.by_rate).sum((-2, -1)) - (by_left * left.by_rate).sum(-1)
        by_shape = by_shape - (by_right * right.by_shape).sum(-1)
        by_rate = by_rate - (by_right * right.by_rate).sum(-1)
        return torch.stack((by_shape, by_rate, 2.0 * (weights * self.k).sum((-2, -1))), -1)

    def by_left(self, weights: Tensor) -> Tensor:
        """Gradient of sum(W * k) by the steps r, as a column."""
        scaled = weights * self.left.gamma.square()
        along = (scaled @ self.right.at.value[..., None])[..., 0] * self.left.at.by_step
        return ((scaled * self.sums.by_step).sum(-1) - along)[..., None]

    def by_right(self, weights: Tensor) -> Tensor:
        """Gradient of sum(W * k) by the steps s, as a column."""
        scaled = weights * self.left.gamma.square()
        along = (scaled.mT @ self.left.at.value[..., None])[..., 0] * self.right.at.by_step
        return ((scaled * self.sums.by_step).sum(-2) - along)[..., None]


def _median() -> Tensor:
    """Median of (log α, log λ̄, log γ) under the prior."""
    return torch.tensor([0.0, math.log(0.5), math.log(0.5)], dtype=torch.float64, device="cpu")
