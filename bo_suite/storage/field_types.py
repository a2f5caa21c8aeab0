"""Whether a value has the type that a dataclass field declares."""

import math
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin


def is_of_type(value: object, declared: Any) -> bool:
    """Whether a value has the declared type.

    Stricter than `isinstance`: a bool is not a number, and a float is finite. An int is a valid float.

    Args:
        value: any object.
        declared: a class, a runtime-checkable protocol, None, a union, a tuple, a Callable, or Any.
    """
    if declared is Any:
        return True
    if declared is None or declared is NoneType:
        return value is None
    origin, arguments = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        return any(is_of_type(value, member) for member in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _are_of_types(value, arguments)
    if origin is Callable or declared is Callable:
        return callable(value)
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, declared)


def _are_of_types(values: tuple[object, ...], declared: tuple[Any, ...]) -> bool:
    if len(declared) == 2 and declared[1] is Ellipsis:
        return all(is_of_type(value, declared[0]) for value in values)
    return len(values) == len(declared) and all(map(is_of_type, values, declared))


def _is_finite(value: int | float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False
