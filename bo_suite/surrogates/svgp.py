"""Stochastic variational Gaussian processes, for any likelihood."""

from dataclasses import dataclass, field, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.basis import inducing_basis, jitter_or_default
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.features.variables import InducingFeatures, InducingVariables, are_features
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection, check_sparse
from bo_suite.surrogates.placement import kernel_with, limited, placed
from bo_suite.surrogates.prior_mean import MeanFunction, check_mean
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.sgpr import SGPR, SKETCH, SKETCH_INDUCING
from bo_suite.surrogates.sparse import FitTrace, SparseProcess
from bo_suite.surrogates.subsample import evenly_spaced
from bo_suite.surrogates.variational.elbo import Model
from bo_suite.surrogates.variational.likelihoods import Gaussian, Likelihood
from bo_suite.surrogates.variational.problem import VariationalProblem, VariationalState
from bo_suite.surrogates.variational.training import NaturalAdam, NaturalLBFGS, Training
from bo_suite.surrogates.warm_start import search_starts, settled_hyperparameters, trusted
from bo_suite.values.scalars import check_flags

_NATURAL, _PASSES = 0.5, 20
"""Rate and largest number of the natural-gradient steps on all data at the end of a fit."""


@dataclass(frozen=True)
class SVGP:
    """Sparse variational Gaussian process with any likelihood (Hensman, Matthews and Ghahramani 2015).

    A Gaussian q over the inducing variables and the hyperparameters maximise
    Σ E_q[log p(y_i | f_i)] - KL[q(u) || p(u)], plus log priors. A fit from afresh begins with
    `NaturalLBFGS` (`SGPR`, for a Gaussian likelihood) on 1,000 observations and 128 inducing inputs; then
    `training` uses all, and natural-gradient steps on all observations bring q to its optimum at the end:
    exactly, for a Gaussian likelihood. A warm start goes straight to a shortened `training`; with more than
    500 observations it is used as it is until their number passes a power of 1.02. An `Optimizer`
    standardises outcomes, so that labels and counts can not be used in it; `Gaussian` and `StudentT` can.

    Attributes:
        inducing: number of inducing inputs, or inter-domain features, as for `SGPR`.
        kernel: as for `SGPR`.
        selection: how inducing inputs are chosen, anew in each fit.
        learn_inducing: whether `training` then moves the parameters of the inducing variables.
        likelihood: of an outcome given the latent function.
        training: how the bound is raised.
        mean: prior mean of the latent function, a number or a function of encoded rows, as for `ExactGP`;
            when None, a constant that is a free parameter, N(0, 1).
        jitter: as for `SGPR`.
    """

    inducing: int | InducingFeatures | None = None
    kernel: object | None = None
    selection: InducingSelection = field(default_factory=GreedyVariance)
    learn_inducing: bool = False
    likelihood: Likelihood = field(default_factory=Gaussian)
    training: Training = field(default_factory=NaturalAdam)
    mean: float | MeanFunction | None = None
    jitter: float | None = None

    def __post_init__(self) -> None:
        check_flags(self, "learn_inducing", error=DataError)
        check_sparse(None if are_features(self.inducing) else self.inducing, self.jitter)
        check_mean(self.mean)

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> SparseProcess:
        """The process at the best hyperparameters found.

        Raises:
            DataError: outcomes that the likelihood can not have.
            FitError: no observation, or no finite bound.
            NumericalError: a covariance or a precision does not factorise.
        """
        n = data.x.shape[-2]
        if n == 0:
            raise FitError("an SVGP needs at least one observation, got none")
        self.likelihood.check(data.y, data.noise)
        problem = self._problem(data, self.learn_inducing, seeds)
        model_start = problem.model.start(data.x)
        known = None if self.learn_inducing else trusted(start, data)
        settled = settled_hyperparameters(model_start, data, known)
        if settled is not None:
            return self.process(data, settled, self._place(problem, settled))
        starts = search_starts(model_start, data, seeds, start, 2)
        fresh = starts.shape[0] > 1
        eta = self._sketch(data, starts[0], seeds) if fresh else starts[0]
        variables = self._place(problem, eta)
        some = self._problem(evenly_spaced(data, SKETCH), False, seeds)
        state = some.converge(VariationalState.prior(eta, variables), _NATURAL, _PASSES)
        training = self.training if fresh else self.training.shortened()
        state, losses = training.run(problem, state)
        if not bool(torch.isfinite(losses[-1]).all()):
            raise FitError("the bound did not stay finite; take smaller steps")
        return self._finish(problem, state, FitTrace(torch.stack(losses), variables.points))

    def _sketch(self, data: Dataset, eta: Tensor, seeds: Seeds) -> Tensor:
        """Free parameters that maximise the bound of some of the data, with fewer inducing variables."""
        some, seeds = evenly_spaced(data, SKETCH), seeds.split("sketch")
        smaller = replace(self, inducing=limited(self.inducing, SKETCH_INDUCING))
        if not self.likelihood.conjugate:
            problem = smaller._problem(some, False, seeds)
            state = VariationalState.prior(eta, smaller._place(problem, eta))
            return NaturalLBFGS(rounds=30).run(problem, state)[0].eta
        sketch = SGPR(
            inducing=smaller.inducing,
            kernel=self.kernel,
            selection=self.selection,
            likelihood=self.likelihood,  # type: ignore[arg-type]  # the only conjugate one
            mean=self.mean,
            jitter=self.jitter,
        )
        process = sketch.fit(some, seeds)
        constant = [process.prior_mean.constant[..., None]] if self.mean is None else []
        return torch.cat([process.hyperparameters, *constant], -1)

    def process(
        self,
        data: Dataset,
        hyperparameters: Hyperparameters,
        inducing: jt.Float[Tensor, "*b m d"] | InducingVariables,
    ) -> SparseProcess:
        """The process at given hyperparameters (theta, phi, prior mean) and inducing inputs or variables."""
        problem = self._problem(data, False, Seeds((), data.batch_shape))
        variables = Points(inducing) if isinstance(inducing, Tensor) else inducing
        return self._finish(problem, VariationalState.prior(hyperparameters, variables), None)

    def bound(self, data: Dataset, process: SparseProcess) -> jt.Float[Tensor, "*b"]:
        """The evidence lower bound of a fitted process, without log priors."""
        precision = process.precision_chol @ process.precision_chol.mT
        state = VariationalState(process.hyperparameters, process.variables, process.linear, precision)
        return self._problem(data, False, Seeds((), data.batch_shape)).bound(state)

    def predictive_mean(
        self, process: SparseProcess, x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """Expected outcome of a further observation at each row: of labels, the probability of 1."""
        mean, var = process.mean_and_var(x)
        return self.likelihood.predictive_mean(mean, var, self._phi(process))

    def log_predictive_density(
        self, process: SparseProcess, x: jt.Float[Tensor, "*b m d"], y: jt.Float[Tensor, "*b m"]
    ) -> jt.Float[Tensor, "*b m"]:
        """Log density, or probability, of further outcomes."""
        mean, var = process.mean_and_var(x)
        return self.likelihood.log_predictive_density(y, mean, var, self._phi(process), None)

    def _phi(self, process: SparseProcess) -> Tensor:
        """The likelihood's free parameters, which follow the kernel's."""
        first = process.theta.shape[-1]
        return process.hyperparameters[..., first : first + len(self.likelihood.start())]

    def _problem(self, data: Dataset, learn_inducing: bool, seeds: Seeds) -> VariationalProblem:
        kernel = kernel_with(self.inducing, self.kernel, data.columns)
        jitter = jitter_or_default(self.jitter, data.x.dtype)
        model = Model(kernel, self.likelihood, self.mean, jitter, data.x.shape[-1])
        return VariationalProblem(model, data, learn_inducing, seeds)

    def _place(self, problem: VariationalProblem, eta: Tensor) -> InducingVariables:
        theta, kernel = problem.model.split(eta)[0], problem.model.kernel
        return placed(self.inducing, self.selection, problem.data, kernel, theta, problem.seeds)

    def _finish(
        self, problem: VariationalProblem, state: VariationalState, trace: FitTrace | None
    ) -> SparseProcess:
        """The process with q at its optimum, for the hyperparameters and inducing variables of the state."""
        state, model = problem.converge(state, _NATURAL, _PASSES), problem.model
        theta, phi, prior_mean = model.split(state.eta)
        some = evenly_spaced(problem.data, SKETCH)
        expectation = model.expectation(state.eta, state.variables, state.q, some, slice(None))
        basis = inducing_basis(model.kernel, theta, state.variables, model.jitter)
        return SparseProcess(
            replace(basis, precision_chol=state.chol),
            state.linear,
            prior_mean,
            self.likelihood.latent_noise(phi, expectation.site_precision),
            state.eta,
            trace=trace,
        )
