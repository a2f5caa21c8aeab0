"""The benchmark of gradients: its derivatives, its descents, its resumption, and its tables."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gradients
from gradients_methods import METHODS, initial_rows
from gradients_problems import PROBLEMS, Differentiable, differentiable
from gradients_report import OURS, WITHOUT, ranked, report

from bo_suite import Float, Space


@pytest.mark.parametrize("name", PROBLEMS)
def test_derivatives_are_those_of_the_value_and_the_minimiser_is_off_the_centre(name: str) -> None:
    problem = differentiable(name, seed=1)
    row = np.random.default_rng(0).uniform(0.1, 0.9, problem.space.dim)
    _, _, slopes = problem.encoded(row)
    step = 1e-5 * np.eye(problem.space.dim)
    differences = [(problem.encoded(row + h)[1] - problem.encoded(row - h)[1]) / 2e-5 for h in step]
    np.testing.assert_allclose(slopes, differences, atol=1e-5 * np.abs(slopes).max())
    assert problem.evaluate(problem.minimizer)[0] == pytest.approx(problem.minimum, abs=1e-12)
    assert np.abs(problem.space.encode([problem.minimizer])[0].numpy() - 0.5).max() > 0.1


def bowl() -> Differentiable:
    def evaluate(params: dict[str, float]) -> tuple[float, dict[str, float]]:
        x, y = params["x"], params["y"]
        return (x - 1.0) ** 2 + (y - 0.2) ** 2, {"x": 2 * (x - 1.0), "y": 2 * (y - 0.2)}

    space = Space({"x": Float(0.1, 10.0, log=True), "y": Float(-1.0, 1.0)})
    return Differentiable("bowl", space, evaluate, 0.0, {"x": 1.0, "y": 0.2})


@pytest.mark.parametrize("method", ["L-BFGS-B", "L-BFGS-B from the best of 6", "random"])
def test_methods_spend_the_budget_and_descents_restart(method: str) -> None:
    run = METHODS[method](bowl(), 0, 40)
    assert len(run.values) == 40
    if method != "random":
        assert min(run.values) < 1e-8
        assert run.restarts > 0


def test_a_descent_from_the_design_begins_where_bo_suite_does() -> None:
    problem = bowl()
    rows = initial_rows(problem.space, 3, 30)
    run = METHODS["L-BFGS-B from the best of 6"](problem, 3, 30)
    without = METHODS[WITHOUT](problem, 3, 8)
    assert run.values[:6] == [problem.encoded(row.numpy())[1] for row in rows]
    assert run.values[6] == min(run.values[:6])
    assert run.values[:2] == without.values[:2]  # a budget of eight has two initial points


def test_ranks_share_ties_up_to_rounding() -> None:
    regret = np.array([[[10.0, 1e-12], [10.0, 2e-12], [10.0, 0.5]], [[10.0, 3.0], [10.0, 2.0], [10.0, 4.0]]])
    assert ranked(regret).tolist() == [[1.5, 1.5, 3.0], [2.0, 1.0, 3.0]]


def test_what_the_file_has_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, int]] = []

    def work(tasks: list[tuple[str, str, int, int]], jobs: int):
        for problem, method, seed, budget in tasks:
            calls.append((method, seed))
            values = [3.0, 2.0, 1.0 + seed + (method != OURS)]
            key = {"part": "regret", "problem": problem, "method": method, "seed": seed, "budget": budget}
            failures = [[2, "NotPSDError"]] if method != OURS else []
            yield key | {"dim": 2, "minimum": 1.0, "values": values, "failures": failures}

    monkeypatch.setattr(gradients, "work", work)
    options = Namespace(out=tmp_path / "rows.jsonl", functions=["f"], methods=[OURS, "other"], budget=3)
    for count in (1, 2):
        gradients.run(Namespace(**vars(options), seeds=range(count), jobs=1))
    assert calls == [(OURS, 0), ("other", 0), (OURS, 1), ("other", 1)]
    ask = {"part": "seconds", "method": OURS, "n": 50, "dim": 10}
    ask |= {"cold": [(0.4, 0.3)], "warm": [(0.2, 0.1)] * 2, "steps": []}
    gradients.add(options.out, ask)
    capsys.readouterr()
    report(gradients.read(options.out))
    shown = capsys.readouterr().out
    assert "| f | 2 | 2 | 0.5 (0.25 to 0.75) | 1 (1 to 1) |" in shown
    assert f"| {OURS} | n = 50, d = 10 | 1 | 0.400 (0.300) | 0.200 (0.100) | - |" in shown
    assert "other: 2 suggestions failed in 2 runs (f n = 2, f n = 2)" in shown
