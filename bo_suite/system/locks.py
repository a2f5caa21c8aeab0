"""A first-come, first-served lock that works across a fork."""

import os
import threading
import weakref
from collections import deque
from types import TracebackType

_locks: "weakref.WeakSet[FairLock]" = weakref.WeakSet()


class FairLock:
    """A re-entrant lock that threads get in the order of asking.

    A waiting thread can be interrupted by Ctrl-C. In a forked process the lock is held only if the forking
    thread held it.
    """

    def __init__(self) -> None:
        self._owner: int | None = None
        self._depth = 0
        self._renew()
        _locks.add(self)

    def _renew(self) -> None:
        """Drops the state of all other threads, which do not exist after a fork."""
        self._guard = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        if self._owner != threading.get_ident():
            self._owner, self._depth = None, 0

    def acquire(self, timeout: float | None = None) -> bool:
        """Waits for the lock, at most `timeout` seconds; returns whether this thread got it."""
        thread = threading.get_ident()
        if self._owner == thread:
            self._depth += 1
            return True
        turn = threading.Lock()
        turn.acquire()
        waiter = (thread, turn)
        try:
            with self._guard:
                if self._owner is None:
                    self._owner, self._depth = thread, 1
                    return True
                self._waiting.append(waiter)
            if turn.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
                return True
        except BaseException:
            if not self._withdraw(waiter):
                self.release()
            raise
        return not self._withdraw(waiter)

    def _withdraw(self, waiter: tuple[int, threading.Lock]) -> bool:
        """Stops waiting; returns False if this thread got the lock meanwhile."""
        with self._guard:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            return self._owner != waiter[0]

    def release(self) -> None:
        """Undoes one `acquire`; the last one passes the lock to the thread that has waited longest.

        Raises:
            RuntimeError: this thread does not have the lock.
        """
        if self._owner != threading.get_ident():
            raise RuntimeError("a lock must be released by the thread that acquired it")
        if self._depth > 1:
            self._depth -= 1
            return
        with self._guard:
            if not self._waiting:
                self._owner, self._depth = None, 0
                return
            self._owner, turn = self._waiting.popleft()
            turn.release()

    @property
    def nested(self) -> bool:
        """Whether this thread holds the lock and has acquired it more than once."""
        return self._owner == threading.get_ident() and self._depth > 1

    def __enter__(self) -> "FairLock":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _after_fork() -> None:
    for lock in list(_locks):
        lock._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
