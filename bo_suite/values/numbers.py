"""Which values are an outcome: numbers, of whatever library; imports nothing heavy."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, SupportsFloat, SupportsIndex

from bo_suite.values.describe import described

_TEXT = (str, bytes, bytearray)
_NO_NUMBER = (*_TEXT, bool, complex)
"""Types that `float` may take, or that NumPy may turn into a float, which are no outcome."""


def number_of(value: object) -> float | None:
    """The value as a float, which may be NaN or infinite; None where it is no number.

    Numbers are ints and floats, scalars of NumPy, torch and the like, arrays and tensors without dimensions
    (one that requires a gradient, too), Decimal, Fraction, and whatever else has `__float__` or `__index__`.
    Text, bools, complex numbers and arrays of one element are none: a program that gives them has most
    likely a bug. A number too large for a float is infinite.
    """
    try:
        return _number(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever an object of a user raises
        return None


def _number(value: Any) -> float | None:
    kind = type(value)  # the true one, whatever `__class__` says
    if issubclass(kind, _NO_NUMBER) or not issubclass(kind, SupportsFloat | SupportsIndex):
        return None
    if tuple(getattr(value, "shape", ())):
        return None
    single = getattr(value, "item", None)  # of what NumPy, torch and others hold, the plain value
    plain = value if single is None else single()
    if issubclass(type(plain), _NO_NUMBER):
        return None
    try:
        return float(plain if getattr(value, "requires_grad", False) else value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def refusal(law: str, value: object, most: int | None = None) -> str:
    """A sentence that says what must hold, what came instead and, where it can be guessed, what to do.

    Args:
        law: what must hold.
        value: what came.
        most: the most characters of it that are repeated.
    """
    came = described(value) if most is None else described(value, most)
    try:
        advice = _advice(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever an object of a user raises
        advice = ""
    return f"{law}, got {came}" + (f": {advice}" if advice else "")


def _advice(value: Any) -> str:
    """How a number is had from what is none; "" where that cannot be guessed."""
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
        value.close()  # nobody is going to await it
        return "no `async` function is awaited here, so run it by asyncio.run(...)"
    if inspect.isgenerator(value):
        return "use `return` in the place of `yield`"
    if inspect.isroutine(value):
        return "are the parentheses of a call missing?"
    if shape := tuple(getattr(value, "shape", ())):
        return "take its only element, as by .item()" if math.prod(shape) == 1 else "take one number of it"
    single = getattr(value, "item", None)
    plain = type(value if single is None else single())
    if issubclass(plain, bool):
        return "take float(...) of it if 1 and 0 are meant"
    return "take its real part or its absolute value" if issubclass(plain, complex) else ""


def _is_numeral(text: str | bytes | bytearray) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
