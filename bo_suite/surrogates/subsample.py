"""Parts of the observations: evenly spaced ones, the best ones, or those of given indices."""

from collections.abc import Callable
from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset


def observations_at(data: Dataset, index: jt.Int64[Tensor, "*b k"]) -> Dataset:
    """The observations of some indices, different ones in each replicate."""
    return _chosen(data, lambda rows: rows_at(rows, index), lambda numbers: numbers.gather(-1, index))


def rows_at(x: jt.Float[Tensor, "*b n d"], index: jt.Int64[Tensor, "*b k"]) -> jt.Float[Tensor, "*b k d"]:
    """The rows of some indices, different ones in each replicate."""
    return x.gather(-2, index[..., None].expand(*index.shape, x.shape[-1]))


def evenly_spaced(data: Dataset, count: int) -> Dataset:
    """At most `count` observations, evenly spaced over all."""
    index = spaced_indices(data.x.shape[-2], count, data.x.device)
    if index is None:
        return data
    return _chosen(data, lambda rows: rows[..., index, :], lambda numbers: numbers[..., index])


def spaced_indices(n: int, count: int, device: torch.device) -> jt.Int64[Tensor, " k"] | None:
    """`count` indices, evenly spaced over n; None if n is not larger."""
    return None if n <= count else torch.arange(count, device=device) * n // count


def best_observations(data: Dataset, count: int) -> Dataset:
    """At most `count` observations, those with the best outcomes."""
    if data.x.shape[-2] <= count:
        return data
    return observations_at(data, data.y.argsort(dim=-1, stable=True)[..., :count])


def best_and_evenly_spaced(data: Dataset, count: int) -> Dataset:
    """At most `count` observations: half of them the best, the others evenly spaced over lower ranks."""
    n = data.x.shape[-2]
    if n <= count:
        return data
    order, half = data.y.argsort(dim=-1, stable=True), count // 2
    spaced = half + torch.arange(half, device=data.x.device) * (n - half) // half
    return observations_at(data, torch.cat((order[..., :half], order[..., spaced]), -1).sort(-1).values)


def _chosen(
    data: Dataset, rows_of: Callable[[Tensor], Tensor], numbers_of: Callable[[Tensor], Tensor]
) -> Dataset:
    """The data with the chosen ones of the rows and of the numbers of each observation."""
    noise, violation, outside = (
        None if numbers is None else numbers_of(numbers)
        for numbers in (data.noise, data.violation, data.outside)
    )
    gradient, x_std = (None if rows is None else rows_of(rows) for rows in (data.gradient, data.x_std))
    return replace(
        data,
        x=rows_of(data.x),
        y=numbers_of(data.y),
        noise=noise,
        violation=violation,
        outside=outside,
        gradient=gradient,
        x_std=x_std,
    )
