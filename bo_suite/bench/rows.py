"""The rows of a suite's tables: the requirements of each field, and hashes that reveal any other change.

The hash of a row covers its values. The hash of an ended unit also covers the hashes of its evaluations, so
that none can go missing. Files of version 1 have no hashes: only their fields are checked.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bo_suite.storage.content import check, digest, is_number, is_whole, parsed
from bo_suite.storage.database import Database

COLUMNS = {
    "problems": ("problem", "form"),
    "methods": ("method", "form"),
    "environments": ("environment", "form"),
    "units": (
        *("problem", "method", "seed", "state", "owner", "reason", "seconds", "replicates"),
        "environment",
    ),
    "evaluations": (
        *("problem", "method", "seed", "evaluation", "params", "value", "true_value", "regret"),
        *("ask_seconds", "evaluate_seconds", "tell_seconds", "provenance", "failure", "outcomes"),
    ),
}
"""Columns of each table in order, without the last one, the hash."""

ENDED = ("finished", "crashed", "timed out")
"""States of an ended unit."""

_ORDERS = {
    "problems": "rowid",
    "methods": "rowid",
    "environments": "environment",
    "units": "problem, method, seed",
    "evaluations": "problem, method, seed, evaluation",
}

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Rows:
    """All rows of a suite, in order; the last value of each is its hash, or None."""

    problems: list[Row]
    methods: list[Row]
    environments: list[Row]
    units: list[Row]
    evaluations: list[Row]


def checked_rows(database: Database) -> Rows:
    """The rows of a suite at one moment, while runners may be writing.

    Raises:
        StorageError: the file is damaged, or a field has a wrong value.
    """

    def read() -> tuple[Rows, str]:
        version = check_version(database)
        return read_rows(database, version), version

    rows, version = database.atomically(read, writes=False)
    check_rows(database.name, rows, version)  # takes longer than a server waits in a transaction
    return rows


def read_rows(database: Database, version: str) -> Rows:
    """The rows of a suite, which are not checked yet; to be called within a transaction.

    Args:
        database: of the suite.
        version: version of the tables, "1", "2" or "3".

    Raises:
        StorageError: the file is damaged.
    """
    database.check_integrity()
    others = database.programs()
    check(not others, database.name, "tables alone, without views and triggers", others)
    tables = {}
    for table, columns in COLUMNS.items():
        hash_column = "digest" if version != "1" else "NULL"
        there = ["NULL" if name == "outcomes" and version != "3" else name for name in columns]
        query = f"SELECT {', '.join(there)}, {hash_column} FROM {table} ORDER BY {_ORDERS[table]}"
        tables[table] = database.execute(query)
    return Rows(**tables)


def check_rows(name: str, rows: Rows, version: str) -> None:
    """Raises a StorageError if a field has a wrong value, or is not what was stored.

    Args:
        name: of the database.
        rows: all rows.
        version: of the tables.
    """
    for table, columns in COLUMNS.items():
        for row in getattr(rows, table):
            _check_fields(f"{name}: the row {_key(table, row)} of {table}", columns, _FIELDS[table], row)
    _check_references(name, rows)
    if version != "1":
        for table, key, row, expected in _expected(rows):
            if row[-1] != expected:
                check(False, f"{name}: the row {key} of {table}", "what was stored", row[-1])


def row_digest(row: Sequence[Any]) -> str:
    """The hash of a row; `row` does not include it."""
    return digest(list(row))


def evaluation_digest(row: Sequence[Any]) -> str:
    """The hash of an evaluation; without outcomes by name it is that of version 2, which has no column."""
    return row_digest(row[:-1] if row[-1] is None else row)


def unit_digest(row: Sequence[Any], evaluations: Sequence[str]) -> str:
    """The hash of an ended unit, of its row without the hash and of the hashes of its evaluations."""
    return digest([list(row), list(evaluations)])


def hash_rows(database: Database, rows: Rows) -> None:
    """Adds a column of hashes to each table of version 1; to be called within a transaction."""
    for table in COLUMNS:
        database.write(f"ALTER TABLE {table} ADD COLUMN digest TEXT")
    with_evaluations = {
        **{table: getattr(rows, table) for table in ("problems", "methods", "environments")},
        "evaluations": [(*row[:-1], evaluation_digest(row[:-1])) for row in rows.evaluations],
        "units": rows.units,
    }
    for table, key, _, expected in _expected(Rows(**with_evaluations)):
        condition = " AND ".join(f"{name} = ?" for name in COLUMNS[table][: len(key)])
        database.write(f"UPDATE {table} SET digest = ? WHERE {condition}", (expected, *key))


def _key(table: str, row: Row) -> Row:
    """The primary key of a row."""
    return row[: {"units": 3, "evaluations": 4}.get(table, 1)]


def _expected(rows: Rows) -> Iterator[tuple[str, Row, Row, str | None]]:
    """Table, key, row and expected hash of each row, from the stored hashes of the evaluations."""
    evaluations = defaultdict(list)
    for row in rows.evaluations:
        evaluations[row[:3]].append(row[-1])
    for table in ("problems", "methods", "environments", "evaluations"):
        for row in getattr(rows, table):
            hashed = evaluation_digest if table == "evaluations" else row_digest
            yield table, _key(table, row), row, hashed(row[:-1])
    for row in rows.units:
        ended = row[3] in ENDED
        yield "units", row[:3], row, unit_digest(row[:-1], evaluations[row[:3]]) if ended else None


def _check_fields(name: str, columns: Sequence[str], fields: "_Fields", row: Row) -> None:
    for column, value in zip(columns, row, strict=False):
        fits, requirement = fields[column]
        if not fits(value):
            check(False, f"{name}: the field {column}", requirement, value)
    for column, value in zip(columns, row, strict=False):
        if column in _JSON and value is not None:
            form = parsed(f"{name}: the field {column}", value)
            check(isinstance(form, dict), f"{name}: the field {column}", "an object of JSON", value)
            if column == "form":
                _check_form(f"{name}: the field form", form)
            elif column == "params":
                plain = all(isinstance(v, str | bool | int | float | None) for v in form.values())
                check(bool(form) and plain, f"{name}: the field params", "values by name", value)
            elif column == "outcomes":
                numbers = bool(form) and all(map(is_number, form.values()))
                check(numbers, f"{name}: the field outcomes", "finite numbers by name", value)


def _check_form(name: str, form: dict[str, Any]) -> None:
    for key, (fits, requirement) in _FORM.items():
        value = form.get(key)
        check(value is None or fits(value), f"{name}, {key}", requirement, value)


def _check_references(file: str, rows: Rows) -> None:
    """Checks that rows agree with each other: states, environments and numbers of evaluations."""
    environments = {row[0] for row in rows.environments}
    ended = set()
    for row in rows.units:
        problem, method, seed, state, _, reason, seconds, replicates, environment, _ = row
        name = f"{file}: the row {(problem, method, seed)} of units"
        if state == "running":
            empty = (reason, seconds, replicates, environment) == (None,) * 4
            check(empty, name, "one without an outcome", row)
            continue
        ended.add((problem, method, seed))
        check(is_number(seconds) and seconds >= 0, f"{name}: the field seconds", "a number >= 0", seconds)
        check(is_whole(replicates, 1), f"{name}: the field replicates", "an integer >= 1", replicates)
        exists = environment in environments
        check(exists, f"{name}: the field environment", "one of environments", environment)
        has_reason = state == "finished" or reason is not None
        check(has_reason, f"{name}: the field reason", f"why it is {state}", reason)
    last: tuple[Row, int] = ((), 0)
    for row in rows.evaluations:
        number = 1 + (last[1] if last[0] == row[:3] else 0)
        name = f"{file}: the row {row[:4]} of evaluations"
        check(row[:3] in ended, name, "one of a unit that has ended", row[:3])
        check(row[3] == number, f"{name}: the field evaluation", f"{number}, the next one", row[3])
        failed = row[12] is not None
        check(not (failed and row[13]), f"{name}: the field outcomes", "none if it failed", row[13])
        without = failed or (row[13] is not None and row[5] is None)
        check(without == (row[5] is None), f"{name}: the field value", "a number unless it failed", row[5])
        last = (row[:3], number)


_Fields = dict[str, tuple[Callable[[Any], bool], str]]


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_duration(value: object) -> bool:
    return is_number(value) and value >= 0  # type: ignore[operator]


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str | None) for text in value.values())


_NAME = (_is_name, "a name")
_TEXT = (_is_text, "a text")
_MAYBE_TEXT = (_or_null(_is_text), "a text or none")
_MAYBE_NUMBER = (_or_null(is_number), "a finite number or none")
_MAYBE_COUNT = (_or_null(is_whole), "an integer or none")
_COUNT = (lambda value: is_whole(value, 0), "an integer >= 0")
_SECONDS = (_is_duration, "a number >= 0")

_JSON = ("form", "params", "provenance", "outcomes")
"""Fields that contain a JSON object."""

_FIELDS: dict[str, _Fields] = {
    "problems": {"problem": _NAME, "form": _TEXT},
    "methods": {"method": _NAME, "form": _TEXT},
    "environments": {"environment": _COUNT, "form": _TEXT},
    "units": {
        "problem": _NAME,
        "method": _NAME,
        "seed": _COUNT,
        "state": (lambda value: value in ("running", *ENDED), f"running, {', '.join(ENDED)}"),
        "owner": _TEXT,
        "reason": _MAYBE_TEXT,
        "seconds": _MAYBE_NUMBER,
        "replicates": _MAYBE_COUNT,
        "environment": _MAYBE_COUNT,
    },
    "evaluations": {
        "problem": _NAME,
        "method": _NAME,
        "seed": _COUNT,
        "evaluation": _COUNT,
        "params": _TEXT,
        "value": _MAYBE_NUMBER,
        "true_value": _MAYBE_NUMBER,
        "regret": _MAYBE_NUMBER,
        "ask_seconds": _SECONDS,
        "evaluate_seconds": _SECONDS,
        "tell_seconds": _SECONDS,
        "provenance": _TEXT,
        "failure": _MAYBE_TEXT,
        "outcomes": _MAYBE_TEXT,
    },
}

_FORM: _Fields = {
    "minimum": (is_number, "a finite number or null"),
    "best_known": (is_number, "a finite number or null"),
    "noise": (_is_duration, "a number >= 0"),
    "noise_model": _TEXT,
    "dim": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "budget": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "time_limit": (_is_duration, "a number >= 0 or null"),
    "space": _TEXT,
    "goals": (lambda value: isinstance(value, dict), "an object"),
    "method": _TEXT,
    "python": _TEXT,
    "platform": _TEXT,
    "device": _TEXT,
    "threads": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "commit": _TEXT,
    "command": _TEXT,
    "versions": (_are_texts, "versions by name"),
}
"""Fields of the JSON of problems, methods and environments; each may be absent."""


def check_version(database: Database) -> str:
    """The version of the file of a suite.

    Raises:
        StorageError: the version is missing or unknown.
    """
    rows = database.execute("SELECT value FROM meta WHERE key = 'version'")
    version = rows[0][0] if rows else None
    check(version in ("1", "2", "3"), database.name, "records of version 1, 2 or 3", version)
    return str(version)
