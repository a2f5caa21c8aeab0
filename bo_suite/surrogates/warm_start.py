"""Where a search for hyperparameters starts, and when it is left out."""

import math
from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates.observations import known_derivatives
from bo_suite.surrogates.process import WarmStart

MANY = 500
"""Number of observations beyond which a search is slow, and one observation more hardly matters."""

GRADIENT_TOLERANCE = 1e-2
"""A search ends when the projected gradient of the log posterior density has no larger entry."""


def search_starts(
    model_start: jt.Float[Tensor, " p"], data: Dataset, seeds: Seeds, start: WarmStart | None, count: int
) -> jt.Float[Tensor, "r *b p"]:
    """Starting points: the warm start if there is one, the model's own, and random ones around the latter.

    The warm start is the only one until the number of observations has passed another power of 1.2.

    Args:
        model_start: where the model itself begins.
        data: what is fitted.
        seeds: of the random starting points.
        start: the warm start; ignored if it has another number of hyperparameters.
        count: number of starting points of a search without a trusted warm start.
    """
    starts = [model_start.expand(*data.batch_shape, -1)]
    if start is not None and start.hyperparameters.shape[-1] == model_start.shape[-1]:
        starts.insert(0, start.hyperparameters.to(data.x).expand(*data.batch_shape, -1))
        if not has_grown(start.observations, data.x.shape[-2]):
            return starts[0][None]
    random = seeds.split("fit").normal((max(count - len(starts), 0), model_start.shape[-1]), data.x)
    starts += [(model_start + noise).expand(*data.batch_shape, -1) for noise in random.unbind(-2)]
    return torch.stack(starts[:count])


def settled_hyperparameters(
    model_start: jt.Float[Tensor, " p"], data: Dataset, start: WarmStart | None
) -> jt.Float[Tensor, "*b p"] | None:
    """The hyperparameters of a settled start, which are used without a search; None if a search is due."""
    if start is None or not start.settled or start.hyperparameters.shape[-1] != model_start.shape[-1]:
        return None
    return start.hyperparameters.to(data.x).expand(*data.batch_shape, -1)


def trusted(start: WarmStart | None, data: Dataset) -> WarmStart | None:
    """The start, settled also if there are many observations, their number in the same power of 1.02.

    If derivatives are among them, in the same power of 1.2: one evaluation more is a small share.
    """
    n, derivatives = data.x.shape[-2], known_derivatives(data)
    factor = 1.2 if derivatives else 1.02
    if start is None or n + derivatives <= MANY or has_grown(start.observations, n, factor):
        return start
    return replace(start, settled=True)


def has_grown(before: int, now: int, factor: float = 1.2) -> bool:
    """Whether the number of observations has passed a power of the factor."""
    return math.floor(math.log(max(now, 1), factor)) > math.floor(math.log(max(before, 1), factor))
