"""Stochastic variational Gaussian processes, for any likelihood."""

from dataclasses import dataclass, field

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import as_kernel
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.collapsed import inducing_chol, jitter_of
from bo_suite.surrogates.elbo import Model
from bo_suite.surrogates.inducing import (
    GreedyVariance,
    InducingSelection,
    check_sparse,
    inducing_count,
)
from bo_suite.surrogates.likelihoods import Gaussian, Likelihood
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.search import search_starts, settled, thinned
from bo_suite.surrogates.sgpr import SGPR
from bo_suite.surrogates.sparse import FitTrace, SparseProcess
from bo_suite.surrogates.training import NaturalAdam, NaturalLBFGS, Training
from bo_suite.surrogates.variational import Point, Task
from bo_suite.values.scalars import check_flags

_SKETCH, _SKETCH_INDUCING = 1000, 128
"""Observations and inducing inputs with which a fit from afresh begins."""

_NATURAL, _PASSES = 0.5, 20
"""Rate and number of the natural-gradient steps on all data that end a fit."""


@dataclass(frozen=True)
class SVGP:
    """Sparse variational Gaussian process with any likelihood (Hensman, Matthews and Ghahramani 2015).

    A Gaussian q over the inducing values and the hyperparameters maximise
    Σ E_q[log p(y_i | f_i)] - KL[q(u) || p(u)], plus log priors. A fit from afresh begins with
    `NaturalLBFGS` (`SGPR`, for a Gaussian likelihood) on 1,000 observations and 128 inducing inputs; then
    `training` sees all, and natural-gradient steps on all observations bring q to its optimum at the end:
    exactly, for a Gaussian likelihood. A warm start goes straight to a shortened `training`. An `Optimizer`
    standardises outcomes, so that labels and counts can not be told to it; `Gaussian` and `StudentT` suit it.

    Attributes:
        inducing: number of inducing inputs, at most that of distinct observations; when None,
            min(n, 512, 64 + ⌈4 √n⌉) for n observations.
        kernel: as for `ExactGP`.
        selection: how they are chosen, anew in each fit.
        learn_inducing: whether `training` then moves them.
        likelihood: of an outcome given the latent function.
        training: how the bound is raised.
        mean: prior mean of the latent function; when None, a free parameter, N(0, 1).
        jitter: as for `SGPR`.
    """

    inducing: int | None = None
    kernel: object | None = None
    selection: InducingSelection = field(default_factory=GreedyVariance)
    learn_inducing: bool = False
    likelihood: Likelihood = field(default_factory=Gaussian)
    training: Training = field(default_factory=NaturalAdam)
    mean: float | None = None
    jitter: float | None = None

    def __post_init__(self) -> None:
        check_flags(self, "learn_inducing", error=DataError)
        check_sparse(self.inducing, self.mean, self.jitter)

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
        count = inducing_count(n) if self.inducing is None else self.inducing
        task = self._task(data, self.learn_inducing, seeds)
        own = task.model.start(data.x)
        if not self.learn_inducing and (found := settled(own, data, start)) is not None:
            return self.process(data, found, self._select(task, found, count))
        starts = search_starts(own, data, seeds, start, 2)
        eta = starts[0]
        fresh = starts.shape[0] > 1
        if fresh and self.likelihood.conjugate:
            eta = self._collapsed(data, count, seeds)
        elif fresh:
            part = self._task(thinned(data, _SKETCH), False, seeds.split("sketch"))
            inducing = self._select(part, eta, min(count, _SKETCH_INDUCING))
            eta = NaturalLBFGS(rounds=30).run(part, Point.prior(eta, inducing))[0].eta
        inducing = self._select(task, eta, count)
        begun = self._task(thinned(data, _SKETCH), False, seeds).converge(
            Point.prior(eta, inducing), _NATURAL, _PASSES
        )
        training = self.training if fresh else self.training.shortened()
        point, losses = training.run(task, begun)
        if not bool(torch.isfinite(losses[-1]).all()):
            raise FitError("the bound must stay finite, but did not; take smaller steps")
        return self._finish(task, point, FitTrace(torch.stack(losses), inducing))

    def _collapsed(self, data: Dataset, count: int, seeds: Seeds) -> Tensor:
        """Free parameters that maximise the collapsed bound of some of the data."""
        sketch = SGPR(
            inducing=min(count, _SKETCH_INDUCING),
            kernel=self.kernel,
            selection=self.selection,
            likelihood=self.likelihood,  # type: ignore[arg-type]  # the only conjugate one
            mean=self.mean,
            jitter=self.jitter,
        )
        found = sketch.fit(thinned(data, _SKETCH), seeds.split("sketch"))
        mean = [found.prior_mean[..., None]] if self.mean is None else []
        return torch.cat([found.hyperparameters, *mean], -1)

    def process(
        self, data: Dataset, hyperparameters: Hyperparameters, inducing: jt.Float[Tensor, "*b m d"]
    ) -> SparseProcess:
        """The process at given hyperparameters (theta, phi, prior mean) and inducing inputs."""
        task = self._task(data, False, Seeds((), data.batch_shape))
        return self._finish(task, Point.prior(hyperparameters, inducing), None)

    def bound(self, data: Dataset, process: SparseProcess) -> jt.Float[Tensor, "*b"]:
        """The evidence lower bound of a fitted process, without log priors."""
        precision = process.precision_chol @ process.precision_chol.mT
        point = Point(process.hyperparameters, process.inducing, process.linear, precision)
        return self._task(data, False, Seeds((), data.batch_shape)).bound(point)

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

    def _task(self, data: Dataset, learn_inducing: bool, seeds: Seeds) -> Task:
        kernel = as_kernel(self.kernel, data.unordered, data.fidelities)
        jitter = jitter_of(self.jitter, data.x.dtype)
        model = Model(kernel, self.likelihood, self.mean, jitter, data.x.shape[-1])
        return Task(model, data, learn_inducing, seeds)

    def _select(self, task: Task, eta: Tensor, count: int) -> Tensor:
        theta = task.model.split(eta)[0]
        return self.selection.select(task.data, task.model.kernel, theta, count, task.seeds)

    def _finish(self, task: Task, point: Point, trace: FitTrace | None) -> SparseProcess:
        """The process with q at its optimum, for the hyperparameters and inducing inputs of the point."""
        point = task.converge(point, _NATURAL, _PASSES)
        theta, phi, mean = task.model.split(point.eta)
        part = thinned(task.data, _SKETCH)
        seen = task.model.expectation(point.eta, point.inducing, point.q, part, slice(None))
        return SparseProcess(
            task.model.kernel,
            theta,
            point.inducing,
            inducing_chol(task.model.kernel, theta, point.inducing, task.model.jitter),
            point.chol,
            point.linear,
            mean,
            self.likelihood.latent_noise(phi, seen.site_precision),
            point.eta,
            trace=trace,
        )
