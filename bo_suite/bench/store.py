"""The units of a suite in a folder: who works on which, and what has come of them.

One SQLite file (WAL, synchronous FULL). A unit is claimed before it runs and stored as a whole when it has
ended, each in one short transaction; so any number of runners on one machine may share a folder, and a claim
whose process has died is free again. WAL needs shared memory: keep the folder on a local disk.
"""

import json
import sqlite3
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bo_suite import schema
from bo_suite.bench.unit import Evaluation, Unit
from bo_suite.errors import StorageError
from bo_suite.owners import is_alive, is_own, new_owner

FILE = "suite.db"
"""The file's name in the folder of a suite."""

VERSION = "1"

_LAW = f"{FILE} must be the records of a suite"

Key = tuple[str, str, int]
"""A unit: problem, method, seed."""

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE problems (problem TEXT PRIMARY KEY, form TEXT NOT NULL)",
    "CREATE TABLE methods (method TEXT PRIMARY KEY, form TEXT NOT NULL)",
    "CREATE TABLE environments (environment INTEGER PRIMARY KEY, form TEXT NOT NULL UNIQUE)",
    """CREATE TABLE units (
        problem TEXT NOT NULL, method TEXT NOT NULL, seed INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'crashed', 'timed out')),
        owner TEXT NOT NULL, reason TEXT, seconds REAL, replicates INTEGER, environment INTEGER,
        PRIMARY KEY (problem, method, seed))""",
    """CREATE TABLE evaluations (
        problem TEXT NOT NULL, method TEXT NOT NULL, seed INTEGER NOT NULL, evaluation INTEGER NOT NULL,
        params TEXT NOT NULL, value REAL, true_value REAL, regret REAL, ask_seconds REAL NOT NULL,
        evaluate_seconds REAL NOT NULL, tell_seconds REAL NOT NULL, provenance TEXT NOT NULL, failure TEXT,
        PRIMARY KEY (problem, method, seed, evaluation)) WITHOUT ROWID""",
)
_CLAIM = """INSERT INTO units VALUES (?, ?, ?, 'running', ?, NULL, NULL, NULL, NULL)
    ON CONFLICT DO UPDATE SET owner = excluded.owner"""
_END = """UPDATE units SET state = ?, reason = ?, seconds = ?, replicates = ?, environment = ?
    WHERE problem = ? AND method = ? AND seed = ? AND state = 'running' AND owner = ?"""
_EVALUATION = "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


_opened: "weakref.WeakSet[Store]" = weakref.WeakSet()


class Store:
    """The file of a suite, open for one runner; every method raises StorageError where it cannot be used."""

    def __init__(self, folder: str | Path) -> None:
        self.owner = new_owner()
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            law = "the folder of a suite must be one that can be made"
            raise StorageError(f"{law}, got {folder}: {error}") from error
        self._path = folder / FILE
        with self._lawful():
            self._connection = sqlite3.connect(
                self._path, timeout=schema.PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        with self._transaction() as execute:
            there = {name for (name,) in execute("SELECT name FROM sqlite_master").fetchall()}
            if there and "meta" not in there:
                raise StorageError(f"{_LAW}, got {self._path}")
            if not there:
                for table in _TABLES:
                    execute(table)
                execute("INSERT INTO meta VALUES ('version', ?)", VERSION)
            found = execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
            if found is None or found[0] != VERSION:
                raise StorageError(f"{self._path} must be records of version {VERSION}, got {found}")
        _opened.add(self)

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
            execute(f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT DO NOTHING", name, text)
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
            for unit in units:
                key = unit.problem, unit.method, unit.seed
                end = unit.state, unit.reason, unit.seconds, unit.replicates, place
                if execute(_END, *end, *key, self.owner).rowcount:
                    for number, one in enumerate(unit.evaluations, 1):
                        execute(_EVALUATION, *key, number, *_row(one, minimum))

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
    def _transaction(self) -> Iterator[Any]:
        """A function that executes statements, all of which take effect or none."""
        with self._lawful():
            self._connection.execute("BEGIN IMMEDIATE")
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
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            law = schema.LAWS.get(code, "the records of a suite must be usable")
            raise StorageError(f"{law}, got {self._path}: {error}") from error


def _row(one: Evaluation, minimum: float | None) -> tuple[Any, ...]:
    regret = None if minimum is None or one.true_value is None else one.true_value - minimum
    seconds = one.ask_seconds, one.evaluate_seconds, one.tell_seconds
    texts = json.dumps(one.provenance), one.failure
    return (json.dumps(one.params), one.value, one.true_value, regret, *seconds, *texts)
