"""Python scalars, flags and points from values of NumPy, torch and pandas; imports none of them."""

import math
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from bo_suite.errors import BoSuiteError, SpaceError
from bo_suite.values.describe import described

_FRACTION_BITS = {"float32": 23, "bfloat16": 7, "float16": 10}
"""Bits after the leading one, of number types that are coarser than Python's float."""


def python_scalar(value: object) -> Any:
    """The Python scalar in a NumPy scalar, or in an array or tensor without dimensions.

    A value that does not contain a bool, int, float or str is returned unchanged.
    """
    with suppress(Exception):  # a user's object may raise anything
        kind = getattr(value, "dtype", None)
        if kind is None or getattr(value, "ndim", None) != 0 or _is_masked(value):
            return value
        if getattr(kind, "kind", None) in ("m", "M"):  # a time, which NumPy returns as an int of nanoseconds
            return value
        scalar = value.item()  # type: ignore[attr-defined]
        if type(scalar) in (bool, int, float, str):
            return scalar
    return value


def _is_masked(value: object) -> bool:
    numpy = sys.modules.get("numpy")  # if it is not loaded, no value is an array of it
    return numpy is not None and isinstance(value, numpy.ma.MaskedArray)


def at_bound(value: object, number: float, low: float, high: float) -> float:
    """The nearest bound if a number exceeds it by rounding alone; any other number unchanged.

    By rounding alone: in a type coarser than float64, by at most one unit in the last place beyond the bound
    in that type; in a Python float, if the number is the bound rounded to float32.

    Args:
        value: the value as it was passed.
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
    return bound if number == _float32(bound) else number


def _float32(number: float) -> float:
    """The number rounded to float32."""
    try:
        rounded: float = struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)
    return rounded


def rounded_like(value: object) -> Callable[[float], float] | None:
    """A function that rounds a number to the type of a value; None if that is not coarser than float64."""
    bits = _FRACTION_BITS.get(_type_of(value))
    if bits is None:
        return None

    def rounded(number: float) -> float:
        fraction, exponent = math.frexp(number)
        return math.ldexp(round(math.ldexp(fraction, bits + 1)), exponent - bits - 1)

    return rounded


def _type_of(value: object) -> str:
    """The name of the number type of an array, a tensor or a scalar of one."""
    with suppress(Exception):  # a user's object may raise anything
        return str(getattr(value, "dtype", "")).rpartition(".")[2]
    return ""


def flag(name: str, value: object, error: type[BoSuiteError] = SpaceError) -> bool:
    """The value as a bool: True or False, also of NumPy and torch.

    Args:
        name: name of the argument, for the error message.
        value: the value.
        error: the exception class to raise.

    Raises:
        SpaceError: any other value, such as "no" or 1; or the given error.
    """
    scalar = python_scalar(value)
    if not isinstance(scalar, bool):
        raise error(f"{name} must be True or False, got {described(value, 100)}")
    return scalar


def check_flags(owner: Any, *names: str, error: type[BoSuiteError] = SpaceError) -> None:
    """Converts fields of a frozen dataclass to bools; raises what `flag` raises."""
    for name in names:
        object.__setattr__(owner, name, flag(name, getattr(owner, name), error))


@runtime_checkable
class _Row(Protocol):
    """An object that a dict can be made of, such as a row of a pandas frame."""

    def keys(self) -> Any: ...

    def __getitem__(self, name: Any, /) -> Any: ...


def named_values(params: object) -> Mapping[Any, Any]:
    """A point as a mapping.

    Raises:
        SpaceError: the point has no names.
    """
    if isinstance(params, Mapping):
        return params
    if isinstance(params, _Row) and not isinstance(params, type):
        with suppress(Exception):  # a user's object may raise anything
            return {name: params[name] for name in params.keys()}  # noqa: SIM118
    raise SpaceError(f"a point must be a dict of parameters, got {described(params)}")
