"""benchmarks/learning_curves.py: which tasks it refuses, its records, and the numbers of its report."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import learning_curves
import learning_curves_best
from learning_curves_report import (
    area,
    common,
    factor_saved,
    mean_ranks,
    print_report,
    regret_at,
    time_to,
    value_at,
    wrongly_stopped,
)

from bo_suite.bench.simulation import CurveTask, RandomCurves, simulate
from bo_suite.problems.curves import SlowStarters
from bo_suite.run.schedulers import ASHA

REFERENCE = {"best": 100.0, "median": 40.0}
STEPS = [(1.0, 20.0), (2.0, 60.0), (4.0, 90.0)]


def record(method: str, seed: int, finished: list[tuple[float, float]], task: int = 3945) -> dict[str, Any]:
    return {
        "method": method,
        "task": task,
        "seed": seed,
        "workers": 4,
        "horizon": 10.0,
        "finished": finished,
        "any_step": finished,
        "fates": {"finished": 2, "stopped": 3, "running": 1},
        "wall_seconds": 1.0,
        "best_started": {"final": 80.0, "fate": "stopped" if seed else "finished"},
    }


def test_tasks_kept_for_checking_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curves_best, "lcbench_tasks", lambda folder: (3, 12, 20, 25, 100))
    monkeypatch.setattr(learning_curves_best, "LCBench", lambda task, folder: ("made", task))
    assert learning_curves_best.development_tasks("anywhere") == (3, 20, 100)
    assert learning_curves_best.development_problem(20) == ("made", 20)
    for task in (12, 25, 4):
        with pytest.raises(ValueError, match=f"not kept for checking, got {task}"):
            learning_curves_best.development_problem(task)


def test_the_table_of_best_accuracies_holds_development_tasks_alone() -> None:
    table = json.loads(learning_curves.BEST.read_text())
    assert len(table) == 17
    for row in table.values():
        assert 0.0 < row["median"] < row["random"] <= row["best"] <= 100.0
        assert row["mean_seconds"] > 0.0


def test_regret_and_area_by_hand() -> None:
    assert value_at(STEPS, 0.5) == 0.0
    assert [regret_at(STEPS, at, REFERENCE) for at in (0.5, 1.5, 3.0, 9.0)] == pytest.approx(
        [0.6, 0.6, 0.4, 0.1]
    )
    assert area(STEPS, 10.0, REFERENCE) == pytest.approx((2 * 0.6 + 2 * 0.4 + 6 * 0.1) / 10)
    assert area([], 10.0, REFERENCE) == pytest.approx(0.6)
    assert time_to(STEPS, 60.0) == 2.0
    assert time_to(STEPS, 91.0) == math.inf


def test_the_factor_saved_is_a_geometric_mean_of_medians_over_tasks() -> None:
    full, fast = [(10.0, 90.0)], [(1.0, 50.0), (2.5, 90.0)]
    records = [record("bo_suite_full", seed, full, task) for seed in range(3) for task in (1, 2)]
    records += [record("fast", seed, fast, 1) for seed in range(3)]
    records += [record("fast", seed, [(1.0, 89.0)], 2) for seed in range(3)]  # never there
    rows = common(records)
    assert factor_saved(rows, "fast", "finished") == pytest.approx(math.sqrt(4.0 * 1.0))
    assert factor_saved(rows, "bo_suite_full", "finished") == pytest.approx(1.0)
    assert len(common(records[:-1])) == 5


def test_the_share_of_runs_whose_best_trial_was_stopped() -> None:
    share, cost = wrongly_stopped([record("a", 0, [(1.0, 80.0)]), record("a", 1, [(1.0, 60.0)])])
    assert share == 0.5
    assert cost == pytest.approx((0.0 + 25.0) / 2)


def test_mean_ranks_are_of_the_areas() -> None:
    areas = np.array([[1.0, 2.0, 3.0]] * 5 + [[2.0, 1.0, 3.0]] * 5)
    ranks, low, high = mean_ranks(areas, np.array(["a"] * 10))
    assert ranks.tolist() == [1.5, 1.5, 3.0]
    assert low[2] == high[2] == 3.0
    assert low[0] < 1.5 < high[0]
    _, low, high = mean_ranks(areas[:4], np.array(["a"] * 4))
    assert np.isnan([low, high]).all()


def test_the_report_has_a_row_a_method() -> None:
    records = [record("bo_suite_full", s, [(9.0, 90.0 + s)]) for s in range(6)]
    records += [record("asha", s, [(2.0, 95.0 + s / 10)]) for s in range(6)]
    records += [record("asha", 7, [(2.0, 95.0)])]  # left out: one method alone has it
    text = io.StringIO()
    print_report(records, {3945: REFERENCE}, "finished", Console(file=text, width=220))
    lines = text.getvalue().splitlines()
    assert "4 workers: 1 tasks, 6 runs of each method" in lines[0]
    (asha,) = (line for line in lines if "│ asha" in line)
    cells = [cell.strip() for cell in asha.split("│")]
    assert cells[2] == "1.00"
    assert float(cells[4]) == pytest.approx(100 * (2 * 0.6 + 8 * 0.0475) / 10, abs=0.01)


def test_a_summary_of_a_simulation_holds_the_best_trial_of_all_that_were_started() -> None:
    problem = SlowStarters(9)
    tuner = RandomCurves("asha", ASHA).start_curves(CurveTask.of(problem, 0))
    simulation = simulate(problem, tuner, workers=2, seconds=150.0)
    summary = learning_curves.summary(simulation, unit=10.0)
    assert summary["best_started"]["final"] == min(trial.final for trial in simulation.trials)
    assert sum(summary["fates"].values()) == len(simulation.trials)
    assert summary["finished"] == [
        (round(at / 10.0, 4), round(value, 4)) for at, value in simulation.incumbents()
    ]
    json.dumps(summary)
