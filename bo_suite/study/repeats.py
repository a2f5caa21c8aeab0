"""Whether to evaluate points again, once a finite space has no new point."""

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError, NumericalError
from bo_suite.surrogates import AutoGP

_FEWEST = 8
"""Fewest points from which a model can estimate noise."""

_LEAST_NOISE = 1e-3
"""Noise variance below which outcomes count as noiseless; the variance of the outcomes is 1."""

_PROOFS, _PROOFS_AMONG_TIES = 1, 3
"""Repeats with equal outcomes that prove that there is no noise; the latter if points share outcomes."""


def worth_repeating(data: Dataset, seeds: Seeds) -> bool:
    """Whether outcomes of one run are noisy, as far as known, so that repeating a point is worthwhile.

    They are noisy if a standard deviation above 0 was stated or if outcomes of one point differ. They are not
    if all stated standard deviations are 0, if repeats gave equal outcomes, or if all outcomes are equal.
    Otherwise a model of at least eight points decides: if its noise is at least 0.1 % of the variance of the
    outcomes, a repeat is worthwhile. From points evaluated once, a model cannot distinguish a rough function
    from a noisy one.

    Args:
        data: of one run; False for replicates.
        seeds: of the fit.
    """
    if data.batch_shape or not data.y.numel():
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
    if repeats >= proofs or len(points) < _FEWEST:
        return False
    try:
        return float(AutoGP().fit(data, seeds.split("repeat")).noise) >= _LEAST_NOISE
    except (FitError, NumericalError):
        return False
