"""What went wrong in PostgreSQL, in one sentence and without secrets."""

import psycopg

from bo_suite.errors import StorageError
from bo_suite.storage.database import NotWritable

_PASSING = (
    "08",  # the connection
    "40001",  # a transaction that conflicts with others
    "40P01",  # a deadlock
    "25P03",  # idle in a transaction for too long, such as after a stop
    "53300",  # too many connections
    "55P03",  # a lock that others hold
    "57P",  # the server is stopping, starting or has dropped the session
)
"""Beginnings of the codes of errors that pass."""

_READ_ONLY = "25006"
_NO_RIGHT = "42501"

_MESSAGES = {
    "53100": "the disk of the database is full, nothing was written",
    "53200": "the database has no memory left, nothing was written",
    "3D000": "the database must exist",
    "42P01": "the run was removed or is damaged: a table is missing",
    "3F000": "the run was removed",
    _READ_ONLY: "the database is read-only, such as a standby server",
    _NO_RIGHT: "the role has no right to do that (docs/cluster.md has the grants)",
}
"""By SQLSTATE."""


class Lost(StorageError):
    """The connection was lost, or a transaction was ended, before anything was stored; it can be repeated."""


def is_passing(error: psycopg.Error, was_writable: bool) -> bool:
    """Whether the same may succeed later.

    Args:
        error: what was raised.
        was_writable: whether this client has written before: then a read-only server is being replaced.
    """
    code = error.sqlstate or ""
    return code.startswith(_PASSING) or (was_writable and code == _READ_ONLY)


def error_of(error: psycopg.Error, name: str, text: str, *, passing: bool) -> StorageError:
    """The StorageError for an error.

    Args:
        error: what was raised.
        name: of the database, without secrets.
        text: of the error, without secrets.
        passing: whether it may pass.
    """
    code = error.sqlstate or ""
    what = _MESSAGES.get(code, "the database cannot be reached" if passing else "the database refused this")
    message = f"{what} ({name}: {_sentence(text)})"
    if passing:
        return Lost(message)
    return (NotWritable if code in (_READ_ONLY, _NO_RIGHT) else StorageError)(message)


def _sentence(text: str) -> str:
    """The part of an error's text that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if "FATAL:" in line]
    return (fatal or lines or ["no reason given"])[0]
