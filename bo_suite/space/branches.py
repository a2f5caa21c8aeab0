"""Branches of a space with conditional parameters, and the one that has had too few points.

A branch is one option of a parameter that others depend on, or a range of its numbers that activates the same
parameters. Each gets its share of points, however good another one is: a model knows nothing about
parameters that it has never seen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.errors import SpaceError
from bo_suite.space.candidates import is_exhausted, sample
from bo_suite.space.conditions import levels_in
from bo_suite.space.counting import runs
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.values.display import shown_value

_EVERY = 4
"""One of so many suggestions may go to a branch that has had too few."""

_MOST_OPTIONS = 64
"""Most options of a Choice that are branches each; of more, those between others are one branch."""


@dataclass(frozen=True)
class Branch:
    """Values of a parameter, by the positions of the first and the last.

    Attributes:
        name: of the parameter.
        low: first position.
        high: last position.
    """

    name: str
    low: float
    high: float

    def described(self, space: Space) -> str:
        """The branch in words."""
        first, last = (shown_value(space[self.name].decode(place)) for place in (self.low, self.high))
        return f"{self.name} is {first}" if first == last else f"{self.name} from {first} to {last}"


def branches(space: Space) -> list[Branch]:
    """The branches of a space, those of parents first; none of fixed parameters."""
    conditions = space.conditions
    inner = [name for name in conditions.order if name in conditions.children]
    outer = [name for name in space.names if name in conditions.children and name not in inner]
    return [
        Branch(name, low, high)
        for name in (*outer, *inner)
        if not isinstance(space[name], Fixed) and conditions.is_possible(name)
        for low, high in _parts(space, name)
    ]


def cover_size(space: Space) -> int:
    """Number of points that can be enough for one in each branch."""
    conditions = space.conditions

    def size(name: str) -> int:
        return sum(max([1, *map(size, _inner(name, branch))]) for branch in _parts(space, name))

    def _inner(name: str, branch: tuple[float, float]) -> Iterator[str]:
        """The parameters with branches that a branch may activate."""
        for child in conditions.children[name]:
            accepted = conditions.accepted[child][name]
            if child in conditions.children and any(
                low <= branch[1] and branch[0] <= high for low, high in accepted
            ):
                yield child

    outer = [name for name, parameter in space if name in conditions.children and parameter.when is None]
    return max(map(size, outer), default=0)


def _parts(space: Space, name: str) -> Iterator[tuple[float, float]]:
    """First and last position of each branch of a parameter."""
    parameter = space[name]
    children = {child: space.conditions.accepted[child][name] for child in space.conditions.children[name]}
    if parameter.levels is None:
        ends = {end for intervals in children.values() for one in intervals for end in one}
        cuts = [0.0, *sorted(end for end in ends if 1e-9 < end < 1.0 - 1e-9), 1.0]
        yield from pairwise(cuts)
    elif isinstance(parameter, Choice) and parameter.levels <= _MOST_OPTIONS:
        for level in range(parameter.levels):
            yield (_position(parameter, level),) * 2
    else:
        for levels, _ in runs(parameter, children):
            yield _position(parameter, levels[0]), _position(parameter, levels[-1])


def _position(parameter: Parameter, level: int) -> float:
    return 0.0 if parameter.levels == 1 else float(parameter.position(np.asarray(float(level))))


@dataclass(frozen=True, eq=False)
class Due:
    """A branch that has had too few points.

    Attributes:
        branch: in words.
        space: with values fixed, so that all its points are of the branch.
    """

    branch: str
    space: Space


def due(space: Space, taken: jt.Float[Tensor, "t d"], seeds: Seeds, *, initial: bool = False) -> Due | None:
    """The branch that lacks the largest share of its rows and is not exhausted; None if none lacks any.

    If the parameter is active in n rows, a branch should have log2(n + 1) of these. Every fourth suggestion
    looks for a branch that has fewer; an initial one for a branch that has none.

    Args:
        space: of the rows, some of whose parameters may be fixed.
        taken: rows that were suggested or observed.
        seeds: of the values that are fixed.
        initial: whether the next row is an initial one.
    """
    count = len(taken)
    if not space.columns.conditions or not count or (count % _EVERY and not initial):
        return None
    active = space.columns.active(taken)
    shares: dict[Branch, float] = {}
    for branch in branches(space):
        column = space.names.index(branch.name)
        there = active[:, column]
        inside = there & (branch.low <= taken[:, column]) & (taken[:, column] <= branch.high)
        total, rows = int(there.sum()), int(inside.sum())
        wanted = min(total, 1) if initial else math.log2(total + 1.0)
        if rows < wanted:
            shares[branch] = rows / wanted
    for branch in sorted(shares, key=shares.__getitem__):
        try:
            narrowed = _within(space, branch, seeds)
        except SpaceError:  # the constraints contradict the values
            continue
        reached = narrowed.region is None or narrowed.region.samples.is_reached
        if reached and not is_exhausted(narrowed, taken):
            return Due(branch.described(space), narrowed)
    return None


def in_the_middle(space: Space, row: jt.Float[Tensor, " d"]) -> jt.Float[Tensor, " d"]:
    """A row with conditional numbers in the middle of their ranges; the row itself with constraints."""
    if space.region is not None:
        return row
    moved = row.clone()
    moved[[column for column in space.columns.requirements if column not in space.columns.unordered]] = 0.5
    return sample(space, moved)


def _within(space: Space, branch: Branch, seeds: Seeds) -> Space:
    """The space with a random value of a branch fixed, and with values of its ancestors that activate it."""
    needed = space.conditions.needed.get(branch.name, {}) | {branch.name: ((branch.low, branch.high),)}
    like = torch.zeros(1, dtype=torch.float64, device="cpu")
    draws = seeds.split("branch").uniform((len(needed),), like).tolist()
    values: Params = {}
    for (name, positions), draw in zip(needed.items(), draws, strict=True):
        parameter = space[name]
        if isinstance(parameter, Fixed):
            continue
        if parameter.levels is None:
            low, high = positions[int(draw * len(positions))]
            share = draw * len(positions) % 1.0
            place = max(low, 0.0) + share * (min(high, 1.0) - max(low, 0.0))
        else:
            levels = [level for low, high in positions for level in levels_in(parameter, low, high)]
            place = _position(parameter, levels[int(draw * len(levels))])
        values[name] = parameter.decode(place)
    return space.with_fixed(values)
