"""Rows of a history file as trials: each is checked, by its seal or else field by field."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple
from zlib import crc32

from bo_suite.errors import SpaceError
from bo_suite.space.space import Params
from bo_suite.storage.content import is_number, is_whole
from bo_suite.storage.trial import STATES, Report, Trial
from bo_suite.system.owners import is_owner


class Row(NamedTuple):
    """A row of this version's table, without its seal; params and provenance are JSON text."""

    id: int = -1
    params: str = "{}"
    state: str = "running"
    value: float | None = None
    std: float | None = None
    reason: str | None = None
    attempt: int = 1
    asked: int = 0
    provenance: str = "{}"
    started: float = 0.0
    ended: float | None = None
    owner: str = ""
    revision: int = 0
    transient: int = 0
    traceback: str | None = None
    outcomes: str | None = None
    stds: str | None = None
    spent: float = 0.0  # seconds that earlier attempts took
    gradient: str | None = None
    params_std: str | None = None


Canonical = Callable[[object], Params]

StoredRow = tuple[Any, ...]
"""A row as it was read from a file of any version, with its seal if it has one."""

_FIRST = Row._fields.index("transient")
"""Number of columns in version 1, which had no seals; version 2 added `transient`, version 3 `traceback`,
version 5 `outcomes` and `stds`, version 6 `spent`, and version 7 `gradient` and `params_std`."""

_MEASURED = ("finished", "stopped", "paused")
"""States of trials that have an outcome."""

_TRIAL_FIELDS = frozenset(field.name for field in fields(Trial)) - {"run", "reports"}


def sealed(row: Row) -> StoredRow:
    """The row with its seal: a checksum of the whole, and a short one of each field after the id."""
    return (*row, f"{crc32(repr(tuple(row)).encode()):08x}" + "".join(map(_mark, row[1:])))


def _mark(value: object) -> str:
    return f"{crc32(repr(value).encode()) & 0xFFFF:04x}"


def content_of(stored: StoredRow) -> Row:
    """The content of a row of any version; columns that it lacks have their defaults."""
    return Row(*(stored if len(stored) == _FIRST else stored[:-1]))


def trial_of(row: Row, run: str, reports: tuple[Report, ...] = ()) -> Trial:
    """The trial of a row that has been checked; its JSON is decoded when it is read."""
    columns = {name: value for name, value in row._asdict().items() if name in _TRIAL_FIELDS}
    trial = object.__new__(Trial)
    flags = {"asked": bool(row.asked), "transient": bool(row.transient)}
    trial.__dict__.update(columns, **flags, reports=reports, run=run)
    return trial


def fault_in(stored: StoredRow, canonical: Canonical) -> str | None:
    """The fault of a row of a file, with the name of its field; None if the row is valid.

    Args:
        stored: the row.
        canonical: a point in canonical form; raises SpaceError if it cannot be one of the history.
    """
    if len(stored) == _FIRST:
        return _fault_in_content(content_of(stored), canonical)
    *content, seal = stored
    if isinstance(seal, str) and seal[:8] == f"{crc32(repr(tuple(content)).encode()):08x}":
        return None
    if (fault := _fault_in_content(content_of(stored), canonical)) is not None:
        return fault
    marks = "".join(map(_mark, content[1:]))
    pairs = zip(Row._fields[1:], _quarters(marks), _quarters(str(seal)[8:]), strict=False)
    changed = [name for name, computed, sealed_mark in pairs if computed != sealed_mark]
    names = ", ".join(changed) if 0 < len(changed) < len(content) - 1 else "id or seal"
    return f"{names}: changed since it was stored, by the row's seal"


def _fault_in_content(row: Row, canonical: Canonical) -> str | None:
    """The fault of a row without regard to its seal; None if its fields are valid."""
    for name, value in row._asdict().items():
        try:
            requirement = _REQUIREMENTS[name](value, row, canonical)
        except (ValueError, RecursionError, SpaceError) as error:
            requirement = str(error)
        if requirement is not None:
            return f"{name}: {requirement}, got {value!r:.100}"
    return None


def _quarters(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


_Check = Callable[[Any, Row, Canonical], str | None]
"""Of a value, its row and `canonical`: the requirement that the value breaks, or None."""


def _needs(requirement: str, holds: Callable[[Any, Row], bool]) -> _Check:
    return lambda value, row, canonical: None if holds(value, row) else f"must be {requirement}"


def _params(value: Any, row: Row, canonical: Canonical) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if json.dumps(canonical(json.loads(value)), allow_nan=False) != value:
        return "must be a point of the space as it is stored"
    return None


def provenance_fault(form: object) -> str | None:
    """The fault of the provenance of a suggestion, in JSON values; None if it is valid."""
    if not isinstance(form, Mapping):
        return "must be an object"
    for name in ("hyperparameters", "success", "feasibility"):
        if name in form and not _numbers(form[name]):
            return f"{name} must be finite numbers"
        if name in form and not is_whole(form.get("observations"), 0):
            return f"{name} must come with the number of observations"
    if "success" in form and not is_whole(form.get("failures"), 1):
        return "success must come with the number of failures"
    if "feasibility" in form and not is_whole(form.get("constrained"), 1):
        return "feasibility must come with the number of constrained rows"
    return None


def _numbers(values: object) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and all(map(is_number, values))


def _numbers_by_name(text: object, fits: Callable[[Any], bool]) -> bool:
    """Whether a text is JSON of at least one name with a value that fits."""
    form = json.loads(text) if isinstance(text, str) else None
    return isinstance(form, Mapping) and len(form) > 0 and all(map(fits, form.values()))


def _provenance(value: Any, row: Row, canonical: Canonical) -> str | None:
    return provenance_fault(json.loads(value)) if isinstance(value, str) else "must be text"


def _is_text_in(*states: str) -> Callable[[Any, Row], bool]:
    return lambda value, row: isinstance(value, str) if row.state in states else value is None


_REQUIREMENTS: dict[str, _Check] = {
    "id": _needs("an integer >= 0", lambda value, row: is_whole(value, 0)),
    "params": _params,
    "state": _needs(f"one of {', '.join(STATES)}", lambda value, row: value in STATES),
    "value": _needs(
        "a finite number of a finished, stopped or paused trial",
        lambda value, row: (
            is_number(value)
            if row.state in _MEASURED and (value is not None or row.outcomes is None)
            else value is None
        ),
    ),
    "std": _needs(
        "a finite number >= 0 of a finished trial",
        lambda value, row: value is None or (row.state == "finished" and is_number(value) and value >= 0),
    ),
    "reason": _needs("text of a failed or withdrawn trial", _is_text_in("failed", "withdrawn")),
    "attempt": _needs("an integer >= 1", lambda value, row: is_whole(value, 1)),
    "asked": _needs("0 or 1", lambda value, row: is_whole(value, 0) and value <= 1),
    "provenance": _provenance,
    "started": _needs("a time", lambda value, row: is_number(value)),
    "ended": _needs(
        "a time if the trial has ended, else null",
        lambda value, row: value is None if row.state == "running" else is_number(value),
    ),
    "owner": _needs("the name of a process", lambda value, row: is_owner(value)),
    "revision": _needs("an integer >= 1", lambda value, row: is_whole(value, 1)),
    "transient": _needs(
        "0, or 1 in a failed trial",
        lambda value, row: is_whole(value, 0) and value <= (row.state == "failed"),
    ),
    "traceback": _needs(
        "text of a failed trial, or null",
        lambda value, row: value is None or (isinstance(value, str) and row.state == "failed"),
    ),
    "outcomes": _needs(
        "finite numbers or null by name, of a finished, stopped or paused trial, or null",
        lambda value, row: (
            value is None
            or (row.state in _MEASURED and _numbers_by_name(value, lambda one: one is None or is_number(one)))
        ),
    ),
    "stds": _needs(
        "finite numbers >= 0 by name, of outcomes, or null",
        lambda value, row: (
            value is None
            or (row.outcomes is not None and _numbers_by_name(value, lambda one: is_number(one) and one >= 0))
        ),
    ),
    "spent": _needs("a number of seconds >= 0", lambda value, row: is_number(value) and value >= 0),
    "gradient": _needs(
        "finite numbers by name, of the value of a finished trial, or null",
        lambda value, row: (
            value is None
            or (row.state == "finished" and row.value is not None and _numbers_by_name(value, is_number))
        ),
    ),
    "params_std": _needs(
        "finite numbers >= 0 by name, of a finished trial, or null",
        lambda value, row: (
            value is None
            or (row.state == "finished" and _numbers_by_name(value, lambda one: is_number(one) and one >= 0))
        ),
    ),
}
