"""Inducing variables that are linear functionals of the function."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Functionals, Kernel
from bo_suite.kernels.base import CrossTo, Features, Pullback
from bo_suite.linalg.factor import add_jitter
from bo_suite.linalg.factors import Lower
from bo_suite.surrogates.features.variables import InducingCovariance, VariablesPullback
from bo_suite.surrogates.observed import Observed, as_functionals, covariance, functionals_cross, variances


@dataclass(frozen=True, eq=False)
class Observables:
    """u = functionals of f: values, derivatives, integrals and differences.

    Attributes:
        functionals: of f.
    """

    functionals: Functionals

    @property
    def count(self) -> int:
        """Number of functionals."""
        return self.functionals.count

    @property
    def points(self) -> jt.Float[Tensor, "*b k d"]:
        """The nodes of the functionals."""
        return self.functionals.x

    @property
    def parameters(self) -> jt.Float[Tensor, "*b q"]:
        """None: a fit does not move functionals."""
        return self.functionals.x.new_zeros(*self.functionals.x.shape[:-2], 0)

    def moved(self, parameters: jt.Float[Tensor, "*b q"]) -> "Observables":
        """The same for more replicates."""
        return Observables(self.functionals.expanded(parameters.shape[:-1]))

    def box(self, x: jt.Float[Tensor, "*b n d"]) -> tuple[jt.Float[Tensor, "*b q"], jt.Float[Tensor, "*b q"]]:
        """No bounds, of no parameters."""
        return self.parameters, self.parameters

    def covariance(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], jitter: Tensor | float
    ) -> InducingCovariance:
        """The covariance of the functionals, its diagonal times 1 + jitter."""
        own = self.functionals.expanded(theta.shape[:-1])
        k, pull = functionals_cross(kernel, theta, own, own)
        chol, info = torch.linalg.cholesky_ex(add_jitter(k, jitter))

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor]:
            return pull(add_jitter(weights, jitter))[0], self.parameters

        return InducingCovariance(Lower(chol), info, pullback)

    def cross(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> jt.Float[Tensor, "*b m n"]:
        """cov(u, f(x)), or the covariance with other functionals."""
        return covariance(kernel, theta, self.functionals, x)

    def joint(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], x: Observed
    ) -> tuple[jt.Float[Tensor, "*b m n"], VariablesPullback]:
        """`cross`, and the map of W to d sum(W * cov) by theta."""
        own = self.functionals.expanded(theta.shape[:-1])
        k, pull = functionals_cross(kernel, theta, own, as_functionals(x))
        return k, lambda weights: (pull(weights)[0], self.parameters)

    def cross_to(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> CrossTo:
        """The map of x to cov(f(x), u) and to the map of W to d sum(W * cov) / d x."""

        def cross(x: Tensor) -> tuple[Tensor, Pullback]:
            k, pull = functionals_cross(kernel, theta, Functionals.values(x), self.functionals)
            return k, lambda weights: pull(weights)[1]

        return cross

    def variances(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> jt.Float[Tensor, "*b m"]:
        """Variances of the functionals."""
        return variances(kernel, theta, self.functionals)

    def values(
        self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], functions: Features
    ) -> jt.Float[Tensor, "*b m g"]:
        """The functionals of the functions."""
        return self.functionals.of(functions)

    def with_points(self, x: Observed) -> "Observables":
        """These, then values at rows, or other functionals."""
        return Observables(self.functionals.joined(as_functionals(x)))
