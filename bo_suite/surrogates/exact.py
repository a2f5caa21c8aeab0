"""Exact Gaussian process regression with maximum a posteriori hyperparameters."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Kernel, KernelWithMean
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.linalg.factor import cholesky_or_identity
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.leave_one_out import density_of_each, leave_one_out
from bo_suite.surrogates.noise import log_noise_bounds, log_noise_prior
from bo_suite.surrogates.observations import (
    Observations,
    known_derivatives,
    numbers,
    with_best_derivatives,
)
from bo_suite.surrogates.prior_mean import (
    MeanFunction,
    PriorMean,
    check_mean,
    split_mean,
    with_mean_of,
    without_function,
)
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, WarmStart
from bo_suite.surrogates.subsample import evenly_spaced
from bo_suite.surrogates.ties import tied
from bo_suite.surrogates.warm_start import (
    GRADIENT_TOLERANCE,
    MANY,
    search_starts,
    settled_hyperparameters,
    trusted,
)

_DOUBT = 0.0
"""Log of the noise level of derivatives at which one more search starts: their noise is as large as they are.
With wrong derivatives the density has a second, lower maximum, at which the function is rough."""

_NOISY = 0.05
"""Noise variance of outcomes, whose variance is 1, from which derivatives may contradict them."""

_IGNORED = 10.0
"""Noise level of derivatives that hardly count."""


@dataclass(frozen=True)
class ExactGP:
    """Gaussian process regression; hyperparameters maximise the posterior density (MAP).

    y = m(x) + f(x) + e, with f ~ GP(0, k) and e ~ N(0, noise), log noise ~ Cauchy(`noise_location`,
    `noise_spread`) unless an observation's variance is given: the wide tail lets outcomes without noise reach
    a noise of next to nothing. The prior mean m is a constant ~ N(0, 1), maximised in closed form, or `mean`,
    plus that of a `KernelWithMean`.

    Derivatives in the data are observations of those of f, with a noise under the same prior (see
    `Observations`): if they contradict the outcomes, it grows, and they lose their weight. The kernel must be
    twice differentiable then.

    Where inputs have noise (`Dataset.x_std`), an observation is an average of f over it, plus what is left of
    its variance as noise of its own (see `Observations`), so the fitted noise is that of outcomes alone.

    Attributes:
        kernel: `Matern52` over the data's columns when None; else one of `bo_suite.kernels` or any
            `gpytorch.kernels.Kernel`, which then sees encoded rows.
        noise_location: median of the log noise variance under its prior; outcomes have variance one.
        noise_spread: half the distance between its quartiles.
        restarts: starting points of a search from afresh: the warm start if there is one, the kernel's own,
            then random ones. A warm start is the only one until the data have grown by a fifth. Beyond 500
            observations it is used without a search until they have grown by a fiftieth (by a fifth, with
            derivatives), and restarts search on 500 of them; the best result is then refined on all.
        mean: prior mean of the outcomes: a number, or a function of encoded rows (*b, m, d) to (*b, m) that
            autograd can differentiate. When None, the most probable constant under N(0, 1).

    Raises:
        DataError: noise_location, noise_spread, restarts or mean out of range.
    """

    kernel: object | None = None
    noise_location: float = -6.0
    noise_spread: float = 1.0
    restarts: int = 2
    mean: float | MeanFunction | None = None

    batched: ClassVar[bool] = True
    learns_from_derivatives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.noise_spread < math.inf or not math.isfinite(self.noise_location):
            raise DataError(
                "`0 < noise_spread` and a finite noise_location must hold, "
                f"got {self.noise_spread} and {self.noise_location}"
            )
        if self.restarts < 1:
            raise DataError(f"`restarts >= 1` must hold, got {self.restarts}")
        check_mean(self.mean)

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ExactProcess:
        """The posterior process at the best hyperparameters that the restarts reach.

        Raises:
            FitError: no observation, or no restart with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        if data.x.shape[-2] == 0:
            raise FitError("an ExactGP needs at least one observation, got none")
        model_start = self.start(data)
        settled = settled_hyperparameters(model_start, data, trusted(start, data))
        if settled is not None:
            return self.process(data, settled)
        starts = search_starts(model_start, data, seeds, start, self.restarts)
        if known_derivatives(data) and starts.shape[0] > 1:
            doubting = starts[:1].clone()
            doubting[..., -1] = _DOUBT
            starts = torch.cat((starts, doubting))
        if numbers(data) > MANY and starts.shape[0] > 1:
            starts = self._search(_few(data), starts)[1]
        value, hyperparameters = self._search(data, starts)
        if not bool(torch.isfinite(value).all()):
            if start is not None:  # whose noise may be too small for more rows that are almost equal
                return self.fit(data, seeds)
            raise FitError("no restart reached a finite posterior density; are the outcomes finite?")
        found = hyperparameters[0]
        if known_derivatives(data):
            found = self._without_contradictions(data, seeds, found)
        return self.process(data, found)

    def process(self, data: Dataset, hyperparameters: Hyperparameters) -> ExactProcess:
        """The posterior process at given hyperparameters (kernel theta, log noise)."""
        kernel = kernel_for(self.kernel, data.columns)
        count = self._noises(data)
        theta, levels = hyperparameters[..., :-count], hyperparameters[..., -count:].exp()
        constant, function = split_mean(self.mean)
        function = with_mean_of(kernel, theta, function)
        observations = Observations.of(without_function(data, function))
        k, _ = observations.covariance(kernel, theta)
        chol, jitter = jittered_cholesky(k + torch.diag_embed(observations.noise(levels)[0]))
        fitted, white = constant_and_white(chol, observations.y, constant, observations.one)
        basis = Basis.of_observed(kernel, theta, observations.observed, chol)
        mean, derivative_noise = PriorMean(fitted, function), levels[..., 1] if count > 1 else None
        return ExactProcess(basis, white, mean, levels[..., 0], jitter, derivative_noise)

    def log_posterior(
        self, data: Dataset, hyperparameters: Hyperparameters
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log likelihood at the best mean plus log priors (up to a constant), and its gradient."""
        value, gradient = self._objective(data)(hyperparameters)
        return -value, -gradient

    def start(self, data: Dataset) -> jt.Float[Tensor, " p"]:
        """Where a search starts: the kernel's own theta, and the median of each noise under its prior."""
        theta = kernel_for(self.kernel, data.columns).start(data.x.shape[-1]).to(data.x)
        return torch.cat((theta, theta.new_tensor([self.noise_location] * self._noises(data))))

    def bounds(self, kernel: Kernel, data: Dataset) -> tuple[Tensor, Tensor]:
        """The box of (kernel theta, log noises)."""
        lower, upper = (bound.to(data.x) for bound in kernel.bounds(data.x.shape[-1]))
        lower_noise, upper_noise = (bound.repeat(self._noises(data)) for bound in log_noise_bounds(data.x))
        return torch.cat((lower, lower_noise)), torch.cat((upper, upper_noise))

    @staticmethod
    def _noises(data: Dataset) -> int:
        """Number of fitted noise levels: that of outcomes and, if any are known, that of derivatives."""
        return 2 if known_derivatives(data) else 1

    def _without_contradictions(self, data: Dataset, seeds: Seeds, found: Tensor) -> Tensor:
        """The hyperparameters, or those of the outcomes alone, with derivatives that hardly count.

        Wrong derivatives may agree among each other, as with a wrong sign, and then outweigh the outcomes,
        which count as noise. Where outcomes seem noisy, those of the two are taken that predict each outcome
        from the others better.
        """
        noisy = found[..., -2].exp() > _NOISY
        if not bool(noisy.any()):
            return found
        alone = self.fit(replace(data, gradient=None), seeds).hyperparameters
        doubting = torch.cat((alone, torch.full_like(alone[..., :1], math.log(_IGNORED))), -1)
        both = [self.process(data, each) for each in (found, doubting)]
        believed, doubted = (density_of_each(*leave_one_out(one, data.y), data.y).sum(-1) for one in both)
        return torch.where((noisy & (doubted > believed))[..., None], doubting, found)

    def _objective(self, data: Dataset) -> "_Objective":
        constant, function = split_mean(self.mean)
        kernel = kernel_for(self.kernel, data.columns)
        return _Objective(self, kernel, without_function(data, function), constant)

    def _search(
        self, data: Dataset, starts: jt.Float[Tensor, "r *b p"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "1 *b p"]]:
        """Smallest negative log posterior density that the starts reach, and its hyperparameters."""
        objective = self._objective(data)
        result = minimize_batch(
            objective,
            starts,
            bounds=self.bounds(objective.kernel, data),
            max_evaluations=80 if numbers(data) <= MANY else 15,
            gradient_tolerance=GRADIENT_TOLERANCE,
            value_tolerance=1e-4,
            narrow=lambda index: objective.of_replicates(index % data.batch_shape.numel()),
        )
        value, best = result.value.min(0)
        return value, result.x.gather(0, best[None, ..., None].expand(1, *result.x.shape[1:]))


def _few(data: Dataset) -> Dataset:
    """500 outcomes and derivatives of the data, for the first search."""
    if not known_derivatives(data):
        return evenly_spaced(data, MANY)
    return with_best_derivatives(evenly_spaced(data, MANY // 2), MANY)


@dataclass(frozen=True)
class _Objective:
    """Negative log posterior density of hyperparameters and its gradient, for `minimize_batch`.

    Attributes:
        surrogate: with the prior of the noise.
        kernel: covariance function.
        data: outcomes less the mean function.
        constant: prior mean of these; None for the most probable one.
    """

    surrogate: ExactGP
    kernel: Kernel
    data: Dataset
    constant: float | None

    @cached_property
    def observations(self) -> Observations:
        """Outcomes and derivatives."""
        return Observations.of(self.data)

    @cached_property
    def stepped(self) -> jt.Bool[Tensor, "*b"] | None:
        """Replicates whose function is constant in steps; None without any."""
        stepped = tied(self.data).any(-1)
        return stepped if bool(stepped.any()) else None

    def of_replicates(self, index: Tensor) -> "_Objective":
        """The objective of some replicates, by their indices among the flattened ones; they may repeat."""
        return replace(self, data=self.data.replicates(index))

    def __call__(self, hyperparameters: Tensor) -> tuple[Tensor, Tensor]:
        data, observations = self.data, self.observations
        count, n = observations.noises, observations.y.shape[-1]
        theta, log_noise = hyperparameters[..., :-count], hyperparameters[..., -count:]
        k, pullback = observations.covariance(self.kernel, theta)
        levels = log_noise.exp()
        diagonal, by_levels = observations.noise(levels)
        chol, exists = cholesky_or_identity(k + torch.diag_embed(diagonal))
        y, mean = observations.y.expand(*hyperparameters.shape[:-1], n), None
        if isinstance(self.kernel, KernelWithMean):
            mean = self.kernel.prior_mean(theta, data.x.expand(*theta.shape[:-1], *data.x.shape[-2:]))
            y = y - mean[0]
        constant, white = constant_and_white(chol, y, self.constant, observations.one)
        alpha = solve_lower(chol, white[..., None], transposed=True)
        squares = white.square().sum(-1)
        if self.constant is None:
            squares = squares + constant.square()
        value = 0.5 * (squares + n * math.log(2.0 * math.pi))
        value = value + chol.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        by_k = 0.5 * (torch.cholesky_inverse(chol) - alpha @ alpha.mT)
        by_noise = by_levels(by_k.diagonal(dim1=-2, dim2=-1)) * levels

        stepped = None if self.stepped is None else self.stepped.expand(theta.shape[:-1])
        prior, by_prior = self.kernel.log_prior(theta, data.x.shape[-1], stepped)
        noise_prior, by_noise_prior = log_noise_prior(
            log_noise, self.surrogate.noise_location, self.surrogate.noise_spread
        )
        value = value - prior - noise_prior.sum(-1)
        by_theta = pullback(by_k) - by_prior
        if mean is not None:
            by_theta = by_theta - mean[1](alpha[..., 0])
        gradient = torch.cat((by_theta, by_noise - by_noise_prior), -1)
        return torch.where(exists, value, torch.inf), gradient


def constant_and_white(
    chol: Tensor, y: Tensor, constant: float | None, ones: Tensor
) -> tuple[Tensor, Tensor]:
    """The constant prior mean m of each replicate, and L⁻¹ (y - m 1).

    When None, m = argmax N(y | m 1, L Lᵀ) N(m | 0, 1) = 1ᵀ K⁻¹ y / (1ᵀ K⁻¹ 1 + 1).

    Args:
        chol: L.
        y: observations.
        constant: m; None for the most probable one.
        ones: 1, what the observations would be of the function 1.
    """
    white = solve_lower(chol, torch.stack((y, ones.expand_as(y)), -1))
    outcome, one = white[..., 0], white[..., 1]
    if constant is None:
        mean = (outcome * one).sum(-1) / (one.square().sum(-1) + 1.0)
    else:
        mean = torch.full_like(y[..., 0], constant)
    return mean, outcome - mean[..., None] * one
