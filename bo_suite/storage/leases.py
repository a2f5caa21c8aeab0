"""Leases of those who evaluate: a running trial is theirs while they renew; then others may take it over.

Times are those of the database's clock, so clocks of workers may differ.
"""

import threading
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bo_suite.errors import StorageError
from bo_suite.storage.addresses import Lease
from bo_suite.storage.content import check, is_number
from bo_suite.storage.database import Database
from bo_suite.system.owners import author, has_live_owner, is_at_work, is_owner, process_of

ATTEMPTS = 3
"""Number of times that a trial is handed out before it is failed."""

USED_UP = "{} processes died while evaluating it"
"""Why a trial has failed, with the number of attempts."""

_RENEW = """INSERT INTO leases (owner, worker, started, renewed, expires) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (owner) DO UPDATE SET renewed = excluded.renewed, expires = excluded.expires"""

EXTEND = "UPDATE leases SET renewed = ?, expires = ? WHERE owner = ? AND expires IS NOT NULL"
"""Renews a lease; not of an owner whose trials are held."""


@dataclass(frozen=True)
class Holder:
    """Who holds running trials, or has held some a short time ago.

    Attributes:
        owner: its unique name.
        worker: user and host; "" in a file of an earlier version, which has no leases.
        started: unix seconds of its first trial.
        renewed: unix seconds of its last sign of life.
        expires: unix seconds at which its trials are free; None if they are held until they are told.
        trials: ids of its running trials.
        abandoned: whether others may take them over.
    """

    owner: str
    worker: str
    started: float
    renewed: float
    expires: float | None
    trials: tuple[int, ...] = ()
    abandoned: bool = False

    @property
    def process(self) -> tuple[str, int]:
        """Host and id of its process."""
        return process_of(self.owner)


def renew(database: Database, owner: str, lease: Lease | None) -> None:
    """Begins or renews the lease of an owner, within a transaction; without a lease its trials are held."""
    now = database.now()
    expires = None if lease is None else now + lease.seconds
    database.write(_RENEW, (owner, author(), now, now, expires))


def holders(database: Database) -> list[Holder]:
    """All leases, in order of beginning, without their trials.

    Raises:
        StorageError: a row is damaged.
    """
    rows = database.execute("SELECT owner, worker, started, renewed, expires FROM leases ORDER BY started")
    for owner, worker, *times in rows:
        whole = is_owner(owner) and isinstance(worker, str)
        whole = whole and all(map(is_number, times[:2])) and (times[2] is None or is_number(times[2]))
        check(whole, f"{database.name}: a lease", "one that bo_suite has written", owner)
    return [Holder(*row) for row in rows]


def expired_owners(database: Database) -> set[str]:
    """The owners whose leases have expired."""
    rows = database.execute("SELECT owner FROM leases WHERE expires < ?", (database.now(),))
    return {owner for (owner,) in rows}


def held_owners(database: Database) -> set[str]:
    """The owners whose trials are held until they are told."""
    return {owner for (owner,) in database.execute("SELECT owner FROM leases WHERE expires IS NULL")}


def gone_owners(
    database: Database, owners: Collection[str], open_owners: Collection[str], *, leased: bool = True
) -> set[str]:
    """Those of some owners from whom others may take over what they have begun.

    Args:
        database: where they have begun it.
        owners: their names.
        open_owners: owners of this process that are in use.
        leased: whether it has a table of leases.
    """
    expired, held = (expired_owners(database), held_owners(database)) if leased else (set(), set())

    def is_gone(owner: str) -> bool:
        if database.local and owner not in held and not has_live_owner(owner, open_owners):
            return True
        return owner in expired and not (database.local and is_at_work(owner))

    return {owner for owner in owners if is_gone(owner)}


def drop_unused(database: Database, table: str = "trials") -> None:
    """Removes leases without a running row of a table that have expired or have no end, in a transaction."""
    database.write(
        "DELETE FROM leases WHERE (expires < ? OR expires IS NULL) AND owner NOT IN "
        f"(SELECT owner FROM {table} WHERE state = 'running')",
        (database.now(),),
    )


class Heartbeat:
    """A thread that renews a lease while there is something to hold.

    Args:
        beat: renews; returns False if nothing is held, which ends the thread. Bound to an object, which the
            thread does not keep alive.
        seconds: between two beats.
    """

    def __init__(self, beat: Callable[[], bool], seconds: float) -> None:
        self._beat, self._seconds = weakref.WeakMethod(beat), seconds
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Starts the thread, unless it runs; again in a forked child."""
        if self._thread is None or not self._thread.is_alive():
            self._stop = threading.Event()
            arguments = (self._beat, self._seconds, self._stop)
            self._thread = threading.Thread(target=_run, args=arguments, daemon=True, name="bo_suite lease")
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread, soon."""
        self._stop.set()


def _run(method: "weakref.WeakMethod[Callable[[], bool]]", seconds: float, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        beat = method()
        try:
            if beat is None or not beat():
                return
        except StorageError:  # those who ask and tell meet the same error, and say it
            pass
        finally:
            del beat
