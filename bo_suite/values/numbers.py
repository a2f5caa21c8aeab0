"""Which values count as numbers, of any library; imports nothing heavy."""

import inspect
import math
import operator
from collections.abc import Mapping
from typing import Any, SupportsFloat, SupportsIndex, TypeGuard

from bo_suite.errors import BoSuiteError, TrialError
from bo_suite.values.describe import described

_TEXT = (str, bytes, bytearray)
_NO_NUMBER = (*_TEXT, bool, complex)
"""Types that `float` accepts, or that NumPy turns into a float, but that are not valid outcomes."""


def number_of(value: object) -> float | None:
    """The value as a float, which may be NaN or infinite; None if it is not a number.

    Numbers are ints and floats, scalars of NumPy, torch and similar libraries, arrays and tensors without
    dimensions (also if they require a gradient), Decimal, Fraction, and other objects with `__float__` or
    `__index__`. Text, bools, complex numbers and arrays with one element are rejected: a program that returns
    them most likely has a bug. A number too large for a float is infinite.
    """
    try:
        return _number(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's object may raise anything
        return None


def _number(value: Any) -> float | None:
    kind = type(value)  # the true type: `__class__` may report another one
    if issubclass(kind, _NO_NUMBER) or not issubclass(kind, SupportsFloat | SupportsIndex):
        return None
    if tuple(getattr(value, "shape", ())):
        return None
    item = getattr(value, "item", None)  # NumPy, torch and others: returns the Python value
    plain = value if item is None else item()
    if issubclass(type(plain), _NO_NUMBER):
        return None
    try:
        return float(plain if getattr(value, "requires_grad", False) else value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def bool_of(value: object) -> bool | None:
    """The value as a bool, of Python or of a scalar of NumPy, torch and similar; None if it is no bool."""
    try:
        item = None if tuple(getattr(value, "shape", ())) else getattr(value, "item", None)
        plain = value if item is None else item()
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's object may raise anything
        return None
    return bool(plain) if issubclass(type(plain), bool) else None


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether the value is a mapping by its true type, since its `__class__` may report another one."""
    return issubclass(type(value), Mapping)


def require_finite(requirement: str, value: object) -> float:
    """The value as a float; a negative zero becomes 0.0, since SQLite does not store its sign.

    Args:
        requirement: first part of the error message, such as "a std must be a finite number".
        value: the value.

    Raises:
        TrialError: the value is not a finite number.
    """
    number = number_of(value)
    if number is None or not math.isfinite(number):
        raise TrialError(refusal(requirement, value))
    return number + 0.0


def require_int(
    name: str, value: object, *, at_least: int | None = None, error: type[BoSuiteError] = TrialError
) -> int:
    """The value as an int.

    Args:
        name: name of the argument, for the error message.
        value: the value.
        at_least: smallest value allowed.
        error: the exception class to raise.

    Raises:
        TrialError: the value is not an integer or is too small; or the given error.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except Exception as cause:  # a user's object may raise anything
        raise error(f"{name} must be an integer, got {described(value)}") from cause
    if at_least is not None and number < at_least:
        raise error(f"`{name} >= {at_least}` must hold, got {described(value)}")
    return number


def refusal(requirement: str, value: object, most: int | None = None) -> str:
    """An error message: the requirement, the value that was passed and, if it can be guessed, the remedy.

    Args:
        requirement: what must hold.
        value: the value that was passed.
        most: maximum number of characters of the value.
    """
    text = described(value) if most is None else described(value, most)
    try:
        advice = _advice(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's object may raise anything
        advice = ""
    return f"{requirement}, got {text}" + (f": {advice}" if advice else "")


def _advice(value: Any) -> str:
    """How to get a number from a value that is not one; "" if that cannot be guessed."""
    kind = type(value)
    if value is None:
        return "is a `return` missing?"
    if issubclass(kind, _TEXT):
        return "take float(...) of it" if _is_numeral(value) else ""
    if issubclass(kind, Mapping):
        return f"take one of its values, such as that of {described(next(iter(value)), 50)}" if value else ""
    if issubclass(kind, tuple | list):
        return "" if not value else "take its only item" if len(value) == 1 else "take one of its items"
    if inspect.iscoroutine(value):
        value.close()  # nothing will await it
        return "`async` functions are not awaited, so run it by asyncio.run(...)"
    if inspect.isgenerator(value):
        return "use `return` instead of `yield`"
    if inspect.isroutine(value):
        return "are the parentheses of a call missing?"
    if shape := tuple(getattr(value, "shape", ())):
        return "take its only element, as by .item()" if math.prod(shape) == 1 else "take one number of it"
    item = getattr(value, "item", None)
    plain = type(value if item is None else item())
    if issubclass(plain, bool):
        return "take float(...) of it if 1 and 0 are meant"
    return "take its real part or its absolute value" if issubclass(plain, complex) else ""


def _is_numeral(text: str | bytes | bytearray) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
