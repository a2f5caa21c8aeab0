"""The chance that an outcome is repeated: its formula, fit and gradient, and what the default makes of it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.acquisition.plateaus import Plateaus
from bo_suite.data import Dataset, Seeds
from bo_suite.study.observations import dataset_of
from bo_suite.surrogates import AutoGP, ExactGP

SPACE = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
SEEDS = Seeds.of(0, 9)


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps(x: Tensor) -> Tensor:
    """A bowl in steps; the best step is the disk of radius 0.22 about (0.3, 0.3)."""
    return (20.0 * (x - 0.3).square().sum(-1)).floor()


def stepped(count: int = 30) -> Dataset:
    x = rows(count)
    return dataset_of(SPACE, x, steps(x))


def plateaus_of(data: Dataset) -> Plateaus:
    found = Plateaus.of(ExactGP().fit(data, SEEDS).basis, data)
    assert found is not None
    return found


def test_without_ties_there_is_none() -> None:
    x = rows(30)
    data = dataset_of(SPACE, x, (x - 0.3).square().sum(-1))
    assert Plateaus.of(ExactGP().fit(data, SEEDS).basis, data) is None


def test_the_chance_is_a_power_of_the_largest_correlation_and_the_outcome_is_its() -> None:
    data, probes = stepped(), rows(20, 3)
    plateaus = plateaus_of(data)
    kernel, theta = plateaus.basis.kernel, plateaus.basis.theta
    correlation = kernel.cross(theta, probes, data.x)[0] / theta[-1].exp()
    expected = correlation.amax(-1) ** plateaus.power
    chance, outcome = plateaus(probes)
    torch.testing.assert_close(chance, expected)
    assert torch.equal(outcome, data.y[correlation.argmax(-1)])
    at_data = plateaus(data.x)
    assert bool((at_data.chance > 1.0 - 1e-6).all())
    assert torch.equal(at_data.outcome, data.y)


def test_the_power_is_the_best_of_a_fine_grid() -> None:
    data = stepped()
    plateaus = plateaus_of(data)
    correlation = plateaus.basis.kernel.gram(plateaus.basis.theta, data.x)[0] / plateaus.basis.scale
    others = correlation.masked_fill(torch.eye(30, dtype=torch.bool), -1.0)
    highest, nearest = others.max(-1)
    counted = data.y < data.y.max()
    same = (data.y == data.y[nearest])[counted]
    log_powers = torch.linspace(-4.6, 4.6, 2001, dtype=torch.float64)
    chances = highest[counted] ** log_powers.exp()[:, None]
    values = torch.where(same, chances, 1.0 - chances).log().sum(-1) - 0.5 * (log_powers / 1.5) ** 2
    best = float(log_powers[values.argmax()])
    assert abs(float(plateaus.power.log()) - best) <= 0.5 * 9.2 / 40 + 0.005


def test_the_gradient_by_x_is_right() -> None:
    plateaus = plateaus_of(stepped())
    probes = rows(6, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: plateaus(x).chance, (probes,))


def test_a_replicate_without_ties_has_no_chance() -> None:
    one, x = stepped(), rows(30, 4)
    other = dataset_of(SPACE, x, (x - 0.3).square().sum(-1))
    both = Dataset(torch.stack((one.x, other.x)), torch.stack((one.y, other.y)))
    plateaus = Plateaus.of(ExactGP().fit(both, Seeds.of_each((0, 1), 9)).basis, both)
    assert plateaus is not None
    chance = plateaus(rows(5, 7).expand(2, 5, 2)).chance
    assert bool((chance[0] > 0.0).all())
    assert not bool(chance[1].any())


@pytest.mark.parametrize("pending", [0, 2])
def test_the_default_adds_the_log_chance_of_another_outcome(pending: int) -> None:
    data = stepped()
    best_last = data.y.argsort(descending=True, stable=True)
    data = Dataset(data.x[best_last], data.y[best_last], pending=rows(pending, 8))
    first = int((data.y == data.y.amin()).nonzero()[0])
    data = Dataset(data.x[: first + 1], data.y[: first + 1], pending=data.pending)
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.plateaus is not None
    probes = rows(20, 5)
    plain = replace(score, plateaus=None)
    difference = score(probes) - plain(probes)
    torch.testing.assert_close(difference, torch.log1p(-score.plateaus(probes).chance))
    assert score.notes[0]["surface"] == "steps"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_score_and_its_gradient_are_finite_at_the_observations(dtype: torch.dtype) -> None:
    data = stepped()
    data = Dataset(data.x.to(dtype), data.y.to(dtype))
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.plateaus is not None
    leaf = data.x.clone().requires_grad_()
    value = score(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(gradient).all())
    assert gradient.dtype == dtype


def test_a_sparse_process_knows_the_plateaus_too() -> None:
    data = stepped(60)
    score = AdaptiveImprovement(AutoGP(handover=40, inducing=30)).build(data, SEEDS)
    assert score.plateaus is not None
    plain = replace(score, plateaus=None, escapes=torch.tensor(False))
    assert bool((replace(score, escapes=torch.tensor(False))(data.x) < plain(data.x) - 5.0).all())


def test_an_escape_takes_the_bound_of_the_mixture() -> None:
    x = torch.cat((rows(40)[steps(rows(40)) > 0.0], rows(40, 6)))
    first = int(steps(x).argmin())
    data = dataset_of(SPACE, x[: first + 6], steps(x)[: first + 6])
    score = AdaptiveImprovement().build(data, SEEDS)
    assert score.notes == ({"scale": "as given", "rule": "confidence bound", "surface": "steps"},)
    assert score.plateaus is not None
    probes, draws = rows(20, 5), 400_000
    chance, outcome = score.plateaus(probes)
    mean, var = score.process.mean_and_var(probes)
    generator = torch.Generator().manual_seed(0)
    repeated = torch.rand(draws, 20, generator=generator, dtype=torch.float64) < chance
    latent = mean + var.sqrt() * torch.randn(draws, 20, generator=generator, dtype=torch.float64)
    values = torch.where(repeated, outcome, latent)
    torch.testing.assert_close(score(probes), 2.0 * values.std(0) - values.mean(0), rtol=0.02, atol=0.02)


def two_levels(params: dict[str, Any]) -> float:
    """A wide plateau, and away from it a cone in steps that leads to a lower minimum."""
    a, b = params["a"], params["b"]
    if (a - 0.8) ** 2 + (b - 0.8) ** 2 < 0.1:
        return 0.5
    return round(4.0 * ((a - 0.2) ** 2 + (b - 0.2) ** 2) ** 0.5, 1)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_plateau_is_left(seed: int) -> None:
    """The search once stayed on it for the rest of the run, its outcome predicted exactly on a log scale."""
    optimizer, inside = Optimizer(SPACE, seed=seed), 0
    for _ in range(40):
        trial = optimizer.ask()
        value = two_levels(trial.params)
        inside += value == 0.5
        optimizer.tell(trial, value)
    assert optimizer.best.value is not None
    assert optimizer.best.value < 0.3
    assert inside < 25
