"""Gradients of scores, without which a search stops where it begins: finite everywhere, and right."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bo_suite import Float, Space
from bo_suite.acquisition import (
    Acquisition,
    AdaptiveImprovement,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.acquisition.likely import build_score
from bo_suite.data import Dataset, Seeds
from bo_suite.study.observations import dataset_of

SPACE = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
ACQUISITIONS = (
    AdaptiveImprovement(),
    AdaptiveImprovement(patience=1),
    LogExpectedImprovement(),
    NoisyExpectedImprovement(),
    UpperConfidenceBound(),
)


def draws(count: int, columns: int, seed: int) -> Tensor:
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data_of(noise: float, pending: bool) -> Dataset:
    """Thirty observations of a bowl."""
    x = draws(30, 2, 0)
    y = (x - 0.3).square().sum(-1)
    data = dataset_of(SPACE, x, y + noise * (draws(30, 1, 1).squeeze(-1) - 0.5))
    return replace(data, pending=draws(2, 2, 2)) if pending else data


@pytest.mark.parametrize("acquisition", ACQUISITIONS, ids=str)
@pytest.mark.parametrize("pending", [False, True], ids=["none pending", "pending"])
@pytest.mark.parametrize("noise", [0.0, 0.5], ids=["without noise", "with noise"])
def test_gradients_equal_finite_differences(acquisition: Acquisition, noise: float, pending: bool) -> None:
    data = data_of(noise, pending)
    score = build_score(acquisition, data, Seeds.of(0, 9))
    x = draws(6, 2, 3)
    leaf = torch.cat((x, data.x[:3])).requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    assert bool(gradient.isfinite().all())
    steps = 1e-6 * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        slopes = [(score(x + step) - score(x - step)) / 2e-6 for step in steps]
    torch.testing.assert_close(gradient[:6], torch.stack(slopes, -1), rtol=1e-3, atol=1e-3)
