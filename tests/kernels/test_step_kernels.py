"""The kernels over steps against sampled decays, autograd and finite differences."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.kernels import Decay, ExponentialDecay, Kernel, KernelWithMean, Matern52, StepKernel
from bo_suite.kernels.decay import Mixture
from bo_suite.surrogates import ExactGP

DIM = 3
CLOSE: Any = {"atol": 1e-7, "rtol": 1e-6}
KERNEL = ExponentialDecay(Matern52())


def rows(count: int, *batch: int, seed: int = 0) -> Tensor:
    return torch.rand(*batch, count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def thetas(*batch: int, seed: int = 5) -> Tensor:
    start = KERNEL.start(DIM)
    noise = torch.randn(
        *batch, len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return start + 0.5 * noise


def slope_by(theta: Tensor, function: object) -> Tensor:
    """Central differences of a number by each entry of theta."""
    assert callable(function)
    slopes = []
    for index in range(len(theta)):
        step = torch.zeros_like(theta)
        step[index] = 1e-6
        slopes.append((function(theta + step) - function(theta - step)) / 2e-6)
    return torch.stack(slopes)


def test_the_mixture_is_the_mean_of_decays() -> None:
    """E exp(-λ r) by quadrature over the gamma density."""
    shape, rate = 1.7, 0.6
    beta = shape / rate
    grid = torch.linspace(1e-9, 60.0, 400_001, dtype=torch.float64)
    log_density = shape * math.log(beta) - math.lgamma(shape) + (shape - 1.0) * grid.log() - beta * grid
    for r in (0.0, 0.3, 1.0, 2.0):
        expected = torch.trapezoid(torch.exp(log_density - grid * r), grid)
        numbers = (torch.tensor(each, dtype=torch.float64) for each in (math.log(shape), math.log(rate), r))
        assert_close(Mixture.of(*numbers).value, expected, rtol=1e-5, atol=0.0)


def test_moments_are_those_of_a_level_and_a_random_decay() -> None:
    """Cov and mean of γ exp(-λ r), by the formula of the notes, and the kernel of the configurations."""
    x, z, theta = rows(6), rows(4, seed=1), thetas()
    alpha, rate, gamma = theta[-3:].exp()
    beta = alpha / rate

    def kappa(r: Tensor) -> Tensor:
        return (beta / (r + beta)) ** alpha

    r, s = x[:, -1], z[:, -1]
    decay = gamma**2 * (kappa(r[:, None] + s) - kappa(r)[:, None] * kappa(s))
    expected = Matern52().joint(theta[:-3], x[:, :-1], z[:, :-1])[0] + decay
    assert_close(KERNEL.cross(theta, x, z)[0], expected)
    assert_close(KERNEL.joint(theta, x, z)[0], expected)
    assert_close(KERNEL.gram(theta, x)[0].diagonal(), KERNEL.diagonal(theta, x))
    assert_close(KERNEL.gram(theta, x)[0], KERNEL.cross(theta, x, x)[0])
    assert_close(KERNEL.prior_mean(theta, x)[0], gamma * kappa(r))


@pytest.mark.parametrize("seed", range(5))
def test_matrices_are_positive_semidefinite(seed: int) -> None:
    x = rows(30, 4, seed=seed)
    x[..., 10:20, :] = x[..., :10, :]  # equal rows
    x[..., 20:, :-1] = x[..., :10, :-1]  # equal configurations
    x[..., 0, -1] = 0.0
    wide = 3.0 * torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    theta = (KERNEL.start(DIM) + wide).clamp(*KERNEL.bounds(DIM))
    k = KERNEL.gram(theta, x)[0]
    assert bool((torch.linalg.eigvalsh(k).amin(-1) > -1e-12 * k.diagonal(dim1=-2, dim2=-1).amax(-1)).all())
    steps = x[0, :, -1].sort().values
    of_decay = torch.cat((theta[:, -3:], torch.zeros(4, 1, dtype=torch.float64)), -1)
    k = Decay().gram(of_decay, steps)[0]
    assert bool((torch.linalg.eigvalsh(k).amin(-1) > -1e-12 * k.diagonal(dim1=-2, dim2=-1).amax(-1)).all())


def test_gradients_agree_with_autograd_and_finite_differences() -> None:
    x, z, theta = rows(6), rows(4, seed=1), thetas()
    weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    by_theta, by_x, by_z = KERNEL.joint(theta, x, z)[1](weights)
    assert_close(KERNEL.cross(theta, x, z)[1](weights), by_x)
    leaves = [each.clone().requires_grad_() for each in (theta, x, z)]
    alpha, rate, gamma = leaves[0][-3:].exp()
    beta = alpha / rate
    r, s = leaves[1][:, -1], leaves[2][:, -1]
    sums, left, right = ((beta / (each + beta)) ** alpha for each in (r[:, None] + s, r, s))
    decay = (weights * gamma**2 * (sums - left[:, None] * right)).sum()
    own = torch.autograd.grad(decay, leaves)
    inner = Matern52().joint(theta[:-3], x[:, :-1], z[:, :-1])[1](weights)
    assert_close(by_theta, own[0] + torch.cat((inner[0], torch.zeros(3, dtype=torch.float64))))
    for mine, autograd, of_inner in ((by_x, own[1], inner[1]), (by_z, own[2], inner[2])):
        assert_close(mine, autograd + torch.cat((of_inner, torch.zeros_like(of_inner[:, :1])), -1))

    symmetric = weights[:4] + weights[:4].mT
    gram = KERNEL.gram(theta, z)[1](symmetric)
    assert_close(
        gram, slope_by(theta, lambda t: (KERNEL.gram(t, z)[0] * symmetric).sum()), atol=1e-7, rtol=1e-6
    )
    row = weights[:4, 0]
    mean = KERNEL.prior_mean(theta, z)[1](row)
    assert_close(mean, slope_by(theta, lambda t: KERNEL.prior_mean(t, z)[0] @ row), **CLOSE)
    diagonal = KERNEL.diagonal_gradient(theta, z, row)
    expected = slope_by(theta, lambda t: KERNEL.diagonal(t, z) @ row)
    assert_close(diagonal[0], expected, **CLOSE)
    flat = slope_by(z.flatten(), lambda each: KERNEL.diagonal(theta, each.reshape(4, DIM)) @ row)
    assert_close(diagonal[1].flatten(), flat, **CLOSE)


def test_gradients_of_decays_and_priors_agree_with_finite_differences() -> None:
    steps = torch.linspace(0.1, 1.0, 5, dtype=torch.float64)
    theta = Decay().start() + torch.tensor([0.3, -0.4, 0.2, 0.7], dtype=torch.float64)
    weights = torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    symmetric = weights + weights.mT
    decay = Decay()
    slope = slope_by(theta, lambda t: (decay.gram(t, steps)[0] * symmetric).sum())
    assert_close(decay.gram(theta, steps)[1](symmetric), slope, **CLOSE)
    slope = slope_by(theta, lambda t: decay.log_prior(t)[0])
    assert_close(decay.log_prior(theta)[1], slope, **CLOSE)
    slope = slope_by(theta, lambda t: decay.prior_mean(t, steps)[0] @ weights[0])
    assert_close(decay.prior_mean(theta, steps)[1](weights[0]), slope, **CLOSE)
    wide = thetas()
    slope = slope_by(wide, lambda t: KERNEL.log_prior(t, DIM)[0])
    assert_close(KERNEL.log_prior(wide, DIM)[1], slope, **CLOSE)


def test_replicates_equal_each_alone() -> None:
    x, z, theta = rows(5, 3), rows(4, 3, seed=1), thetas(3)
    weights = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    k, pullback = KERNEL.joint(theta, x, z)
    together = pullback(weights)
    mean, by_mean = KERNEL.prior_mean(theta, x)
    for index in range(3):
        alone, pull = KERNEL.joint(theta[index], x[index], z[index])
        assert_close(k[index], alone)
        for both, one in zip(together, pull(weights[index]), strict=True):
            assert_close(both[index], one)
        assert_close(mean[index], KERNEL.prior_mean(theta[index], x[index])[0])
        row = weights[index, :, 0]
        assert_close(by_mean(weights[..., 0])[index], KERNEL.prior_mean(theta[index], x[index])[1](row))


def test_protocols() -> None:
    assert isinstance(KERNEL, Kernel)
    assert isinstance(KERNEL, KernelWithMean)
    assert not isinstance(Matern52(), KernelWithMean)
    assert isinstance(Decay(), StepKernel)


def test_exact_regression_has_the_mean_of_the_kernel() -> None:
    """Evidence and its gradient at random hyperparameters, against the dense density."""
    x = rows(12)
    y = torch.sin(3.0 * x[:, 0]) + 0.5 * torch.exp(-2.0 * x[:, -1])
    data, surrogate = Dataset(x, y), ExactGP(KERNEL, mean=0.3)
    hyperparameters = torch.cat((thetas(), torch.tensor([-4.0], dtype=torch.float64)))

    def density(each: Tensor) -> Tensor:
        theta, noise = each[:-1], each[-1].exp()
        k = KERNEL.gram(theta, x)[0] + noise * torch.eye(12, dtype=torch.float64)
        normal = torch.distributions.MultivariateNormal(KERNEL.prior_mean(theta, x)[0] + 0.3, k)
        noise_prior = -torch.log1p((each[-1] + 6.0).square())
        return normal.log_prob(y) + KERNEL.log_prior(theta, DIM)[0] + noise_prior

    value, gradient = surrogate.log_posterior(data, hyperparameters)
    assert_close(value, density(hyperparameters))
    assert_close(gradient, slope_by(hyperparameters, density), atol=1e-6, rtol=1e-6)

    process = surrogate.process(data, hyperparameters)
    test = rows(4, seed=3)
    theta, noise = hyperparameters[:-1], hyperparameters[-1].exp()
    k = KERNEL.gram(theta, x)[0] + noise * torch.eye(12, dtype=torch.float64)
    residual = y - 0.3 - KERNEL.prior_mean(theta, x)[0]
    cross = KERNEL.cross(theta, test, x)[0]
    expected = 0.3 + KERNEL.prior_mean(theta, test)[0] + cross @ torch.linalg.solve(k, residual)
    assert_close(process.mean(test), expected)
    assert_close(process.condition(test, expected).mean(test), expected)
    leaf = test.clone().requires_grad_()
    (by_row,) = torch.autograd.grad(process.mean(leaf).sum(), leaf)
    flat = slope_by(test.flatten(), lambda each: process.mean(each.reshape(4, DIM)).sum())
    assert_close(by_row.flatten(), flat, atol=1e-6, rtol=1e-6)


def test_a_fit_is_better_than_its_start() -> None:
    x = rows(25)
    y = torch.sin(3.0 * x[:, 0]) + 0.8 * torch.exp(-3.0 * x[:, -1])
    data, surrogate = Dataset(x, (y - y.mean()) / y.std()), ExactGP(KERNEL)
    process = surrogate.fit(data, Seeds.of(0, 0))
    assert float(surrogate.log_posterior(data, process.hyperparameters)[0]) > float(
        surrogate.log_posterior(data, surrogate.start(data))[0]
    )
    assert float(process.prior_mean(torch.zeros(1, DIM, dtype=torch.float64))) > float(
        process.prior_mean(torch.ones(1, DIM, dtype=torch.float64))
    )
