"""Squared exponential times Hamming, with analytic derivatives."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.kernels.ard import Ard
from bo_suite.kernels.base import JointPullback, Pullback
from bo_suite.kernels.derivatives import functionals_cross
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.radial import squared_exponential


@dataclass(frozen=True)
class SquaredExponential:
    """k(x, z) = s² exp(-r²/2) exp(-sum_u 0.2 [x_u != z_u] / l_u), r² = sum_o (x_o - z_o)² / l_o².

    Theta and the priors are those of `Matern52`. All derivatives of functions exist, which few objectives
    are smooth enough for; expectations over Gaussian inputs have a closed form.

    Attributes:
        unordered: columns that hold codes of categories.
        fidelities: columns that hold the fidelity of an evaluation.
        outputscale_spread: standard deviation of log s² under its prior.
    """

    unordered: tuple[int, ...] = ()
    fidelities: tuple[int, ...] = ()
    outputscale_spread: float = 1.0

    @property
    def ard(self) -> Ard:
        """The lengthscales, the outputscale and the factor of the categories."""
        return Ard(self.unordered, self.fidelities, self.outputscale_spread)

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Lengthscales √d / 2, those of fidelities 3, and outputscale one."""
        return self.ard.start(dim)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Lengthscales in [0.01, 1000], outputscale in [0.01, 1000]."""
        return self.ard.bounds(dim)

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, s²), not of their logarithms, up to a constant, and its gradient by theta."""
        return self.ard.log_prior(theta, dim, stepped)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta."""
        k, pullback = self.joint(theta, x, x)
        return k, lambda weights: pullback(weights)[0]

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered columns)."""
        k, pullback = self.joint(theta, x, z)
        return k, lambda weights: pullback(weights)[1]

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero for unordered columns)."""
        return self.functionals_cross(theta, Functionals.values(x), Functionals.values(z))

    def frequencies(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[jt.Float[Tensor, "*b count d"], jt.Float[Tensor, "*b count"]]:
        """Random w, and weights a, with k(x, z) = s² E[a cos(wᵀ (x - z))]; w l is standard normal."""
        normal = seeds.split("normal").normal((count, dim), theta)
        frequencies = normal * torch.exp(-theta[..., :-1])[..., None, :]
        self.ard.add_frequencies(frequencies, theta, seeds)
        return frequencies, torch.ones_like(frequencies[..., 0])

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return self.ard.diagonal(theta, x)

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by the outputscale; 0 by other theta, and by x."""
        return self.ard.diagonal_gradient(theta, x, weights)

    def functionals_cross(
        self, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """cov(u, v) of linear functionals, and the map of W to d sum(W * cov) by theta and both nodes."""
        return functionals_cross(squared_exponential, self.ard, theta, left, right)
