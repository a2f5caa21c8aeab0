"""Translation of another library's search space: a value that goes in comes out the same."""

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
from bo_suite.space.constraints import Constraints
from bo_suite.space.parameters import Choice, Int, Parameter, Value
from bo_suite.space.space import Params, Space
from bo_suite.values.describe import described


def same(value: Any) -> Any:
    """Return the value."""
    return value


@dataclass(frozen=True)
class Dimension:
    """One dimension of another library's space.

    Attributes:
        parameter: the parameter that is searched.
        theirs: from a value of the parameter to a value of the other library.
        ours: the inverse; raises a SpaceError or another ValueError for a value out of range.
    """

    parameter: Parameter
    theirs: Callable[[Any], Any] = same
    ours: Callable[[Any], Value] = same


def stepped(low: float, step: float, count: int) -> Dimension:
    """Return a dimension of the values low + i step with i = 0 ... count - 1, for count >= 2.

    The values are integers if low and step are, or else the floats nearest to the decimal sums: three steps
    of 0.1 are 0.3. A value may differ from its step by rounding.

    Raises:
        SpaceError: there are more than 2**53 values.
    """
    parameter = Int(0, count - 1)
    first, pace = Decimal(str(low)), Decimal(str(step))
    largest = max(abs(low), abs(low + (count - 1) * step))
    tolerance = Decimal(max(1e-6 * float(step), math.ulp(float(largest))))
    whole = isinstance(low, int) and isinstance(step, int)

    def index_of(value: Any) -> int:
        if not isinstance(value, int | float | Real):
            raise SpaceError(f"the value must be a number, got {described(value)}")
        exact = Decimal(value) if isinstance(value, int) else Decimal(float(value))
        number: int = int(((exact - first) / pace).to_integral_value())
        if abs(first + number * pace - exact) > tolerance:
            raise SpaceError(f"the value must be {low} and a multiple of {step}, got {described(value)}")
        return number

    def value_at(number: int) -> float:
        return low + number * step if whole else float(first + number * pace)

    return Dimension(parameter, value_at, index_of)


def listed(options: Sequence[Any], ordered: bool = False) -> Dimension:
    """Return a dimension of any objects, which come out as they went in.

    The parameter is a Choice of the options if it can hold them, as values equal to NumPy's scalars, or else
    of their indices. A value matches the option that is the same object, or else one that is equal and of its
    type, or else one that is equal: True, 1 and 1.0 differ if all three are options. NaN equals NaN, and a
    list equals a tuple, because JSON turns tuples into lists.
    """
    objects = list(options)
    choice = _choice(objects, ordered)
    if choice is not None and all(type(a) is type(b) for a, b in zip(choice.options, objects, strict=True)):
        return Dimension(choice)
    if choice is not None:
        return Dimension(choice, lambda value: objects[choice.index(value)])
    identical: dict[int, int] = {id(option): index for index, option in reversed(list(enumerate(objects)))}
    alike: dict[Any, int] = {}
    for typed in (False, True):
        for index, option in enumerate(objects):
            with suppress(Exception):  # hashing an object may raise anything
                alike.setdefault(_key(option, typed), index)

    def index_of(value: Any) -> int:
        if id(value) in identical:
            return identical[id(value)]
        for typed in (True, False):
            with suppress(Exception):
                index: int = alike[_key(value, typed)]
                return index
        for index, option in enumerate(objects):
            with suppress(Exception):  # comparing objects may raise anything
                if type(option) is type(value) and option == value:
                    return index
        raise SpaceError(f"the value must be one of {described(objects)}, got {described(value)}")

    return Dimension(Choice(tuple(range(len(objects))), ordered), lambda index: objects[index], index_of)


def _choice(options: list[Any], ordered: bool) -> Choice | None:
    if all(option is None or isinstance(option, str | bool | int | float) for option in options):
        with suppress(SpaceError):
            return Choice(tuple(options), ordered)
    return None


_NAN = object()


def _key(value: Any, typed: bool) -> Any:
    """Return a key that is equal for values that count as the same, with or without their types."""
    content = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(content, list | tuple):
        content = (tuple, *(_key(item, typed) for item in content))
    elif isinstance(content, Mapping):  # flat results lose empty dicts
        items = {str(key): item for key, item in content.items() if typed or not _is_empty(item)}
        content = (dict, frozenset((key, _key(item, typed)) for key, item in items.items()))
    elif isinstance(content, Real) and content != content:
        content = _NAN
    return (_NAN, type(value), content) if typed else content


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not value


@dataclass(frozen=True)
class Translation:
    """A space of another library.

    Attributes:
        dimensions: searched dimensions by name, those that choose a branch before those of the branch.
        constants: values that are the same in all points.
        branches: for each dimension that chooses a branch, and is no parameter of the other library, the
            constants of each branch.
        names: the other library's names of dimensions that have another one here.
        constraints: rules that all points obey, as those of a Space.
    """

    dimensions: Mapping[str, Dimension]
    constants: Mapping[str, Any] = field(default_factory=dict)
    branches: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    constraints: Sequence[Any] | Constraints = ()

    @cached_property
    def space(self) -> Space:
        """The space that is searched.

        Raises:
            SpaceError: there are no dimensions.
        """
        parameters = {name: dimension.parameter for name, dimension in self.dimensions.items()}
        return Space(parameters, self.constraints)

    def theirs(self, params: Params) -> dict[str, Any]:
        """Translate a point into the other library's values."""
        values = dict(self.constants)
        for name, value in params.items():
            if name in self.branches:
                values |= self.branches[name][value]
            else:
                values[self.name(name)] = self.dimensions[name].theirs(value)
        return values

    def name(self, name: str) -> str:
        """The other library's name of a dimension."""
        return self.names.get(name, name)

    def ours(self, point: Mapping[str, Any]) -> Params:
        """Translate a point of the other library; names that are not searched or not active are ignored.

        Raises:
            SpaceError: an active dimension is missing, or a value is out of range.
        """
        return self.space.check(self.active(self._values(point, whole=True)))

    def active(self, params: Params) -> Params:
        """The given parameters that are active given the others; those without their parents are not."""
        conditions, active = self.space.conditions, dict(params)
        for name in conditions.order:
            if name in active and not conditions.is_met(name, active):
                del active[name]
        return active

    def start(self, point: Mapping[str, Any]) -> Params:
        """Translate a point to start from, which may lack some parameters.

        Raises:
            SpaceError: it is no dict, or has an unknown name, a wrong constant, a value out of range or an
                inactive parameter.
        """
        if not isinstance(point, Mapping):
            raise SpaceError(f"a point to start from must be a dict of parameters, got {described(point)}")
        unknown = [name for name in point if name not in self.all_names]
        if unknown:
            law = f"a point to start from must have parameters of {list(self.all_names)}"
            raise SpaceError(f"{law}, got {described(unknown)}")
        for name, constant in self.constants.items():
            if name in point:
                with _naming(name):
                    _check_constant(constant, point[name])
        return self.space.check_some(self._values(point, whole=False))

    @cached_property
    def all_names(self) -> tuple[str, ...]:
        """The other library's names of all parameters and constants."""
        names = [self.name(name) for name in self.dimensions if name not in self.branches]
        inner = [name for options in self.branches.values() for option in options for name in option]
        return tuple(dict.fromkeys((*names, *self.constants, *inner)))

    def _values(self, point: Mapping[str, Any], *, whole: bool) -> Params:
        """The values of a point that belong to dimensions, but for those of other branches than its own."""
        params: Params = {}
        for name, dimension in self.dimensions.items():
            if name in self.branches:
                index = self._branch(name, point, whole) if self._is_in_branch(name, params) else None
                params |= {} if index is None else {name: index}
            elif self.name(name) in point and self._is_in_branch(name, params):
                with _naming(self.name(name)):
                    params[name] = dimension.parameter.check(dimension.ours(point[self.name(name)]))
        return params

    def _is_in_branch(self, name: str, params: Params) -> bool:
        """Whether a dimension is in the chosen branches."""
        when = self.dimensions[name].parameter.when or {}
        return all(params.get(one) in when[one] for one in when if one in self.branches)

    def _branch(self, name: str, point: Mapping[str, Any], whole: bool) -> int | None:
        """The branch that a point is in: the one that has its names and values, and the fewest others.

        None if it could be any; a whole point without a name of them is in the one that has none.
        """
        inner = [self._inside(name, index) for index in range(len(self.branches[name]))]
        given = {one for one in point if any(one in names for names in inner)}
        if not given and not whole:
            return None
        fitting = [
            (len(names - given), index)
            for index, names in enumerate(inner)
            if given <= names and self._fits(name, index, point)
        ]
        if not fitting:
            values = {one: point[one] for one in point if one in given}
            raise SpaceError(f"parameters must be those of one branch, got {described(values, 200)}")
        return min(fitting)[1]

    def _inside(self, name: str, index: int) -> set[str]:
        """The other library's names in a branch."""
        names = set(self.branches[name][index])
        for inner, dimension in self.dimensions.items():
            if index in (dimension.parameter.when or {}).get(name, ()):
                options = range(len(self.branches.get(inner, ())))
                names |= set().union(*(self._inside(inner, one) for one in options))
                names |= set() if inner in self.branches else {self.name(inner)}
        return names

    def _fits(self, name: str, index: int, point: Mapping[str, Any]) -> bool:
        """Whether a branch has the values of a point that are directly in it."""
        try:
            for constant, value in self.branches[name][index].items():
                if constant in point:
                    _check_constant(value, point[constant])
            for inner, dimension in self.dimensions.items():
                within = index in (dimension.parameter.when or {}).get(name, ())
                if within and inner not in self.branches and self.name(inner) in point:
                    dimension.parameter.check(dimension.ours(point[self.name(inner)]))
        except (TypeError, ValueError, ArithmeticError):
            return False
        return True


def _check_constant(constant: Any, value: Any) -> None:
    """Raises a SpaceError unless the value is the constant."""
    only = listed([constant])
    only.parameter.check(only.ours(value))


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn an error about a value into a SpaceError that names its parameter."""
    try:
        yield
    except (TypeError, ValueError, ArithmeticError) as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error
