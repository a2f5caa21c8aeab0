"""Turns at a history: threads and processes of one machine get them in the order of asking.

The threads of a process wait at a lock of the process, and one of them at a time at a file beside the
history. There each process draws a ticket, locks the byte of its number, and goes ahead once all bytes before
it are free. The system frees the bytes of a process that dies. That of a process that was stopped stays
locked: whoever has waited in vain for a whole patience removes the file, and those who wait there draw
tickets anew.

A turn saves work and no more: what two ask at once is kept apart by the history.
"""

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bo_suite.system.locks import FairLock

try:
    import fcntl
except ImportError:  # Windows: threads take turns, processes do not
    fcntl = None  # type: ignore[assignment]

_POLL = 0.0005
"""Seconds between attempts to draw a ticket."""

_GLANCE = 0.05
"""Seconds after which one who waits looks whether the file is still there."""

_NUMBER = 8
"""Bytes of a number: at 0 that of the next ticket, which byte 0 guards, then that of the latest turn."""

_FIRST = 8
"""Position of the byte that is locked for the first ticket."""

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
        self._file, self._lock = None, FairLock()
        if path is None:
            return
        path = path.resolve()  # one file for all that lead there
        if fcntl is not None:
            self._file = path.with_name(f"{path.name}-turns")
        with _guard:
            self._lock = _locks.setdefault(path, self._lock)

    @contextmanager
    def turn(self, patience: float) -> Iterator[bool]:
        """Waits for a turn, which lasts until the end of the block; one within a turn is part of it.

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
            if self._file is None or self._lock.nested:
                yield True
                return
            descriptor = _waited(self._file, deadline)
            try:
                yield descriptor is not None
            finally:
                if descriptor is not None:
                    os.close(descriptor)  # which frees the byte
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Removes the file if nobody waits there, and this thread is not in its turn."""
        if self._file is None or not self._lock.acquire(0.0):
            return
        try:
            if not self._lock.nested:  # closing any descriptor of a file frees all its bytes
                with suppress(OSError):
                    _remove_if_free(self._file)
        finally:
            self._lock.release()


def _waited(file: Path, deadline: float) -> int | None:
    """The open file, with a byte of this process locked whose turn it is; None where that cannot be."""
    with suppress(OSError):  # a file that cannot be made, read, written or locked
        while (drawn := _drawn(file, deadline)) is not None:
            descriptor, number = drawn
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
    """Waits until no ticket before a number is left; False after the deadline, or once the file is gone."""
    latest = _read(descriptor, _NUMBER)
    free = threading.Event()
    if number == 0 or _lock(descriptor, _FIRST, number):
        free.set()
    else:  # the system wakes a thread that waits; to look again and again would slow down whose turn it is
        threading.Thread(target=_wait_for, args=(descriptor, number, free), daemon=True).start()
    while not free.wait(_GLANCE):
        if not _is_at(descriptor, file):
            return False
        if time.monotonic() >= deadline:
            if _read(descriptor, _NUMBER) == latest:  # nobody has had a turn meanwhile
                file.unlink(missing_ok=True)
            return False
    if number:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, number, _FIRST)
    _write(descriptor, _NUMBER, number)
    return _is_at(descriptor, file)


def _wait_for(descriptor: int, number: int, free: threading.Event) -> None:
    """Says when no ticket before a number is left; ends with an error once the descriptor is closed."""
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX, number, _FIRST)
        free.set()


def _drawn(file: Path, deadline: float) -> tuple[int, int] | None:
    """The open file and the number of a new ticket, whose byte is locked; None after the deadline."""
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
        if _lock(descriptor, 0, 0) and _is_at(descriptor, file):  # all of it
            file.unlink()
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, file: Path) -> bool:
    """Whether an open file is still the one at the path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _read(descriptor: int, place: int) -> int:
    return int.from_bytes(os.pread(descriptor, _NUMBER, place))


def _write(descriptor: int, place: int, number: int) -> None:
    os.pwrite(descriptor, number.to_bytes(_NUMBER), place)


def _lock(descriptor: int, start: int, length: int) -> bool:
    """Locks bytes of a file, as far as nobody else has them; whether it did."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
    except (BlockingIOError, PermissionError):
        return False
    return True
