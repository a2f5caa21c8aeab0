"""Trials on disk: the history is the only state of an optimiser.

One SQLite file (standard library, WAL, synchronous FULL); `path=None` keeps the same tables in memory.
Every write is one short `BEGIN IMMEDIATE` transaction, so any number of processes on one machine may
share a file; nothing is held while the caller computes. WAL needs shared memory: keep the file on a
local disk, not on NFS.

A running trial belongs to the `History` that handed it out. The owner counts as dead when its process,
on this host, is gone (or its number now names a process with another start time), or when it is a
closed or collected `History` of this very process. Owners on other hosts, and owners in other processes
that live on, count as alive.
"""

import json
import operator
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsFloat, cast

from bo_suite import schema
from bo_suite.describe import SHORT, shortened
from bo_suite.errors import StorageError, TrialError
from bo_suite.owners import is_alive, is_own, new_owner
from bo_suite.space import Params, Space
from bo_suite.trials import Header, Trial, checked_outcome, differences, provenance_text, trial_of_row

_STEP = 1.0
"""Seconds SQLite waits at a stretch: Ctrl-C is heard in between."""


def _no_failpoint(moment: str) -> None:
    """Called around every statement that writes; tests put a kill in its place."""


_failpoint: Callable[[str], None] = _no_failpoint


def _in_care(owner: str) -> bool:
    """Whether somebody may still end the trials of an owner."""
    if is_own(owner):
        return any(history.owner == owner for history in list(_opened))
    return is_alive(owner)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # absent where the module itself raised


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's connection alone
        connection.close()


_opened: "weakref.WeakSet[History]" = weakref.WeakSet()


def _after_fork() -> None:
    for history in list(_opened):  # another thread of the parent may have held the lock
        history.lock = threading.RLock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)


class History:
    """The trials of one optimiser, in a file or in memory; safe to share by threads and across a fork.

    Use `History.open`. Every public method raises StorageError when the file cannot be read or written;
    a write that fails is rolled back, and the history remains usable.
    """

    header: Header

    def __init__(self, path: Path | None, header: Header | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._closed = False
        self._trials: list[Trial] = []
        self._revision, self._version = 0, -1
        self._own()
        self._connect(create=header is not None)
        _opened.add(self)
        try:
            with self._transaction("DEFERRED"):  # reads one state of it, while others may be creating it
                self._stored(header)  # before the first write: a file that is not ours stays as it is
                report = self._execute("PRAGMA integrity_check(1)")[0][0]  # 5 microseconds a trial
                if report != "ok":
                    law = schema.LAWS[sqlite3.SQLITE_CORRUPT]
                    raise StorageError(f"{law}, got {self._name}: {report.splitlines()[-1]}")
            self._configure()
            with self._transaction():
                stored = self._stored(header)
                if header is not None and stored is None:
                    self._create(header)
                elif header is not None and stored is not None:
                    header = self._amend(header, stored)
                self._write("DELETE FROM meta WHERE 0")  # BEGIN alone is no test of a read-only file
        except BaseException:
            self.close()
            raise
        self.header = header or cast(Header, stored)  # one of them is there, says _stored

    @staticmethod
    def open(path: str | Path | None, header: Header | None) -> "History":
        """The history in a file, created where there is none; in memory where the path is None.

        Args:
            path: a file on a local disk, or None.
            header: what the history must belong to: space, seed and direction are compared with an
                existing file, a budget and an acquisition that are not None replace its own; None: the file
                must exist.

        Raises:
            StorageError: a missing or read-only folder, a file that is no history, is damaged, is from a
                newer version, or belongs to another space, seed or direction.
        """
        if path is None:
            return History(None, header)
        file = Path(path).absolute()
        if file.is_dir():
            raise StorageError(f"the storage must be a file, got the folder {file}")
        if not file.parent.is_dir():
            raise StorageError(f"the folder of the storage must exist, got {file}")
        if header is None and not file.exists():
            raise StorageError(f"the storage must exist to be resumed, got {file}, where there is no file")
        return History(file, header)

    def trials(self) -> list[Trial]:
        """All trials, ordered by id; only rows that changed since the last call are read.

        The list is the caller's, the trials in it are shared with later calls.
        """
        with self._session():
            version = self._number("PRAGMA data_version")  # other connections' commits
            if version != self._version:
                rows = self._rows("WHERE revision > ? ORDER BY id", self._revision)
                for trial in map(trial_of_row, rows):
                    self._trials[trial.id : trial.id + 1] = [trial]  # ids have no gaps: replaces or appends
                self._revision = max([self._revision, *(row[-1] for row in rows)])
                self._version = version
            return list(self._trials)

    def insert(
        self, params: Sequence[Params], provenance: Sequence[Mapping[str, Any]], *, expected: int | None
    ) -> list[Trial] | None:
        """Stores points as running trials of this process, all or none of them.

        Args:
            params: points of the space.
            provenance: one mapping a point, in JSON values.
            expected: the id the first one is going to have; None skips the check.

        Returns:
            The trials; None, with nothing written, when another process took the id `expected`.

        Raises:
            SpaceError: a point that is not complete or not in the space.
            TrialError: provenance that is no JSON.
        """
        pairs = zip(params, provenance, strict=True)
        return self._append(
            [(self._point(p), "running", None, None, None, True, provenance_text(o), None) for p, o in pairs],
            expected,
        )

    def add(self, params: Params, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores an observation that was not asked for, as a finished trial.

        Raises:
            SpaceError: a point that is not complete or not in the space.
            TrialError: a value or std that is not finite, or a std below 0.
        """
        return self._add(params, "finished", *checked_outcome(value, std), None)

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure that was not asked for; raises SpaceError as `add` does."""
        return self._add(params, "failed", None, None, schema.storable(reason))

    def tell(
        self, trial: int, value: SupportsFloat, std: SupportsFloat | None = None, attempt: int | None = None
    ) -> Trial:
        """Finishes a running trial; on return the value is on the disk.

        Args:
            trial: its id.
            value: the outcome.
            std: standard deviation of its noise.
            attempt: the attempt that was evaluated; None stands for the current one.

        Raises:
            TrialError: a value or std that is not finite, or a trial that is unknown, finished, failed or
                handed out again since; it keeps its state.
        """
        return self._end(trial, attempt, "finished", *checked_outcome(value, std), None)

    def fail(self, trial: int, reason: str, attempt: int | None = None) -> Trial:
        """Ends a running trial that has no value; arguments and refusals are those of `tell`."""
        return self._end(trial, attempt, "failed", None, None, schema.storable(reason))

    def reclaim(self) -> list[Trial]:
        """Takes over the running trials of dead owners, each as one more attempt, and returns them."""
        with self._transaction():
            running = self._execute("SELECT id, owner FROM trials WHERE state = 'running'")
            dead = [number for number, owner in running if not _in_care(owner)]
            revision = self._next_revision()
            for number in dead:
                self._write(schema.TAKE_OVER, (time.time(), self.owner, revision, number))
            return [trial_of_row(row) for row in self._rows("WHERE revision = ? ORDER BY id", revision)]

    def close(self) -> None:
        """Folds the write-ahead log into the file and lets go of it; running trials stay running."""
        with self.lock:
            _opened.discard(self)
            self._closed = True
            self._finalizer()

    def _connect(self, *, create: bool) -> None:
        where = ":memory:" if self.path is None else f"{self.path.as_uri()}?mode={'rwc' if create else 'rw'}"
        try:
            self._connection = sqlite3.connect(
                where, uri=True, isolation_level=None, check_same_thread=False, timeout=_STEP
            )
        except sqlite3.Error as error:
            raise self._error(error) from error
        # Runs at exit, too. That of before a fork stays registered: a child must not even collect the
        # connection of its parent.
        self._finalizer = weakref.finalize(self, _close, self._connection, os.getpid())
        self._version = -1

    def _configure(self) -> None:
        self._write("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = FULL")
        self._execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache

    def _own(self) -> None:
        self._pid = os.getpid()
        self.owner = new_owner()

    @contextmanager
    def _session(self) -> Iterator[None]:
        with self.lock:
            if self._closed:
                raise StorageError(f"the history must be open, got {self._name}, which was closed")
            if self._pid != os.getpid():  # forked: a file is opened anew, memory was copied
                if self.path is not None:
                    self._connect(create=False)
                    self._configure()
                self._own()
            yield

    @contextmanager
    def _transaction(self, mode: str = "IMMEDIATE") -> Iterator[None]:
        with self._session():
            try:
                self._write(f"BEGIN {mode}")
                yield
                self._write("COMMIT")
            finally:
                self._version = -1  # data_version does not count our own commits
                if self._connection.in_transaction:
                    with suppress(StorageError):
                        self._write("ROLLBACK")

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        deadline = time.monotonic() + schema.PATIENCE
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                if _code(error) not in schema.BUSY or time.monotonic() > deadline:
                    raise self._error(error) from error
                time.sleep(0.001)  # some locks are refused at once, without SQLite's own wait

    def _write(self, statement: str, values: Sequence[Any] = ()) -> None:
        _failpoint(f"before {statement}")
        self._execute(statement, values)
        _failpoint(f"after {statement}")

    def _rows(self, condition: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._execute(f"SELECT * FROM trials {condition}", values)

    def _number(self, statement: str) -> int:
        return int(self._execute(statement)[0][0])

    def _point(self, params: Params) -> str:
        return json.dumps(self.header.space.check(params), allow_nan=False)

    def _next_revision(self) -> int:
        return self._number("SELECT coalesce(max(revision), 0) + 1 FROM trials")

    def _add(self, params: Params, *outcome: Any) -> Trial:
        return cast(
            list[Trial], self._append([(self._point(params), *outcome, False, "{}", time.time())], None)
        )[0]

    def _append(self, rows: Sequence[tuple[Any, ...]], expected: int | None) -> list[Trial] | None:
        with self._transaction():
            first = self._number("SELECT coalesce(max(id), -1) + 1 FROM trials")
            if expected is not None and expected != first:
                return None
            revision, now = self._next_revision(), time.time()
            for number, (params, *outcome, asked, provenance, ended) in enumerate(rows, first):
                row = (number, params, *outcome, 1, asked, provenance, now, ended, self.owner, revision)
                self._write(schema.INSERT, row)
            return [trial_of_row(row) for row in self._rows("WHERE id >= ? ORDER BY id", first)]

    def _end(self, trial: int, attempt: int | None, *outcome: Any) -> Trial:
        number = operator.index(trial)
        with self._transaction():
            rows = self._rows("WHERE id = ?", number) if abs(number) < 2**63 else []
            if not rows:
                count = self._number("SELECT count(*) FROM trials")
                raise TrialError(
                    f"a trial must be one of the {count} of the history, got unknown id {number}"
                )
            found = trial_of_row(rows[0])
            if attempt is not None and attempt != found.attempt:
                raise TrialError(
                    f"only the current attempt ends a trial: trial {number} was handed out again as attempt "
                    f"{found.attempt}, got attempt {attempt}"
                )
            if found.state != "running":
                reason = shortened(found.reason or "", SHORT)
                how = f"with value {found.value}" if found.state == "finished" else f"({reason})"
                raise TrialError(f"a trial ends once: trial {number} is {found.state} already, {how}")
            self._write(schema.END, (*outcome, time.time(), self._next_revision(), number, found.attempt))
            return trial_of_row(self._rows("WHERE id = ?", number)[0])

    def _create(self, header: Header) -> None:
        for statement in (f"PRAGMA application_id = {schema.APPLICATION}", *schema.TABLES):
            self._write(statement)
        fields = {name: getattr(header, name) for name in ("seed", "direction", "budget", "acquisition")}
        fields |= {
            "space": header.space.to_dict(),
            "fingerprint": header.space.fingerprint,
            "schema": schema.VERSION,
        }
        for key, value in fields.items():
            self._write("INSERT INTO meta VALUES (?, ?)", (key, json.dumps(value, allow_nan=False)))

    def _amend(self, given: Header, stored: Header) -> Header:
        """Puts the given budget and acquisition into the file, so that whoever resumes it has them."""
        for key in ("budget", "acquisition"):
            value = getattr(given, key)
            if value is None:
                given = replace(given, **{key: getattr(stored, key)})
            elif value != getattr(stored, key):
                form = json.dumps(value, allow_nan=False)
                self._write("UPDATE meta SET value = ? WHERE key = ?", (form, key))
        return given

    def _stored(self, given: Header | None) -> Header | None:
        """The header in the file, checked against the given one; None where nothing was written yet."""
        if self._number("PRAGMA application_id") != schema.APPLICATION:
            tables = [name for (name,) in self._execute("SELECT name FROM sqlite_master")]
            if tables:
                raise StorageError(
                    f"{schema.LAWS[sqlite3.SQLITE_NOTADB]}, got {self._name} with tables {tables}"
                )
            if given is None:
                raise StorageError(f"the storage must hold a history, got {self._name}, which is empty")
            return None
        try:
            meta = {key: json.loads(value) for key, value in self._execute("SELECT key, value FROM meta")}
            if meta["schema"] > schema.VERSION:
                raise StorageError(
                    f"this version of bo_suite reads histories up to schema {schema.VERSION}, got schema "
                    f"{meta['schema']} in {self._name}, which a newer version wrote"
                )
            space = Space.from_dict(meta["space"])
            if meta["fingerprint"] != space.fingerprint:
                raise ValueError(f"fingerprint {meta['fingerprint']} of a space with {space.fingerprint}")
            stored = Header(space, meta["seed"], meta["direction"], meta["budget"], meta["acquisition"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"the header of {self._name} must be intact, got {error!r}") from error
        if given is not None and stored.space.fingerprint != given.space.fingerprint:
            difference = differences(stored.space, given.space)
            raise StorageError(f"{self._name} belongs to another space: {difference}")
        for what in ("seed", "direction"):
            there, here = getattr(stored, what), getattr(given or stored, what)
            if there != here:
                raise StorageError(f"{self._name} belongs to another {what}: {there}, got {here}")
        return stored

    @property
    def _name(self) -> str:
        return "the history in memory" if self.path is None else str(self.path)

    def _error(self, error: sqlite3.Error) -> StorageError:
        law = schema.LAWS.get(_code(error), "the storage must be one that SQLite can use")
        return StorageError(f"{law}, got {self._name}: {error}")
