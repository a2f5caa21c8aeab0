"""Runs that are told gradients."""

import logging
from pathlib import Path

import pytest

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.acquisition import Bore, LogExpectedImprovement
from bo_suite.errors import DataError
from bo_suite.kernels import ArcCosine, Zonal
from bo_suite.study.suggest import _say_ignored
from bo_suite.surrogates import ExactGP

SPACE = Space(
    {
        "a": Float(-2.0, 3.0),
        "b": Float(1e-3, 1e1, log=True),
        "c": Float(0.0, 1.0),
        "kind": Choice(["round", "flat"]),
    }
)


def simulated(params: dict) -> tuple[float, dict[str, float]]:
    """A value with its derivatives, in the user's units."""
    a, b, c = params["a"], params["b"], params["c"]
    scale = 1.0 if params["kind"] == "round" else 3.0
    rest = b - 0.2 / (0.1 + b)
    value = scale * ((a - 0.7) ** 2 + 2.0 * (c - 0.3) ** 2 + 0.5 * a * c) + 0.1 * rest**2
    by_b = 0.2 * rest * (1.0 + 0.2 / (0.1 + b) ** 2)
    return value, {
        "a": scale * (2.0 * (a - 0.7) + 0.5 * c),
        "b": by_b,
        "c": scale * (4.0 * (c - 0.3) + 0.5 * a),
    }


def run(count: int, *, gradients: bool, storage: Path | None = None) -> Optimizer:
    optimizer = Optimizer(SPACE, seed=3, storage=storage)
    for _ in range(count):
        trial = optimizer.ask()
        value, gradient = simulated(trial.params)
        optimizer.tell(trial, value, gradient=gradient if gradients else None)
    return optimizer


def test_gradients_lead_to_the_minimum_in_fewer_evaluations() -> None:
    with_gradients, without = run(18, gradients=True), run(18, gradients=False)
    assert with_gradients.best.value < without.best.value
    slopes = simulated(with_gradients.best.params)[1]
    assert max(map(abs, slopes.values())) < 2e-2
    rules = [trial.provenance.get("chosen", {}).get("rule") for trial in with_gradients.trials]
    assert "descent" in rules
    assert "improvement" in rules or "confidence bound" in rules


def test_a_resumed_run_suggests_what_the_uninterrupted_one_would(tmp_path: Path) -> None:
    whole = run(9, gradients=True)
    run(8, gradients=True, storage=tmp_path / "run.db")
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert resumed.ask().params == whole.trials[8].params


def test_an_acquisition_without_use_for_gradients_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    _say_ignored.cache_clear()
    optimizer = Optimizer(SPACE, Bore(), seed=0, initial=2)
    with caplog.at_level(logging.WARNING, "bo_suite"):
        for _ in range(4):
            trial = optimizer.ask()
            value, gradient = simulated(trial.params)
            optimizer.tell(trial, value, gradient=gradient)
    assert sum("Bore does not learn from them" in record.getMessage() for record in caplog.records) == 1


def test_a_kernel_that_is_not_smooth_enough_is_named() -> None:
    rough = LogExpectedImprovement(ExactGP(Zonal(ArcCosine(), categories=((3, 2),))))
    optimizer = Optimizer(SPACE, rough, seed=0, initial=2)
    for _ in range(2):
        trial = optimizer.ask()
        value, gradient = simulated(trial.params)
        optimizer.tell(trial, value, gradient=gradient)
    with pytest.raises(DataError, match="twice differentiable"):
        optimizer.ask()
    assert len(optimizer.trials) == 2
