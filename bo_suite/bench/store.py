"""The units of a suite in a folder: who works on which, and what has come of them.

One SQLite file (WAL, synchronous FULL). A unit is claimed before it runs and stored as a whole when it has
ended, each in one short transaction; so any number of runners on one machine may share a folder, and a claim
whose process has died is free again. WAL needs shared memory: keep the folder on a local disk.
"""

import json
import math
import sqlite3
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bo_suite.bench.rows import check_version, hash_rows, read_rows, row_digest, unit_digest
from bo_suite.bench.unit import Evaluation, Unit
from bo_suite.errors import StorageError
from bo_suite.storage import schema
from bo_suite.storage.paths import local_path
from bo_suite.system.owners import is_alive, is_own, new_owner

FILE = "suite.db"
"""The file's name in the folder of a suite."""

VERSION = "2"
"""Of the tables: those of version 1 have no hashes, and get them where a runner opens the file."""

_LAW = f"{FILE} must be the records of a suite"

Key = tuple[str, str, int]
"""A unit: problem, method, seed."""

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE problems (problem TEXT PRIMARY KEY, form TEXT NOT NULL, digest TEXT)",
    "CREATE TABLE methods (method TEXT PRIMARY KEY, form TEXT NOT NULL, digest TEXT)",
    "CREATE TABLE environments (environment INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE, digest TEXT)",
    """CREATE TABLE units (
        problem TEXT NOT NULL, method TEXT NOT NULL, seed INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'crashed', 'timed out')),
        owner TEXT NOT NULL, reason TEXT, seconds REAL, replicates INTEGER, environment INTEGER,
        digest TEXT, PRIMARY KEY (problem, method, seed))""",
    """CREATE TABLE evaluations (
        problem TEXT NOT NULL, method TEXT NOT NULL, seed INTEGER NOT NULL, evaluation INTEGER NOT NULL,
        params TEXT NOT NULL, value REAL, true_value REAL, regret REAL, ask_seconds REAL NOT NULL,
        evaluate_seconds REAL NOT NULL, tell_seconds REAL NOT NULL, provenance TEXT NOT NULL, failure TEXT,
        digest TEXT, PRIMARY KEY (problem, method, seed, evaluation)) WITHOUT ROWID""",
)
_CLAIM = """INSERT INTO units VALUES (?, ?, ?, 'running', ?, NULL, NULL, NULL, NULL, NULL)
    ON CONFLICT DO UPDATE SET owner = excluded.owner"""
_END = """UPDATE units SET state = ?, reason = ?, seconds = ?, replicates = ?, environment = ?, digest = ?
    WHERE problem = ? AND method = ? AND seed = ? AND state = 'running' AND owner = ?"""
_EVALUATION = "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


_opened: "weakref.WeakSet[Store]" = weakref.WeakSet()


class Store:
    """The file of a suite, open for one runner; every method raises StorageError where it cannot be used."""

    def __init__(self, folder: str | Path) -> None:
        self.owner = new_owner()
        folder = local_path("the folder of a suite", folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            law = "the folder of a suite must be one that can be made"
            raise StorageError(f"{law}, got {str(folder)!r}: {error}") from error
        self._path = folder / FILE
        with self._lawful():
            self._connection = sqlite3.connect(
                self._path, timeout=schema.PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        try:
            self._begin()
        except BaseException:
            self._connection.close()
            raise
        _opened.add(self)

    def _begin(self) -> None:
        """Makes the tables or checks those that are there, and adds hashes to those of version 1."""
        with self._transaction() as execute:
            there = {name for (name,) in execute("SELECT name FROM sqlite_master").fetchall()}
            if there and "meta" not in there:
                raise StorageError(f"{_LAW}, got {self._path}")
            if not there:
                for table in _TABLES:
                    execute(table)
                execute("INSERT INTO meta VALUES ('version', ?)", VERSION)
            version = self._version()
            if version == "1":
                hash_rows(self._connection, read_rows(self._connection, str(self._path), version))
                execute("UPDATE meta SET value = ? WHERE key = 'version'", VERSION)
        if there and version == VERSION:
            with self._transaction("DEFERRED"):  # other runners may go on writing
                read_rows(self._connection, str(self._path), self._version())

    def _version(self) -> str:
        found = self._connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
        return check_version(str(self._path), found)

    def close(self) -> None:
        """Lets go of the file; units claimed and not stored are free again."""
        _opened.discard(self)
        with suppress(StorageError), self._transaction() as execute:
            execute("DELETE FROM units WHERE state = 'running' AND owner = ?", self.owner)
        self._connection.close()

    def agree(self, table: str, key: str, name: str, form: dict[str, Any]) -> None:
        """Stores what a name stands for, or compares it with what it stands for in units that are there.

        Raises:
            StorageError: the name stood for something else.
        """
        text = json.dumps(form, sort_keys=True, default=float)
        with self._transaction() as execute:
            units = execute(f"SELECT DISTINCT state, owner FROM units WHERE {key} = ?", name).fetchall()
            if all(state == "running" and not self._in_care(owner) for state, owner in units):
                execute(f"DELETE FROM {table} WHERE {key} = ?", name)
            row = name, text, row_digest((name, text))
            execute(f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO NOTHING", *row)
            (stored,) = execute(f"SELECT form FROM {table} WHERE {key} = ?", name).fetchone()
        if stored != text:
            law = f"{key} {name!r} must be what it was in earlier runs in {self._path.parent}"
            raise StorageError(f"{law}: {stored}, got {text}")

    def forget(self, units: Sequence[Key], states: Collection[str]) -> None:
        """Deletes those of the units that are in one of the states, with their evaluations."""
        with self._transaction() as execute:
            for unit in units:
                which = "problem = ? AND method = ? AND seed = ?"
                found = execute(f"SELECT state FROM units WHERE {which}", *unit).fetchone()
                if found is not None and found[0] in states:
                    execute(f"DELETE FROM evaluations WHERE {which}", *unit)
                    execute(f"DELETE FROM units WHERE {which}", *unit)

    def claim(self, units: Sequence[Key]) -> list[Key]:
        """Those of the units that nobody works on or has ended, from now on this runner's."""
        free = []
        with self._transaction() as execute:
            for unit in units:
                found = execute(
                    "SELECT state, owner FROM units WHERE problem = ? AND method = ? AND seed = ?", *unit
                ).fetchone()
                if found is None or (found[0] == "running" and not self._in_care(found[1])):
                    execute(_CLAIM, *unit, self.owner)
                    free.append(unit)
        return free

    def finish(self, units: Sequence[Unit], environment: str, command: str, minimum: float | None) -> None:
        """Stores units that this runner has claimed, all or none of them; on return they survive a crash.

        A unit that somebody else has meanwhile taken over is left to them.

        Args:
            units: of one problem.
            environment: where they ran, as JSON.
            command: what the runner was started with.
            minimum: of the problem; None where it is not known.
        """
        form = json.dumps(json.loads(environment) | {"command": command})
        with self._transaction() as execute:
            execute("INSERT INTO environments (form) VALUES (?) ON CONFLICT DO NOTHING", form)
            (place,) = execute("SELECT environment FROM environments WHERE form = ?", form).fetchone()
            hashed = row_digest((place, form))
            execute("UPDATE environments SET digest = ? WHERE environment = ?", hashed, place)
            for unit in units:
                key = unit.problem, unit.method, unit.seed
                rows = [(*key, number, *_row(one, minimum)) for number, one in enumerate(unit.evaluations, 1)]
                digests = [row_digest(row) for row in rows]
                end = unit.reason, _real(unit.seconds), unit.replicates, place
                hashed = unit_digest((*key, unit.state, self.owner, *end), digests)
                if execute(_END, unit.state, *end, hashed, *key, self.owner).rowcount:
                    for row, one_hash in zip(rows, digests, strict=True):
                        execute(_EVALUATION, *row, one_hash)

    def states(self) -> dict[Key, str]:
        """The state of every unit that is running or has ended."""
        with self._transaction() as execute:
            rows = execute("SELECT problem, method, seed, state FROM units").fetchall()
        return {(problem, method, seed): state for problem, method, seed, state in rows}

    def _in_care(self, owner: str) -> bool:
        """Whether somebody works on the units of an owner; another runner of this very process may."""
        if is_own(owner):
            return any(store.owner == owner for store in list(_opened))
        return is_alive(owner)

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[Any]:
        """A function that executes statements, all of which take effect or none."""
        with self._lawful():
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield lambda statement, *values: self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _lawful(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter for a text that is damaged
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            law = schema.LAWS.get(code, "the records of a suite must be usable")
            raise StorageError(f"{law}, got {self._path}: {error}") from error


def _row(one: Evaluation, minimum: float | None) -> tuple[Any, ...]:
    """As SQLite gives it back, for the hash."""
    regret = None if minimum is None or one.true_value is None else one.true_value - minimum
    numbers = one.value, one.true_value, regret, one.ask_seconds, one.evaluate_seconds, one.tell_seconds
    return (json.dumps(one.params), *map(_real, numbers), json.dumps(one.provenance), one.failure)


def _real(value: float | None) -> float | None:
    """As SQLite keeps a number in a column of real numbers: NaN as NULL, and a zero without its sign."""
    return None if value is None or math.isnan(value) else float(value) + 0.0
