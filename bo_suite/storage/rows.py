"""Rows of a history file as trials: each is checked, by its seal or else field by field."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

from bo_suite.errors import SpaceError
from bo_suite.space.space import Space
from bo_suite.storage.content import is_number, is_whole
from bo_suite.storage.trial import STATES, Trial
from bo_suite.system.owners import is_owner

COLUMNS = (
    *("id", "params", "state", "value", "std", "reason", "attempt", "asked", "provenance"),
    *("started", "ended", "owner", "revision", "transient", "traceback"),
)
"""Those of a row, but for its seal."""

_LATER = {"transient": 0, "traceback": None}
"""Those that files of earlier versions lack, with what they would hold; version 1 had no seals either."""

_FIRST = len(COLUMNS) - len(_LATER)
"""Columns of version 1."""

_FIELDS = COLUMNS[: COLUMNS.index("owner")]
"""Those that a Trial has in the same order; those of later versions follow."""

Row = tuple[Any, ...]


def sealed(row: Row) -> Row:
    """The row with its seal: a checksum of the whole, and a short one of each field after the id."""
    return (*row, f"{crc32(repr(row).encode()):08x}" + "".join(map(_mark, row[1:])))


def _mark(value: object) -> str:
    return f"{crc32(repr(value).encode()) & 0xFFFF:04x}"


def content_of(row: Row) -> Row:
    """The content of a row of a file, of any version, in the columns of this one."""
    content = row if len(row) == _FIRST else row[:-1]
    return (*content, *tuple(_LATER.values())[len(content) - _FIRST :])


def trial_of(content: Row, run: str) -> Trial:
    """The trial of a row that has been checked."""
    trial = object.__new__(Trial)
    trial.__dict__.update(zip(_FIELDS, content, strict=False))  # params and provenance are decoded when read
    trial.__dict__.update(asked=bool(content[7]), transient=bool(content[13]), traceback=content[14], run=run)
    return trial


def fault_in(row: Row, space: Space) -> str | None:
    """What is wrong with a row of a file, its field named; None where nothing is."""
    if len(row) == _FIRST:
        return _fault_in_content(content_of(row), space)
    *content, seal = row
    if isinstance(seal, str) and seal[:8] == f"{crc32(repr(tuple(content)).encode()):08x}":
        return None
    if (fault := _fault_in_content(content_of(row), space)) is not None:
        return fault
    marks = "".join(map(_mark, content[1:]))
    pairs = zip(COLUMNS[1:], _quarters(marks), _quarters(str(seal)[8:]), strict=False)
    changed = [name for name, now, then in pairs if now != then]
    named = ", ".join(changed) if 0 < len(changed) < len(content) - 1 else "id or seal"
    return f"{named}: not what was stored, says the row's seal"


def _fault_in_content(row: Row, space: Space) -> str | None:
    """What is wrong with a row, judged by its content alone; None where nothing is."""
    for name, value in zip(COLUMNS, row, strict=True):
        try:
            law = _LAWS[name](value, row, space)
        except (ValueError, RecursionError, SpaceError) as error:
            law = str(error)
        if law is not None:
            return f"{name}: {law}, got {value!r:.100}"
    return None


def _quarters(text: str) -> list[str]:
    return [text[place : place + 4] for place in range(0, len(text), 4)]


def _needs(law: str, holds: Callable[[Any, Row], bool]) -> Callable[[Any, Row, Space], str | None]:
    return lambda value, row, space: None if holds(value, row) else f"must be {law}"


def _params(value: Any, row: Row, space: Space) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if json.dumps(space.check(json.loads(value)), allow_nan=False) != value:
        return "must be a point of the space as it is stored"
    return None


def provenance_fault(form: object) -> str | None:
    """What is wrong with what a suggestion depended on, in JSON values; None where nothing is."""
    if not isinstance(form, Mapping):
        return "must be an object"
    for name in ("hyperparameters", "success"):
        if name in form and not _numbers(form[name]):
            return f"{name} must be finite numbers"
        if name in form and not is_whole(form.get("observations"), 0):
            return f"{name} must come with the number of observations"
    if "success" in form and not is_whole(form.get("failures"), 1):
        return "success must come with the number of failures"
    return None


def _numbers(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(map(is_number, values))


def _provenance(value: Any, row: Row, space: Space) -> str | None:
    return provenance_fault(json.loads(value)) if isinstance(value, str) else "must be text"


def _text_of(*states: str) -> Callable[[Any, Row], bool]:
    return lambda value, row: isinstance(value, str) if row[2] in states else value is None


_LAWS: dict[str, Callable[[Any, Row, Space], str | None]] = {
    "id": _needs("an integer >= 0", lambda value, row: is_whole(value, 0)),
    "params": _params,
    "state": _needs(f"one of {', '.join(STATES)}", lambda value, row: value in STATES),
    "value": _needs(
        "a finite number of a finished trial",
        lambda value, row: is_number(value) if row[2] == "finished" else value is None,
    ),
    "std": _needs(
        "a finite number >= 0 of a finished trial",
        lambda value, row: value is None or (row[2] == "finished" and is_number(value) and value >= 0),
    ),
    "reason": _needs("text of a failed or withdrawn trial", _text_of("failed", "withdrawn")),
    "attempt": _needs("an integer >= 1", lambda value, row: is_whole(value, 1)),
    "asked": _needs("0 or 1", lambda value, row: is_whole(value, 0) and value <= 1),
    "provenance": _provenance,
    "started": _needs("a time", lambda value, row: is_number(value)),
    "ended": _needs(
        "a time of a trial that does not run",
        lambda value, row: value is None if row[2] == "running" else is_number(value),
    ),
    "owner": _needs("the name of a process", lambda value, row: is_owner(value)),
    "revision": _needs("an integer >= 1", lambda value, row: is_whole(value, 1)),
    "transient": _needs("0 or 1, and 1 of a failed trial alone", lambda value, row: _flag(value, row)),
    "traceback": _needs(
        "text of a failed trial, or nothing",
        lambda value, row: value is None or (isinstance(value, str) and row[2] == "failed"),
    ),
}


def _flag(value: Any, row: Row) -> bool:
    return is_whole(value, 0) and value <= (row[2] == "failed")
