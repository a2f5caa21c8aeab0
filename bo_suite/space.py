"""Search spaces: named parameters, and their encoding as rows of numbers in [0, 1].

A parameter is either continuous (`Float`) or a finite list of levels (`Int`, `Choice`). Discrete
parameters are searched level by level; no relaxed value is ever rounded to a level afterwards.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.copies import Copied
from bo_suite.describe import described
from bo_suite.errors import SpaceError
from bo_suite.parameters import Choice, Float, Int, Parameter, Value
from bo_suite.shown import html_table, shown_line, shown_list, shown_value

Params = dict[str, Any]
"""Values by the names of parameters: of a type each, a float, int, str, bool or None."""

_LARGEST_FILE = 10_000_000
"""Bytes of a space file: far more than any space takes."""

_TOKEN = re.compile(
    r"""\#[^\n]*+
    | \"{3} (?: [^"\\]++ | \\. | \"(?!\"\") )*+ (?:\"{3,5})?
    | '{3} (?: [^']++ | '(?!'') )*+ (?:'{3,5})?
    | (?P<key> PART (?: [ \t]*+ \. [ \t]*+ PART )*+ )
    | [\s=,.{}[\]]++ | .""".replace(
        "PART", r"""(?: [^\s\#"'=,.{}[\]]++ | \"(?: [^"\\\n]++ | \\. )*+\"? | '[^'\n]*+'? )"""
    ),
    re.VERBOSE | re.DOTALL,
)
"""A comment, a text of several lines, a key of TOML with its parts (or a value), or what is between."""

_PARTS = 8
"""Parts of a key at most: the parser takes minutes for very many, and a space has three."""


def _parameter_from_dict(name: str, form: Any) -> Parameter:
    if not isinstance(form, Mapping) or "type" not in form:
        raise SpaceError(f"parameter {name!r} must be a table with a `type`, got {described(form)}")
    kinds: dict[str, type[Parameter]] = {"float": Float, "int": Int, "choice": Choice}
    kind = kinds.get(form["type"]) if isinstance(form["type"], str) else None
    if kind is None:
        raise SpaceError(
            f"the type of {name!r} must be one of {sorted(kinds)}, got {described(form['type'])}"
        )
    fields = {key: value for key, value in form.items() if key != "type"}
    for key in ("log", "ordered"):
        if not isinstance(fields.get(key, False), bool):
            raise SpaceError(f"{key} of {name!r} must be true or false, got {fields[key]!r:.100}")
    try:
        return kind(**fields)
    except TypeError as error:
        raise SpaceError(f"parameter {name!r} of type {form['type']!r} has wrong fields: {error}") from error
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from error


def _has_long_keys(text: str) -> bool:
    """Whether a key has more parts than any key of a space; in one pass over the text."""
    keys = (match["key"] for match in _TOKEN.finditer(text))
    return any(key is not None and key.count(".") >= _PARTS and _parts(key) > _PARTS for key in keys)


def _parts(key: str) -> int:
    """The number of parts of a key: dots in quotes separate nothing."""
    return 1 + re.sub(r"""\"(?:[^"\\]|\\.)*+\"?|'[^']*+'?""", "", key).count(".")


def _text(file: Path) -> str:
    """The text of a file, which must have an end: a device may have none."""
    if file.exists() and not file.is_file():
        raise SpaceError(f"a space file must be a regular file, got {str(file)!r}")
    with file.open("rb") as stream:
        content = stream.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise SpaceError(f"a space file must have at most {_LARGEST_FILE} bytes, got {str(file)!r}")
    return content.decode("utf-8")


@dataclass(frozen=True, eq=False)
class Space:
    """Named parameters, in order; column i of an encoded row belongs to parameter i.

    Raises:
        SpaceError: no parameters, fidelities alone, a name that is not a non-empty string, or a value of
            another type.
    """

    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if not isinstance(self.parameters, Mapping) or not self.parameters:
            raise SpaceError(
                f"a Space needs a dict with at least one parameter, got {described(self.parameters)}"
            )
        for name, parameter in self.parameters.items():
            if not isinstance(name, str) or not name:
                raise SpaceError(f"a parameter's name must be a non-empty string, got {described(name)}")
            if not isinstance(parameter, Float | Int | Choice):
                raise SpaceError(
                    f"parameter {name!r} must be a Float, Int or Choice, got {described(parameter)}"
                )
        if len(self.fidelities) == self.dim:
            raise SpaceError(f"a Space needs a parameter that is no fidelity, got {list(self.target)} alone")

    def __iter__(self) -> Iterator[tuple[str, Parameter]]:
        return iter(self.parameters.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        lines = shown_list([f"{name!r}: {shown_value(parameter)}," for name, parameter in self])
        return "\n".join(["Space({", *(shown_line(f"    {line}") for line in lines), "})"])

    def _repr_html_(self) -> str:
        rows = [(name, shown_value(parameter)) for name, parameter in self]
        return html_table(f"space of {self.dim}", ("parameter", "values"), rows)

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

    @property
    def target(self) -> Params:
        """The fidelities alone, each at its high."""
        return dict(self._target)

    @cached_property
    def _target(self) -> tuple[tuple[str, Value], ...]:
        return tuple((name, p.high) for name, p in self if not isinstance(p, Choice) and p.fidelity)

    @cached_property
    def fidelities(self) -> tuple[int, ...]:
        """Columns of the fidelities, whose target is encoded as 1."""
        return tuple(column for column, name in enumerate(self.parameters) if name in self.target)

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
            raise SpaceError(f"a point must be a dict of parameters, got {described(params)}")
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise SpaceError(f"every parameter must be given, missing {missing}")
        unknown = [name for name in params if name not in self.parameters]
        if unknown:
            raise SpaceError(
                f"parameters must be among {list(self.parameters)}, got unknown {described(unknown)}"
            )
        point: Params = {}
        for name, parameter in self:
            try:
                point[name] = parameter.check(params[name])
            except SpaceError as error:
                raise SpaceError(f"parameter {name!r}: {error}") from error
        return point

    def at_target(self, params: Params) -> Params:
        """The point with each fidelity at its high; the same point where the space has none."""
        return {**params, **self.target}

    def encode(self, points: Sequence[Params]) -> jt.Float64[Tensor, "n d"]:
        """Rows in [0, 1]^d of points in canonical form."""
        columns = []
        for name, parameter in self:
            values: list[Any] = [point[name] for point in points]
            if isinstance(parameter, Float):
                columns.append([parameter.encode(value) for value in values])
            else:  # each level once
                known = {value: parameter.encode(value) for value in set(values)}
                columns.append([known[value] for value in values])
        by_column = torch.tensor(columns, dtype=torch.float64, device="cpu").reshape(self.dim, len(points))
        return by_column.T.contiguous()

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[Params]:
        """Points of rows; `encode(decode(rows))` are the representable rows nearest to them."""
        values = rows.detach().cpu().tolist()
        return [{name: p.decode(unit) for (name, p), unit in zip(self, row, strict=True)} for row in values]

    def representable(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The rows that points encode to, nearest to the given ones: `encode(decode(rows))`, of any shape.

        A row halfway between two of them may move to the other one.
        """
        low, high, _ = (part.to(rows.device) for part in self._grid)
        unit = ((self._on_grid(rows.to(torch.float64)) - low) / (high - low)).clamp(0.0, 1.0)
        for column, (_, parameter) in enumerate(self):
            if not isinstance(parameter, Float) or parameter.power is None:
                given = rows[..., column].flatten().tolist()
                found = [parameter.encode(parameter.decode(one)) for one in given]  # type: ignore[arg-type]
                unit[..., column] = unit.new_tensor(found).reshape(rows.shape[:-1])
        return unit.to(rows)

    def values(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b d"]:
        """What the rows decode to, as numbers, of a space of Floats alone.

        Raises:
            SpaceError: a parameter of another type.
        """
        found = self._on_grid(rows.to(torch.float64))
        for column, (name, parameter) in enumerate(self):
            if not isinstance(parameter, Float):
                raise SpaceError(
                    f"only Floats have values that are real numbers, got {name!r}: {parameter!r}"
                )
            if parameter.power is None:
                given = [parameter.decode(one) for one in rows[..., column].flatten().tolist()]
                found[..., column] = found.new_tensor(given).reshape(rows.shape[:-1])
        return found

    def _on_grid(self, rows: Tensor) -> Tensor:
        """Values of those columns that decode to multiples of a power of ten; of others, anything."""
        low, high, power = (part.to(rows.device) for part in self._grid)
        value = torch.round((low + rows * (high - low)) * power) / power
        value = torch.minimum(torch.maximum(value, low), high)
        return torch.where(rows <= 0.0, low, torch.where(rows >= 1.0, high, value))

    @cached_property
    def _grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ends of the range of each column and what makes its values integers; of some Floats alone."""
        grids = [
            (parameter.low, parameter.high, parameter.power)
            if isinstance(parameter, Float) and parameter.power is not None
            else (0.0, 1.0, 1.0)
            for _, parameter in self
        ]
        low, high, power = torch.tensor(grids, dtype=torch.float64, device="cpu").unbind(-1)
        return low, high, power

    def spread(self, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows of uniform draws in [0, 1]^d: discrete columns move to levels, each with its own mass."""
        rows = uniform.clone()
        for column, (_, parameter) in enumerate(self):
            if not isinstance(parameter, Float):
                draws = uniform[..., column].cpu().numpy()
                rows[..., column] = torch.from_numpy(parameter.position(parameter.quantile(draws))).to(rows)
        return rows

    def snap(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows with each discrete column moved to its nearest level."""
        snapped = rows.clone()
        for column, (_, parameter) in enumerate(self):
            if not isinstance(parameter, Float):
                units = rows[..., column].cpu().numpy()
                snapped[..., column] = torch.from_numpy(parameter.position(parameter.level(units))).to(rows)
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
        return torch.from_numpy(parameter.position(np.asarray(levels, dtype=np.float64)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form: a table of parameters in order, each with its `type` and fields."""
        return {name: parameter.to_dict() for name, parameter in self}

    @staticmethod
    def from_dict(form: Any) -> "Space":
        """The space of a JSON or TOML form.

        Raises:
            SpaceError: a form that is not a table of parameters, or a parameter that breaks a rule.
        """
        try:
            if not isinstance(form, Mapping):
                raise SpaceError(f"a space must be a table of parameters, got {described(form)}")
            return Space({name: _parameter_from_dict(name, fields) for name, fields in form.items()})
        except RecursionError:
            raise SpaceError("a space must be a table of parameters, got one nested without end") from None

    @staticmethod
    def from_file(path: str | Path) -> "Space":
        """The space in a .toml or .json file of up to 10 MB.

        Raises:
            SpaceError: a file that is missing, of another kind, too large, not readable, or no space.
        """
        file = Path(path)
        if file.suffix not in (".toml", ".json"):
            raise SpaceError(f"a space file must end in .toml or .json, got {file.name!r}")
        try:
            text = _text(file)
            if file.suffix == ".toml" and _has_long_keys(text):
                raise SpaceError(
                    f"a space must be a table of parameters, got {str(file)!r}, nested without end"
                )
            form = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(f"the space file {str(file)!r} cannot be read: {error}") from error
        return Space.from_dict(form)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, order, ranges and options: two spaces are the same when these are equal."""
        form = json.dumps(list(self.to_dict().items()), allow_nan=False)
        return hashlib.sha256(form.encode()).hexdigest()[:16]


Space.parameters = Copied("parameters")  # type: ignore[assignment]
