"""What a history needs of the database under it; the SQL is in common, and engines differ in what is here.

There are two engines: `sqlite`, a file or memory, and `postgresql`, a server. A database toolkit in place of
them was measured: importing SQLAlchemy takes 0.4 s, which each command and worker would pay, and its
expressions cost 0.13 ms a statement where SQLite takes 0.003 ms.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from bo_suite.errors import StorageError
from bo_suite.storage.addresses import Address

T = TypeVar("T")

BUSY_TIMEOUT_S = 60.0
"""Seconds to wait for other processes' transactions, which take milliseconds."""

MUST_BE_WRITABLE = "the storage and its folder must be writable"


class NotWritable(StorageError):
    """The file, or its folder, is not writable, or the database grants no right to write."""


class NotText(StorageError):
    """A text in the file is not UTF-8."""


def _no_failpoint(moment: str) -> None:
    """Called before and after every statement that writes; tests replace it by a kill."""


_failpoint: Callable[[str], None] = _no_failpoint


def failpoint(moment: str) -> None:
    """A moment at which a process may die."""
    _failpoint(moment)


class Database(Protocol):
    """The tables of one history or suite; each method raises StorageError if they cannot be used.

    Statements are SQL that all engines understand, with `?` for each value; the types of columns are those
    of `types`.

    Attributes:
        name: what error messages call it, without secrets.
        shared: whether other processes can use it.
        local: whether all who use it are on one machine.
        writable: False if it can only be read.
        types: of columns, by name: "real", "integer", "text" in order of its bytes, "long", a text that is
            not repeated, and "counter", a key that is never used again; and "rowid", which follows the
            columns of a table whose rows are ordered by rowid.
    """

    name: str
    shared: bool
    local: bool
    writable: bool
    types: ClassVar[dict[str, str]]

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""

    def session(self) -> AbstractContextManager[None]:
        """Gives this thread the database until the end of the block."""

    def atomically(self, work: Callable[[], T], *, writes: bool = True) -> T:
        """What `work` returns, run in one transaction: all that it writes is stored, or nothing.

        Within another call it is part of that transaction. On a server `work` may run again, where its
        connection was lost before anything was stored.

        Args:
            work: what to do.
            writes: False to read one state of the database.

        Raises:
            NotWritable: it can only be read.
        """

    def aside(self, statement: str, values: Sequence[Any]) -> None:
        """Writes what no reader keeps a copy of, without waiting for transactions of others if possible."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement."""

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Executes a statement that writes, within a transaction."""

    def number(self, statement: str, values: Sequence[Any] = ()) -> int:
        """The number that a statement returns."""

    def version(self) -> int:
        """A number that differs from all earlier ones once others have committed."""

    def version_after(self, version: int) -> int:
        """The version if nothing but our last commit came after a version; else -1, also if it is unknown."""

    def now(self) -> float:
        """Unix seconds, by the clock of the database."""

    def application(self) -> int:
        """The number that says whose tables these are; 0 if there are none."""

    def mark(self, application: int) -> None:
        """Sets that number, within a transaction."""

    def tables(self) -> list[str]:
        """Names of the tables."""

    def programs(self) -> list[str]:
        """Names of views and triggers, which run statements that are not ours."""

    def prepare(self) -> None:
        """Checks what can be checked before the first write, and sets how commits are stored."""

    def read_only(self) -> None:
        """Goes on as a database that can only be read.

        Raises:
            NotWritable: that is impossible.
        """

    def check_integrity(self) -> None:
        """Raises a StorageError if the engine finds damage."""

    def not_ours(self, detail: str) -> StorageError:
        """The error for tables of another program."""

    def texts(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, with bytes that are not UTF-8 escaped, to find the damaged row."""

    def close(self) -> None:
        """Closes the database."""


def opened(
    place: "Path | Address | None", *, create: bool, log: bool = False, content: str, kind: str = "run"
) -> Database:
    """The database at a place; with `create` it may be a new one.

    Args:
        place: a file, an address of a server, or None for memory.
        create: whether to create it if it is missing.
        log: whether a file is in write-ahead mode.
        content: what it contains, for error messages, such as "a history".
        kind: what it is on a server, "run" or "suite".

    Raises:
        StorageError: it cannot be opened.
    """
    if isinstance(place, Address):
        from bo_suite.storage.postgresql import PostgresDatabase

        return PostgresDatabase(place, create=create, content=content, kind=kind)
    from bo_suite.storage.sqlite import SqliteDatabase

    return SqliteDatabase(place, create=create, log=log, content=content)
