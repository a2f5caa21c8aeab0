"""Several outcomes as one batch of one fit."""

from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import MISSING, Dataset
from bo_suite.surrogates.process import WarmStart

_APART = 1e-6
"""Distance between the numbers that stand for missing values: equal ones would count as ties."""


def outcome_dataset(data: Dataset, first: int, count: int) -> Dataset:
    """Some outcomes of the data as replicates of one Dataset, in a leading dimension: (count, *b, n, d).

    A missing value is a number just below the largest outcome with a noise variance of 1e6: so it neither
    counts as a tie nor as a good outcome. There are no pending points.

    Args:
        data: with `outcomes`.
        first: index of the first outcome.
        count: number of outcomes from there.
    """
    outcomes = data.outcomes
    assert outcomes is not None, "data without outcomes have no Dataset of them"
    chosen = slice(first, first + count)
    y = outcomes.y[..., chosen, :].movedim(-2, 0)
    noise = None if outcomes.noise is None else outcomes.noise[..., chosen, :].movedim(-2, 0)
    missing = y.isnan()
    if bool(missing.any()):
        noise = torch.where(missing, MISSING, torch.full_like(y, torch.nan) if noise is None else noise)
        largest = torch.where(missing, -torch.inf, y).amax(-1, keepdim=True)
        largest = torch.where(largest.isinf(), 0.0, largest)
        steps = 1.0 + torch.arange(y.shape[-1], dtype=y.dtype, device=y.device)
        y = torch.where(missing, largest - _APART * steps, y)
    x = outcomes.x.expand(count, *outcomes.x.shape)
    return Dataset(x, y, noise, columns=replace(data.columns, fixed=()))


def joined(hyperparameters: jt.Float[Tensor, "k *b p"]) -> jt.Float[Tensor, "*b q"]:
    """The hyperparameters of several outcomes as one vector a run: (*b, k p)."""
    return hyperparameters.movedim(0, -2).flatten(-2)


def split_start(start: WarmStart | None, data: Dataset, count: int) -> WarmStart | None:
    """The start of a fit to `count` outcomes; None if the stored vector was not `joined` from so many.

    The rows with some outcome may be more than the observations that a start counts.
    """
    if start is None or data.outcomes is None or start.hyperparameters.shape[-1] % count:
        return None
    hyperparameters = start.hyperparameters.unflatten(-1, (count, -1)).movedim(-2, 0)
    more = data.outcomes.x.shape[-2] - data.x.shape[-2]
    return replace(start, hyperparameters=hyperparameters, observations=start.observations + more)
