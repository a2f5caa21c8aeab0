"""Turns at a run in a PostgreSQL database: an advisory lock, for which clients wait a few seconds at most.

A turn only saves work: the history itself keeps simultaneous asks apart. A client that was stopped in its
turn loses it with its session, which the server ends.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from zlib import crc32

from bo_suite.errors import StorageError
from bo_suite.storage.database import Database
from bo_suite.system.locks import FairLock

PATIENCE_S = 10.0
"""Seconds to wait for a turn: then it is better to ask beside the others than to wait."""

_APPLICATION = 0x626F
"""First part of the key of a lock, so that other programs have other locks."""


class ServerTurns:
    """Turns at one run.

    Args:
        database: of the run.
        name: of the run in the whole server.
        longest: seconds for which the connection may wait, and can be used for nothing else.
    """

    def __init__(self, database: Database, name: str, longest: float) -> None:
        self._database, self._lock, self._longest = database, FairLock(), longest
        self._key = _APPLICATION, crc32(name.encode()) - 2**31

    @contextmanager
    def turn(self, timeout: float) -> Iterator[bool]:
        """Waits for a turn, which lasts until the end of the block; a nested turn starts at once.

        Args:
            timeout: seconds after which the block runs anyway; at most PATIENCE_S are waited.

        Yields:
            Whether this is its turn.
        """
        deadline = time.monotonic() + min(timeout, PATIENCE_S)
        if not self._lock.acquire(min(timeout, PATIENCE_S)):
            yield False
            return
        try:
            if self._lock.nested:
                yield True
                return
            own = self._taken(deadline)
            try:
                yield own
            finally:
                if own:
                    with suppress(StorageError):  # it was closed: its session has ended, and so has the turn
                        self._leave()
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Nothing remains of a turn."""

    def _taken(self, deadline: float) -> bool:
        """Whether the turn has come before the deadline; the server lets clients in by order of asking."""
        if self._database.execute("SELECT pg_try_advisory_lock(?::int, ?::int)", self._key) == [(True,)]:
            return True
        while (left := deadline - time.monotonic()) > 0:
            wait = partial(self._came_within, min(left, self._longest))
            if self._database.atomically(wait, writes=False):
                return True
            self._leave()  # it may have come at the instant at which the server gave up
        return False

    def _leave(self) -> None:
        self._database.execute("SELECT pg_advisory_unlock(?::int, ?::int)", self._key)

    def _came_within(self, seconds: float) -> bool:
        """Whether the turn has come within some seconds; ends the transaction if it has not."""
        self._database.execute(f"SET LOCAL lock_timeout = {max(1, round(1000 * seconds))}")
        try:
            self._database.execute("SELECT pg_advisory_lock(?::int, ?::int)", self._key)
        except StorageError:
            return False
        return True
