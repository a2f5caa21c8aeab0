"""Derivative-free search of a score over a space: a population of points that mate and mutate."""

from collections.abc import Callable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.space.candidates import is_copy, is_new, mutate
from bo_suite.space.space import Space

_PARENTS, _CHILDREN, _GENERATIONS = 32, 128, 10

_MATING = 0.5
"""Share of children that have two parents."""


def evolve(
    score: Callable[[Tensor], Tensor],
    space: Space,
    taken: jt.Float[Tensor, "*b t d"],
    rows: jt.Float[Tensor, "*b m d"],
    seeds: Seeds,
) -> jt.Float[Tensor, "*b p d"]:
    """The best points after some generations, best first.

    Each generation the best distinct points, parents and children alike, become the parents (a (μ + λ)
    evolution strategy). A child takes each column from either of two parents, the better ones more often, and
    then mutates in a few: a continuous one by a normal step of any scale from 1e-3 to 0.5, a discrete one to
    a level about so far away or to any other. Trees score whole boxes equally: of equal points those farthest
    from the data come first. In a finite space they come in random order, which measured better, and those
    that are told or pending are no parents.

    Args:
        score: larger is better.
        space: where to search.
        taken: rows that are not to be suggested: told, pending or failed.
        rows: the first generation, representable in the space.
        seeds: of the random numbers.
    """
    finite = space.cardinality is not None
    with torch.no_grad():
        parents, value = _select(rows, score(rows), taken, finite, seeds.split("first"))
        for turn in range(_GENERATIONS):
            step = seeds.split(f"{turn}")
            children = mutate(space, _mate(parents, step.split("mate")), step.split("mutate"))
            every, values = torch.cat((parents, children), -2), torch.cat((value, score(children)), -1)
            parents, value = _select(every, values, taken, finite, step.split("select"))
    return parents


def _select(rows: Tensor, value: Tensor, taken: Tensor, finite: bool, seeds: Seeds) -> tuple[Tensor, Tensor]:
    """The best rows, without copies of others; of equal ones the farthest from what is taken, or any."""
    order = seeds.uniform((rows.shape[-2],), rows).argsort(-1)
    if taken.shape[-2] and not finite:
        far = torch.cdist(rows, taken, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
        order = far.argsort(dim=-1, descending=True, stable=True)
    rows, value = _gather(rows, order), value.gather(-1, order)
    excluded = is_copy(rows)
    if finite:
        excluded = excluded | ~is_new(rows, taken)
    value = torch.where(excluded, -torch.inf, value)
    order = value.argsort(dim=-1, descending=True, stable=True)[..., :_PARENTS]
    return _gather(rows, order), value.gather(-1, order)


def _gather(rows: Tensor, order: Tensor) -> Tensor:
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))


def _mate(parents: Tensor, seeds: Seeds) -> Tensor:
    """Children, each column from one of two parents, whose ranks have a triangular distribution."""
    ranks = seeds.uniform((2, _CHILDREN), parents).amin(-2)
    first = (ranks * parents.shape[-2]).long()
    second = (seeds.split("second").uniform((_CHILDREN,), parents) * parents.shape[-2]).long()
    mixed = seeds.split("columns").uniform((_CHILDREN, parents.shape[-1]), parents)
    return torch.where(mixed < _MATING / 2, _gather(parents, second), _gather(parents, first))
