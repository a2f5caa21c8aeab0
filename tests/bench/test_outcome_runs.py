"""Runs on problems of several outcomes: merits, records, feasibility, peers, and what is refused."""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bo_suite.bench import Records, compare, report, run_suite
from bo_suite.bench.attainment import attainment
from bo_suite.bench.merit import hypervolume
from bo_suite.bench.method import OutcomeTask, task_from_json, task_to_json
from bo_suite.bench.peers import SubprocessMethod, get_method, methods
from bo_suite.bench.peers.baselines import Random
from bo_suite.bench.peers.outcome_rows import OutcomePenalty, rows_of
from bo_suite.bench.trajectories import finals, trajectories
from bo_suite.bench.unit import run_unit
from bo_suite.errors import DataError
from bo_suite.problems.outcomes import OutcomeProblem
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.testing import check_outcome_method

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
PEERS = ("random", "sobol", "botorch_hypervolume", "botorch_constrained", "scbo", "tpe", "optuna_gp")
OTHERS = ("optuna_nsga2", "pymoo_nsga2", "smac_parego", "ax")


def corner(params: Params) -> dict[str, float]:
    if params["x"] > 0.98:
        raise ValueError("too far")
    return {"value": params["x"] + params["y"], "c": 0.6 - params["x"]}


def trade(params: Params) -> dict[str, float]:
    return {"f": params["x"], "g": params["x"] - params["y"]}


CORNER = OutcomeProblem("corner", SPACE, corner, Goals.of("minimize", {"c": (None, 0.0)}), optimum=0.6)
TRADE = OutcomeProblem(
    "trade", SPACE, trade, Goals.of({"f": "minimize", "g": "maximize"}), reference=(1.0, -1.0), optimum=1.5
)


@pytest.fixture
def moocore() -> Any:
    return pytest.importorskip("moocore", reason="hypervolumes need moocore (bo-suite[objectives])")


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_that_of_inclusion_and_exclusion(objectives: int, moocore: Any) -> None:
    generator = np.random.default_rng(objectives)
    reference = np.full(objectives, 0.9)
    for count in (0, 1, 2, 7):
        rows = generator.random((count, objectives))
        inside = rows[(rows < reference).all(axis=1)]
        volume = 0.0
        for size in range(1, len(inside) + 1):
            for chosen in itertools.combinations(inside, size):
                volume -= (-1.0) ** size * float(np.prod(reference - np.max(chosen, axis=0)))
        assert hypervolume(rows.tolist(), reference.tolist()) == pytest.approx(volume, abs=1e-12)


def test_points_that_do_not_dominate_the_reference_add_nothing(moocore: Any) -> None:
    assert hypervolume([(1.0, 0.0), (0.0, 1.0), (2.0, -5.0)], (1.0, 1.0)) == 0.0
    assert hypervolume([(0.0, 0.5), (2.0, -5.0)], (1.0, 1.0)) == pytest.approx(0.5)


def test_a_missing_moocore_is_told_with_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bo_suite.bench.merit.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"need the package moocore: install it with .*bo-suite\[objectives\]"
    ):
        run_suite(TRADE, "random", [0], 2, tmp_path, workers=1, progress=False)
    run_suite(CORNER, "random", [0], 2, tmp_path, workers=1, progress=False)


def test_records_hold_outcomes_merits_and_what_was_feasible(moocore: Any, tmp_path: Path) -> None:
    records = run_suite([CORNER, TRADE], "random", range(3), 12, tmp_path, workers=1, progress=False)
    goals = json.loads(records.problems.set_index("problem")["goals"]["trade"])
    assert goals == {
        "direction": {"f": "minimize", "g": "maximize"},
        "constraints": None,
        "reference": [1.0, -1.0],
    }
    for problem in (CORNER, TRADE):
        for seed in range(3):
            rows = records.evaluations
            rows = rows[(rows["problem"] == problem.name) & (rows["seed"] == seed)]
            expected, first = math.inf, math.inf
            losses: list[tuple[float, float]] = []
            for row in rows.to_dict("records"):
                if row["failure"] is not None:
                    assert row["outcomes"] is None
                    assert math.isnan(row["value"])
                    continue
                outcomes = json.loads(row["outcomes"])
                params = json.loads(row["params"])
                assert outcomes == problem(params)
                if problem is CORNER:
                    assert row["feasible"] == (outcomes["c"] <= 0.0)
                    if row["feasible"]:
                        expected, first = min(expected, outcomes["value"]), min(first, row["evaluation"])
                    assert row["value"] == expected or (math.isnan(row["value"]) and expected == math.inf)
                    regret = expected - 0.6
                else:
                    losses.append((outcomes["f"], -outcomes["g"]))
                    assert row["value"] == pytest.approx(-hypervolume(losses, (1.0, 1.0)))
                    regret = 1.5 + row["value"]
                if math.isfinite(regret):
                    assert row["regret"] == pytest.approx(regret, abs=1e-12)
            units = records.units[
                (records.units["problem"] == problem.name) & (records.units["seed"] == seed)
            ]
            (stored,) = units["first_feasible"]
            assert stored == first if problem is CORNER else math.isnan(stored)
    again = run_suite([CORNER, TRADE], "random", range(3), 12, tmp_path, workers=1, progress=False)
    assert again.evaluations.equals(records.evaluations), "what is stored is not run again"


def test_ranks_and_curves_are_those_of_the_gaps(moocore: Any, tmp_path: Path) -> None:
    records = run_suite([CORNER, TRADE], "random,sobol", range(6), 10, tmp_path, workers=1, progress=False)
    paths = trajectories(records)
    for row in paths.regret:
        assert (np.diff(row[np.isfinite(row)]) <= 0.0).all()
    final = finals(paths).set_index(["problem", "method", "seed"])
    last = records.evaluations.groupby(["problem", "method", "seed"])["regret"].min()
    for key, regret in final["regret"].items():
        assert regret == pytest.approx(last[key]) or (math.isinf(regret) and math.isnan(last[key]))
    comparison = compare(records)
    table = comparison.feasibility.set_index("method")
    assert set(comparison.feasibility["problem"]) == {"corner"}
    for name in ("random", "sobol"):
        first = records.units[(records.units["method"] == name) & (records.units["problem"] == "corner")]
        assert table.loc[name, "first_feasible"] == first["first_feasible"].median()
        assert table.loc[name, "feasible"] == np.isfinite(first["first_feasible"]).sum()


def test_a_method_that_does_not_accept_the_goals_is_refused(tmp_path: Path) -> None:
    for problem, method in ((CORNER, "botorch_hypervolume"), (TRADE, "scbo"), (CORNER, "botorch")):
        with pytest.raises(
            DataError, match=f"must accept the goals of every problem .*{problem.name}.*{method}"
        ):
            run_suite(problem, method, [0], 2, tmp_path, workers=1, progress=False)
    with pytest.raises(DataError, match=r"branin: one value.*got scbo"):
        run_suite("branin", "scbo", [0], 2, tmp_path, workers=1, progress=False)


def test_tasks_survive_json() -> None:
    task = OutcomeTask(SPACE, 3, 9, TRADE.goals, (1.0, -1.0))
    assert task_from_json(json.loads(json.dumps(task_to_json(task)))) == task
    other = OutcomeTask(SPACE, 3, 9, Goals.of("maximize", {"c": (None, 0.5), "d": (0.0, 1.0)}))
    assert task_from_json(json.loads(json.dumps(task_to_json(other)))) == other


def test_a_method_in_a_process_of_its_own_makes_the_same_points() -> None:
    here = run_unit(CORNER, Random(), 0, 4, None)
    there = run_unit(CORNER, SubprocessMethod("random"), 0, 4, None)
    assert [one.params for one in there.evaluations] == [one.params for one in here.evaluations]
    assert [one.outcomes for one in there.evaluations] == [one.outcomes for one in here.evaluations]


@pytest.mark.slow
def test_a_method_in_a_process_of_its_own_refuses_goals_that_it_does_not_accept() -> None:
    refused = run_unit(CORNER, SubprocessMethod("botorch_hypervolume"), 0, 4, None)
    assert refused.state == "crashed"
    assert "must accept the goals" in str(refused.reason)


def test_rows_have_a_violation_for_each_end_of_an_interval() -> None:
    goals = Goals.of({"f": "maximize", "g": "minimize"}, {"c": (1.0, 3.0), "d": (None, 0.0)})
    assert rows_of(goals, {"f": 2.0, "g": 5.0, "c": 4.0, "d": -1.0}) == ([-2.0, 5.0], [-3.0, 1.0, -1.0])


def test_a_failure_counts_as_the_worst_of_each_outcome() -> None:
    seen: list[tuple[Any, list[float], list[float]]] = []
    goals = Goals.of({"f": "minimize", "g": "minimize"}, {"c": (None, 0.0)})
    penalty = OutcomePenalty(goals, lambda *row: seen.append(row))
    penalty.fail("a")
    assert penalty.waiting == 1
    outcomes: Mapping[str, float] = {"f": 1.0, "g": 5.0, "c": -1.0}
    penalty.tell("b", outcomes)
    penalty.tell("d", {"f": 2.0, "g": 4.0, "c": -2.0})
    penalty.fail("e")
    assert penalty.waiting == 0
    assert seen == [
        ("b", [1.0, 5.0], [-1.0]),
        ("a", [1.0, 5.0], [-1.0]),
        ("d", [2.0, 4.0], [-2.0]),
        ("e", [2.0, 5.0], [-1.0]),
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in ("random", "sobol", "tpe")))
        for name in PEERS
    ]
    + [pytest.param(name, marks=[pytest.mark.slow, pytest.mark.integration]) for name in OTHERS],
)
def test_every_method_keeps_the_contract(name: str) -> None:
    try:
        method: Any = get_method(name)
    except ImportError as error:
        pytest.skip(str(error))
    assert method.name == name
    check_outcome_method(method)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PEERS, *OTHERS])
def test_every_method_goes_on_past_its_space_filling_start(name: str, moocore: Any) -> None:
    try:
        method: Any = get_method(name)
    except ImportError as error:
        pytest.skip(str(error))
    for problem in (CORNER, TRADE):
        if method.accepts(problem.goals):
            unit = run_unit(problem, method, 0, 14, None)
            assert unit.state == "finished", unit.reason
            assert unit.evaluations[-1].value is not None


def test_the_peers_are_listed() -> None:
    assert {*PEERS, *OTHERS} <= set(methods())


def test_the_median_attainment_surface_is_what_half_of_the_runs_dominate(
    moocore: Any, tmp_path: Path
) -> None:
    records = run_suite(TRADE, "random", range(4), 9, tmp_path, workers=1, progress=False)
    table = attainment(records, "trade")
    runs = [
        np.array([(json.loads(text)["f"], -json.loads(text)["g"]) for text in own["outcomes"]])
        for _, own in records.evaluations.groupby("seed")
    ]
    surface = np.stack([table["f"], -table["g"]], axis=1)
    assert (np.diff(surface[:, 0]) > 0.0).all()
    for point in np.random.default_rng(0).uniform((0.0, -1.0), (1.0, 1.0), (300, 2)):
        attained = sum(bool((run <= point).all(axis=1).any()) for run in runs) >= 2
        assert attained == bool((surface <= point).all(axis=1).any())


def test_there_is_no_surface_without_two_objectives(tmp_path: Path) -> None:
    records = run_suite([CORNER, "branin"], "random", range(2), 3, tmp_path, workers=1, progress=False)
    for name in ("corner", "branin"):
        assert attainment(records, name).empty


def test_a_report_shows_what_is_feasible(moocore: Any, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    run_suite([CORNER, TRADE], "random,sobol", range(3), 8, tmp_path, workers=1, progress=False)
    page = report(tmp_path).read_text()
    assert (tmp_path / "feasibility.csv").read_text().count("corner") == 2
    assert "hypervolume" in page
    assert "First feasible evaluation on corner" in page
    assert "Attained on trade" in page
    assert len(Records.read(tmp_path).units) == 12
