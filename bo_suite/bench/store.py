"""The units of a suite in a folder: which runner has claimed each, and its results.

One SQLite file (write-ahead mode, synchronous FULL). A unit is claimed before it runs and stored as a whole
when it has ended, each in one short transaction. So any number of runners on one machine may share a folder,
and a claim is free again once its process has died. Keep the folder on a local disk.
"""

import json
import math
import weakref
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bo_suite.bench.evaluation import Evaluation
from bo_suite.bench.rows import (
    COLUMNS,
    check_version,
    evaluation_digest,
    hash_rows,
    read_rows,
    row_digest,
    unit_digest,
)
from bo_suite.bench.unit import Unit
from bo_suite.errors import StorageError
from bo_suite.storage.database import opened
from bo_suite.storage.paths import local_path
from bo_suite.system.owners import has_live_owner, new_owner

FILE = "suite.db"
"""Name of the file in the folder of a suite."""

CONTENT = "the records of a suite"
"""What error messages call the content of the file."""

VERSION = "3"
"""Version of the tables.

Those of version 1 have no hashes, and those of version 2 no outcomes by name. They get them when a runner
opens the file.
"""

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
        digest TEXT, outcomes TEXT, PRIMARY KEY (problem, method, seed, evaluation)) WITHOUT ROWID""",
)
_CLAIM = """INSERT INTO units VALUES (?, ?, ?, 'running', ?, NULL, NULL, NULL, NULL, NULL)
    ON CONFLICT DO UPDATE SET owner = excluded.owner"""
_END = """UPDATE units SET state = ?, reason = ?, seconds = ?, replicates = ?, environment = ?, digest = ?
    WHERE problem = ? AND method = ? AND seed = ? AND state = 'running' AND owner = ?"""
_COLUMNS = (*COLUMNS["evaluations"], "digest")
_EVALUATION = f"INSERT INTO evaluations ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


_UNIT = "problem = ? AND method = ? AND seed = ?"

_opened: "weakref.WeakSet[Store]" = weakref.WeakSet()


class Store:
    """The file of a suite, open for one runner; each method raises StorageError if it cannot be used."""

    def __init__(self, folder: str | Path) -> None:
        self.owner = new_owner()
        path = local_path("the folder of a suite", folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise StorageError(f"the folder of a suite cannot be created ({str(path)!r}: {error})") from error
        self._folder = path
        self._database = opened(path / FILE, create=True, log=True, content=CONTENT)
        try:
            self._database.prepare()
            self._begin()
        except BaseException:
            self._database.close()
            raise
        _opened.add(self)

    def _begin(self) -> None:
        """Creates the tables or checks those of the file, and brings older ones to this version."""
        database = self._database
        if database.atomically(self._agreed):
            database.atomically(lambda: read_rows(database, check_version(database)), writes=False)

    def _agreed(self) -> bool:
        """Creates or updates the tables, within a transaction; whether there were tables of this version."""
        database = self._database
        tables = database.tables()
        if tables and "meta" not in tables:
            raise database.not_ours(f"it has tables {sorted(tables)}")
        if not tables:
            for statement in _TABLES:
                database.write(statement)
            database.write("INSERT INTO meta VALUES ('version', ?)", (VERSION,))
        version = check_version(database)
        if version != VERSION:
            rows = read_rows(database, version)
            if version == "1":
                hash_rows(database, rows)
            database.write("ALTER TABLE evaluations ADD COLUMN outcomes TEXT")
            database.write("UPDATE meta SET value = ? WHERE key = 'version'", (VERSION,))
        return bool(tables) and version == VERSION

    def close(self) -> None:
        """Closes the file; units that were claimed and not stored are free again."""
        _opened.discard(self)
        with suppress(StorageError):
            self._database.aside("DELETE FROM units WHERE state = 'running' AND owner = ?", (self.owner,))
        self._database.close()

    def agree(self, table: str, key: str, name: str, form: dict[str, Any]) -> None:
        """Stores the definition of a name, or compares it with the one that stored units have.

        Raises:
            StorageError: the name had another definition.
        """
        text = json.dumps(form, sort_keys=True, default=float)

        def agreed() -> object:
            query = f"SELECT DISTINCT state, owner FROM units WHERE {key} = ?"
            if all(map(self._are_free(), self._database.execute(query, (name,)))):
                self._database.write(f"DELETE FROM {table} WHERE {key} = ?", (name,))
            row = name, text, row_digest((name, text))
            self._database.write(f"INSERT INTO {table} VALUES (?, ?, ?) ON CONFLICT DO NOTHING", row)
            ((stored,),) = self._database.execute(f"SELECT form FROM {table} WHERE {key} = ?", (name,))
            return stored

        stored = self._database.atomically(agreed)
        if stored != text:
            requirement = f"{key} {name!r} must be what it was in earlier runs in {self._folder}"
            raise StorageError(f"{requirement}: {stored}, got {text}")

    def forget(self, units: Sequence[Key], states: Collection[str]) -> None:
        """Deletes the units that are in one of the states, with their evaluations."""

        def forgotten() -> None:
            for unit in units:
                rows = self._database.execute(f"SELECT state FROM units WHERE {_UNIT}", unit)
                if rows and rows[0][0] in states:
                    self._database.write(f"DELETE FROM evaluations WHERE {_UNIT}", unit)
                    self._database.write(f"DELETE FROM units WHERE {_UNIT}", unit)

        self._database.atomically(forgotten)

    def claim(self, units: Sequence[Key]) -> list[Key]:
        """Claims the units that have not ended and that no live runner has claimed; returns these."""

        def claimed() -> list[Key]:
            is_free, mine = self._are_free(), []
            for unit in units:
                rows = self._database.execute(f"SELECT state, owner FROM units WHERE {_UNIT}", unit)
                if all(map(is_free, rows)):
                    self._database.write(_CLAIM, (*unit, self.owner))
                    mine.append(unit)
            return mine

        return self._database.atomically(claimed)

    def finish(self, units: Sequence[Unit], environment: str, command: str, minimum: float | None) -> None:
        """Stores units that this runner has claimed, all or none of them; on return they survive a crash.

        A unit that another runner has taken over meanwhile is skipped.

        Args:
            units: units of one problem.
            environment: where they ran, as JSON.
            command: the command line of the runner.
            minimum: of the problem; None if it is unknown.
        """
        form = json.dumps(json.loads(environment) | {"command": command})
        database = self._database

        def finished() -> None:
            database.write("INSERT INTO environments (form) VALUES (?) ON CONFLICT DO NOTHING", (form,))
            ((number,),) = database.execute("SELECT environment FROM environments WHERE form = ?", (form,))
            row = row_digest((number, form)), number
            database.write("UPDATE environments SET digest = ? WHERE environment = ?", row)
            for unit in units:
                self._finish(unit, number, minimum)

        database.atomically(finished)

    def _finish(self, unit: Unit, environment: int, minimum: float | None) -> None:
        """Stores one unit, within a transaction."""
        key = unit.problem, unit.method, unit.seed
        evaluations = enumerate(unit.evaluations, 1)
        rows = [(*key, index, *_row(evaluation, minimum)) for index, evaluation in evaluations]
        digests = [evaluation_digest(row) for row in rows]
        end = unit.reason, _real(unit.seconds), unit.replicates, environment
        digest = unit_digest((*key, unit.state, self.owner, *end), digests)
        self._database.write(_END, (unit.state, *end, digest, *key, self.owner))
        if self._database.number("SELECT changes()"):
            for row, row_hash in zip(rows, digests, strict=True):
                self._database.write(_EVALUATION, (*row, row_hash))

    def states(self) -> dict[Key, str]:
        """The state of every unit that is running or has ended."""
        rows = self._database.execute("SELECT problem, method, seed, state FROM units")
        return {(problem, method, seed): state for problem, method, seed, state in rows}

    def _are_free(self) -> Callable[[tuple[str, str]], bool]:
        """Tells, within a transaction, whether a unit of a state and an owner runs without a live owner."""
        open_owners = {store.owner for store in list(_opened)}  # now: nobody claims during a transaction
        return lambda unit: unit[0] == "running" and not has_live_owner(unit[1], open_owners)


def _row(evaluation: Evaluation, minimum: float | None) -> tuple[Any, ...]:
    """The columns of an evaluation, as SQLite returns them, for the hash."""
    regret = None if minimum is None or evaluation.true_value is None else evaluation.true_value - minimum
    numbers = (
        *(evaluation.value, evaluation.true_value, regret),
        *(evaluation.ask_seconds, evaluation.evaluate_seconds, evaluation.tell_seconds),
    )
    provenance = json.dumps(evaluation.provenance)
    outcomes = None if evaluation.outcomes is None else json.dumps(evaluation.outcomes)
    return (json.dumps(evaluation.params), *map(_real, numbers), provenance, evaluation.failure, outcomes)


def _real(value: float | None) -> float | None:
    """A number as SQLite stores it in a REAL column: NaN as NULL, and a zero without its sign."""
    return None if value is None or math.isnan(value) else float(value) + 0.0
