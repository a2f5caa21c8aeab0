"""The records of a CSV file, and what is wrong with each."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bo_suite.errors import DataError, SpaceError, TrialError
from bo_suite.space.space import Params, Space
from bo_suite.space.text import ParameterText, number_in
from bo_suite.storage.goals import MINIMIZE
from bo_suite.storage.trial import STATES, Observation
from bo_suite.values.cells import live
from bo_suite.values.describe import described

PREFIX = "param_"
"""What `to_frame` writes before the name of a parameter."""

OTHERS = ("id", "std", "state", "reason", "transient")
"""Columns beside the parameters and the outcome, each of which may be missing."""

_DELIMITERS = (",", ";", "\t")

_SAY_WHICH = "`columns` and `value` (--column and --value) say which column is what"

_MOST_SHOWN = 20
"""Most headings in a message."""


@dataclass(frozen=True)
class Columns:
    """Which column of a table, counted from 0, holds what."""

    parameters: Mapping[str, int]
    value: int | None = None
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> list[int]:
        """All columns that are read, those with two uses twice."""
        return [
            *self.parameters.values(),
            *([] if self.value is None else [self.value]),
            *self.others.values(),
        ]


@dataclass(frozen=True)
class CsvTable:
    """The records of a file."""

    name: str
    headings: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]  # each with the number of its first line
    decimal: str

    def columns(self, space: Space, headings: Mapping[str, str], value: str | None) -> Columns:
        """The columns of the parameters and, if its heading is not None, of the outcome and the rest.

        Raises:
            DataError: a column is missing, has two uses, or a heading that occurs twice.
        """
        for name in headings:
            _ = space[name]  # raises for an unknown name
        places = {name: self._place(*_headings_of(name, headings)) for name in space.names}
        parameters = {name: place for name, place in places.items() if place is not None}
        rest = f"among the headings {described(list(self.headings[:_MOST_SHOWN]))}; {_SAY_WHICH}"
        if lost := [name for name in space.names if name not in parameters]:
            more = f" and {len(lost) - _MOST_SHOWN} more" if len(lost) > _MOST_SHOWN else ""
            none = f"none for {lost[:_MOST_SHOWN]}{more}"
            raise DataError(f"every parameter must have a column in {self.name!r}, got {none} {rest}")
        if value is None:
            return Columns(parameters)
        outcome = self._place(value)
        if outcome is None:
            raise DataError(f"the outcome must have a column in {self.name!r}, got no {value!r} {rest}")
        columns = Columns(parameters, outcome)
        if twice := [place for place, uses in Counter(columns.used).items() if uses > 1]:
            raise DataError(
                f"a column must have one use, got {self.headings[twice[0]]!r} of {self.name!r} for two; "
                f"{_SAY_WHICH}"
            )
        others = {name: self._place(name) for name in OTHERS}
        free = {name: at for name, at in others.items() if at is not None and at not in columns.used}
        return Columns(parameters, outcome, free)

    def _place(self, *names: str) -> int | None:
        """The index of the first of some headings that there is; spaces around a heading are ignored."""
        for name in names:
            for headings in (self.headings, tuple(heading.strip() for heading in self.headings)):
                if headings.count(name) > 1:
                    raise DataError(f"headings must differ, got {name!r} twice in {self.name!r}")
                if name in headings:
                    return headings.index(name)
        return None


class CsvRow:
    """A row of a table while it is read.

    Attributes:
        line: number of its first line.
        faults: what is wrong with it.
    """

    def __init__(self, table: CsvTable, columns: Columns, line: int, cells: list[str]) -> None:
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
        return state if state in ("running", "withdrawn") else "failed by chance" if by_chance else None

    def point(self, forms: Mapping[str, ParameterText], *, within: bool) -> Params:
        """The values of the parameters; those that break a rule are left out, and are faults."""
        point: Params = {}
        if self.faults:  # cells are missing, or are not where they belong
            return point
        for name, form in forms.items():
            text = self.text(self._columns.parameters[name])
            value = form.read(text, self._decimal)
            try:
                point[name] = form.parameter.check(value) if within else form.parameter.accept(value)
            except SpaceError as error:
                missing = value == text and not text.strip()
                self.faults.append(f"parameter {name!r}: " + ("it has no value" if missing else str(error)))
        return point

    def observation(self, forms: Mapping[str, ParameterText]) -> Observation | None:
        """The observation; None if the row breaks a rule."""
        point = self.point(forms, within=True)
        value, std = self._number(self.text(self._columns.value)), self._number(self.other("std"))
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
            observation = self._finished(point, value, std)
        return None if self.faults else observation

    def _finished(self, point: Params, value: object, std: object) -> Observation | None:
        try:
            outcome = MINIMIZE.stored(value, std)  # type: ignore[arg-type]  # a text is refused
        except TrialError as error:
            self.faults.append(str(error))
            return None
        return Observation(point, outcome["value"], outcome["std"])

    def _number(self, text: str) -> float | str | None:
        """The number in a cell, its text if it is none, or None if the cell is blank."""
        number = number_in(text, self._decimal)
        return (text if text.strip() else None) if number is None else number


def _headings_of(name: str, columns: Mapping[str, str]) -> list[str]:
    """Headings that the column of a parameter may have, the first that exists counts."""
    return [columns[name]] if name in columns else [f"{PREFIX}{name}", name]


def csv_table(path: str | Path, space: Space, columns: Mapping[str, str], value: str | None) -> CsvTable:
    """The records of a file, separated by what gives the most of the wanted headings."""
    name = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError(f"a table must be UTF-8 text, got {name!r}: {error}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"the table {name!r} cannot be read: {error}") from error
    wanted = {heading for one in space.names for heading in _headings_of(one, columns)} | {value, *OTHERS}

    def score(delimiter: str) -> tuple[int, int]:
        try:
            first = next(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter), [])
        except csv.Error:
            return (0, 0)
        return len({heading.strip() for heading in first} & wanted), len(first)

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
