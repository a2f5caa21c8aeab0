"""Spaces of which each point has one, as one space: a dimension chooses the branch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.integrations.translate import Dimension, Translation, same
from bo_suite.space.parameters import Choice
from bo_suite.space.when import Accepted, When


def joined(choice: str, parts: Sequence[Translation]) -> Translation:
    """One translation of several: their dimensions are conditional on the one that chooses among them.

    A dimension that several of them have, equal and always active, is one dimension. Others of the same name
    get "@" and the number of their branch behind it.

    Args:
        choice: name of the dimension that chooses, which no part has.
        parts: one for each branch.

    Raises:
        SpaceError: a part has constraints or candidates.
    """
    dimensions = {choice: Dimension(Choice(tuple(range(len(parts)))))}
    branches: dict[str, tuple[Mapping[str, Any], ...]] = {choice: tuple(part.constants for part in parts)}
    names: dict[str, str] = {}
    shared: dict[str, list[int]] = {}  # branches by name
    for index, part in enumerate(parts):
        if part.constraints:
            raise SpaceError("a space that is one of several must have no constraints and no candidates")
        here: dict[str, str] = {}
        for name, dimension in part.dimensions.items():
            if name in shared and _equal(dimensions[name], dimension):
                shared[name].append(index)
                continue
            here[name] = name if name not in dimensions else f"{name}@{index}"
            when = dict(When.of(dimension.parameter.when)) if dimension.parameter.when else {}
            if not when and name not in dimensions and name not in part.branches:
                shared[name] = [index]
                dimensions[name] = dimension
                continue
            outer = {here.get(one, one): when[one] for one in when}
            if not outer.keys() & branches.keys():  # a branch within this one implies it
                outer |= {choice: (index,)}
            dimensions[here[name]] = _conditional(dimension, outer)
            if name in part.branches:
                branches[here[name]] = part.branches[name]
            if here[name] != part.name(name):
                names[here[name]] = part.name(name)
    for name, indices in shared.items():
        if len(indices) < len(parts):
            dimensions[name] = _conditional(dimensions[name], {choice: tuple(indices)})
    return Translation(dimensions, branches=branches, names=names)


def _equal(one: Dimension, other: Dimension) -> bool:
    """Whether two dimensions are the same object, or have equal parameters whose values are theirs."""
    return one is other or (
        one.parameter == other.parameter and one.theirs is other.theirs is same and one.ours is other.ours
    )


def _conditional(dimension: Dimension, when: Mapping[str, Accepted]) -> Dimension:
    return replace(dimension, parameter=replace(dimension.parameter, when=When(tuple(when.items()))))
