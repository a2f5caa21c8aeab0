"""Sparse Gaussian process regression by maximising the collapsed bound."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import Basis, inducing_basis, jitter_or_default
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.features.variables import InducingFeatures, InducingVariables
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection, check_sparse
from bo_suite.surrogates.noise import log_noise_bounds
from bo_suite.surrogates.placement import kernel_with, limited, placed
from bo_suite.surrogates.prior_mean import MeanFunction, PriorMean, check_mean, split_mean, without_function
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.sparse import FitTrace, SparseProcess
from bo_suite.surrogates.subsample import evenly_spaced
from bo_suite.surrogates.variational.collapsed import Collapsed, CollapsedObjective, statistics_of
from bo_suite.surrogates.variational.likelihoods import Gaussian
from bo_suite.surrogates.warm_start import (
    GRADIENT_TOLERANCE,
    search_starts,
    settled_hyperparameters,
)
from bo_suite.values.scalars import check_flags

SKETCH, SKETCH_INDUCING = 1000, 128
"""Number of observations and of inducing inputs with which a search from afresh begins."""

_SEARCH = 5000
"""Largest number of observations that hyperparameters are refined on; q is fitted to all."""

_RESTARTS = 2


@dataclass(frozen=True)
class SGPR:
    """Sparse Gaussian process regression (Titsias 2009): cost linear in the observations.

    The model of `ExactGP`, its likelihood replaced by the collapsed lower bound; hyperparameters maximise
    bound plus log priors. A search from afresh begins on 1,000 observations and 128 inducing inputs and is
    refined with all inducing inputs on at most 5,000 observations, evenly spaced; a warm start is only
    refined. The variational distribution is then the optimum for all observations, in closed form.

    Attributes:
        inducing: number of inducing inputs, at most that of distinct observations; when None,
            min(n, 512, 64 + ⌈4 √n⌉) for n observations. Or inter-domain features
            (`bo_suite.surrogates.features`).
        kernel: as for `ExactGP`; when None, features come with their own.
        selection: how inducing inputs are chosen, anew in each fit.
        learn_inducing: whether the parameters of the inducing variables, such as the inputs, then move with
            the hyperparameters, to raise the bound.
        likelihood: the prior of the noise.
        mean: prior mean of the outcomes, as for `ExactGP`.
        jitter: share of the prior variance that is added to that of the inducing values; when None, 1e-8, or
            1e-5 in float32. More makes the bound looser.
    """

    inducing: int | InducingFeatures | None = None
    kernel: object | None = None
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.9))
    learn_inducing: bool = False
    likelihood: Gaussian = field(default_factory=Gaussian)
    mean: float | MeanFunction | None = None
    jitter: float | None = None

    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_flags(self, "learn_inducing", error=DataError)
        count = None if isinstance(self.inducing, InducingFeatures) else self.inducing
        check_sparse(count, self.jitter)
        check_mean(self.mean)

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> SparseProcess:
        """The process at the best hyperparameters found.

        Raises:
            FitError: no observation, or no start with a finite bound.
            NumericalError: the covariance of the inducing values does not factorise, jitter included.
        """
        n = data.x.shape[-2]
        if n == 0:
            raise FitError("an SGPR needs at least one observation, got none")
        kernel = kernel_with(self.inducing, self.kernel, data.columns)
        model_start = torch.cat(
            (kernel.start(data.x.shape[-1]).to(data.x), self.likelihood.start().to(data.x))
        )
        settled = None if self.learn_inducing else settled_hyperparameters(model_start, data, start)
        if settled is not None:
            return self.process(data, settled, self.place(data, settled, seeds))
        starts = search_starts(model_start, data, seeds, start, _RESTARTS)
        losses: list[Tensor] = []
        if starts.shape[0] > 1 and n > SKETCH_INDUCING:
            sketch = evenly_spaced(data, SKETCH)
            smaller = replace(self, inducing=limited(self.inducing, SKETCH_INDUCING))
            variables = smaller.place(sketch, model_start, seeds.split("sketch"))
            starts = self._search(sketch, variables, starts, 40, [])[None]
        variables = self.place(data, starts[0], seeds)
        initial = variables.points
        some = evenly_spaced(data, _SEARCH)
        if self.learn_inducing:
            parameters = variables.parameters.expand(*starts.shape[:-1], -1)
            best = self._search(some, variables, torch.cat((starts, parameters), -1), 100, losses)
            eta, variables = best[..., : len(model_start)], variables.moved(best[..., len(model_start) :])
        else:
            eta = self._search(some, variables, starts, 20, losses)
        trace = FitTrace(torch.stack([loss.amin(0) for loss in losses]), initial)
        return self.process(data, eta, variables, trace)

    def place(self, data: Dataset, hyperparameters: Hyperparameters, seeds: Seeds) -> InducingVariables:
        """Inducing variables for the hyperparameters (kernel theta, log noise)."""
        kernel, theta = kernel_with(self.inducing, self.kernel, data.columns), hyperparameters[..., :-1]
        return placed(self.inducing, self.selection, data, kernel, theta, seeds)

    def process(
        self,
        data: Dataset,
        hyperparameters: Hyperparameters,
        inducing: jt.Float[Tensor, "*b m d"] | InducingVariables,
        trace: FitTrace | None = None,
    ) -> SparseProcess:
        """The process at given hyperparameters (kernel theta, log noise) and inducing inputs or variables."""
        basis, optimum = self._collapse(data, hyperparameters, inducing)
        return SparseProcess(
            replace(basis, precision_chol=optimum.precision_chol),
            optimum.linear,
            PriorMean(optimum.prior_mean, split_mean(self.mean)[1]),
            hyperparameters[..., -1].exp(),
            hyperparameters,
            trace=trace,
        )

    def bound(
        self,
        data: Dataset,
        hyperparameters: Hyperparameters,
        inducing: jt.Float[Tensor, "*b m d"] | InducingVariables,
    ) -> jt.Float[Tensor, "*b"]:
        """Lower bound of the log evidence at the prior mean, without log priors."""
        return self._collapse(data, hyperparameters, inducing)[1].bound

    def _collapse(
        self, data: Dataset, hyperparameters: Tensor, inducing: Tensor | InducingVariables
    ) -> tuple[Basis, Collapsed]:
        kernel = kernel_with(self.inducing, self.kernel, data.columns)
        theta, noise = hyperparameters[..., :-1], hyperparameters[..., -1].exp()
        variables = Points(inducing) if isinstance(inducing, Tensor) else inducing
        basis = inducing_basis(kernel, theta, variables, jitter_or_default(self.jitter, data.x.dtype))
        constant, function = split_mean(self.mean)
        return basis, Collapsed.of(statistics_of(basis, without_function(data, function), noise), constant)

    def _search(
        self,
        data: Dataset,
        variables: InducingVariables,
        starts: jt.Float[Tensor, "r *b p"],
        evaluations: int,
        losses: list[Tensor],
    ) -> jt.Float[Tensor, "*b p"]:
        """The best point that the starts reach."""
        kernel = kernel_with(self.inducing, self.kernel, data.columns)
        lower, upper = (bound.to(data.x) for bound in kernel.bounds(data.x.shape[-1]))
        lower_noise, upper_noise = log_noise_bounds(data.x)
        lower, upper = torch.cat((lower, lower_noise)), torch.cat((upper, upper_noise))
        if starts.shape[-1] > len(lower):
            lead, (low, high) = data.batch_shape, variables.box(data.x)
            lower = torch.cat((lower.expand(*lead, -1), low), -1)
            upper = torch.cat((upper.expand(*lead, -1), high), -1)
        constant, function = split_mean(self.mean)
        objective = CollapsedObjective(
            kernel,
            without_function(data, function),
            variables,
            constant,
            jitter_or_default(self.jitter, data.x.dtype),
            self.likelihood.noise_location,
            self.likelihood.noise_spread,
            losses,
        )
        result = minimize_batch(
            objective,
            starts,
            bounds=(lower, upper),
            max_evaluations=evaluations,
            gradient_tolerance=GRADIENT_TOLERANCE,
            value_tolerance=1e-5,
        )
        value, best = result.value.min(0)
        if not bool(torch.isfinite(value).all()):
            raise FitError("no start reached a finite bound; is the kernel positive definite?")
        return result.x.gather(0, best[None, ..., None].expand(1, *result.x.shape[1:]))[0]
