"""Exact regression that hands over to sparse regression as observations grow."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.collapsed import Collapsed, inducing_chol, jitter_of, statistics_of
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.inducing import GreedyVariance, InducingSelection
from bo_suite.surrogates.process import ExactProcess, Process, WarmStart
from bo_suite.surrogates.search import best, trusted
from bo_suite.surrogates.sparse import SparseProcess

_PART = 500
"""Observations, the best, whose exact evidence sets the hyperparameters after the handover."""

_MOST = 20_000
"""Observations that enter the posterior, half of them the best: more cost seconds and tell little."""


@dataclass(frozen=True)
class AutoGP:
    """`exact` up to `handover` observations, and then its sparse approximation.

    After the handover hyperparameters maximise the exact posterior density of the 500 best observations: what
    matters is how the function behaves where it is good. All observations enter the posterior, through the
    values at inducing inputs, three quarters of them at the best outcomes; what these leave unexplained of an
    observation counts as noise of its own (FITC, Snelson and Ghahramani 2006), so that the process passes
    through good outcomes without noise, which the variational one does not. The measurements behind this are
    in benchmarks/README.md (Sparse surrogates). Beyond 20,000 observations, the 10,000 best and as many of
    the others enter, evenly spaced over these. The best of very many noisy observations are the lucky ones,
    whose spread says little of the noise: with much noise, and more than 10,000 of them, `SGPR` is safer.

    Attributes:
        exact: the model, and what is fitted to few observations.
        handover: observations up to which the exact process is used.
        inducing: number of inducing inputs beyond, at most that of distinct observations.
        selection: how they are chosen.
    """

    exact: ExactGP = field(default_factory=ExactGP)
    handover: int = 1200
    inducing: int = 512
    selection: InducingSelection = field(default_factory=lambda: GreedyVariance(quality=0.9, best=0.75))

    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.handover < 1 or self.inducing < 1:
            raise DataError(
                f"handover and inducing must be at least 1, got {self.handover} and {self.inducing}"
            )

    @outside_inference_mode
    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        """An `ExactProcess` or a `SparseProcess`.

        Raises:
            FitError: no observation, or no hyperparameters with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        n = data.x.shape[-2]
        if n <= self.handover:
            return self.exact.fit(data, seeds, start)
        part = best(data, _PART)
        start = trusted(start, data)
        if start is not None:  # never to be searched anew: so many data do not leave hyperparameters open
            start = replace(start, observations=part.x.shape[-2])
        return self._sparse(_thinned(data), self.exact.fit(part, seeds, start), seeds)

    def _sparse(self, data: Dataset, fitted: ExactProcess, seeds: Seeds) -> SparseProcess:
        """The approximation with the hyperparameters and prior mean of a process of a part."""
        kernel, theta, noise = fitted.kernel, fitted.theta, fitted.noise
        inducing = self.selection.select(data, kernel, theta, self.inducing, seeds)
        chol = inducing_chol(kernel, theta, inducing, jitter_of(None, data.x.dtype))
        statistics = statistics_of(kernel, theta, inducing, chol, data, noise, independent=True)
        found = Collapsed.of(statistics, fitted.prior_mean)
        return SparseProcess(
            kernel,
            theta,
            inducing,
            chol,
            found.precision_chol,
            found.linear,
            found.prior_mean,
            noise,
            fitted.hyperparameters,
            independent=True,
        )


def _thinned(data: Dataset) -> Dataset:
    """No more than `_MOST` observations: the best half of them, and others evenly spaced over the rest."""
    n = data.x.shape[-2]
    if n <= _MOST:
        return data
    order, half = data.y.argsort(dim=-1, stable=True), _MOST // 2
    spaced = half + torch.arange(half, device=data.x.device) * (n - half) // half
    keep = torch.cat((order[..., :half], order[..., spaced]), -1).sort(-1).values
    noise = None if data.noise is None else data.noise.gather(-1, keep)
    x = data.x.gather(-2, keep[..., None].expand(*keep.shape, data.x.shape[-1]))
    return replace(data, x=x, y=data.y.gather(-1, keep), noise=noise)
