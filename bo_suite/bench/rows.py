"""The rows of a suite's tables: what each must hold, and the hashes by which any other change shows.

The hash of a row covers its values; that of a unit that has ended also covers the hashes of its evaluations,
so that none can go missing. Files of version 1 have no hashes: their rows are checked by what they hold.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bo_suite.errors import StorageError
from bo_suite.storage.content import check, digest, is_number, is_whole, parsed

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
        *("ask_seconds", "evaluate_seconds", "tell_seconds", "provenance", "failure"),
    ),
}
"""Columns of each table in order, without the hash, which is the last one."""

ENDED = ("finished", "crashed", "timed out")
"""States of a unit that has ended."""

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
    """All rows of a suite, checked, in order; the hash of each is its last value, None where it has none."""

    problems: list[Row]
    methods: list[Row]
    environments: list[Row]
    units: list[Row]
    evaluations: list[Row]


def read_rows(connection: sqlite3.Connection, file: str, version: str) -> Rows:
    """The rows of a suite.

    Args:
        connection: to its file, in a transaction.
        file: its name, for errors.
        version: of the file, "1" or "2".

    Raises:
        StorageError: a file that SQLite finds damaged, or a value that its field cannot have.
        sqlite3.Error: what SQLite raises.
    """
    (report,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    check(report == "ok", file, "intact", report)
    odd = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchall()
    check(not odd, file, "a file of tables alone, without views and triggers", odd)
    found = {}
    for table, columns in COLUMNS.items():
        hashed = "digest" if version != "1" else "NULL"
        query = f"SELECT {', '.join(columns)}, {hashed} FROM {table} ORDER BY {_ORDERS[table]}"
        found[table] = connection.execute(query).fetchall()
    rows = Rows(**found)
    for table, columns in COLUMNS.items():
        for row in found[table]:
            _check_fields(f"{file}: the row {_key(table, row)} of {table}", columns, _FIELDS[table], row)
    _check_together(file, rows)
    if version != "1":
        for table, key, row, expected in _expected(rows):
            check(row[-1] == expected, f"{file}: the row {key} of {table}", "what was stored", row[-1])
    return rows


def row_digest(row: Sequence[Any]) -> str:
    """The hash of a row, given without it."""
    return digest(list(row))


def unit_digest(row: Sequence[Any], evaluations: Sequence[str]) -> str:
    """The hash of a unit that has ended, given its row without it and the hashes of its evaluations."""
    return digest([list(row), list(evaluations)])


def hash_rows(connection: sqlite3.Connection, rows: Rows) -> None:
    """Adds the column of hashes to the tables of version 1 and fills it; in a transaction of the caller's."""
    for table in COLUMNS:
        connection.execute(f"ALTER TABLE {table} ADD COLUMN digest TEXT")
    with_evaluations = {
        **{table: getattr(rows, table) for table in ("problems", "methods", "environments")},
        "evaluations": [(*row[:-1], row_digest(row[:-1])) for row in rows.evaluations],
        "units": rows.units,
    }
    for table, key, _, expected in _expected(Rows(**with_evaluations)):
        which = " AND ".join(f"{name} = ?" for name in COLUMNS[table][: len(key)])
        connection.execute(f"UPDATE {table} SET digest = ? WHERE {which}", (expected, *key))


def _key(table: str, row: Row) -> Row:
    """The values that tell a row from the others of its table."""
    return row[: {"units": 3, "evaluations": 4}.get(table, 1)]


def _expected(rows: Rows) -> Iterator[tuple[str, Row, Row, str | None]]:
    """Table, key, row and hash of each row; that of a unit covers the stored hashes of its evaluations."""
    evaluations = defaultdict(list)
    for row in rows.evaluations:
        evaluations[row[:3]].append(row[-1])
    for table in ("problems", "methods", "environments", "evaluations"):
        for row in getattr(rows, table):
            yield table, _key(table, row), row, row_digest(row[:-1])
    for row in rows.units:
        ended = row[3] in ENDED
        yield "units", row[:3], row, unit_digest(row[:-1], evaluations[row[:3]]) if ended else None


def _check_fields(what: str, columns: Sequence[str], fields: "_Fields", row: Row) -> None:
    for name, value in zip(columns, row, strict=False):
        fits, law = fields[name]
        if not fits(value):
            check(False, f"{what}: the field {name}", law, value)
    for name, value in zip(columns, row, strict=False):
        if name in _JSON:
            form = parsed(f"{what}: the field {name}", value)
            check(isinstance(form, dict), f"{what}: the field {name}", "an object of JSON", value)
            if name == "form":
                _check_form(f"{what}: the field form", form)
            elif name == "params":
                plain = all(isinstance(v, str | bool | int | float | None) for v in form.values())
                check(bool(form) and plain, f"{what}: the field params", "values by name", value)


def _check_form(what: str, form: dict[str, Any]) -> None:
    for name, (fits, law) in _FORM.items():
        value = form.get(name)
        check(value is None or fits(value), f"{what}, {name}", law, value)


def _check_together(file: str, rows: Rows) -> None:
    """What rows must be given others."""
    environments = {row[0] for row in rows.environments}
    ended = set()
    for row in rows.units:
        problem, method, seed, state, _, reason, seconds, replicates, environment, _ = row
        what = f"{file}: the row {(problem, method, seed)} of units"
        if state == "running":
            check(
                (reason, seconds, replicates, environment) == (None,) * 4, what, "one of no outcome yet", row
            )
            continue
        ended.add((problem, method, seed))
        check(is_number(seconds) and seconds >= 0, f"{what}: the field seconds", "a number >= 0", seconds)
        check(is_whole(replicates, 1), f"{what}: the field replicates", "an integer >= 1", replicates)
        known = environment in environments
        check(known, f"{what}: the field environment", "one of environments", environment)
        why = state == "finished" or reason is not None
        check(why, f"{what}: the field reason", f"why it is {state}", reason)
    last: tuple[Row, int] = ((), 0)
    for row in rows.evaluations:
        number = 1 + (last[1] if last[0] == row[:3] else 0)
        what = f"{file}: the row {row[:4]} of evaluations"
        check(row[:3] in ended, what, "one of a unit that has ended", row[:3])
        check(row[3] == number, f"{what}: the field evaluation", f"{number}, the next one", row[3])
        failed = row[12] is not None
        check(failed == (row[5] is None), f"{what}: the field value", "there unless it failed", row[5])
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
    return isinstance(value, dict) and all(isinstance(one, str | None) for one in value.values())


_NAME = (_is_name, "a name")
_TEXT = (_is_text, "a text")
_MAYBE_TEXT = (_or_null(_is_text), "a text or none")
_MAYBE_NUMBER = (_or_null(is_number), "a finite number or none")
_MAYBE_COUNT = (_or_null(is_whole), "an integer or none")
_COUNT = (lambda value: is_whole(value, 0), "an integer >= 0")
_SECONDS = (_is_duration, "a number >= 0")

_JSON = ("form", "params", "provenance")
"""Fields that hold an object of JSON."""

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
    },
}

_FORM: _Fields = {
    "minimum": (is_number, "a finite number or null"),
    "best_known": (is_number, "a finite number or null"),
    "noise": (_is_duration, "a number >= 0"),
    "dim": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "budget": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "time_limit": (_is_duration, "a number >= 0 or null"),
    "space": _TEXT,
    "method": _TEXT,
    "python": _TEXT,
    "platform": _TEXT,
    "device": _TEXT,
    "threads": (lambda value: is_whole(value, 1), "an integer >= 1"),
    "commit": _TEXT,
    "command": _TEXT,
    "versions": (_are_texts, "versions by name"),
}
"""Fields of the forms of problems, methods and environments, each of which may be absent."""


def check_version(file: str, found: Row | None) -> str:
    """The version of a file that is one of ours.

    Raises:
        StorageError: a version that is none or newer.
    """
    if found is None or found[0] not in ("1", "2"):
        raise StorageError(f"{file} must be records of version 1 or 2, got {found and found[0]!r}")
    return str(found[0])
