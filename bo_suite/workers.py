"""Tasks on workers: an executor that is remade when it breaks, and which task it was that broke it."""

import concurrent.futures as futures
import inspect
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from bo_suite.errors import TrialError, WorkersDied
from bo_suite.evaluate import start_worker

Executor = futures.Executor | Callable[[], futures.Executor]

Task = TypeVar("Task")


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
    """

    def __init__(self, workers: int, executor: Executor | None) -> None:
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
            return _start(self._executor, function, *args)
        except futures.BrokenExecutor:
            if self._given is not None:
                raise
            _shut(self._executor, wait=False)
            self._executor = self._made()
        try:
            return _start(self._executor, function, *args)
        except futures.BrokenExecutor as error:
            raise WorkersDied("a function that makes an executor must make one that is not broken") from error

    def works(self) -> bool:
        """Whether as many tasks as there are workers come back, tasks that do nothing."""
        try:
            for future in [self.submit(int) for _ in range(self._workers)]:
                future.result()
        except futures.BrokenExecutor:
            return False
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
            raise TrialError(f"an executor must be a concurrent.futures.Executor, got {made!r}")
        return made

    def _processes(self) -> futures.Executor:
        # Forking a process whose libraries have threads can deadlock the child.
        spawn = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(self._workers, mp_context=spawn, initializer=start_worker)


def _start(executor: futures.Executor, function: Callable[..., Any], *args: Any) -> "futures.Future[Any]":
    try:
        return executor.submit(function, *args)
    except futures.BrokenExecutor:
        raise
    except Exception as error:  # it was shut down, or cannot send the task, as Dask finds out here
        law = "the executor must take tasks (other processes need what runs there to be picklable)"
        raise TrialError(f"{law}, got {type(error).__name__}: {error}") from error


def _shut(executor: futures.Executor, *, wait: bool) -> None:
    """Shuts down, without the tasks that wait; loky and Dask know no such option."""
    if "cancel_futures" in inspect.signature(executor.shutdown).parameters:
        executor.shutdown(wait=wait, cancel_futures=True)
    else:
        executor.shutdown(wait=wait)


def _worker_died(future: "futures.Future[Any]") -> bool:
    """Whether a task took its worker down, or shared one that another task took down.

    Dask says so only after it has run the task again itself, on `distributed.scheduler.allowed-failures`
    more workers.
    """
    if future.cancelled():
        return False
    dask = sys.modules.get("distributed.scheduler")
    kinds = (futures.BrokenExecutor,) if dask is None else (futures.BrokenExecutor, dask.KilledWorker)
    return isinstance(future.exception(), kinds)


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
                self._running[self._submit(alone)] = alone
            while not suspects and alone is None and len(self._running) < self._workers:
                task = following()
                if task is None:
                    break
                self._running[self._submit(task)] = task
            if not self._running:
                return
            done, _ = futures.wait(self._running, return_when=futures.FIRST_COMPLETED)
            for future in done:
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

    def cancel(self) -> None:
        """Takes back what has not started."""
        for future in self._running:
            future.cancel()

    def ended(self) -> "Iterator[tuple[Task, Any]]":
        """Tasks that have ended but were not yet reported, with their results."""
        for future, task in self._running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield task, future.result()
