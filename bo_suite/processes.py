"""Worker processes of our own: each runs one task at a time, and is ended alone, with all its children."""

import atexit
import concurrent.futures as futures
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import cloudpickle
from loky.backend import get_context
from loky.backend.utils import kill_process_tree

from bo_suite.child import GOODBYE, THREADS, Answer, Main, serve
from bo_suite.errors import WorkersDied
from bo_suite.evaluate import TaskEnded, TaskNotReadable, TookTooLong, WorkerDied

_POLITE = 1.0
"""Seconds that a worker without a task gets to end, and all that it has started."""

_HASTY = 0.5
"""Seconds between the request to end and the kill."""

_LOOK = 0.5
"""Seconds between looks whether a worker lives; a child of its own may keep its pipes open."""

_starting = threading.Lock()


@dataclass(frozen=True)
class Sent:
    """A function as bytes, and how a worker reads them.

    Attributes:
        pickled: the function. What is in the main module or has no name there goes by value.
        main: the main module, None where workers must import it as it holds what cannot be pickled.
    """

    pickled: bytes
    main: Main | None


def sendable(function: Callable[..., Any]) -> Sent:
    """The function for worker processes.

    Raises:
        BaseException: whatever says that it cannot be pickled.
    """
    module = sys.modules["__main__"]
    path, spec = vars(module).get("__file__"), vars(module).get("__spec__")
    main = Main(None if path is None else os.path.abspath(path), None if spec is None else spec.name)
    try:
        return Sent(cloudpickle.dumps(function), main)
    except KeyboardInterrupt:
        raise
    except BaseException:
        if path is None:
            raise
        with suppress(Exception):
            return Sent(pickle.dumps(function), None)
        raise


_Task = tuple["futures.Future[Any]", bytes]


class Processes:
    """So many processes, each with the function loaded, that call it side by side.

    Args:
        count: processes.
        function: what they call.
        timeout: seconds that a call may take; one that takes longer is killed with its process, which is
            replaced. None for no limit.
    """

    def __init__(self, count: int, function: Sent, timeout: float | None) -> None:
        self._count, self._function, self._timeout = count, function, timeout
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._slots: list[_Slot] = []

    def start(self) -> None:
        """Starts the processes, where that was not done, and waits until each has loaded the function.

        Raises:
            WorkersDied: one has ended before.
            TaskNotReadable: one cannot load the function.
        """
        if not self._slots:
            atexit.register(self._abandon)
            self._slots = [_Slot(self._function, self._timeout, self._tasks) for _ in range(self._count)]
        for slot in self._slots:
            slot.ready.result()

    def submit(self, *arguments: Any) -> "futures.Future[Any]":
        """Calls as soon as a process is free, of those that were started.

        The future raises WorkerDied of a call whose process has died, TookTooLong of one that was killed, and
        WorkersDied where a process that has died cannot be replaced.

        Raises:
            BaseException: whatever says that the arguments cannot be pickled.
        """
        future: futures.Future[Any] = futures.Future()
        self._tasks.put((future, cloudpickle.dumps(arguments)))
        return future

    def end(self, *, at_once: bool) -> None:
        """Ends the processes, and all that they have started.

        Args:
            at_once: whether also those that run a call.
        """
        atexit.unregister(self._abandon)
        if at_once:
            self._abandon()
        for _ in self._slots:
            self._tasks.put(None)
        for slot in self._slots:
            slot.join()

    def _abandon(self) -> None:
        for slot in self._slots:
            slot.abandon()


class _Slot:
    """A process or its replacement, and the thread that talks to it."""

    def __init__(self, function: Sent, timeout: float | None, tasks: "SimpleQueue[_Task | None]") -> None:
        self._function, self._timeout, self._tasks = function, timeout, tasks
        self._worker: _Worker | None = None
        self._abandoned = False
        self.ready: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Kills the process; it is not replaced."""
        self._abandoned = True
        if (worker := self._worker) is not None:
            worker.interrupt()

    def join(self) -> None:
        """Waits until the process has ended."""
        self._thread.join()

    def _work(self) -> None:
        try:
            self._start()
        except BaseException as error:
            self.ready.set_exception(error)
        else:
            self.ready.set_result(None)
        while (task := self._tasks.get()) is not None:
            future, arguments = task
            if future.set_running_or_notify_cancel():
                answer = self._call(arguments)
                if answer.error is None:
                    future.set_result(answer.value)
                else:
                    future.set_exception(answer.error)
        if self._worker is not None:
            self._worker.end(polite=not self._abandoned)

    def _call(self, arguments: bytes) -> Answer:
        try:
            if self._worker is None or not self._worker.lives():
                self._start()
            assert self._worker is not None
            return self._worker.call(arguments, self._timeout)
        except TaskEnded as ended:
            # replaced before that is told, so that the next call does not pay for the start
            with suppress(WorkersDied, TaskNotReadable):
                self._start()
            return Answer(error=ended)
        except BaseException as error:
            return Answer(error=error)

    def _start(self) -> None:
        """Starts a process, in place of the one that there was."""
        if self._worker is not None:
            self._worker.end(polite=False)
            self._worker = None
        if self._abandoned:
            raise WorkersDied("workers that were ended are not replaced")
        worker = self._worker = _Worker(self._function)
        if self._abandoned:
            worker.interrupt()
        try:
            worker.load(self._function)
        except TaskEnded as error:
            raise WorkersDied("a worker process must be able to start and to load what it runs") from error


class _Worker:
    """A process that has, or will have, the function loaded."""

    def __init__(self, function: Sent) -> None:
        self._connection, there = multiprocessing.Pipe()
        # one thread a process for the arithmetic of libraries that f loads, unless the user has said otherwise
        threads = {name: os.environ.get(name, "1") for name in THREADS}
        with _starting:
            self._process = get_context("loky").Process(
                target=serve,
                args=(there, function.main),
                init_main_module=function.main is None,
                env=threads,
            )
            self._process.start()
        there.close()

    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self._process.exitcode is None

    def load(self, function: Sent) -> None:
        """Waits until the process has loaded the function.

        Raises:
            WorkerDied: the process has ended before.
            TaskNotReadable: it cannot load the function.
        """
        answer = self.call(function.pickled, None)
        if answer.error is not None:
            raise answer.error

    def call(self, message: bytes, timeout: float | None) -> Answer:
        """What the process answers to the message.

        Raises:
            WorkerDied: the process has ended before.
            TookTooLong: no answer has come for so many seconds.
        """
        limit = math.inf if timeout is None else time.monotonic() + timeout
        try:
            self._connection.send_bytes(message)
            while not self._connection.poll(max(0.0, min(limit - time.monotonic(), _LOOK))):
                if time.monotonic() >= limit:
                    raise TookTooLong(f"took longer than the timeout of {timeout:g} s")
                if not self.lives() and not self._connection.poll():
                    raise WorkerDied("its worker process died")
            answer = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerDied("its worker process died") from error
        found: Answer = pickle.loads(answer)
        return found

    def interrupt(self) -> None:
        """Asks the process and all that it has started to end; another thread may wait for its answer."""
        if self.lives():
            self._signal(signal.SIGTERM)

    def end(self, *, polite: bool) -> None:
        """Ends the process and all that it has started.

        Args:
            polite: whether the process gets a moment to end by itself.
        """
        if polite:
            with suppress(OSError):
                self._connection.send_bytes(GOODBYE)
            self._process.join(_POLITE)
        if sys.platform == "win32":
            kill_process_tree(self._process)
        else:
            self._signal(signal.SIGTERM)
            limit = time.monotonic() + _HASTY
            while self._signal(0) and time.monotonic() < limit:
                time.sleep(0.01)
            self._signal(signal.SIGKILL)
        self._process.join(_POLITE)
        self._connection.close()

    def _signal(self, number: int) -> bool:
        """Sends a signal to the group that the process leads; whether there was anybody to get it."""
        if sys.platform == "win32":
            self._process.terminate()
            return False
        lives = self.lives()
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            if lives:
                os.kill(self._process.pid, number)  # it does not lead a group yet
            return lives
        except PermissionError:
            return lives  # so macOS says of a group of which nobody lives
        return True
