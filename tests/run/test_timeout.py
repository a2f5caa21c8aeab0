"""A limit of time for each evaluation, and one for the whole run that holds also while evaluations hang."""

import concurrent.futures as futures
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bo_suite import Float, Optimizer, Result, Space, minimize
from bo_suite.cli import app
from bo_suite.errors import DataError, TrialError
from bo_suite.run.stopping import TimeLimit

SPACE = Space({"x": Float(-1, 2)})
LIMIT = TimeLimit(0.5, grace=0.1)
OVER = "the 0.5 seconds are over"


@pytest.mark.parametrize("timeout", [0, -1.0, math.nan, math.inf, "5", True])
def test_a_timeout_is_a_positive_number_of_seconds(timeout: object) -> None:
    with pytest.raises(TrialError, match=f"a timeout must be a number of seconds above 0, .*got {timeout!r}"):
        minimize(lambda params: 0.0, SPACE, progress=False, timeout=timeout)


@pytest.mark.parametrize("executor", [futures.ThreadPoolExecutor(1), futures.ThreadPoolExecutor])
def test_a_timeout_is_refused_where_nobody_can_kill(executor: object) -> None:
    with pytest.raises(TrialError, match=r"a timeout needs worker processes, .* instead of the executor"):
        minimize(lambda params: 0.0, SPACE, executor=executor, progress=False, timeout=1.0)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_evaluation_that_takes_longer_is_killed_and_has_failed(tmp_path: Path, workers: int) -> None:
    ledger = tmp_path / "ledger"

    def f(params: dict) -> float:
        with ledger.open("a") as file:
            file.write(f"{os.getpid()} {params['x']}\n")
        if params["x"] == 0.5:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # no polite request is heard
            time.sleep(600)
        return params["x"]

    result = minimize(f, SPACE, 4, workers=workers, progress=False, timeout=0.4, retries=2)
    assert result.trials[0].reason == "took longer than the timeout of 0.4 s"
    assert result.trials[0].informative, "the search is to avoid slow points"
    assert [trial.state for trial in result.trials] == ["failed", "finished", "finished", "finished"]
    rows = [line.split() for line in ledger.read_text().splitlines()]
    assert set(Counter(x for _, x in rows).values()) == {1}, "nothing else is lost, and it is not repeated"
    assert os.getpid() not in {int(pid) for pid, _ in rows}


def test_a_timeout_begins_with_the_evaluation() -> None:
    class SlowToLoad:
        def __getstate__(self) -> dict:
            return {"seconds": 0.8}

        def __setstate__(self, state: dict) -> None:
            time.sleep(state["seconds"])

        def __call__(self, params: dict) -> float:
            return params["x"]

    result = minimize(SlowToLoad(), SPACE, 3, workers=2, progress=False, timeout=0.6)
    assert [trial.state for trial in result.trials] == ["finished"] * 3


def test_the_timeout_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging.py").write_text(
        "import time\ndef f(params):\n    return params['x'] if params['x'] == 0.5 else time.sleep(600)\n"
    )
    (tmp_path / "space.toml").write_text('[x]\ntype = "float"\nlow = -1.0\nhigh = 2.0\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    line = ["minimize", "hanging:f", "--space", "space.toml", "--budget", "2", "--timeout", "0.3"]
    done = CliRunner().invoke(app, [*line, "--storage", "run.db"])
    assert done.exit_code == 0, done.output
    reasons = [trial.reason for trial in Optimizer.resume("run.db").trials]
    assert reasons == [None, "took longer than the timeout of 0.3 s"]


# Limits of a whole run.


def sleeps(params: dict) -> float:
    time.sleep(600)
    return 0.0


def spins(params: dict) -> float:
    while True:
        pass


def waits(params: dict) -> float:
    threading.Event().wait(600)
    return 0.0


def swallows(params: dict) -> float:
    try:
        time.sleep(600)
    except BaseException:
        time.sleep(600)
    return 0.0


def ended(result: Result, states: list[str]) -> bool:
    return result.stopped == OVER and [trial.state for trial in result.trials] == states


@pytest.mark.parametrize("f", [sleeps, spins, waits, swallows])
def test_a_time_limit_ends_a_run_whose_evaluation_hangs_in_this_thread(f: Callable[[dict], float]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert ended(minimize(f, SPACE, progress=False, callbacks=[LIMIT]), ["running"])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_time_limit_ends_a_run_in_another_thread() -> None:
    results = []
    thread = threading.Thread(
        target=lambda: results.append(minimize(sleeps, SPACE, progress=False, callbacks=[LIMIT])), daemon=True
    )
    thread.start()
    thread.join(60)
    assert ended(results[0], ["running"])


def test_a_time_limit_ends_a_run_on_processes_and_the_points_come_first_when_it_goes_on(
    tmp_path: Path,
) -> None:
    def f(params: dict) -> float:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
        return 0.0

    run = {"storage": tmp_path / "run.db", "workers": 2, "progress": False}
    first = minimize(f, SPACE, callbacks=[LIMIT], **run)
    assert ended(first, ["running", "running"])
    again = minimize(lambda params: 0.0, SPACE, 3, **run)
    assert [(trial.state, trial.attempt) for trial in again.trials] == [("finished", n) for n in (2, 2, 1)]


def test_a_time_limit_waits_for_no_thread_of_an_executor() -> None:
    go_on = threading.Event()

    def f(params: dict) -> float:
        go_on.wait(600)
        return 0.0

    with futures.ThreadPoolExecutor(2) as executor:
        result = minimize(f, SPACE, 4, 0, 2, executor, progress=False, callbacks=[LIMIT])
        go_on.set()
    assert ended(result, ["running", "running"])


def test_ctrl_c_is_itself_under_a_time_limit() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs tests may ignore it

    def f(params: dict) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)
        return 0.0

    try:
        result = minimize(f, SPACE, progress=False, callbacks=[TimeLimit(500)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.stopped == "interrupted"


def test_the_grace_is_that_of_the_longest_evaluation_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 50.0, time=lambda: 1_000.0)
    monkeypatch.setattr("bo_suite.run.stopping.time", clock)  # the run began at 950, fifty seconds ago
    optimizer = SimpleNamespace(opened=0.0, trials=[])
    assert TimeLimit(100).seconds_left(optimizer) == 51.0
    assert TimeLimit(100, grace=0).seconds_left(optimizer) == 50.0
    spans = [("finished", 900.0, 999.0), ("failed", 960.0, 962.5), ("running", 951.0, None)]
    optimizer.trials = [SimpleNamespace(state=state, started=began, ended=end) for state, began, end in spans]
    assert TimeLimit(100).seconds_left(optimizer) == 52.5
    with pytest.raises(DataError, match=r"`grace >= 0` must hold, got -1"):
        TimeLimit(1, grace=-1)


def test_the_deadline_that_comes_first_ends_the_run() -> None:
    limits = [TimeLimit(500), LIMIT, TimeLimit(400)]
    assert ended(minimize(sleeps, SPACE, progress=False, callbacks=limits), ["running"])
