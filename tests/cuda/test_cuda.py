"""The same numbers on a CUDA device as on the CPU."""

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import NoisyExpectedImprovement
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP
from bo_suite.testing.data import dataset, rows

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def to_cuda(data: Dataset) -> Dataset:
    return Dataset(data.x.cuda(), data.y.cuda(), None, data.pending.cuda(), data.unordered)


def test_a_fit_and_a_score_agree_with_the_cpu() -> None:
    data, test, seeds = dataset(20, 4), rows(6, 4, seed=3), Seeds((1, 2, 3, 4), (4,))
    here = ExactGP().fit(data, seeds)
    there = ExactGP().process(to_cuda(data), here.hyperparameters.cuda())
    assert there.mean(test.cuda()).is_cuda
    assert_close(there.mean(test.cuda()).cpu(), here.mean(test), rtol=1e-7, atol=1e-7)
    assert_close(there.cov(test.cuda(), test.cuda()).cpu(), here.cov(test, test), rtol=1e-7, atol=1e-7)
    score = NoisyExpectedImprovement().build(to_cuda(data), seeds)
    assert bool(torch.isfinite(score(test.cuda())).all())


def test_an_optimiser_runs_on_the_device() -> None:
    space = Space({"x": Float(-1, 2), "n": Int(1, 5), "k": Choice(["a", "b"])})
    optimizer = Optimizer(space, device="cuda")
    for _ in range(12):
        trial = optimizer.ask()
        optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2 + abs(trial.params["n"] - 2))
    assert optimizer.best.value < 0.1
