"""Ray as a `concurrent.futures.Executor`, to evaluate on a cluster."""

import concurrent.futures as futures
from collections.abc import Callable
from importlib import import_module
from threading import Lock
from typing import Any

from bo_suite.values.describe import error_text


class RayExecutor(futures.Executor):
    """Run each call as one Ray task, for `minimize` and `run_suite`; a context manager like any executor.

    It uses the cluster that `ray.init` has connected this process to, and never shuts it down. Without one,
    Ray starts one on this machine's cores. Workers must be able to import what the main process imports.

    A task whose worker or node dies raises BrokenExecutor, as with local processes, and is not retried; other
    tasks, and this executor, continue.

    Args:
        num_cpus: cores that each task reserves, and threads of its numerical libraries.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, num_cpus: float = 1.0) -> None:
        try:
            self._ray: Any = import_module("ray")
        except ModuleNotFoundError as error:
            raise ImportError("RayExecutor needs ray, which `pip install 'bo-suite[ray]'` brings") from error
        self._call = self._ray.remote(num_cpus=num_cpus, max_retries=0)(_call)
        self._running: dict[futures.Future[Any], Any] = {}
        self._lock, self._open = Lock(), True

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        """Start fn(*args, **kwargs); a single future cannot be cancelled.

        Raises:
            RuntimeError: the executor was shut down.
        """
        future: futures.Future[Any] = futures.Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if not self._open:
                raise RuntimeError("the executor was shut down and accepts no task")
            try:
                reference = self._call.remote(fn, args, kwargs)
            except Exception as error:  # arguments that cannot be pickled; process pools set it, too
                future.set_exception(error)
                return future
            self._running[future] = reference
        reference.future().add_done_callback(lambda finished: self._end(future, finished))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; with cancel_futures kill the running ones; with wait, wait for all."""
        with self._lock:
            self._open = False
            running = dict(self._running)
        if cancel_futures:
            for reference in running.values():
                self._ray.cancel(reference, force=True)
        if wait:
            futures.wait(running)

    def _end(self, future: "futures.Future[Any]", finished: "futures.Future[Any]") -> None:
        """Pass on the result or the error of a task."""
        with self._lock:
            del self._running[future]
        error = finished.exception()
        if error is None:
            future.set_result(finished.result())
        elif self._lost(error):
            broken = futures.BrokenExecutor(f"the worker of a task died: {error_text(error)}")
            broken.__cause__ = error
            future.set_exception(broken)
        else:
            future.set_exception(error)

    def _lost(self, error: BaseException) -> bool:
        """Whether the task's process or node died; False if the task itself raised."""
        kinds = self._ray.exceptions
        deaths = (
            kinds.WorkerCrashedError,
            kinds.NodeDiedError,
            kinds.OutOfMemoryError,
            kinds.ObjectLostError,
        )
        return isinstance(error, deaths)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
