"""A Gaussian process that knows its data through the values at a few inducing inputs."""

from dataclasses import dataclass, replace
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Kernel
from bo_suite.linalg import cholesky_append, cholesky_downdate, cholesky_update, solve_lower
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.process import check_observations, with_fantasies


@dataclass(frozen=True, eq=False)
class FitTrace:
    """How a sparse process was fitted.

    Attributes:
        losses: negative evidence lower bound, priors included, at each evaluation or step.
        initial: inducing inputs before the fit moved them.
    """

    losses: jt.Float[Tensor, " t *b"]
    initial: jt.Float[Tensor, "*b m d"]


@dataclass(frozen=True, eq=False)
class SparseProcess:
    """Sparse variational Gaussian process, from a Gaussian q over whitened inducing values.

    With u = f(Z) = prior_mean + L v, L Lᵀ = k(Z, Z), q(v) = N(m, (L_B L_Bᵀ)⁻¹) and a(x) = L⁻¹ k(Z, x):
    mean(x) = prior_mean + a(x)ᵀ m,  cov(x, z) = k(x, z) - a(x)ᵀ a(z) + (L_B⁻¹ a(x))ᵀ L_B⁻¹ a(z)
    (Hensman, Fusi and Lawrence 2013; whitened as Matthews 2017). L_B is the identity for the prior, and
    each Gaussian observation adds a(x) a(x)ᵀ / noise to L_B L_Bᵀ.

    Attributes:
        kernel: covariance function.
        theta: its parameters.
        inducing: Z.
        chol: L.
        precision_chol: L_B.
        linear: L_B L_Bᵀ m, the linear natural parameter of q(v), with fantasy dimensions in front.
        prior_mean: constant mean.
        noise: variance of a further observation about the latent function.
        hyperparameters: what the next fit may start from.
        independent: whether what the inducing values leave unexplained of an observation counts as noise of
            its own (FITC, Snelson and Ghahramani 2006), and not as explained (Titsias 2009).
        trace: how it was fitted; None where it was only conditioned.
    """

    kernel: Kernel
    theta: jt.Float[Tensor, "*b p"]
    inducing: jt.Float[Tensor, "*b m d"]
    chol: jt.Float[Tensor, "*b m m"]
    precision_chol: jt.Float[Tensor, "*b m m"]
    linear: jt.Float[Tensor, "*sb m"]
    prior_mean: jt.Float[Tensor, "*b"]
    noise: jt.Float[Tensor, "*b"]
    hyperparameters: jt.Float[Tensor, "*b h"]
    independent: bool = False
    trace: FitTrace | None = None

    @property
    def scale(self) -> jt.Float[Tensor, "*b"]:
        """k(x, x) at the first inducing input."""
        return self.basis.scale

    @cached_property
    def basis(self) -> Basis:
        """The inducing inputs as what the process is expressed in."""
        return Basis(self.kernel, self.theta, self.inducing, self.chol, self.precision_chol)

    @cached_property
    def white(self) -> jt.Float[Tensor, "*sb m"]:
        """L_Bᵀ m."""
        return solve_lower(self.precision_chol, self.linear[..., None])[..., 0]

    @cached_property
    def _weights(self) -> Tensor:
        return self.basis.weights(self.white)

    def mean(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of the latent function."""
        return self.mean_and_var(x)[0]

    def var(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """Posterior variance of the latent function, at least 0."""
        return self.mean_and_var(x)[1]

    def mean_and_var(
        self, x: jt.Float[Tensor, "*b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "*b m"]]:
        """Posterior mean and variance of the latent function, differentiable once by x."""
        mean, var = self.basis.mean_and_var(x, self._weights)
        return with_fantasies(mean, self.white) + self.prior_mean[..., None], var

    def cov(
        self, x1: jt.Float[Tensor, "*b m d"], x2: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b m k"]:
        """Posterior covariance of the latent function."""
        return self.basis.cov(x1, x2)

    def lookahead(self, points: jt.Float[Tensor, "*b j d"]) -> Lookahead:
        """Moments anywhere with the covariances to some points, made fast by what it keeps of these."""
        return Lookahead.of(self.basis, self.white, self.prior_mean, points)

    def condition(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process given more observations, exactly: O((m + q)² q).

        The rows x become inducing inputs first, which changes nothing, and the observations at them are then
        absorbed without loss. This is online variational conditioning (Maddox, Stanton and Wilson 2021)
        without its pseudo-data. Fantasies lead y, as in `ExactProcess.condition`.

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        check_observations(x, y)
        m, q = self.inducing.shape[-2], x.shape[-2]
        cross = self.kernel.cross(self.theta, self.inducing, x)[0]
        corner = self.kernel.gram(self.theta, x)[0]
        widened = self.precision_chol.new_zeros(*self.chol.shape[:-2], m + q, m + q)
        widened[..., :m, :m] = self.precision_chol
        widened[..., m:, m:].diagonal(dim1=-2, dim2=-1).fill_(1.0)
        wider = replace(
            self,
            inducing=torch.cat((self.inducing, x), -2),
            chol=cholesky_append(self.chol, cross, corner),
            precision_chol=widened,
            linear=torch.nn.functional.pad(self.linear, (0, q)),
            trace=None,
        )
        return wider.absorb(x, y, noise)

    def absorb(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process refitted with more Gaussian observations, all else fixed: O(m² q).

        The optimal q(v) at the same inducing inputs, hyperparameters and prior mean (Titsias 2009, equation
        10): L_B L_Bᵀ gains A diag(1 / noise) Aᵀ, A = L⁻¹ k(Z, x). What the inducing values can not express
        of the observations is lost; `condition` loses nothing and grows.

        Raises:
            DataError: x and y do not fit together.
        """
        vectors, information = self._observe(x, y, noise)
        precision_chol = cholesky_update(self.precision_chol, vectors)
        return replace(self, precision_chol=precision_chol, linear=self.linear + information, trace=None)

    def release(
        self,
        x: jt.Float[Tensor, "*b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "*b q"] | None = None,
    ) -> "SparseProcess":
        """The process without observations that it was fitted to, or that it absorbed: O(m² q).

        Raises:
            DataError: x and y do not fit together.
            NumericalError: q(v) would be less certain than any; these were no observations of it.
        """
        vectors, information = self._observe(x, y, noise)
        precision_chol = cholesky_downdate(self.precision_chol, vectors)
        return replace(self, precision_chol=precision_chol, linear=self.linear - information, trace=None)

    def _observe(self, x: Tensor, y: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """A / √noise (*b, m, q), and A (y - prior_mean) / noise (*sb, m)."""
        check_observations(x, y)
        a = self.basis.whiten(x)
        variance = self.noise[..., None]
        if noise is not None:
            least = torch.finfo(noise.dtype).eps * self.scale[..., None]
            variance = torch.where(torch.isnan(noise), variance, torch.maximum(noise, least))
        if self.independent:
            diagonal = self.kernel.diagonal(self.theta, x)
            variance = variance + (diagonal - a.square().sum(-2)).clamp(min=0.0)
        deviation = variance.sqrt()
        vectors = a / deviation[..., None, :]
        residual = (y - self.prior_mean[..., None]) / deviation
        return vectors, (vectors @ residual[..., None])[..., 0]
