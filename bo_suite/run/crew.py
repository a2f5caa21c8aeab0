"""Tasks that are kept going, and which of them it was that broke their executor."""

import concurrent.futures as futures
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from bo_suite.errors import WorkersDied
from bo_suite.run.workers import is_death, no_limit

Task = TypeVar("Task")

_PATIENCE = 3600.0
"""Seconds of one wait; a system may have no longer ones."""


def _worker_died(future: "futures.Future[Any]") -> bool:
    """Whether a task took its worker down, or shared one that another task took down."""
    return not future.cancelled() and is_death(future.exception())


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
        self.running: dict[futures.Future[Any], Task] = {}
        self._ended: SimpleQueue[futures.Future[Any]] = SimpleQueue()

    def completed(
        self, following: Callable[[], Task | None], seconds_left: Callable[[], float] = no_limit
    ) -> "Iterator[tuple[Task, futures.Future[Any] | None]]":
        """Tasks that have ended with their futures; None of one that has taken its worker down.

        Which task broke the workers is found out by running each suspect alone.

        Args:
            following: the next task to start, None while there is none.
            seconds_left: seconds for which tasks are waited for; then those that run are left in `running`.

        Raises:
            WorkersDied: no task has ended, no suspect is left that might, and workers are not known to work.
        """
        suspects, blamed, worked = deque[Task](), list[Task](), self._worked
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
                elif lost and not worked and suspects and task not in blamed:
                    blamed.append(task)  # another suspect may show that workers can run anything
                    suspects.append(task)
                elif lost and not worked:
                    raise WorkersDied("worker processes must live until one task has ended")
                else:
                    worked = worked or not lost
                    yield task, None if lost else future
                del self.running[future]

    def _start(self, task: Task) -> None:
        future = self._submit(task)
        self.running[future] = task
        future.add_done_callback(self._ended.put)

    def _wait(self, seconds_left: Callable[[], float]) -> "list[futures.Future[Any]]":
        """Futures that have ended, none once the time is over before one has.

        `futures.wait` would not see all that are cancelled.
        """
        ended = list[futures.Future[Any]]()
        while not ended:
            left = seconds_left()
            with suppress(Empty):
                ended.append(self._ended.get(timeout=min(max(left, 0.0), _PATIENCE)))
            if left <= 0:
                break
        while not self._ended.empty():
            ended.append(self._ended.get())
        return ended

    def cancel(self) -> None:
        """Takes back what has not started."""
        for future in self.running:
            future.cancel()

    def ended(self) -> "Iterator[tuple[Task, Any]]":
        """Tasks that have ended but were not yet reported, with their results."""
        for future, task in self.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                yield task, future.result()
