"""Runs tasks side by side, and finds out which task broke the executor."""

import concurrent.futures as futures
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from bo_suite.errors import WorkersDied
from bo_suite.run.workers import is_death, no_limit

Task = TypeVar("Task")

_LONGEST_WAIT_S = 3600.0
"""Seconds of one wait; some systems do not support longer ones."""


def _worker_died(future: "futures.Future[Any]") -> bool:
    """Whether the worker of a task died, by this task or by another one on the same executor."""
    return not future.cancelled() and is_death(future.exception())


class TaskRunner(Generic[Task]):
    """Runs up to `workers` tasks at once, and yields their futures as they end.

    A task runs at most three times: beside others; alone, if the workers broke meanwhile; and alone again, if
    they broke again before any task had ended and another suspect may still show that workers work.

    Args:
        submit: starts a task.
        workers: number of tasks at once.
        worked: whether workers have run a task before.
    """

    def __init__(
        self,
        submit: "Callable[[Task], futures.Future[Any]]",
        workers: int,
        worked: bool = False,
    ) -> None:
        self._submit, self._workers, self._worked = submit, workers, worked
        self.running: dict[futures.Future[Any], Task] = {}
        self._ended: SimpleQueue[futures.Future[Any]] = SimpleQueue()

    def completed(
        self, following: Callable[[], Task | None], seconds_left: Callable[[], float] = no_limit
    ) -> "Iterator[tuple[Task, futures.Future[Any] | None]]":
        """Yields (task, future) as tasks end; the future is None if the task killed its worker.

        To find the task that broke the workers, each suspect runs again, alone.

        Args:
            following: returns the next task, or None while there is none.
            seconds_left: seconds to wait for tasks; after that, tasks that still run stay in `running`.

        Raises:
            WorkersDied: the workers died with every suspect, and no task has ever ended.
        """
        suspects, culprits, worked = deque[Task](), list[Task](), self._worked
        while True:
            alone = suspects.popleft() if suspects and not self.running else None
            if alone is not None:
                self._start(alone)
            while not suspects and alone is None and len(self.running) < self._workers:
                task = following()
                if task is None:
                    break
                self._start(task)
            if not self.running:
                return
            ended = self._wait(seconds_left)
            if not ended:
                return
            for future in ended:
                task = self.running[future]
                lost = _worker_died(future)
                if lost and task is not alone:
                    suspects.append(task)
                elif lost and not worked and suspects and task not in culprits:
                    culprits.append(task)  # another suspect may show that the workers are able to work
                    suspects.append(task)
                elif lost and not worked:
                    raise WorkersDied("no task ended before its worker process died")
                else:
                    worked = worked or not lost
                    yield task, None if lost else future
                del self.running[future]

    def _start(self, task: Task) -> None:
        future = self._submit(task)
        self.running[future] = task
        future.add_done_callback(self._ended.put)

    def _wait(self, seconds_left: Callable[[], float]) -> "list[futures.Future[Any]]":
        """Futures that have ended; empty if the time is over first.

        `futures.wait` does not return all cancelled futures.
        """
        ended = list[futures.Future[Any]]()
        while not ended:
            left = seconds_left()
            with suppress(Empty):
                ended.append(self._ended.get(timeout=min(max(left, 0.0), _LONGEST_WAIT_S)))
            if left <= 0:
                break
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def cancel(self) -> None:
        """Cancels tasks that have not started."""
        for future in self.running:
            future.cancel()

    def ended(self) -> "Iterator[tuple[Task, Any]]":
        """Tasks that have ended but were not yet yielded, with their results."""
        for future, task in self.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield task, future.result()
