"""Learning curves as a level of each configuration plus a deviation of each curve, exactly in linear time."""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.errors import FitError
from bo_suite.kernels import Decay, Kernel, StepKernel
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.linalg.factor import cholesky_or_identity
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.curves.groups import Group, curves_of, groups_of
from bo_suite.surrogates.curves.posterior import CurvesProcess
from bo_suite.surrogates.curves.reduction import UNKNOWN, Reduction
from bo_suite.surrogates.exact import ExactGP, constant_and_white
from bo_suite.surrogates.noise import log_noise_bounds, log_noise_prior
from bo_suite.surrogates.prior_mean import MeanFunction, PriorMean, split_mean
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, WarmStart
from bo_suite.surrogates.warm_start import GRADIENT_TOLERANCE, MANY, search_starts, settled_hyperparameters


@dataclass(frozen=True)
class FreezeThaw:
    """y_i(t) = m(t) + a(x_i) + e_i(t) + noise: freeze-thaw regression on curves, with MAP hyperparameters.

    The level a ~ GP(c, k_x) is shared between configurations, the deviations e_i ~ GP(0, k_t) of the curves
    are independent of each other (Swersky, Snoek and Adams 2014). Each curve is one observation of its level,
    so that evidence, gradients and posterior of n curves with T steps take O(n³ + T³ + n T²), not O(n³ T³).
    It is exact: curves may stop anywhere, and a curve with missing steps costs one more factor of T x T.

    `fit` reads `Dataset.curves`; observations without curves are curves with one step. The process that it
    returns predicts m(1) + a(x), the outcome at the last step without the deviation of the curve.

    Attributes:
        level: a: its kernel, mean and noise, with their priors, and the number of restarts.
        steps: k_t and m(t).
    """

    level: ExactGP = field(default_factory=ExactGP)
    steps: StepKernel = field(default_factory=Decay)

    batched: ClassVar[bool] = True

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> CurvesProcess:
        """The posterior process at the best hyperparameters that the restarts reach.

        Raises:
            FitError: no observation, or no restart with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        curves = curves_of(data)
        if not bool(curves.observed.flatten(-2).any(-1).all()) or not curves.y.numel():
            raise FitError("a FreezeThaw needs at least one observation, got none")
        model_start = self.start(data)
        settled = settled_hyperparameters(model_start, data, start)
        if settled is not None:
            return self.process(data, settled)
        starts = search_starts(model_start, data, seeds, start, self.level.restarts)
        objective = _Objective.of(self, data)
        result = minimize_batch(
            objective,
            starts,
            bounds=self.bounds(data),
            max_evaluations=80 if curves.x.shape[-2] <= MANY else 15,
            gradient_tolerance=GRADIENT_TOLERANCE,
            value_tolerance=1e-4,
            narrow=lambda index: objective.of_replicates(index % data.batch_shape.numel()),
        )
        value, best = result.value.min(0)
        if not bool(torch.isfinite(value).all()):
            raise FitError("no restart reached a finite posterior density; are the outcomes finite?")
        return self.process(data, result.x.gather(0, best[None, ..., None].expand_as(result.x[:1]))[0])

    def process(self, data: Dataset, hyperparameters: Hyperparameters) -> CurvesProcess:
        """The posterior process at given hyperparameters (theta of k_x, theta of k_t, log noise)."""
        curves, problem = curves_of(data), _Objective.of(self, data)
        theta, of_steps, log_noise = problem.split(hyperparameters)
        covariance, noise = self.steps.gram(of_steps, curves.steps)[0], log_noise.exp()
        noisy = covariance + noise[..., None, None] * torch.eye(len(curves.steps)).to(covariance)
        n, size = curves.y.shape[-2:]
        mean, _ = self.steps.prior_mean(of_steps, curves.steps)
        reduction = Reduction.of(problem.groups, n, mean, noisy)
        value, variance = reduction.level
        k, _ = problem.kernel.gram(theta, curves.x)
        chol, jitter = jittered_cholesky(
            k + torch.diag_embed(variance), k.diagonal(dim1=-2, dim2=-1).mean(-1)
        )
        constant, white = constant_and_white(chol, value, problem.constant, torch.ones_like(value))
        target = ExactProcess(
            Basis.of_observed(problem.kernel, theta, curves.x, chol),
            white,
            PriorMean(constant + mean[..., -1], problem.function),
            covariance[..., -1, -1] + noise,
            jitter,
        )
        ones, residuals = reduction.solved(n, size)
        slope, shift = 1.0 - ones @ covariance, residuals @ covariance
        if problem.function is not None:  # residuals are those of y less the function, a(x) contains it
            shift = shift + (1.0 - slope) * problem.function(curves.x)[..., None]
        return CurvesProcess(
            target,
            hyperparameters,
            curves,
            mean,
            covariance,
            noise,
            slope,
            shift,
            covariance.diagonal(dim1=-2, dim2=-1)[..., None, :] - reduction.explained(n, covariance),
        )

    def log_posterior(
        self, data: Dataset, hyperparameters: Hyperparameters
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log likelihood at the best mean plus log priors (up to a constant), and its gradient."""
        value, gradient = _Objective.of(self, data)(hyperparameters)
        return -value, -gradient

    def start(self, data: Dataset) -> jt.Float[Tensor, " p"]:
        """Where a search starts: the starts of both kernels, and the median of the noise under its prior."""
        of_level = self.level.start(data)
        return torch.cat((of_level[:-1], self.steps.start().to(of_level), of_level[-1:]))

    def bounds(self, data: Dataset) -> tuple[Tensor, Tensor]:
        """The box of the hyperparameters."""
        kernel = kernel_for(self.level.kernel, data.columns)
        of_level, of_steps = kernel.bounds(data.x.shape[-1]), self.steps.bounds()
        each = zip(of_level, of_steps, log_noise_bounds(data.x), strict=True)
        lower, upper = (torch.cat([bound.to(data.x) for bound in bounds]) for bounds in each)
        return lower, upper


@dataclass(frozen=True, eq=False)
class _Objective:
    """Negative log posterior density of hyperparameters and its gradient, for `minimize_batch`.

    Attributes:
        surrogate: with the priors.
        kernel: k_x.
        curves: outcomes less the mean function.
        constant: prior mean of the level; None for the most probable one.
        function: mean function of the level; None for zero.
        groups: the curves again.
    """

    surrogate: FreezeThaw
    kernel: Kernel
    curves: Curves
    constant: float | None
    function: MeanFunction | None
    groups: tuple[Group, ...]

    @staticmethod
    def of(surrogate: FreezeThaw, data: Dataset) -> "_Objective":
        curves = curves_of(data)
        constant, function = split_mean(surrogate.level.mean)
        y = curves.y
        if function is not None:
            with torch.no_grad():
                y = y - PriorMean(y.new_zeros(data.batch_shape), function)(curves.x)[..., None]
        return _Objective(
            surrogate,
            kernel_for(surrogate.level.kernel, data.columns),
            replace(curves, y=y),
            constant,
            function,
            groups_of(curves.observed, y),
        )

    def of_replicates(self, index: Tensor) -> "_Objective":
        """The objective of some replicates, by their indices among the flattened ones; they may repeat."""
        lead = len(self.curves.x.shape[:-2])
        curves = self.curves.mapped(lambda each: each.reshape(-1, *each.shape[lead:])[index])
        return replace(self, curves=curves, groups=groups_of(curves.observed, curves.y))

    def split(self, hyperparameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Theta of k_x, theta of k_t and log noise."""
        count = len(self.surrogate.steps.start())
        theta, of_steps, log_noise = hyperparameters.split(
            [hyperparameters.shape[-1] - count - 1, count, 1], dim=-1
        )
        return theta, of_steps, log_noise[..., 0]

    @cached_property
    def offset(self) -> jt.Float[Tensor, "*b"]:
        """What the levels of curves without any observation add to the value."""
        empty = (~self.curves.observed.any(-1)).sum(-1)
        return 0.5 * math.log(2.0 * math.pi * UNKNOWN) * empty.to(self.curves.x)

    def __call__(self, hyperparameters: Tensor) -> tuple[Tensor, Tensor]:
        curves, surrogate = self.curves, self.surrogate
        n, size = curves.y.shape[-2:]
        theta, of_steps, log_noise = self.split(hyperparameters)
        noise = log_noise.exp()
        covariance, pullback_steps = surrogate.steps.gram(of_steps, curves.steps)
        covariance = covariance + noise[..., None, None] * torch.eye(size).to(covariance)
        mean, pullback_mean = surrogate.steps.prior_mean(of_steps, curves.steps)
        reduction = Reduction.of(self.groups, n, mean, covariance)
        level, variance = reduction.level

        x = curves.x.expand(*hyperparameters.shape[:-1], *curves.x.shape[-2:])
        k, pullback = self.kernel.gram(theta, x)
        chol, exists = cholesky_or_identity(k + torch.diag_embed(variance))
        constant, white = constant_and_white(chol, level, self.constant, torch.ones_like(level))
        alpha = solve_lower(chol, white[..., None], transposed=True)[..., 0]
        squares = white.square().sum(-1)
        if self.constant is None:
            squares = squares + constant.square()
        value = 0.5 * (squares + n * math.log(2.0 * math.pi)) - self.offset
        value = value + chol.diagonal(dim1=-2, dim2=-1).log().sum(-1) + reduction.rest.sum(-1)

        by_k = torch.cholesky_inverse(chol)
        by_k.sub_(alpha[..., :, None] * alpha[..., None, :]).mul_(0.5)
        by_variance = by_k.diagonal(dim1=-2, dim2=-1)
        by_mean, by_covariance = reduction.gradients(alpha, by_variance, size)
        by_noise = by_covariance.diagonal(dim1=-2, dim2=-1).sum(-1) * noise
        prior, by_prior = self.kernel.log_prior(theta, x.shape[-1])
        steps_prior, by_steps_prior = surrogate.steps.log_prior(of_steps)
        noise_prior, by_noise_prior = log_noise_prior(
            log_noise, surrogate.level.noise_location, surrogate.level.noise_spread
        )
        value = value - prior - steps_prior - noise_prior
        by_theta = pullback(by_k) - by_prior
        by_steps = pullback_steps(by_covariance) + pullback_mean(by_mean) - by_steps_prior
        gradient = torch.cat((by_theta, by_steps, (by_noise - by_noise_prior)[..., None]), -1)
        return torch.where(exists & ~reduction.failed, value, torch.inf), gradient
