"""Messages give the same numbers on a CUDA device as on the CPU."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.kernels import SquaredExponential
from bo_suite.surrogates.messages import (
    GammaPrecision,
    OperatorOutputs,
    Outputs,
    ScalarOutputs,
    StreamingGP,
    VectorOutputs,
    fit_hyperparameters,
    locate_inputs,
    values_and_gradients,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def rows(n: int, seed: int) -> Tensor:
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def started(outputs: Outputs, width: int, device: str) -> StreamingGP:
    theta = torch.tensor([-0.9, -0.9, 0.0], dtype=torch.float64, device=device)
    shape, rate = (torch.tensor(each, dtype=torch.float64, device=device) for each in (2.0, 0.1))
    inducing = rows(12, seed=1).to(device)
    return StreamingGP.start(
        SquaredExponential(), theta, inducing, outputs, GammaPrecision(shape, rate, width)
    )


@pytest.mark.parametrize(
    ("outputs", "width"),
    [
        (ScalarOutputs(0.2), 1),
        (VectorOutputs(torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)), 3),
        (OperatorOutputs(values_and_gradients), 3),
    ],
)
def test_streams_agree_with_the_cpu(outputs: Outputs, width: int) -> None:
    x = rows(20, seed=2)
    y = torch.stack((torch.sin(4.0 * x[:, 0]), 4.0 * torch.cos(4.0 * x[:, 0]), 0.0 * x[:, 1]), -1)[:, :width]
    if width == 1:
        y = y[:, 0]
    here, there = (
        started(outputs, width, device).observed(x[:9].to(device), y[:9].to(device))
        for device in ("cpu", "cuda")
    )
    here = here.observed(x[9:], y[9:]).converged()
    there = there.observed(x[9:].cuda(), y[9:].cuda()).converged()
    assert there.process.mean(x.cuda()).is_cuda if width == 1 else there.bound.is_cuda
    assert_close(there.bound.cpu(), here.bound, **CLOSE)
    assert_close(there.noise.mean.cpu(), here.noise.mean, **CLOSE)
    learnt = [
        fit_hyperparameters(started(outputs, width, device), x.to(device), y.to(device), 5)
        for device in ("cpu", "cuda")
    ]
    assert_close(learnt[1].basis.theta.cpu(), learnt[0].basis.theta, rtol=1e-4, atol=1e-4)


def test_located_inputs_agree_with_the_cpu() -> None:
    x = rows(20, seed=2)
    y, std = torch.sin(4.0 * x[:, 0]), torch.full_like(x, 0.05)
    here, there = (
        locate_inputs(started(ScalarOutputs(), 1, device), x.to(device), y.to(device), std.to(device))
        for device in ("cpu", "cuda")
    )
    assert_close(there.mean.cpu(), here.mean, rtol=1e-4, atol=1e-4)
    assert_close(there.process.bound.cpu(), here.process.bound, rtol=1e-4, atol=1e-4)
