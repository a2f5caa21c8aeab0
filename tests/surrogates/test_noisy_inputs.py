"""Observations at inputs with noise: beside closed forms, draws, finite differences and exact inputs."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Functionals, Matern52, SquaredExponential
from bo_suite.kernels.base import Kernel
from bo_suite.surrogates import AutoGP, ExactGP, SparseProcess
from bo_suite.surrogates.basis import inducing_basis
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.noisy_inputs import averaged
from bo_suite.surrogates.observations import Observations
from bo_suite.surrogates.observed import functionals_cross
from bo_suite.surrogates.variational.collapsed import Collapsed, statistics_of

F64 = torch.float64


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def data(n: int = 7, batch: tuple[int, ...] = (), gradient: bool = False, columns: int = 2) -> Dataset:
    """Rows of three columns, of which the first ones have noise in most rows."""
    x = torch.rand(*batch, n, 3, generator=generator(0), dtype=F64)
    std = 0.15 * torch.rand(*batch, n, 3, generator=generator(1), dtype=F64)
    std[..., columns:] = 0.0
    std[..., 0, :] = 0.0
    y = torch.sin(6.0 * x[..., 0]) + x[..., 1] ** 2
    slope = None
    if gradient:
        slope = torch.stack((6.0 * torch.cos(6.0 * x[..., 0]), 2.0 * x[..., 1], torch.zeros_like(y)), -1)
        slope[..., 2, :] = slope[..., 3, 1] = torch.nan
    return Dataset(x, y, gradient=slope, x_std=std)


def theta(*batch: int) -> Tensor:
    base = torch.tensor([-0.8, -0.2, 0.5, 0.3], dtype=F64)
    return base + 0.2 * torch.randn(*batch, 4, generator=generator(2), dtype=F64)


def covariance(of: Dataset, kernel: Kernel) -> Tensor:
    return Observations.of(of).covariance(kernel, theta())[0]


@pytest.mark.parametrize("columns", [1, 2])
def test_the_covariance_of_a_squared_exponential_has_the_variances_of_both_inputs(columns: int) -> None:
    of, square = data(columns=columns), theta()[:3].exp().square()
    assert of.x_std is not None
    spread = of.x_std.square()[:, None] + of.x_std.square()
    r = (of.x[:, None] - of.x).square() / (square + spread)
    closed = theta()[3].exp() * torch.exp(-0.5 * r.sum(-1)) * (square / (square + spread)).sqrt().prod(-1)
    closed = closed - torch.diag(closed.diagonal()) + torch.diag(theta()[3].exp().expand(7))
    found = covariance(of, SquaredExponential())
    exact = covariance(replace(of, x_std=None), SquaredExponential())
    tolerance = {1: 1e-2, 2: 8e-2}[columns] * float((closed - exact).abs().max())
    assert_close(found, closed, rtol=0.0, atol=tolerance)
    assert_close(found.diagonal(), closed.diagonal())


def test_the_covariance_is_that_of_draws_of_the_inputs() -> None:
    of = data(columns=1)
    assert of.x_std is not None
    draws = of.x + of.x_std * torch.randn(4000, 7, 3, generator=generator(3), dtype=F64)
    each = Matern52().gram(theta().expand(4000, -1), draws)[0]
    error = each.std(0) / math.sqrt(4000.0)
    assert bool(((covariance(of, Matern52()) - each.mean(0)).abs() < 4.5 * error + 1e-3).all())


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_gradient_of_the_evidence_agrees_with_finite_differences(
    gradient: bool, batch: tuple[int, ...]
) -> None:
    of, surrogate = data(batch=batch, gradient=gradient), ExactGP()
    point = torch.cat((theta(*batch), torch.full((*batch, 1 + gradient), -2.0, dtype=F64)), -1)
    found = surrogate.log_posterior(of, point)[1]
    for index in range(point.shape[-1]):
        step = 1e-5 * torch.eye(point.shape[-1], dtype=F64)[index]
        ends = [surrogate.log_posterior(of, point + sign * step)[0] for sign in (1.0, -1.0)]
        assert_close(found[..., index], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gradient", [False, True])
def test_deviations_of_zero_and_none_are_the_same(gradient: bool) -> None:
    of = data(gradient=gradient)
    zero, none = (replace(of, x_std=std) for std in (torch.zeros_like(of.x), None))
    one, other = (ExactGP().fit(each, Seeds.of(0, 0)) for each in (zero, none))
    assert torch.equal(one.mean(of.x), other.mean(of.x))
    tiny = ExactGP().process(replace(of, x_std=torch.full_like(of.x, 1e-7)), other.hyperparameters)
    assert_close(tiny.mean(of.x), other.mean(of.x), rtol=1e-3, atol=1e-3)


def test_exact_rows_stay_one_node_and_averages_have_the_moments_of_the_noise() -> None:
    of = data(gradient=True)
    assert of.x_std is not None
    whole = Observations.of(replace(of, x_std=None)).observed
    assert isinstance(whole, Functionals)
    found = averaged(whole, of.x_std)
    assert found.count == whole.count
    assert int((found.owner == 0).sum()) == 1
    weights = torch.zeros(found.count, dtype=F64).index_add(0, found.owner, found.weight)
    assert_close(weights[:7], torch.ones(7, dtype=F64))
    square = found.of(lambda x: x.square())
    assert_close(square[:7], of.x.square() + of.x_std.square())
    assert_close(square[7:], whole.of(lambda x: x.square())[7:], rtol=1e-9, atol=1e-9)


def test_any_kernel_has_covariances_of_sums_of_values() -> None:
    of = data()
    assert of.x_std is not None

    class Other:
        """A kernel that does not say that it is differentiable."""

        def __getattr__(self, name: str) -> Any:
            if name == "functionals_cross":
                raise AttributeError(name)
            return getattr(Matern52(), name)

    left, right = averaged(Functionals.values(of.x), of.x_std), Functionals.values(of.x[:3])
    found, pullback = functionals_cross(Other(), theta(), left, right)
    known, known_pullback = Matern52().functionals_cross(theta(), left, right)
    assert_close(found, known)
    weights = torch.randn(7, 3, generator=generator(5), dtype=F64)
    assert_close(pullback(weights)[0], known_pullback(weights)[0])
    assert_close(pullback(weights)[2], known_pullback(weights)[2])
    slope = Functionals.partials(of.x, 0)
    with pytest.raises(DataError, match="twice differentiable"):
        functionals_cross(Other(), theta(), slope, right)


def test_the_noise_of_inputs_is_not_taken_for_that_of_outcomes() -> None:
    """sin(8 x) at 30 inputs with noise of 0.06, outcomes with noise of 0.15."""
    deviations, errors = [], []
    for seed in range(3):
        asked = torch.linspace(0.0, 1.0, 30, dtype=F64)[:, None]
        draws = torch.randn(2, 30, generator=generator(seed), dtype=F64)
        y = torch.sin(8.0 * (asked[:, 0] + 0.06 * draws[0])) + 0.15 * draws[1]
        known = Dataset(asked, y, x_std=torch.full_like(asked, 0.06))
        fits = [ExactGP().fit(each, Seeds.of(0, 0)) for each in (known, replace(known, x_std=None))]
        at = torch.linspace(0.0, 1.0, 101, dtype=F64)[:, None]
        truth = torch.sin(8.0 * at[:, 0])
        errors.append([float((fit.mean(at) - truth).square().mean().sqrt()) for fit in fits])
        deviations.append([float(fit.noise.sqrt()) for fit in fits])
    told, untold = torch.tensor(deviations).mean(0).tolist()
    assert 0.02 < told < 0.25 < untold, deviations
    assert sum(one for one, _ in errors) < sum(other for _, other in errors), errors


def test_replicates_are_solo_fits_and_other_rows_change_nothing() -> None:
    of = data(batch=(2,))
    together = ExactGP().process(of, torch.cat((theta(2), torch.full((2, 1), -3.0, dtype=F64)), -1))
    x = torch.rand(2, 4, 3, generator=generator(8), dtype=F64)
    for index in range(2):
        alone = ExactGP().process(of.replicates(index), together.hyperparameters[index])
        assert_close(together.mean(x)[index], alone.mean(x[index]), rtol=1e-7, atol=1e-9)
        assert_close(together.var(x)[index], alone.var(x[index]), rtol=1e-7, atol=1e-9)


def test_the_default_surrogate_and_conditions_take_noisy_inputs() -> None:
    of = data()
    process = AutoGP().fit(of, Seeds.of(0, 0))
    given = process.condition(of.x[:2] + 0.05, torch.zeros(2, dtype=F64))
    assert bool(given.mean(of.x).isfinite().all())
    unordered = replace(of, x=of.x.clone(), columns=Columns((2,), (None, None, 3)))
    unordered.x[:, 2] = (unordered.x[:, 2] * 3.0).floor() / 2.0
    assert bool(AutoGP().fit(unordered, Seeds.of(0, 0)).mean(unordered.x).isfinite().all())


def test_a_sparse_process_at_its_data_is_the_exact_one() -> None:
    """With an inducing input at each node, nothing is left to noise but what the noise of inputs leaves."""
    of = data(6)
    exact = ExactGP().process(of, torch.cat((theta(), torch.tensor([-3.0], dtype=F64))))
    functionals = exact.observed
    assert isinstance(functionals, Functionals)
    basis = inducing_basis(exact.kernel, exact.theta, Points(functionals.x.unique(dim=0)), 1e-10)
    statistics = statistics_of(basis, of, exact.noise, independent=True)
    collapsed = Collapsed.of(statistics, float(exact.prior_mean.constant))
    basis = replace(basis, precision_chol=collapsed.precision_chol)
    sparse = SparseProcess(
        basis, collapsed.linear, exact.prior_mean, exact.noise, exact.hyperparameters, independent=True
    )
    x = torch.rand(5, 3, generator=generator(9), dtype=F64)
    assert_close(sparse.mean(x), exact.mean(x), rtol=1e-3, atol=1e-4)
    assert_close(sparse.var(x), exact.var(x), rtol=1e-3, atol=1e-4)


def test_beyond_2000_nodes_inputs_count_as_exact() -> None:
    few, many = data(n=400, columns=1), data(n=600, columns=1)
    assert isinstance(Observations.of(few).observed, Functionals)
    assert_close(Observations.of(many).observed, many.x, rtol=0.0, atol=0.0)
