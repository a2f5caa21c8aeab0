"""Call a function with a time limit, without a process of its own."""

import _thread
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_AGAIN = 1.0
"""Seconds between interrupts, for code that catches one and continues."""


class TimeOver(KeyboardInterrupt):
    """The time limit of a call was reached. Code that handles Ctrl-C handles this alike."""


def call_within(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """Return function(*args), or raise after `seconds`.

    In the main thread the call is interrupted as by Ctrl-C: C code runs on until it returns to Python. Other
    threads cannot be interrupted: there the call runs in a new thread, which is abandoned at the limit.

    Raises:
        TimeOver: the function has not returned after `seconds`.
    """
    if seconds == math.inf:
        return function(*args)
    if threading.current_thread() is threading.main_thread():
        with _interrupted_after(seconds):
            return function(*args)
    return _abandoned_after(seconds, function, *args)


@contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    over, ended = threading.Event(), threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if ended.is_set() or (before is signal.SIG_IGN and not over.is_set()):
            return
        if over.is_set():
            raise TimeOver
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt

    def wait() -> None:
        if not ended.wait(_clipped_wait(seconds)):
            over.set()
            while not ended.is_set():
                _interrupt_main_thread()
                ended.wait(_AGAIN)

    signal.signal(signal.SIGINT, handle)
    timer = threading.Thread(target=wait, daemon=True)
    try:
        timer.start()
        yield
    finally:
        ended.set()
        if signal.getsignal(signal.SIGINT) is handle and before is not None:
            signal.signal(signal.SIGINT, before)
        timer.join()


def _interrupt_main_thread() -> None:
    """Like Ctrl-C: this also ends a wait for a lock, a file or a sleep."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    elif (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, signal.SIGINT)


def _abandoned_after(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    returned, raised = [], list[BaseException]()

    def call() -> None:
        try:
            returned.append(function(*args))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(_clipped_wait(seconds))
    if returned:
        return returned[0]
    raise raised[0] if raised else TimeOver


def _clipped_wait(seconds: float) -> float:
    """The seconds, at most the longest wait that the system supports (30 days or more)."""
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX, 30 * 86_400.0)
