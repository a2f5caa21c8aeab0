"""A connection to PostgreSQL that notices when the other side is gone."""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, sql

from bo_suite.errors import StorageError
from bo_suite.storage.addresses import Address

ANSWER_S = 30.0
"""Seconds without an answer after which a connection counts as lost."""

OLDEST = 14
"""First supported version of the server."""

_UNLESS_GIVEN: dict[str, Any] = {
    "application_name": "bo_suite",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": int(1000 * ANSWER_S),
}
"""Parameters of a connection that an address may set otherwise."""

_SETTINGS = """
    SET lock_timeout = '20s'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '10s';
    SET idle_session_timeout = '60s'; SET client_encoding = 'UTF8'; SET extra_float_digits = 3;
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""
"""Of each connection, whatever the role has: a client that was stopped in a transaction does not hold up the
others, and numbers come back as they were stored."""

T = TypeVar("T")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is given up if the server, or the network, does not answer."""

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(_limited(gen), *args, **kwargs)


def _limited(steps: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    """The same steps of communication, with an error once nothing has come for a while."""
    deadline = time.monotonic() + ANSWER_S
    try:
        step = next(steps)
        while True:
            ready = yield step
            if ready:
                deadline = time.monotonic() + ANSWER_S
            elif time.monotonic() > deadline:
                raise psycopg.OperationalError(f"no answer for {ANSWER_S:g} s")
            step = steps.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def connected(address: Address, schema: str) -> Connection:
    """A new connection, which looks names up in a schema alone.

    Raises:
        psycopg.Error: there is none.
        StorageError: the server is too old, or the database has another encoding.
    """
    given = conninfo.conninfo_to_dict(address.connection)
    connection = Connection.connect(autocommit=True, **{**_UNLESS_GIVEN, **given})
    try:
        version = connection.info.server_version
        if version < OLDEST * 10_000:
            raise StorageError(
                f"PostgreSQL must be of version {OLDEST} or later, got {version // 10_000} ({address})"
            )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in ("UTF8", "SQL_ASCII"):
            raise StorageError(
                f"the encoding of the database must be UTF8, which has every character, got {encoding} "
                f"({address}); create it with ENCODING 'UTF8' TEMPLATE template0"
            )
        connection.execute(_SETTINGS)
        path = sql.Identifier(schema).as_string(connection)
        connection.execute("SELECT set_config('search_path', %s, false)", (path,))
    except BaseException:
        connection.close()
        raise
    return connection
