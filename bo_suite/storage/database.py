"""One SQLite file, or memory, for the threads of a process and its forks: short transactions, or none.

Every write is one `BEGIN IMMEDIATE` transaction with a rollback journal and synchronous EXTRA: what is
committed is in the file itself, so that a copy of it is complete, and a file that may only be read can be.
"""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bo_suite.errors import StorageError
from bo_suite.storage import schema
from bo_suite.system.locks import FairLock

_STEP = 1.0
"""Seconds SQLite waits at a stretch: Ctrl-C is heard in between."""


def _no_failpoint(moment: str) -> None:
    """Called around every statement that writes; tests put a kill in its place."""


_failpoint: Callable[[str], None] = _no_failpoint


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # absent where the module itself raised


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if os.getpid() == pid:  # a forked child leaves its parent's connection alone
        connection.close()


class Database:
    """A connection that is made anew in a forked child; what SQLite refuses is a StorageError.

    Attributes:
        path: the file, or None for memory.
        name: what errors call it.
        writable: False for a file that may only be read.

    Args:
        path: the file, or None.
        create: whether the file may be made, and must be one that can be written to.

    Raises:
        StorageError: a file that cannot be opened.
    """

    _pid: int

    def __init__(self, path: Path | None, *, create: bool) -> None:
        self.path = path
        self.name = "the history in memory" if path is None else str(path)
        self.writable = True
        self._lock = FairLock()
        self._closed = False
        self._connect("rwc" if create else "rw")

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def read_only(self) -> None:
        """Opens the file to be read alone, after a write was refused."""
        assert self.path is not None, "memory can be written to"
        self.writable = False
        logged = self._has_log()
        for mode in ("ro",) if logged else ("ro", "ro&immutable=1"):
            self._finalizer()
            self._connect(mode)
            with suppress(StorageError):  # in write-ahead mode readers share a file, which cannot be made
                self.execute("SELECT name FROM sqlite_master")
                return
        law = "the storage and its folder must be writable where there is a log" if logged else schema.BARRED
        raise StorageError(f"{law}, got {self.name}")

    def _has_log(self) -> bool:
        log = Path(f"{self.path}-wal")
        return log.exists() and log.stat().st_size > 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """The connection is this thread's, and this process's."""
        with self._lock:
            if self._closed:
                raise StorageError(f"the history must be open, got {self.name}, which was closed")
            if self._pid != os.getpid() and self.path is not None:  # forked; memory was copied
                self._connect("rw" if self.writable else "ro")
                self.configure()
            self._pid = os.getpid()
            yield

    @contextmanager
    def transaction(self, mode: str = "IMMEDIATE") -> Iterator[None]:
        """All that is written inside takes effect at its end, or nothing does.

        Args:
            mode: "DEFERRED" to read one state of the file.

        Raises:
            StorageError: a file that may only be read, or that is not where it was.
        """
        with self.session():
            if mode == "IMMEDIATE" and not self.writable:
                raise StorageError(f"the storage must be writable to be changed, got {self.name}")
            if mode == "IMMEDIATE" and self.path is not None:
                self.execute("PRAGMA shrink_memory")  # pages of a file that another was copied over
            try:
                self.write(f"BEGIN {mode}")
                if mode == "IMMEDIATE":
                    self._check_place()
                yield
                self.write("COMMIT")
            finally:
                if self._connection.in_transaction:
                    with suppress(StorageError):
                        self.write("ROLLBACK")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement; waits for other processes' transactions."""
        deadline = time.monotonic() + schema.PATIENCE
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except UnicodeDecodeError as error:
                raise self._error(error) from error
            except sqlite3.Error as error:
                if _code(error) not in schema.BUSY or time.monotonic() > deadline:
                    raise self._error(error) from error
                time.sleep(0.001)  # some locks are refused at once, without SQLite's own wait

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Executes a statement that writes."""
        _failpoint(f"before {statement}")
        self.execute(statement, values)
        _failpoint(f"after {statement}")

    def number(self, statement: str) -> int:
        """The one number that a statement gives."""
        return int(self.execute(statement)[0][0])

    def configure(self) -> None:
        """Sets how commits reach the disk; one of version 0.8 leaves write-ahead mode if it can."""
        if not self.writable:
            return
        self.execute("PRAGMA wal_autocheckpoint = 16")
        with suppress(sqlite3.OperationalError):  # a process of version 0.8 uses it
            self._connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        self.execute("PRAGMA synchronous = EXTRA")
        self.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache

    def check_folder(self) -> None:
        """Refuses a folder where no journal can be made."""
        if self.path is not None and not os.access(self.path.parent, os.W_OK):
            raise StorageError(f"{schema.BARRED}, got {self.name}")

    def check_log(self) -> None:
        """Refuses a file without tables in write-ahead mode, whose content is in a log that is not there."""
        if self.execute("PRAGMA journal_mode") == [("wal",)]:
            raise StorageError(
                f"a history must be copied with its log, got {self.name}, whose trials are in "
                f"{self.name}-wal, which is not there"
            )

    def texts(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, with what is no UTF-8 made readable, to say which of them is damaged."""
        self._connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
        try:
            return self.execute(statement)
        finally:
            self._connection.text_factory = str

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's own, of this process."""
        return self._connection

    def _connect(self, mode: str) -> None:
        self._pid = os.getpid()
        where = ":memory:" if self.path is None else f"{self.path.as_uri()}?mode={mode}"
        try:
            self._connection = sqlite3.connect(
                where, uri=True, isolation_level=None, check_same_thread=False, timeout=_STEP
            )
            self._place = None if self.path is None else _place(self.path)
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        # Runs at exit, too. That of before a fork stays registered: a child must not even collect the
        # connection of its parent.
        self._finalizer = weakref.finalize(self, _close, self._connection, os.getpid())

    def _check_place(self) -> None:
        """Refuses to write into a file that others cannot find any more."""
        if self.path is not None and _place(self.path) != self._place:
            raise StorageError(
                f"the storage must stay where it is while it is open, got {self.path}, which was removed or "
                "replaced: nothing more is stored"
            )

    def _error(self, error: Exception) -> StorageError:
        law = "the storage must be one that SQLite can use"
        if isinstance(error, sqlite3.Error):
            law = schema.LAWS.get(_code(error), law)
        return StorageError(f"{law}, got {self.name}: {error}")


def _place(path: Path) -> tuple[int, int] | None:
    """What the path leads to: device and inode; None where there is nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
