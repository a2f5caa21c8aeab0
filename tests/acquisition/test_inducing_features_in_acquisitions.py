"""Every acquisition takes a sparse process of any inducing variables."""

from pathlib import Path

import pytest
import torch

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.acquisition import (
    Acquisition,
    KnowledgeGradient,
    LogExpectedHypervolumeImprovement,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.data import Seeds
from bo_suite.surrogates import SGPR
from bo_suite.surrogates.features import Activations, Orthogonal, SphericalHarmonics
from bo_suite.testing.data import dataset, rows

FEATURES = {
    "harmonics": SphericalHarmonics(count=12),
    "units": Activations(8),
    "orthogonal": Orthogonal(SphericalHarmonics(degree=1), 4),
}
KINDS = (
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
    KnowledgeGradient,
    ThompsonSampling,
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FEATURES)
def test_a_score_of_features_has_the_gradient_of_differences(name: str, kind: type[Acquisition]) -> None:
    acquisition = kind(surrogate=SGPR(inducing=FEATURES[name]))  # type: ignore[call-arg]
    score = acquisition.build(dataset(10, pending=2), Seeds.of(0, 0))
    x = rows(4, seed=3)
    leaf = x.clone().requires_grad_()
    value = score(leaf)
    assert bool(torch.isfinite(value).all())
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    for column in range(2):
        step = torch.zeros(3, dtype=torch.float64)
        step[column] = 1e-6
        with torch.no_grad():
            slope = (score(x + step) - score(x - step)) / 2e-6
        assert bool(((gradient[:, column] - slope).abs() < 1e-3 * (1.0 + slope.abs())).all())


def test_a_stored_run_with_features_goes_on_as_it_would_have(tmp_path: Path) -> None:
    space = Space({"a": Float(0, 1), "b": Float(1e-3, 1, log=True), "c": Choice(["u", "v", "w"])})
    acquisition = LogExpectedImprovement(surrogate=SGPR(inducing=FEATURES["orthogonal"]))

    def told(storage: str | None) -> Optimizer:
        optimizer = Optimizer(space, acquisition=acquisition, seed=3, storage=storage)
        for value in (0.3, 0.1, 0.7, 0.2, 0.5):
            optimizer.tell(optimizer.ask(), value)
        return optimizer

    kept = told(None)
    told(str(tmp_path / "run.db"))
    resumed = Optimizer.resume(tmp_path / "run.db")
    assert [each.params for each in resumed.ask(2)] == [each.params for each in kept.ask(2)]


def test_several_objectives_are_modelled_by_features() -> None:
    space = Space({"a": Float(0, 1), "b": Float(0, 1)})
    acquisition = LogExpectedHypervolumeImprovement(surrogate=SGPR(inducing=FEATURES["harmonics"]))
    directions = {"cost": "minimize", "gain": "maximize"}
    optimizer = Optimizer(space, acquisition=acquisition, seed=0, direction=directions)
    for _ in range(6):
        trial = optimizer.ask()
        optimizer.tell(trial, {"cost": trial.params["a"], "gain": trial.params["b"]})
    assert optimizer.pareto
