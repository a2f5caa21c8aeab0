"""Values as people write them: scalars of NumPy, torch and pandas as Python's own, flags, and rows."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bo_suite.errors import BoSuiteError, SpaceError
from bo_suite.values.describe import described

_FRACTION_BITS = {"float32": 23, "bfloat16": 7, "float16": 10}
"""Of the types of numbers that are coarser than Python's float."""


def python_scalar(value: object) -> Any:
    """The Python scalar that a NumPy scalar, or an array or tensor without dimensions, holds.

    Whatever holds no bool, int, float or str is returned as it is.
    """
    with suppress(Exception):  # whatever an object of a user raises
        kind = getattr(value, "dtype", None)
        if kind is None or getattr(value, "ndim", None) != 0 or isinstance(value, np.ma.MaskedArray):
            return value
        if getattr(kind, "kind", "") in "mM" and isinstance(
            kind, np.dtype
        ):  # nanoseconds are given as an int
            return value
        scalar = value.item()  # type: ignore[attr-defined]
        if type(scalar) in (bool, int, float, str):
            return scalar
    return value


def at_bound(value: object, number: float, low: float, high: float) -> float:
    """The bound where a number lies beyond it by rounding alone; any other number as it is.

    By rounding alone: in a type that is coarser than float64, by at most one unit in the last place beyond
    what the bound is there; in Python's own, because it is the bound in float32.

    Args:
        value: as it was given.
        number: the value as a float.
        low: smallest number allowed.
        high: largest number allowed.
    """
    if low <= number <= high:
        return number
    bound = low if number < low else high
    bits = _FRACTION_BITS.get(_type_of(value))
    if bits is not None and bound and abs(number - bound) <= math.ldexp(1.5, math.frexp(bound)[1] - 1 - bits):
        return bound
    with np.errstate(over="ignore"):
        return bound if number == float(np.float32(bound)) else number


def rounded_like(value: object) -> Callable[[float], float] | None:
    """What rounds a number as the type of a value does; None where that is no coarser than float64."""
    bits = _FRACTION_BITS.get(_type_of(value))
    if bits is None:
        return None

    def rounded(number: float) -> float:
        fraction, exponent = math.frexp(number)
        return math.ldexp(round(math.ldexp(fraction, bits + 1)), exponent - bits - 1)

    return rounded


def _type_of(value: object) -> str:
    """The name of the type of the numbers in an array, a tensor or a scalar of one."""
    with suppress(Exception):  # whatever an object of a user raises
        return str(getattr(value, "dtype", "")).rpartition(".")[2]
    return ""


def flag(name: str, value: object, error: type[BoSuiteError] = SpaceError) -> bool:
    """The value as a bool: True and False, also those of NumPy and torch, and no others.

    Args:
        name: of the flag.
        value: as it was given.
        error: what is raised.

    Raises:
        SpaceError: any other value, such as "no" or 1; or the error that is given.
    """
    scalar = python_scalar(value)
    if not isinstance(scalar, bool):
        raise error(f"{name} must be True or False, got {described(value, 100)}")
    return scalar


def check_flags(owner: Any, *names: str, error: type[BoSuiteError] = SpaceError) -> None:
    """Makes fields of a frozen dataclass bools; raises as `flag` does."""
    for name in names:
        object.__setattr__(owner, name, flag(name, getattr(owner, name), error))


@runtime_checkable
class _Row(Protocol):
    """What a dict can be made of, such as a row of a pandas frame."""

    def keys(self) -> Any: ...

    def __getitem__(self, name: Any, /) -> Any: ...


def named_values(params: object) -> Mapping[Any, Any]:
    """A point as a mapping.

    Raises:
        SpaceError: it has no names.
    """
    if isinstance(params, Mapping):
        return params
    if isinstance(params, _Row) and not isinstance(params, type):
        with suppress(Exception):  # whatever an object of a user raises
            return {name: params[name] for name in params.keys()}  # noqa: SIM118
    raise SpaceError(f"a point must be a dict of parameters, got {described(params)}")
