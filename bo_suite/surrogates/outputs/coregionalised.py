"""Regression of several outputs at once, with a learnt covariance between them."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Coregional, kernel_for
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.described import Described
from bo_suite.kernels.stationary import Matern52
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.noise import log_noise_bounds, log_noise_prior
from bo_suite.surrogates.outputs.evidence import EntriesEvidence, KroneckerEvidence
from bo_suite.surrogates.outputs.intrinsic import IntrinsicProcess
from bo_suite.surrogates.outputs.observations import Entries, OutputData, of_hyperparameters
from bo_suite.surrogates.outputs.stacked import StackedProcess
from bo_suite.surrogates.process import ExactProcess, WarmStart
from bo_suite.surrogates.ties import tied
from bo_suite.surrogates.warm_start import GRADIENT_TOLERANCE, has_grown

_SHARED = 0.5
"""Share of the variance of outputs that correlated outcomes have in common where a search starts."""


@dataclass(frozen=True)
class CoregionalisedGP:
    """Gaussian process regression of several outputs of the same rows; hyperparameters are MAP.

    y_i = m_i + f_i(x) + e_i, with cov(f_i(x), f_j(z)) = Σ_q B_q[i, j] k_q(x, z) as in `Coregional`, a
    constant m_i ~ N(0, 1), maximised in closed form, and noise e_i ~ N(0, σ_i²), log σ_i² ~ Cauchy unless an
    observation's variance is given, as in `ExactGP`. The outputs are the first dimension of the data and of
    the process. An outcome with a noise of `MISSING` or more was not measured.

    With one term, where all outputs are measured in all rows, the evidence takes O(n³ + p³) (see
    `KroneckerEvidence`) and the process costs what separate processes cost; else O(n³ p³). With one term and
    exact complete outcomes, the mean of an output depends on the other outputs by the hyperparameters alone
    (Bonilla, Chai and Williams 2008, section 2.3): it gains where outcomes are noisy or missing.

    Attributes:
        rank: columns of W_q.
        terms: number of terms: 1 is the intrinsic model, more are the linear one.
        noise_location: median of the log noise variances under their prior.
        noise_spread: half the distance between its quartiles.

    Raises:
        DataError: rank, terms, noise_location or noise_spread out of range.
    """

    rank: int = 1
    terms: int = 1
    noise_location: float = -6.0
    noise_spread: float = 1.0

    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rank < 1 or self.terms < 1:
            raise DataError(f"rank and terms must be at least 1, got {self.rank} and {self.terms}")
        if not 0 < self.noise_spread < math.inf or not math.isfinite(self.noise_location):
            raise DataError(
                "`0 < noise_spread` and a finite noise_location must hold, "
                f"got {self.noise_spread} and {self.noise_location}"
            )

    @outside_inference_mode
    def fit(
        self,
        data: Dataset,
        seeds: Seeds,
        start: WarmStart | None = None,
        separate: ExactProcess | None = None,
    ) -> IntrinsicProcess | StackedProcess:
        """The posterior process at the best hyperparameters that the starts reach.

        The starts are the warm one, if there is one, and `start`. The warm one is the only one until the data
        have grown by a fifth, and is not searched from if it is settled. Nothing is random, so the seeds have
        no influence.

        Args:
            data: outcomes, the outputs as their first dimension.
            seeds: unused.
            start: of an earlier fit to as many outputs.
            separate: processes of the single outputs, near whose hyperparameters a search starts.

        Raises:
            DataError: the data have no dimension of outputs, or these have different rows.
            FitError: no observation, or no start with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        outputs = OutputData.of(data)
        if not bool(outputs.measured.any()):
            raise FitError("a CoregionalisedGP needs at least one observation, got none")
        kernel = self.kernel_of(data)
        first = self.start(data, separate)
        if start is not None and start.hyperparameters.shape[-1] == self._size(kernel, data):
            earlier = torch.cat(of_hyperparameters(kernel, start.hyperparameters.to(data.x)), -1)
            earlier = earlier.expand(first.shape)
            if start.settled:
                return self._process(kernel, outputs, earlier)
            grown = has_grown(start.observations, data.x.shape[-2])
            starts = torch.stack((earlier, first)) if grown else earlier[None]
        else:
            starts = first[None]
        stepped = tied(data).any(-1).any(0)
        objective = _Objective(self, kernel, outputs, stepped if bool(stepped.any()) else None)
        result = minimize_batch(
            objective,
            starts,
            bounds=self._bounds(kernel, data),
            max_evaluations=40,
            gradient_tolerance=GRADIENT_TOLERANCE,
            value_tolerance=1e-4,
            narrow=lambda index: objective.of_replicates(index % first.shape[:-1].numel()),
        )
        value, best = result.value.min(0)
        if not bool(torch.isfinite(value).all()):
            raise FitError("no start reached a finite posterior density; are the outcomes finite?")
        index = best[None, ..., None].expand(1, *result.x.shape[1:])
        return self._process(kernel, outputs, result.x.gather(0, index)[0])

    def process(
        self, data: Dataset, hyperparameters: jt.Float[Tensor, "p *b h"]
    ) -> IntrinsicProcess | StackedProcess:
        """The posterior process at given hyperparameters, those of a process of as many outputs."""
        kernel = self.kernel_of(data)
        vector = torch.cat(of_hyperparameters(kernel, hyperparameters.to(data.x)), -1)
        return self._process(kernel, OutputData.of(data), vector)

    def log_posterior(
        self, data: Dataset, vector: jt.Float[Tensor, "*b v"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b v"]]:
        """Log likelihood at the best means plus log priors (up to a constant), and its gradient.

        Args:
            data: outcomes.
            vector: theta of the kernel, then log noise variances.
        """
        value, gradient = _Objective(self, self.kernel_of(data), OutputData.of(data), None)(vector)
        return -value, -gradient

    def kernel_of(self, data: Dataset) -> Coregional:
        """The kernel over rows with the code of the output as the last column."""
        p = len(data.y)
        inner = kernel_for(None, data.columns)
        assert isinstance(inner, Matern52 | Conditional | Described), "the kernel of the columns"
        return Coregional(data.x.shape[-1], p, min(self.rank, p), self.terms, inner)

    def start(self, data: Dataset, separate: ExactProcess | None = None) -> jt.Float[Tensor, "*b v"]:
        """Where a search starts: W Wᵀ is half of the correlation of the outcomes, as far as its rank allows.

        Args:
            data: outcomes.
            separate: processes of the single outputs, with the kernel of the columns: the mean of their log
                lengthscales, their variances and their noise are taken.
        """
        kernel, outputs = self.kernel_of(data), OutputData.of(data)
        theta = kernel.start(data.x.shape[-1] + 1).to(data.x).expand(*data.x.shape[1:-2], -1)
        std = torch.ones_like(outputs.y[..., 0])
        log_noise = torch.full_like(std, self.noise_location)
        if separate is not None:
            of_outputs = separate.theta.movedim(0, -2)
            change = of_outputs[..., :-1].mean(-2) - kernel.inner.start(data.x.shape[-1])[:-1].to(data.x)
            std, log_noise = (0.5 * of_outputs[..., -1]).exp(), separate.noise.movedim(0, -1).log()
        parts = []
        for inner, weights, log_own in kernel.split(theta):
            lengthscales = inner[..., :-1] if separate is None else inner[..., :-1] + change
            leading = _leading_factors(outputs, kernel.rank) * (_SHARED / self.terms) ** 0.5
            assert leading.shape == weights.shape, "W has a row for each output"
            parts += [lengthscales, (std[..., None] * leading).flatten(-2), log_own + 2.0 * std.log()]
        return torch.cat((*parts, log_noise), -1)

    def _process(
        self, kernel: Coregional, outputs: OutputData, vector: Tensor
    ) -> IntrinsicProcess | StackedProcess:
        """The posterior at theta and log noise in one vector."""
        theta, log_noise = _split(vector, kernel.levels)
        if self.terms == 1 and outputs.complete:
            return IntrinsicProcess.of(kernel, theta, log_noise, outputs)
        return StackedProcess.of(kernel, theta, log_noise, outputs)

    def _bounds(self, kernel: Coregional, data: Dataset) -> tuple[Tensor, Tensor]:
        """The box of theta and log noise."""
        bounds = zip(kernel.bounds(data.x.shape[-1] + 1), log_noise_bounds(data.x), strict=True)
        lower, upper = (torch.cat((one.to(data.x), noise.expand(kernel.levels))) for one, noise in bounds)
        return lower, upper

    def _size(self, kernel: Coregional, data: Dataset) -> int:
        """Number of hyperparameters of an output."""
        inner = kernel.inner.start(data.x.shape[-1]).shape[-1] - 1
        return self.terms * (inner + kernel.rank + 1) + 1


@dataclass(frozen=True)
class _Objective:
    """Negative log posterior density of theta and log noise, and its gradient, for `minimize_batch`.

    Attributes:
        surrogate: with the prior of the noise.
        kernel: of all outputs.
        outputs: the outcomes.
        stepped: replicates whose outputs are constant in steps; None without any.
    """

    surrogate: CoregionalisedGP
    kernel: Coregional
    outputs: OutputData
    stepped: jt.Bool[Tensor, "*b"] | None

    @cached_property
    def evidence(self) -> KroneckerEvidence | EntriesEvidence:
        """Of complete outcomes and one term by Kronecker algebra."""
        if self.kernel.terms == 1 and self.outputs.complete:
            return KroneckerEvidence(self.kernel, self.outputs)
        return EntriesEvidence(self.kernel, Entries.of(self.outputs))

    def of_replicates(self, index: Tensor) -> "_Objective":
        """The objective of some replicates, by their indices among the flattened ones; they may repeat."""
        stepped = None if self.stepped is None else self.stepped.reshape(-1)[index]
        return replace(self, outputs=self.outputs.of_replicates(index), stepped=stepped)

    def __call__(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        theta, log_noise = _split(vector, self.kernel.levels)
        value, by_theta, by_noise = self.evidence(theta, log_noise)
        stepped = None if self.stepped is None else self.stepped.expand(theta.shape[:-1])
        prior, by_prior = self.kernel.log_prior(theta, self.outputs.x.shape[-1] + 1, stepped)
        location, spread = self.surrogate.noise_location, self.surrogate.noise_spread
        noise_prior, by_noise_prior = log_noise_prior(log_noise, location, spread)
        gradient = torch.cat((by_theta - by_prior, by_noise - by_noise_prior), -1)
        return value - prior - noise_prior.sum(-1), gradient


def _split(vector: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Theta and log noise."""
    return vector[..., :-outputs], vector[..., -outputs:]


def _leading_factors(outputs: OutputData, rank: int) -> Tensor:
    """The leading eigenvectors of the correlations of the outcomes, times the roots of their eigenvalues."""
    measured = outputs.measured.to(outputs.y)
    count = measured.sum(-1, keepdim=True).clamp(min=1.0)
    centred = (outputs.y - (outputs.y * measured).sum(-1, keepdim=True) / count) * measured
    size = (centred.square().sum(-1, keepdim=True) / count).sqrt()
    standard = centred / torch.where(size > 0.0, size, 1.0)
    both = (measured @ measured.mT).clamp(min=1.0)
    values, vectors = torch.linalg.eigh(standard @ standard.mT / both)
    factors: Tensor = vectors[..., -rank:] * values[..., None, -rank:].clamp(min=0.0).sqrt()
    return factors
