"""Sites and Riemannian steps: laws, the exact posterior, and batches."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import DataError, NumericalError
from bo_suite.surrogates.variational.natural import conjugate_sites, riemannian_step

DOUBLE = torch.float64


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def spd(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    root = draws(*shape, shape[-1], seed=seed, dtype=dtype)
    return root @ root.mT + 0.5 * torch.eye(shape[-1], dtype=dtype)


def test_the_sites_of_a_gaussian_likelihood_make_the_exact_posterior() -> None:
    cov, mean, noise, y = spd(5), draws(5, seed=1), draws(5, seed=2).square() + 0.1, draws(5, seed=3)
    anywhere = draws(5, seed=4)
    linear, precision = conjugate_sites((y - anywhere) / noise, -1.0 / noise, anywhere)
    posterior = torch.linalg.inv(torch.linalg.inv(cov) + precision.diag())
    gain = torch.linalg.solve(cov + noise.diag(), cov).mT
    assert_close(posterior, cov - gain @ cov)
    assert_close(posterior @ (torch.linalg.solve(cov, mean) + linear), mean + gain @ (y - mean))


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.1, math.nan])
def test_a_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(DataError, match="`0 < rate <= 1` must hold, got"):
        riemannian_step(spd(3), spd(3), rate)


def test_a_precision_that_is_not_positive_definite_is_refused_and_not_jittered() -> None:
    with pytest.raises(NumericalError, match="precision must be positive definite, but it is not"):
        riemannian_step(-spd(3), spd(3), 0.5)
    pair = torch.diag_embed(torch.tensor([[2.0, 2.0], [2.0, -2e-9]], dtype=DOUBLE))
    with pytest.raises(NumericalError, match="batch element 1"):
        riemannian_step(pair, pair, 0.5)


def test_a_step_stays_definite_where_the_damped_step_does_not() -> None:
    precision, root = spd(4, 5), draws(4, 5, 5, seed=1)
    target = 10.0 * (root + root.mT)
    for rate in (0.3, 1.0):
        plain = torch.linalg.eigvalsh((1.0 - rate) * precision + rate * target)
        assert bool((plain[..., 0] < -1.0).all())
        step = riemannian_step(precision, target, rate)
        assert bool((torch.linalg.eigvalsh(step - 0.5 * precision)[..., 0] > -1e-9).all())
        assert_close(step, step.mT, atol=0.0, rtol=0.0)


def test_a_step_is_the_damped_step_to_first_order() -> None:
    precision, root = spd(4, 5), draws(4, 5, 5, seed=1)
    direction = root + root.mT - precision
    curvature = 0.5 * direction @ torch.linalg.solve(precision, direction)
    for rate in (1.0, 1e-1, 1e-3):
        step = riemannian_step(precision, precision + direction, rate)
        assert_close((step - precision - rate * direction) / rate**2, curvature, atol=1e-8, rtol=1e-6)
    assert_close(riemannian_step(precision, precision, 0.7), precision)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batches_equal_their_elements_one_by_one(dtype: torch.dtype) -> None:
    precision, target = spd(2, 3, 4, seed=2, dtype=dtype), spd(2, 3, 4, seed=3, dtype=dtype)
    together = riemannian_step(precision, target - 3.0 * precision, 0.3)
    assert together.dtype == dtype
    for i in range(2):
        for j in range(3):
            alone = riemannian_step(precision[i, j], target[i, j] - 3.0 * precision[i, j], 0.3)
            assert_close(together[i, j], alone)
