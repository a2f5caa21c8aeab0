"""What parameters have in common: rules for their fields, their text and their JSON form."""

import math
from contextlib import suppress
from dataclasses import fields
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.values.describe import described
from bo_suite.values.scalars import python_scalar

if TYPE_CHECKING:
    from bo_suite.space.parameters import Float, Int

Value = float | int | str | bool | None

_STEP_ERROR = 1e-9
"""Largest distance from a value that counts as rounding, in steps."""

_SHOWN_IF_SET = ("step", "context", "retired", "when", "descriptors")
"""Fields that the text of a parameter has only if they differ from their default."""


def plain_option(option: object) -> Value:
    """The option as it is stored, in memory and in JSON; raises SpaceError if it cannot be one."""
    scalar = python_scalar(option)
    plain = scalar is None or type(scalar) in (str, bool, int, float)
    if not plain and isinstance(scalar, str | int | float):
        raise SpaceError(
            f"an option must be a plain str, int or float, got {described(option)} of type "
            f"{type(option).__name__}; give names here and look the objects up in your function"
        )
    if not plain or (type(scalar) in (int, float) and not is_finite(scalar)):
        raise SpaceError(
            f"an option must be a string, a finite number, a bool or None, got {described(option)}; "
            "give names here and look the objects up in your function"
        )
    return scalar  # type: ignore[no-any-return]


def is_finite(number: int | float) -> bool:
    """Whether a number is finite as a float."""
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float can hold
        return False


def finite(what: str, value: object) -> float:
    """The value as a float; raises SpaceError unless it is a finite number."""
    number, scalar = math.nan, python_scalar(value)
    if isinstance(scalar, int | float | Real) and not isinstance(scalar, bool | np.timedelta64):
        with suppress(OverflowError):
            number = float(scalar)
    if not math.isfinite(number):
        raise SpaceError(f"{what} must be a finite number, got {described(value, 100)}")
    return number


def check_range(low: object, high: object, *, log: bool) -> tuple[float, float]:
    """The bounds as floats; raises SpaceError unless they span a range."""
    first, last = finite("low", low), finite("high", high)
    if not first <= last:
        raise SpaceError(f"`low <= high` must hold, got low={described(low)}, high={described(high)}")
    if log and first <= 0:
        raise SpaceError(f"`low > 0` must hold on a log scale, got low={low}")
    if not math.isfinite(last - first):
        raise SpaceError(f"`high - low` must be a finite number, got low={low}, high={high}")
    return first, last


def check_purpose(parameter: "Float | Int") -> None:
    """Raises SpaceError if a parameter is a fidelity and a context."""
    if parameter.fidelity and parameter.context:
        raise SpaceError("a parameter must not be both a fidelity and a context, got both as True")


def rounding(parameter: "Float | Int") -> float:
    """Largest difference from a value of a parameter with a step that counts as rounding; 0 for an Int."""
    step = parameter.step
    if step is None or isinstance(step, int):
        return 0.0
    return _STEP_ERROR * step + 4.0 * math.ulp(max(-parameter.low, parameter.high))


def check_step(parameter: "Float | Int", nearest_high: float) -> None:
    """Raises SpaceError unless the step divides the range up to rounding.

    Args:
        parameter: a parameter with a step.
        nearest_high: the nearest `high` for which the step does.
    """
    low, high, step = parameter.low, parameter.high, parameter.step
    error = rounding(parameter)
    if low != high and step is not None and step - (high - low) > error:
        raise SpaceError(f"`step <= high - low` must hold, got low={low}, high={high}, step={step}")
    if abs(high - nearest_high) > error:
        raise SpaceError(
            f"`high - low` must be a multiple of the step, got low={low}, high={high}, step={step}; "
            f"the nearest valid high is {nearest_high}"
        )


def off_step(parameter: "Float | Int", value: object, level: int) -> SpaceError:
    """The error for a value between those of two levels, the lower of which is given."""
    neighbours = f"{parameter.value(level)} or {parameter.value(level + 1)}"
    return SpaceError(
        f"the value must be a whole number of steps of {parameter.step} above {parameter.low}, "
        f"such as {neighbours}, got {described(value)}"
    )


def is_default(parameter: Any, name: str) -> bool:
    """Whether a field of a parameter has its default."""
    (default,) = (field.default for field in fields(parameter) if field.name == name)
    return bool(getattr(parameter, name) == default)


def set_fields(parameter: Any, *names: str) -> dict[str, Any]:
    """The fields among the names that differ from their defaults, in this order.

    The JSON form holds no others, so spaces without them keep their fingerprints.
    """
    return {name: getattr(parameter, name) for name in names if not is_default(parameter, name)}


def shown(parameter: Any) -> str:
    """The parameter as Python would construct it."""
    names = [field.name for field in fields(parameter)]
    values = [
        f"{name}={getattr(parameter, name)!r}"
        for name in names
        if name not in _SHOWN_IF_SET or not is_default(parameter, name)
    ]
    return f"{type(parameter).__name__}({', '.join(values)})"
