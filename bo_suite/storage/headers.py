"""What a history file says of itself: written when it is created, compared when it is opened."""

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import replace
from zlib import crc32

from bo_suite.errors import SpaceError, StorageError
from bo_suite.space.space import Space
from bo_suite.storage import schema
from bo_suite.storage.content import is_whole
from bo_suite.storage.database import Database
from bo_suite.storage.rows import content_of, fault_in, sealed
from bo_suite.storage.trial import Header, differences

_PLAIN = ("seed", "direction", "budget", "acquisition", "run")
"""Fields of a header that stand in the file as they are."""

_AGREED = ("budget", "acquisition", "initial")
"""Fields that a file has where they are not given, and that are stored anew where others are."""

_OPTIONAL = ("initial",)
"""Such fields that files of versions before 0.9 do not have."""


def stored_header(database: Database, given: Header | None) -> Header | None:
    """The header in the file, checked against the given one; None where nothing was written yet.

    Raises:
        StorageError: a file that is no history, is damaged, is of a newer version or belongs to another run.
    """
    name = database.name
    if database.number("PRAGMA application_id") != schema.APPLICATION:
        tables = [table for (table,) in database.execute("SELECT name FROM sqlite_master")]
        if tables:
            raise StorageError(f"{schema.LAWS[sqlite3.SQLITE_NOTADB]}, got {name} with tables {tables}")
        database.check_log()
        if given is None:
            raise StorageError(f"the storage must hold a history, got {name}, which is empty")
        return None
    stored = _parsed(dict(database.execute("SELECT key, value FROM meta")), name)
    if given is not None and stored.space.fingerprint != given.space.fingerprint:
        difference = differences(stored.space, given.space)
        raise StorageError(f"{name} belongs to another space: {difference}")
    for what in ("seed", "direction"):
        there, here = getattr(stored, what), getattr(given or stored, what)
        if there != here:
            raise StorageError(f"{name} belongs to another {what}: {there}, got {here}")
    return stored


def agreed_header(database: Database, given: Header, stored: Header | None) -> Header:
    """The given header with what the file has beyond it; the file is made or brought up to date."""
    if stored is None:
        given = replace(given, run=uuid.uuid4().hex, schema=schema.VERSION)
        for statement in (f"PRAGMA application_id = {schema.APPLICATION}", *schema.TABLES):
            database.write(statement)
        _write(database, given)
        return given
    kept = {key: getattr(stored, key) for key in _AGREED if getattr(given, key) is None}
    agreed = replace(given, run=stored.run, schema=stored.schema, **kept)
    if any(getattr(agreed, key) != getattr(stored, key) for key in _AGREED):
        agreed = migrated(database, agreed)
        _write(database, agreed)
    return agreed


def stored_run(database: Database) -> str:
    """The name of the history that the file holds; "" in a file of version 0.8."""
    found = database.execute("SELECT value FROM meta WHERE key = 'run'")
    if not found:
        return ""
    try:
        return str(json.loads(found[0][0]))
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(f"the header of {database.name} must be intact, got run: {error}") from error


def migrated(database: Database, header: Header) -> Header:
    """Brings a file of an earlier version to this version's tables, within a transaction.

    Args:
        database: the file.
        header: what it said of itself when it was opened.

    Returns:
        The header with the name of the history, which one of version 0.8 gets here.

    Raises:
        StorageError: a row that does not fit.
    """
    run = stored_run(database)
    if database.execute("SELECT value FROM meta WHERE key = 'schema'") == [(str(schema.VERSION),)]:
        return replace(header, run=run, schema=schema.VERSION)
    database.write(schema.BEGIN_MIGRATION)
    for row in database.execute("SELECT * FROM trials ORDER BY id"):
        if (fault := fault_in(row, header.space)) is not None:
            raise row_error(database, row[0], fault)
        database.write(schema.PUT_MIGRATED, sealed(content_of(row)))
    for statement in schema.END_MIGRATION:
        database.write(statement)
    header = replace(header, run=run or uuid.uuid4().hex, schema=schema.VERSION)
    _write(database, header)
    return header


def row_error(database: Database, number: object, fault: str) -> StorageError:
    """The error of a row with something wrong."""
    law = "each row of a history must be as it was stored"
    return StorageError(f"{law}, got trial {number!r:.50} of {database.name} with {fault}")


def _write(database: Database, header: Header) -> None:
    fields = {name: getattr(header, name) for name in (*_PLAIN, *_OPTIONAL)} | {
        "space": header.space.to_dict(),
        "fingerprint": header.space.fingerprint,
        "schema": schema.VERSION,
    }
    texts = {key: json.dumps(value, allow_nan=False) for key, value in fields.items()}
    for key, text in {**texts, "seal": json.dumps(_seal(texts))}.items():
        database.write("REPLACE INTO meta VALUES (?, ?)", (key, text))


def _seal(texts: Mapping[str, str]) -> str:
    form = sorted((key, text) for key, text in texts.items() if key != "seal")
    return f"{crc32(json.dumps(form).encode()):08x}"


def _parsed(texts: Mapping[str, str], name: str) -> Header:
    """The header of the texts in a file.

    Raises:
        StorageError: they do not fit, or are of a newer version.
    """
    law = f"the header of {name} must be intact"
    fields = {}
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise StorageError(f"{law}, got {key!r:.50} {text!r:.100}, which is no text")
        try:
            fields[key] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{law}, got {key}: {error}") from error
    version = fields.get("schema")
    if not isinstance(version, int) or not is_whole(version, 1) or (version == 1 and "seal" in fields):
        raise StorageError(f"{law}, got schema {version!r:.50}")
    if version > schema.VERSION:
        raise StorageError(
            f"this version of bo_suite reads histories up to schema {schema.VERSION}, got schema "
            f"{version} in {name}, which a newer version wrote"
        )
    needed = (*(_PLAIN if version > 1 else _PLAIN[:-1]), "space", "fingerprint")
    if missing := [key for key in needed if key not in fields]:
        raise StorageError(f"{law}, got none of {missing}")
    for key, fits in (
        ("seed", is_whole(fields["seed"])),
        ("direction", fields["direction"] in ("minimize", "maximize")),
        ("budget", fields["budget"] is None or is_whole(fields["budget"], 1)),
        ("initial", fields.get("initial") is None or is_whole(fields["initial"], 1)),
        ("run", version == 1 or (isinstance(fields["run"], str) and fields["run"] != "")),
    ):
        if not fits:
            raise StorageError(f"{law}, got {key} {fields[key]!r:.100}")
    try:
        space = Space.from_dict(fields["space"])
    except (SpaceError, RecursionError) as error:
        raise StorageError(f"{law}, got space: {error}") from error
    if fields["fingerprint"] != space.fingerprint:
        raise StorageError(f"{law}, got fingerprint {fields['fingerprint']!r:.50} of {space.fingerprint}")
    if version > 1 and fields.get("seal") != _seal(texts):
        raise StorageError(f"{law}, got other fields than were stored, says its seal")
    plain = {key: fields.get(key, "") for key in _PLAIN}
    return Header(space=space, schema=version, initial=fields.get("initial"), **plain)
