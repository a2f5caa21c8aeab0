"""Moments and covariances with fixed points: beside the process, finite differences and conditioning."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import gpytorch
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, Process
from bo_suite.surrogates.inducing import Given

F64 = torch.float64
TIGHT = {"rtol": 1e-10, "atol": 1e-10}
LEVELS = 2
"""The column of the category, where there is one."""


def rows(*shape: int, seed: int = 0, unordered: bool = False) -> Tensor:
    x = torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    if unordered:
        x[..., LEVELS] = torch.floor(3.0 * x[..., LEVELS]) / 2.0
    return x


def data(*shape: int, unordered: bool = False, dtype: torch.dtype = F64) -> Dataset:
    x = rows(*shape, seed=1, unordered=unordered)
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    y = torch.sin(5.0 * x[..., 0]) + x[..., 1].square() + x[..., 2] + 0.2 * noise
    given = Dataset(x.to(dtype), y.to(dtype))
    if not unordered:
        return given
    levels = tuple(3 if column == LEVELS else None for column in range(x.shape[-1]))
    return replace(given, columns=Columns((LEVELS,), levels))


def theta(*batch: int) -> Tensor:
    """(log lengthscales, log outputscale, log noise), different in each replicate."""
    base = torch.tensor([-1.0, -0.5, 0.2, 0.4, -2.5], dtype=F64)
    return base + 0.3 * torch.randn(*batch, 5, generator=torch.Generator().manual_seed(4), dtype=F64)


def exact() -> Process:
    return ExactGP().process(data(15), theta())


def sparse() -> Process:
    return SGPR().process(data(30), theta(), rows(7, seed=5))


def fantasies() -> Process:
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(6), dtype=F64)
    return exact().condition(rows(2, seed=7), y)


def sparse_fantasies() -> Process:
    y = torch.randn(4, 2, generator=torch.Generator().manual_seed(6), dtype=F64)
    return sparse().condition(rows(2, seed=7), y)


def mixed() -> Process:
    return ExactGP().process(data(15, unordered=True), theta())


def replicates() -> Process:
    return ExactGP().process(data(2, 15), theta(2))


def sparse_replicates() -> Process:
    return SGPR().process(data(2, 30), theta(2), rows(2, 7, seed=5))


def replicates_with_fantasies() -> Process:
    y = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(6), dtype=F64)
    return replicates().condition(rows(2, 3, seed=7), y)


def foreign() -> Process:
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=3)).double()
    surrogate = ExactGP(kernel=kernel)
    return surrogate.process(data(15), surrogate.start(data(15)))


def handed_over() -> Process:
    return AutoGP(handover=20, inducing=12).fit(data(40), Seeds.of(0, 0))


def variational() -> Process:
    return SVGP(inducing=10, selection=Given(rows(10, seed=5))).fit(data(40), Seeds.of(0, 0))


PROCESSES = (
    exact,
    sparse,
    fantasies,
    sparse_fantasies,
    mixed,
    replicates,
    sparse_replicates,
    replicates_with_fantasies,
    foreign,
    handed_over,
    variational,
)
some = pytest.mark.parametrize("make", PROCESSES)
Make = Callable[[], Process]


@cache
def setting(make: Make) -> tuple[Process, Tensor, Tensor]:
    """A process, rows (*b, 6, 3) and points (*b, 5, 3)."""
    process = make()
    batch, unordered = process.noise.shape, make is mixed
    return process, *(rows(*batch, count, seed=8 + count, unordered=unordered) for count in (6, 5))


def columns(make: Make) -> list[int]:
    return [0, 1] if make is mixed else [0, 1, 2]


def finite_differences(function: Callable[[Tensor], Tensor], x: Tensor, column: int) -> Tensor:
    """Derivative by a column of each row of a function of the rows one by one: (*b, m)."""
    step = torch.zeros(x.shape[-1], dtype=F64)
    step[column] = 1e-6
    with torch.no_grad():
        return (function(x + step) - function(x - step)) / 2e-6


def each_row(part: Tensor, weights: Tensor, x: Tensor) -> Tensor:
    """Sums of weighted values of each row: over fantasies in front of (*b, m), or points behind it."""
    weighted = part * weights
    if part.shape[-1] != x.shape[-2]:
        return weighted.sum(-1)
    return weighted.sum(0) if part.ndim == x.ndim else weighted


@some
def test_moments_are_those_of_the_process(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points)
    mean, var, cov = lookahead.moments(x)
    assert_close(mean, process.mean(x), **TIGHT)
    assert_close(var, process.var(x), **TIGHT)
    assert_close(cov, process.cov(x, points), **TIGHT)
    other_mean, other_cov = lookahead.mean_and_cov(x)
    assert_close(other_mean, process.mean(x), **TIGHT)
    assert_close(other_cov, process.cov(x, points), **TIGHT)


@some
def test_gradients_of_the_moments_agree_with_finite_differences(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points)
    for place in range(3):
        for function in (lookahead.moments, lookahead.mean_and_cov):
            if place >= len(function(x)):
                continue
            weights = torch.randn(function(x)[place].shape, generator=torch.Generator(), dtype=F64)

            def value(z: Tensor, place=place, function=function, weights=weights) -> Tensor:
                return each_row(function(z)[place], weights, x)

            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(value(leaf).sum(), leaf)
            for column in columns(make):
                slope = finite_differences(value, x, column)
                assert_close(gradient[..., column], slope, rtol=1e-5, atol=1e-7)
                assert bool((slope.abs() > 1e-4).any())


@some
def test_a_function_of_all_moments_together_has_the_gradient_of_their_sum(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points)
    leaf = x.clone().requires_grad_()
    mean, var, cov = lookahead.moments(leaf)
    (together,) = torch.autograd.grad(mean.sum() + (var.sqrt() * cov.sum(-1)).sum(), leaf)

    def value(z: Tensor) -> Tensor:
        mean, var, cov = lookahead.moments(z)
        return (mean.sum(0) if mean.ndim > var.ndim else mean) + var.sqrt() * cov.sum(-1)

    for column in columns(make):
        assert_close(together[..., column], finite_differences(value, x, column), rtol=1e-5, atol=1e-7)


@some
def test_pair_cov_is_the_diagonal_of_the_covariance_with_gradients_by_both(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points[..., :1, :])
    z = rows(*x.shape[:-1], seed=21, unordered=make is mixed)
    assert_close(lookahead.pair_cov(x, z), process.cov(x, z).diagonal(dim1=-2, dim2=-1), **TIGHT)
    leaves = x.clone().requires_grad_(), z.clone().requires_grad_()
    by_x, by_z = torch.autograd.grad(lookahead.pair_cov(*leaves).sum(), leaves)
    for column in columns(make):
        slope = finite_differences(lambda part: lookahead.pair_cov(part, z), x, column)
        assert_close(by_x[..., column], slope, rtol=1e-5, atol=1e-7)
        slope = finite_differences(lambda part: lookahead.pair_cov(x, part), z, column)
        assert_close(by_z[..., column], slope, rtol=1e-5, atol=1e-7)
        assert bool((slope.abs() > 1e-4).any())


@some
def test_the_pair_of_a_row_with_itself_has_its_variance_and_the_gradient_of_it(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points)
    assert_close(lookahead.pair_cov(x, x), process.var(x), **TIGHT)
    leaf = x.clone().requires_grad_()
    (by_pair,) = torch.autograd.grad(lookahead.pair_cov(leaf, leaf).sum(), leaf)
    (by_var,) = torch.autograd.grad(process.mean_and_var(leaf)[1].sum(), leaf)
    assert_close(by_pair[..., columns(make)], by_var[..., columns(make)], rtol=1e-7, atol=1e-8)


@some
def test_an_observation_moves_the_mean_as_the_covariance_says(make: Make) -> None:
    process, x, points = setting(make)
    lookahead = process.lookahead(points)
    mean, var, cov = lookahead.moments(x)
    before = process.mean(points)
    for place in range(x.shape[-2]):
        row = x[..., place : place + 1, :]
        y = mean[..., place : place + 1] + 0.7 - 0.3 * place
        after = process.condition(row, y).mean(points)
        gain = cov[..., place, :] / (var[..., place] + process.noise)[..., None]
        assert_close(after, before + gain * (0.7 - 0.3 * place), rtol=0.0, atol=1e-9)
        assert bool(((after - before).abs() > 1e-3).any())


@pytest.mark.parametrize("surrogate", [ExactGP(), SGPR(inducing=8), AutoGP(handover=10, inducing=8)])
@pytest.mark.parametrize("unordered", [False, True])
def test_the_rule_holds_at_fitted_hyperparameters_too(surrogate: ExactGP, unordered: bool) -> None:
    process = surrogate.fit(data(25, unordered=unordered), Seeds.of(0, 0))
    x, points = (rows(count, seed=30 + count, unordered=unordered) for count in (1, 9))
    mean, var, cov = process.lookahead(points).moments(x)
    after = process.condition(x, mean + 1.3).mean(points)
    assert_close(after, process.mean(points) + 1.3 * cov[0] / (var + process.noise), rtol=0.0, atol=1e-9)
    assert float(process.noise) > 1e-4
    assert bool(((after - process.mean(points)).abs() > 1e-3).any())


@pytest.mark.parametrize("sparsely", [False, True])
def test_single_precision_agrees_with_double(sparsely: bool) -> None:
    processes = []
    for dtype in (F64, torch.float32):
        told = data(15, dtype=dtype)
        if sparsely:
            processes.append(SGPR().process(told, theta().to(dtype), rows(6, seed=5).to(dtype)))
        else:
            processes.append(ExactGP().process(told, theta().to(dtype)))
    x, points = rows(6, seed=1), rows(4, seed=2)
    double = processes[0].lookahead(points)
    single = processes[1].lookahead(points.float())
    parts = *single.moments(x.float()), single.pair_cov(x.float()[:4], points.float())
    for part, expected in zip(parts, (*double.moments(x), double.pair_cov(x[:4], points)), strict=True):
        assert part.dtype == torch.float32
        assert_close(part.double(), expected, rtol=1e-4, atol=1e-4)


def test_replicates_are_as_good_as_each_alone() -> None:
    process, x, points = setting(replicates)
    mean, var, cov = process.lookahead(points).moments(x)
    pair = process.lookahead(points).pair_cov(x[:, :5], points)
    for place in range(2):
        part = data(2, 15)
        alone = ExactGP().process(
            Dataset(part.x[place], part.y[place], None, part.x[place, :0]), theta(2)[place]
        )
        lookahead = alone.lookahead(points[place])
        for ours, theirs in zip((mean, var, cov), lookahead.moments(x[place]), strict=True):
            assert_close(ours[place], theirs, **TIGHT)
        assert_close(pair[place], lookahead.pair_cov(x[place, :5], points[place]), **TIGHT)
