"""Whether a point is worth evaluating again, once a finite space has no new one."""

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError, NumericalError
from bo_suite.surrogates import AutoGP

_FEWEST = 8
"""Points below which no model tells noise from what a function does."""

_LEAST_NOISE = 1e-3
"""Variance of the noise, that of the outcomes being 1, below which the model says that there is none."""

_PROOFS, _PROOFS_AMONG_TIES = 1, 3
"""Repeats of the same outcome that show that there is no noise; the latter where points have equal ones."""


def worth_repeating(data: Dataset, seeds: Seeds) -> bool:
    """Whether outcomes of one run are noisy, as far as that is known, so that repeats tell something.

    They are where a standard deviation above 0 was told, or outcomes of one point differ. They are not where
    all that was told is 0, where repeats gave the same outcomes, or where all outcomes are equal. Where
    nothing was told or repeated, a model of eight points or more decides: unless its noise is below 0.1 % of
    the variance of the outcomes, a first repeat is worth its evaluation, since from points evaluated once a
    model cannot tell a rough function from a noisy one.

    Args:
        data: of one run, not of replicates.
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
    if (
        len(data.y) - len(points) >= (_PROOFS if values == len(points) else _PROOFS_AMONG_TIES)
        or len(points) < _FEWEST
    ):
        return False
    try:
        return float(AutoGP().fit(data, seeds.split("repeat")).noise) >= _LEAST_NOISE
    except (FitError, NumericalError):
        return False
