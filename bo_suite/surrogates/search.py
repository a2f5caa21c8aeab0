"""Where a search for hyperparameters starts, and on how much of the data."""

import math
from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates.process import WarmStart

MANY = 500
"""Observations beyond which a search takes long, and each of them says little of the hyperparameters."""


def search_starts(
    own: jt.Float[Tensor, " p"], data: Dataset, seeds: Seeds, start: WarmStart | None, count: int
) -> jt.Float[Tensor, "r *b p"]:
    """Starting points: the warm start if there is one, the model's own, then random ones around that.

    A warm start is trusted alone until the number of observations has passed another power of 1.2.
    """
    starts = [own.expand(*data.batch_shape, -1)]
    if start is not None and start.hyperparameters.shape[-1] == own.shape[-1]:
        starts.insert(0, start.hyperparameters.to(data.x).expand(*data.batch_shape, -1))
        if not has_grown(start.observations, data.x.shape[-2]):
            return starts[0][None]
    random = seeds.split("fit").normal((max(count - len(starts), 0), own.shape[-1]), data.x)
    starts += [own + noise for noise in random.unbind(-2)]
    return torch.stack(starts[:count])


def settled(
    own: jt.Float[Tensor, " p"], data: Dataset, start: WarmStart | None
) -> jt.Float[Tensor, "*b p"] | None:
    """The hyperparameters of a start that are taken as they are; None where a search is due."""
    if start is None or not start.settled or start.hyperparameters.shape[-1] != own.shape[-1]:
        return None
    return start.hyperparameters.to(data.x).expand(*data.batch_shape, -1)


def trusted(start: WarmStart | None, data: Dataset) -> WarmStart | None:
    """The start, settled too where very many observations have not passed another power of 1.02 since."""
    n = data.x.shape[-2]
    if start is None or n <= MANY or has_grown(start.observations, n, 1.02):
        return start
    return replace(start, settled=True)


def thinned(data: Dataset, most: int) -> Dataset:
    """No more than `most` observations, evenly spaced over all."""
    n = data.x.shape[-2]
    if n <= most:
        return data
    keep = torch.arange(most, device=data.x.device) * n // most
    noise = None if data.noise is None else data.noise[..., keep]
    return replace(data, x=data.x[..., keep, :], y=data.y[..., keep], noise=noise)


def best(data: Dataset, most: int) -> Dataset:
    """The `most` observations of best outcomes."""
    if data.x.shape[-2] <= most:
        return data
    keep = data.y.argsort(dim=-1, stable=True)[..., :most]
    x = data.x.gather(-2, keep[..., None].expand(*keep.shape, data.x.shape[-1]))
    noise = None if data.noise is None else data.noise.gather(-1, keep)
    return replace(data, x=x, y=data.y.gather(-1, keep), noise=noise)


def has_grown(before: int, now: int, factor: float = 1.2) -> bool:
    """Whether the number of observations has passed a power of the factor."""
    return math.floor(math.log(max(now, 1), factor)) > math.floor(math.log(max(before, 1), factor))
