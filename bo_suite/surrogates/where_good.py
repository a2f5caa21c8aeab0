"""Hyperparameters from good observations that are not merely lucky, and when a sparse process needs them."""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import ROWS_AT_ONCE, Hyperparameters, Process, WarmStart
from bo_suite.surrogates.subsample import observations_at
from bo_suite.surrogates.warm_start import MANY


def unexplained_share(basis: Basis, x: jt.Float[Tensor, "*b n d"]) -> jt.Float[Tensor, "*b"]:
    """mean_i (k(x_i, x_i) - a_iᵀa_i) / k(x_i, x_i): prior variance that inducing values do not explain."""
    diagonal = basis.kernel.diagonal(basis.theta, x)
    residual = (diagonal - basis.whiten(x).square().sum(-2)).clamp(min=0.0)
    return (residual / diagonal).mean(-1)


def fit_to_best_means(
    exact: ExactGP, smooth: Process, data: Dataset, seeds: Seeds, fresh: bool
) -> Hyperparameters:
    """Hyperparameters of the exact model for the 500 observations whose posterior mean is smallest.

    Of noisy observations, those with the best outcomes are lucky: their noise is alike, and a model of them
    takes it for small. A posterior mean averages the noise of many observations, so that the noise of the
    rows with the best means is as of any others.

    Args:
        exact: the model.
        smooth: gives the posterior means; the search starts at its hyperparameters.
        data: all observations.
        seeds: of the search.
        fresh: whether the search also starts at the model's own start.

    Raises:
        FitError, NumericalError: the model cannot be fitted.
    """
    mean = means_at(smooth, data.x)
    best = observations_at(data, mean.argsort(dim=-1, stable=True)[..., :MANY])
    start = WarmStart(smooth.hyperparameters, 0 if fresh else best.x.shape[-2])
    return exact.fit(best, seeds, start).hyperparameters


def means_at(process: Process, x: jt.Float[Tensor, "*b n d"]) -> jt.Float[Tensor, "*sb n"]:
    """Posterior means of any number of rows, without a gradient."""
    with torch.no_grad():
        return torch.cat([process.mean(rows) for rows in x.split(ROWS_AT_ONCE, -2)], -1)
