"""Several outputs as mixtures of independent processes: the intrinsic model of complete outcomes."""

from dataclasses import dataclass, replace
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.kernels import Coregional
from bo_suite.linalg import jittered_cholesky
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs.evidence import Rotation, best_means
from bo_suite.surrogates.outputs.observations import OutputData, as_hyperparameters, stacked_rows
from bo_suite.surrogates.outputs.stacked import OutputMeans, StackedProcess
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, sample_joint

_ROUNDING = 1e-4
"""Share of the prior variance up to which a given noise is there for the factor alone."""

_SMALLEST = 1e-12
"""Variances s of the independent functions are clamped here: their logarithm is a kernel's parameter."""


@dataclass(frozen=True, eq=False)
class IntrinsicProcess:
    """The posterior of all outputs f_i = Σ_a A_ia g_a, with independent g_a; outputs come first.

    mean_i = Σ_a A_ia mean_a and cov(f_i, f_j) = Σ_a A_ia A_ja cov_a: see `Rotation`. All that a process can
    do is done by the batch of the g_a, so an output costs what one costs in a batch of separate fits.

    Attributes:
        kernel: of all outputs, of one term.
        theta: its parameters.
        noise: variance of a further observation of each output.
        latent: the g_a, a leading dimension.
    """

    kernel: Coregional
    theta: jt.Float[Tensor, "*b t"]
    noise: jt.Float[Tensor, "*pb"]
    latent: ExactProcess

    @staticmethod
    def of(
        kernel: Coregional,
        theta: jt.Float[Tensor, "*b t"],
        log_noise: jt.Float[Tensor, "*b p"],
        data: OutputData,
    ) -> "IntrinsicProcess":
        """The posterior given complete outcomes.

        Raises:
            NumericalError: a covariance does not factorise, jitter included.
        """
        ((inner, _, _),) = kernel.split(theta)
        rotation = Rotation.of(kernel.between(theta)[0], log_noise.exp())
        s = rotation.variances.clamp(min=_SMALLEST).movedim(-1, 0)
        of_latent = torch.cat((inner[..., :-1].expand(*s.shape, -1), s.log()[..., None]), -1)
        x = data.x.expand(len(s), *data.x.shape)
        k, _ = kernel.inner.gram(of_latent, x)
        chol, jitter = jittered_cholesky(k + torch.eye(k.shape[-1], dtype=k.dtype, device=k.device))
        y = (rotation.inverse @ data.y).movedim(-2, 0)
        white = torch.linalg.solve_triangular(chol, torch.stack((y, torch.ones_like(y)), -1), upper=False)
        products = (white.mT @ white).movedim(0, -3)
        means = best_means(
            rotation.inverse.mT @ (products[..., 1, 1][..., None] * rotation.inverse),
            (rotation.inverse.mT @ products[..., 0, 1][..., None])[..., 0],
        )
        constants = (rotation.inverse @ means[..., None])[..., 0].movedim(-1, 0)
        residual = white[..., 0] - constants[..., None] * white[..., 1]
        basis = Basis.of_observed(kernel.inner, of_latent, x, chol)
        latent = ExactProcess(basis, residual, PriorMean(constants), torch.ones_like(s), jitter)
        return IntrinsicProcess(kernel, theta, log_noise.exp().movedim(-1, 0), latent)

    @cached_property
    def rotation(self) -> Rotation:
        """The mixture."""
        return Rotation.of(self.kernel.between(self.theta)[0], self.noise.movedim(0, -1))

    @property
    def scale(self) -> jt.Float[Tensor, "*pb"]:
        """Prior variance of each output."""
        return self.kernel.variances(self.theta).movedim(-1, 0)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """For each output what all share, its row of W, log κ and log noise."""
        return as_hyperparameters(self.kernel, self.theta, self.noise.movedim(0, -1).log())

    def mean(self, x: jt.Float[Tensor, "p *b m d"]) -> jt.Float[Tensor, "*sb m"]:
        """Posterior mean of each output at its rows."""
        return self.mean_and_var(x)[0]

    def var(self, x: jt.Float[Tensor, "p *b m d"]) -> jt.Float[Tensor, "p *b m"]:
        """Posterior variance of each output at its rows, at least 0."""
        return self.mean_and_var(x)[1]

    def mean_and_var(
        self, x: jt.Float[Tensor, "p *b m d"]
    ) -> tuple[jt.Float[Tensor, "*sb m"], jt.Float[Tensor, "p *b m"]]:
        """Posterior mean and variance, differentiable once by x."""
        if not _shared(x):
            return self.stacked.mean_and_var(x)
        mean, var = self.latent.mean_and_var(x)
        mixing = self.rotation.mixing
        return self._applied(mixing, mean), self._applied(mixing.square(), var)

    def cov(
        self, x1: jt.Float[Tensor, "p *b m d"], x2: jt.Float[Tensor, "p *b k d"]
    ) -> jt.Float[Tensor, "p *b m k"]:
        """Posterior covariance of each output."""
        if not (_shared(x1) and _shared(x2)):
            return self.stacked.cov(x1, x2)
        cov = self.latent.cov(x1, x2)
        mixed: Tensor = self.rotation.mixing.square() @ cov.movedim(0, -3).flatten(-2)
        return mixed.movedim(-2, 0).reshape(cov.shape)

    def condition(
        self,
        x: jt.Float[Tensor, "p *b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "p *b q"] | None = None,
    ) -> "IntrinsicProcess | StackedProcess":
        """The process given more observations of all outputs.

        The g_a remain independent if the noise is that of the process. A given noise below 1e-4 of the prior
        variances, as that of samples, counts as noise of each g_a with the variance that it has there, so
        correlations of order 1e-4 are left out. With any other, the result is a `StackedProcess`.

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        variance = None
        if noise is not None:
            small = bool((noise <= _ROUNDING * self.scale[..., None]).all())
            variance = self._applied(self.rotation.inverse.square(), noise) if small else None
        if not _shared(x) or (noise is not None and variance is None):
            return self.stacked.condition(x, y, noise)
        if y.shape[y.ndim - x.ndim + 1 :] != x.shape[:-1]:
            raise DataError(
                f"y must be (*s, p, *b, q), with {tuple(x.shape[:-1])} of x, got {tuple(y.shape)}"
            )
        latent = self.latent.condition(x, self._applied(self.rotation.inverse, y), variance)
        return replace(self, latent=latent)

    def joint_samples(self, x: jt.Float[Tensor, "p *b q d"], base: jt.Float[Tensor, "p *b s q"]) -> Tensor:
        """Joint draws of all outputs: (s, p, *b, q)."""
        if not _shared(x):
            return self.stacked.joint_samples(x, base)
        return self._applied(self.rotation.mixing, sample_joint(self.latent, x, base))

    def leave_one_out(
        self, y: jt.Float[Tensor, "p *b n"]
    ) -> tuple[jt.Float[Tensor, "p *b n"], jt.Float[Tensor, "p *b n"]]:
        """Mean and variance of each outcome given all outcomes of other rows, noise included.

        Those of the g_a, mixed: A Aᵀ = D, so their noise is that of the outputs.

        Args:
            y: the outcomes that it was fitted to.
        """
        rotation = self.rotation
        mean, var = leave_one_out(self.latent, self._applied(rotation.inverse, y))
        return self._applied(rotation.mixing, mean), self._applied(rotation.mixing.square(), var)

    @cached_property
    def stacked(self) -> StackedProcess:
        """The same posterior as one process over pairs of a row and an output, in O(n³ p³)."""
        latent, mixing = self.latent, self.rotation.mixing
        p, n = len(self.noise), latent.chol.shape[-1]
        gram = (latent.chol @ latent.chol.mT).movedim(0, -3)
        blocks = torch.einsum("...ia,...ja,...amn->...imjn", mixing, mixing, gram)
        chol, jitter = jittered_cholesky(blocks.flatten(-4, -3).flatten(-2, -1))
        fantasies = latent.white.ndim - latent.theta.ndim + 1
        residual = self._applied(mixing, (latent.chol @ latent.white[..., None])[..., 0])
        flat = residual.movedim(fantasies - 1, -2).flatten(-2)
        white = torch.linalg.solve_triangular(chol, flat[..., None], upper=False)[..., 0]
        means = (mixing @ latent.prior_mean.constant.movedim(0, -1)[..., None])[..., 0]
        prior_mean = PriorMean(torch.zeros_like(means[..., 0]), OutputMeans(means))
        basis = Basis.of_observed(self.kernel, self.theta, stacked_rows(latent.x), chol)
        process = ExactProcess(basis, white, prior_mean, self.noise[0], jitter)
        index = torch.arange(p * n, device=chol.device).reshape(p, n).mT
        return StackedProcess(process, self.noise, index)

    def _applied(self, matrix: Tensor, values: Tensor) -> Tensor:
        """A matrix (*b, p, p) times the outputs of values (*s, p, *b, m)."""
        output = values.ndim - 2 - (matrix.ndim - 2)
        return (matrix @ values.movedim(output, -2)).movedim(-2, output)


def _shared(x: Tensor) -> bool:
    """Whether the rows of all outputs are the same memory, as those that were expanded are."""
    return len(x) == 1 or x.stride(0) == 0
