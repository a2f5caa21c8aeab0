"""Tasks on workers: an executor that is remade when it breaks, and which task it was that broke it."""

import asyncio
import concurrent.futures as futures
import inspect
import logging
import multiprocessing
import pickle
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from bo_suite.describe import described, error_text, plain_text
from bo_suite.errors import TrialError, WorkersDied
from bo_suite.evaluate import TaskNotReadable, call_pickled, start_worker

Executor = futures.Executor | Callable[[], futures.Executor]

Task = TypeVar("Task")

logger = logging.getLogger("bo_suite")

_NOT_READABLE = re.compile(r"un-?pickl|un-?serializ|deserializ|fail\w* to import", re.IGNORECASE)
"""What executors say of a task that a worker cannot unpickle."""

_NOT_PICKLABLE = re.compile(r"pickl|serializ|local object", re.IGNORECASE)
"""What executors say of a task that cannot be pickled, where they do not say the above."""

_SHUT_DOWN = re.compile(r"shut ?down", re.IGNORECASE)

_CAUSE = 500
"""The most characters of the cause of an executor's error that are repeated."""


class _Here(futures.Executor):
    """Runs tasks in the calling thread, so that one worker needs no process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        future: futures.Future[Any] = futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Pool:
    """The executor of a run: given, made by a factory, or our own; remade once its workers broke.

    Args:
        workers: processes of our own, or one for none but the calling thread.
        executor: instead of these, any `concurrent.futures.Executor`, left open, or what makes one.
        task: what runs there, for errors.

    Raises:
        TrialError: an executor that is neither.
    """

    def __init__(self, workers: int, executor: Executor | None, task: str = "f") -> None:
        if not (executor is None or isinstance(executor, futures.Executor) or callable(executor)):
            raise TrialError(
                "an executor must be a concurrent.futures.Executor or a function that makes one, "
                f"got {described(executor)}"
            )
        self._task = task
        self._given = executor if isinstance(executor, futures.Executor) else None
        self._own = executor is None and workers > 1
        self._workers = workers
        if executor is not None and not isinstance(executor, futures.Executor):
            self._make: Callable[[], futures.Executor] = executor
        else:
            self._make = self._processes if self._own else _Here
        self._executor: futures.Executor | None = self._given
        self._before = set(multiprocessing.active_children())
        self._abandoned = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None and self._given is None:
            _shut(self._executor, wait=not self._abandoned)

    def submit(self, function: Callable[..., Any], *args: Any) -> "futures.Future[Any]":
        """Starts function(*args), on new workers if the old ones broke and a factory can make them.

        Raises:
            BrokenExecutor: the executor that was given has broken.
            WorkersDied: the function that makes executors made one that was broken from the start.
            TrialError: it made something else, or an executor that does not take the task.
        """
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
            TrialError: the executor has not run it.
        """
        try:
            return future.result()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._refusal(error) from error

    def works(self) -> bool:
        """Whether as many tasks as there are workers come back, tasks that do nothing.

        Raises:
            TrialError: the executor has failed in another way than that its workers died.
        """
        try:
            tasks = [self.submit(int) for _ in range(self._workers)]
        except futures.BrokenExecutor:
            return False
        for future in tasks:
            try:
                future.result()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if _is_death(error):
                    return False
                raise self._refusal(error) from error
        return True

    def abandon(self) -> None:
        """Ends our own workers, and waits for nobody's."""
        self._abandoned = True
        if self._own:
            for process in set(multiprocessing.active_children()) - self._before:
                process.terminate()

    def _made(self) -> futures.Executor:
        made = self._make()
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
            if _is_death(error):
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

    def _processes(self) -> futures.Executor:
        # Forking a process whose libraries have threads can deadlock the child.
        spawn = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(self._workers, mp_context=spawn, initializer=start_worker)


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


def _worker_died(future: "futures.Future[Any]") -> bool:
    """Whether a task took its worker down, or shared one that another task took down."""
    return not future.cancelled() and _is_death(future.exception())


def _is_death(error: BaseException | None) -> bool:
    """Whether an executor says so that workers died.

    Dask says so only after it has run the task again itself, on `distributed.scheduler.allowed-failures`
    more workers.
    """
    dask = sys.modules.get("distributed.scheduler")
    kinds = (futures.BrokenExecutor,) if dask is None else (futures.BrokenExecutor, dask.KilledWorker)
    # loky also breaks where a worker cannot unpickle a task
    return isinstance(error, kinds) and not _NOT_READABLE.search(error_text(error))


class Crew(Generic[Task]):
    """Keeps a number of tasks going, whose futures come as they end.

    A task runs three times at most: beside others; alone, where the workers broke meanwhile; and alone once
    more, where they broke again, no task had ended by then, and others that shared the workers might.

    Args:
        submit: starts a task.
        workers: tasks going at once.
        worked: whether workers are known to be able to run anything.
    """

    def __init__(
        self,
        submit: "Callable[[Task], futures.Future[Any]]",
        workers: int,
        worked: bool = False,
    ) -> None:
        self._submit, self._workers, self._worked = submit, workers, worked
        self._running: dict[futures.Future[Any], Task] = {}
        self._ended: SimpleQueue[futures.Future[Any]] = SimpleQueue()

    def completed(
        self, following: Callable[[], Task | None]
    ) -> "Iterator[tuple[Task, futures.Future[Any] | None]]":
        """Tasks that have ended with their futures; None of one that has taken its worker down.

        Which task broke the workers is found out by running each suspect alone.

        Args:
            following: the next task to start, None while there is none.

        Raises:
            WorkersDied: no task has ended, no suspect is left that might, and workers are not known to work.
        """
        suspects, blamed, worked = deque[Task](), list[Task](), self._worked
        while True:
            alone = suspects.popleft() if suspects and not self._running else None
            if alone is not None:
                self._start(alone)
            while not suspects and alone is None and len(self._running) < self._workers:
                task = following()
                if task is None:
                    break
                self._start(task)
            if not self._running:
                return
            for future in self._wait():
                task = self._running[future]
                lost = _worker_died(future)
                if lost and task is not alone:
                    suspects.append(task)
                elif lost and not worked and suspects and task not in blamed:
                    blamed.append(task)  # another suspect may show that workers can run anything
                    suspects.append(task)
                elif lost and not worked:
                    raise WorkersDied("worker processes must live until one task has ended")
                else:
                    worked = worked or not lost
                    yield task, None if lost else future
                del self._running[future]

    def _start(self, task: Task) -> None:
        future = self._submit(task)
        self._running[future] = task
        future.add_done_callback(self._ended.put)

    def _wait(self) -> "list[futures.Future[Any]]":
        """Futures that have ended, at least one; `futures.wait` would not see all that are cancelled."""
        ended = [self._ended.get()]
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def cancel(self) -> None:
        """Takes back what has not started."""
        for future in self._running:
            future.cancel()

    def ended(self) -> "Iterator[tuple[Task, Any]]":
        """Tasks that have ended but were not yet reported, with their results."""
        for future, task in self._running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield task, future.result()
