"""Several outputs as one exact process over pairs of a row and an output."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Coregional
from bo_suite.linalg import jittered_cholesky
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.outputs.evidence import entry_noise, means_and_white
from bo_suite.surrogates.outputs.observations import (
    Entries,
    OutputData,
    as_hyperparameters,
    outputs_first,
    outputs_last,
    stacked_rows,
    with_code,
)
from bo_suite.surrogates.prior_mean import PriorMean
from bo_suite.surrogates.process import ExactProcess, Hyperparameters


@dataclass(frozen=True, eq=False)
class OutputMeans:
    """The prior mean of each pair of a row and an output, whose code is the last column.

    Attributes:
        means: one value an output.
    """

    means: jt.Float[Tensor, "*b p"]

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The means of the outputs of the rows."""
        output = (x[..., -1].detach() * max(self.means.shape[-1] - 1, 1)).round().long()
        return self.means.expand(*x.shape[:-2], -1).gather(-1, output)


@dataclass(frozen=True, eq=False)
class StackedProcess:
    """The posterior of all outputs, from the factor of the covariance of all outcomes; outputs come first.

    Attributes:
        process: over pairs of a row and an output, whose code is the last column.
        noise: variance of a further observation of each output.
        measured: of each row and output, the index of the outcome; their number where it is missing.
    """

    process: ExactProcess
    noise: jt.Float[Tensor, "*pb"]
    measured: jt.Int64[Tensor, "n p"]

    @staticmethod
    def of(
        kernel: Coregional,
        theta: jt.Float[Tensor, "*b t"],
        log_noise: jt.Float[Tensor, "*b p"],
        data: OutputData,
    ) -> "StackedProcess":
        """The posterior given the outcomes that were measured.

        Raises:
            NumericalError: the covariance does not factorise, jitter included.
        """
        entries = Entries.of(data)
        variance, _ = entry_noise(entries, log_noise.exp())
        k = kernel.gram(theta, entries.x)[0]
        chol, jitter = jittered_cholesky(k + torch.diag_embed(variance))
        means, white = means_and_white(chol, entries)
        prior_mean = PriorMean(torch.zeros_like(means[..., 0]), OutputMeans(means))
        basis = Basis.of_observed(kernel, theta, entries.x, chol)
        process = ExactProcess(basis, white, prior_mean, log_noise[..., 0].exp(), jitter)
        return StackedProcess(process, log_noise.exp().movedim(-1, 0), entries.index(data.x.shape[-2]))

    @property
    def scale(self) -> jt.Float[Tensor, "*pb"]:
        """Prior variance of each output."""
        return self._kernel.variances(self.process.theta).movedim(-1, 0)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """For each output what all share, its row of W, log κ and log noise."""
        return as_hyperparameters(self._kernel, self.process.theta, self.noise.movedim(0, -1).log())

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
        mean, var = self.process.mean_and_var(stacked_rows(x))
        return outputs_first(mean, x.ndim - 3, len(x)), outputs_first(var, x.ndim - 3, len(x))

    def cov(
        self, x1: jt.Float[Tensor, "p *b m d"], x2: jt.Float[Tensor, "p *b k d"]
    ) -> jt.Float[Tensor, "p *b m k"]:
        """Posterior covariance of each output."""
        last = max(len(x1) - 1, 1)
        pairs = (
            [with_code(x, x.new_full(x.shape[-2:-1], output / last)) for x in both]
            for output, both in enumerate(zip(x1, x2, strict=True))
        )
        return torch.stack([self.process.cov(*pair) for pair in pairs])

    def condition(
        self,
        x: jt.Float[Tensor, "p *b q d"],
        y: jt.Float[Tensor, "*sb q"],
        noise: jt.Float[Tensor, "p *b q"] | None = None,
    ) -> "StackedProcess":
        """The process given more observations of all outputs, of each at its own rows.

        Raises:
            DataError: x and y do not fit together.
            NumericalError: the joint covariance is not positive definite, jitter included.
        """
        count = x.ndim - 3
        variance = self.noise[..., None].expand(x.shape[:-1]) if noise is None else noise
        given = outputs_last(y, count), outputs_last(variance, count)
        return replace(self, process=self.process.condition(stacked_rows(x), *given))

    def joint_samples(self, x: jt.Float[Tensor, "p *b q d"], base: jt.Float[Tensor, "p *b s q"]) -> Tensor:
        """Joint draws of all outputs, mean + chol(cov) base: (s, p, *b, q)."""
        rows, count = stacked_rows(x), x.ndim - 3
        chol, _ = jittered_cholesky(self.process.cov(rows, rows), self.process.scale)
        flat = base.movedim(0, -2).flatten(-2)
        draws = (flat @ chol.mT).movedim(-2, 0) + self.process.mean(rows)
        return outputs_first(draws, count, len(x))

    def leave_one_out(
        self, y: jt.Float[Tensor, "p *b n"]
    ) -> tuple[jt.Float[Tensor, "p *b n"], jt.Float[Tensor, "p *b n"]]:
        """Mean and variance of each outcome given all outcomes of other rows, noise included.

        With A the covariance of the outcomes, α = A⁻¹ (y - m) and [A⁻¹]_j the block of a row j, the outcomes
        of the row have mean y_j - [A⁻¹]_j⁻¹ α_j and covariance [A⁻¹]_j⁻¹. NaN where one is missing.

        Args:
            y: the outcomes that it was fitted to.
        """
        inverse = torch.cholesky_inverse(self.process.chol)
        e = inverse.shape[-1]
        padded = torch.zeros(*inverse.shape[:-2], e + 1, e + 1, dtype=inverse.dtype, device=inverse.device)
        padded[..., :e, :e] = inverse
        blocks = padded[..., self.measured[:, :, None], self.measured[:, None, :]]
        missing = self.measured == e
        blocks = blocks + torch.diag_embed(missing.to(y))
        cov = torch.cholesky_inverse(torch.linalg.cholesky_ex(blocks)[0])
        alpha = torch.cat((self.process.weights[..., 0], padded[..., :1, 0] * 0.0), -1)[..., self.measured]
        mean = y.movedim(0, -1) - (cov @ alpha[..., None])[..., 0]
        var = cov.diagonal(dim1=-2, dim2=-1)
        mean, var = (torch.where(missing, torch.nan, one).movedim(-1, 0) for one in (mean, var))
        return mean, var

    @property
    def _kernel(self) -> Coregional:
        kernel = self.process.kernel
        assert isinstance(kernel, Coregional), "the kernel of several outputs is Coregional"
        return kernel
