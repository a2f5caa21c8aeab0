"""How many points a space with conditional parameters has, and which levels of a parent are alike."""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bo_suite.space.conditions import Positions, levels_in

if TYPE_CHECKING:
    from bo_suite.space.conditions import Conditions

Open = Mapping[str, Mapping[str, Positions]]
"""Parameters that are active if the rest of their conditions holds, with that rest."""


def cardinality(conditions: "Conditions") -> int | None:
    """Number of points of a space; None if a continuous parameter can be active.

    Parameters without a common condition multiply. Otherwise a parent is given each of its groups of levels
    that its children do not distinguish, and the rest is counted.
    """
    parameters = conditions.parameters
    possible = [name for name in parameters if conditions.is_possible(name)]
    if any(parameters[name].levels is None for name in possible):
        return None
    return _count(parameters, {name: conditions.accepted.get(name, {}) for name in possible}, {})


def _count(parameters: Mapping[str, Any], left: Open, counted: dict[object, int]) -> int:
    return math.prod(_count_connected(parameters, group, counted) for group in _connected(left))


def _count_connected(parameters: Mapping[str, Any], left: Open, counted: dict[object, int]) -> int:
    key = frozenset((name, frozenset(rest)) for name, rest in left.items())
    if key not in counted:
        root = next(name for name, rest in left.items() if not rest)
        parameter = parameters[root]
        children = {name: rest[root] for name, rest in left.items() if root in rest}
        counted[key] = sum(
            levels * _count(parameters, _with_root(left, root, active), counted)
            for active, levels in groups(parameter, children).items()
        )
    return counted[key]


def groups(parameter: Any, children: Mapping[str, Positions]) -> dict[frozenset[str], int]:
    """How many levels of a discrete parameter activate which children."""
    if not children:
        return {frozenset(): parameter.levels}
    found: dict[frozenset[str], int] = {}
    for levels, active in runs(parameter, children):
        found[active] = found.get(active, 0) + len(levels)
    return found


def runs(parameter: Any, children: Mapping[str, Positions]) -> Iterator[tuple[range, frozenset[str]]]:
    """The runs of neighbouring levels of a discrete parameter that activate the same children, in order."""
    accepted = {
        name: [levels_in(parameter, low, high) for low, high in positions]
        for name, positions in children.items()
    }
    ends = {0, parameter.levels}
    ends |= {end for some in accepted.values() for one in some if len(one) for end in (one.start, one.stop)}
    cuts = sorted(ends)
    for first, last in pairwise(cuts):
        active = frozenset(name for name, some in accepted.items() if any(first in one for one in some))
        yield range(first, last), active


def _with_root(left: Open, root: str, active: frozenset[str]) -> Open:
    """What is left after a parameter was given a level that activates some of its children."""
    lost = {name for name, rest in left.items() if root in rest and name not in active} | {root}
    rests = dict(left)
    while lost:
        rests = {name: rest for name, rest in rests.items() if name not in lost}
        lost = {name for name, rest in rests.items() if any(one not in rests and one != root for one in rest)}
    return {
        name: {one: positions for one, positions in rest.items() if one != root}
        for name, rest in rests.items()
    }


def _connected(left: Open) -> Iterator[Open]:
    """The parts of what is left that no condition connects."""
    near: dict[str, set[str]] = {name: set(rest) for name, rest in left.items()}
    for name, rest in left.items():
        for parent in rest:
            near[parent].add(name)
    seen: set[str] = set()
    for start in left:
        if start in seen:
            continue
        group, edge = {start}, {start}
        while edge:
            edge = {one for name in edge for one in near[name]} - group
            group |= edge
        seen |= group
        yield {name: rest for name, rest in left.items() if name in group}
