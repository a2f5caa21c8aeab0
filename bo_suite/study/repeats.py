"""Whether to evaluate points again, and which, if outcomes are noisy."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition import KnowledgeGradient
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError, NumericalError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.candidates import is_new
from bo_suite.surrogates import AutoGP

_FEWEST = 8
"""Fewest points from which a model can estimate noise."""

_LEAST_NOISE = 1e-3
"""Noise variance below which outcomes count as noiseless; the variance of the outcomes is 1."""

_FEWEST_TO_CHOOSE, _CLEAR_NOISE = 12, 2e-2
"""The same if new points are left: a first repeat without noise would be wasted."""

_PROOFS, _PROOFS_AMONG_TIES = 1, 3
"""Repeats with equal outcomes that prove that there is no noise; the latter if points share outcomes."""


@dataclass(frozen=True, eq=False)
class Repeat:
    """An observed row to evaluate again.

    Attributes:
        row: encoded point.
        ratio: of its knowledge gradient to that of the new row that it replaces.
    """

    row: jt.Float[Tensor, " d"]
    ratio: float


def worth_repeating(
    data: Dataset, seeds: Seeds, fewest: int = _FEWEST, least_noise: float = _LEAST_NOISE
) -> bool:
    """Whether outcomes of one run are noisy, as far as known, so that repeating a point is worthwhile.

    They are noisy if a standard deviation above 0 was stated or if outcomes of one point differ. They are not
    if all stated standard deviations are 0, if repeats gave equal outcomes, or if all outcomes are equal.
    Otherwise a model of enough points decides: if its noise is at least `least_noise` of the variance of the
    outcomes, a repeat is worthwhile. From points evaluated once, a model cannot distinguish a rough function
    from a noisy one.

    Args:
        data: of one run; False for replicates.
        seeds: of the fit.
        fewest: number of points that the model needs.
        least_noise: noise variance from which outcomes count as noisy.
    """
    if data.batch_shape:
        return False
    if (curves := data.curves) is not None:  # what is not known of unfinished trials is no noise of outcomes
        finished = ~curves.y[..., -1].isnan()
        data = Dataset(curves.x[finished], curves.y[finished, -1], columns=data.columns)
    if not data.y.numel():
        return False
    points, index = torch.unique(data.x, dim=0, return_inverse=True)
    lowest = data.y.new_zeros(len(points)).scatter_reduce(0, index, data.y, "amin", include_self=False)
    highest = data.y.new_zeros(len(points)).scatter_reduce(0, index, data.y, "amax", include_self=False)
    if bool((highest > lowest).any()):
        return True
    if data.noise is not None and not bool(data.noise.isnan().all()):
        return bool((data.noise > 0.0).any())
    values = len(torch.unique(lowest))
    if values == 1:
        return False
    repeats, proofs = len(data.y) - len(points), _PROOFS if values == len(points) else _PROOFS_AMONG_TIES
    if repeats >= proofs or len(points) < fewest:
        return False
    try:
        return float(AutoGP().fit(data, seeds.split("repeat")).noise) >= least_noise
    except (FitError, NumericalError):
        return False


def repeat_instead(row: jt.Float[Tensor, " d"], data: Dataset, seeds: Seeds) -> Repeat | None:
    """The observed row to evaluate again instead of a new one, if outcomes are noisy and that teaches more.

    What a row teaches is its knowledge gradient: how much its outcome is expected to lower the smallest
    posterior mean. None if the new row has the largest, if there is no noise (`worth_repeating`), or if the
    model cannot be fitted.

    Args:
        row: the new row.
        data: of one run.
        seeds: of the fits.
    """
    if not worth_repeating(data, seeds, _FEWEST_TO_CHOOSE, _CLEAR_NOISE):
        return None
    feasible = data.x if data.violation is None else data.x[data.violation == 0.0]
    observed = torch.unique(feasible, dim=0)
    observed = observed[(data.within_space(observed) == observed).all(-1) & is_new(observed, data.pending)]
    if not len(observed):
        return None
    try:
        with numerical_environment(), torch.no_grad():
            score = KnowledgeGradient().build(data, seeds.split("repeat"))
            gains = score(torch.cat((observed, row[None])))
    except (FitError, NumericalError):
        return None
    best = int(gains[:-1].argmax())
    if not bool(gains[best] > gains[-1]):
        return None
    return Repeat(observed[best], float((gains[best] - gains[-1]).exp()))
