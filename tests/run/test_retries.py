"""Failed evaluations that are repeated at their points."""

import concurrent.futures as futures
import logging
import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from paired import InPairs

from bo_suite import Float, Int, Optimizer, Space, Trial, minimize
from bo_suite.errors import TrialError

SPACE = Space({"x": Float(-1, 2)})


class Flaky:
    """Fails so many times at each point, or at those where it is told to."""

    def __init__(self, failures: int, where: Callable[[float], bool] = lambda x: True) -> None:
        self.calls, self._failures, self._where = Counter[float](), failures, where

    def __call__(self, params: dict) -> float:
        x = params.pop("x")
        self.calls[x] += 1
        if self._where(x) and self.calls[x] <= self._failures:
            raise ConnectionError(f"attempt {self.calls[x]} was lost")
        return x


def threads() -> futures.Executor:
    return futures.ThreadPoolExecutor(2)


@pytest.mark.parametrize(("workers", "make"), [(1, None), (2, threads)])
def test_an_evaluation_that_fails_is_repeated_and_the_user_is_told(
    workers: int, make: object, caplog: pytest.LogCaptureFixture
) -> None:
    f, ended = Flaky(2), list[int]()
    with caplog.at_level(logging.INFO, "bo_suite"):
        result = minimize(
            *(f, SPACE, 3, 0, workers, make),
            progress=False,
            retries=2,
            callbacks=[lambda optimizer, trial: ended.append(trial.id)],
        )
    assert [(trial.state, trial.attempt) for trial in result.trials] == [("finished", 1)] * 3
    assert set(f.calls.values()) == {3}
    assert len(f.calls) == 3
    assert sorted(ended) == [0, 1, 2], "callbacks see a trial once"
    lines = [record for record in caplog.records if "again" in record.message]
    assert len(lines) == 6
    assert {record.levelno for record in lines} == {logging.INFO}
    text = "trial 0 is evaluated again, since it failed: ConnectionError: attempt 2 was lost (2 tries)"
    assert text in [record.message for record in lines]


def test_only_the_last_failure_is_stored_with_the_number_of_tries() -> None:
    f = Flaky(9)
    result = minimize(f, SPACE, budget=2, progress=False, retries=2, catch=Exception)
    assert [trial.reason for trial in result.trials] == ["ConnectionError: attempt 3 was lost (3 tries)"] * 2
    assert list(f.calls.values()) == [3, 3]


def test_by_default_nothing_is_repeated() -> None:
    f = Flaky(1)
    result = minimize(f, SPACE, budget=2, progress=False, catch=ConnectionError)
    assert [trial.reason for trial in result.trials] == ["ConnectionError: attempt 1 was lost"] * 2
    assert list(f.calls.values()) == [1, 1]


@pytest.mark.parametrize("wrong", [float("nan"), "many", None])
def test_a_wrong_result_is_repeated_too(wrong: object) -> None:
    results = [wrong, 0.25]
    result = minimize(lambda params: results.pop(0), SPACE, budget=1, progress=False, retries=1)
    assert result.trials[0].value == 0.25


@pytest.mark.parametrize("retries", [-1, 1.5, True, "2"])
def test_retries_are_a_whole_number(retries: object) -> None:
    with pytest.raises(TrialError, match="retries"):
        minimize(lambda params: pytest.fail("no evaluation"), SPACE, progress=False, retries=retries)


def test_others_go_on_while_an_evaluation_is_repeated() -> None:
    others, calls = threading.Semaphore(0), Counter[float]()

    def f(params: dict) -> float:
        x = params["x"]
        calls[x] += 1
        if x != 0.5:
            others.release()
        elif calls[x] == 1:
            raise ConnectionError
        else:
            assert all(others.acquire(timeout=30) for _ in range(3))
        return x

    result = minimize(f, SPACE, 4, 0, 2, threads, progress=False, retries=1)
    assert [trial.state for trial in result.trials] == ["finished"] * 4


def test_a_callback_that_ends_the_run_ends_what_waits_to_be_repeated() -> None:
    f, ended = Flaky(9, lambda x: x == 0.5), list[int]()

    def enough(optimizer: Optimizer, trial: Trial) -> str:
        ended.append(trial.id)
        return f"enough after {trial.id}"

    result = minimize(*(f, SPACE, 9, 0, 2, InPairs()), progress=False, retries=3, callbacks=[enough])
    assert result.stopped == "enough after 1"
    assert [trial.state for trial in result.trials] == ["failed", "finished"]
    assert result.trials[0].reason == "ConnectionError: attempt 1 was lost (1 try)"
    assert f.calls[0.5] == 1
    assert ended == [1, 0]


def test_an_evaluation_that_fails_after_the_end_of_the_run_is_not_repeated() -> None:
    told = threading.Event()
    f = Flaky(9)

    def waits(params: dict) -> float:
        if params["x"] == 0.5:
            return 0.0
        assert told.wait(30)
        return f(params)

    def enough(optimizer: Optimizer, trial: Trial) -> str:
        told.set()
        return "enough"

    result = minimize(waits, SPACE, 9, 0, 2, threads, progress=False, retries=3, callbacks=[enough])
    assert result.stopped == "enough"
    assert [trial.reason for trial in result.trials] == [None, "ConnectionError: attempt 1 was lost (1 try)"]
    assert set(f.calls.values()) == {1}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_waits_to_be_repeated_is_stored_as_failed_where_the_run_is_cut_short(
    tmp_path: Path, error: type[BaseException]
) -> None:
    storage = tmp_path / "run.db"

    def breaks(optimizer: Optimizer, trial: Trial) -> None:
        raise error("enough")

    run = partial(minimize, Flaky(9, lambda x: x == 0.5), SPACE, 9, 0, 2, InPairs(), storage)
    if error is KeyboardInterrupt:
        assert run(progress=False, retries=3, callbacks=[breaks]).stopped == "interrupted"
    else:
        with pytest.raises(error):
            run(progress=False, retries=3, callbacks=[breaks])
    kept = Optimizer.resume(storage)
    assert [trial.reason for trial in kept.trials] == ["ConnectionError: attempt 1 was lost (1 try)", None]
    kept.close()


def test_a_trial_that_is_cut_short_as_it_is_repeated_is_evaluated_when_the_run_goes_on(
    tmp_path: Path,
) -> None:
    calls = Counter[str]()

    def interrupted(params: dict) -> float:
        calls["f"] += 1
        if calls["f"] == 2:
            raise KeyboardInterrupt
        raise ConnectionError

    storage = tmp_path / "run.db"
    result = minimize(interrupted, SPACE, budget=2, storage=storage, progress=False, retries=5)
    assert result.stopped == "interrupted"
    assert [trial.state for trial in result.trials] == ["running"]
    f = Flaky(1)
    result = minimize(f, SPACE, budget=2, storage=storage, progress=False, retries=1)
    assert [(trial.state, trial.attempt) for trial in result.trials] == [("finished", 2), ("finished", 1)]
    assert set(f.calls.values()) == {2}


class AtOnce(futures.Executor):
    def submit(self, fn, /, *args, **kwargs):
        future = futures.Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_the_last_points_of_a_finite_space_are_repeated_too() -> None:
    f = Flaky(1)
    result = minimize(f, Space({"x": Int(0, 2)}), 9, 0, 2, AtOnce(), progress=False, retries=1)
    assert [trial.state for trial in result.trials] == ["finished"] * 3
    assert "3 points" in result.stopped
    assert dict(f.calls) == {0: 2, 1: 2, 2: 2}


def test_a_trial_that_somebody_else_ended_is_not_repeated(tmp_path: Path) -> None:
    storage, f = tmp_path / "run.db", Flaky(9)

    def watched(params: dict) -> float:
        other = Optimizer.resume(storage)
        other.fail(0, "hung, says a person")
        other.close()
        return f(params)

    result = minimize(watched, SPACE, budget=1, storage=storage, progress=False, retries=3)
    assert result.trials[0].reason == "hung, says a person"
    assert list(f.calls.values()) == [1]


# Processes.


class Panic(BaseException):
    """What a Rust extension raises; it cannot be pickled, nor read where it could."""

    def __reduce__(self) -> tuple[object, ...]:
        return unpickled, ()


def unpickled() -> None:
    raise ZeroDivisionError


def panics_the_first_time(folder: Path, params: dict) -> float:
    mark = folder / str(params.pop("x"))
    if not mark.exists():
        mark.touch()
        raise Panic("index out of bounds")
    return 0.0


@pytest.mark.parametrize("retries", [0, 1])
def test_a_panic_in_a_process_is_a_failure_that_may_be_repeated(tmp_path: Path, retries: int) -> None:
    fork = multiprocessing.get_context("fork")
    with futures.ProcessPoolExecutor(2, mp_context=fork) as executor:
        f = partial(panics_the_first_time, tmp_path)
        result = minimize(f, SPACE, 4, 0, 2, executor, progress=False, retries=retries, catch=BaseException)
    if retries:
        assert [trial.state for trial in result.trials] == ["finished"] * 4
    else:
        assert [trial.reason for trial in result.trials] == ["Panic: index out of bounds"] * 4


class Deadly(futures.Executor):
    """The workers of all evaluations but the first die; those that do nothing live."""

    def __init__(self) -> None:
        self._evaluations = 0

    def submit(self, fn, /, *args, **kwargs):
        future = futures.Future()
        self._evaluations += fn is not int
        if self._evaluations > 1 and fn is not int:
            future.set_exception(futures.BrokenExecutor("a worker died"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_the_death_of_a_worker_is_no_failure_to_be_repeated() -> None:
    executor = Deadly()
    result = minimize(lambda params: 0.0, SPACE, 2, executor=executor, progress=False, retries=5)
    assert [trial.reason for trial in result.trials] == [None, "its worker process died"]
    assert executor._evaluations == 3
