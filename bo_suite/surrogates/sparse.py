"""A Gaussian process that summarises its data by a few inducing variables."""

from dataclasses import dataclass, replace
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Kernel
from bo_suite.linalg import cholesky_downdate, cholesky_update, solve_lower
from bo_suite.surrogates import moments
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.observed import (
    Observed,
    covariance,
    number_of,
    prior_means,
    variances,
)
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import check_observations


@dataclass(frozen=True, eq=False)
class FitTrace:
    """How a sparse process was fitted.

    Attributes:
        losses: negative evidence lower bound, priors included, at each evaluation or step.
        initial: inducing inputs before the fit moved them; none of inter-domain features.
    """

    losses: jt.Float[Tensor, " t *b"]
    initial: jt.Float[Tensor, "*b j d"]


@dataclass(frozen=True, eq=False)
class SparseProcess:
    """Sparse variational Gaussian process, from a Gaussian q over whitened inducing variables.

    With prior mean m, f = m + g, inducing variables u = L v of g, L Lᵀ = K_uu, q(v) = N(w, (L_B L_Bᵀ)⁻¹) and
    a(x) = L⁻¹ k_u(x), which is L⁻¹ k(Z, x) if u = g(Z):
    mean(x) = m(x) + a(x)ᵀ w,  cov(x, z) = k(x, z) - a(x)ᵀ a(z) + (L_B⁻¹ a(x))ᵀ L_B⁻¹ a(z)
    (Hensman, Fusi and Lawrence 2013; whitened as Matthews 2017). L_B is the identity for the prior, and
    each Gaussian observation adds a(x) a(x)ᵀ / noise to L_B L_Bᵀ.

    Attributes:
        basis: kernel, its parameters theta, the inducing variables u, L and L_B.
        linear: L_B L_Bᵀ w, the linear natural parameter of q(v), with fantasy dimensions in front.
        prior_mean: m.
        noise: variance of a further observation about the latent function.
        hyperparameters: where the next fit may start.
        independent: whether the variance of an observation that the inducing variables do not explain counts
            as noise of its own (FITC, Snelson and Ghahramani 2006) or as explained (Titsias 2009).
        trace: how it was fitted; None if it was only conditioned.
    """

    basis: Basis
    linear: jt.Float[Tensor, "*sb m"]
    prior_mean: PriorMean
    noise: jt.Float[Tensor, "*b"]
    hyperparameters: jt.Float[Tensor, "*b h"]
    independent: bool = False
    trace: FitTrace | None = None

    @property
    def weights(self) -> jt.Float[Tensor, "*b n s"]:
        """Weights of the covariances with the rows in the mean, one column a fantasy."""
        return self._weights

    @cached_property
    def _weights(self) -> Tensor:
        return self.basis.weights(self.white)

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """Prior variance of the latent function, at the first row."""
        return self.basis.scale

    mean = moments.mean
    var = moments.var
    mean_and_var = moments.mean_and_var
    cov = moments.cov
    lookahead = moments.lookahead

    @property
    def kernel(self) -> Kernel:
        """Covariance function."""
        return self.basis.kernel

    @property
    def theta(self) -> jt.Float[Tensor, "*b p"]:
        """The kernel's parameters."""
        return self.basis.theta

    @property
    def variables(self) -> InducingVariables:
        """u."""
        return self.basis.variables

    @property
    def inducing(self) -> jt.Float[Tensor, "*b j d"]:
        """The inducing inputs Z; none if all inducing variables are inter-domain features."""
        return self.basis.rows

    @property
    def chol(self) -> jt.Float[Tensor, "*b m m"]:
        """L."""
        return self.basis.factor.dense

    @property
    def precision_chol(self) -> jt.Float[Tensor, "*b m m"]:
        """L_B."""
        assert self.basis.precision_chol is not None, "the basis of a sparse process has one"
        return self.basis.precision_chol

    @property
    def white(self) -> jt.Float[Tensor, "*sb m"]:
        """L_Bᵀ w."""
        return self._white

    @cached_property
    def _white(self) -> Tensor:
        return solve_lower(self.precision_chol, self.linear[..., None])[..., 0]

    def condition(
        self,
        x: Observed,
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process given more observations, exactly: O((m + q)² q).

        The values at x become inducing variables first, which changes nothing. The observations at them are
        then absorbed without loss. This is online variational conditioning (Maddox, Stanton and Wilson 2021)
        without its pseudo-data. Fantasies are in front of y, as in `ExactProcess.condition`.

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        check_observations(x, y, noise)
        m, q = self.variables.count, number_of(x)
        cross = self.variables.cross(self.kernel, self.theta, x)
        corner = covariance(self.kernel, self.theta, x, x)
        widened = self.precision_chol.new_zeros(*self.theta.shape[:-1], m + q, m + q)
        widened[..., :m, :m] = self.precision_chol
        widened[..., m:, m:].diagonal(dim1=-2, dim2=-1).fill_(1.0)
        factor = self.basis.factor.appended(cross, corner)
        wider = replace(
            self,
            basis=Basis(self.kernel, self.theta, self.variables.with_points(x), factor, widened),
            linear=torch.nn.functional.pad(self.linear, (0, q)),
            trace=None,
        )
        return wider.absorb(x, y, noise)

    def absorb(
        self,
        x: Observed,
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process refitted with more Gaussian observations, all else fixed: O(m² q).

        The optimal q(v) at the same inducing variables, hyperparameters and prior mean (Titsias 2009,
        equation 10): L_B L_Bᵀ gains A diag(1 / noise) Aᵀ, A = L⁻¹ k_u(x). What the inducing variables can not
        express of the observations is lost; `condition` loses nothing, but adds inducing variables.

        Raises:
            DataError: x and y do not fit together.
        """
        vectors, information = self._observe(x, y, noise)
        precision_chol = cholesky_update(self.precision_chol, vectors)
        return self._with_q(precision_chol, self.linear + information)

    def release(
        self,
        x: Observed,
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process without observations that it was fitted to or absorbed: O(m² q).

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the precision of q(v) would not be positive definite, so that these can not be
                observations of the process.
        """
        vectors, information = self._observe(x, y, noise)
        precision_chol = cholesky_downdate(self.precision_chol, vectors)
        return self._with_q(precision_chol, self.linear - information)

    def _with_q(self, precision_chol: Tensor, linear: Tensor) -> "SparseProcess":
        basis = replace(self.basis, precision_chol=precision_chol)
        return replace(self, basis=basis, linear=linear, trace=None)

    def _observe(self, x: Observed, y: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """A / √noise (*b, m, q), and A (y - prior_mean(x)) / noise (*sb, m)."""
        check_observations(x, y, noise)
        a = self.basis.whiten(x)
        variance = self.noise[..., None]
        if noise is not None:
            least = torch.finfo(noise.dtype).eps * self.scale[..., None]
            variance = torch.where(torch.isnan(noise), variance, torch.maximum(noise, least))
        if self.independent:
            diagonal = variances(self.kernel, self.theta, x)
            variance = variance + (diagonal - a.square().sum(-2)).clamp(min=0.0)
        deviation = variance.sqrt()
        vectors = a / deviation[..., None, :]
        residual = (y - prior_means(self.prior_mean, x)) / deviation
        return vectors, (vectors @ residual[..., None])[..., 0]
