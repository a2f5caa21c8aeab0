"""Another library's search space in terms of ours: one value in, the same value out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Choice, Int, Parameter, Value
from bo_suite.space.space import Params, Space
from bo_suite.values.describe import described


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

    Integers where low and step are integers, and otherwise the floats nearest to the decimal sums: three
    steps of 0.1 are 0.3. A value may miss its step by what a float rounds off.

    Raises:
        SpaceError: more than 2**53 values.
    """
    parameter = Int(0, count - 1)
    first, pace = Decimal(str(low)), Decimal(str(step))
    largest = max(abs(low), abs(low + (count - 1) * step))
    tolerance = Decimal(max(1e-6 * float(step), math.ulp(float(largest))))
    whole = isinstance(low, int) and isinstance(step, int)

    def place(value: Any) -> int:
        if not isinstance(value, int | float | Real):
            raise SpaceError(f"the value must be a number, got {described(value)}")
        exact = Decimal(value) if isinstance(value, int) else Decimal(float(value))
        number: int = int(((exact - first) / pace).to_integral_value())
        if abs(first + number * pace - exact) > tolerance:
            raise SpaceError(f"the value must be {low} and a multiple of {step}, got {described(value)}")
        return number

    def value_at(number: int) -> float:
        return low + number * step if whole else float(first + number * pace)

    return Dimension(parameter, value_at, place)


def listed(options: Sequence[Any], ordered: bool = False) -> Dimension:
    """One of any objects, each given back as it is.

    They are known by the values that they are equal to where a Choice can hold these, and by their places
    otherwise; so are NumPy's integers, as in earlier versions. A value is that option which it is, or else
    equals in its type, or else equals: True, 1 and 1.0 are told apart where all three are options. NaN is
    NaN, and what JSON makes a list of may have been a tuple.
    """
    known = list(options)
    choice = _choice(known, ordered)
    if choice is not None and all(type(a) is type(b) for a, b in zip(choice.options, known, strict=True)):
        return Dimension(choice)
    if choice is not None:
        return Dimension(choice, lambda value: known[choice.index(value)])
    identical: dict[int, int] = {id(option): place for place, option in reversed(list(enumerate(known)))}
    alike: dict[Any, int] = {}
    for typed in (False, True):
        for place, option in enumerate(known):
            with suppress(Exception):  # an object that cannot be hashed, or does not want to be
                alike.setdefault(_key(option, typed), place)

    def place_of(value: Any) -> int:
        if id(value) in identical:
            return identical[id(value)]
        for typed in (True, False):
            with suppress(Exception):
                place: int = alike[_key(value, typed)]
                return place
        for place, option in enumerate(known):
            with suppress(Exception):  # whatever a comparison raises
                if type(option) is type(value) and option == value:
                    return place
        raise SpaceError(f"the value must be one of {described(known)}, got {described(value)}")

    return Dimension(Choice(tuple(range(len(known))), ordered), lambda number: known[number], place_of)


def _choice(options: list[Any], ordered: bool) -> Choice | None:
    if all(option is None or isinstance(option, str | bool | int | float) for option in options):
        with suppress(SpaceError):
            return Choice(tuple(options), ordered)
    return None


_NAN = object()


def _key(value: Any, typed: bool) -> Any:
    """What two values have in common that count as the same, with their types or without."""
    content = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(content, list | tuple):
        content = (tuple, *(_key(item, typed) for item in content))
    elif isinstance(content, Mapping):  # an empty dict in it is lost where results are flat
        items = {str(key): item for key, item in content.items() if typed or not _is_empty(item)}
        content = (dict, frozenset((key, _key(item, typed)) for key, item in items.items()))
    elif isinstance(content, Real) and content != content:
        content = _NAN
    return (_NAN, type(value), content) if typed else content


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value


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
        return self.space.check(self._values(point))

    def start(self, point: Mapping[str, Any]) -> Params:
        """Our values of what a point to start from gives, which may be a part of one.

        Raises:
            SpaceError: no dict, an unknown name, a constant that differs, or a value that is not searched.
        """
        if not isinstance(point, Mapping):
            raise SpaceError(f"a point to start from must be a dict of parameters, got {described(point)}")
        unknown = [name for name in point if name not in self.dimensions and name not in self.constants]
        if unknown:
            law = f"a point to start from has parameters of {list(self.dimensions)}"
            raise SpaceError(f"{law}, got {described(unknown)}")
        for name, constant in self.constants.items():
            if name in point:
                with _naming(name):
                    only = listed([constant])
                    only.parameter.check(only.ours(point[name]))
        found = self._values(point)
        for name, value in found.items():
            with _naming(name):
                found[name] = self.dimensions[name].parameter.check(value)
        return found

    def _values(self, point: Mapping[str, Any]) -> Params:
        found: Params = {}
        for name, dimension in self.dimensions.items():
            if name in point:
                with _naming(name):
                    found[name] = dimension.ours(point[name])
        return found


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """What is wrong with a value becomes a SpaceError that names its parameter."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError) as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error
