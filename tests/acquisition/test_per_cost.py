"""An acquisition per expected cost."""

from dataclasses import replace

import pytest
import torch

from bo_suite.acquisition import AdaptiveImprovement, LogExpectedImprovement, PerCost
from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import WarmStart
from bo_suite.testing import check_acquisition

SEEDS = Seeds((1,))


def some_data(seconds=True):
    x = SEEDS.sobol(14, torch.zeros(1, 2, dtype=torch.float64))
    y = (x - 0.4).square().sum(-1)
    y = (y - y.mean()) / y.std(correction=0)
    curves = Curves(
        x, torch.ones(1, dtype=torch.float64), y[:, None], (3.0 * x[:, 0]).exp() if seconds else None
    )
    return Dataset(x, y, curves=curves)


def test_it_is_the_score_less_the_log_of_the_expected_cost():
    data = some_data()
    score = PerCost(LogExpectedImprovement(), 0.7).build(data, SEEDS)
    inner = LogExpectedImprovement().build(data, SEEDS)
    x = SEEDS.split("rows").sobol(20, data.x)
    difference = inner(x) - score(x)
    log_cost = 3.0 * x[:, 0]  # of a step, which the costs' process has learnt up to its mean
    centred = log_cost - 3.0 * data.x[:, 0].mean()
    assert torch.allclose(difference, 0.7 * centred, atol=0.03)


def test_an_exponent_of_zero_ignores_costs():
    data = some_data()
    x = SEEDS.split("rows").sobol(20, data.x)
    score, inner = PerCost(exponent=0.0).build(data, SEEDS), AdaptiveImprovement().build(data, SEEDS)
    assert torch.allclose(score(x), inner(x))


@pytest.mark.parametrize("change", ["none", "nan", "equal", "no curves"])
def test_unknown_costs_change_nothing(change):
    data = some_data(change != "none")
    if change == "no curves":
        data = replace(data, curves=None)
    elif change != "none":
        value = float("nan") if change == "nan" else 2.0
        data = replace(data, curves=replace(data.curves, seconds=torch.full_like(data.y, value)))
    x = SEEDS.split("rows").sobol(20, data.x)
    score, inner = PerCost().build(data, SEEDS), AdaptiveImprovement().build(data, SEEDS)
    assert torch.equal(score(x), inner(x))


def test_the_next_fit_starts_where_this_one_ended():
    data = some_data()
    score = PerCost().build(data, SEEDS)
    start = WarmStart(score.hyperparameters, data.x.shape[-2])
    again = PerCost().build(data, SEEDS, start)
    assert again.hyperparameters.shape == score.hyperparameters.shape
    x = SEEDS.split("rows").sobol(20, data.x)
    assert torch.allclose(again(x), score(x), atol=0.05)


def test_the_gradient_is_that_of_the_score():
    data = some_data()
    score = PerCost(LogExpectedImprovement()).build(data, SEEDS)
    x = torch.tensor([[0.3, 0.6]], dtype=torch.float64, requires_grad=True)
    score(x).sum().backward()
    for column in range(2):
        step = torch.zeros(1, 2, dtype=torch.float64)
        step[0, column] = 1e-6
        with torch.no_grad():
            slope = (score(x + step) - score(x - step)) / 2e-6
        assert float(x.grad[0, column]) == pytest.approx(float(slope[0]), rel=1e-4, abs=1e-5)


def test_a_negative_exponent_is_refused():
    with pytest.raises(DataError):
        PerCost(exponent=-1.0)


def test_it_is_an_acquisition():
    check_acquisition(PerCost(LogExpectedImprovement()))
