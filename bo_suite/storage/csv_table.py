"""The records of a CSV file, and what is wrong with each."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bo_suite.errors import DataError, SpaceError, TrialError
from bo_suite.space.space import Params, Space
from bo_suite.space.text import ParameterText
from bo_suite.storage.by_parameter import ByParameter
from bo_suite.storage.csv_outcomes import (
    OutcomeColumns,
    number_of_cell,
    outcome_heading,
    parameter_heading,
    told_in,
    value_headings,
)
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import STATES, Observation
from bo_suite.values.cells import live
from bo_suite.values.describe import described

PREFIX = "param_"
"""What `to_frame` writes before the name of a parameter."""

OTHERS = ("id", "state", "reason", "transient")
"""Columns beside the parameters and the outcomes, each of which may be missing."""

BY_PARAMETER = ("gradient", "params_std")
"""Kinds of columns that parameters may have beside their values."""

_DELIMITERS = (",", ";", "\t")

_NO_OUTCOME = ("running", "withdrawn", "stopped", "paused")
"""States of rows that are no observations: a value in one is that of an earlier step."""

_SAY_WHICH = "`columns` and `value` (--column and --value) say which column is what"

_MOST_SHOWN = 20
"""Most headings in a message."""


@dataclass(frozen=True)
class Columns:
    """Which column of a table, counted from 0, holds what."""

    parameters: Mapping[str, int]
    outcomes: OutcomeColumns = field(default_factory=OutcomeColumns)
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> list[int]:
        """All columns that are read, those with two uses twice."""
        return [*self.parameters.values(), *self.outcomes.used, *self.others.values()]


@dataclass(frozen=True)
class Wanted:
    """What the columns of a table are for.

    Attributes:
        space: of the points.
        headings: of parameters by name, where they differ from the name.
        goals: of the outcomes; None for a table of points alone.
        values: headings of outcomes by name, where they differ from `value_NAME`.
    """

    space: Space
    headings: Mapping[str, str]
    goals: Goals | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(
        space: Space,
        headings: Mapping[str, str] | None,
        goals: Goals | None = None,
        values: str | Mapping[str, str] | None = None,
    ) -> "Wanted":
        """The columns that a user names; raises DataError as `value_headings`."""
        return Wanted(space, headings or {}, goals, {} if goals is None else value_headings(goals, values))

    def of_parameter(self, name: str) -> list[str]:
        """Headings that the column of a parameter may have, the first that exists counts."""
        return [self.headings[name]] if name in self.headings else [f"{PREFIX}{name}", name]

    def of_outcome(self, name: str) -> list[str]:
        """Headings that the column of an outcome may have, the first that exists counts."""
        if name in self.values:
            return [self.values[name]]
        heading = outcome_heading("value", name)
        return [heading] if name in (*self.space.names, *OTHERS) else [heading, name]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the outcomes."""
        return () if self.goals is None else self.goals.names

    @property
    def all(self) -> set[str]:
        """All headings that have a use."""
        parameters = {heading for name in self.space.names for heading in self.of_parameter(name)}
        values = {heading for name in self.outcomes for heading in self.of_outcome(name)}
        stds = {outcome_heading("std", name) for name in self.outcomes}
        known = {parameter_heading(kind, name) for kind in BY_PARAMETER for name in self.space.names}
        return parameters | values | stds | known | {*OTHERS}


@dataclass(frozen=True)
class CsvTable:
    """The records of a file."""

    name: str
    headings: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]  # each with the number of its first line
    decimal: str

    def columns(self, wanted: Wanted) -> Columns:
        """The columns of the parameters and, if there are goals, of the outcomes and the rest.

        Raises:
            DataError: a column is missing, has two uses, or a heading that occurs twice.
        """
        space = wanted.space
        for name in wanted.headings:
            _ = space[name]  # raises for an unknown name
        places = {name: self._place(*wanted.of_parameter(name)) for name in space.names}
        parameters = {name: place for name, place in places.items() if place is not None}
        rest = f"among the headings {described(list(self.headings[:_MOST_SHOWN]))}; {_SAY_WHICH}"
        if lost := [name for name, p in space if name not in parameters and p.when is None]:
            more = f" and {len(lost) - _MOST_SHOWN} more" if len(lost) > _MOST_SHOWN else ""
            none = f"none for {lost[:_MOST_SHOWN]}{more}"
            raise DataError(f"every parameter must have a column in {self.name!r}, got {none} {rest}")
        if wanted.goals is None:
            return Columns(parameters)
        columns = Columns(parameters, OutcomeColumns(self._values(wanted, wanted.goals, rest)))
        if twice := [place for place, uses in Counter(columns.used).items() if uses > 1]:
            raise DataError(
                f"a column must have one use, got {self.headings[twice[0]]!r} of {self.name!r} for two; "
                f"{_SAY_WHICH}"
            )
        stds = {name: self._place(outcome_heading("std", name)) for name in columns.outcomes.values}
        others = {name: self._place(name) for name in OTHERS}
        known = [
            {name: self._place(parameter_heading(kind, name)) for name in space.names}
            for kind in BY_PARAMETER
        ]
        free, *rest_of_outcomes = (
            {name: at for name, at in found.items() if at is not None and at not in columns.used}
            for found in (others, stds, *known)
        )
        return Columns(parameters, OutcomeColumns(columns.outcomes.values, *rest_of_outcomes), free)

    def _values(self, wanted: Wanted, goals: Goals, rest: str) -> dict[str, int]:
        """The columns of outcomes; that of a constraint alone may be missing, unless the user named it."""
        required = {*(objective.name for objective in goals.objectives), *wanted.values}
        places = {name: self._place(*wanted.of_outcome(name)) for name in goals.names}
        if lost := [name for name, place in places.items() if place is None and name in required]:
            which = f"outcome {lost[0]!r}" if goals.named else "outcome"
            none = f"got no {wanted.of_outcome(lost[0])[0]!r} {rest}"
            raise DataError(f"the {which} must have a column in {self.name!r}, {none}")
        return {name: place for name, place in places.items() if place is not None}

    def _place(self, *names: str) -> int | None:
        """The index of the first of some headings that there is; spaces around a heading are ignored."""
        for name in names:
            for headings in (self.headings, tuple(heading.strip() for heading in self.headings)):
                if headings.count(name) > 1:
                    raise DataError(f"headings must differ, got {name!r} twice in {self.name!r}")
                if name in headings:
                    return headings.index(name)
        return None


@dataclass(frozen=True)
class Forms:
    """How the points of a space are written in cells."""

    space: Space
    texts: Mapping[str, ParameterText]

    @staticmethod
    def of(space: Space) -> "Forms":
        """The forms of the parameters of a space."""
        return Forms(space, {name: ParameterText(parameter) for name, parameter in space})


class CsvRow:
    """A row of a table while it is read.

    Attributes:
        line: number of its first line.
        faults: what is wrong with it.
    """

    def __init__(self, table: CsvTable, columns: Columns, record: tuple[int, list[str]]) -> None:
        line, cells = record
        self.line, self._decimal, self._columns, self._cells = line, table.decimal, columns, cells
        self.faults: list[str] = []
        if len(cells) != len(table.headings):
            self.faults.append(f"it must have {len(table.headings)} cells, got {len(cells)}")

    def text(self, column: int | None) -> str:
        """The text of a cell without what `inert` added; "" if there is no such cell."""
        return live(self._cells[column]) if column is not None and column < len(self._cells) else ""

    def other(self, name: str) -> str:
        """The text of a column beside the parameters and the outcome."""
        return self.text(self._columns.others.get(name)).strip()

    @property
    def why_left_out(self) -> str | None:
        """Why the row is no observation; None if it is one."""
        state = self.other("state").lower()
        by_chance = state == "failed" and self.other("transient").lower() in ("true", "1")
        return state if state in _NO_OUTCOME else "failed by chance" if by_chance else None

    def point(self, forms: Forms, *, within: bool) -> Params:
        """The values of the active parameters; those that break a rule are left out, and are faults."""
        point: Params = {}
        if self.faults:  # cells are missing, or are not where they belong
            return point
        for name, form in forms.texts.items():
            text = self.text(self._columns.parameters.get(name))
            value = form.read(text, self._decimal)
            if not text.strip() and form.parameter.when is not None:
                point |= {name: value} if value is None else {}  # an option, or inactive
                continue
            try:
                point[name] = form.parameter.check(value) if within else form.parameter.accept(value)
            except SpaceError as error:
                missing = value == text and not text.strip()
                self.faults.append(f"parameter {name!r}: " + ("it has no value" if missing else str(error)))
        if forms.space.conditions.order and not self.faults:
            try:
                return forms.space.check(point) if within else forms.space.accept(point)
            except SpaceError as error:
                self.faults.append(str(error))
        return point

    def observation(self, forms: Forms, goals: Goals) -> Observation | None:
        """The observation; None if the row breaks a rule."""
        point = self.point(forms, within=True)
        columns = self._columns.outcomes
        value, std = self._told(goals, columns.values), self._told(goals, columns.stds)
        known = ByParameter(self._by_parameter(columns.gradient), self._by_parameter(columns.params_std))
        reason, state = self.text(self._columns.others.get("reason")) or None, self.other("state").lower()
        failed = state == "failed" or (state == "" and value is None and reason is not None)
        observation = None
        if state not in ("", *STATES):
            self.faults.append(f"a state must be one of {list(STATES)}, got {described(self.other('state'))}")
        elif failed and value is not None:
            self.faults.append(f"a failed row must have no value, got {described(value)}")
        elif failed:
            observation = Observation(point, None, reason=reason or "failed")
        elif value is None:
            self.faults.append("it has no value (a row that failed needs a reason, or the state 'failed')")
        else:
            try:
                outcome = goals.stored(value, std)
                if not self.faults and known != ByParameter():
                    known.stored(forms.space, goals, json.dumps(point), outcome["value"])
            except TrialError as error:
                self.faults.append(str(error))
            gradient, params_std = known.gradient, known.params_std
            observation = Observation(point, value, std, gradient=gradient, params_std=params_std)
        return None if self.faults else observation

    def _by_parameter(self, columns: Mapping[str, int]) -> Any:
        """What the cells of some columns tell of parameters; None if all are blank."""
        cells = {name: number_of_cell(self.text(at), self._decimal, False) for name, at in columns.items()}
        return {name: number for name, number in cells.items() if number is not None} or None

    def _told(self, goals: Goals, columns: Mapping[str, int]) -> Any:
        """What the cells of some columns tell, as `told_in`."""
        cells = {
            name: number_of_cell(self.text(at), self._decimal, goals.named) for name, at in columns.items()
        }
        return told_in(goals, cells)


def csv_table(path: str | Path, wanted: Wanted) -> CsvTable:
    """The records of a file, separated by what gives the most of the wanted headings."""
    name = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError(f"a table must be UTF-8 text, got {name!r}: {error}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"the table {name!r} cannot be read: {error}") from error
    known = wanted.all

    def score(delimiter: str) -> tuple[int, int]:
        try:
            first = next(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter), [])
        except csv.Error:
            return (0, 0)
        return len({heading.strip() for heading in first} & known), len(first)

    delimiter = max(_DELIMITERS, key=score)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        records = _records(reader, lambda: reader.line_num)
    except csv.Error as error:
        raise DataError(f"the table {name!r} cannot be read: {error}") from error
    if not records:
        raise DataError(f"a table must begin with a row of headings, got {name!r}, which is empty")
    return CsvTable(name, tuple(records[0][1]), tuple(records[1:]), "," if delimiter == ";" else ".")


def _records(reader: Iterator[list[str]], lines: Callable[[], int]) -> list[tuple[int, list[str]]]:
    """Records that are not blank, each with the number of its first line."""
    records, line = [], 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            records.append((line, cells))
        line = lines() + 1
    return records
