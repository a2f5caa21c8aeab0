"""The runs of a PostgreSQL database: listed, found and removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from bo_suite.errors import StorageError
from bo_suite.storage.addresses import Address
from bo_suite.storage.postgresql import schema_of
from bo_suite.storage.postgresql_errors import error_of

_KINDS = ("run", "suite")


@dataclass(frozen=True)
class StoredRun:
    """A run, or a suite, of a database.

    Attributes:
        name: as in `?run=NAME`.
        kind: "run" or "suite".
        rows: number of trials or units; None if this role may not read them.
        size: bytes on the disk of the server.
    """

    name: str
    kind: str
    rows: int | None
    size: int


def runs(address: Address) -> list[StoredRun]:
    """The runs and suites of a database, by name; raises StorageError if it cannot be read."""
    found = []
    with _connected(address) as connection:
        for kind in _KINDS:
            prefix = schema_of("", kind)
            schemas = connection.execute(
                "SELECT schemaname::text FROM pg_tables WHERE tablename = 'commits' AND "
                "starts_with(schemaname, %s) ORDER BY 1",
                (prefix,),
            ).fetchall()
            found += [_described(connection, name, name[len(prefix) :], kind) for (name,) in schemas]
    return found


def has_run(address: Address, kind: str = "run") -> bool:
    """Whether a run is there."""
    with _connected(address) as connection:
        query = "SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename IN ('meta', 'units')"
        return connection.execute(query, (schema_of(address.run, kind),)).fetchone() is not None


def remove_run(address: Address, kind: str = "run") -> None:
    """Removes a run with all its trials, for ever.

    Raises:
        StorageError: there is no such run, or the role has no right to remove it.
    """
    if not has_run(address, kind):
        raise StorageError(f"the {kind} to remove must exist, got {address}")
    with _connected(address) as connection:
        name = sql.Identifier(schema_of(address.run, kind))
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))


def _described(connection: "psycopg.Connection[Any]", schema: str, name: str, kind: str) -> StoredRun:
    table = sql.Identifier(schema, "trials" if kind == "run" else "units")
    size = (
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'"
    )
    (number,) = connection.execute(size, (schema,)).fetchone() or (0,)
    try:
        counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable):
        counted = None
    return StoredRun(name, kind, None if counted is None else int(counted[0]), int(number))


@contextmanager
def _connected(address: Address) -> "Iterator[psycopg.Connection[Any]]":
    try:
        with psycopg.connect(address.connection, autocommit=True, connect_timeout=10) as connection:
            yield connection
    except psycopg.Error as error:
        text = address.without_secrets(str(error))
        lost = error.sqlstate is None
        raise StorageError(str(error_of(error, str(address), text, passing=lost))) from None
