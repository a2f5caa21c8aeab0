"""One SQLite file, or memory, for the threads of a process and its forks: short transactions, or none."""

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from bo_suite.errors import StorageError
from bo_suite.storage import database
from bo_suite.storage.database import MUST_BE_WRITABLE, NotText, NotWritable, failpoint
from bo_suite.system.locks import FairLock

_STEP = 1.0
"""Seconds of one wait inside SQLite; Ctrl-C takes effect between waits."""

T = TypeVar("T")

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
_NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)

_MESSAGES = {
    sqlite3.SQLITE_FULL: "the disk is full, nothing was written",
    sqlite3.SQLITE_IOERR: "the disk did not accept the data, nothing was written; is it full?",
    sqlite3.SQLITE_NOTADB: "the storage must be {content} of bo_suite",
    sqlite3.SQLITE_CORRUPT: "the storage is damaged; SQLite's `.recover` may save its rows",
    **dict.fromkeys(_NOT_WRITABLE, MUST_BE_WRITABLE),
    **dict.fromkeys(_BUSY, "other processes have locked the storage for too long; try again"),
}
"""What went wrong, by SQLite's error code."""


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # absent from errors of the sqlite3 module itself


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if os.getpid() == pid:  # a forked child must not close its parent's connection
        connection.close()


class SqliteDatabase:
    """`Database` in SQLite: a connection that is opened again in a forked child.

    Every write is one `BEGIN IMMEDIATE` transaction. Without a log there is a rollback journal and
    synchronous is EXTRA: all that is committed is in the file itself, so a copy of the file is complete. With
    a log (write-ahead mode, synchronous FULL) readers do not block writers.

    Attributes:
        path: the file, or None for memory.

    Args:
        path: the file, or None.
        create: whether to create the file if it is missing.
        log: whether to use write-ahead mode.
        content: what the file contains, for error messages.

    Raises:
        StorageError: the file cannot be opened.
    """

    _pid: int
    types: ClassVar[dict[str, str]] = {
        "real": "REAL",
        "integer": "INTEGER",
        "counter": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "text": "TEXT",
        "long": "TEXT UNIQUE",
        "rowid": "",  # every table has it
    }

    def __init__(self, path: Path | None, *, create: bool, log: bool = False, content: str) -> None:
        self.path, self.shared, self.local = path, path is not None, True
        self.name = "the history in memory" if path is None else str(path)
        self.writable = True
        self._log, self._content = log, content
        self._lock = FairLock()
        self._closed = False
        self._connect("rwc" if create else "rw")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._closed = True
            self._finalizer()

    def read_only(self) -> None:
        """Opens the file again, read-only.

        Raises:
            NotWritable: the file has a log, which cannot be read without writing.
        """
        assert self.path is not None, "memory is writable"
        self.writable = False
        logged = self._has_log()
        for mode in ("ro",) if logged else ("ro", "ro&immutable=1"):
            self._finalizer()
            self._connect(mode)
            with suppress(NotWritable):  # write-ahead mode needs a shared file, which cannot be created
                self.execute("SELECT name FROM sqlite_master")
                return
        message = f"{MUST_BE_WRITABLE} if there is a log" if logged else MUST_BE_WRITABLE
        raise NotWritable(f"{message}, got {self.name}")

    def _has_log(self) -> bool:
        log = Path(f"{self.path}-wal")
        return log.exists() and log.stat().st_size > 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """Gives this thread the connection, which is opened again after a fork."""
        with self._lock:
            if self._closed:
                raise StorageError(f"{self.name} was closed; open it again")
            if self._pid != os.getpid() and self.path is not None:  # a fork has copied what is in memory
                self._connect("rw" if self.writable else "ro")
                self.configure()
            self._pid = os.getpid()
            yield

    def atomically(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """See `Database`; a StorageError if the file was moved or removed."""
        with self.session():
            if self._connection.in_transaction:
                return work()
            with self._transaction("IMMEDIATE" if writes else "DEFERRED"):
                return work()

    def aside(self, statement: str, values: Sequence[Any]) -> None:
        self.atomically(lambda: self.write(statement, values))

    @contextmanager
    def _transaction(self, mode: str) -> Iterator[None]:
        """Commits all that is written inside at the end of the block, or nothing if it raises."""
        with self.session():
            if mode == "IMMEDIATE" and not self.writable:
                raise NotWritable(f"the storage is read-only and cannot be changed, got {self.name}")
            if mode == "IMMEDIATE" and self.path is not None:
                self.execute("PRAGMA shrink_memory")  # drops cached pages: the file may have been overwritten
            try:
                self.write(f"BEGIN {mode}")
                if mode == "IMMEDIATE":
                    self._check_inode()
                yield
                self.write("COMMIT")
            finally:
                if self._connection.in_transaction:
                    with suppress(StorageError):
                        self.write("ROLLBACK")

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement; waits for other processes' transactions."""
        deadline = time.monotonic() + database.BUSY_TIMEOUT_S
        while True:
            try:
                return self._connection.execute(statement, values).fetchall()
            except UnicodeDecodeError as error:
                raise self._error(error) from error
            except sqlite3.Error as error:
                if _code(error) not in _BUSY or time.monotonic() > deadline:
                    raise self._error(error) from error
                time.sleep(0.001)  # SQLite reports some locks at once, without waiting

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Executes a statement that writes."""
        failpoint(f"before {statement}")
        self.execute(statement, values)
        failpoint(f"after {statement}")

    def number(self, statement: str, values: Sequence[Any] = ()) -> int:
        """The number that a statement returns."""
        return int(self.execute(statement, values)[0][0])

    def version(self) -> int:
        return self.number("PRAGMA data_version")  # counts the commits of other connections

    def version_after(self, version: int) -> int:
        return -1

    def now(self) -> float:
        return time.time()

    def application(self) -> int:
        return self.number("PRAGMA application_id")

    def mark(self, application: int) -> None:
        self.write(f"PRAGMA application_id = {application}")

    def tables(self) -> list[str]:
        """Names of all that is in the file, or a StorageError if an empty file lacks its log."""
        names = [name for (name,) in self.execute("SELECT name FROM sqlite_master")]
        if not names and self.execute("PRAGMA journal_mode") == [("wal",)] and not self._log:
            raise StorageError(
                f"{self.name} was copied without its log: copy {self.name}-wal, which holds its trials, too"
            )
        return names

    def programs(self) -> list[str]:
        query = "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')"
        return [name for (name,) in self.execute(query)]

    def prepare(self) -> None:
        self.check_folder()
        self.configure()

    def configure(self) -> None:
        """Sets how commits reach the disk; switches a history of version 0.8 from its log to a journal."""
        if not self.writable:
            return
        self.execute("PRAGMA wal_autocheckpoint = 16" if not self._log else "PRAGMA journal_mode = WAL")
        if not self._log:
            with suppress(sqlite3.OperationalError):  # a process of version 0.8 has it open
                self._connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        self.execute(f"PRAGMA synchronous = {'FULL' if self._log else 'EXTRA'}")
        self.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache

    def check_folder(self) -> None:
        """Raises NotWritable if no journal can be created in the folder."""
        if self.path is not None and not os.access(self.path.parent, os.W_OK):
            raise NotWritable(f"{MUST_BE_WRITABLE}, got {self.name}")

    def check_integrity(self) -> None:
        """Raises a StorageError if SQLite reports damage."""
        report = self.execute("PRAGMA integrity_check(1)")[0][0]  # 5 microseconds a trial
        if report != "ok":
            raise StorageError(self._message(sqlite3.SQLITE_CORRUPT, report.splitlines()[-1]))

    def not_ours(self, detail: str) -> StorageError:
        """The error for a database of another program."""
        return StorageError(self._message(sqlite3.SQLITE_NOTADB, detail))

    def texts(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, with bytes that are not UTF-8 escaped, to find the damaged row."""
        self._connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
        try:
            return self.execute(statement)
        finally:
            self._connection.text_factory = str

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def connection(self) -> sqlite3.Connection:
        """SQLite's connection of this process."""
        return self._connection

    def _connect(self, mode: str) -> None:
        self._pid = os.getpid()
        address = ":memory:" if self.path is None else f"{self.path.as_uri()}?mode={mode}"
        try:
            self._connection = sqlite3.connect(
                address, uri=True, isolation_level=None, check_same_thread=False, timeout=_STEP
            )
            self._inode = None if self.path is None else _inode(self.path)
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        # Also runs at exit. The finalizer from before a fork stays registered, so that a child never collects
        # the connection of its parent.
        self._finalizer = weakref.finalize(self, _close, self._connection, os.getpid())

    def _check_inode(self) -> None:
        """Raises a StorageError if the path no longer leads to the open file."""
        if self.path is not None and _inode(self.path) != self._inode:
            raise StorageError(
                f"{self.path} was removed or replaced while it was open; nothing more is stored"
            )

    def _error(self, error: Exception) -> StorageError:
        message, code = self._message(_code(error), error), _code(error)
        if isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):
            return NotText(message)
        return (NotWritable if code in _NOT_WRITABLE else StorageError)(message)

    def _message(self, code: int, detail: object) -> str:
        text = _MESSAGES.get(code, "SQLite cannot use the storage").format(content=self._content)
        return f"{text} ({self.name}: {detail})"


def _inode(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at a path; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
