"""The header of a history file: written when the file is created, compared when it is opened."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from zlib import crc32

from bo_suite.errors import SpaceError, StorageError, TrialError
from bo_suite.space.space import Space
from bo_suite.storage import schema
from bo_suite.storage.content import is_whole
from bo_suite.storage.database import Database
from bo_suite.storage.goals import Goals
from bo_suite.storage.rows import content_of, fault_in, sealed
from bo_suite.storage.trial import Header
from bo_suite.storage.validation import describe_space_difference

_PLAIN = ("seed", "direction", "budget", "acquisition", "run")
"""Fields of a header that are stored unchanged."""

_OPTIONAL = ("initial", "repeats", "since", "extended", "constraints", "scheduler")
"""Such fields that files of earlier versions do not have."""

_CHANGEABLE = ("budget", "acquisition", "initial", "repeats", "scheduler")
"""Fields whose stored value is used if none is given, and replaced if another one is."""


def stored_header(database: Database, expected: Header | None) -> Header | None:
    """The header of the file, compared with the expected one; None if the file is empty.

    Raises:
        StorageError: the file is not a history, is damaged, is of a newer version or belongs to another run;
            or it is empty and no header is expected.
    """
    name = database.name
    if database.application() != schema.APPLICATION:
        if tables := database.tables():
            raise database.not_ours(f"it has tables {tables}")
        if expected is None:
            raise StorageError(f"the storage must hold a history, got {name}, which is empty")
        return None
    stored = _parsed(dict(database.execute("SELECT key, value FROM meta")), name)
    if expected is not None and stored.space.current != expected.space.current:
        difference = describe_space_difference(stored.space.current, expected.space.current)
        raise StorageError(
            f"{name} belongs to another space: {difference} (Optimizer.resume(path).extend(...) or `bo-suite "
            "space` changes the space of a history)"
        )
    for field in ("seed", "direction", "constraints"):
        old, new = getattr(stored, field), getattr(expected or stored, field)
        if old != new:
            raise StorageError(f"{name} belongs to another {field}: {old}, got {new}")
    return stored


def agreed_header(database: Database, expected: Header, stored: Header | None) -> Header:
    """The expected header, completed from the file's; creates the tables, or stores what has changed."""
    if stored is None:
        expected = replace(expected, run=uuid.uuid4().hex, schema=schema.VERSION)
        database.mark(schema.APPLICATION)
        for statement in schema.TABLES:
            database.write(statement.format(**database.types))
        write_header(database, expected)
        return expected
    unset = {key: getattr(stored, key) for key in _CHANGEABLE if getattr(expected, key) is None}
    agreed = replace(
        expected,
        space=stored.space,
        direction=stored.direction,  # which may name the objectives in another order
        constraints=stored.constraints,
        since=stored.since,
        extended=stored.extended,
        run=stored.run,
        schema=stored.schema,
        **unset,
    )
    if any(getattr(agreed, key) != getattr(stored, key) for key in _CHANGEABLE):
        agreed = migrated(database, agreed)
        write_header(database, agreed)
    return agreed


def stored_marks(database: Database) -> tuple[str, str]:
    """The name of the history, and the seal of its header, which any change of the header changes.

    Both are "" in a file of version 0.8.
    """
    query = "SELECT key, value FROM meta WHERE key IN ('run', 'seal')"
    texts = dict(database.execute(query))
    try:
        return str(json.loads(texts.get("run", '""'))), str(texts.get("seal", ""))
    except (TypeError, ValueError, RecursionError) as error:
        raise _header_error(database.name, f"run: {error}") from error


def migrated(database: Database, header: Header) -> Header:
    """Converts a file of an earlier version to this version's tables, within a transaction.

    Args:
        database: the file.
        header: its header when it was opened.

    Returns:
        The header with the name of the history; a file of version 0.8 gets one here.

    Raises:
        StorageError: a row is damaged.
    """
    run, _ = stored_marks(database)
    if database.execute("SELECT value FROM meta WHERE key = 'schema'") == [(str(schema.VERSION),)]:
        return replace(header, run=run, schema=schema.VERSION)
    database.write(schema.BEGIN_MIGRATION.format(**database.types))
    for row in database.execute("SELECT * FROM trials ORDER BY id"):
        if (fault := fault_in(row, header.canonical)) is not None:
            raise row_error(database, row[0], fault)
        database.write(schema.PUT_MIGRATED, sealed(content_of(row)))
    for statement in schema.END_MIGRATION:
        database.write(statement.format(**database.types))
    header = replace(header, run=run or uuid.uuid4().hex, schema=schema.VERSION)
    write_header(database, header)
    return header


def row_error(database: Database, number: object, fault: str) -> StorageError:
    """The error for a damaged row."""
    requirement = "each row of a history must be as it was stored"
    return StorageError(f"{requirement}, got trial {number!r:.50} of {database.name} with {fault}")


def replaced_error(database: Database, content: str) -> StorageError:
    """The error for a file that is not the one that was opened any more, or an older copy of it."""
    return StorageError(
        f"{database.name} was replaced while it was open, and now holds {content}; nothing more is stored"
    )


def _header_error(name: str, fault: str) -> StorageError:
    """The error for a damaged header."""
    return StorageError(f"the header of {name} must be intact, got {fault}")


def write_header(database: Database, header: Header) -> None:
    """Writes all fields of a header, with their seal."""
    fields = {name: getattr(header, name) for name in (*_PLAIN, *_OPTIONAL)} | {
        "space": header.space.to_dict(),
        "fingerprint": header.space.fingerprint,
        "schema": schema.VERSION,
    }
    texts = {key: json.dumps(value, allow_nan=False) for key, value in fields.items()}
    for key, text in {**texts, "seal": json.dumps(_seal(texts))}.items():
        database.write(schema.PUT_META, (key, text))


def _seal(texts: Mapping[str, str]) -> str:
    form = sorted((key, text) for key, text in texts.items() if key != "seal")
    return f"{crc32(json.dumps(form).encode()):08x}"


def _parsed(texts: Mapping[str, str], name: str) -> Header:
    """The header of the texts in a file.

    Raises:
        StorageError: a field is missing or wrong, or the file is of a newer version.
    """
    fields = _fields(texts, name)
    version = fields.get("schema")
    if not isinstance(version, int) or not is_whole(version, 1) or (version == 1 and "seal" in fields):
        raise _header_error(name, f"schema {version!r:.50}")
    if version > schema.VERSION:
        raise StorageError(
            f"this version of bo_suite reads histories up to schema {schema.VERSION}, got schema "
            f"{version} in {name}, which a newer version wrote"
        )
    _check_fields(fields, version, name)
    try:
        space = Space.from_dict(fields["space"])
    except (SpaceError, RecursionError) as error:
        raise _header_error(name, f"space: {error}") from error
    if fields["fingerprint"] != space.fingerprint:
        raise _header_error(name, f"fingerprint {fields['fingerprint']!r:.50} of {space.fingerprint}")
    if version > 1 and fields.get("seal") != _seal(texts):
        raise _header_error(name, "fields that were changed since they were stored, by its seal")
    plain = {key: fields.get(key, "") for key in _PLAIN}
    return Header(
        space=space,
        schema=version,
        initial=fields.get("initial"),
        repeats=fields.get("repeats"),
        since=fields.get("since", 0),
        extended=fields.get("extended", False),
        constraints=fields.get("constraints"),
        scheduler=fields.get("scheduler"),
        **plain,
    )


def _fields(texts: Mapping[str, str], name: str) -> dict[str, Any]:
    """The values of the JSON texts of a header."""
    fields = {}
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise _header_error(name, f"{key!r:.50} {text!r:.100}, which is not text")
        try:
            fields[key] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _header_error(name, f"{key}: {error}") from error
    return fields


def _are_goals(direction: object, constraints: object) -> bool:
    """Whether stored forms are those of goals."""
    try:
        goals = Goals.of(direction, constraints)
    except TrialError:
        return False
    return (goals.direction, goals.limits) == (direction, constraints)


def _check_fields(fields: Mapping[str, Any], version: int, name: str) -> None:
    """Raises a StorageError if a field is missing or has a wrong value."""
    needed = (*(_PLAIN if version > 1 else _PLAIN[:-1]), "space", "fingerprint")
    if missing := [key for key in needed if key not in fields]:
        raise _header_error(name, f"none of {missing}")
    for key, fits in (
        ("seed", is_whole(fields["seed"])),
        ("direction", _are_goals(fields["direction"], None)),
        ("constraints", _are_goals("minimize", fields.get("constraints"))),
        ("budget", fields["budget"] is None or is_whole(fields["budget"], 1)),
        ("initial", fields.get("initial") is None or is_whole(fields["initial"], 1)),
        ("repeats", fields.get("repeats") in (None, False, True)),
        ("since", is_whole(fields.get("since", 0), 0)),
        ("extended", isinstance(fields.get("extended", False), bool)),
        ("run", version == 1 or (isinstance(fields["run"], str) and fields["run"] != "")),
    ):
        if not fits:
            raise _header_error(name, f"{key} {fields[key]!r:.100}")
