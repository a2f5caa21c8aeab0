"""The prior of curves against sample moments, dense conditioning and its own likelihood."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import StepKernel
from bo_suite.surrogates import EmpiricalPrior, ExactGP, FreezeThaw

CLOSE: Any = {"atol": 1e-10, "rtol": 1e-10}


def runs_of(count: int, size: int, missing: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    steps = torch.arange(1, size + 1, dtype=torch.float64) / size
    level, slope = torch.randn(2, count, 1, generator=generator, dtype=torch.float64)
    y = level + (1.0 + 0.5 * slope) * torch.exp(-3.0 * steps)
    y = y + 0.3 * torch.randn(count, size, generator=generator, dtype=torch.float64)
    y[torch.rand(count, size, generator=generator) < missing] = torch.nan
    if missing:
        y[0] = torch.nan
        y[1, 2:] = torch.nan
    return y


def test_one_iteration_on_complete_curves_gives_the_sample_moments() -> None:
    y = runs_of(40, 6)
    prior = EmpiricalPrior.fit(y, weight=0.0, iterations=1)
    assert_close(prior.grid, torch.arange(1, 7, dtype=torch.float64) / 6)
    assert_close(prior.values, y.mean(0), **CLOSE)
    assert_close(prior.covariance, torch.cov(y.mT, correction=0), **CLOSE)
    again = EmpiricalPrior.fit(y, weight=0.0)
    assert_close(again.covariance, prior.covariance, **CLOSE)


def test_one_iteration_on_missing_outcomes_is_dense_conditioning() -> None:
    """Each curve on its own, and the moments of the completed curves."""
    y = runs_of(12, 5, 0.4)
    y = y[~y.isnan().all(-1)]
    first, second = (EmpiricalPrior.fit(y, weight=0.0, iterations=count, tolerance=0.0) for count in (1, 2))
    mean, cov = first.values, first.covariance
    completed, spread, log_density = [], torch.zeros(5, 5, dtype=torch.float64), 0.0
    for row in y:
        seen = (~row.isnan()).nonzero()[:, 0]
        gain = cov[:, seen] @ torch.linalg.inv(cov[seen][:, seen])
        completed.append(mean + gain @ (row[seen] - mean[seen]))
        spread += cov - gain @ cov[seen]
        normal = torch.distributions.MultivariateNormal(mean[seen], cov[seen][:, seen])
        log_density += float(normal.log_prob(row[seen]))
    whole = torch.stack(completed)
    assert_close(second.values, whole.mean(0), **CLOSE)
    assert_close(second.covariance, torch.cov(whole.mT, correction=0) + spread / len(y), **CLOSE)
    assert second.log_densities[1] == pytest.approx(log_density, abs=1e-9)


@pytest.mark.parametrize("weight", [None, 0.0, 5.0])
@pytest.mark.parametrize(("count", "missing"), [(40, 0.0), (40, 0.5), (4, 0.3)])
def test_the_density_grows_with_each_iteration(weight: float | None, count: int, missing: float) -> None:
    """With fewer curves than steps too, where eigenvalues are clipped."""
    trace = EmpiricalPrior.fit(runs_of(count, 6, missing), weight, iterations=12, tolerance=0.0).log_densities
    assert len(trace) >= 2
    for before, after in pairwise(trace):
        assert after >= before - 1e-7 * abs(before)


def test_the_shrunk_covariance_is_that_of_the_inverse_wishart_prior() -> None:
    """The mode of S given complete curves, by a numerical gradient of its log density."""
    y = runs_of(30, 3)
    prior = EmpiricalPrior.fit(y, iterations=2)
    sample = torch.cov(y.mT, correction=0)
    target = ((9.0 + 30.0) * prior.covariance - 30.0 * sample) / 9.0
    assert float(target.trace()) == pytest.approx(float(sample.trace()))
    assert float(torch.linalg.eigvalsh(target).min()) > 0.0

    def log_density(cov: Tensor) -> Tensor:
        """Up to a constant, with M + 2 degrees of freedom and scale (2M + 3) S_0."""
        likelihood = -15.0 * (torch.logdet(cov) + torch.trace(torch.linalg.solve(cov, sample)))
        freedom, size = 5, 3
        scale = (freedom + size + 1) * target
        return (
            likelihood
            - 0.5 * (freedom + size + 1) * torch.logdet(cov)
            - 0.5 * torch.trace(torch.linalg.solve(cov, scale))
        )

    leaf = prior.covariance.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(log_density(leaf), leaf)
    assert_close(gradient + gradient.mT, torch.zeros_like(gradient), atol=1e-8, rtol=0.0)


def test_curves_of_several_grids_are_united() -> None:
    y = runs_of(20, 4, 0.2)
    coarse = y[:, 1::2]
    steps = torch.tensor([0.5, 1.0], dtype=torch.float64)
    curves = Curves(torch.zeros(2, 10, 1, dtype=torch.float64), steps, coarse.reshape(2, 10, 2))
    wide = torch.full_like(y, torch.nan)
    wide[:, 1::2] = coarse
    together = EmpiricalPrior.fit([y, curves])
    assert_close(together.grid, torch.arange(1, 5, dtype=torch.float64) / 4)
    stacked = EmpiricalPrior.fit(torch.cat((y, wide)))
    assert_close(together.values, stacked.values)
    assert_close(together.covariance, stacked.covariance)
    assert_close(EmpiricalPrior.fit(curves).values, EmpiricalPrior.fit(coarse).values)


def test_between_steps_it_is_that_of_interpolated_curves() -> None:
    y = runs_of(30, 4)
    prior = EmpiricalPrior.fit(y, weight=0.0)
    at = torch.tensor([0.1, 0.25, 0.4, 0.9, 1.0], dtype=torch.float64)
    between = torch.stack(
        (y[:, 0], y[:, 0], 0.4 * y[:, 0] + 0.6 * y[:, 1], 0.4 * y[:, 2] + 0.6 * y[:, 3], y[:, 3]), -1
    )
    assert_close(prior.mean(at), between.mean(0))
    assert_close(prior.cov(at, at), torch.cov(between.mT, correction=0))
    assert_close(prior.cov(at, at[:2]), torch.cov(between.mT, correction=0)[:, :2])


@pytest.mark.parametrize("weight", [None, 0.0])
@pytest.mark.parametrize(
    "y",
    [
        torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64),
        torch.tensor([[0.3, math.nan, 0.1], [math.nan] * 3], dtype=torch.float64),
        torch.full((5, 3), 0.7, dtype=torch.float64),
        torch.tensor([[1.0] * 3, [2.0] * 3], dtype=torch.float64),
        torch.tensor([[0.4], [0.6]], dtype=torch.float64),
        1e6 * torch.tensor([[0.4, math.nan, math.nan], [0.6, math.nan, math.nan]], dtype=torch.float64),
    ],
    ids=["one", "one-and-nothing", "equal", "constant", "one-step", "late-steps-missing"],
)
def test_few_or_constant_curves_have_a_prior_too(y: Tensor, weight: float | None) -> None:
    prior = EmpiricalPrior.fit(y, weight)
    seen = ~y.isnan()
    means = torch.where(seen, y, 0.0).sum(0) / seen.sum(0)
    assert_close(prior.values[seen.any(0)], means[seen.any(0)])
    assert bool(torch.isfinite(prior.values).all())
    assert float(torch.linalg.eigvalsh(prior.covariance).min()) > 0.0


def test_wrong_runs_are_refused() -> None:
    y = runs_of(5, 3)
    with pytest.raises(DataError, match="at least one outcome"):
        EmpiricalPrior.fit(torch.full((2, 3), math.nan))
    with pytest.raises(DataError, match="at least one run"):
        EmpiricalPrior.fit([])
    with pytest.raises(DataError, match="finite"):
        EmpiricalPrior.fit(y / 0.0)
    with pytest.raises(DataError, match=r"\(k, t\)"):
        EmpiricalPrior.fit(y[0])
    for arguments in ((-1.0, 16, 0.0), (None, 0, 0.0), (None, 16, math.nan)):
        with pytest.raises(DataError, match="weight"):
            EmpiricalPrior.fit(y, *arguments)


def test_curves_that_cross_are_told_apart_with_a_prior_that_knows_them() -> None:
    """Slow starters end better, which no kernel of ours expects and past runs show."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.arange(1, 11, dtype=torch.float64) / 10

    def curves(count: int) -> Tensor:
        speed = torch.rand(count, 1, generator=generator, dtype=torch.float64)
        noise = 0.02 * torch.randn(count, 10, generator=generator, dtype=torch.float64)
        return (1.0 - 2.0 * speed) * (1.0 - 2.0 * steps) + noise

    prior = EmpiricalPrior.fit(curves(60))
    assert isinstance(prior, StepKernel)
    y = curves(12)
    last = y[:, -1].clone()
    y[:, 4:] = torch.nan
    x = torch.rand(12, 2, generator=generator, dtype=torch.float64)
    data = Dataset(x, y[:, 3], curves=Curves(x, steps, y))
    level = ExactGP(mean=0.0)
    mean, _ = FreezeThaw(level, prior).fit(data, Seeds.of(0, 0)).all_curves()
    plain, _ = FreezeThaw(level).fit(data, Seeds.of(0, 0)).all_curves()
    assert float((mean[:, -1] - last).square().mean()) < 0.1 * float((plain[:, -1] - last).square().mean())


def test_its_gradients_agree_with_finite_differences() -> None:
    prior = EmpiricalPrior.fit(runs_of(10, 4))
    steps, theta = torch.tensor([0.3, 0.7, 1.0], dtype=torch.float64), prior.start() + 0.4
    weights = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = weights + weights.mT
    up, down = ((prior.gram(theta + step, steps)[0] * weights).sum() for step in (1e-6, -1e-6))
    assert_close(prior.gram(theta, steps)[1](weights)[0], (up - down) / 2e-6, atol=1e-7, rtol=1e-6)
    up, down = (prior.log_prior(theta + step)[0] for step in (1e-6, -1e-6))
    assert_close(prior.log_prior(theta)[1][0], (up - down) / 2e-6, atol=1e-7, rtol=1e-6)
    mean, pullback = prior.prior_mean(theta, steps)
    assert_close(mean, prior.mean(steps))
    assert_close(pullback(weights[0]), torch.zeros_like(theta))
    lower, upper = prior.bounds()
    assert bool(((lower < prior.start()) & (prior.start() < upper)).all())
