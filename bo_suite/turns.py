"""Turns at a history: threads and processes of one machine get them in the order of asking.

The threads of a process wait at a lock of the process, and one of them at a time at a file beside the
history. There each process draws a ticket, locks the byte of its number, and goes ahead once all bytes before
it are free. The system frees the bytes of a process that dies.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bo_suite.locks import FairLock

try:
    import fcntl
except ImportError:  # Windows: threads take turns, processes do not
    fcntl = None  # type: ignore[assignment]

_POLL = 0.0005
"""Seconds between looks at the tickets before one's own."""

_FIRST = 8
"""Position of the first ticket's byte, behind those of the number of tickets drawn; byte 0 guards these."""

_MOST = 2**48
"""Tickets after which numbers begin anew."""

_guard = threading.Lock()
_locks: "weakref.WeakValueDictionary[object, FairLock]" = weakref.WeakValueDictionary()


def _renew_guard() -> None:
    global _guard
    _guard = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_guard)


class Turns:
    """Turns of those who use one history.

    Args:
        path: of the history; None where the memory of this process holds it.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None or fcntl is None else path.with_name(f"{path.name}-turns")
        with _guard:
            self._lock = FairLock() if path is None else _locks.setdefault(path.resolve(), FairLock())

    @contextmanager
    def turn(self, patience: float) -> Iterator[bool]:
        """Waits for a turn, which lasts until the end of the block.

        Args:
            patience: seconds after which it goes on without: a process may have been stopped in its turn.

        Yields:
            Whether it is this one's turn.
        """
        deadline = time.monotonic() + patience
        if not self._lock.acquire(patience):
            yield False
            return
        try:
            with self._ticket(deadline) as own:
                yield own
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Removes the file if nobody waits there."""
        if self._file is None or not self._lock.acquire(0.0):
            return
        try:
            with suppress(OSError):
                descriptor = os.open(self._file, os.O_RDWR)
                try:
                    if _lock(descriptor, 0, 0):  # all of it
                        self._file.unlink()
                finally:
                    os.close(descriptor)
        finally:
            self._lock.release()

    @contextmanager
    def _ticket(self, deadline: float) -> Iterator[bool]:
        drawn = None if self._file is None else _drawn(self._file, deadline)
        if drawn is None:
            yield self._file is None
            return
        descriptor, number = drawn
        try:
            while own := time.monotonic() < deadline:
                if number == 0 or _lock(descriptor, _FIRST, number):
                    break
                time.sleep(_POLL)
            if own and number:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, number, _FIRST)
            yield own
        finally:
            os.close(descriptor)  # which frees the bytes, too


def _drawn(file: Path, deadline: float) -> tuple[int, int] | None:
    """The open file and the number of a new ticket, whose byte is locked; None where that cannot be."""
    while time.monotonic() < deadline:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        with suppress(FileNotFoundError):  # removed by the last one who left
            if _lock(descriptor, 0, 1) and os.path.samestat(os.fstat(descriptor), os.stat(file)):
                number = int.from_bytes(os.pread(descriptor, 8, 0)) % _MOST
                os.pwrite(descriptor, (number + 1).to_bytes(8), 0)
                if _lock(descriptor, _FIRST + number, 1):
                    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, 0)
                    return descriptor, number
        os.close(descriptor)
        time.sleep(_POLL)
    return None


def _lock(descriptor: int, start: int, length: int) -> bool:
    """Locks bytes of a file, as far as nobody else has them; whether it did."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    return True
