"""The candidate of largest score, in a space that has a table of them."""

from collections.abc import Callable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.space.candidates import top
from bo_suite.space.table_rows import TableRows

_WHOLE, _COSTLY = 100_000, 4_096
"""Most candidates that are all scored, and most by a costly score."""

_BEST, _AROUND = 8, 512
"""Of more candidates: how many of the best observed rows, and how many candidates nearest to each."""

_ROUNDS, _LEADERS, _NEAR = 3, 8, 128
"""Rounds of local search, and how many candidates nearest to how many leaders each of them scores."""


def best_listed(
    score: Callable[[Tensor], Tensor],
    region: TableRows,
    data: Dataset,
    taken: jt.Float[Tensor, "*b t d"],
    seeds: Seeds,
    *,
    costly: bool = False,
) -> jt.Float[Tensor, "*b d"] | None:
    """The row of largest score that is not taken; None if all candidates are taken, of a replicate.

    Up to 100,000 candidates are all scored. Of more, a sixth of that number are: random ones and those
    nearest to the best observed rows; then those nearest to the leaders, three times. Of equal scores a
    random one wins.

    Args:
        score: of many rows; larger is better, and never NaN.
        region: the candidates.
        data: observed rows.
        taken: rows that must not be returned.
        seeds: of the random numbers.
        costly: whether 4,096 candidates are the most that are all scored.
    """
    most, count = _COSTLY if costly else _WHOLE, len(region.listed)
    places, lead = region.places(taken), taken.shape[:-2]
    excluded = torch.zeros(*lead, count + 1, dtype=torch.bool, device="cpu")
    excluded.scatter_(-1, torch.where(places < 0, count, places), True)

    def scored(pool: Tensor) -> Tensor:
        value = score(region.at(pool, taken).expand(*lead, -1, -1)).cpu()
        return torch.where(excluded[..., pool], -torch.inf, value.clamp(min=torch.finfo(value.dtype).min))

    everything = torch.arange(count, device="cpu")
    pools = [everything] if count <= most else [_sampled(region, data, most // 6, seeds), everything]
    for pool in pools:
        value = scored(pool)
        for _ in range(_ROUNDS if len(pool) < count else 0):
            leaders = pool[value.topk(min(_LEADERS, len(pool)), -1).indices].unique()
            near = region.nearest(region.at(leaders, taken), min(_NEAR, count)).unique()
            new = near[~torch.isin(near, pool)]
            if not len(new):
                break
            pool, value = torch.cat((pool, new)), torch.cat((value, scored(new)), -1)
        largest = value.amax(-1, keepdim=True)
        if bool((largest > -torch.inf).all()):
            draws = seeds.split("ties").uniform((len(pool),), value)
            best = torch.where(value == largest, draws, -1.0).argmax(-1)
            return region.at(pool[best], taken)
    return None


def _sampled(region: TableRows, data: Dataset, count: int, seeds: Seeds) -> Tensor:
    """Indices of random candidates, and of those nearest to the best observed rows."""
    total = len(region.listed)
    like = torch.empty(0, dtype=torch.float64, device="cpu")
    draws = (seeds.split("sample").uniform((count,), like) * total).long()
    around = min(_AROUND, max(count // _BEST, 1), total)
    best = top(data.x, -data.merit, _BEST)
    chosen: Tensor = torch.cat((draws.flatten(), region.nearest(best, around).flatten())).unique()
    return chosen
