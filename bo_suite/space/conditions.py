"""Which parameters of a space are active: their conditions, checked, and what follows from them.

A parameter is active if all its parents are and each has a position that it accepts. So it is active exactly
if each of its ancestors has a position in the intersection of what its descendants on the way accept of it:
what can be active at all is known without a search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Parameter, Value
from bo_suite.space.when import Accepted, Interval, When
from bo_suite.values.describe import described

if TYPE_CHECKING:
    from bo_suite.data import Condition

Positions = tuple[tuple[float, float], ...]
"""Closed intervals of positions."""

_ROUNDING = 1e-14
"""Largest difference of positions that counts as rounding; levels and decoded values are farther apart."""

_WIDTH = 1e-12
"""Smallest width of an interval of a continuous parameter, in positions."""


def with_checked_conditions(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with each value in a condition as its parent has it.

    Raises:
        SpaceError: a parent is unknown, the parameter itself or a fidelity, or cannot have the value; or the
            conditions form a cycle, or cannot hold together.
    """
    if all(parameter.when is None for parameter in parameters.values()):
        return dict(parameters)
    checked = {
        name: parameter if parameter.when is None else _with_checked_condition(name, parameter, parameters)
        for name, parameter in parameters.items()
    }
    try:
        conditions = Conditions(checked)
        impossible = [name for name in conditions.order if not conditions.is_possible(name, fixed=False)]
    except CycleError as error:
        cycle = " -> ".join(map(repr, error.args[1]))
        raise SpaceError(f"conditions must not form a cycle, got {cycle}") from None
    if impossible:
        raise SpaceError(
            f"each parameter must be active in some point, got {impossible[0]!r}, whose condition "
            f"({checked[impossible[0]].when}) and those of its parents hold together in none"
        )
    return checked


def _with_checked_condition(name: str, parameter: Any, parameters: Mapping[str, Any]) -> Any:
    if isinstance(parameter, Fixed):
        original = _with_checked_condition(name, parameter.parameter, parameters)
        return replace(parameter, parameter=original)
    when = tuple(
        (parent, _checked_parent(name, parent, accepted, parameters))
        for parent, accepted in When.of(parameter.when).parents
    )
    return replace(parameter, when=When(when))


def _checked_parent(name: str, parent: str, accepted: Accepted, parameters: Mapping[str, Any]) -> Accepted:
    """What a condition accepts of a parent, in canonical values."""
    whose = f"the condition of {name!r}"
    if parent == name:
        raise SpaceError(f"{whose} must be on another parameter, got itself")
    if parent not in parameters:
        others = described([other for other in parameters if other != name])
        raise SpaceError(f"{whose} must be on parameters among {others}, got unknown {described(parent)}")
    parameter = _original(parameters[parent])
    if not isinstance(parameter, Choice) and parameter.fidelity:
        raise SpaceError(
            f"{whose} must not be on a fidelity, as a point is the same at all fidelities, got {parent!r}"
        )
    if isinstance(accepted, Interval):
        return _checked_interval(name, parent, accepted, parameter)
    if isinstance(parameter, Float) and parameter.levels is None:
        raise SpaceError(
            f"{whose} on {parent!r}, a continuous Float, must be an interval (low, high), "
            f"got {described(list(accepted))}"
        )
    try:
        retired = isinstance(parameter, Choice) and parameter.retired
        values = tuple(parameter.accept(one) if retired else parameter.check(one) for one in accepted)
    except SpaceError as error:
        raise SpaceError(f"{whose} on {parent!r}: {error}") from error
    return tuple(dict.fromkeys(values))


def _checked_interval(name: str, parent: str, interval: Interval, parameter: Parameter) -> Interval:
    if isinstance(parameter, Choice):
        raise SpaceError(
            f"the condition of {name!r} on {parent!r}, a Choice, must be a value or a list of values, "
            f"got the pair {tuple(interval)}"
        )
    if not _has_value(parameter, positions_of(parameter, interval)):
        some = "an interval of its values" if parameter.levels is None else "a value"
        raise SpaceError(
            f"the condition of {name!r} must hold for {some} of {parent!r}, from {parameter.low} to "
            f"{parameter.high}, got {tuple(interval)}"
        )
    return interval


def _original(parameter: Any) -> Parameter:
    """The parameter itself, fixed or not."""
    original: Parameter = parameter.parameter if isinstance(parameter, Fixed) else parameter
    return original


def positions_of(parameter: Parameter, accepted: Accepted) -> Positions:
    """Positions of the values that a condition accepts of a parameter, with room for rounding."""
    if isinstance(accepted, Interval):
        ends = [(_position(parameter, accepted.low), _position(parameter, accepted.high))]
    else:
        places = sorted({parameter.encode(value) for value in accepted})  # type: ignore[arg-type]
        ends = [(place, place) for place in places]
    return tuple((low - _ROUNDING, high + _ROUNDING) for low, high in ends)


def _position(parameter: Parameter, number: float) -> float:
    """Position of a number, in the range or not."""
    assert not isinstance(parameter, Choice), "an interval is of numbers"
    if parameter.log and number <= 0.0:
        return -np.inf
    return float(parameter.encode(number))  # type: ignore[arg-type]


def levels_in(parameter: Parameter | Fixed, low: float, high: float) -> range:
    """The levels of a discrete parameter whose positions are in an interval."""
    if parameter.levels == 1:
        place = parameter.encode(parameter.value) if isinstance(parameter, Fixed) else 0.0
        return range(low <= place <= high)

    def position(level: int) -> float:
        return float(parameter.position(np.asarray(float(level))))

    first, last = (
        int(parameter.level(np.asarray(end))) for end in (min(max(low, 0.0), 1.0), max(min(high, 1.0), 0.0))
    )
    return range(first + (position(first) < low), last + (position(last) <= high))


def _has_value(parameter: Parameter | Fixed, positions: Positions) -> bool:
    """Whether a parameter has a value, or a continuous one an interval of values, in some positions."""
    if parameter.levels is None:
        return any(min(high, 1.0) - max(low, 0.0) > _WIDTH for low, high in positions)
    return any(len(levels_in(parameter, low, high)) > 0 for low, high in positions)


@dataclass(frozen=True, eq=False)
class Conditions:
    """When which parameters of a space are active.

    Attributes:
        parameters: of the space by name, in order.
    """

    parameters: Mapping[str, Any]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The conditional parameters, parents first; raises CycleError if there is a cycle."""
        parents = {name: list(p.when) for name, p in self.parameters.items() if p.when is not None}
        return tuple(name for name in TopologicalSorter(parents).static_order() if name in parents)

    @cached_property
    def accepted(self) -> dict[str, dict[str, Positions]]:
        """Positions that each conditional parameter accepts of its parents."""
        return {
            name: {
                parent: positions_of(_original(self.parameters[parent]), accepted)
                for parent, accepted in self.parameters[name].when.parents
            }
            for name in self.order
        }

    @cached_property
    def needed(self) -> dict[str, dict[str, Positions]]:
        """Positions of its ancestors with which each conditional parameter is active."""
        needed: dict[str, dict[str, Positions]] = {}
        for name in self.order:
            needed[name] = {}
            for parent, positions in self.accepted[name].items():
                _restrict(needed[name], {parent: positions})
                _restrict(needed[name], needed.get(parent, {}))
        return needed

    @cached_property
    def children(self) -> dict[str, list[str]]:
        """The parameters whose conditions are on each parent."""
        children: dict[str, list[str]] = {}
        for name in self.order:
            for parent in self.accepted[name]:
                children.setdefault(parent, []).append(name)
        return children

    def is_possible(self, name: str, *, fixed: bool = True) -> bool:
        """Whether a parameter is active in some point; with `fixed` in one with the fixed values."""
        return all(
            _has_value(self.parameters[one] if fixed else _original(self.parameters[one]), positions)
            for one, positions in self.needed.get(name, {}).items()
        )

    def is_met(self, name: str, point: Mapping[str, Any]) -> bool:
        """Whether a parameter is active in a point, which has those parents alone that are active."""
        return all(
            parent in point and self._accepts(name, parent, point[parent]) for parent in self.accepted[name]
        )

    def complete(self, some: Mapping[str, Any]) -> bool:
        """Whether some parameters of a point, with the parents that they need, are all that is active."""
        return all(
            name in some or (name in self.accepted and not self.is_met(name, some))
            for name in self.parameters
        )

    def _accepts(self, name: str, parent: str, value: Any) -> bool:
        place = _original(self.parameters[parent]).encode(value)
        return any(low <= place <= high for low, high in self.accepted[name][parent])

    def only_value(self, name: str, parent: str) -> tuple[Value, ...]:
        """The value of a parent with which a parameter is active, if there is one alone; else none."""
        parameter = _original(self.parameters[parent])
        if parameter.levels is None:
            return ()
        levels = [levels_in(parameter, low, high) for low, high in self.accepted[name][parent]]
        if sum(map(len, levels)) != 1:
            return ()
        (level,) = (level for some in levels for level in some)
        return (parameter.decode(float(parameter.position(np.asarray(float(level))))),)

    @cached_property
    def simplified(self) -> dict[str, When]:
        """The conditions without the parents that have one value: instead of these, what they need.

        A parameter that is always active has none.
        """
        simplified: dict[str, When] = {}
        for name in self.order:
            merged: dict[str, Accepted] = {}
            for parent, accepted in self.parameters[name].when.parents:
                single = not varies(_original(self.parameters[parent]))
                inner = dict(simplified.get(parent, {})) if single else {parent: accepted}
                merged |= {one: _both(what, merged.get(one)) for one, what in inner.items()}
            if merged:
                simplified[name] = When(tuple(merged.items()))
        return simplified

    def kept(self, names: Sequence[str]) -> dict[str, Any]:
        """Some parameters, among them all that have several values, with their simplified conditions."""
        kept = {name: self.parameters[name] for name in names}
        when = self.simplified
        return {name: p if p.when is None else replace(p, when=when.get(name)) for name, p in kept.items()}

    def without_retired(self) -> dict[str, Any]:
        """The parameters without their retired options, in conditions too."""
        current: dict[str, Any] = {
            name: p.current if isinstance(p, Choice) else p for name, p in self.parameters.items()
        }
        for name in self.order:
            when = {
                parent: accepted
                if isinstance(accepted, Interval) or not isinstance(current[parent], Choice)
                else tuple(value for value in accepted if value in current[parent].options)
                for parent, accepted in current[name].when.parents
            }
            current[name] = replace(current[name], when=When(tuple(when.items())))
        return current

    def columns(self) -> "tuple[Condition, ...]":
        """The conditions of the columns of rows; imports torch."""
        from bo_suite.data import Condition

        column = {name: index for index, name in enumerate(self.parameters)}
        return tuple(
            Condition(
                column[name],
                tuple(
                    (column[parent], positions_of(_original(self.parameters[parent]), accepted))
                    for parent, accepted in when.parents
                ),
            )
            for name, when in self.simplified.items()
        )


def varies(parameter: Parameter | Fixed) -> bool:
    """Whether trials may have different values of a parameter."""
    return parameter.levels != 1 or (isinstance(parameter, Choice) and bool(parameter.retired))


def _both(one: Accepted, other: Accepted | None) -> Accepted:
    """What two conditions accept of the same parameter."""
    if other is None:
        return one
    if isinstance(one, Interval) and isinstance(other, Interval):
        return Interval(max(one.low, other.low), min(one.high, other.high))
    if isinstance(one, Interval):
        one, other = other, one
    if isinstance(other, Interval):
        return tuple(value for value in one if other.low <= value <= other.high)  # type: ignore[operator]
    return tuple(value for value in one if value in other)


def _restrict(needed: dict[str, Positions], more: Mapping[str, Positions]) -> None:
    """Adds what else is needed of parameters."""
    for name, positions in more.items():
        if name not in needed:
            needed[name] = positions
            continue
        pairs = [(max(a, c), min(b, d)) for a, b in needed[name] for c, d in positions]
        needed[name] = tuple(sorted({(low, high) for low, high in pairs if low <= high}))
