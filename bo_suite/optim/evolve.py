"""Derivative-free search for the maximum of a score over a space, by a population of points."""

from collections.abc import Callable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.space.activity import Activation, Seen
from bo_suite.space.candidates import is_copy, is_new, mutate, settled
from bo_suite.space.space import Space

_PARENTS, _CHILDREN, _GENERATIONS = 32, 128, 10
"""Sizes of the evolution strategy; beside the first generation it scores 1,280 points."""

_MATING = 0.5
"""Share of children that have two parents."""


def evolve(
    score: Callable[[Tensor], Tensor],
    space: Space,
    taken: jt.Float[Tensor, "*b t d"],
    rows: jt.Float[Tensor, "*b m d"],
    seeds: Seeds,
) -> jt.Float[Tensor, "*b p d"]:
    """The best points after the last generation, best first.

    In each generation the best distinct points among parents and children become the parents (a (μ + λ)
    evolution strategy). A child takes each column from one of two parents, more often from the better. Then a
    few columns mutate: a continuous one by a normal step of a scale from 1e-3 to 0.5, a discrete one to a
    level about as far away or to a random level. Trees give whole boxes equal scores: of equal points, those
    farthest from the taken rows come first. In a finite space equal points come in random order, which
    measured better, and taken rows are not parents.

    Args:
        score: larger is better.
        space: where to search.
        taken: rows that must not be suggested: observed, pending or failed.
        rows: the first generation, points of the space.
        seeds: of the random numbers.
    """
    finite = space.cardinality is not None
    with torch.no_grad():
        parents, value = _select(rows, score(rows), taken, finite, seeds.split("first"))
        for turn in range(_GENERATIONS):
            step = seeds.split(f"{turn}")
            seen = Seen(parents, space.columns.active(parents)) if space.columns.conditions else None
            children = mutate(space, _mate(space, parents, step.split("mate")), step.split("mutate"), seen)
            rows, values = torch.cat((parents, children), -2), torch.cat((value, score(children)), -1)
            parents, value = _select(rows, values, taken, finite, step.split("select"))
    return parents


def _select(rows: Tensor, value: Tensor, taken: Tensor, finite: bool, seeds: Seeds) -> tuple[Tensor, Tensor]:
    """The best distinct rows; of equal scores the farthest from the taken rows or, if finite, random ones."""
    order = seeds.uniform((rows.shape[-2],), rows).argsort(-1)
    if taken.shape[-2] and not finite:
        distance = torch.cdist(rows, taken, compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
        order = distance.argsort(dim=-1, descending=True, stable=True)
    rows, value = _gather(rows, order), value.gather(-1, order)
    excluded = is_copy(rows)
    if finite:
        excluded = excluded | ~is_new(rows, taken)
    value = torch.where(excluded, -torch.inf, value)
    order = value.argsort(dim=-1, descending=True, stable=True)[..., :_PARENTS]
    return _gather(rows, order), value.gather(-1, order)


def _gather(rows: Tensor, order: Tensor) -> Tensor:
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))


def _mate(space: Space, parents: Tensor, seeds: Seeds) -> Tensor:
    """Children: each column is taken from one of two parents, of which the first favours better ranks.

    A child that meets the constraints nowhere nearby is the first parent.
    """
    ranks = seeds.uniform((2, _CHILDREN), parents).amin(-2)
    first = (ranks * parents.shape[-2]).long()
    second = (seeds.split("second").uniform((_CHILDREN,), parents) * parents.shape[-2]).long()
    mixed = seeds.split("columns").uniform((_CHILDREN, parents.shape[-1]), parents)
    mothers, fathers, of_second = _gather(parents, first), _gather(parents, second), mixed < _MATING / 2
    children = torch.where(of_second, fathers, mothers)
    if space.columns.conditions:
        held = torch.where(of_second, space.columns.active(fathers), space.columns.active(mothers))
        seen = Seen(parents, space.columns.active(parents))
        children = Activation(space, seen, seeds.split("active"))(children, held)
    return settled(space, children, mothers)
