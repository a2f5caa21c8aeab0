"""Tasks on workers: an executor that is remade when it breaks, and which task it was that broke it."""

import concurrent.futures as futures
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from bo_suite.errors import WorkersDied
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
            self._executor.shutdown(wait=not self._abandoned, cancel_futures=True)

    def submit(self, function: Callable[..., Any], *args: Any) -> "futures.Future[Any]":
        """Starts function(*args), on new workers if the old ones broke and a factory can make them."""
        if self._executor is None:
            self._executor = self._make()
        try:
            return self._executor.submit(function, *args)
        except futures.BrokenExecutor:
            if self._given is not None:
                raise
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = self._make()
            return self._executor.submit(function, *args)

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

    def _processes(self) -> futures.Executor:
        # Forking a process whose libraries have threads can deadlock the child.
        spawn = multiprocessing.get_context("spawn")
        return futures.ProcessPoolExecutor(self._workers, mp_context=spawn, initializer=start_worker)


class Crew(Generic[Task]):
    """Keeps a number of tasks going, whose futures come as they end.

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
                lost = not future.cancelled() and isinstance(future.exception(), futures.BrokenExecutor)
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

    def ended(self) -> "Iterator[tuple[Task, Any]]":
        """Tasks that have ended but were not yet reported, with their results."""
        for future, task in self._running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield task, future.result()
