"""The protocol of a covariance function.

A kernel is a frozen configuration. Its free parameters are one vector `theta` a replicate, unconstrained but
for a box. `gram`, `cross` and `joint` also return the pullback, which maps a gradient by the matrix to one by
theta or by the inputs.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.kernels.functionals import Functionals

Pullback = Callable[[Tensor], Tensor]
JointPullback = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
CrossTo = Callable[[Tensor], tuple[Tensor, Pullback]]
"""Rows x (*b, m, d) to k(x, z) of some rows z, and the map of W to d sum(W * k) / d x."""
Features = Callable[[Tensor], Tensor]
"""Rows (*b, m, d) to the values of functions (*b, m, g), differentiable by autograd."""


@runtime_checkable
class Kernel(Protocol):
    """A covariance function, as a Gaussian process surrogate needs it."""

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """Theta at which a fit starts."""

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Smallest and largest theta."""

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log prior density of the hyperparameters, up to a constant, and its gradient by theta.

        Args:
            theta: hyperparameters.
            dim: number of columns.
            stepped: whether the function is known to be constant in steps; None if it is not.
        """

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W (*b n n) to d sum(W * k) / d theta."""

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W (*b m n) to d sum(W * k) / d x."""

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W (*b m n) to d sum(W * k) by theta, by x and by z."""

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """k(x_i, x_i)."""

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i) by theta and by x."""


@runtime_checkable
class SpectralKernel(Protocol):
    """A stationary kernel whose spectral measure can be sampled."""

    def frequencies(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[jt.Float[Tensor, "*b count d"], jt.Float[Tensor, "*b count"]]:
        """Random w, and weights a, with k(x, z) = k(x, x) E[a cos(wᵀ (x - z))] (Bochner)."""


@runtime_checkable
class FeatureKernel(Protocol):
    """A kernel, stationary or not, that is the mean of products of random functions."""

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[Features, jt.Float[Tensor, "*b count"]]:
        """Random ψ, then random χ, and weights a, with k(x, z) = E[a (ψ(x) ψ(z) + χ(x) χ(z))]."""


@runtime_checkable
class PreparedKernel(Protocol):
    """A kernel that computes once what its `cross` needs of theta and z."""

    def prepared(self, theta: jt.Float[Tensor, "*b p"], z: jt.Float[Tensor, "*b n d"]) -> CrossTo:
        """`cross` as a function of x."""


@runtime_checkable
class KernelWithMean(Protocol):
    """A kernel with a prior mean, which `ExactGP` adds to its own; sparse surrogates leave it out."""

    def prior_mean(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*b m"], Pullback]:
        """Prior mean of rows, differentiable by autograd; the map of w (*b m) to d (w · mean) / d theta."""


@runtime_checkable
class DifferentiableKernel(Protocol):
    """A kernel that is twice differentiable, so that derivatives of f are Gaussian processes too."""

    def functionals_cross(
        self, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
    ) -> tuple[jt.Float[Tensor, "*b q r"], JointPullback]:
        """cov(u, v), and the map of W to d sum(W * cov) by theta, left.x and right.x."""
