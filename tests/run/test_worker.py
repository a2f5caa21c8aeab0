"""Workers that share a file: the budget, deaths, signals, takeovers, and what a worker refuses."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import worker_functions as functions

from bo_suite import Float, Int, Optimizer, Space, Trial
from bo_suite.errors import DataError, SpaceError, TrialError
from bo_suite.run import worker
from bo_suite.run.stopping import TargetValue, Until
from bo_suite.run.worker import work
from bo_suite.storage import leases
from bo_suite.system.owners import start_time

SPACE = Space({"x": Float(0.0, 1.0)})
POINTS = [{"x": x} for x in (0.5, 0.25, 0.75, 0.125)]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "pandas"])

Start = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose points are queued."""
    monkeypatch.setenv(functions.FOLDER, str(tmp_path))
    optimizer = Optimizer(SPACE, storage=tmp_path / "run.db", budget=4, initial=99)
    optimizer.enqueue(POINTS)
    optimizer.close()
    return tmp_path / "run.db"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Starts a worker as a process."""
    started = []

    def start(function: str, **options: Any) -> Any:
        arguments = (str(path), str(path.parent), function, options)
        started.append(processes.Process(target=functions.serve, args=arguments))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.join()


def code_of(process: Any) -> int:
    process.join(60)
    return process.exitcode


def until(condition: Callable[[], Any]) -> Any:
    """What a condition returns, once it holds."""
    deadline = time.monotonic() + 60
    while not (answer := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer


def calls(path: Path, x: float = 0.5) -> list[int]:
    """Process ids of the calls at a point."""
    file = path.parent / f"x={x}"
    return list(map(int, file.read_text().split())) if file.exists() else []


def is_dead(pid: int) -> bool:
    return start_time(pid) is None


def trials_in(path: Path) -> list[Trial]:
    optimizer = Optimizer.resume(path)
    try:
        return optimizer.trials
    finally:
        optimizer.close()


def test_workers_spend_a_budget_exactly_and_double_nothing(path: Path, start: Start) -> None:
    workers = [start("quick", budget=24) for _ in range(4)]
    assert [code_of(process) for process in workers] == [0] * 4
    trials = trials_in(path)
    assert [trial.id for trial in trials] == list(range(24))
    assert {(trial.state, trial.attempt) for trial in trials} == {("finished", 1)}
    assert [trial.params for trial in trials[:4]] == POINTS, "queued points come first"
    evaluated = [calls(path, trial.params["x"]) for trial in trials]
    assert list(map(len, evaluated)) == [1] * 24
    assert len({pid for (pid,) in evaluated}) > 1, "several workers have worked"


def test_a_worker_waits_for_others_and_takes_over_from_one_that_is_killed(path: Path, start: Start) -> None:
    first = start("hangs_first")
    (child,) = until(lambda: calls(path))
    second = start("hangs_first")
    until(lambda: sum(trial.state == "finished" for trial in trials_in(path)) == 3)
    assert second.is_alive()
    first.kill()
    assert code_of(second) == 0
    trials = trials_in(path)
    assert [(trial.state, trial.attempt) for trial in trials] == [("finished", 2), *[("finished", 1)] * 3]
    assert len(calls(path)) == 2
    until(lambda: is_dead(child))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_hands_the_trial_back_at_once(path: Path, start: Start, number: int, code: int) -> None:
    process = start("hangs_first")
    (child,) = until(lambda: calls(path))
    os.kill(process.pid, number)
    assert code_of(process) == code
    assert is_dead(child)
    optimizer = Optimizer.resume(path)
    (trial,) = optimizer.trials
    assert (trial.state, trial.reason) == ("withdrawn", "handed back")
    assert optimizer.queue == [*POINTS[1:], POINTS[0]]
    result = work(functions.hangs_first, optimizer)
    optimizer.close()
    assert [(trial.state, trial.attempt) for trial in result.trials[1:]] == [("finished", 1)] * 4
    assert len(calls(path)) == 2


def test_sigterm_leaves_a_grace(path: Path, start: Start) -> None:
    process = start("takes_a_moment", grace=60)
    until(lambda: calls(path))
    os.kill(process.pid, signal.SIGTERM)
    assert code_of(process) == 143
    assert [(trial.state, trial.value) for trial in trials_in(path)] == [("finished", 0.5)]


def test_a_second_sigterm_ends_the_grace(path: Path, start: Start) -> None:
    process = start("hangs_first", grace=60)
    until(lambda: calls(path))
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    assert code_of(process) == 143
    assert [trial.state for trial in trials_in(path)] == ["withdrawn"]


def test_an_evaluation_that_got_sigterm_before_its_worker_has_not_failed(path: Path, start: Start) -> None:
    """As a cluster sends it to all processes of a job."""
    process = start("hangs_first", grace=60)
    (child,) = until(lambda: calls(path))
    os.kill(child, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    assert code_of(process) == 143
    assert [trial.state for trial in trials_in(path)] == ["withdrawn"]


@pytest.mark.parametrize("retries", [0, 1])
def test_a_point_that_kills_its_process_is_failed(path: Path, retries: int) -> None:
    optimizer = Optimizer.resume(path)
    result = work(functions.kills_itself, optimizer, retries=retries)
    optimizer.close()
    assert [trial.state for trial in result.trials] == ["failed", *["finished"] * 3]
    assert result.trials[0].reason == "its worker process died" + " (2 tries)" * retries
    assert len(calls(path)) == 1 + retries


def test_a_point_that_kills_its_worker_is_failed_after_three_attempts(path: Path, start: Start) -> None:
    codes = [code_of(start("kills_its_worker")) for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 3 + [0]
    trials = trials_in(path)
    assert [trial.state for trial in trials] == ["failed", *["finished"] * 3]
    assert trials[0].reason == "3 processes died while evaluating it"
    assert len(calls(path)) == 3


def test_a_bug_is_raised_and_its_point_may_be_suggested_again(path: Path) -> None:
    optimizer = Optimizer.resume(path)
    with pytest.raises(KeyError, match="y") as raised:
        work(functions.has_a_bug, optimizer)
    assert "catch=Exception" in raised.value.__notes__[0]
    (trial,) = optimizer.trials
    assert (trial.state, trial.transient) == ("failed", True)
    assert "KeyError: 'y'" in (trial.traceback or "")
    caught = work(functions.has_a_bug, optimizer, catch=KeyError)
    optimizer.close()
    assert [trial.state for trial in caught.trials] == ["failed"] * 4
    assert [trial.transient for trial in caught.trials] == [True, False, False, False]


def test_a_timeout_ends_an_evaluation_that_lets_no_thread_run(path: Path) -> None:
    optimizer = Optimizer.resume(path)
    result = work(functions.holds_the_lock, optimizer, budget=1, timeout=0.5, retries=3)
    optimizer.close()
    assert [trial.state for trial in result.trials] == ["failed"]
    assert result.trials[0].reason == "took longer than the timeout of 0.5 s"
    assert is_dead(*calls(path))


class OnceCalled:
    """A time limit that is over as soon as the function is called at 0.5."""

    reason = "it was called"

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, optimizer: Optimizer, trial: Trial) -> str | None:
        return self.reason if calls(self._path) else None

    def seconds_left(self, optimizer: Optimizer) -> float:
        return 0.0 if calls(self._path) else 0.01


def test_when_the_time_is_over_the_trial_is_handed_back(path: Path) -> None:
    optimizer = Optimizer.resume(path)
    result = work(functions.hangs_first, optimizer, callbacks=[OnceCalled(path)])
    assert result.stopped == "it was called"
    assert [trial.state for trial in result.trials] == ["withdrawn"]
    assert is_dead(*calls(path))
    again = work(functions.hangs_first, optimizer, callbacks=[OnceCalled(path)])
    optimizer.close()
    assert len(again.trials) == 1, "no evaluation starts when the time is over"


def test_an_evaluation_whose_trial_was_taken_over_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "_LOOK_S", 0.05)
    optimizer, killed = Optimizer.resume(path), list[int]()

    def take_over() -> None:
        until(lambda: calls(path))
        other = Optimizer.resume(path)
        with monkeypatch.context() as patch:
            patch.setattr(leases, "has_live_owner", lambda owner, open_owners: False)
            (trial,) = other.reclaim()
        killed.extend(until(lambda: [pid for pid in calls(path) if is_dead(pid)]))
        until(lambda: sum(trial.state == "finished" for trial in other.trials) == 3)
        other.tell(trial, 7.0)
        other.close()

    thread = threading.Thread(target=take_over)
    thread.start()
    result = work(functions.hangs_first, optimizer)
    thread.join()
    optimizer.close()
    assert killed == calls(path)
    assert [trial.value for trial in result.trials] == [7.0, 0.25, 0.75, 0.125]
    assert result.trials[0].attempt == 2
    assert "trial 0 was taken over" in caplog.text


def test_the_late_outcome_of_a_trial_that_was_taken_over_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker has not looked in time, as one that was suspended."""
    optimizer, other = Optimizer.resume(path), Optimizer.resume(path)

    def take_over() -> None:
        until(lambda: calls(path))
        other.amend(0, 7.0)

    thread = threading.Thread(target=take_over)
    thread.start()
    result = work(functions.takes_a_moment, optimizer)
    thread.join()
    optimizer.close()
    other.close()
    assert [trial.value for trial in result.trials] == [7.0, 0.25, 0.75, 0.125]
    assert "an outcome was not stored" in caplog.text


def test_an_exhausted_space_ends_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(functions.FOLDER, str(tmp_path))
    optimizer = Optimizer(Space({"x": Int(0, 2)}), budget=9)
    result = work(functions.quick, optimizer)
    assert [trial.state for trial in result.trials] == ["finished"] * 3
    assert result.stopped is not None
    assert "3 points" in result.stopped


def test_rules_and_the_clock_end_a_worker(path: Path) -> None:
    optimizer = Optimizer.resume(path)
    seen = list[int]()

    def see(optimizer: Optimizer, trial: Trial) -> None:
        seen.append(trial.id)

    early = work(functions.quick, optimizer, callbacks=[see, Until(datetime.now() - timedelta(hours=1))])
    assert early.trials == ()
    assert early.stopped is not None
    result = work(functions.quick, optimizer, callbacks=[see, TargetValue(0.3)])
    optimizer.close()
    assert result.stopped == "trial 1 reached the target 0.3 with 0.25"
    assert seen == [0, 1]


def test_a_moment_is_one_of_the_clock() -> None:
    optimizer = Optimizer(SPACE)
    for zone in (None, datetime.now().astimezone().tzinfo):
        assert 3500 < Until(datetime.now(zone) + timedelta(hours=1)).seconds_left(optimizer) < 3700
    with pytest.raises(DataError, match="a datetime"):
        Until("2030-01-31")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 0}, "budget"),
        ({"budget": None}, "a worker needs an end"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"grace": -1.0}, "grace"),
        ({"grace": float("nan")}, "grace"),
        ({"catch": 3}, "catch"),
        ({"callbacks": [3]}, "callback"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(options: dict[str, Any], said: str) -> None:
    optimizer = Optimizer(SPACE)
    with pytest.raises(TrialError, match=said):
        work(functions.quick, optimizer, **({"budget": 3} | options))
    with pytest.raises(TrialError, match="f must be a function"):
        work(3, optimizer, budget=3)  # type: ignore[arg-type]
    with pytest.raises(SpaceError, match="not to work"):
        work(functions.quick, Optimizer(Space({"x": Float(0, 1), "t": Float(0, 1, context=True)})), budget=3)
    assert optimizer.trials == []
