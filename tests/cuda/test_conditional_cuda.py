"""The conditional kernel gives the same numbers on a CUDA device as on the CPU."""

import pytest
import torch
from torch.testing import assert_close

from bo_suite.data import Columns, Condition, Seeds
from bo_suite.kernels import Conditional, Matern52

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CONDITIONS = (Condition(2, ((0, ((0.0, 0.0),)),)), Condition(3, ((0, ((1.0, 1.0),)), (1, ((0.0, 0.4),)))))


def test_matrices_gradients_and_features_agree_with_the_cpu() -> None:
    x = torch.rand(2, 30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[..., 0] = x[..., 0].round()
    x = torch.where(Columns(conditions=CONDITIONS).active(x), x, 0.0)
    kernel, weights = Conditional(Matern52((0,)), CONDITIONS), torch.ones(2, 30, 30, dtype=torch.float64)
    theta = kernel.start(4).expand(2, -1)
    here, pull_here = kernel.joint(theta, x, x)
    there, pull_there = kernel.joint(theta.cuda(), x.cuda(), x.cuda())
    assert_close(there.cpu(), here)
    for left, right in zip(pull_there(weights.cuda()), pull_here(weights), strict=True):
        assert_close(left.cpu(), right)
    prior = kernel.log_prior(theta.cuda(), 4)[1]
    assert_close(prior.cpu(), kernel.log_prior(theta, 4)[1])
    seeds = Seeds((1, 2), (2,))
    values = kernel.features(theta.cuda(), 50, 4, seeds)[0](x.cuda())
    assert_close(values.cpu(), kernel.features(theta, 50, 4, seeds)[0](x))
