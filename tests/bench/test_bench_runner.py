"""Whole suites: what is recorded, what is run again, and what each kind of misbehaviour costs."""

import concurrent.futures as futures
import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import bench_methods
import numpy as np
import pandas as pd
import pytest
from bench_methods import EXITS, FINITE, MOODY, Scripted, forked, forked_workers, lines, run

from bo_suite import Choice, Float, Optimizer, Space, Trial
from bo_suite.bench import BoSuite, Records, run_suite
from bo_suite.bench.peers import get_method
from bo_suite.bench.suite import problems_of
from bo_suite.bench.unit import seed_on
from bo_suite.errors import DataError, StorageError
from bo_suite.problems import Problem, get_problem, noisy
from bo_suite.space.space import Params

BRANIN = get_problem("branin")
KEY = ["problem", "method", "seed"]


def states(records: Records) -> dict[tuple[str, int], str]:
    return {(row.method, row.seed): row.state for row in records.units.itertuples()}


def reasons(records: Records) -> dict[tuple[str, int], str]:
    return {(row.method, row.seed): row.reason for row in records.units.itertuples()}


def counts(records: Records) -> dict[tuple[str, int], int]:
    return records.evaluations.groupby(["method", "seed"]).size().to_dict()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Two problems, one of them noisy, three methods and two seeds."""
    methods = ["random", "sobol", BoSuite()]
    out = tmp_path_factory.mktemp("small") / "a" / "b"
    return run("branin,noisy_branin", methods, (0, 3), 7, out, together=1)


def test_every_unit_and_every_evaluation_has_one_row(small: Records) -> None:
    names = [
        (p, m, s) for p in ("branin", "noisy_branin") for m in ("bo_suite", "random", "sobol") for s in (0, 3)
    ]
    assert list(small.units[KEY].itertuples(index=False, name=None)) == names
    assert set(small.units["state"]) == {"finished"}
    assert small.units["reason"].isna().all()
    assert set(small.units["replicates"]) == {1}
    rows = small.evaluations.groupby(KEY)["evaluation"].apply(list).to_dict()
    assert rows == {name: [1, 2, 3, 4, 5, 6, 7] for name in names}
    assert list(small.problems["problem"]) == ["branin", "noisy_branin"]
    assert set(small.problems["budget"]) == {7}
    assert set(small.problems["dim"]) == {2}
    assert list(small.problems["minimum"]) == list(small.problems["best_known"]) == [BRANIN.minimum] * 2


def test_values_are_those_of_the_problem_at_the_points(small: Records) -> None:
    for row in small.evaluations.itertuples():
        assert row.true_value == BRANIN.value(json.loads(row.params))
        assert row.regret == row.true_value - BRANIN.minimum
        assert (row.value == row.true_value) == (row.problem == "branin")
        assert row.failure is None
        assert isinstance(json.loads(row.provenance), dict)
    seconds = small.evaluations[["ask_seconds", "evaluate_seconds", "tell_seconds"]]
    assert (seconds >= 0).all(axis=None)
    whole = small.evaluations.assign(spent=seconds.sum(axis=1)).groupby(KEY)["spent"].sum()
    assert (small.units.set_index(KEY)["seconds"] >= whole).all()


def test_the_noise_of_a_seed_at_a_point_is_that_of_the_problem(small: Records) -> None:
    rows = small.evaluations[small.evaluations["problem"] == "noisy_branin"]
    (problem,) = problems_of("noisy_branin")
    for row in rows.itertuples():
        noise = problem.noise_of(json.loads(row.params), seed_on("noisy_branin", row.seed))
        assert row.value - row.true_value == pytest.approx(noise, abs=1e-9)
    assert (rows["value"] - rows["true_value"]).round(6).nunique() == len(rows)


def nothing(params: Params) -> float:
    return 0.0


def test_a_point_that_is_repeated_has_other_noise(tmp_path: Path) -> None:
    space = Space({"k": Choice(["a", "b"])})
    problem = Problem("coin", space, nothing, noise=1.0)
    records = run_suite(problem, "random", range(1), 8, tmp_path, workers=1)
    assert records.evaluations["value"].nunique() == 8


@dataclass(frozen=True)
class Offset:
    """Adds the value plus a uniform number."""

    def __call__(self, value: float, generator: np.random.Generator) -> float:
        return value + float(generator.random())


def test_noise_of_a_model_is_added_and_recorded(tmp_path: Path) -> None:
    problem = replace(BRANIN, name="offset_branin", noise_model=Offset())
    records = run_suite([problem, BRANIN], "random", range(1), 4, tmp_path, workers=1)
    assert list(records.problems["noise_model"]) == ["Offset()", None]
    rows = records.evaluations[records.evaluations["problem"] == "offset_branin"]
    for row in rows.itertuples():
        noise = problem.noise_of(json.loads(row.params), seed_on("offset_branin", row.seed))
        assert row.value == row.true_value + noise
        assert 0.0 <= noise - row.true_value < 1.0


def test_where_the_suite_ran_is_recorded_and_names_no_machine(small: Records) -> None:
    (place,) = small.environments.to_dict("records")
    assert set(small.units["environment"]) == {place["environment"]}
    assert {"bo-suite", "torch", "numpy"} <= set(json.loads(place["versions"]))
    assert place["threads"] == int(os.environ["OMP_NUM_THREADS"])
    assert place["command"]
    text = json.dumps(place)
    assert os.uname().nodename not in text
    assert str(Path.home()) + "/" not in text


def test_a_suite_that_has_ended_is_not_run_again_and_more_seeds_run_alone(tmp_path: Path) -> None:
    method = Scripted(ledger=tmp_path / "ledger")
    problems = "branin,hartmann3"
    first = run(problems, [method], range(2), 3, tmp_path / "out")
    assert len(lines(method.ledger)) == 4
    again = run(problems, [method], range(2), 3, tmp_path / "out", workers=2)
    assert len(lines(method.ledger)) == 4
    pd.testing.assert_frame_equal(first.evaluations, again.evaluations)
    pd.testing.assert_frame_equal(first.units, again.units)
    more = run(problems, [method, "sobol"], range(3), 3, tmp_path / "out")
    assert [line.split()[2] for line in lines(method.ledger)[4:]] == ["2", "2"]
    kept = more.units[(more.units["method"] == "scripted") & (more.units["seed"] < 2)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first.units)
    assert len(more.units) == 12
    part = run("hartmann3", ["sobol"], [1], 3, tmp_path / "out")
    assert len(part.units) == 12, "all records of the folder"


def test_a_name_must_stand_for_what_it_stood_for(tmp_path: Path) -> None:
    run("branin", "random", [0], 3, tmp_path)
    with pytest.raises(StorageError, match=r"problem 'branin' must be what .*\"budget\": 3.*\"budget\": 4"):
        run("branin", "random", [0], 4, tmp_path)
    other = Problem("branin", BRANIN.space, BRANIN.function, None)
    with pytest.raises(StorageError, match=r"problem 'branin' .*\"minimum\": 0.39.*\"minimum\": null"):
        run([other], "random", [0], 3, tmp_path)
    elsewhere = Problem("branin", get_problem("hartmann3").space, BRANIN.function, BRANIN.minimum)
    with pytest.raises(StorageError, match=r"problem 'branin' .*\"dim\": 2.*\"dim\": 3"):
        run([elsewhere], "random", [0], 3, tmp_path)
    louder = Problem("branin", BRANIN.space, BRANIN.function, BRANIN.minimum, noise=0.5)
    with pytest.raises(StorageError, match=r"\"noise\": 0.0.*\"noise\": 0.5"):
        run([louder], "random", [0], 3, tmp_path)
    with pytest.raises(StorageError, match=r"method 'random' .*Random\(.*Scripted\("):
        run("branin", [Scripted(name="random")], [0], 3, tmp_path)
    assert len(Records.read(tmp_path).units) == 1


def test_a_method_that_raises_is_crashed_with_its_traceback_and_its_evaluations(tmp_path: Path) -> None:
    methods = [
        Scripted(bench_methods.raises, name="raises"),
        Scripted(bench_methods.quits, name="quits"),
        Scripted(name="says", provenance={"what": object()}),
        "random",
    ]
    records = run("branin", methods, [0], 4, tmp_path)
    assert states(records) == {
        ("raises", 0): "crashed",
        ("quits", 0): "crashed",
        ("says", 0): "crashed",
        ("random", 0): "finished",
    }
    why = reasons(records)
    assert why["raises", 0].endswith("ValueError: out of ideas\n")
    assert "in raises" in why["raises", 0]
    assert why["quits", 0].endswith("SystemExit: usage\n")
    assert "not JSON serializable" in why["says", 0]
    assert why["random", 0] is None
    assert counts(records) == {("raises", 0): 2, ("quits", 0): 2, ("random", 0): 4}


def test_a_point_outside_the_space_crashes_its_unit(tmp_path: Path) -> None:
    class Elsewhere(bench_methods.ScriptedRun):
        def ask(self) -> dict:
            return {"nowhere": 1.0}

    class Lost(Scripted):
        def start(self, task) -> Elsewhere:
            return Elsewhere(self, task, get_method("random").start(task))

    records = run("branin", [Lost(name="lost")], [0], 3, tmp_path)
    assert states(records) == {("lost", 0): "crashed"}
    assert "SpaceError" in reasons(records)["lost", 0]


def test_a_time_limit_ends_a_unit_between_and_within_suggestions(tmp_path: Path) -> None:
    methods = [
        Scripted(bench_methods.hangs, name="hangs"),
        Scripted(bench_methods.hangs_and_shrugs, name="shrugs"),
        Scripted(bench_methods.dawdles, name="dawdles"),
        "random",
    ]
    records = run("branin", methods, [0], 9, tmp_path, time_limit=0.5)
    assert states(records) == {
        ("hangs", 0): "timed out",
        ("shrugs", 0): "timed out",
        ("dawdles", 0): "timed out",
        ("random", 0): "finished",
    }
    assert reasons(records)["hangs", 0] == "the time limit of 0.5 s was over"
    assert counts(records) == {
        ("hangs", 0): 2,
        ("shrugs", 0): 1,
        ("dawdles", 0): counts(records)["dawdles", 0],
        ("random", 0): 9,
    }
    assert 1 <= counts(records)["dawdles", 0] <= 5
    limited = records.units[records.units["state"] == "timed out"]
    assert (limited["seconds"] >= 0.5).all()
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_in_threads_a_time_limit_counts_between_suggestions(tmp_path: Path) -> None:
    method = Scripted(bench_methods.dawdles)
    with futures.ThreadPoolExecutor(2) as threads:
        records = run(
            "branin", [method, "random"], range(2), 9, tmp_path, threads, workers=2, time_limit=0.25
        )
        assert threads.submit(int, "3").result() == 3, "left open"
    found = states(records)
    assert {found["scripted", 0], found["scripted", 1]} == {"timed out"}
    assert {found["random", 0], found["random", 1]} == {"finished"}


def test_evaluations_that_fail_are_told_to_the_method_and_kept_with_their_reason(tmp_path: Path) -> None:
    method = Scripted(ledger=tmp_path / "ledger")
    records = run([MOODY, EXITS], [method, "bo_suite"], [0], 8, tmp_path / "out")
    assert set(records.units["state"]) == {"finished"}
    rows = records.evaluations[records.evaluations["problem"] == "moody"]
    for row in rows.itertuples():
        x = json.loads(row.params)["x"]
        expected = "ValueError: too far" if x > 1 else "the function returned nan" if x > 0.5 else None
        assert row.failure == expected
        assert np.isnan([row.value, row.true_value, row.regret]).all() == (expected is not None)
    failures = rows[(rows["method"] == "scripted") & rows["failure"].notna()]["failure"]
    assert failures.nunique() == 2
    told = [line.split(maxsplit=2)[2] for line in lines(method.ledger) if line.startswith("fail")]
    assert told == [*failures, *["SystemExit: no licence"] * 8]


def test_a_finite_space_without_points_left_ends_a_unit_with_the_reason(tmp_path: Path) -> None:
    records = run([FINITE], ["bo_suite", "random"], [0], 9, tmp_path)
    assert set(records.units["state"]) == {"finished"}
    assert counts(records) == {("bo_suite", 0): 6, ("random", 0): 9}
    why = reasons(records)
    assert "6" in why["bo_suite", 0]
    assert why["random", 0] is None


def test_what_cannot_be_sent_to_processes_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    method = Scripted(lambda seed, step: None, tmp_path / "ledger")
    with pytest.raises(DataError, match=r"must be picklable .*workers=1 .*got branin, scripted: "):
        run("branin", ["random", method], [0], 3, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()
    records = run("branin", ["random", method], [0], 3, tmp_path / "out")
    assert set(records.units["state"]) == {"finished"}
    with (
        futures.ProcessPoolExecutor(1, mp_context=forked) as executor,
        pytest.raises(DataError, match="must be picklable"),
    ):
        run("branin", ["random", method], [1], 3, tmp_path / "out", executor)


def test_a_method_that_takes_its_worker_down_costs_its_own_unit_alone(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    methods = [Scripted(bench_methods.exits, ledger, name="exits"), Scripted(ledger=ledger, name="good")]
    records = run("branin", methods, range(3), 4, tmp_path / "out", forked_workers, workers=2)
    crashed = [unit for unit, state in states(records).items() if state == "crashed"]
    assert crashed == [("exits", 1)]
    assert reasons(records)["exits", 1] == "its worker process died"
    assert set(counts(records).values()) == {4}
    assert len(counts(records)) == 5
    assert len({line.split()[3] for line in lines(ledger)} - {str(os.getpid())}) >= 2
    assert str(os.getpid()) not in {line.split()[3] for line in lines(ledger)}


def test_methods_that_are_killed_at_once_are_told_from_workers_that_can_run_nothing(tmp_path: Path) -> None:
    method = Scripted(bench_methods.is_killed, name="killed")
    records = run("branin", [method], range(3), 3, tmp_path, forked_workers, workers=2)
    assert set(records.units["state"]) == {"crashed"}
    assert set(records.units["reason"]) == {"its worker process died"}
    assert len(records.units) == 3
    assert records.evaluations.empty


def test_workers_that_die_at_once_are_one_clear_error(tmp_path: Path) -> None:
    def doomed() -> futures.Executor:
        return futures.ProcessPoolExecutor(1, mp_context=forked, initializer=os._exit, initargs=(3,))

    with pytest.raises(DataError, match=r"worker processes died before they ran a unit.*__main__"):
        run("branin", ["random", "sobol"], range(3), 3, tmp_path, doomed, workers=2)
    records = run("branin", ["random", "sobol"], range(3), 3, tmp_path)
    assert set(records.units["state"]) == {"finished"}, "nothing was left claimed"


@pytest.mark.slow
def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from bo_suite.bench import run_suite\n"
        f"run_suite('branin', 'random', range(2), 2, {str(tmp_path / 'out')!r}, workers=2, progress=False)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert list(Records.read(tmp_path / "out").units["state"]) == ["finished"] * 2


def test_an_executor_instance_that_broke_ends_the_suite_and_keeps_what_has_ended(tmp_path: Path) -> None:
    method = Scripted(bench_methods.exits, name="exits")
    with (
        futures.ProcessPoolExecutor(1, mp_context=forked) as executor,
        pytest.raises(DataError, match="give a function that makes an executor"),
    ):
        run("branin", [method], range(3), 4, tmp_path, executor)
    assert states(Records.read(tmp_path)) == {("exits", 0): "finished"}


def test_an_interrupt_keeps_what_has_ended(tmp_path: Path) -> None:
    method = Scripted(bench_methods.interrupts, tmp_path / "ledger")
    with pytest.raises(KeyboardInterrupt):
        run("branin", [method], range(3), 3, tmp_path / "out")
    assert states(Records.read(tmp_path / "out")) == {("scripted", 0): "finished"}
    assert len(lines(method.ledger)) == 2


# What is asked for.


def test_what_crashed_is_run_again_where_asked_for(tmp_path: Path) -> None:
    run("branin", [Scripted(bench_methods.raises, name="m")], range(2), 4, tmp_path)
    assert set(run("branin", ["random"], [0], 4, tmp_path).units["state"]) == {"crashed", "finished"}
    with pytest.raises(StorageError, match="'m' must be what it was"):
        run("branin", [Scripted(name="m")], range(2), 4, tmp_path)
    records = run("branin", [Scripted(name="m")], range(2), 4, tmp_path, again=["crashed"])
    assert states(records) == {("m", 0): "finished", ("m", 1): "finished", ("random", 0): "finished"}
    assert counts(records)["m", 0] == 4


def test_a_seed_draws_otherwise_on_another_problem_and_alike_for_all_methods(tmp_path: Path) -> None:
    two = [noisy(BRANIN, 1.0), replace(noisy(BRANIN, 1.0), name="twin")]
    methods = [Scripted(name="a"), Scripted(name="b"), "random"]  # a and b choose the same points
    found = run(two, methods, [0], 3, tmp_path).evaluations
    noise = (found["value"] - found["true_value"]).groupby([found["problem"], found["method"]]).apply(list)
    np.testing.assert_allclose(noise["twin", "a"], noise["twin", "b"])
    assert noise["twin", "a"][0] != pytest.approx(noise["noisy_branin", "a"][0])
    points = found.groupby(["problem", "method"])["params"].first()
    assert points["twin", "random"] != points["noisy_branin", "random"]


def test_errors_that_no_one_expects_cost_their_unit_alone(tmp_path: Path) -> None:
    records = run("branin", [Scripted(bench_methods.cancels, name="m"), "random"], [0], 3, tmp_path)
    assert states(records) == {("m", 0): "crashed", ("random", 0): "finished"}
    assert "\\udcff" in reasons(records)["m", 0]


def test_the_progress_bar_tells_what_has_ended_and_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run("branin", [Scripted(bench_methods.raises)], range(3), 4, tmp_path, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err
    assert "3 crashed" in captured.err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budget": 0}, "budget"),
        ({"workers": 0}, "workers"),
        ({"together": 0}, "together"),
        ({"time_limit": 0.0}, "`0 < time_limit < inf` must hold, got 0.0"),
        ({"seeds": []}, r"seeds must be given, differ and be less than 2\*\*63, got \[\]"),
        ({"seeds": [1, 1]}, r"seeds must be given, differ and be less than 2\*\*63, got \[1, 1\]"),
        ({"time_limit": math.inf}, "`0 < time_limit < inf` must hold, got inf"),
        ({"seeds": [-1]}, "a seed"),
        ({"seeds": 3}, "seeds must be several integers"),
        ({"seeds": [2**63]}, r"less than 2\*\*63"),
        ({"methods": [Scripted(name="")]}, "the name of a method must be a non-empty string"),
        ({"methods": [Scripted(name=5)]}, "the name of a method must be a non-empty string"),
        ({"methods": "math:pi"}, "must be an object with `name` and `start`"),
        ({"problems": [BRANIN.function]}, "a problem must be a name or a Problem"),
        ({"executor": "processes"}, "an executor must be"),
        ({"again": ["lost"]}, "again must name states"),
        ({"methods": "random,nothing"}, "a method's name must be one of"),
        ({"methods": ["random", "random"]}, r"needs methods with different names, got \['random'\]"),
        ({"methods": []}, "a suite needs methods .*got none"),
        ({"methods": [Scripted]}, "a method must be a name or an object"),
        ({"problems": "branin,nothing"}, "nothing"),
        ({"problems": ["smoke", "branin"]}, r"needs problems with different names, got \['branin'\]"),
    ],
)
def test_what_cannot_be_run_is_an_error_and_leaves_no_folder(
    tmp_path: Path, changed: dict, said: str
) -> None:
    asked = {"problems": "branin", "methods": "random", "seeds": [0], "budget": 2, "out": tmp_path / "out"}
    with pytest.raises(ValueError, match=said):
        run(**(asked | changed))
    assert not (tmp_path / "out").exists()


def test_categories_of_every_type_survive_the_records(tmp_path: Path) -> None:
    space = Space({"c": Choice([None, True, "yes", 2.5])})
    records = run([Problem("types", space, _place)], "random", [0], 20, tmp_path)
    found = [json.loads(text)["c"] for text in records.evaluations["params"]]
    assert [_place({"c": option}) for option in found] == list(records.evaluations["value"])
    assert records.evaluations["regret"].isna().all()
    assert records.problems["best_known"].isna().all()


def _place(params: dict) -> float:
    return float([None, True, "yes", 2.5].index(params["c"]))


def asks_elsewhere(params: Params) -> float:
    """Asks an Optimizer in another thread while the suite runs."""
    asked: list[Trial] = []
    thread = threading.Thread(target=lambda: asked.append(filled().ask()), daemon=True)
    thread.start()
    thread.join(timeout=60)
    return float(len(asked) - 1)


def filled() -> Optimizer:
    optimizer = Optimizer(Space({"x": Float(0, 1)}), initial=2)
    for x in (0.2, 0.5, 0.9):
        optimizer.add({"x": x}, x)
    return optimizer


def test_another_thread_asks_while_a_suite_runs_in_this_process(tmp_path: Path) -> None:
    problem = Problem("elsewhere", Space({"x": Float(0, 1)}), asks_elsewhere)
    records = run_suite(problem, "random", range(1), 2, tmp_path, workers=1)
    assert records.evaluations["value"].tolist() == [0.0, 0.0]
