"""The kinds of parameters, which map user values to positions in [0, 1] and back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.space.choice import Choice
from bo_suite.space.forms import (
    Value,
    check_purpose,
    check_range,
    check_step,
    finite,
    is_default,
    off_step,
    rounding,
    set_fields,
    shown,
)
from bo_suite.space.grid import Decimals, Grid
from bo_suite.space.when import set_when, when_form
from bo_suite.values.describe import described
from bo_suite.values.scalars import at_bound, check_flags, python_scalar, rounded_like

__all__ = ["Choice", "Float", "Int", "Parameter", "Value"]

_FLOAT_DIGITS = 11
"""Significant digits of a decoded Float: few enough that encoding and decoding it again is exact."""

_MAX_INT = 2**53
"""Largest size of an Int: up to here float64 distinguishes neighbours."""

_MAX_LOG_LEVELS = 10**12
"""Most values on a log scale: up to here their positions differ in float64."""

_MAX_LOG_RATIO = 1e300
"""Largest high / low of a Float with a step on a log scale."""

_SMALLEST_STEP = 1e-12
"""Smallest step of a Float, as a share of its largest value: neighbours differ by more than rounding."""


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform on a linear or a log scale.

    With a `step` it has the values low, low + step, ..., high alone, as decimals: three steps of 0.1 from 0
    are 0.3. These are searched level by level, as those of an Int.

    With `fidelity` the value sets how accurately the function is evaluated, such as the share of the data:
    `high` is the target, and lower values give cheaper approximations of the function at the target. With
    `context` nature sets the value, such as the temperature of the day. With `when` the parameter is active
    for some values of others alone. With low == high it has one value, and searches skip it.

    Raises:
        SpaceError: low > high, a bound that is not finite, low <= 0 with log, a step that is not positive, is
            within rounding or does not divide high - low, more than 10**12 steps on a log scale, a flag that
            is not a bool, both flags, or a condition that breaks a rule.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    fidelity: bool = field(default=False, kw_only=True)
    context: bool = field(default=False, kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_flags(self, "log", "fidelity", "context")
        check_purpose(self)
        set_when(self, "fidelity", "context")
        low, high = check_range(self.low, self.high, log=self.log)
        resolved = math.log(high / low) > 1e-7 if self.log else high - low > 1e-12 * max(abs(low), abs(high))
        if not (resolved or low == high):
            raise SpaceError(
                f"low and high of a Float must differ by more than rounding or be equal, got {low} and {high}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if self.step is not None:
            self._set_step(finite("step", self.step))

    def _set_step(self, step: float) -> None:
        """Checks the step and stores it as a float."""
        if step <= _SMALLEST_STEP * max(abs(self.low), abs(self.high)):
            raise SpaceError(
                "a step must be greater than 0 and than 1e-12 of the largest bound, "
                f"got step={step}, low={self.low}, high={self.high}"
            )
        object.__setattr__(self, "step", step)
        count = round((self.high - self.low) / step)
        check_step(self, self._decimals.value(count))
        if self.log and (count >= _MAX_LOG_LEVELS or self.high / self.low > _MAX_LOG_RATIO):
            raise SpaceError(
                "a Float with a step has at most 10**12 values on a log scale, and high / low at most 1e300, "
                f"got low={self.low}, high={self.high}, step={step}"
            )

    def __repr__(self) -> str:
        return shown(self)

    @property
    def has_step(self) -> bool:
        """Whether a step was given."""
        return self.step is not None

    @property
    def levels(self) -> int | None:
        """Number of values; None for a continuous parameter."""
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    @cached_property
    def _decimals(self) -> Decimals:
        """The values of a parameter with a step."""
        assert self.step is not None, "a continuous Float has no levels"
        return Decimals.of(self.low, self.step)

    @cached_property
    def _grid(self) -> Grid:
        """The positions of a parameter with a step."""
        assert self.step is not None, "a continuous Float has no levels"
        assert self.levels is not None
        return Grid(self.low, self.high, self.step, self.levels, log=self.log)

    @cached_property
    def _log_range(self) -> float:
        return math.log(self.high) - math.log(self.low)

    @cached_property
    def _places(self) -> int:
        """Decimal places of the values of a continuous parameter."""
        return _FLOAT_DIGITS - math.floor(math.log10(self.high - self.low))

    @cached_property
    def power(self) -> float | None:
        """10^k if positions decode to multiples of 10^-k, so that tensors can be decoded by rounding.

        None on a log scale, with a step, and if k or the multiples are so large that rounding errors would
        show.
        """
        largest = max(abs(self.low), abs(self.high))
        if (
            self.log
            or self.levels is not None
            or not 0 <= self._places <= 22
            or largest * 10.0**self._places > 2.0**51
        ):
            return None
        return 10.0**self._places

    def accept(self, value: object) -> float:
        """A value in the range or not, as a float; raises SpaceError if it has no position on the scale."""
        number = at_bound(value, finite("a Float", value), self.low, self.high)
        if self.log and number <= 0.0:
            raise SpaceError(f"`value > 0` must hold on a log scale, got {described(value)}")
        return number

    def check(self, value: object) -> float:
        """The value as a float.

        Raises:
            SpaceError: low <= value <= high does not hold up to rounding, or the value is between two levels.
        """
        number = at_bound(value, finite("a Float", value), self.low, self.high)
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return number if self.step is None else self._on_step(value, number)

    def _on_step(self, value: object, number: float) -> float:
        """The value of the level that a number is within rounding of; raises SpaceError if there is none."""
        assert self.step is not None
        level = (number - self.low) / self.step
        nearest = self.value(round(level))
        rounded = rounded_like(value)
        if abs(number - nearest) > rounding(self) and (rounded is None or rounded(nearest) != number):
            raise off_step(self, value, math.floor(level))
        return nearest

    def encode(self, value: float) -> float:
        """Position of a value: in [0, 1], or beyond if the value is out of range."""
        if self.levels == 1:
            return 0.0
        if self.step is not None and self.low <= value <= self.high:
            level = (value - self.low) / self.step
            exact = float(round(level)) if self.value(round(level)) == value else level
            return float(self.position(np.asarray(exact)))
        if self.log:
            unit = (math.log(value) - math.log(self.low)) / self._log_range
        else:
            unit = (value - self.low) / (self.high - self.low)
        return min(max(unit, 0.0), 1.0) if self.low <= value <= self.high else unit

    def slope(self, value: float) -> float:
        """Derivative of the value by its position: high - low, or value log(high / low) on a log scale."""
        return value * self._log_range if self.log else self.high - self.low

    def decode(self, unit: float) -> float:
        """The value at a position, on a decimal grid for which `encode` and `decode` round-trip exactly."""
        if unit <= 0.0 or self.levels == 1:
            return self.low
        if unit >= 1.0:
            return self.high
        if self.step is not None:
            return self.value(int(self.level(np.asarray(unit))))
        if self.log:
            value = float(f"{math.exp(math.log(self.low) + unit * self._log_range):.{_FLOAT_DIGITS}g}")
        else:
            value = round(self.low + unit * (self.high - self.low), self._places)
        return min(max(value, self.low), self.high)

    def value(self, level: int) -> float:
        """The value of a level, if the parameter has a step."""
        return self.high if self.high == self.low or level + 1 == self.levels else self._decimals.value(level)

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1, if the parameter has a step."""
        return self._grid.position(level)

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest, if the parameter has a step."""
        return self._grid.level(unit)

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws, if the parameter has a step.

        They have equal probability per value, or per octave on a log scale.
        """
        return self._grid.quantile(uniform)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        form = {"type": "float", "low": self.low, "high": self.high, "log": self.log}
        return form | set_fields(self, "step", "fidelity", "context") | when_form(self)


@dataclass(frozen=True)
class Int:
    """An integer in [low, high], both ends included, uniform on a linear or a log scale.

    With a `step` it has the values low, low + step, ..., high alone.

    With `fidelity` the value sets how accurately the function is evaluated, such as the number of epochs:
    `high` is the target, and lower values give cheaper approximations of the function at the target. With
    `context` nature sets the value, such as the day of the week. With `when` the parameter is active for
    some values of others alone. With low == high it has one value, and searches skip it.

    Raises:
        SpaceError: low > high, a bound that is not an integer, low <= 0 with log, a step that is not a
            positive integer or does not divide high - low, a flag that is not a bool, both flags, or a
            condition that breaks a rule.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    fidelity: bool = field(default=False, kw_only=True)
    context: bool = field(default=False, kw_only=True)
    when: Mapping[str, Any] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_flags(self, "log", "fidelity", "context")
        check_purpose(self)
        set_when(self, "fidelity", "context")
        check_range(self.low, self.high, log=self.log)
        finite("step", self.step)
        for name in ("low", "high", "step"):
            number = python_scalar(getattr(self, name))
            if int(number) != number:
                raise SpaceError(f"{name} of an Int must be an integer, got {described(number)}")
            if abs(number) > _MAX_INT:
                raise SpaceError(f"`|{name}| <= 2**53` must hold for an Int, got {described(number)}")
            object.__setattr__(self, name, int(number))
        if self.step <= 0:
            raise SpaceError(f"`step > 0` must hold, got step={self.step}")
        if self.has_step:
            nearest_count = (2 * (self.high - self.low) + self.step) // (2 * self.step)
            check_step(self, self.value(nearest_count))
        if self.log and self.levels > _MAX_LOG_LEVELS:
            raise SpaceError(
                f"an Int on a log scale has at most 10**12 values, got low={self.low}, high={self.high}"
            )

    def __repr__(self) -> str:
        return shown(self)

    @property
    def has_step(self) -> bool:
        """Whether a step other than 1 was given."""
        return not is_default(self, "step")

    @property
    def levels(self) -> int:
        """Number of values."""
        return (self.high - self.low) // self.step + 1

    @cached_property
    def _grid(self) -> Grid:
        return Grid(self.low, self.high, self.step, self.levels, log=self.log)

    def accept(self, value: object) -> int:
        """A value in the range or not, as an int; raises SpaceError if it has no position on the scale."""
        integer = self._integer(value)
        if self.log and integer <= 0:
            raise SpaceError(f"`value > 0` must hold on a log scale, got {described(value)}")
        return integer

    def _integer(self, value: object) -> int:
        """The value as an int; raises SpaceError if it is not an integer."""
        number, scalar = finite("an Int", value), python_scalar(value)
        if not (isinstance(scalar, Integral) or number.is_integer()):
            raise SpaceError(f"an Int must be an integer, got {described(value)}")
        if isinstance(scalar, Integral):
            return int(scalar)
        return int(at_bound(value, number, self.low, self.high))

    def check(self, value: object) -> int:
        """The value as an int.

        Raises:
            SpaceError: the value is not an integer with low <= value <= high, or is between two levels.
        """
        integer = self._integer(value)
        if not self.low <= integer <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        level, rest = divmod(integer - self.low, self.step)
        if rest:
            raise off_step(self, value, level)
        return integer

    def encode(self, value: int) -> float:
        """Position of a value: in [0, 1], or beyond if the value is out of range."""
        if self.levels == 1 or self.low <= value <= self.high:
            return float(self.position(np.asarray((value - self.low) / self.step)))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def slope(self, value: int) -> float:
        """Derivative of the value by its position: high - low, or value log(high / low) on a log scale."""
        return value * math.log(self.high / self.low) if self.log else float(self.high - self.low)

    def decode(self, unit: float) -> int:
        """The value whose position is nearest."""
        return self.value(int(self.level(np.asarray(unit))))

    def value(self, level: int) -> int:
        """The value of a level."""
        return self.low + level * self.step

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        return self._grid.position(level)

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        return self._grid.level(unit)

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal probability per value, or per octave on a log scale."""
        return self._grid.quantile(uniform)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        form = {"type": "int", "low": self.low, "high": self.high, "log": self.log}
        return form | set_fields(self, "step", "fidelity", "context") | when_form(self)


Parameter = Float | Int | Choice
