"""Each way in which an executor fails has its own message."""

import concurrent.futures as futures
import logging
import multiprocessing
import pickle
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space, Trial, minimize
from bo_suite.bench import run_suite
from bo_suite.errors import TrialError
from bo_suite.run.workers import ExecutorPool

SPACE = Space({"x": Float(-1, 2)})

PICKLABLE = "f and all that it refers to must be picklable"
READABLE = "workers must be able to import f and to unpickle what it refers to"
OPEN = "the executor was shut down during the run"
CANCELLED = "a task on the executor was cancelled"
WORKING = "the executor failed during the run with"
GIVEN = "an executor whose workers can die must be passed as a function"
DIED = "worker processes must be able to run f, but they died"


class Panic(BaseException):
    """What a Rust extension raises."""


class CommClosedError(OSError):
    """As Dask's is."""


class KilledWorker(Exception):
    """As Dask's is."""


class Silent(Exception):
    def __str__(self) -> str:
        raise Panic


class Failing(futures.Executor):
    """Raises from submit, from futures, or in shutdown; tasks that do nothing may come back."""

    def __init__(
        self,
        submit: BaseException | None = None,
        future: BaseException | None = None,
        shutdown: BaseException | None = None,
        nothing: bool = True,
    ) -> None:
        self._submit, self._future, self._shutdown, self._nothing = submit, future, shutdown, nothing

    def submit(self, fn, /, *args, **kwargs):
        future = futures.Future()
        if self._submit is not None:
            raise self._submit
        if self._future is None or (fn is int and self._nothing):
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(self._future)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._shutdown is not None:
            raise self._shutdown


def run(executor: object, **options: object) -> list[Trial]:
    return list(minimize(parabola, SPACE, 3, executor=executor, progress=False, **options).trials)


def parabola(params: dict) -> float:
    return params["x"] ** 2


CAUSES = [
    (TypeError("cannot pickle '_thread.lock' object"), PICKLABLE),
    (pickle.PicklingError("Could not pickle the task to send it to the workers."), PICKLABLE),
    (AttributeError("Can't get local object 'main.<locals>.f'"), PICKLABLE),
    (TypeError("Could not serialize object of type function"), PICKLABLE),
    (ModuleNotFoundError("No module named 'mine'"), READABLE),
    (AttributeError("Can't get attribute 'f' on <module '__main__'>"), READABLE),
    (pickle.UnpicklingError("pickle data was truncated"), READABLE),
    (RuntimeError("Error during deserialization of the task graph."), READABLE),
    (RuntimeError("cannot schedule new futures after shutdown"), OPEN),
    (futures.CancelledError("scheduler-connection-lost"), CANCELLED),
    (CommClosedError("in <TCP>: Stream is closed"), f"{WORKING} CommClosedError: in <TCP>"),
    (TimeoutError("no answer"), f"{WORKING} TimeoutError: no answer"),
    (Panic("out of bounds"), f"{WORKING} Panic: out of bounds"),
    (Silent(), f"{WORKING} Silent: <Silent, whose str raised Panic>"),
    (ValueError("a" * 1_000_000), f"{WORKING} ValueError: aaa"),
]


@pytest.mark.parametrize(("error", "text"), CAUSES, ids=lambda value: repr(type(value)))
@pytest.mark.parametrize("where", ["submit", "future"])
def test_each_cause_has_its_own_message(where: str, error: BaseException, text: str) -> None:
    with pytest.raises(TrialError, match=text) as caught:
        run(Failing(**{where: error}))
    assert len(str(caught.value)) < 3_000
    assert caught.value.__cause__ is error


def test_an_executor_that_is_broken_is_told_from_workers_that_die() -> None:
    with pytest.raises(TrialError, match=f"{GIVEN} .* BrokenExecutor: broken"):
        run(Failing(submit=futures.BrokenExecutor("broken")))
    with pytest.raises(TrialError, match=DIED):
        run(Failing(future=futures.BrokenExecutor("a worker died"), nothing=False))
    with pytest.raises(TrialError, match=READABLE):
        run(Failing(future=futures.BrokenExecutor("A task has failed to un-serialize.")))


def test_the_cause_of_an_error_is_told_too() -> None:
    error = pickle.PicklingError("Could not pickle the task to send it to the workers.")
    error.__cause__ = Exception('\n"""\nTraceback\n  f\nTypeError: cannot pickle a lock\n"""')
    with pytest.raises(TrialError, match=rf"{PICKLABLE}, .* \(from TypeError: cannot pickle a lock\)$"):
        run(Failing(future=error))


def test_what_f_raises_is_its_own_even_if_executors_raise_the_same() -> None:
    for error, _ in CAUSES:
        options = {"executor": Failing(), "progress": False}
        trials = minimize(raising(error), SPACE, 1, catch=BaseException, **options).trials
        assert trials[0].state == "failed"
        with pytest.raises(type(error)) as caught:
            minimize(raising(error), SPACE, 1, **options)
        assert caught.value is error


def raising(error: BaseException) -> Callable[[dict], float]:
    def f(params: dict) -> float:
        raise error

    return f


@pytest.mark.parametrize("notified", [True, False])
def test_an_evaluation_that_somebody_cancels_ends_the_run(tmp_path: Path, notified: bool) -> None:
    class Cancelled(futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = futures.Future()
            future.cancel()
            if notified:
                future.set_running_or_notify_cancel()
            return future

    with pytest.raises(TrialError, match=CANCELLED):
        run(Cancelled(), storage=tmp_path / "run.db")
    assert [trial.state for trial in run(None, storage=tmp_path / "run.db")] == ["finished"] * 3


@pytest.mark.parametrize(("budget", "text"), [(3, CANCELLED), (9, OPEN)])
def test_an_executor_that_somebody_shuts_down_does_not_hang_the_run(budget: int, text: str) -> None:
    """A future that a pool of threads cancels as it shuts down never wakes `futures.wait`."""
    executor, shut = futures.ThreadPoolExecutor(1), threading.Event()

    def f(params: dict) -> float:
        assert params["x"] == 0.5 or shut.wait(30)
        return 0.0

    def shuts_down(optimizer: Optimizer, trial: Trial) -> None:
        executor.shutdown(wait=False, cancel_futures=True)
        shut.set()

    with pytest.raises(TrialError, match=text):
        minimize(f, SPACE, budget, 0, 3, executor, progress=False, callbacks=[shuts_down])


@pytest.mark.parametrize("error", [CommClosedError("gone"), Panic("gone"), Silent()])
def test_an_executor_that_cannot_shut_down_loses_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bo_suite"):
        trials = run(lambda: Failing(shutdown=error))
    assert [trial.state for trial in trials] == ["finished"] * 3
    assert len(caplog.records) == 1
    assert "an executor could not be shut down: " in caplog.text
    with pytest.raises(TrialError, match=WORKING):
        run(lambda: Failing(future=TimeoutError("no answer"), shutdown=error))


def test_an_executor_is_one_or_makes_one() -> None:
    with pytest.raises(TrialError, match=r"an executor must be .* or a function that makes one, got 'dask'"):
        run("dask")


# Dask, whether it is installed or not.


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.SimpleNamespace(KilledWorker=KilledWorker)
    monkeypatch.setitem(sys.modules, "distributed.scheduler", module)


@pytest.mark.usefixtures("dask")
def test_a_killed_worker_of_dask_is_a_worker_that_died() -> None:
    killed = KilledWorker("Attempted to run task on 1 different worker")
    with pytest.raises(TrialError, match=DIED):
        run(Failing(future=killed, nothing=False))
    assert not ExecutorPool(2, Failing(future=killed, nothing=False)).works()
    assert not ExecutorPool(2, Failing(submit=killed)).works()
    assert ExecutorPool(2, Failing(future=killed)).works()


@pytest.mark.usefixtures("dask")
def test_workers_of_dask_that_die_after_an_evaluation_end_the_run_in_one_sentence(tmp_path: Path) -> None:
    class Shrinking(futures.Executor):
        tasks = 0

        def submit(self, fn, /, *args, **kwargs):
            future = futures.Future()
            self.tasks += 1
            if self.tasks == 1:
                future.set_result(fn(*args, **kwargs))
            else:
                future.set_exception(KilledWorker("no worker is left"))
            return future

    with pytest.raises(TrialError, match=f"{DIED}: the worker pool died while idle"):
        run(Shrinking(), storage=tmp_path / "run.db")
    kept = Optimizer.resume(tmp_path / "run.db")
    assert [trial.state for trial in kept.trials] == ["finished", "running"]
    kept.close()


def test_workers_are_looked_after_until_the_pool_itself_fails() -> None:
    with pytest.raises(TrialError, match="the executor failed during the run"):
        ExecutorPool(1, Failing(future=CommClosedError("closed"), nothing=False)).works()


# Processes.


class Unsendable:
    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, params: dict) -> float:
        return 0.0

    def __reduce__(self) -> tuple[object, ...]:
        raise self._error


class Unreadable(Unsendable):
    def __reduce__(self) -> tuple[object, ...]:
        return cannot_be_read, (self._error,)


def cannot_be_read(error: BaseException) -> None:
    raise error


def forked() -> futures.Executor:
    return futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))


ERRORS = [ValueError("no"), Panic("no"), SystemExit("no")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_function_that_cannot_be_sent_or_read_is_told_so(error: BaseException) -> None:
    text = f"{type(error).__name__}: no"
    with forked() as executor, pytest.raises(TrialError, match=f"{PICKLABLE}, .*, got {text}"):
        minimize(Unsendable(error), SPACE, executor=executor, progress=False)
    with forked() as executor:
        with pytest.raises(TrialError, match=f"{READABLE} .*, but one failed with {text}"):
            minimize(Unreadable(error), SPACE, executor=executor, progress=False)
        assert executor.submit(int, 3).result() == 3, "its worker lives on"
    with pytest.raises(TrialError, match=f"f is sent to other .* must be picklable .*, got {text}"):
        minimize(Unsendable(error), SPACE, workers=2, progress=False)


def test_a_unit_on_an_executor_that_fails_is_told_why(tmp_path: Path) -> None:
    executor = Failing(future=CommClosedError("closed"))
    records = run_suite("branin", "random", [0], 2, tmp_path, executor, workers=1, progress=False)
    assert list(records.units["reason"]) == [
        "the executor failed during the run with CommClosedError: closed"
    ]
