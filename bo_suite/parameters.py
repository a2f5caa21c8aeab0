"""The kinds of parameters: user values on one side, positions in [0, 1] on the other."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.describe import described
from bo_suite.errors import SpaceError

Value = float | int | str | bool | None

_FLOAT_DIGITS = 11
"""Significant digits of a decoded Float: coarse enough that encoding and decoding it again is exact."""

_MAX_INT = 2**53
"""Largest size of an Int, which float64 still tells from its neighbours."""

_MAX_LOG_LEVELS = 10**12
"""Most values of an Int on a log scale, whose positions in float64 still tell them apart."""


def _finite(what: str, value: object) -> float:
    number = math.nan
    if not isinstance(value, bool) and isinstance(value, int | float | Real):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise SpaceError(f"{what} must be a finite number, got {described(value, 100)}")
    return number


def _check_range(low: object, high: object, *, log: bool) -> tuple[float, float]:
    first, last = _finite("low", low), _finite("high", high)
    if not first < last:
        raise SpaceError(f"`low < high` must hold, got low={described(low)}, high={described(high)}")
    if log and first <= 0:
        raise SpaceError(f"`low > 0` must hold on a log scale, got low={low}")
    if not math.isfinite(last - first):
        raise SpaceError(f"`high - low` must be a finite number, got low={low}, high={high}")
    return first, last


def _check_fidelity(given: object) -> None:
    if not isinstance(given, bool):
        raise SpaceError(f"fidelity must be True or False, got {described(given, 100)}")


def _form(fidelity: bool) -> dict[str, Any]:
    """Part of the JSON form: nothing where there is no fidelity, so that fingerprints are as they were."""
    return {"fidelity": True} if fidelity else {}


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform on a linear or a log scale.

    With `fidelity` it says how closely the function is evaluated, such as by which share of the data: `high`
    is the target, what one wants to know, and lower values give cheaper approximations of it.

    Raises:
        SpaceError: low >= high, a bound that is not finite, low <= 0 with log, or a fidelity that is no bool.
    """

    low: float
    high: float
    log: bool = False
    fidelity: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_fidelity(self.fidelity)
        low, high = _check_range(self.low, self.high, log=self.log)
        resolved = math.log(high / low) > 1e-7 if self.log else high - low > 1e-12 * max(abs(low), abs(high))
        if not resolved:
            raise SpaceError(
                f"low and high of a Float must differ by more than rounding, got {low} and {high}"
            )
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def levels(self) -> None:
        """None: a continuous parameter."""
        return None

    @cached_property
    def _log_range(self) -> float:
        return math.log(self.high) - math.log(self.low)

    @cached_property
    def _decimals(self) -> int:
        return _FLOAT_DIGITS - math.floor(math.log10(self.high - self.low))

    @cached_property
    def power(self) -> float | None:
        """10^k where positions decode to multiples of 10^-k, and whole tensors of them may be decoded so.

        None on a log scale, and where k or the multiples are so large that rounding errors would show.
        """
        largest = max(abs(self.low), abs(self.high))
        if self.log or not 0 <= self._decimals <= 22 or largest * 10.0**self._decimals > 2.0**51:
            return None
        return 10.0**self._decimals

    def check(self, value: object) -> float:
        """The value as a float; raises SpaceError unless low <= value <= high."""
        number = _finite("a Float", value)
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return number

    def encode(self, value: float) -> float:
        """Position of a value in [0, 1]."""
        if self.log:
            unit = (math.log(value) - math.log(self.low)) / self._log_range
        else:
            unit = (value - self.low) / (self.high - self.low)
        return min(max(unit, 0.0), 1.0)

    def decode(self, unit: float) -> float:
        """Value at a position, on a decimal grid so fine that `encode` and `decode` round-trip exactly."""
        if unit <= 0.0:
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

    With `fidelity` it says how closely the function is evaluated, such as in how many epochs: `high` is the
    target, what one wants to know, and lower values give cheaper approximations of it.

    Raises:
        SpaceError: low >= high, a bound that is not an integer, low <= 0 with log, or a fidelity that is no
            bool.
    """

    low: int
    high: int
    log: bool = False
    fidelity: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _check_fidelity(self.fidelity)
        _check_range(self.low, self.high, log=self.log)
        for name, bound in (("low", self.low), ("high", self.high)):
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

    def check(self, value: object) -> int:
        """The value as an int; raises SpaceError unless it is an integer with low <= value <= high."""
        number = _finite("an Int", value)
        if not (isinstance(value, Integral) or number.is_integer()):
            raise SpaceError(f"an Int must be an integer, got {described(value)}")
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return int(value) if isinstance(value, Integral) else int(number)

    def encode(self, value: int) -> float:
        """Position of a value in [0, 1]."""
        return float(self.position(np.asarray(value - self.low)))

    def decode(self, unit: float) -> int:
        """The value whose position is nearest."""
        return self.low + int(self.level(np.asarray(unit)))

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        if self.log:
            inside = np.log1p(level / self.low) / math.log(self.high / self.low)
            return np.where(level < self.levels - 1, np.minimum(inside, 1.0), 1.0)
        return np.asarray(level / (self.levels - 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        if self.log:
            raw = self.low * np.expm1(unit * math.log(self.high / self.low))
        else:
            raw = unit * (self.levels - 1)
        return np.asarray(np.clip(np.rint(raw), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal mass a value, or equal mass an octave on a log scale."""
        if self.log:
            raw = self.low * np.expm1(uniform * math.log((self.high + 1) / self.low))
        else:
            raw = uniform * self.levels
        return np.asarray(np.clip(np.floor(raw), 0, self.levels - 1))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log} | _form(self.fidelity)


@dataclass(frozen=True)
class Choice:
    """One of several options; ordered options lie on a line, others are only equal or different.

    Raises:
        SpaceError: no options, an option given twice, or one that is not a str, number, bool or None.
    """

    options: tuple[Value, ...]
    ordered: bool = False

    if TYPE_CHECKING:  # what is given may be any sequence; what is stored is a tuple

        def __init__(self, options: Sequence[Value | np.generic], ordered: bool = False) -> None: ...

    def __post_init__(self) -> None:
        given: object = self.options
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise SpaceError(f"the options of a Choice must be a list, got {described(given)}")
        options = tuple(given)
        if not options:
            raise SpaceError("a Choice must have at least one option, got none")
        for place, option in enumerate(options):
            plain = option is None or isinstance(option, str | bool | int | float)
            if not plain or (isinstance(option, float) and not math.isfinite(option)):
                raise SpaceError(
                    f"an option must be a string, a finite number, a bool or None, got {described(option)}; "
                    "give names here and look the objects up in your function"
                )
            if option in options[:place]:
                raise SpaceError(f"the options of a Choice must differ, got {described(option)} twice")
        object.__setattr__(self, "options", options)

    @property
    def levels(self) -> int:
        """Number of options."""
        return len(self.options)

    def check(self, value: object) -> Value:
        """The option equal to the value; raises SpaceError when there is none."""
        for option in self.options:
            if option is value or (np.ndim(value) == 0 and option == value):  # type: ignore[arg-type]
                return option
        raise SpaceError(f"the value must be one of {described(list(self.options))}, got {described(value)}")

    def encode(self, value: Value) -> float:
        """Position of an option in [0, 1]."""
        return float(self.position(np.asarray(self.options.index(value))))

    def decode(self, unit: float) -> Value:
        """The option whose position is nearest."""
        return self.options[int(self.level(np.asarray(unit)))]

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        return np.asarray(level / max(self.levels - 1, 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        return np.asarray(np.clip(np.rint(unit * (self.levels - 1)), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws, equal mass an option."""
        return np.asarray(np.clip(np.floor(uniform * self.levels), 0, self.levels - 1))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"type": "choice", "options": list(self.options), "ordered": self.ordered}


Parameter = Float | Int | Choice
