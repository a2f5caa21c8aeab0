"""The kinds of parameters, which map user values to positions in [0, 1] and back."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.values.describe import described
from bo_suite.values.scalars import at_bound, check_flags, python_scalar, rounded_like

Value = float | int | str | bool | None

_FLOAT_DIGITS = 11
"""Significant digits of a decoded Float: few enough that encoding and decoding it again is exact."""

_MAX_INT = 2**53
"""Largest size of an Int: up to here float64 distinguishes neighbours."""

_MAX_LOG_LEVELS = 10**12
"""Most values of an Int on a log scale: up to here their positions differ in float64."""

_MOST_OPTIONS = 10**6
"""Most options of a Choice, which stores all of them."""


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

    def check(self, value: object) -> float:
        """The value as a float; raises SpaceError unless low <= value <= high up to rounding."""
        number = at_bound(value, _finite("a Float", value), self.low, self.high)
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return number

    def encode(self, value: float) -> float:
        """Position of a value in [0, 1]."""
        if self.levels == 1:
            return 0.0
        if self.log:
            unit = (math.log(value) - math.log(self.low)) / self._log_range
        else:
            unit = (value - self.low) / (self.high - self.low)
        return min(max(unit, 0.0), 1.0)

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

    def check(self, value: object) -> int:
        """The value as an int; raises SpaceError unless it is an integer with low <= value <= high."""
        number, scalar = _finite("an Int", value), python_scalar(value)
        if not (isinstance(scalar, Integral) or number.is_integer()):
            raise SpaceError(f"an Int must be an integer, got {described(value)}")
        integer = (
            int(scalar) if isinstance(scalar, Integral) else int(at_bound(value, number, self.low, self.high))
        )
        if not self.low <= integer <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {described(value)}")
        return integer

    def encode(self, value: int) -> float:
        """Position of a value in [0, 1]."""
        return float(self.position(np.asarray(value - self.low)))

    def decode(self, unit: float) -> int:
        """The value whose position is nearest."""
        return self.low + int(self.level(np.asarray(unit)))

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        if self.log and self.levels > 1:
            inside = np.log1p(level / self.low) / math.log(self.high / self.low)
            return np.where(level < self.levels - 1, np.minimum(inside, 1.0), 1.0)
        return np.asarray(level / max(self.levels - 1, 1))

    def level(self, unit: np.ndarray) -> np.ndarray:
        """The levels whose positions are nearest."""
        if self.log:
            raw = self.low * np.expm1(unit * math.log(self.high / self.low))
        else:
            raw = unit * (self.levels - 1)
        return np.asarray(np.clip(np.rint(raw), 0, self.levels - 1))

    def quantile(self, uniform: np.ndarray) -> np.ndarray:
        """Levels of uniform draws: equal probability per value, or per octave on a log scale."""
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
    """One of several options; ordered options lie on a line, unordered ones are only equal or different.

    Scalars of NumPy and torch become Python scalars. Storages return the options as they are stored here.

    Raises:
        SpaceError: no options, two equal options, an option that is not a str, finite number, bool or None,
            or a flag that is not a bool.
    """

    options: tuple[Value, ...]
    ordered: bool = False

    if TYPE_CHECKING:  # the argument may be any sequence; a tuple is stored

        def __init__(self, options: Sequence[Value | np.generic], ordered: bool = False) -> None: ...

    def __post_init__(self) -> None:
        check_flags(self, "ordered")
        object.__setattr__(self, "options", tuple(_option(option) for option in _listed(self.options)))
        if not self.options:
            raise SpaceError("a Choice must have at least one option, got none")
        if len(self._index) < len(self.options):
            raise SpaceError(f"the options of a Choice must differ, got {_repeated(self.options)}")

    @cached_property
    def _index(self) -> dict[Value, int]:
        return {option: index for index, option in enumerate(self.options)}

    @property
    def levels(self) -> int:
        """Number of options."""
        return len(self.options)

    def index(self, value: object) -> int:
        """Index of the option equal to the value; NaN counts as None, which pandas replaces by it.

        Raises:
            SpaceError: no option equals the value.
        """
        scalar = python_scalar(value)
        if isinstance(scalar, float) and math.isnan(scalar):
            scalar = None
        with suppress(Exception):  # comparing with a user's object may raise anything
            index = self._index.get(scalar)
            rounded = rounded_like(value) if index is None else None
            if rounded is not None:
                equal = [
                    option
                    for option in self.options
                    if isinstance(option, float) and rounded(option) == scalar
                ]
                index = self._index[equal[0]] if len(equal) == 1 else None
            if index is not None:
                return index
        raise SpaceError(f"the value must be one of {described(list(self.options))}, got {described(value)}")

    def check(self, value: object) -> Value:
        """The option equal to the value; raises SpaceError if no option is."""
        return self.options[self.index(value)]

    def encode(self, value: Value) -> float:
        """Position of an option in [0, 1]."""
        return float(self.position(np.asarray(self.index(value))))

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
        """Levels of uniform draws: equal probability per option."""
        return np.asarray(np.clip(np.floor(uniform * self.levels), 0, self.levels - 1))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"type": "choice", "options": list(self.options), "ordered": self.ordered}


def _listed(options: object) -> Sequence[Any]:
    """The options as a sequence; an array or a Series becomes the list of its elements."""
    if not isinstance(options, str | bytes | bytearray | Sequence) and getattr(options, "ndim", 0) == 1:
        with suppress(Exception):  # a user's object may raise anything
            options = options.tolist()  # type: ignore[attr-defined]
    if isinstance(options, str | bytes | bytearray) or not isinstance(options, Sequence):
        raise SpaceError(f"the options of a Choice must be a list, got {described(options)}")
    if len(options) > _MOST_OPTIONS:
        raise SpaceError(f"a Choice has at most {_MOST_OPTIONS} options, got {len(options)}; use an Int")
    return options


def _option(option: object) -> Value:
    """The option as it is stored, in memory and in JSON."""
    scalar = python_scalar(option)
    plain = scalar is None or type(scalar) in (str, bool, int, float)
    if not plain and isinstance(scalar, str | int | float):
        raise SpaceError(
            f"an option must be a plain str, int or float, got {described(option)} of type "
            f"{type(option).__name__}; give names here and look the objects up in your function"
        )
    if not plain or (type(scalar) in (int, float) and not _is_finite(scalar)):
        raise SpaceError(
            f"an option must be a string, a finite number, a bool or None, got {described(option)}; "
            "give names here and look the objects up in your function"
        )
    return scalar  # type: ignore[no-any-return]


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float can hold
        return False


def _repeated(options: Sequence[Value]) -> str:
    """The first option that equals an earlier one, in words for an error."""
    first: dict[Value, Value] = {}
    for option in options:
        if option in first:
            other = first[option]
            same = "" if repr(other) == repr(option) else f", since {other!r} == {option!r}"
            return f"{described(option)} twice{same}"
        first[option] = option
    raise AssertionError("some option is repeated")


Parameter = Float | Int | Choice
