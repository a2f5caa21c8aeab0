"""The candidates of a space: a table of the points that alone are suggested."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeAlias

from bo_suite.errors import SpaceError
from bo_suite.space.descriptors import from_columns
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Int, Parameter, Value
from bo_suite.values.describe import described

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

    Candidates: TypeAlias = "pd.DataFrame | Mapping[str, Sequence[Any]] | Table | None"


@dataclass(frozen=True, eq=False)
class Table:
    """Distinct points, column by column; iteration gives points.

    Attributes:
        columns: by name of the parameter, a value for each point.
    """

    columns: Mapping[str, tuple[Value, ...]]

    @staticmethod
    def of(candidates: object, parameters: Mapping[str, Parameter | Fixed]) -> "Table":
        """The table of a DataFrame or of a dict of columns; points that occur twice are stored once.

        Args:
            candidates: with a column for each parameter; columns of descriptors are left out.
            parameters: of the space.

        Raises:
            SpaceError: a column is missing or unknown, a value is not one of its parameter, there is no
                point, or a parameter is conditional or a fidelity.
        """
        for name, parameter in parameters.items():
            if parameter.when is not None or (isinstance(parameter, Float | Int) and parameter.fidelity):
                kind = "fidelity" if parameter.when is None else "conditional parameter"
                raise SpaceError(f"a space with candidates must have no {kind}, got {name!r}")
        given = columns_of(candidates)
        described_by = {one for p in parameters.values() if isinstance(p, Choice) for one in p.descriptors}
        if missing := [name for name in parameters if name not in given]:
            raise SpaceError(
                f"candidates must have a column for each parameter, missing {described(missing)}"
            )
        if unknown := [name for name in given if name not in parameters and name not in described_by]:
            raise SpaceError(
                f"columns of candidates must be parameters among {described(list(parameters))}, got "
                f"{described(unknown)}; leave them out, or name them in the `descriptors` of a Choice"
            )
        values = [_checked(name, parameter, given[name]) for name, parameter in parameters.items()]
        rows = dict.fromkeys(zip(*values, strict=True))
        if not rows:
            raise SpaceError("candidates must have at least one row, got none")
        return Table(dict(zip(parameters, zip(*rows, strict=True), strict=True)))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __iter__(self) -> Iterator[dict[str, Value]]:
        return (dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True))

    def __repr__(self) -> str:
        return f"<{len(self)} row{'s' if len(self) > 1 else ''}>"

    def has(self, point: Mapping[str, Any]) -> bool:
        """Whether the point is in the table; values of other parameters are ignored."""
        return tuple(point[name] for name in self.columns) in self._rows

    def allowed(self, is_allowed: Callable[[dict[str, Value]], bool]) -> "Table | None":
        """The points for which a function is true; None if there is none."""
        chosen = [is_allowed(point) for point in self]
        if all(chosen):
            return self
        columns = {name: tuple(compress(values, chosen)) for name, values in self.columns.items()}
        return Table(columns) if any(chosen) else None

    def without(self, names: Mapping[str, Any]) -> "Table":
        """The table without some columns, each of which has a single value."""
        return Table({name: values for name, values in self.columns.items() if name not in names})

    def matches(self, parameters: Mapping[str, Parameter | Fixed]) -> bool:
        """Whether a point has all fixed values."""
        fixed = {name: one.value for name, one in parameters.items() if isinstance(one, Fixed)}
        wanted = tuple(fixed.values())
        return not fixed or wanted in zip(*(self.columns[name] for name in fixed), strict=True)

    @property
    def form(self) -> dict[str, list[Value]]:
        """JSON form: a list of values by name."""
        return {name: list(values) for name, values in self.columns.items()}

    @cached_property
    def digest(self) -> str:
        """Hash of the names and the values."""
        return sha256(json.dumps(list(self.form.items()), allow_nan=False).encode()).hexdigest()[:16]

    @cached_property
    def _rows(self) -> frozenset[tuple[Value, ...]]:
        return frozenset(zip(*self.columns.values(), strict=True))


def digest_of(table: Table | None) -> str | None:
    """The hash of a table; None if there is none."""
    return None if table is None else table.digest


def columns_of(candidates: object) -> Mapping[str, Sequence[Any]]:
    """The columns of candidates by name, all of one length.

    Raises:
        SpaceError: the candidates are neither a DataFrame nor a dict of columns.
    """
    if isinstance(candidates, Table):
        return candidates.columns
    law = "candidates must be a DataFrame or a dict of columns of equal length"
    names: Any = candidates if isinstance(candidates, Mapping) else getattr(candidates, "columns", None)
    try:
        listed = list(names)
        columns = {name: _listed(candidates[name]) for name in listed}  # type: ignore[index]
    except Exception as error:  # a user's object may raise anything
        what = described(candidates) if isinstance(candidates, dict) else f"a {type(candidates).__name__}"
        raise SpaceError(f"{law}, got {what}") from error
    if not listed or len(columns) < len(listed) or not all(isinstance(name, str) for name in columns):
        raise SpaceError(f"{law}, whose names are strings and differ, got {described(listed)}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise SpaceError(f"{law}, got lengths {described(lengths)}")
    return columns


def _listed(values: Any) -> list[Any]:
    """The values of a column; raises TypeError for text, whose letters are no values."""
    if isinstance(values, str | bytes):
        raise TypeError("a column must hold values")
    return list(values)


def _checked(name: str, parameter: Parameter | Fixed, values: Sequence[Any]) -> Sequence[Value]:
    """The values in canonical form; each distinct one is checked once."""
    if isinstance(parameter, Float) and parameter.step is None and all(type(one) is float for one in values):
        low, high = parameter.low, parameter.high
        if all(low <= one <= high for one in values):  # which is false for NaN
            return values
    canonical: dict[Any, Value] = {}
    checked = []
    for row, value in enumerate(values):
        try:
            key = type(value), value  # True == 1
            if key not in canonical:
                canonical[key] = parameter.check(value)
            checked.append(canonical[key])
        except (SpaceError, TypeError) as error:  # TypeError: it cannot be a key
            law = f"values of {name!r} in candidates must be those of the parameter"
            reason = error if isinstance(error, SpaceError) else described(value)
            raise SpaceError(f"{law}, got in row {row}: {reason}") from error
    return checked


def with_descriptors(parameters: Mapping[str, Any], candidates: object) -> dict[str, Any]:
    """The parameters with numbers in place of descriptors that name columns of the candidates.

    Raises:
        SpaceError: there are no candidates, a column is missing, or options have no numbers or several; or a
            condition is on a Choice with descriptors.
    """
    complete = dict(parameters)
    for name, choice in parameters.items():
        stated = choice.descriptors if isinstance(choice, Choice) else ()
        if isinstance(stated, tuple) and stated:
            if candidates is None:
                raise SpaceError(
                    f"descriptors that are names need a space with candidates, got {list(stated)} of {name!r}"
                )
            columns = columns_of(candidates)
            numbers = from_columns(stated, name, choice.options, columns)
            complete[name] = replace(choice, descriptors=numbers)
        dependent = [other for other, one in parameters.items() if name in (one.when or ())] if stated else []
        if dependent:
            raise SpaceError(
                f"a condition must not be on a Choice with descriptors, got that of {dependent[0]!r} on "
                f"{name!r}"
            )
    return complete
