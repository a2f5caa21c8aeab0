"""Points of a space in canonical form: each active parameter once, in order, and nothing else."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Choice
from bo_suite.values.describe import described
from bo_suite.values.scalars import python_scalar

if TYPE_CHECKING:
    from bo_suite.space.space import Params, Space

_NONE: Mapping[str, Any] = MappingProxyType({})


def whole_point(
    space: "Space", values: Mapping[str, Any], *, within: bool, defaults: Mapping[str, Any] = _NONE
) -> "Params":
    """A point in canonical form; None and NaN stand for an inactive parameter, too.

    Args:
        space: of the point.
        values: by name.
        within: whether they must lie in the space.
        defaults: values of parameters that the point lacks, where they are active.

    Raises:
        SpaceError: an active parameter is missing; one is inactive or unknown, out of range or of the wrong
            type.
    """
    if defaults:
        always = {name: value for name, value in defaults.items() if space[name].when is None}
        values = always | dict(values)
    missing = [name for name, parameter in space if parameter.when is None and name not in values]
    if missing:
        raise SpaceError(f"every parameter must be given, missing {missing}")
    point = _unconditional(space, values, within=within)
    for name in space.conditions.order:
        if not space.conditions.is_met(name, point):
            if name in values and not _is_blank(values[name]):
                raise inactive(space, name, point)
        elif name not in values and name not in defaults:
            raise SpaceError(f"parameter {name!r} must be given, as it is active when {space[name].when}")
        else:
            value = values[name] if name in values else defaults[name]
            point[name] = _checked(space, name, value, within=within)
    return _in_order(space, point)


def part_of_point(space: "Space", values: Mapping[str, Any]) -> "Params":
    """Some parameters of a point in canonical form, with the parents that they need.

    A parent that is not given and has one value that activates a given parameter is added with this value.

    Raises:
        SpaceError: a parameter is unknown, out of range, of the wrong type or inactive; or it needs a parent
            with one of several values, which is not given; or no point with the values meets the constraints.
    """
    order, given = space.conditions.order, dict(values)
    for name in reversed(order):
        if name in given and _is_blank(given[name]) and not _has_none(space, name):
            del given[name]
        for parent in space.conditions.accepted[name] if name in given else ():
            if parent not in given:
                only = space.conditions.only_value(name, parent)
                if not only:
                    when = space[name].when
                    raise SpaceError(f"{parent!r} must be given with {name!r}, which is active when {when}")
                given[parent] = only[0]
    point = _unconditional(space, given, within=True)
    for name in order:
        if name not in given:
            continue
        if space.conditions.is_met(name, point):
            point[name] = _checked(space, name, given[name], within=True)
        elif not _is_blank(given[name]):
            raise inactive(space, name, point)
    some = _in_order(space, point)
    if space.constraints and some:
        space.with_fixed(some)
        if space.conditions.complete(some):
            space.constraints.check_point(some)
    return some


def inactive(space: "Space", name: str, point: Mapping[str, Any]) -> SpaceError:
    """The error for a parameter that is given but not active in a point."""
    parents = [
        f"{parent}={described(point[parent], 100)}" if parent in point else f"{parent} inactive"
        for parent in space.conditions.accepted[name]
    ]
    return SpaceError(f"{name!r} is only active when {space[name].when}, got {', '.join(parents)}")


def _unconditional(space: "Space", values: Mapping[str, Any], *, within: bool) -> "Params":
    """The given parameters that are always active, in canonical form and in order."""
    unknown = [name for name in values if name not in space]
    if unknown:
        raise SpaceError(f"parameters must be among {list(space.names)}, got unknown {described(unknown)}")
    return {
        name: _checked(space, name, values[name], within=within)
        for name, parameter in space
        if parameter.when is None and name in values
    }


def _checked(space: "Space", name: str, value: object, *, within: bool) -> Any:
    try:
        return space[name].check(value) if within else space[name].accept(value)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error


def _in_order(space: "Space", point: "Params") -> "Params":
    return {name: point[name] for name in space.names if name in point} if space.conditions.order else point


def _is_blank(value: object) -> bool:
    """Whether a value is that of an empty cell of a table."""
    scalar = python_scalar(value)
    return scalar is None or (isinstance(scalar, float) and math.isnan(scalar))


def _has_none(space: "Space", name: str) -> bool:
    """Whether None is an option of a parameter."""
    parameter = space[name]
    return isinstance(parameter, Choice) and None in parameter.options
