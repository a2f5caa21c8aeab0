import concurrent.futures as futures
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space, Trial, minimize
from bo_suite.errors import StorageError, TrialError

SPACE = Space({"x": Float(-1, 2)})


def parabola(params: dict) -> float:
    return (params["x"] - 0.3) ** 2


def fragile(params: dict) -> float:
    if params["x"] > 1.0:
        raise ValueError("too far")
    return parabola(params)


def deadly(params: dict) -> float:
    if params["x"] > 1.0:
        os._exit(9)
    return parabola(params)


def test_minimize_finds_the_minimum_and_reports_it() -> None:
    result = minimize(parabola, SPACE, budget=12, progress=False)
    assert len(result.trials) == 12
    assert result.best.value < 1e-4
    assert result.stopped is None
    assert len(result.to_frame()) == 12
    assert result.plot().axes


def test_exceptions_and_nan_are_failures_with_their_text() -> None:
    result = minimize(fragile, SPACE, budget=10, progress=False)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert {trial.reason for trial in failed} == {"ValueError: too far"}
    result = minimize(lambda p: float("nan"), SPACE, budget=3, progress=False)
    assert {trial.reason for trial in result.trials} == {"the function returned nan"}
    result = minimize(lambda p: "many", SPACE, budget=1, progress=False, catch=TrialError)
    assert "must return a number, got 'many'" in result.trials[0].reason


def test_a_second_run_continues_the_budget(tmp_path: Path) -> None:
    storage = tmp_path / "run.db"
    first = minimize(parabola, SPACE, budget=5, storage=storage, progress=False)
    again = minimize(parabola, SPACE, budget=9, storage=storage, progress=False)
    assert list(again.trials[:5]) == list(first.trials)
    assert len(again.trials) == 9
    whole = minimize(parabola, SPACE, budget=9, progress=False)
    # the planned budget shapes the start; both runs here have at least the six points of it to come
    assert [trial.params for trial in whole.trials][:2] == [trial.params for trial in again.trials][:2]


def test_a_point_whose_process_died_is_evaluated_first(tmp_path: Path) -> None:
    optimizer = Optimizer(SPACE, budget=6, storage=tmp_path / "run.db")
    lost = optimizer.ask()
    optimizer.close()
    result = minimize(parabola, SPACE, budget=6, storage=tmp_path / "run.db", progress=False)
    assert result.trials[0].params == lost.params
    assert result.trials[0].attempt == 2
    assert [trial.state for trial in result.trials] == ["finished"] * 6


def test_a_point_that_kills_every_process_is_failed_in_the_end(tmp_path: Path) -> None:
    optimizer = Optimizer(SPACE, budget=2, storage=tmp_path / "run.db")
    optimizer.ask()
    for _ in range(3):
        optimizer.close()
        optimizer = Optimizer(SPACE, budget=2, storage=tmp_path / "run.db")
        optimizer.reclaim()
    optimizer.close()
    result = minimize(parabola, SPACE, budget=2, storage=tmp_path / "run.db", progress=False)
    assert [trial.state for trial in result.trials] == ["failed", "finished"]
    assert result.trials[0].reason == "3 processes died while evaluating it"


@pytest.mark.parametrize("made_by_us", [False, True])
def test_an_executor_is_used_and_left_open_unless_it_is_ours(made_by_us: bool) -> None:
    with futures.ThreadPoolExecutor(2) as pool:
        executor = (lambda: pool) if made_by_us else pool
        result = minimize(fragile, SPACE, budget=8, workers=2, executor=executor, progress=False)
        if made_by_us:
            with pytest.raises(RuntimeError, match="after shutdown"):
                pool.submit(int, 3)
        else:
            assert pool.submit(int, 3).result() == 3
    assert len(result.trials) == 8
    assert all(trial.state != "running" for trial in result.trials)
    assert len({trial.params["x"] for trial in result.trials}) == 8


SCRIPT = """
    import signal, sys, time
    from bo_suite import Float, Space, minimize

    def slow(params):
        if params["x"] != 0.5:
            print("started", flush=True)
            time.sleep(60)
        return params["x"]

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
        space, storage = Space({"x": Float(-1, 2)}), sys.argv[1]
        result = minimize(slow, space, budget=9, workers=2, storage=storage, progress=False)
        print(result.stopped, [t.state for t in result.trials], result.best.value, flush=True)
"""


def test_ctrl_c_ends_soon_and_keeps_what_finished(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    child = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run.db")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout.readline() == "started\n"
    time.sleep(0.5)
    os.killpg(child.pid, signal.SIGINT)
    rest = child.communicate(timeout=50)[0]  # an evaluation takes 60 s
    assert child.returncode == 0
    assert "interrupted ['finished', 'running'" in rest
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert resumed.best.value == 0.5
    assert all(trial.params for trial in resumed.trials)


def test_a_trial_that_somebody_else_ended_does_not_stop_the_run(tmp_path: Path) -> None:
    storage = tmp_path / "run.db"

    def watched(params: dict) -> float:
        if params["x"] == 0.5:
            other = Optimizer.resume(storage)
            other.fail(0, "hung, says a person")
            other.close()
        return parabola(params)

    result = minimize(watched, SPACE, budget=3, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["failed", "finished", "finished"]
    assert result.trials[0].reason == "hung, says a person"


def test_an_outcome_that_cannot_be_stored_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **keywords: object) -> None:
        raise StorageError("the disk must have room")

    monkeypatch.setattr(Optimizer, "tell", full)
    with pytest.raises(StorageError) as caught:
        minimize(lambda params: 0.25, SPACE, budget=3, progress=False)
    assert "trial 0, Outcome(value=0.25" in caught.value.__notes__[0]


def test_sys_exit_and_numbers_beyond_floats_are_failures() -> None:
    result = minimize(lambda params: sys.exit("usage"), SPACE, budget=1, progress=False, catch=SystemExit)
    assert result.trials[0].reason == "SystemExit: usage"
    result = minimize(lambda params: -(10**400), SPACE, budget=1, progress=False)
    assert result.trials[0].reason == "the function returned -inf"


# Callbacks.


def test_callbacks_see_each_trial_once_after_it_was_stored() -> None:
    seen = []

    def watch(optimizer: Optimizer, trial: Trial) -> None:
        assert optimizer.trials[trial.id] == trial
        seen.append((trial.id, trial.state))

    result = minimize(fragile, SPACE, budget=8, progress=False, callbacks=[watch])
    assert seen == [(trial.id, trial.state) for trial in result.trials]
    assert {state for _, state in seen} == {"finished", "failed"}
    assert result.stopped is None


def test_a_string_from_a_callback_ends_the_run_once_those_that_run_have_ended() -> None:
    told = threading.Event()

    def waits(params: dict) -> float:
        if params["x"] != 0.5:
            assert told.wait(30)
        return parabola(params)

    def enough(optimizer: Optimizer, trial: Trial) -> str:
        told.set()
        return f"enough after {trial.id}"

    calls = []
    others = [enough, lambda optimizer, trial: calls.append(trial.id) or "another reason"]
    with futures.ThreadPoolExecutor(2) as executor:
        result = minimize(waits, SPACE, workers=2, executor=executor, progress=False, callbacks=others)
    assert result.stopped == "enough after 0"
    assert [trial.state for trial in result.trials] == ["finished", "finished"]
    assert calls == [0, 1], "every callback sees every trial"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_in_a_callback_is_raised_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    storage = tmp_path / "run.db"

    def breaks(optimizer: Optimizer, trial: Trial) -> None:
        if len([one for one in optimizer.trials if one.state == "finished"]) == 3:
            raise RuntimeError("the disk of the plot is full")

    with (
        futures.ThreadPoolExecutor(2) as executor,
        caplog.at_level(logging.WARNING, "bo_suite"),
        pytest.raises(RuntimeError, match="the disk of the plot is full"),
    ):
        minimize(*(parabola, SPACE, 8, 0, workers, executor, storage), progress=False, callbacks=[breaks])
    assert caplog.text == "", "nothing is told twice"
    kept = Optimizer.resume(storage)
    assert sum(trial.state == "finished" for trial in kept.trials) >= 3
    kept.close()
    result = minimize(parabola, SPACE, budget=8, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["finished"] * 8


@pytest.mark.parametrize("answer", [True, "", 3])
def test_a_callback_returns_none_or_a_reason(answer: object) -> None:
    with pytest.raises(TrialError, match=f"a callback must return None, or why .*, got {answer!r}"):
        minimize(parabola, SPACE, progress=False, callbacks=[lambda optimizer, trial: answer])


@pytest.mark.parametrize("callback", ["stop", int])
def test_a_callback_is_a_function(callback: object) -> None:
    with pytest.raises(TrialError, match="a callback must be a function of an Optimizer and a Trial, got"):
        minimize(lambda params: pytest.fail("no evaluation"), SPACE, progress=False, callbacks=[callback])


# Executors.


def test_no_evaluation_waits_for_the_slowest() -> None:
    ended = threading.Semaphore(0)

    def one_slow(params: dict) -> float:
        if params["x"] != 0.5:
            ended.release()
            return parabola(params)
        assert all(ended.acquire(timeout=60) for _ in range(5)), "the others go on meanwhile"
        return parabola(params)

    order = []
    result = minimize(
        *(one_slow, SPACE, 6, 0, 2, lambda: futures.ThreadPoolExecutor(2)),
        progress=False,
        callbacks=[lambda optimizer, trial: order.append(trial.id)],
    )
    assert order.index(0) >= 4  # the fifth of the others has begun, and so four were told
    assert [trial.state for trial in result.trials] == ["finished"] * 6


def forked() -> futures.Executor:
    return futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


def spawned() -> futures.Executor:
    return futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def loky() -> futures.Executor:
    module = pytest.importorskip("joblib.externals.loky", reason="needs joblib, which brings loky")
    return module.get_reusable_executor(max_workers=2)


@pytest.fixture
def no_loky_workers_after() -> Iterator[None]:
    yield
    if "joblib.externals.loky" in sys.modules:
        loky().shutdown(wait=True, kill_workers=True)


def noted(ledger: Path, params: dict) -> float:
    """Writes down that it runs, and kills its worker where x > 1."""
    with ledger.open("a") as file:
        file.write(f"{params['x']}\n")
    if params["x"] > 1.0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return parabola(params)


@pytest.mark.slow
@pytest.mark.parametrize("make", [spawned, loky])
@pytest.mark.usefixtures("no_loky_workers_after")
def test_a_deadly_point_is_tried_three_times_at_most_and_nothing_is_told_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[], futures.Executor]
) -> None:
    told: list[int] = []
    with caplog.at_level(logging.WARNING, "bo_suite"):
        result = minimize(
            *(partial(noted, tmp_path / "ledger"), SPACE, 4, 1, 2, make),
            progress=False,
            callbacks=[lambda optimizer, trial: told.append(trial.id)],
        )
    evaluated = Counter(map(float, (tmp_path / "ledger").read_text().split()))
    assert any(trial.state == "failed" for trial in result.trials)
    for trial in result.trials:
        deadly = trial.params["x"] > 1.0
        assert (trial.state, trial.reason) == (
            ("failed", "its worker process died") if deadly else ("finished", None)
        )
        assert (2 if deadly else 1) <= evaluated[trial.params["x"]] <= 3
        assert trial.attempt == 1
    assert sorted(told) == [0, 1, 2, 3]
    assert [record.getMessage()[8:40] for record in caplog.records] == ["failed: its worker process died "]


@pytest.mark.usefixtures("no_loky_workers_after")
@pytest.mark.parametrize("make", [forked, loky])
def test_an_executor_that_is_given_and_breaks_ends_the_run_and_loses_nothing(
    tmp_path: Path, make: Callable[[], futures.Executor]
) -> None:
    storage = tmp_path / "run.db"
    law = "an executor whose workers can die must be passed as a function .*, got one that broke"
    executor = make()
    with pytest.raises(TrialError, match=law):
        minimize(deadly, SPACE, 6, 1, executor=executor, storage=storage, progress=False)
    executor.shutdown()
    kept = Optimizer.resume(storage)
    assert [trial.state for trial in kept.trials] == ["finished", "running"]
    kept.close()
    result = minimize(parabola, SPACE, 6, 1, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["finished"] * 6
    assert [trial.attempt for trial in result.trials] == [1, 2, 1, 1, 1, 1]


@pytest.mark.usefixtures("no_loky_workers_after")
@pytest.mark.parametrize("make", [forked, loky])
@pytest.mark.parametrize("given", [True, False])
def test_a_function_that_cannot_be_sent_is_one_clear_sentence(
    make: Callable[[], futures.Executor], given: bool
) -> None:
    lock = threading.Lock()
    executor = make()
    with pytest.raises(TrialError, match=r"f and all that it refers to must be picklable, .*, got .*"):
        minimize(
            *(lambda params: lock.locked(), SPACE, 3, 0, 2, executor if given else lambda: executor),
            progress=False,
        )
    executor.shutdown()


class Dying(futures.Executor):
    """Runs so many evaluations of all executors together; in all others the worker dies."""

    def __init__(self, left: list[int]) -> None:
        self._left = left

    def submit(self, fn, /, *args, **kwargs):
        future = futures.Future()
        if fn is not int and self._left[0] > 0:
            self._left[0] -= 1
            future.set_result(fn(*args, **kwargs))
        else:
            future.set_exception(futures.BrokenExecutor("no worker lives"))
        return future


class Broken(futures.Executor):
    def submit(self, fn, /, *args, **kwargs):
        raise futures.BrokenExecutor("broken from the start")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("good", [0, 1, 4])
def test_workers_that_all_die_end_the_run_and_fail_no_trial(tmp_path: Path, workers: int, good: int) -> None:
    left, made = [good], []
    storage = tmp_path / "run.db"

    def make() -> futures.Executor:
        made.append(Dying(left))
        return made[-1]

    with pytest.raises(TrialError, match="worker processes must be able to run f, but they died"):
        minimize(parabola, SPACE, 20, 0, workers, make, storage, progress=False)
    assert len(made) <= 5
    kept = Optimizer.resume(storage)
    states = Counter(trial.state for trial in kept.trials)
    assert states["finished"] == good
    assert states.keys() <= {"finished", "running"}
    assert 1 <= states["running"] <= workers
    kept.close()
    result = minimize(parabola, SPACE, 6, storage=storage, progress=False)
    assert {trial.state for trial in result.trials} == {"finished"}


def test_a_factory_of_what_cannot_be_used_does_not_loop_for_ever() -> None:
    made = []
    with pytest.raises(TrialError, match="the executor factory returned a broken executor"):
        minimize(parabola, SPACE, executor=lambda: made.append(Broken()) or made[-1], progress=False)
    assert len(made) == 2
    with pytest.raises(TrialError, match=r"an executor must be a concurrent\.futures\.Executor, got None"):
        minimize(parabola, SPACE, executor=lambda: None, progress=False)
    closed = futures.ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(
        TrialError,
        match=r"the executor was shut down during the run \(RuntimeError: cannot schedule",
    ):
        minimize(parabola, SPACE, executor=closed, progress=False)
