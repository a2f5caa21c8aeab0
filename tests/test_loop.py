import concurrent.futures as futures
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space, minimize
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
    result = minimize(lambda p: "many", SPACE, budget=1, progress=False)
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


@pytest.mark.parametrize("make", [None, futures.ThreadPoolExecutor, lambda: futures.ThreadPoolExecutor(2)])
def test_workers_and_executors(make) -> None:
    if make is None:
        result = minimize(fragile, SPACE, budget=8, workers=2, progress=False)
    elif make is futures.ThreadPoolExecutor:
        with make(2) as executor:
            result = minimize(fragile, SPACE, budget=8, workers=2, executor=executor, progress=False)
            assert executor.submit(int, 3).result() == 3  # left open
    else:
        result = minimize(fragile, SPACE, budget=8, workers=2, executor=make, progress=False)
    assert len(result.trials) == 8
    assert all(trial.state != "running" for trial in result.trials)
    assert len({trial.params["x"] for trial in result.trials}) == 8


def test_a_worker_that_dies_takes_only_its_point_with_it() -> None:
    result = minimize(deadly, SPACE, budget=6, seed=1, workers=2, progress=False)
    assert len(result.trials) == 6
    assert result.trials[1].params["x"] > 1.0, "the second point of the start is deadly, whatever ends first"
    died = [trial for trial in result.trials if trial.params["x"] > 1.0]
    assert died
    assert all(trial.reason == "its worker process died" for trial in died)
    assert any(trial.state == "finished" for trial in result.trials)


def deadly_at_once(params: dict) -> float:
    """At the first point, kills its worker before the other one, which takes its time, has ended anything."""
    if params["x"] == 0.5:
        os._exit(1)
    time.sleep(1.0)
    return float(params["x"])


def test_a_worker_that_dies_before_any_other_has_ended_takes_only_its_point_with_it() -> None:
    result = minimize(deadly_at_once, SPACE, budget=4, seed=1, workers=2, progress=False)
    assert len(result.trials) == 4
    assert [trial.state for trial in result.trials] == ["failed", "finished", "finished", "finished"]


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
        space, workers, storage = Space({"x": Float(-1, 2)}), int(sys.argv[1]), sys.argv[2]
        result = minimize(slow, space, budget=9, workers=workers, storage=storage, progress=False)
        print(result.stopped, [t.state for t in result.trials], result.best.value, flush=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_soon_and_keeps_what_finished(tmp_path: Path, workers: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    child = subprocess.Popen(
        [sys.executable, str(script), str(workers), str(tmp_path / "run.db")],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdout.readline() == "started\n"
    time.sleep(0.5)
    begin = time.monotonic()
    os.killpg(child.pid, signal.SIGINT)
    rest = child.communicate(timeout=30)[0]
    assert time.monotonic() - begin < 10
    assert child.returncode == 0
    assert "interrupted ['finished', 'running'" in rest
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert resumed.best.value == 0.5
    assert all(trial.params for trial in resumed.trials)


def mostly_slow(params: dict) -> float:
    if params["x"] == 0.5:
        return 0.0
    if params["x"] > 1.0:
        os._exit(9)
    time.sleep(0.5)
    return parabola(params)


def test_the_neighbours_of_a_deadly_point_are_evaluated_again() -> None:
    result = minimize(mostly_slow, SPACE, budget=6, workers=2, progress=False)
    for trial in result.trials:
        assert (trial.state == "failed") == (trial.params["x"] > 1.0), trial


def test_an_executor_that_cannot_run_f_stops_the_run() -> None:
    with (
        futures.ProcessPoolExecutor(1) as executor,
        pytest.raises(TrialError, match="the executor must be able to run f, got"),
    ):
        minimize(lambda params: 0.0, SPACE, budget=3, executor=executor, progress=False)


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
    def full(*arguments: object) -> None:
        raise StorageError("the disk must have room")

    monkeypatch.setattr(Optimizer, "tell", full)
    with pytest.raises(StorageError) as caught:
        minimize(lambda params: 0.25, SPACE, budget=3, progress=False)
    assert "trial 0, Outcome(value=0.25" in caught.value.__notes__[0]


def test_sys_exit_and_numbers_beyond_floats_are_failures() -> None:
    result = minimize(lambda params: sys.exit("usage"), SPACE, budget=1, progress=False)
    assert result.trials[0].reason == "SystemExit: usage"
    result = minimize(lambda params: 10**400, SPACE, budget=1, progress=False)
    assert "must return a number" in result.trials[0].reason
