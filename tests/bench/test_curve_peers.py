"""Optuna's pruners and Syne Tune's halving in simulated time."""

import random

import numpy as np
import pytest

from bo_suite.bench.peers.optuna_pruning import (
    OptunaPruning,
    halving_pruner,
    hyperband_pruner,
    median_pruner,
)
from bo_suite.bench.peers.syne_tune_halving import SyneTuneHalving
from bo_suite.bench.simulation import CurveMethod, CurveTask, Simulation, simulate
from bo_suite.problems.curves import SlowStarters

OPTUNA = [
    OptunaPruning("hyperband", hyperband_pruner),
    OptunaPruning("halving", halving_pruner),
    OptunaPruning("median", median_pruner),
]


def run(method: CurveMethod, seconds: float = 150.0) -> Simulation:
    problem = SlowStarters(9)
    return simulate(problem, method.start_curves(CurveTask.of(problem, 3)), workers=2, seconds=seconds)


@pytest.mark.parametrize("method", OPTUNA, ids=lambda method: method.name)
def test_pruners_of_optuna_stop_trials_and_are_reproducible(method: OptunaPruning) -> None:
    pytest.importorskip("optuna")
    state = random.getstate()
    first = run(method)
    assert random.getstate() == state
    assert {trial.fate for trial in first.trials} == {"finished", "stopped", "running"}
    assert run(method) == first


@pytest.mark.parametrize("scheduler", ["ASHA", "BOHB", "ASHABORE", "ASHACQR"])
def test_schedulers_of_syne_tune_stop_trials_and_are_reproducible(scheduler: str) -> None:
    for module in ("syne_tune", "xgboost", "huggingface_hub"):
        pytest.importorskip(module)
    first = run(SyneTuneHalving(scheduler, scheduler), seconds=60.0)
    assert {"finished", "stopped"} <= {trial.fate for trial in first.trials}
    assert run(SyneTuneHalving(scheduler, scheduler), seconds=60.0) == first


def test_points_of_a_peer_do_not_depend_on_the_seeds_of_the_process() -> None:
    pytest.importorskip("optuna")
    first = run(OPTUNA[0], seconds=60.0)
    np.random.seed(11)  # noqa: NPY002 (the generator that libraries draw from)
    assert run(OPTUNA[0], seconds=60.0) == first
