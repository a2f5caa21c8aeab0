"""Search spaces: user values on one side, rows of numbers in [0, 1] on the other.

A parameter is either continuous (`Float`) or a finite list of levels (`Int`, `Choice`). Discrete
parameters are searched level by level; no relaxed value is ever rounded to a level afterwards.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import SpaceError

Value = float | int | str | bool | None
Params = dict[str, Value]

_FLOAT_DIGITS = 11
"""Significant digits of a decoded Float: coarse enough that encoding and decoding it again is exact."""

_MAX_LEVELS = 2**52
"""Levels are indexed by float64 positions, which separate this many."""


def _finite(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise SpaceError(f"{what} must be a finite number, got {value!r}")
    return float(value)


def _check_range(low: object, high: object, *, log: bool) -> tuple[float, float]:
    first, last = _finite("low", low), _finite("high", high)
    if not first < last:
        raise SpaceError(f"`low < high` must hold, got low={low}, high={high}")
    if log and first <= 0:
        raise SpaceError(f"`low > 0` must hold on a log scale, got low={low}")
    if not math.isfinite(last - first):
        raise SpaceError(f"`high - low` must be a finite number, got low={low}, high={high}")
    return first, last


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform on a linear or a log scale.

    Raises:
        SpaceError: low >= high, a bound that is not finite, or low <= 0 with log.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        low, high = _check_range(self.low, self.high, log=self.log)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def levels(self) -> None:
        """None: a continuous parameter."""
        return None

    @cached_property
    def _octaves(self) -> float:
        return math.log(self.high) - math.log(self.low)

    @cached_property
    def _decimals(self) -> int:
        return _FLOAT_DIGITS - math.floor(math.log10(self.high - self.low))

    def check(self, value: object) -> float:
        """The value as a float; raises SpaceError unless low <= value <= high."""
        number = _finite("a Float", value)
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {value!r}")
        return number

    def encode(self, value: float) -> float:
        """Position of a value in [0, 1]."""
        if self.log:
            unit = (math.log(value) - math.log(self.low)) / self._octaves
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
            value = float(f"{math.exp(math.log(self.low) + unit * self._octaves):.{_FLOAT_DIGITS}g}")
        else:
            value = round(self.low + unit * (self.high - self.low), self._decimals)
        return min(max(value, self.low), self.high)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"type": "float", "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Int:
    """An integer in [low, high], both ends included, uniform on a linear or a log scale.

    Raises:
        SpaceError: low >= high, a bound that is not an integer, or low <= 0 with log.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)
        for name, bound in (("low", self.low), ("high", self.high)):
            if int(bound) != bound:
                raise SpaceError(f"{name} of an Int must be an integer, got {bound!r}")
            object.__setattr__(self, name, int(bound))
        if self.levels > _MAX_LEVELS:
            raise SpaceError(f"an Int has at most {_MAX_LEVELS} values, got low={self.low}, high={self.high}")

    @property
    def levels(self) -> int:
        """Number of values."""
        return self.high - self.low + 1

    def check(self, value: object) -> int:
        """The value as an int; raises SpaceError unless it is an integer with low <= value <= high."""
        number = _finite("an Int", value)
        if not (isinstance(value, Integral) or number.is_integer()):
            raise SpaceError(f"an Int must be an integer, got {value!r}")
        if not self.low <= number <= self.high:
            raise SpaceError(f"`{self.low} <= value <= {self.high}` must hold, got {value!r}")
        return int(number)

    def encode(self, value: int) -> float:
        """Position of a value in [0, 1]."""
        return float(self.position(np.asarray(value - self.low)))

    def decode(self, unit: float) -> int:
        """The value whose position is nearest."""
        return self.low + int(self.level(np.asarray(unit)))

    def position(self, level: np.ndarray) -> np.ndarray:
        """Positions in [0, 1] of levels 0 ... levels - 1."""
        if self.log:
            return np.minimum(np.log1p(level / self.low) / math.log(self.high / self.low), 1.0)
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
        return {"type": "int", "low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class Choice:
    """One of several options; ordered options lie on a line, others are only equal or different.

    Raises:
        SpaceError: no options, an option given twice, or one that is not a str, number, bool or None.
    """

    options: tuple[Value, ...]
    ordered: bool = False

    def __post_init__(self) -> None:
        given: object = self.options
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise SpaceError(f"the options of a Choice must be a list, got {given!r}")
        options = tuple(given)
        if not options:
            raise SpaceError("a Choice must have at least one option, got none")
        for place, option in enumerate(options):
            plain = option is None or isinstance(option, str | bool | int | float)
            if not plain or (isinstance(option, float) and not math.isfinite(option)):
                raise SpaceError(
                    f"an option must be a string, a finite number, a bool or None, got {option!r}; "
                    "give names here and look the objects up in your function"
                )
            if option in options[:place]:
                raise SpaceError(f"the options of a Choice must differ, got {option!r} twice")
        object.__setattr__(self, "options", options)

    @property
    def levels(self) -> int:
        """Number of options."""
        return len(self.options)

    def check(self, value: object) -> Value:
        """The option equal to the value; raises SpaceError when there is none."""
        for option in self.options:
            if type(option) is type(value) and option == value:
                return option
        for option in self.options:
            if option == value:
                return option
        raise SpaceError(f"the value must be one of {list(self.options)}, got {value!r}")

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


def _parameter_from_dict(name: str, form: Any) -> Parameter:
    if not isinstance(form, Mapping) or "type" not in form:
        raise SpaceError(f"parameter {name!r} must be a table with a `type`, got {form!r}")
    kinds: dict[str, type[Parameter]] = {"float": Float, "int": Int, "choice": Choice}
    kind = kinds.get(form["type"])
    if kind is None:
        raise SpaceError(f"the type of {name!r} must be one of {sorted(kinds)}, got {form['type']!r}")
    fields = {key: value for key, value in form.items() if key != "type"}
    try:
        return kind(**fields)
    except TypeError as error:
        raise SpaceError(f"parameter {name!r} of type {form['type']!r} has wrong fields: {error}") from error
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error


@dataclass(frozen=True)
class Space:
    """Named parameters, in order; column i of an encoded row belongs to parameter i.

    Raises:
        SpaceError: no parameters, a name that is not a non-empty string, or a value of another type.
    """

    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Mapping) or not self.parameters:
            raise SpaceError(f"a Space needs a dict with at least one parameter, got {self.parameters!r}")
        for name, parameter in self.parameters.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"a parameter's name must be a non-empty string, got {name!r}")
            if not isinstance(parameter, Float | Int | Choice):
                raise SpaceError(f"parameter {name!r} must be a Float, Int or Choice, got {parameter!r}")
        object.__setattr__(self, "parameters", dict(self.parameters))

    def __iter__(self) -> Iterator[tuple[str, Parameter]]:
        return iter(self.parameters.items())

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def dim(self) -> int:
        """Number of encoded columns, one a parameter."""
        return len(self.parameters)

    @cached_property
    def levels(self) -> tuple[int | None, ...]:
        """Number of values of each column; None where it is continuous."""
        return tuple(parameter.levels for _, parameter in self)

    @cached_property
    def unordered(self) -> tuple[int, ...]:
        """Columns whose values are only equal or different."""
        return tuple(
            column
            for column, (_, parameter) in enumerate(self)
            if isinstance(parameter, Choice) and not parameter.ordered
        )

    @cached_property
    def cardinality(self) -> int | None:
        """Number of points; None where any column is continuous."""
        product = 1
        for levels in self.levels:
            if levels is None:
                return None
            product *= levels
        return product

    def check(self, params: object) -> Params:
        """The point in canonical form: every parameter once, in order, each within its range.

        Raises:
            SpaceError: a parameter missing, unknown, out of range or of the wrong type.
        """
        if not isinstance(params, Mapping):
            raise SpaceError(f"a point must be a dict of parameters, got {params!r}")
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise SpaceError(f"every parameter must be given, missing {missing}")
        unknown = [name for name in params if name not in self.parameters]
        if unknown:
            raise SpaceError(f"parameters must be among {list(self.parameters)}, got unknown {unknown}")
        point: Params = {}
        for name, parameter in self:
            try:
                point[name] = parameter.check(params[name])
            except SpaceError as error:
                raise SpaceError(f"parameter {name!r}: {error}") from error
        return point

    def encode(self, points: Sequence[Params]) -> jt.Float64[Tensor, "n d"]:
        """Rows in [0, 1]^d of points in canonical form."""
        rows = [[p.encode(point[name]) for name, p in self] for point in points]  # type: ignore[arg-type]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(points), self.dim)

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[Params]:
        """Points of rows; `encode(decode(rows))` are the representable rows nearest to them."""
        values = rows.detach().cpu().tolist()
        return [{name: p.decode(unit) for (name, p), unit in zip(self, row, strict=True)} for row in values]

    def spread(self, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows of uniform draws in [0, 1]^d: discrete columns move to levels, each with its own mass."""
        rows = uniform.clone()
        for column, (_, parameter) in enumerate(self):
            if not isinstance(parameter, Float):
                draws = uniform[..., column].cpu().numpy()
                rows[..., column] = torch.as_tensor(parameter.position(parameter.quantile(draws))).to(rows)
        return rows

    def snap(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows with each discrete column moved to its nearest level."""
        snapped = rows.clone()
        for column, (_, parameter) in enumerate(self):
            if not isinstance(parameter, Float):
                units = rows[..., column].cpu().numpy()
                snapped[..., column] = torch.as_tensor(parameter.position(parameter.level(units))).to(rows)
        return snapped

    def level(self, column: int, rows: jt.Float[Tensor, "*b"]) -> np.ndarray:
        """Levels whose positions are nearest, of a discrete column."""
        parameter = list(self.parameters.values())[column]
        assert not isinstance(parameter, Float), "a continuous column has no levels"
        return parameter.level(rows.detach().cpu().numpy())

    def positions(self, column: int, levels: np.ndarray) -> jt.Float64[Tensor, "*n"]:
        """Encoded positions of levels of a discrete column."""
        parameter = list(self.parameters.values())[column]
        assert not isinstance(parameter, Float), "a continuous column has no levels"
        return torch.as_tensor(parameter.position(np.asarray(levels, dtype=np.float64)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form: a table of parameters in order, each with its `type` and fields."""
        return {name: parameter.to_dict() for name, parameter in self}

    @staticmethod
    def from_dict(form: Any) -> "Space":
        """The space of a JSON or TOML form.

        Raises:
            SpaceError: a form that is not a table of parameters, or a parameter that breaks a rule.
        """
        if not isinstance(form, Mapping):
            raise SpaceError(f"a space must be a table of parameters, got {form!r}")
        return Space({name: _parameter_from_dict(name, fields) for name, fields in form.items()})

    @staticmethod
    def from_file(path: str | Path) -> "Space":
        """The space in a .toml or .json file.

        Raises:
            SpaceError: a file that is missing, of another kind, not readable, or no space.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".toml":
                return Space.from_dict(tomllib.loads(text))
            if file.suffix == ".json":
                return Space.from_dict(json.loads(text))
        except (OSError, ValueError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(f"the space file {file} cannot be read: {error}") from error
        raise SpaceError(f"a space file must end in .toml or .json, got {file.name!r}")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, order, ranges and options: two spaces are the same when these are equal."""
        form = json.dumps(list(self.to_dict().items()), allow_nan=False)
        return hashlib.sha256(form.encode()).hexdigest()[:16]
