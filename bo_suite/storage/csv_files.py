"""Trials in CSV files: those of other tools and of lab books, and those of a history.

A file is read as UTF-8, with or without a byte order mark. Commas, semicolons or tabs separate its columns;
with semicolons a number may have a decimal comma. It is read as a whole or not at all.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bo_suite.errors import ArgumentError, StorageError, TableError
from bo_suite.space.space import Params, Space
from bo_suite.space.text import ParameterText
from bo_suite.storage.csv_outcomes import outcome_cells, outcome_heading, parameter_heading
from bo_suite.storage.csv_table import BY_PARAMETER, OTHERS, PREFIX, CsvRow, Forms, Wanted, csv_table
from bo_suite.storage.goals import MINIMIZE, Goals
from bo_suite.storage.trial import Observation, Trial
from bo_suite.values.cells import inert
from bo_suite.values.describe import described


@dataclass(frozen=True)
class PastTrials:
    """The rows of a table that are observations, and what else the table holds.

    Attributes:
        observations: in the order of the rows; `History.add_all` stores them.
        left_out: number of rows that are no observations, by why: "running", "withdrawn", "stopped",
            "paused", "failed by chance".
        unused: headings of columns that were not read.
    """

    observations: tuple[Observation, ...]
    left_out: Mapping[str, int]
    unused: tuple[str, ...]


def read_csv(
    path: str | Path,
    space: Space,
    columns: Mapping[str, str] | None = None,
    value: str | Mapping[str, str] | None = None,
    goals: Goals = MINIMIZE,
) -> PastTrials:
    """The observations in a CSV file with a column for each parameter and for each objective.

    The column of a parameter is headed by its name, or `param_NAME`; that of the outcome by `value`, those of
    outcomes by name by `value_NAME` or NAME. A blank cell of an outcome by name says that it was not
    measured, "nan" that its measurement failed. The columns `std` (or `std_NAME`), `state` and `reason`,
    those of constraints, and `gradient_NAME` and `params_std_NAME` of parameters may be missing: a row with a
    reason alone has failed, as one in the state "failed".
    Rows in the states "running", "withdrawn", "stopped" and "paused" are left out. Rows may repeat points,
    but no `id`.

    Args:
        path: the file.
        space: of the points.
        columns: headings by the name of a parameter, where they differ.
        value: heading of the only objective, or headings by the name of an outcome, where they differ.
        goals: of the run that the observations are for, such as `optimizer.goals`.

    Raises:
        TableError: rows break a rule, all of which it lists.
        DataError: the file cannot be read, or a column is missing or has two uses.
        UnknownParameter: the space has no parameter of a name in `columns`.
    """
    wanted = Wanted.of(space, columns, goals, value)
    table = csv_table(path, wanted)
    where = table.columns(wanted)
    forms = Forms.of(space)
    observations, faults, seen = [], [], dict[str, int]()
    left_out: Counter[str] = Counter()
    for record in table.rows:
        row = CsvRow(table, where, record)
        identity = row.other("id")
        if identity and seen.setdefault(identity, row.line) != row.line:
            row.faults.append(f"its id {described(identity)} is that of line {seen[identity]}")
        if (why := row.why_left_out) is not None:
            left_out[why] += 1
        elif (observation := row.observation(forms, goals)) is not None:
            observations.append(observation)
        faults += _line_about(row)
    _refuse(path, faults, "a trial of the space")
    unused = (name for place, name in enumerate(table.headings) if name and place not in where.used)
    return PastTrials(tuple(observations), dict(left_out), tuple(unused))


def read_points(path: str | Path, space: Space, columns: Mapping[str, str] | None = None) -> list[Params]:
    """The points in a CSV file with a column for each parameter; they may lie outside of the space.

    Args:
        path: the file.
        space: of the points.
        columns: headings by the name of a parameter, where they differ.

    Raises:
        TableError, DataError, UnknownParameter: as `read_csv`.
    """
    wanted = Wanted.of(space, columns)
    table = csv_table(path, wanted)
    where = table.columns(wanted)
    forms = Forms.of(space)
    rows = [CsvRow(table, where, record) for record in table.rows]
    points = [row.point(forms, within=False) for row in rows]
    _refuse(path, [fault for row in rows for fault in _line_about(row)], "a point of the space")
    return points


def csv_text(trials: Sequence[Trial], space: Space, goals: Goals = MINIMIZE) -> str:
    """Trials as CSV, which `read_csv` reads back with equal values if all lie in the space.

    It refuses rows of trials that were left outside when the space was narrowed.

    Columns: `id`, the parameters (blank: inactive), `value`, `std`, `state`, `reason`, and `transient`
    if a trial failed by chance; after `std` a `gradient_NAME` and a `params_std_NAME` of each parameter for
    which there is one. Outcomes by name have columns `value_NAME` and `std_NAME`: blank where one
    was not measured, "nan" where its measurement failed. Parameters are headed by their names, or all by
    `param_NAME` if a name could be misread. A text that a spreadsheet would compute has an apostrophe before
    it, which `read_csv` removes.

    Args:
        trials: of one run.
        space: of their points.
        goals: of the run, such as `optimizer.goals`.

    Raises:
        ArgumentError: trials have outcomes by name, which the goals lack.
    """
    if not goals.named and any(trial.outcomes for trial in trials):
        raise ArgumentError(f"trials with outcomes by name need goals that name them, got {goals}")
    forms = {name: ParameterText(parameter) for name, parameter in space}
    by_chance = any(trial.transient for trial in trials)
    outcomes = [outcome_heading(kind, name) for kind in ("value", "std") for name in goals.names]
    told = {kind: [getattr(trial, kind) or {} for trial in trials] for kind in BY_PARAMETER}
    known = [
        (kind, name)
        for kind in BY_PARAMETER
        for name in space.names
        if any(name in one for one in told[kind])
    ]
    outcomes += [parameter_heading(*pair) for pair in known]
    prefix = PREFIX if any(_misleading(name, outcomes) for name in space.names) else ""
    headings = [f"{prefix}{name}" for name in space.names]
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # its lines end with \r\n, so that cells with either letter are quoted
    writer.writerow(["id", *headings, *outcomes, "state", "reason", *(["transient"] * by_chance)])
    for row, trial in enumerate(trials):
        point = trial.params
        cells: list[object] = [trial.id, *(_cell(forms[name], point, name) for name in space.names)]
        cells += _numbers(trial, goals)
        cells += [told[kind][row].get(name) for kind, name in known]
        cells += [trial.state, None if trial.reason is None else inert(trial.reason)]
        writer.writerow([*cells, *([trial.transient or None] if by_chance else [])])
    return text.getvalue()


def write_csv(trials: Sequence[Trial], space: Space, path: str | Path, goals: Goals = MINIMIZE) -> None:
    """Writes `csv_text` to a file, which is replaced as a whole.

    As there, `read_csv` refuses rows of trials that were left outside when the space was narrowed.

    Raises:
        StorageError: the file cannot be written.
        ArgumentError: as `csv_text`.
    """
    file = Path(path)
    written = file.with_name(f".{uuid4().hex}.csv")
    try:
        written.write_bytes(csv_text(trials, space, goals).encode("utf-8", "surrogatepass"))
        os.replace(written, file)
    except OSError as error:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        raise StorageError(f"the table {str(file)!r} cannot be written: {error}") from error


def _cell(form: ParameterText, point: Params, name: str) -> str:
    """The cell of a parameter; blank if it is inactive."""
    if name not in point:
        return ""
    text = form.write(point[name])
    return inert(text) if isinstance(point[name], str) else text


def _numbers(trial: Trial, goals: Goals) -> list[object]:
    """The cells of the outcomes of a trial, and of their noise."""
    if not goals.named:
        return [trial.value, trial.std]
    return [*outcome_cells(goals, trial.outcomes or {}), *outcome_cells(goals, trial.stds or {})]


def _misleading(name: str, outcomes: Sequence[str]) -> bool:
    """Whether a heading of this name would be read as something else."""
    taken = name in (*outcomes, *OTHERS) or name.startswith(PREFIX)
    return taken or name != name.strip() or inert(name) != name


def _line_about(row: CsvRow) -> list[str]:
    """What is wrong with a row, as one line, or nothing."""
    return [f"line {row.line}: {'; '.join(row.faults)}"] if row.faults else []


def _refuse(path: str | Path, faults: Sequence[str], what: str) -> None:
    """Raises a TableError if there are faults."""
    if faults:
        requirement = f"every row of {str(path)!r} must be {what}, got {len(faults)} that are not"
        raise TableError(requirement, tuple(faults))
