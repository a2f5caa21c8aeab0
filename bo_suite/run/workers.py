"""Where the tasks of a run are run: processes of our own, or an executor that is remade when it breaks."""

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
"""What executors say of a task that a worker cannot unpickle."""

_NOT_PICKLABLE = re.compile(r"pickl|serializ|local object", re.IGNORECASE)
"""What executors say of a task that cannot be pickled, where they do not say the above."""

_SHUT_DOWN = re.compile(r"shut ?down", re.IGNORECASE)

_CAUSE = 500
"""The most characters of the cause of an executor's error that are repeated."""


class _Here(futures.Executor):
    """Runs tasks in the calling thread, so that one worker needs no process.

    Args:
        seconds_left: seconds after which a task is interrupted that starts now.
    """

    def __init__(self, seconds_left: Callable[[], float]) -> None:
        self._seconds_left = seconds_left

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        future: futures.Future[Any] = futures.Future()
        future.set_result(call_within(self._seconds_left(), partial(fn, **kwargs), *args))
        return future


def no_limit() -> float:
    """Seconds that are left where nothing limits them."""
    return math.inf


class Pool:
    """Where the tasks of a run are run: processes of our own, the calling thread, or an executor.

    An executor is given, or made by a factory; then it is remade once its workers broke.

    Args:
        workers: processes of our own, or one for none but the calling thread.
        executor: instead of these, any `concurrent.futures.Executor`, left open, or what makes one.
        function: what runs there, the same for all tasks; by default what does nothing.
        task: the name of that, for errors.
        timeout: seconds of a task, after which it is killed: then one worker is a process too.

    Raises:
        TrialError: an executor that is neither, one with a timeout, or a function that cannot be pickled
            where processes of our own are to run it.
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
                "a timeout needs processes of our own, since nobody can kill what runs on an executor: leave "
                f"the executor out and say how many workers, or the timeout, got {described(executor)} and "
                f"{timeout:g} s"
            )
        self._workers, self._function, self._task = workers, function, task
        self._own = self._processes(timeout) if executor is None and (workers > 1 or timeout) else None
        self._given = executor if isinstance(executor, futures.Executor) else None
        self._factory = executor if not isinstance(executor, futures.Executor) else None
        self._executor: futures.Executor | None = self._given
        self._abandoned = False
        self._seconds_left = no_limit

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        if self._own is not None:
            self._own.end(at_once=self._abandoned)
        elif self._executor is not None and self._given is None:
            _shut(self._executor, wait=not self._abandoned)

    def start(self, seconds_left: Callable[[], float] = no_limit) -> None:
        """Starts our own processes and waits until they are ready, so that no task pays for it.

        Args:
            seconds_left: seconds after which a task in the calling thread is interrupted that starts now.

        Raises:
            WorkersDied: a process has died before.
            TrialError: one cannot read the function.
        """
        self._seconds_left = seconds_left
        if self._own is not None:
            try:
                self._own.start()
            except (WorkersDied, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise self._refusal(error) from error

    def submit(self, *args: Any) -> "futures.Future[Any]":
        """Starts a task, on new workers if the old ones broke and a factory can make them.

        Our own processes must have been started.

        Raises:
            BrokenExecutor: the executor that was given has broken.
            WorkersDied: the function that makes executors made one that was broken from the start.
            TrialError: it made something else, or an executor that does not take the task.
        """
        if self._own is None:
            return self._on_executor(self._function, *args)
        try:
            return self._own.submit(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._not_picklable(error) from error

    def _on_executor(self, function: Callable[..., Any], *args: Any) -> "futures.Future[Any]":
        if self._executor is None:
            self._executor = self._made()
        try:
            return self._start(self._executor, function, *args)
        except futures.BrokenExecutor:
            if self._given is not None:
                raise
            _shut(self._executor, wait=False)
            self._executor = self._made()
        try:
            return self._start(self._executor, function, *args)
        except futures.BrokenExecutor as error:
            raise WorkersDied("a function that makes an executor must make one that is not broken") from error

    def result(self, future: "futures.Future[Any]") -> Any:
        """What a task has returned.

        Raises:
            TaskEnded: its process, one of our own, has died or was killed as its time was over.
            WorkersDied: a process of our own that has died cannot be replaced.
            TrialError: the executor has not run it.
        """
        try:
            return future.result()
        except (KeyboardInterrupt, TaskEnded, WorkersDied):
            raise
        except BaseException as error:
            raise self._refusal(error) from error

    def works(self) -> bool:
        """Whether as many tasks as there are workers come back, tasks that do nothing.

        Raises:
            TrialError: the executor has failed in another way than that its workers died.
        """
        try:
            self.start()
            if self._own is not None:
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

    def abandon(self) -> None:
        """Ends our own processes, and waits for nobody's."""
        self._abandoned = True
        if self._own is not None:
            self._own.end(at_once=True)

    def _made(self) -> futures.Executor:
        if self._factory is None:
            return _Here(self._seconds_left)
        made = self._factory()
        if not isinstance(made, futures.Executor):
            raise TrialError(f"an executor must be a concurrent.futures.Executor, got {described(made)}")
        return made

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
        """The task as bytes, for standard process pools.

        They pickle tasks in a thread that does not survive a BaseException, and unpickle them where an error
        ends the worker.
        """
        try:
            return pickle.dumps((function, args))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._not_picklable(error) from error

    def _refusal(self, error: BaseException) -> TrialError:
        """What it means that the executor raised this: a task of ours returns its failures."""
        text = _with_cause(error)
        if isinstance(error, futures.CancelledError | asyncio.CancelledError):
            return TrialError(
                "nobody may cancel what runs on the executor, but somebody has, or its cluster is gone "
                f"({text})"
            )
        if isinstance(error, RuntimeError) and _SHUT_DOWN.search(text):
            return TrialError(f"the executor must be open as long as the run, but it was shut down ({text})")
        unread = isinstance(error, TaskNotReadable | ImportError | pickle.UnpicklingError)
        if unread or _NOT_READABLE.search(text):
            return self._not_readable(error)
        if isinstance(error, pickle.PicklingError) or _NOT_PICKLABLE.search(text):
            return self._not_picklable(error)
        if isinstance(error, AttributeError):
            return self._not_readable(error)
        return TrialError(f"the executor itself must work as long as the run, but it failed with {text}")

    def _not_picklable(self, error: BaseException) -> TrialError:
        return TrialError(
            f"{self._task} and all that it holds must be picklable, to be sent to other processes (define it "
            f"at the top of a module; a ThreadPoolExecutor takes any), got {_with_cause(error)}"
        )

    def _not_readable(self, error: BaseException) -> TrialError:
        text = str(error) if isinstance(error, TaskNotReadable) else _with_cause(error)
        return TrialError(
            f"workers must be able to import {self._task} and to unpickle what it holds (it must be in a "
            f"module that they find, not in a notebook), but one failed with {text}"
        )

    def _processes(self, timeout: float | None) -> Processes:
        try:
            return Processes(self._workers, setting_of(self._function), timeout)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise TrialError(
                f"workers > 1, or a timeout, send {self._task} to other processes, so {self._task} must be "
                "picklable (it may hold no lock, open file or generator; executor=ThreadPoolExecutor(n) "
                f"takes any), got one that is not: {error_text(error)}"
            ) from error


def _with_cause(error: BaseException) -> str:
    """The text of an executor's error, and the last line of its cause: loky's own text does not say why."""
    if error.__cause__ is None:
        return error_text(error)
    cause = plain_text(error.__cause__, _CAUSE).strip('" \n').rpartition("\n")[2]
    return f"{error_text(error)} (from {cause})"


def _shut(executor: futures.Executor, *, wait: bool) -> None:
    """Shuts down, without the tasks that wait; loky and Dask know no such option.

    An executor that cannot shut down is logged: what has run on it stands.
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
    """Whether an executor says so that workers died.

    Dask says so only after it has run the task again itself, on `distributed.scheduler.allowed-failures`
    more workers.
    """
    dask = sys.modules.get("distributed.scheduler")
    kinds = (futures.BrokenExecutor,) if dask is None else (futures.BrokenExecutor, dask.KilledWorker)
    # loky also breaks where a worker cannot unpickle a task
    return isinstance(error, kinds) and not _NOT_READABLE.search(error_text(error))
