"""A call in this thread that is interrupted when its time is over."""

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
"""Seconds after which code that has swallowed an interruption is interrupted again."""


class TimeOver(KeyboardInterrupt):
    """The time of a call is over; what catches Ctrl-C takes it for one."""


def call_within(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """What function(*args) returns.

    The main thread runs it itself, and is interrupted as by Ctrl-C: code in C goes on until it returns to
    Python. Of any other thread, which nothing can interrupt, a thread runs it that is left to itself.

    Raises:
        TimeOver: it has not returned after so many seconds.
    """
    if seconds == math.inf:
        return function(*args)
    if threading.current_thread() is threading.main_thread():
        with _interrupted_after(seconds):
            return function(*args)
    return _left_after(seconds, function, *args)


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
        if not ended.wait(_waitable(seconds)):
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
    """As Ctrl-C does: also a wait for a lock, a file or the clock ends."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    elif (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, signal.SIGINT)


def _left_after(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    returned, raised = [], list[BaseException]()

    def call() -> None:
        try:
            returned.append(function(*args))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(_waitable(seconds))
    if returned:
        return returned[0]
    raise raised[0] if raised else TimeOver


def _waitable(seconds: float) -> float:
    """Not longer than the system can wait, which is a month at least."""
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX, 30 * 86_400.0)
