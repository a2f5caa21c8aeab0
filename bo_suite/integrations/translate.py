"""Another library's search space in terms of ours: one value in, the same value out."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bo_suite.describe import described
from bo_suite.errors import SpaceError
from bo_suite.parameters import Choice, Int, Parameter, Value
from bo_suite.space import Params, Space


def same(value: Any) -> Any:
    """The value."""
    return value


@dataclass(frozen=True)
class Dimension:
    """One dimension of another library's space.

    Attributes:
        parameter: what is searched instead.
        theirs: their value of one of ours.
        ours: our value of one of theirs; a SpaceError or another ValueError where there is none.
    """

    parameter: Parameter
    theirs: Callable[[Any], Any] = same
    ours: Callable[[Any], Value] = same


def stepped(low: float, step: float, count: int) -> Dimension:
    """The values low + i step with i = 0 ... count - 1, for count >= 2; others are not taken.

    Integers where low and step are integers, and otherwise floats without the rounding errors of the sum:
    three steps of 0.1 are 0.3.
    """
    largest = max(abs(low), abs(low + (count - 1) * step))
    decimals = 14 - math.floor(math.log10(largest))

    def place(value: Any) -> int:
        number: int = round((value - low) / step)
        if abs(low + number * step - value) > 1e-6 * step:
            raise SpaceError(f"the value must be {low} and a multiple of {step}, got {described(value)}")
        return number

    def value_at(number: int) -> float:
        value = low + number * step
        return value if isinstance(value, int) else round(value, decimals)

    return Dimension(Int(0, count - 1), value_at, place)


def listed(options: Sequence[Any], ordered: bool = False) -> Dimension:
    """One of any objects, each given back as it is.

    They are known by the values that they are equal to where a Choice can hold these, and by their places
    otherwise; so are NumPy's integers, as in earlier versions.
    """
    known = list(options)
    choice = _choice(known, ordered)
    if choice is not None and all(type(a) is type(b) for a, b in zip(choice.options, known, strict=True)):
        return Dimension(choice)
    if choice is not None:
        return Dimension(choice, lambda value: known[choice.index(value)])

    def place(value: Any) -> int:
        for number, option in enumerate(known):
            if option is value or (type(option) is type(value) and bool(option == value)):
                return number
        raise SpaceError(f"the value must be one of {described(known)}, got {described(value)}")

    return Dimension(Choice(tuple(range(len(known))), ordered), lambda number: known[number], place)


def _choice(options: list[Any], ordered: bool) -> Choice | None:
    if all(option is None or isinstance(option, str | bool | int | float) for option in options):
        with suppress(SpaceError):
            return Choice(tuple(options), ordered)
    return None


@dataclass(frozen=True)
class Translation:
    """A space of another library: its dimensions by name, and what is always the same.

    Attributes:
        dimensions: those that are searched.
        constants: values that points of theirs have beside them.
    """

    dimensions: Mapping[str, Dimension]
    constants: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def space(self) -> Space:
        """What is searched.

        Raises:
            SpaceError: no dimensions.
        """
        return Space({name: dimension.parameter for name, dimension in self.dimensions.items()})

    def theirs(self, params: Params) -> dict[str, Any]:
        """Their point, of one of ours."""
        found = {name: dimension.theirs(params[name]) for name, dimension in self.dimensions.items()}
        return {**self.constants, **found}

    def ours(self, point: Mapping[str, Any]) -> Params:
        """Our point, of one of theirs; what it has beside the dimensions is left out.

        Raises:
            SpaceError: a dimension missing, or a value that is not among those searched.
        """
        missing = [name for name in self.dimensions if name not in point]
        if missing:
            raise SpaceError(f"every parameter must be given, missing {missing}")
        found: Params = {}
        for name, dimension in self.dimensions.items():
            try:
                found[name] = dimension.ours(point[name])
            except (TypeError, ValueError, OverflowError) as error:
                raise SpaceError(f"parameter {name!r}: {error}") from error
        return self.space.check(found)
