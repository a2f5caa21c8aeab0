"""Exact regression that hands over to sparse regression as observations grow."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Functionals
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.basis import inducing_basis, jitter_or_default
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection
from bo_suite.surrogates.observations import Observations, with_best_derivatives
from bo_suite.surrogates.prior_mean import without_function
from bo_suite.surrogates.process import ExactProcess, WarmStart
from bo_suite.surrogates.sparse import SparseProcess
from bo_suite.surrogates.subsample import best_and_evenly_spaced, best_observations
from bo_suite.surrogates.variational.collapsed import Collapsed, statistics_of
from bo_suite.surrogates.warm_start import trusted

_MOST_FITTED = 500
"""Number of observations, the best ones, whose exact evidence sets the hyperparameters after the handover."""

_MOST_IN_POSTERIOR = 20_000
"""Number of observations in the posterior, half of them the best: more take seconds and change little."""


@dataclass(frozen=True)
class AutoGP:
    """`exact` up to `handover` observations, and then its sparse approximation.

    After the handover, hyperparameters maximise the exact posterior density of the 500 best observations:
    what matters is how the function behaves where it is good. All observations enter the posterior through
    the values at inducing inputs, three quarters of which are at the best outcomes. What these values leave
    unexplained of an observation counts as noise of its own (FITC, Snelson and Ghahramani 2006), so that the
    process passes through good outcomes without noise, which the variational one does not. The measurements
    behind this are in benchmarks/README.md (Sparse surrogates). Beyond 20,000 observations, the 10,000 best
    and as many of the others enter, evenly spaced over these. The best of very many noisy observations are
    the lucky ones, whose spread says little about the noise: with much noise, `SGPR()` is better.

    Derivatives count as observations up to the handover: beyond it, those at the best outcomes alone are
    used. After the handover, so many that they are at most as many as the 500 best outcomes.

    Attributes:
        exact: the model, fitted as it is up to the handover.
        handover: largest number of observations of the exact process.
        inducing: number of inducing inputs after the handover, at most that of distinct observations.
        selection: how they are chosen.
    """

    exact: ExactGP = field(default_factory=ExactGP)
    handover: int = 1200
    inducing: int = 512
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.9, best=0.75))

    batched: ClassVar[bool] = True
    learns_from_derivatives: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.handover < 1 or self.inducing < 1:
            raise DataError(
                f"handover and inducing must be at least 1, got {self.handover} and {self.inducing}"
            )

    @outside_inference_mode
    def fit(
        self, data: Dataset, seeds: Seeds, start: WarmStart | None = None
    ) -> ExactProcess | SparseProcess:
        """Exact up to the handover, then sparse.

        Raises:
            FitError: no observation, or no hyperparameters with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        if data.x.shape[-2] <= self.handover:
            return self.exact.fit(with_best_derivatives(data, self.handover), seeds, start)
        best = with_best_derivatives(best_observations(data, _MOST_FITTED), 2 * _MOST_FITTED)
        start = trusted(start, data)
        if start is not None:  # no new search: so many data determine the hyperparameters
            start = replace(start, observations=best.x.shape[-2])
        fitted = self.exact.fit(best, seeds, start)
        process = self._sparse(best_and_evenly_spaced(data, _MOST_IN_POSTERIOR), fitted, seeds)
        return process if fitted.derivative_noise is None else _with_derivatives(process, fitted, best)

    def _sparse(self, data: Dataset, fitted: ExactProcess, seeds: Seeds) -> SparseProcess:
        """The sparse process with the hyperparameters and prior mean of an exact one."""
        kernel, theta = fitted.kernel, fitted.theta
        inducing = self.selection.select(data, kernel, theta, self.inducing, seeds)
        basis = inducing_basis(kernel, theta, Points(inducing), jitter_or_default(None, data.x.dtype))
        residuals = without_function(data, fitted.prior_mean.function)
        statistics = statistics_of(basis, residuals, fitted.noise, independent=True)
        collapsed = Collapsed.of(statistics, fitted.prior_mean.constant)
        return SparseProcess(
            replace(basis, precision_chol=collapsed.precision_chol),
            collapsed.linear,
            fitted.prior_mean,
            fitted.noise,
            fitted.hyperparameters,
            independent=True,
        )


def _with_derivatives(process: SparseProcess, fitted: ExactProcess, best: Dataset) -> SparseProcess:
    """The sparse process given the derivatives of the best observations, with the noise of their fit."""
    observations, n = Observations.of(best), best.x.shape[-2]
    functionals, unit, level = observations.observed, observations.unit, fitted.derivative_noise
    assert isinstance(functionals, Functionals), "derivatives are functionals"
    assert unit is not None, "derivatives have noise"
    assert level is not None, "derivatives were fitted"
    index = torch.arange(n, functionals.count, device=best.x.device)
    return process.absorb(functionals.selected(index), observations.y[..., n:], unit * level[..., None])
