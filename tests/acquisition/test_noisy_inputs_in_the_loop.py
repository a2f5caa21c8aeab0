"""The default acquisition where inputs have noise: it improves the function averaged over it."""

from dataclasses import replace

import torch
from torch.testing import assert_close

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates.averaged import AveragedProcess

F64 = torch.float64
SEEDS = Seeds.of(0, 0)


def data(std: float, pending: int = 0) -> Dataset:
    x = torch.rand(12, 2, dtype=F64, generator=torch.Generator("cpu").manual_seed(0))
    y = torch.sin(6.0 * x[:, 0]) + x[:, 1]
    deviations = torch.tensor([std, 0.0], dtype=F64).expand(12, 2).clone()
    deviations[0] = 0.0
    return Dataset(x, y, pending=x[:pending] * 0.9, x_std=deviations)


def test_the_average_is_improved_beyond_its_smallest_mean() -> None:
    of = data(0.1)
    score = AdaptiveImprovement().build(of, SEEDS)
    assert isinstance(score.process, AveragedProcess)
    assert_close(score.best, score.process.mean(of.x).amin(-1, keepdim=True))
    row = torch.rand(5, 2, dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(row).sum(), row)
    assert bool(gradient.isfinite().all())
    waiting = AdaptiveImprovement().build(data(0.1, pending=2), SEEDS)
    assert waiting(row).shape == (5,)
    assert bool((waiting.process.var(0.9 * of.x[:2]) < score.process.var(0.9 * of.x[:2])).all())


def test_derivatives_at_noisy_inputs_lead_to_no_descent() -> None:
    of = replace(data(0.1), gradient=torch.ones(12, 2, dtype=F64))
    assert isinstance(AdaptiveImprovement().build(of, SEEDS).process, AveragedProcess)


def test_exact_inputs_are_as_if_nothing_was_said_of_noise() -> None:
    x = torch.rand(6, 2, dtype=F64, generator=torch.Generator("cpu").manual_seed(1))
    told, untold = (
        AdaptiveImprovement().build(each, SEEDS) for each in (data(0.0), replace(data(0.0), x_std=None))
    )
    assert torch.equal(told(x), untold(x))


def test_a_loop_with_noisy_settings_does_not_stay_where_it_began() -> None:
    optimizer = Optimizer(Space({"x": Float(0, 10)}), seed=1)
    noise = torch.randn(14, dtype=F64, generator=torch.Generator("cpu").manual_seed(0)).tolist()
    for one in noise:
        trial = optimizer.ask()
        optimizer.tell(trial, (trial.params["x"] + 0.6 * one - 4.0) ** 2, params_std={"x": 0.6})
    rows = [trial.params["x"] for trial in optimizer.trials[6:]]
    assert len({round(row, 1) for row in rows}) >= 3
    assert abs(optimizer.recommend(robust={"x": 0.6})["x"] - 4.0) < 1.0
