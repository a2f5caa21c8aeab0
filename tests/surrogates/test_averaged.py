"""Averages of a process over what is really set: beside joint draws, closed forms and finite differences."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Dataset
from bo_suite.errors import DataError
from bo_suite.kernels import SquaredExponential
from bo_suite.surrogates import SGPR, ExactGP, Process
from bo_suite.surrogates.averaged import AveragedProcess, averaged_over
from bo_suite.surrogates.normal_rule import normal_nodes, normal_rule
from bo_suite.surrogates.process import ROWS_AT_ONCE, Hyperparameters

F64 = torch.float64
TIGHT = {"rtol": 1e-9, "atol": 1e-10}
STD = (0.1, 0.0, 0.2)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)


def data(*shape: int) -> Dataset:
    x = rows(*shape, seed=1)
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    return Dataset(x, torch.sin(5.0 * x[..., 0]) + x[..., 1].square() + x[..., 2] + 0.2 * noise)


def theta(*batch: int) -> Tensor:
    base = torch.tensor([-1.0, -0.5, 0.2, 0.4, -2.5], dtype=F64)
    return base + 0.3 * torch.randn(*batch, 5, generator=torch.Generator().manual_seed(4), dtype=F64)


def nodes(x: Tensor) -> Tensor:
    return normal_nodes(x, x.new_tensor(STD).expand_as(x), 16)[0]


def averaged(process: Process) -> AveragedProcess:
    return AveragedProcess(process, nodes, normal_rule(2, 16)[1], process.noise)


class Plain:
    """A process with nothing but what `Process` asks for; its covariance is differentiable by autograd."""

    def __init__(self, process: Process) -> None:
        self._process, self.noise, self.scale = process, process.noise, process.scale
        self.hyperparameters: Hyperparameters = process.hyperparameters

    def mean(self, x: Tensor) -> Tensor:
        return self._process.mean(x)

    def var(self, x: Tensor) -> Tensor:
        return self._process.var(x)

    def mean_and_var(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._process.mean_and_var(x)

    def cov(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._process.cov(x1, x2)

    def condition(self, x: Tensor, y: Tensor, noise: Tensor | None = None) -> Process:
        return self._process.condition(x, y, noise)


def exact() -> Process:
    return ExactGP().process(data(15), theta())


def sparse() -> Process:
    return SGPR().process(data(30), theta(), rows(7, seed=5))


def fantasies() -> Process:
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(6), dtype=F64)
    return exact().condition(rows(2, seed=7), y)


def replicates() -> Process:
    return ExactGP().process(data(2, 12), theta(2))


def plain() -> Process:
    return Plain(exact())


@pytest.mark.parametrize("make", [exact, sparse, fantasies, replicates, plain])
def test_moments_are_those_of_the_weighted_sum_of_values_at_the_nodes(make: Callable[[], Process]) -> None:
    process = make()
    of = averaged(process)
    x = rows(*process.noise.shape, 4, seed=8)
    flat, weights = nodes(x).flatten(-3, -2), of.weights
    with torch.no_grad():
        joint = process.cov(flat, flat).unflatten(-1, (4, -1)).unflatten(-3, (4, -1))
        mean = process.mean(flat).unflatten(-1, (4, -1)) @ weights
        cov = torch.einsum("...akbl,k,l->...ab", joint, weights, weights)
        assert_close(of.mean(x), mean, **TIGHT)
        assert_close(of.cov(x, x), cov, **TIGHT)
        assert_close(of.var(x), cov.diagonal(dim1=-2, dim2=-1), **TIGHT)
        assert_close(of.cov(x, x[..., :2, :]), cov[..., :2], **TIGHT)


@pytest.mark.parametrize("make", [exact, sparse, fantasies, replicates])
def test_gradients_agree_with_finite_differences(make: Callable[[], Process]) -> None:
    of = averaged(make())
    x = rows(*of.noise.shape, 3, seed=9)
    leaf = x.clone().requires_grad_()
    mean, var = of.mean_and_var(leaf)
    (gradient,) = torch.autograd.grad(mean.sum() + 3.0 * var.sum(), leaf)
    for column in range(3):
        step = 1e-5 * torch.eye(3, dtype=F64)[column]
        ends = [of.mean_and_var(x + sign * step) for sign in (1.0, -1.0)]
        ahead, behind = (
            mean.flatten(0, -x.ndim).sum(0) if mean.ndim > var.ndim else mean for mean, var in ends
        )
        slope = (ahead + 3.0 * ends[0][1] - behind - 3.0 * ends[1][1]) / 2e-5
        assert_close(gradient[..., column], slope, rtol=1e-5, atol=1e-6)


def test_the_prior_of_an_averaged_squared_exponential_has_its_closed_form() -> None:
    kernel, far = SquaredExponential(), Dataset(torch.full((1, 3), 9.0, dtype=F64), torch.zeros(1, dtype=F64))
    process = ExactGP(kernel, mean=0.0).process(far, torch.tensor([-0.7, 0.0, -1.0, 0.3, -3.0], dtype=F64))
    x = rows(5, seed=3)
    of = AveragedProcess(
        process,
        lambda x: normal_nodes(x, x.new_tensor(STD).expand_as(x))[0],
        normal_rule(2)[1],
        process.noise,
    )
    square = torch.tensor([-0.7, 0.0, -1.0], dtype=F64).exp().square()
    spread = square + 2.0 * torch.tensor(STD, dtype=F64).square()
    r = (x[:, None] - x).square() / spread
    closed = (
        torch.exp(torch.tensor(0.3, dtype=F64))
        * torch.exp(-0.5 * r.sum(-1))
        * (square / spread).sqrt().prod()
    )
    assert_close(of.cov(x, x), closed, rtol=1e-7, atol=1e-8)
    assert_close(of.var(x), closed.diagonal(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("make", [exact, sparse])
def test_conditioning_is_on_averages(make: Callable[[], Process]) -> None:
    """Beside the formulas of a joint normal distribution."""
    of, x, at = averaged(make()), rows(2, seed=7), rows(3)
    y, noise = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([0.01, 0.2], dtype=F64)
    given = of.condition(x, y, noise)
    joint, cross = of.cov(x, x) + torch.diag(noise), of.cov(at, x)
    assert_close(given.mean(at), of.mean(at) + cross @ torch.linalg.solve(joint, y - of.mean(x)), **TIGHT)
    assert_close(given.cov(at, at), of.cov(at, at) - cross @ torch.linalg.solve(joint, cross.mT), **TIGHT)
    usual = of.condition(x, y).mean(at)
    assert_close(usual, of.condition(x, y, of.noise.expand(2)).mean(at), **TIGHT)
    assert given.scale == of.scale
    assert_close(given.hyperparameters, of.hyperparameters)
    with pytest.raises(DataError, match="by an ExactProcess or a SparseProcess, got a Plain"):
        averaged(plain()).condition(x, y)


def test_an_observation_at_a_noisy_input_has_the_noise_of_the_fit_to_such_inputs() -> None:
    known, std = data(12), torch.tensor([0.0, 0.1, 0.0], dtype=F64)
    surrogate, told = ExactGP(), replace(known, x_std=std.expand(12, 3))
    of = averaged_over(surrogate.process(told, theta()), std)
    first = replace(told, x=told.x[:8], y=told.y[:8], x_std=std.expand(8, 3))
    some = averaged_over(surrogate.process(first, theta()), std)
    both = some.condition(told.x[8:], told.y[8:])
    assert_close(both.var(rows(4)), of.var(rows(4)), rtol=2e-2, atol=1e-3)
    assert float(of.noise) > float(of.process.noise)


def test_more_rows_than_are_in_memory_at_once_change_nothing() -> None:
    of, x = averaged(exact()), rows(ROWS_AT_ONCE // 16 + 3)
    mean, var = of.mean_and_var(x)
    assert_close(mean[-5:], of.mean(x[-5:]), **TIGHT)
    assert_close(var[-5:], of.var(x[-5:]), **TIGHT)
