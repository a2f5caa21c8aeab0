"""Points that a user queues are asked first, in order, once each; partial ones are completed by the model."""

import logging
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.errors import SpaceError, SpaceExhausted

SPACE = Space({"x": Float(-1.0, 2.0), "n": Int(1, 9), "kind": Choice(["a", "b"])})
POINT = {"x": 0.25, "n": 3, "kind": "b"}


def loss(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + 0.1 * abs(params["n"] - 4) + (params["kind"] == "a"))


def test_queued_points_come_first_in_order() -> None:
    opt = Optimizer(SPACE)
    opt.tell(opt.ask(), 1.0)
    opt.enqueue([POINT, POINT | {"n": 5}])
    opt.enqueue(POINT | {"n": 7})
    assert opt.queue == [POINT, POINT | {"n": 5}, POINT | {"n": 7}]
    first = opt.ask()
    second, third, fourth = opt.ask(3)
    assert [trial.params for trial in (first, second, third)] == [POINT | {"n": n} for n in (3, 5, 7)]
    assert [trial.provenance["source"] for trial in (first, fourth)] == ["queue", "design"]
    assert fourth.params not in [POINT | {"n": n} for n in (3, 5, 7)]
    assert opt.queue == []


def test_the_model_completes_a_part_of_a_point() -> None:
    opt = Optimizer(SPACE, initial=6)
    for _ in range(10):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params))
    opt.enqueue([{"kind": "a"}, {"x": 0.5, "kind": "b"}])
    first, second = opt.ask(), opt.ask()
    assert (first.params["kind"], second.params["x"], second.params["kind"]) == ("a", 0.5, "b")
    assert first.provenance["source"] == "acquisition"
    assert (first.provenance["fixed"], second.provenance["fixed"]) == (["kind"], ["x", "kind"])
    assert second.params["n"] in (3, 4, 5), "chosen by the model, near the minimum in n"


def test_the_queue_is_asked_whatever_is_fixed_if_it_agrees() -> None:
    opt = Optimizer(SPACE)
    opt.enqueue([POINT, POINT | {"kind": "a"}, {"n": 9}])
    assert opt.ask(fixed={"kind": "a"}).params == POINT | {"kind": "a"}
    assert opt.queue == [POINT, {"n": 9}], "the others wait"
    completed = opt.ask(fixed={"kind": "a"}).params
    assert (completed["n"], completed["kind"]) == (9, "a")
    assert opt.queue == [POINT]
    assert opt.dequeue() == [POINT]
    assert opt.queue == []


def test_a_repeated_point_is_queued_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    opt = Optimizer(SPACE)
    opt.add(POINT, 1.0)
    with caplog.at_level(logging.WARNING, "bo_suite"):
        opt.enqueue([POINT, POINT | {"n": 5}])
        assert [record.message for record in caplog.records] == [
            f"queued points that repeat earlier ones: 1, such as {POINT}"
        ]
        opt.tell(opt.ask(), 1.5)
        opt.ask()
    assert len(caplog.records) == 1
    assert [trial.params for trial in opt.trials] == [POINT, POINT, POINT | {"n": 5}]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"x": 3.0}, "'x'"),
        ([POINT, {"y": 1.0}], "unknown"),
        ([POINT, {"kind": "c"}], "'kind'"),
        (3, "must be a dict"),
        ([POINT, 3], "must be a dict"),
        ([POINT, {}], "at least one parameter"),
    ],
)
def test_what_cannot_be_queued_is_refused_and_nothing_is_queued(points: Any, message: str) -> None:
    opt = Optimizer(SPACE)
    with pytest.raises(SpaceError, match=message):
        opt.enqueue(points)
    assert opt.queue == []


def test_a_part_whose_completions_are_all_taken_repeats_one_and_does_not_block_the_queue() -> None:
    opt = Optimizer(Space({"kind": Choice(["a", "b"]), "n": Int(1, 2)}))
    for n in (1, 2):
        opt.add({"kind": "a", "n": n}, float(n))
    opt.enqueue([{"kind": "a"}, {"kind": "b", "n": 2}])
    assert opt.ask().params["kind"] == "a"
    assert opt.ask().params == {"kind": "b", "n": 2}
    assert opt.ask().params == {"kind": "b", "n": 1}
    with pytest.raises(SpaceExhausted):
        opt.ask()


def test_queued_points_count_as_initial_points() -> None:
    opt = Optimizer(SPACE, initial=3)
    opt.enqueue([POINT | {"n": n} for n in (1, 2, 3)])
    for _ in range(4):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params))
    assert [trial.provenance["source"] for trial in opt.trials] == ["queue", "queue", "queue", "acquisition"]


def test_a_resumed_run_keeps_its_queue_and_makes_the_same_suggestions(tmp_path: Path) -> None:
    runs = []
    for path in (None, tmp_path / "run.db"):
        opt = Optimizer(SPACE, seed=4, storage=path)
        opt.enqueue([POINT, {"n": 6}, {"kind": "a"}])
        for step in range(9):
            trial = opt.ask()
            opt.tell(trial, loss(trial.params))
            if path is not None and step % 2:
                opt.close()
                opt = Optimizer.resume(path)
        runs.append([trial.params for trial in opt.trials])
        opt.close()
    assert runs[0] == runs[1]


def test_minimize_starts_at_the_given_points_once(tmp_path: Path) -> None:
    for budget in (5, 8):
        start = [POINT, {"n": 4}]
        result = minimize(loss, SPACE, budget, storage=tmp_path / "run.db", start=start, progress=False)
    assert [trial.provenance["source"] for trial in result.trials][:2] == ["queue", "design"]
    assert (result.trials[0].params, result.trials[1].params["n"]) == (POINT, 4)
    assert [trial.params for trial in result.trials].count(POINT) == 1
    with pytest.raises(SpaceError, match="'x'"):
        minimize(loss, SPACE, 3, start=[{"x": 9.0}], progress=False)
    with pytest.raises(TypeError, match="start="):
        minimize(loss, SPACE, 3, x0=POINT)  # type: ignore[call-arg]


ASK_ALL = """
import sys, threading
from bo_suite import Optimizer
optimizer = Optimizer.resume(sys.argv[1])
def work():
    while optimizer.queue:
        trial = optimizer.ask()
        optimizer.tell(trial, trial.params["x"])
threads = [threading.Thread(target=work) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_fifty_points_are_handed_out_once_each_by_ten_threads_of_two_processes(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    opt = Optimizer(Space({"x": Float(0.0, 1.0)}), storage=path)
    queued = [{"x": round(0.01 * number, 2)} for number in range(1, 51)]
    opt.enqueue(queued)
    opt.close()
    command = [sys.executable, "-c", ASK_ALL, str(path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate(timeout=240)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 2, errors
    opt = Optimizer.resume(path)
    assert opt.queue == []
    asked = [trial for trial in opt.trials if trial.provenance["source"] == "queue"]
    assert Counter(trial.params["x"] for trial in asked) == Counter(point["x"] for point in queued)
    assert [trial.params for trial in asked] == queued, "in order"


def test_fifty_points_are_handed_out_once_each_to_twenty_threads_of_one_optimizer() -> None:
    opt = Optimizer(Space({"x": Float(0.0, 1.0)}))
    queued = [{"x": round(0.01 * number, 2)} for number in range(1, 51)]
    opt.enqueue(queued)
    counts = [3] * 10 + [2] * 10
    threads = [threading.Thread(target=lambda count=count: opt.ask(count)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.params for trial in opt.trials] == queued


def test_a_queued_point_takes_no_place_of_the_initial_design() -> None:
    """The centre, which comes first without a queue, comes after the queued points with one."""
    plain, started = Optimizer(SPACE, seed=1), Optimizer(SPACE, seed=1)
    started.enqueue([POINT, POINT | {"n": 5}])
    design = [trial.params for trial in plain.ask(4)]
    assert [trial.params for trial in started.ask(4)] == [POINT, POINT | {"n": 5}, *design[:2]]
    assert [trial.params for trial in started.ask(2)] == design[2:], "in a later call too"


def test_start_is_not_lost_beside_a_queue_or_past_trials_and_not_doubled(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    opt = Optimizer(SPACE, storage=path)
    opt.add(POINT | {"n": 9}, 1.0)
    opt.enqueue(POINT | {"n": 8})
    opt.close()
    start = [POINT, POINT | {"n": 9}]
    for budget in (4, 6):
        result = minimize(loss, SPACE, budget, storage=path, start=start, progress=False)
    assert [trial.params["n"] for trial in result.trials[:3]] == [9, 8, 3], (
        "queued once, and not what is there"
    )
    assert [trial.params for trial in result.trials].count(POINT) == 1


def test_a_wrong_start_makes_no_file(tmp_path: Path) -> None:
    for start in ([{"x": 9.0}], 3, [3]):
        with pytest.raises(SpaceError):
            minimize(loss, SPACE, 3, storage=tmp_path / "run.db", start=start, progress=False)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
