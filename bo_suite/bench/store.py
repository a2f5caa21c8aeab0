"""The units of a suite: which runner has claimed each, and its results.

They are in a folder, in one SQLite file (write-ahead mode, synchronous FULL), or in a PostgreSQL database. A
unit is claimed before it runs and stored as a whole when it has ended, each in one short transaction. So any
number of runners may share a suite. A claim lasts as long as the lease of its runner, which a thread renews;
in a folder it is also free once its process on this machine has died. Keep a folder on a local disk.
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
    check_rows,
    check_version,
    checked_rows,
    evaluation_digest,
    hash_rows,
    read_rows,
    row_digest,
    unit_digest,
)
from bo_suite.bench.unit import Unit
from bo_suite.errors import StorageError
from bo_suite.storage import leases, schema
from bo_suite.storage.addresses import Address, Lease, Location
from bo_suite.storage.database import Database, opened
from bo_suite.storage.paths import shared_place
from bo_suite.system.owners import new_owner

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
    "CREATE TABLE problems (problem {text} PRIMARY KEY, form TEXT NOT NULL, digest TEXT{rowid})",
    "CREATE TABLE methods (method {text} PRIMARY KEY, form TEXT NOT NULL, digest TEXT{rowid})",
    "CREATE TABLE environments (environment {integer} PRIMARY KEY, form {long} NOT NULL, digest TEXT)",
    """CREATE TABLE units (
        problem {text} NOT NULL, method {text} NOT NULL, seed {integer} NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('running', 'finished', 'crashed', 'timed out')),
        owner TEXT NOT NULL, reason TEXT, seconds {real}, replicates {integer}, environment {integer},
        digest TEXT, PRIMARY KEY (problem, method, seed))""",
    """CREATE TABLE evaluations (
        problem {text} NOT NULL, method {text} NOT NULL, seed {integer} NOT NULL,
        evaluation {integer} NOT NULL, params TEXT NOT NULL, value {real}, true_value {real}, regret {real},
        ask_seconds {real} NOT NULL, evaluate_seconds {real} NOT NULL, tell_seconds {real} NOT NULL,
        provenance TEXT NOT NULL, failure TEXT, digest TEXT, outcomes TEXT,
        PRIMARY KEY (problem, method, seed, evaluation))""",
)
_CLAIM = """INSERT INTO units VALUES (?, ?, ?, 'running', ?, NULL, NULL, NULL, NULL, NULL)
    ON CONFLICT (problem, method, seed) DO UPDATE SET owner = excluded.owner"""
_END = """UPDATE units SET state = ?, reason = ?, seconds = ?, replicates = ?, environment = ?, digest = ?
    WHERE problem = ? AND method = ? AND seed = ?"""
_COLUMNS = (*COLUMNS["evaluations"], "digest")
_EVALUATIONS = f"INSERT INTO evaluations ({', '.join(_COLUMNS)}) VALUES "
_VALUES = f"({', '.join('?' * len(_COLUMNS))})"
_AT_ONCE = 50
"""Most evaluations in one statement, which may have 999 values in old versions of SQLite."""

_UNIT = "problem = ? AND method = ? AND seed = ?"

_opened: "weakref.WeakSet[Store]" = weakref.WeakSet()


def suite_place(place: object) -> Path | Address:
    """The absolute path of the folder of a suite, or its address; a StorageError if it is neither."""
    return shared_place("the folder of a suite", place)


def suite_database(place: Path | Address, *, create: bool) -> Database:
    """The database of the suite at a place; a StorageError if it cannot be opened."""
    file = place / FILE if isinstance(place, Path) else place
    return opened(file, create=create, log=True, content=CONTENT, kind="suite")


class Store:
    """The tables of a suite, open for one runner; each method raises StorageError if they cannot be used.

    Attributes:
        owner: name of the runner.
        lease: for how long its claims last when it is silent.

    Args:
        out: the folder or the address of the suite.
    """

    def __init__(self, out: Location) -> None:
        self.owner = new_owner()
        self._place = place = suite_place(out)
        try:
            if isinstance(place, Path):
                place.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise StorageError(
                f"the folder of a suite cannot be created ({str(place)!r}: {error})"
            ) from error
        self.lease = place.lease if isinstance(place, Address) else Lease()
        self._heartbeat = leases.Heartbeat(self.renew, self.lease.heartbeat)
        self._database = suite_database(place, create=True)
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
        if database.atomically(self._agreed) and database.local:  # a server guards its tables
            checked_rows(database)

    def _agreed(self) -> bool:
        """Creates or updates the tables, within a transaction; whether there were tables of this version."""
        database = self._database
        tables = database.tables()
        if tables and "meta" not in tables:
            raise database.not_ours(f"it has tables {sorted(tables)}")
        if not tables:
            for statement in _TABLES:
                database.write(statement.format(**database.types))
            database.write("INSERT INTO meta VALUES ('version', ?)", (VERSION,))
        version = check_version(database)
        if "leases" not in tables:
            database.write(schema.LEASES.format(**database.types))
        if version != VERSION:
            rows = read_rows(database, version)
            check_rows(database.name, rows, version)
            if version == "1":
                hash_rows(database, rows)
            database.write("ALTER TABLE evaluations ADD COLUMN outcomes TEXT")
            database.write("UPDATE meta SET value = ? WHERE key = 'version'", (VERSION,))
        return bool(tables) and version == VERSION

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closes the suite; where it could not be used, claims end with their lease or process."""
        self.close(release=kind is None or not issubclass(kind, StorageError))

    def close(self, *, release: bool = True) -> None:
        """Closes the suite; units that were claimed and not stored are free again, at once if released."""
        _opened.discard(self)
        self._heartbeat.stop()
        with suppress(StorageError):
            if release:
                free = "DELETE FROM units WHERE state = 'running' AND owner = ?"
                self._database.aside(free, (self.owner,))
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
            insert = f"INSERT INTO {table} ({key}, form, digest) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            self._database.write(insert, row)
            ((stored,),) = self._database.execute(f"SELECT form FROM {table} WHERE {key} = ?", (name,))
            return stored

        stored = self._database.atomically(agreed)
        if stored != text:
            requirement = f"{key} {name!r} must be what it was in earlier runs in {self._place}"
            raise StorageError(f"{requirement}: {stored}, got {text}")

    def forget(self, units: Sequence[Key], states: Collection[str]) -> None:
        """Deletes the units that are in one of the states, with their evaluations."""

        def forgotten() -> None:
            stored = self.states()
            for unit in units:
                if stored.get(unit) in states:
                    self._database.write(f"DELETE FROM evaluations WHERE {_UNIT}", unit)
                    self._database.write(f"DELETE FROM units WHERE {_UNIT}", unit)

        if states:
            self._database.atomically(forgotten)

    def claim(self, units: Sequence[Key]) -> list[Key]:
        """Claims the units that have not ended and that no live runner has claimed; returns these."""

        def claimed() -> list[Key]:
            free = self._free(units)
            for unit in free:
                self._database.write(_CLAIM, (*unit, self.owner))
            if free:
                leases.renew(self._database, self.owner, self.lease)
                leases.drop_unused(self._database, "units")
            return free

        if not self._free(units):  # most often: no other runner has to wait for this
            return []
        mine = self._database.atomically(claimed)
        self._heartbeat.start()
        return mine

    def renew(self) -> bool:
        """Renews the lease; returns False if the suite was closed."""
        if self._database.closed:
            return False
        with self._database.session():
            now = self._database.now()
            self._database.aside(leases.EXTEND, (now, now + self.lease.seconds, self.owner))
        return True

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

        def finished() -> None:
            number = self._environment(form)
            for unit in units:
                self._finish(unit, number, minimum)

        self._database.atomically(finished)

    def _environment(self, form: str) -> int:
        """The number of an environment, which is stored once, within a transaction."""
        database = self._database
        rows = database.execute("SELECT environment FROM environments WHERE form = ?", (form,))
        if rows:
            return int(rows[0][0])
        number = database.number("SELECT coalesce(max(environment), 0) + 1 FROM environments")
        row = number, form, row_digest((number, form))
        database.write("INSERT INTO environments VALUES (?, ?, ?)", row)
        return number

    def _finish(self, unit: Unit, environment: int, minimum: float | None) -> None:
        """Stores one unit, within a transaction."""
        key = unit.problem, unit.method, unit.seed
        claim = self._database.execute(f"SELECT state, owner FROM units WHERE {_UNIT}", key)
        if claim != [("running", self.owner)]:
            return
        evaluations = enumerate(unit.evaluations, 1)
        rows = [(*key, index, *_row(evaluation, minimum)) for index, evaluation in evaluations]
        digests = [evaluation_digest(row) for row in rows]
        end = unit.reason, _real(unit.seconds), unit.replicates, environment
        digest = unit_digest((*key, unit.state, self.owner, *end), digests)
        self._database.write(_END, (unit.state, *end, digest, *key))
        hashed = [(*row, row_hash) for row, row_hash in zip(rows, digests, strict=True)]
        for first in range(0, len(hashed), _AT_ONCE):
            some = hashed[first : first + _AT_ONCE]
            values = ", ".join([_VALUES] * len(some))
            self._database.write(_EVALUATIONS + values, [value for row in some for value in row])

    def states(self) -> dict[Key, str]:
        """The state of every unit that is running or has ended."""
        rows = self._database.execute("SELECT problem, method, seed, state FROM units")
        return {(problem, method, seed): state for problem, method, seed, state in rows}

    def _free(self, units: Sequence[Key]) -> list[Key]:
        """The units that have not ended and that no live runner has claimed."""
        is_free, query = self._are_free(), f"SELECT state, owner FROM units WHERE {_UNIT}"
        return [unit for unit in units if all(map(is_free, self._database.execute(query, unit)))]

    def _are_free(self) -> Callable[[tuple[str, str]], bool]:
        """Tells, within a transaction, whether a unit of a state and an owner runs without a live owner."""
        open_owners = {store.owner for store in list(_opened)}  # now: nobody claims during a transaction

        def is_free(unit: tuple[str, str]) -> bool:
            state, owner = unit
            return state == "running" and owner in leases.gone_owners(self._database, [owner], open_owners)

        return is_free


def _row(evaluation: Evaluation, minimum: float | None) -> tuple[Any, ...]:
    """The columns of an evaluation, as a database returns them, for the hash."""
    regret = None if minimum is None or evaluation.true_value is None else evaluation.true_value - minimum
    numbers = (
        *(evaluation.value, evaluation.true_value, regret),
        *(evaluation.ask_seconds, evaluation.evaluate_seconds, evaluation.tell_seconds),
    )
    provenance = json.dumps(evaluation.provenance)
    outcomes = None if evaluation.outcomes is None else json.dumps(evaluation.outcomes)
    return (json.dumps(evaluation.params), *map(_real, numbers), provenance, evaluation.failure, outcomes)


def _real(value: float | None) -> float | None:
    """A number as SQLite stores it: NaN as NULL, and a zero without its sign."""
    return None if value is None or math.isnan(value) else float(value) + 0.0
