"""Worker processes: each runs one task at a time, and can be ended alone, with all its children."""

import concurrent.futures as futures
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import cloudpickle

from bo_suite.errors import WorkersDied
from bo_suite.run.child import GOODBYE, THREADS, Answer, Setting, importing_main
from bo_suite.run.evaluate import TaskEnded, TaskNotReadable, TookTooLong, WorkerDied

_GRACE_S = 1.5
"""Seconds that an idle worker and its children get to end by themselves."""

_TERM_GRACE_S = 0.5
"""Seconds between SIGTERM and SIGKILL."""

_POLL_S = 0.5
"""Seconds between checks that a worker is alive; a child may keep the pipe of a dead one open."""


def setting_of(function: Callable[..., Any]) -> Setting:
    """The function, pickled for worker processes.

    What the main module defines is pickled by value, so that workers need not import that module. If this
    fails, for instance because the function refers to an open file of the script, workers import it.

    Raises:
        BaseException: the function cannot be pickled.
    """
    main = vars(sys.modules["__main__"])
    path, spec = main.get("__file__"), main.get("__spec__")
    try:
        pickled, by_value = cloudpickle.dumps(function), True
    except KeyboardInterrupt:
        raise
    except BaseException:
        if path is None:
            raise
        pickled, by_value = None, False
        with suppress(Exception):
            pickled = pickle.dumps(function)
        if pickled is None:
            raise
    return Setting(
        pickled,
        None if path is None else os.path.abspath(path),
        None if spec is None else spec.name,
        not by_value,
        list(sys.argv),
        multiprocessing.get_start_method(allow_none=True),
    )


_Task = tuple["futures.Future[Any]", bytes]


class Processes:
    """Worker processes with one function loaded, which they call side by side.

    Args:
        count: number of processes.
        function: the function that they call.
        timeout: seconds after which a call is killed with its process, which is replaced; None for no limit.
    """

    def __init__(self, count: int, function: Setting, timeout: float | None) -> None:
        self._count, self._function, self._timeout = count, function, timeout
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._slots: list[_Slot] = []

    def start(self) -> None:
        """Starts the processes, unless they run, and waits until each has loaded the function.

        Raises:
            WorkersDied: a process ended before.
            TaskNotReadable: a process cannot load the function.
        """
        if importing_main():
            raise WorkersDied("a script must not start workers while a worker imports it")
        if not self._slots:
            self._slots = [_Slot(self._function, self._timeout, self._tasks) for _ in range(self._count)]
        for slot in self._slots:
            slot.ready.result()

    def submit(self, *arguments: Any) -> "futures.Future[Any]":
        """Calls the function as soon as a process is free; the processes must have been started.

        The future raises WorkerDied if its process died, TookTooLong if it was killed, and WorkersDied if a
        dead process cannot be replaced.

        Raises:
            BaseException: the arguments cannot be pickled.
        """
        future: futures.Future[Any] = futures.Future()
        self._tasks.put((future, cloudpickle.dumps(arguments)))
        return future

    def kill_calls(self) -> None:
        """Kills the processes, which are replaced; the futures of running calls raise WorkerDied."""
        for slot in self._slots:
            slot.kill()

    def end(self, *, at_once: bool) -> None:
        """Ends the processes and their children.

        Args:
            at_once: whether to kill running calls; else they are waited for.
        """
        if at_once:
            for slot in self._slots:
                slot.abandon()
        for _ in self._slots:
            self._tasks.put(None)
        for slot in self._slots:
            slot.join()


class _Slot:
    """A process or its replacement, and the thread that communicates with it."""

    def __init__(self, function: Setting, timeout: float | None, tasks: "SimpleQueue[_Task | None]") -> None:
        self._function, self._timeout, self._tasks = function, timeout, tasks
        self._worker: _Worker | None = None
        self._abandoned = threading.Event()
        self.ready: futures.Future[None] = futures.Future()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def abandon(self) -> None:
        """Kills the process, and does not replace it."""
        self._abandoned.set()
        self.kill()

    def kill(self) -> None:
        """Kills the process."""
        if (worker := self._worker) is not None:
            worker.kill()

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
            self._worker.end(polite=not self._abandoned.is_set())

    def _call(self, arguments: bytes) -> Answer:
        try:
            if self._worker is None or not self._worker.lives():
                self._start()
            assert self._worker is not None
            return self._worker.call(arguments, self._timeout)
        except TaskEnded as ended:
            # replaced before the future ends, so that the next call need not wait for the start
            with suppress(WorkersDied, TaskNotReadable):
                self._start()
            return Answer(error=ended)
        except BaseException as error:
            return Answer(error=error)

    def _start(self) -> None:
        """Starts a process, and ends the previous one."""
        if self._worker is not None:
            self._worker.end(polite=False)
            self._worker = None
        if self._abandoned.is_set():
            raise WorkersDied("the workers were ended, and none is replaced")
        try:
            worker = self._worker = _Worker()
            if self._abandoned.is_set():
                worker.kill()
            worker.load(self._function)
        except (TaskEnded, OSError) as error:
            raise WorkersDied("a worker process died while it started or loaded its function") from error


class _Worker:
    """A process with the function loaded."""

    def __init__(self) -> None:
        self._connection, remote = multiprocessing.Pipe()
        paths = [path for path in sys.path if isinstance(path, str)]
        code = f"import sys; sys.path[:] = {paths!r}; from bo_suite.run.child import serve; "
        # libraries that f loads use one thread a process, unless the user has set another number
        threads = {name: os.environ.get(name, "1") for name in THREADS}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{code}serve({remote.fileno()})"],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **threads},
            **_inheriting(remote.fileno()),
        )
        remote.close()

    def lives(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def load(self, function: Setting) -> None:
        """Waits until the process has loaded the function.

        Raises:
            WorkerDied: the process ended before.
            TaskNotReadable: it cannot load the function.
        """
        answer = self.call(pickle.dumps(function), None)
        if answer.error is not None:
            raise answer.error

    def call(self, message: bytes, timeout: float | None) -> Answer:
        """The answer of the process to a message.

        Raises:
            WorkerDied: the process ended before it answered.
            TookTooLong: there was no answer within `timeout` seconds.
        """
        limit = math.inf if timeout is None else time.monotonic() + timeout
        try:
            self._connection.send_bytes(message)
            while not self._connection.poll(max(0.0, min(limit - time.monotonic(), _POLL_S))):
                if time.monotonic() >= limit:
                    raise TookTooLong(f"took longer than the timeout of {timeout:g} s")
                if not self.lives() and not self._connection.poll():
                    raise WorkerDied("its worker process died")
            received = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise WorkerDied("its worker process died") from error
        answer: Answer = pickle.loads(received)
        return answer

    def kill(self) -> None:
        """Kills the process; the thread that waits for its answer ends its children."""
        self._process.kill()

    def end(self, *, polite: bool) -> None:
        """Ends the process and its children.

        Args:
            polite: whether the process gets time to end by itself.
        """
        if polite:
            with suppress(OSError):
                self._connection.send_bytes(GOODBYE)
            self._wait(_GRACE_S)
        if sys.platform == "win32":
            kill = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
            subprocess.run(kill, capture_output=True, check=False)
        else:
            self._end_group()
        self._wait(_GRACE_S)
        self._connection.close()

    def _wait(self, seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    if sys.platform != "win32":

        def _end_group(self) -> None:
            """Sends SIGTERM to the group, waits a moment, then kills what is left."""
            self._signal(signal.SIGTERM)
            limit = time.monotonic() + _TERM_GRACE_S
            while self._signal(0) and time.monotonic() < limit:
                time.sleep(0.01)
            self._signal(signal.SIGKILL)

        def _signal(self, number: int) -> bool:
            """Sends a signal to the process group; returns whether the group has members."""
            lives = self.lives()
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return False
            except PermissionError:
                return lives  # macOS raises this for a group of dead processes
            return True


def _inheriting(handle: int) -> dict[str, Any]:
    """Options of Popen for a process that inherits the handle and, except on Windows, leads a group."""
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        return {"startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})}
    return {"pass_fds": (handle,), "start_new_session": True}
