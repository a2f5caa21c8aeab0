"""Moments of a process that is written in a basis: what the exact and the sparse process share.

Each of the two classes takes these functions as its methods.
"""

from typing import Protocol, runtime_checkable

import jaxtyping as jt
from torch import Tensor

from bo_suite.surrogates.basis import Basis, fantasies_first
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.observed import Observed, prior_means
from bo_suite.surrogates.prior_mean import PriorMean


@runtime_checkable
class Pathwise(Protocol):
    """A process that is written in a basis, so that functions can be drawn from it."""

    @property
    def basis(self) -> Basis:
        """The rows whose covariances it is written in."""

    @property
    def white(self) -> jt.Float[Tensor, "*sb n"]:
        """Whitened residuals, with fantasy dimensions in front."""

    @property
    def prior_mean(self) -> PriorMean:
        """Mean before any observation."""


class _InBasis(Pathwise, Protocol):
    """The same with weights that are computed once. It is never checked, for that would compute them."""

    @property
    def weights(self) -> jt.Float[Tensor, "*b n s"]:
        """`Basis.weights` of the whitened residuals."""


def mean(self: _InBasis, x: Observed) -> jt.Float[Tensor, "*sb m"]:
    """Posterior mean of the latent function, or of linear functionals of it."""
    return mean_and_var(self, x)[0]


def var(self: _InBasis, x: Observed) -> jt.Float[Tensor, "*b m"]:
    """Posterior variance of the latent function, or of linear functionals of it, at least 0."""
    return mean_and_var(self, x)[1]


def mean_and_var(self: _InBasis, x: Observed) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
    """Posterior mean and variance of the latent function at rows, differentiable once by these.

    Or of linear functionals of it, without derivatives.
    """
    basis = self.basis
    if isinstance(x, Tensor):
        columns, variance = basis.mean_and_var(x, self.weights)
    else:
        columns, variance = basis.moments(x, self.weights)
    prior = prior_means(self.prior_mean, x)
    return fantasies_first(columns, basis.fantasies(self.white)) + prior, variance


def cov(self: _InBasis, x1: Observed, x2: Observed) -> jt.Float[Tensor, "*b m k"]:
    """Posterior covariance of the latent function, or of linear functionals of it."""
    return self.basis.cov(x1, x2)


def lookahead(self: _InBasis, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
    """Moments at any rows with their covariances to the points."""
    return Lookahead.of(self.basis, self.white, self.prior_mean, points)
