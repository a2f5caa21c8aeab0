"""The tables of benchmarks/limits.py and benchmarks/objectives.py: gaps and first feasible evaluations."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import outcome_runs
from outcome_runs import Claim, report, run

from bo_suite.bench import Records, get_method
from bo_suite.bench.suite import named_problem

CLAIM = Claim("doc", {"constrained": ("constrained_gramacy", "pressure_vessel")}, "feasible regret")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("limits")
    methods = [get_method("random"), get_method("botorch_hypervolume")]
    for seed in range(2):
        for name in CLAIM.problems:
            run(CLAIM, name, methods, seed, out)
    return out


def test_gaps_are_to_the_best_known_value_after_each_number_of_evaluations(folder: Path) -> None:
    text = report(CLAIM, CLAIM.problems, folder, None)
    assert "median log10 feasible regret after 60 evaluations" in text
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    assert {row["method"] for row in rows} == {"random"}, "a method that does not accept the goals is skipped"
    assert len(rows) == 4
    for row in rows:
        values = Records.read(folder / row["problem"]).evaluations
        values = values[values["seed"] == row["seed"]]
        for evaluations in (60, 100):
            best = values["value"][values["evaluation"] <= evaluations].min()
            stated = named_problem(row["problem"]).best_known
            assert 10 ** row[f"log10_gap_{evaluations}"] == pytest.approx(best - stated)
        assert row["first_feasible"] == values["evaluation"][values["value"].notna()].min()
        assert "commit" in row


def test_a_run_at_the_best_known_value_has_the_smallest_gap(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_runs, "named_problem", lambda name: named_problem("constrained_ackley5"))
    records = Records.read(folder / "constrained_gramacy")
    least = records.evaluations["value"].min()
    assert outcome_runs._best(records) == 0.0, "the stated value, as no run is below it"
    gaps = outcome_runs._gaps(CLAIM, records, {"constrained_gramacy": least})
    assert gaps["log10_gap_100"].min() == pytest.approx(-9.0)
    assert np.isfinite(gaps["log10_gap_100"]).all()


def test_only_problems_of_the_benchmark_are_taken() -> None:
    assert outcome_runs._chosen(CLAIM, "constrained") == ["constrained_gramacy", "pressure_vessel"]
    assert outcome_runs._chosen(CLAIM, "pressure_vessel") == ["pressure_vessel"]
    with pytest.raises(SystemExit, match="got branin"):
        outcome_runs._chosen(CLAIM, "branin")


def test_problems_of_one_value_have_gaps_too(tmp_path: Path) -> None:
    claim = Claim("doc", {"plane": ("branin",)}, "regret", (2, 5))
    for method in ("random", "sobol"):
        run(claim, "branin", [get_method(method)], 0, tmp_path)
    text = report(claim, claim.problems, tmp_path, None)
    assert "median log10 regret after 2 evaluations" in text
    assert "mean seconds an ask" in text
    values = Records.read(tmp_path / "branin").evaluations
    for line in (tmp_path / "runs.jsonl").read_text().splitlines():
        row = json.loads(line)
        own = values[values["method"] == row["method"]].sort_values("evaluation")["value"]
        for evaluations in (2, 5):
            best = own.iloc[:evaluations].min()
            assert 10 ** row[f"log10_gap_{evaluations}"] == pytest.approx(best - 0.397887, abs=1e-6)
