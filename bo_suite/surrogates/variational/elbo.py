"""The evidence lower bound of a sparse process with any likelihood, and its gradients."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.errors import NumericalError
from bo_suite.kernels import Kernel
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.prior_mean import MeanFunction, PriorMean, split_mean
from bo_suite.surrogates.variational.likelihoods import Likelihood


@dataclass(frozen=True, eq=False)
class Model:
    """The parts of a process that do not change while it is fitted.

    The free parameters of the prior and the likelihood are one vector eta = (theta, phi, constant mean),
    whose last entry is left out if the prior mean is given.

    Attributes:
        kernel: covariance function.
        likelihood: of an outcome given the latent function.
        mean: prior mean, a number or a function of rows; None for a free constant, N(0, 1).
        jitter: share of the variances of u that is added to them.
        dim: columns of the inputs.
    """

    kernel: Kernel
    likelihood: Likelihood
    mean: float | MeanFunction | None
    jitter: float
    dim: int

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        return len(self.kernel.start(self.dim)), len(self.likelihood.start()), int(self.mean is None)

    def start(self, like: Tensor) -> jt.Float[Tensor, " p"]:
        """Where a fit of eta starts."""
        parts = (self.kernel.start(self.dim), self.likelihood.start(), like.new_zeros(self._sizes[2]))
        return torch.cat([part.to(like) for part in parts])

    def bounds(self, like: Tensor) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """The box of eta."""
        box = zip(self.kernel.bounds(self.dim), self.likelihood.bounds(like), strict=True)
        ends = [like.new_full((self._sizes[2],), end) for end in (-10.0, 10.0)]
        lower, upper = (
            torch.cat([part.to(like) for part in (*pair, end)]) for pair, end in zip(box, ends, strict=True)
        )
        return lower, upper

    def split(self, eta: jt.Float[Tensor, "*b p"]) -> tuple[Tensor, Tensor, PriorMean]:
        """Theta, phi and the prior mean."""
        theta, phi, free = eta.split(self._sizes, -1)
        constant, function = split_mean(self.mean)
        constants = free[..., 0] if constant is None else torch.full_like(eta[..., 0], constant)
        return theta, phi, PriorMean(constants, function)

    def log_prior(
        self, eta: jt.Float[Tensor, "*b p"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log prior density of eta, up to a constant, and its gradient."""
        theta, phi, mean = self.split(eta)
        value, by_theta = self.kernel.log_prior(theta, self.dim)
        leaf = phi.detach().requires_grad_()
        with torch.enable_grad():
            phi_prior = self.likelihood.log_prior(leaf)
            total = phi_prior.sum()
        by_phi = torch.zeros_like(leaf)
        if total.requires_grad:
            (by_phi,) = torch.autograd.grad(total, leaf)
        value, gradients = value + phi_prior.detach(), [by_theta, by_phi]
        if self.mean is None:
            value = value - 0.5 * mean.constant.square()
            gradients.append(-mean.constant[..., None])
        return value, torch.cat(gradients, -1)

    def expectation(
        self,
        eta: jt.Float[Tensor, "*b p"],
        variables: InducingVariables,
        q: "Whitened",
        data: Dataset,
        rows: slice,
    ) -> "Expectation":
        """The expected log likelihood of some of the observations."""
        return Expectation(self, eta, variables, q, data, rows)


@dataclass(frozen=True, eq=False)
class Whitened:
    """q(v) = N(mean, RᵀR) over the whitened inducing variables v = L⁻¹ u.

    Attributes:
        mean: of v.
        root: R, triangular: L_B⁻¹ of a precision L_B L_Bᵀ, or Wᵀ of a covariance W Wᵀ.
    """

    mean: jt.Float[Tensor, "*b m"]
    root: jt.Float[Tensor, "*b m m"]

    @property
    def cov(self) -> jt.Float[Tensor, "*b m m"]:
        """RᵀR."""
        return self.root.mT @ self.root

    @property
    def divergence(self) -> jt.Float[Tensor, "*b"]:
        """KL[q(v) || N(0, I)] = ½ (|mean|² + |R|² - m) - log |R|."""
        diagonal = self.root.diagonal(dim1=-2, dim2=-1)
        squares = self.mean.square().sum(-1) + self.root.square().sum((-2, -1)) - self.mean.shape[-1]
        return 0.5 * squares - diagonal.abs().log().sum(-1)


class Expectation:
    """Σ E_q[log p(y_i | f_i)] over some observations, its gradients, and the sites.

    With A = L⁻¹ k_u(X) and prior mean m: f_i ~ N(m(x_i) + a_iᵀ mean, k_ii - |a_i|² + |R a_i|²). The
    gradients by these two moments come from the likelihood; that by A is mean gᵀ - 2 (I - S) A diag(h).

    Attributes:
        value: the sum (*b).
        a: A (*b, m, n).
        mean: of f (*b, n).
        var: of f (*b, n).
        by_mean: g (*b, n).
        by_var: h (*b, n).
    """

    def __init__(
        self, model: Model, eta: Tensor, variables: InducingVariables, q: Whitened, data: Dataset, rows: slice
    ) -> None:
        theta, phi, prior_mean = model.split(eta)
        self._model, self._theta, self._q = model, theta, q
        self._x, self._y = data.x[..., rows, :], data.y[..., rows]
        self._noise = None if data.noise is None else data.noise[..., rows]
        self._prior_mean, self._phi = prior_mean(self._x), phi
        self._covariance = variables.covariance(model.kernel, theta, model.jitter)
        self.info, self._factor = self._covariance.info, self._covariance.factor
        k, self._pull = variables.joint(model.kernel, theta, self._x)
        self.a = self._factor.solve(k)
        self._b = q.root @ self.a
        spread = model.kernel.diagonal(theta, self._x) - self.a.square().sum(-2) + self._b.square().sum(-2)
        self.var = spread.clamp(min=0.0)
        self.mean = self._prior_mean + (q.mean[..., None, :] @ self.a)[..., 0, :]
        leaves = [part.detach().requires_grad_() for part in (self.mean, self.var, phi)]
        with torch.enable_grad():
            densities = model.likelihood.expected_log_density(
                self._y, leaves[0], leaves[1], leaves[2], self._noise
            )
            value = densities.sum(-1)
            by_leaves = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        gradients = [
            torch.zeros_like(leaf) if by_leaf is None else by_leaf
            for leaf, by_leaf in zip(leaves, by_leaves, strict=True)
        ]
        self.value = value.detach()
        self.by_mean, self.by_var, self._by_phi = gradients

    def require_definite(self) -> None:
        """Raise NumericalError unless K_uu, jitter included, is positive definite."""
        if bool(self.info.any()):
            raise NumericalError(
                "the covariance of the inducing variables must be positive definite. Check the kernel, or "
                f"raise the jitter, which is {self._model.jitter:g} of their variances"
            )

    @cached_property
    def by_q(self) -> tuple[Tensor, Tensor]:
        """Gradients by the mean of v, A g, and by its covariance, A diag(h) Aᵀ."""
        by_mean = (self.a @ self.by_mean[..., None])[..., 0]
        return by_mean, (self.a * self.by_var[..., None, :]) @ self.a.mT

    @cached_property
    def _sites(self) -> tuple[Tensor, Tensor]:
        return self._model.likelihood.sites(self._y, self.mean, self.var, self._phi, self._noise)

    @property
    def site_precision(self) -> jt.Float[Tensor, "*b n"]:
        """Precision of the site of each observation."""
        return self._sites[1]

    @cached_property
    def site_sums(self) -> tuple[Tensor, Tensor]:
        """Linear natural parameter and precision of v, summed over the sites of these observations."""
        linear, precision = self._sites
        residual = linear - precision * self._prior_mean
        outer = (self.a * precision[..., None, :]) @ self.a.mT
        return (self.a @ residual[..., None])[..., 0], outer

    def by_parameters(
        self, weight: float, also: Tensor | None = None
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b k"]]:
        """`weight` times the gradients by eta and by the parameters of u, q(v) held.

        Args:
            weight: of this sum in the bound.
            also: added to G Aᵀ (*b, m, m), G being the gradient by A, when q(u) is held instead.
        """
        q, model = self._q, self._model
        unexplained = self.a - q.root.mT @ self._b
        by_a = q.mean[..., None] * self.by_mean[..., None, :] - 2.0 * unexplained * self.by_var[..., None, :]
        by_a = weight * by_a
        by_k = self._factor.solve(by_a, transposed=True)
        inner = by_a @ self.a.mT
        if also is not None:
            inner = inner + also
        lower = torch.tril(inner)
        lower = lower - 0.5 * torch.diag_embed(lower.diagonal(dim1=-2, dim2=-1))
        half = self._factor.solve(0.5 * (lower + lower.mT), transposed=True)
        theta_cross, variables_cross = self._pull(by_k)
        theta_own, variables_own = self._covariance.pullback(-self._factor.solve(half.mT, transposed=True))
        diagonal, _ = model.kernel.diagonal_gradient(self._theta, self._x, weight * self.by_var)
        parts: list[Any] = [theta_cross + theta_own + diagonal, weight * self._by_phi]
        if model.mean is None:
            parts.append(weight * self.by_mean.sum(-1, keepdim=True))
        return torch.cat(parts, -1), variables_cross + variables_own
