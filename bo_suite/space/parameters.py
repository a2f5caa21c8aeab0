"""The kinds of parameters, which map user values to positions in [0, 1] and back."""

import math
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.space.choice import Choice, Value
from bo_suite.space.grid import Grid
from bo_suite.values.describe import described
from bo_suite.values.scalars import at_bound, check_flags, python_scalar

__all__ = ["Choice", "Float", "Int", "Parameter", "Value"]

_FLOAT_DIGITS = 11
"""Significant digits of a decoded Float: few enough that encoding and decoding it again is exact."""

_MAX_INT = 2**53
"""Largest size of an Int: up to here float64 distinguishes neighbours."""

_MAX_LOG_LEVELS = 10**12
"""Most values of an Int on a log scale: up to here their positions differ in float64."""


def _finite(what: str, value: object) -> float:
    number, scalar = math.nan, python_scalar(value)
    if isinstance(scalar, int | float | Real) and not isinstance(scalar, bool | np.timedelta64):
        with suppress(OverflowError):
            number = float(scalar)
    if not math.isfinite(number):
        raise SpaceError(f"{what} must be a finite number, got {described(value, 100)}")
    return number


def _check_range(low: object, high: object, *, log: bool) -> tuple[float, float]:
    first, last = _finite("low", low), _finite("high", high)
    if not first <= last:
        raise SpaceError(f"`low <= high` must hold, got low={described(low)}, high={described(high)}")
    if log and first <= 0:
        raise SpaceError(f"`low > 0` must hold on a log scale, got low={low}")
    if not math.isfinite(last - first):
        raise SpaceError(f"`high - low` must be a finite number, got low={low}, high={high}")
    return first, last


def _form(fidelity: bool) -> dict[str, Any]:
    """Part of the JSON form; empty without fidelity, so such spaces keep their fingerprints."""
    return {"fidelity": True} if fidelity else {}


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform on a linear or a log scale.

    With `fidelity` the value sets how accurately the function is evaluated, such as the share of the data:
    `high` is the target, and lower values give cheaper approximations of the function at the target. With
    low == high the parameter has one value, and searches skip it.

    Raises:
        SpaceError: low > high, a bound that is not finite, low <= 0 with log, or a flag that is not a bool.
    """

    low: float
    high: float
    log: bool = False
    fidelity: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_flags(self, "log", "fidelity")
        low, high = _check_range(self.low, self.high, log=self.log)
        resolved = math.log(high / low) > 1e-7 if self.log else high - low > 1e-12 * max(abs(low), abs(high))
        if not (resolved or low == high):
            raise SpaceError(
                f"low and high of a Float must differ by more than rounding or be equal, got {low} and {high}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def levels(self) -> int | None:
        """None, for a continuous parameter; 1 if low == high."""
        return 1 if self.low == self.high else None

    @cached_property
    def _log_range(self) -> float:
        return math.log(self.high) - math.log(self.low)

    @cached_property
    def _decimals(self) -> int:
        return _FLOAT_DIGITS - math.floor(math.log10(self.high - self.low))

    @cached_property
    def power(self) -> float | None:
        """10^k if positions decode to multiples of 10^-k, so that tensors can be decoded by rounding.

        None on a log scale, and if k or the multiples are so large that rounding errors would show.
        """
        largest = max(abs(self.low), abs(self.high))
        if (
            self.log
            or self.levels == 1
            or not 0 <= self._decimals <= 22
            or largest * 10.0**self._decimals > 2.0**51
        ):
            return None
        return 10.0**self._decimals

    def accept(self, value: object) -> float:
        """A value in the range or not, as a float; raises SpaceError if it has no position on the scale."""
        number = at_bound(value, _finite("a Float", value), self.low, self.high)
        if self.log and number <= 0.0:
            raise SpaceError(f"`value > 0` must hold on a log scale, got {described(value)}")
        return number

    def check(self, value: object) -> float:
        """The value as a float; raises SpaceError unless low <= value <= high up to rounding."""
        number = at_bound(value, _finite("a Float", value), self.low, self.high)
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return number

    def encode(self, value: float) -> float:
        """Position of a value: in [0, 1], or beyond if the value is out of range."""
        if self.levels == 1:
            return 0.0
        if self.log:
            unit = (math.log(value) - math.log(self.low)) / self._log_range
        else:
            unit = (value - self.low) / (self.high - self.low)
        return min(max(unit, 0.0), 1.0) if self.low <= value <= self.high else unit

    def decode(self, unit: float) -> float:
        """The value at a position, on a decimal grid for which `encode` and `decode` round-trip exactly."""
        if unit <= 0.0 or self.levels == 1:
            return self.low
        if unit >= 1.0:
            return self.high
        if self.log:
            value = float(f"{math.exp(math.log(self.low) + unit * self._log_range):.{_FLOAT_DIGITS}g}")
        else:
            value = round(self.low + unit * (self.high - self.low), self._decimals)
        return min(max(value, self.low), self.high)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log} | _form(self.fidelity)


@dataclass(frozen=True)
class Int:
    """An integer in [low, high], both ends included, uniform on a linear or a log scale.

    With `fidelity` the value sets how accurately the function is evaluated, such as the number of epochs:
    `high` is the target, and lower values give cheaper approximations of the function at the target. With
    low == high the parameter has one value, and searches skip it.

    Raises:
        SpaceError: low > high, a bound that is not an integer, low <= 0 with log, or a flag that is not a
            bool.
    """

    low: int
    high: int
    log: bool = False
    fidelity: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_flags(self, "log", "fidelity")
        _check_range(self.low, self.high, log=self.log)
        for name, bound in (("low", python_scalar(self.low)), ("high", python_scalar(self.high))):
            if int(bound) != bound:
                raise SpaceError(f"{name} of an Int must be an integer, got {described(bound)}")
            if abs(bound) > _MAX_INT:
                raise SpaceError(f"`|{name}| <= 2**53` must hold for an Int, got {described(bound)}")
            object.__setattr__(self, name, int(bound))
        if self.log and self.levels > _MAX_LOG_LEVELS:
            raise SpaceError(
                f"an Int on a log scale has at most 10**12 values, got low={self.low}, high={self.high}"
            )

    @property
    def levels(self) -> int:
        """Number of values."""
        return self.high - self.low + 1

    def accept(self, value: object) -> int:
        """A value in the range or not, as an int; raises SpaceError if it has no position on the scale."""
        integer = self._integer(value)
        if self.log and integer <= 0:
            raise SpaceError(f"`value > 0` must hold on a log scale, got {described(value)}")
        return integer

    def _integer(self, value: object) -> int:
        """The value as an int; raises SpaceError if it is not an integer."""
        number, scalar = _finite("an Int", value), python_scalar(value)
        if not (isinstance(scalar, Integral) or number.is_integer()):
            raise SpaceError(f"an Int must be an integer, got {described(value)}")
        if isinstance(scalar, Integral):
            return int(scalar)
        return int(at_bound(value, number, self.low, self.high))

    def check(self, value: object) -> int:
        """The value as an int; raises SpaceError unless it is an integer with low <= value <= high."""
        integer = self._integer(value)
        if not self.low <= integer <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return integer

    def encode(self, value: int) -> float:
        """Position of a value: in [0, 1], or beyond if the value is out of range."""
        level = value - self.low
        if self.levels == 1 or 0 <= level < self.levels:
            return float(self.position(np.asarray(level)))
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return level / (self.levels - 1)

    def decode(self, unit: float) -> int:
        """The value whose position is nearest."""
        return self.low + int(self.level(np.asarray(unit)))

    @cached_property
    def _grid(self) -> Grid:
        return Grid(self.low, self.high, 1, self.levels, log=self.log)

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
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log} | _form(self.fidelity)


Parameter = Float | Int | Choice
