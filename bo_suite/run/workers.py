"""Where the tasks of a run are evaluated: worker processes, or an executor that is replaced if it breaks."""

import asyncio
import concurrent.futures as futures
import inspect
import logging
import math
import pickle
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from bo_suite.errors import TrialError, WorkersDied
from bo_suite.run.evaluate import TaskEnded, TaskNotReadable, call_pickled
from bo_suite.run.processes import Processes, setting_of
from bo_suite.system.interrupt import call_within
from bo_suite.values.describe import described, error_text, plain_text

Executor = futures.Executor | Callable[[], futures.Executor]

logger = logging.getLogger("bo_suite")

_NOT_READABLE = re.compile(r"un-?pickl|un-?serializ|deserializ|fail\w* to import", re.IGNORECASE)
"""Errors of executors about a task that a worker cannot unpickle."""

_NOT_PICKLABLE = re.compile(r"pickl|serializ|local object", re.IGNORECASE)
"""Errors of executors about a task that cannot be pickled, if they do not match the above."""

_SHUT_DOWN = re.compile(r"shut ?down", re.IGNORECASE)

_CAUSE = 500
"""Maximum number of characters of the cause of an executor's error in a message."""


class _CallingThread(futures.Executor):
    """Runs tasks in the calling thread, so that one worker needs no process.

    Args:
        seconds_left: returns the seconds after which a task that starts now is interrupted.
    """

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self._seconds_left = seconds_left

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        future: futures.Future[Any] = futures.Future()
        future.set_result(call_within(self._seconds_left(), partial(fn, **kwargs), *args))
        return future


def no_limit() -> float:
    """The seconds left if there is no time limit: infinity."""
    return math.inf


class ExecutorPool:
    """Runs the tasks of a run: in worker processes, in the calling thread, or on an executor.

    If a factory makes the executor, it is called again when the workers of an executor broke.

    Args:
        workers: number of worker processes; 1 without a timeout runs tasks in the calling thread.
        executor: a `concurrent.futures.Executor`, which is left open, or a factory of one; None for worker
            processes.
        function: the function of all tasks; by default one that does nothing.
        task: name of the function in error messages.
        timeout: seconds after which a task is killed, so that one worker is a process, too.

    Raises:
        TrialError: the executor is neither of these, it comes with a timeout, or worker processes are to run
            a function that cannot be pickled.
    """

    def __init__(
        self,
        workers: int,
        executor: Executor | None,
        function: Callable[..., Any] = int,
        task: str = "f",
        timeout: float | None = None,
    ) -> None:
        if not (executor is None or isinstance(executor, futures.Executor) or callable(executor)):
            raise TrialError(
                "an executor must be a concurrent.futures.Executor or a function that makes one, "
                f"got {described(executor)}"
            )
        if executor is not None and timeout is not None:
            raise TrialError(
                "a timeout needs worker processes, since a task on an executor cannot be killed: "
                f"pass workers= instead of the executor, or no timeout, got {described(executor)} "
                f"and {timeout:g} s"
            )
        self._workers, self._function, self._task = workers, function, task
        self._processes = (
            self._new_processes(timeout) if executor is None and (workers > 1 or timeout) else None
        )
        self._caller_owned = executor if isinstance(executor, futures.Executor) else None
        self._factory = executor if not isinstance(executor, futures.Executor) else None
        self._executor: futures.Executor | None = self._caller_owned
        self._abandoned = False
        self._seconds_left = no_limit

    def __enter__(self) -> "ExecutorPool":
        return self

    def __exit__(self, *error: object) -> None:
        if self._processes is not None:
            self._processes.end(at_once=self._abandoned)
        elif self._executor is not None and self._caller_owned is None:
            _shut(self._executor, wait=not self._abandoned)

    def start(self, seconds_left: Callable[[], float] = no_limit) -> None:
        """Starts the worker processes and waits until they are ready.

        Args:
            seconds_left: returns the seconds after which a task in the calling thread is interrupted.

        Raises:
            WorkersDied: a process died before it was ready.
            TrialError: a process cannot load the function.
        """
        self._seconds_left = seconds_left
        if self._processes is not None:
            try:
                self._processes.start()
            except (WorkersDied, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise self._refusal(error) from error

    def submit(self, *args: Any) -> "futures.Future[Any]":
        """Starts a task, on a new executor if the old one broke and there is a factory.

        Worker processes must have been started.

        Raises:
            BrokenExecutor: the executor broke, and there is no factory.
            WorkersDied: the factory returned a broken executor.
            TrialError: the factory returned no executor, or the executor does not accept the task.
        """
        if self._processes is None:
            return self._on_executor(self._function, *args)
        try:
            return self._processes.submit(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._not_picklable(error) from error

    def _on_executor(self, function: Callable[..., Any], *args: Any) -> "futures.Future[Any]":
        if self._executor is None:
            self._executor = self._new_executor()
        try:
            return self._start(self._executor, function, *args)
        except futures.BrokenExecutor:
            if self._caller_owned is not None:
                raise
            _shut(self._executor, wait=False)
            self._executor = self._new_executor()
        try:
            return self._start(self._executor, function, *args)
        except futures.BrokenExecutor as error:
            raise WorkersDied("the executor factory returned a broken executor") from error

    def result(self, future: "futures.Future[Any]") -> Any:
        """What a task returned.

        Raises:
            TaskEnded: its worker process died, or was killed at the timeout.
            WorkersDied: a dead worker process cannot be replaced.
            TrialError: the executor did not run it.
        """
        try:
            return future.result()
        except (KeyboardInterrupt, TaskEnded, WorkersDied):
            raise
        except BaseException as error:
            raise self._refusal(error) from error

    def works(self) -> bool:
        """Whether as many no-op tasks as there are workers return.

        Raises:
            TrialError: the executor failed for another reason than the death of its workers.
        """
        try:
            self.start()
            if self._processes is not None:
                return True
            tasks = [self._on_executor(int) for _ in range(self._workers)]
        except (futures.BrokenExecutor, WorkersDied):
            return False
        for future in tasks:
            try:
                future.result()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if is_death(error):
                    return False
                raise self._refusal(error) from error
        return True

    def kill_tasks(self) -> None:
        """Kills the tasks in worker processes, which are replaced; their futures raise WorkerDied."""
        if self._processes is not None:
            self._processes.kill_calls()

    def abandon(self) -> None:
        """Kills the worker processes; `__exit__` then waits for no executor."""
        self._abandoned = True
        if self._processes is not None:
            self._processes.end(at_once=True)

    def _new_executor(self) -> futures.Executor:
        if self._factory is None:
            return _CallingThread(self._seconds_left)
        executor = self._factory()
        if not isinstance(executor, futures.Executor):
            raise TrialError(f"an executor must be a concurrent.futures.Executor, got {described(executor)}")
        return executor

    def _start(
        self, executor: futures.Executor, function: Callable[..., Any], *args: Any
    ) -> "futures.Future[Any]":
        try:
            if isinstance(executor, futures.ProcessPoolExecutor):
                return executor.submit(call_pickled, self._pickled(function, *args))
            return executor.submit(function, *args)
        except (futures.BrokenExecutor, KeyboardInterrupt, TrialError):
            raise
        except BaseException as error:
            if is_death(error):
                raise futures.BrokenExecutor(error_text(error)) from error
            raise self._refusal(error) from error

    def _pickled(self, function: Callable[..., Any], *args: Any) -> bytes:
        """The task as bytes, for a ProcessPoolExecutor.

        That pickles tasks in a thread that a BaseException ends, and an error while unpickling ends a worker.
        """
        try:
            return pickle.dumps((function, args))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._not_picklable(error) from error

    def _refusal(self, error: BaseException) -> TrialError:
        """The TrialError for an exception of the executor; failures of f are returned, not raised."""
        text = _with_cause(error)
        if isinstance(error, futures.CancelledError | asyncio.CancelledError):
            return TrialError(
                f"a task on the executor was cancelled, or its cluster is gone ({text}); nothing else may "
                "cancel the tasks of a run"
            )
        if isinstance(error, RuntimeError) and _SHUT_DOWN.search(text):
            return TrialError(f"the executor was shut down during the run ({text})")
        unread = isinstance(error, TaskNotReadable | ImportError | pickle.UnpicklingError)
        if unread or _NOT_READABLE.search(text):
            return self._not_readable(error)
        if isinstance(error, pickle.PicklingError) or _NOT_PICKLABLE.search(text):
            return self._not_picklable(error)
        if isinstance(error, AttributeError):
            return self._not_readable(error)
        return TrialError(f"the executor failed during the run with {text}")

    def _not_picklable(self, error: BaseException) -> TrialError:
        return TrialError(
            f"{self._task} and all that it refers to must be picklable, to be sent to other processes "
            f"(define it at the top of a module, or use a ThreadPoolExecutor), got {_with_cause(error)}"
        )

    def _not_readable(self, error: BaseException) -> TrialError:
        text = str(error) if isinstance(error, TaskNotReadable) else _with_cause(error)
        return TrialError(
            f"workers must be able to import {self._task} and to unpickle what it refers to (it must be in a "
            f"module that they find, not in a notebook), but one failed with {text}"
        )

    def _new_processes(self, timeout: float | None) -> Processes:
        try:
            return Processes(self._workers, setting_of(self._function), timeout)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise TrialError(
                f"with workers > 1 or a timeout, {self._task} is sent to other processes and must be "
                "picklable (without locks, open files and generators; executor=ThreadPoolExecutor(n) accepts "
                f"any function), got {error_text(error)}"
            ) from error


def _with_cause(error: BaseException) -> str:
    """The text of an executor's error and the last line of its cause, since loky's text has no reason."""
    if error.__cause__ is None:
        return error_text(error)
    cause = plain_text(error.__cause__, _CAUSE).strip('" \n').rpartition("\n")[2]
    return f"{error_text(error)} (from {cause})"


def _shut(executor: futures.Executor, *, wait: bool) -> None:
    """Shuts down and cancels waiting tasks; loky and Dask do not have that option.

    If that fails, it is logged, since the results of the run are valid.
    """
    try:
        if "cancel_futures" in inspect.signature(executor.shutdown).parameters:
            executor.shutdown(wait=wait, cancel_futures=True)
        else:
            executor.shutdown(wait=wait)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        logger.warning("an executor could not be shut down: %s", error_text(error))


def is_death(error: BaseException | None) -> bool:
    """Whether an exception of an executor means that workers died.

    Dask raises it only after it has run the task on `distributed.scheduler.allowed-failures` more workers.
    """
    dask = sys.modules.get("distributed.scheduler")
    kinds = (futures.BrokenExecutor,) if dask is None else (futures.BrokenExecutor, dask.KilledWorker)
    # loky also breaks if a worker cannot unpickle a task
    return isinstance(error, kinds) and not _NOT_READABLE.search(error_text(error))
