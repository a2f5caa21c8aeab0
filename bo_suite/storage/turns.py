"""Turns at a history: threads and processes of one machine get them in the order of asking.

The threads of a process wait for a lock of the process, and one thread at a time waits at a file beside the
history. There each process draws a ticket, locks the byte of the ticket's number, and has its turn once all
bytes before it are unlocked. The system unlocks the bytes of a process that dies. A suspended process keeps
its byte locked: a process that has waited for the whole timeout without any turn ending removes the file, and
all waiting processes draw new tickets.

A turn only saves work: the history itself keeps simultaneous asks apart.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bo_suite.storage.addresses import Address
from bo_suite.storage.database import Database
from bo_suite.storage.server_turns import ServerTurns
from bo_suite.system.locks import FairLock

try:
    import fcntl
except ImportError:  # Windows: threads take turns, processes do not
    fcntl = None  # type: ignore[assignment]

_POLL = 0.0005
"""Seconds between attempts to draw a ticket."""

_GLANCE = 0.05
"""Seconds between checks, while waiting, that the file still exists."""

_NUMBER = 8
"""Bytes of a number in the file: first the next ticket, guarded by byte 0, then the latest turn."""

_FIRST = 8
"""Offset of the byte that the first ticket locks."""

_MOST = 2**48
"""Ticket numbers wrap around at this one."""

_guard = threading.Lock()
_locks: "weakref.WeakValueDictionary[object, FairLock]" = weakref.WeakValueDictionary()


def _renew_guard() -> None:
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


def turns_at(place: Path | Address | None, database: Database) -> "Turns | ServerTurns":
    """The turns at the history in a file, a database or memory."""
    if isinstance(place, Address):
        return ServerTurns(database, str(place), place.lease.heartbeat)
    return Turns(place)


class Turns:
    """Turns at one history.

    Args:
        path: the history's file; None if it is in the memory of this process.
    """

    def __init__(self, path: Path | None) -> None:
        self._file, self._lock = None, FairLock()
        if path is None:
            return
        path = path.resolve()  # links to one file share its turns
        if fcntl is not None:
            self._file = path.with_name(f"{path.name}-turns")
        with _guard:
            self._lock = _locks.setdefault(path, self._lock)

    @contextmanager
    def turn(self, timeout: float) -> Iterator[bool]:
        """Waits for a turn, which lasts until the end of the block; a nested turn starts at once.

        Args:
            timeout: seconds after which the block runs anyway: another process may be suspended in its turn.

        Yields:
            Whether this is its turn.
        """
        deadline = time.monotonic() + timeout
        if not self._lock.acquire(timeout):
            yield False
            return
        try:
            if self._file is None or self._lock.nested:
                yield True
                return
            descriptor = _taken(self._file, deadline)
            try:
                yield descriptor is not None
            finally:
                if descriptor is not None:
                    os.close(descriptor)  # unlocks the byte
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Removes the file, unless a process waits there or this thread is in its turn."""
        if self._file is None or not self._lock.acquire(0.0):
            return
        try:
            if not self._lock.nested:  # closing any descriptor of a file unlocks all its bytes
                with suppress(OSError):
                    _remove_if_free(self._file)
        finally:
            self._lock.release()


def _taken(file: Path, deadline: float) -> int | None:
    """The open file, with the byte of this process locked in its turn; None if it got no turn."""
    with suppress(OSError):  # the file cannot be created, read, written or locked
        while (ticket := _draw(file, deadline)) is not None:
            descriptor, number = ticket
            own = False
            try:
                own = _is_next(file, descriptor, number, deadline)
                if own:
                    return descriptor
            finally:
                if not own:
                    os.close(descriptor)
    return None


def _is_next(file: Path, descriptor: int, number: int, deadline: float) -> bool:
    """Waits until all bytes before a ticket are unlocked; False after the deadline or if the file is gone."""
    latest = _read(descriptor, _NUMBER)
    free = threading.Event()
    if number == 0 or _lock(descriptor, _FIRST, number):
        free.set()
    else:  # a blocking wait in a thread: polling would slow down the process whose turn it is
        threading.Thread(target=_wait_for, args=(descriptor, number, free), daemon=True).start()
    while not free.wait(_GLANCE):
        if not _is_at(descriptor, file):
            return False
        if time.monotonic() >= deadline:
            if _read(descriptor, _NUMBER) == latest:  # no turn has begun meanwhile
                file.unlink(missing_ok=True)
            return False
    if number:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, number, _FIRST)
    _write(descriptor, _NUMBER, number)
    return _is_at(descriptor, file)


def _wait_for(descriptor: int, number: int, free: threading.Event) -> None:
    """Sets `free` once all bytes before a ticket are unlocked; ends if the descriptor is closed."""
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX, number, _FIRST)
        free.set()


def _draw(file: Path, deadline: float) -> tuple[int, int] | None:
    """The open file and the number of a new ticket, with its byte locked; None after the deadline."""
    while time.monotonic() < deadline:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        drawn = False
        try:
            if _lock(descriptor, 0, 1) and _is_at(descriptor, file):
                number = _read(descriptor, 0) % _MOST
                _write(descriptor, 0, number + 1)
                if _lock(descriptor, _FIRST + number, 1):
                    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, 0)
                    drawn = True
                    return descriptor, number
        finally:
            if not drawn:
                os.close(descriptor)
        time.sleep(_POLL)
    return None


def _remove_if_free(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if _lock(descriptor, 0, 0) and _is_at(descriptor, file):  # the whole file
            file.unlink()
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether the path leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _read(descriptor: int, offset: int) -> int:
    return int.from_bytes(os.pread(descriptor, _NUMBER, offset))


def _write(descriptor: int, offset: int, number: int) -> None:
    os.pwrite(descriptor, number.to_bytes(_NUMBER), offset)


def _lock(descriptor: int, start: int, length: int) -> bool:
    """Locks bytes of a file; False if another process has locked one of them."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    return True
