"""Freeze-thaw regression against dense regression on all outcomes."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Curves, Dataset, Seeds
from bo_suite.errors import FitError
from bo_suite.kernels import Decay, Matern52
from bo_suite.linalg.environment import numerical_environment
from bo_suite.surrogates import ExactGP, Process, SupportsLookahead, Surrogate, WarmStart
from bo_suite.surrogates.curves import FreezeThaw
from bo_suite.surrogates.curves.groups import groups_of
from bo_suite.surrogates.paths import has_paths
from bo_suite.testing import check_surrogate

SEEDS = Seeds.of(0, 0)
N, T, D = 7, 6, 2
CLOSE: Any = {"atol": 1e-9, "rtol": 1e-9}


def data_of(kind: str, seed: int = 0) -> Dataset:
    """Curves that stop anywhere ("prefix"), have gaps too ("gaps"), or none of whose outcomes is known."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(N, D, generator=generator, dtype=torch.float64)
    steps = torch.arange(1, T + 1, dtype=torch.float64) / T
    y = torch.sin(4.0 * x[:, :1]) + torch.exp(-3.0 * steps) * (0.5 + x[:, 1:])
    y = y + 0.1 * torch.randn(N, T, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, T + 1, (N,), generator=generator)
    y[torch.arange(T) >= lengths[:, None]] = torch.nan
    if kind != "prefix":
        y[torch.rand(N, T, generator=generator) < 0.3] = torch.nan
        y[:2, ::2] = torch.nan
        y[3] = torch.nan
    return Dataset(x[:2], x[:2, 0], curves=Curves(x, steps, y))


def hyperparameters(*batch: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    start = FreezeThaw().start(data_of("prefix"))
    start[-1] = -3.0
    return start + 0.4 * torch.randn(*batch, len(start), generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Dense:
    """The model as one process of all outcomes: covariances of curves at all steps, and what is observed."""

    data: Dataset
    theta: Tensor

    @property
    def curves(self) -> Curves:
        assert self.data.curves is not None
        return self.data.curves

    def level(self, x: Tensor, z: Tensor) -> Tensor:
        return Matern52().joint(self.theta[: D + 1], x, z)[0]

    @property
    def deviation(self) -> Tensor:
        return Decay().gram(self.theta[D + 1 : -1], self.curves.steps)[0]

    @property
    def all_steps(self) -> Tensor:
        """Covariance (N T, N T) of the curves without noise."""
        ones, eye = torch.ones(T, T, dtype=torch.float64), torch.eye(N, dtype=torch.float64)
        x = self.curves.x
        return torch.kron(self.level(x, x).contiguous(), ones) + torch.kron(eye, self.deviation)

    @property
    def seen(self) -> Tensor:
        return self.curves.observed.flatten().nonzero()[:, 0]

    @property
    def noisy(self) -> Tensor:
        seen = self.seen
        noise = self.theta[-1].exp() * torch.eye(len(seen), dtype=torch.float64)
        return self.all_steps[seen[:, None], seen] + noise

    @property
    def mean(self) -> Tensor:
        """Of the curves at all steps, less that of the level."""
        return Decay().prior_mean(self.theta[D + 1 : -1], self.curves.steps)[0].repeat(N)

    @property
    def y(self) -> Tensor:
        return (self.curves.y.flatten() - self.mean)[self.seen]

    @property
    def constant(self) -> Tensor:
        solved = torch.linalg.solve(self.noisy, torch.ones_like(self.y))
        return (solved * self.y).sum() / (solved.sum() + 1.0)

    def log_posterior(self, surrogate: FreezeThaw) -> Tensor:
        mean = self.constant
        normal = torch.distributions.MultivariateNormal(mean.expand(len(self.y)), self.noisy)
        priors = (
            Matern52().log_prior(self.theta[: D + 1], D)[0] + Decay().log_prior(self.theta[D + 1 : -1])[0]
        )
        noise = -torch.log1p((self.theta[-1] - surrogate.level.noise_location).square())
        return normal.log_prob(self.y) - 0.5 * mean.square() + priors + noise

    def given(self, cross: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance, given covariances with all curves (m, N T) and among themselves (m, m)."""
        left = cross[:, self.seen]
        weights = torch.linalg.solve(self.noisy, left.mT).mT
        return self.constant + weights @ (self.y - self.constant), own - weights @ left.mT


@pytest.mark.parametrize("kind", ["prefix", "gaps"])
@pytest.mark.parametrize("seed", range(3))
def test_evidence_and_gradient_are_those_of_dense_regression(kind: str, seed: int) -> None:
    data, theta, surrogate = data_of(kind, seed), hyperparameters(seed=seed + 1), FreezeThaw()
    value, gradient = surrogate.log_posterior(data, theta)
    assert_close(value, Dense(data, theta).log_posterior(surrogate), **CLOSE)
    for index in range(len(theta)):
        step = torch.zeros_like(theta)
        step[index] = 1e-5
        up, down = (Dense(data, theta + sign * step).log_posterior(surrogate) for sign in (1.0, -1.0))
        assert_close(gradient[index], (up - down) / 2e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["prefix", "gaps"])
def test_posterior_is_that_of_dense_regression(kind: str) -> None:
    data, theta = data_of(kind), hyperparameters()
    process, dense = FreezeThaw().process(data, theta), Dense(data, theta)
    x = torch.rand(4, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    level = dense.level(x, dense.curves.x).repeat_interleave(T, -1)
    mean, cov = dense.given(level, dense.level(x, x))
    assert_close(process.mean(x), mean + dense.mean[-1], **CLOSE)
    assert_close(process.cov(x, x), cov, **CLOSE)
    assert_close(process.var(x), cov.diagonal(), **CLOSE)
    assert_close(process.noise, dense.deviation[-1, -1] + theta[-1].exp())

    mean, cov = dense.given(dense.all_steps, dense.all_steps)
    mean = mean + dense.mean
    means, variances = process.all_curves()
    assert_close(means, mean.reshape(N, T), **CLOSE)
    assert_close(variances, cov.diagonal().reshape(N, T), **CLOSE)
    for index in range(N):
        own = slice(index * T, (index + 1) * T)
        mean_of_one, cov_of_one = process.curve(index)
        assert_close(mean_of_one, mean[own], **CLOSE)
        assert_close(cov_of_one, cov[own, own], **CLOSE)
    for step in (2, -1):
        mean_at, cov_at = process.at_step(step)
        steps = torch.arange(N) * T + step % T
        assert_close(mean_at, mean[steps], **CLOSE)
        assert_close(cov_at, cov[steps[:, None], steps], **CLOSE)
        weights = torch.linalg.solve(dense.noisy, level[:, dense.seen].mT)
        cross = level[:, steps].mT - dense.all_steps[steps][:, dense.seen] @ weights
        assert_close(process.cross(x, step), cross, **CLOSE)


def test_conditioning_on_an_outcome_is_that_of_dense_regression() -> None:
    """A report at the last step of a configuration without a curve, known or pending."""
    data, theta = data_of("gaps"), hyperparameters()
    x = torch.rand(1, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    test = torch.rand(3, D, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    assert data.curves is not None
    y = torch.full((1, T), torch.nan, dtype=torch.float64)
    y[0, -1] = 0.7
    process = FreezeThaw(ExactGP(mean=0.2)).process(data, theta)
    more = Curves(torch.cat((data.curves.x, x)), data.curves.steps, torch.cat((data.curves.y, y)))
    whole = FreezeThaw(ExactGP(mean=0.2)).process(Dataset(data.x, data.y, curves=more), theta)
    conditioned = process.condition(x, y[:, -1])
    assert_close(conditioned.mean(test), whole.mean(test), **CLOSE)
    assert_close(conditioned.cov(test, test), whole.cov(test, test), **CLOSE)


def test_replicates_equal_each_alone() -> None:
    """With different gaps, and with rows without a report in one of them."""
    alone = [data_of("prefix"), data_of("gaps", 1), data_of("gaps", 2)]
    both = [data.curves for data in alone if data.curves is not None]
    curves = Curves(torch.stack([c.x for c in both]), both[0].steps, torch.stack([c.y for c in both]))
    data = Dataset(torch.stack([d.x for d in alone]), torch.stack([d.y for d in alone]), curves=curves)
    surrogate, theta = FreezeThaw(), hyperparameters(2, 3)
    value, gradient = surrogate.log_posterior(data, theta)
    process = surrogate.process(data, theta[0])
    for index in range(3):
        for restart in range(2):
            single = surrogate.log_posterior(alone[index], theta[restart, index])
            assert_close(value[restart, index], single[0], **CLOSE)
            assert_close(gradient[restart, index], single[1], atol=1e-8, rtol=1e-8)
        one = surrogate.process(alone[index], theta[0, index])
        for mine, theirs in zip(process.all_curves(), one.all_curves(), strict=True):
            assert_close(mine[index], theirs, **CLOSE)
        for mine, theirs in zip(process.curve(2), one.curve(2), strict=True):
            assert_close(mine[index], theirs, **CLOSE)
    assert data.replicates(1).curves is not None


def test_a_mean_function_is_the_mean_of_the_level() -> None:
    data, theta = data_of("gaps"), hyperparameters()
    assert data.curves is not None
    process = FreezeThaw(ExactGP(mean=lambda x: x[..., 0] + 1.0)).process(data, theta)
    lowered = Curves(data.curves.x, data.curves.steps, data.curves.y - data.curves.x[:, :1] - 1.0)
    residuals = FreezeThaw(ExactGP(mean=0.0)).process(Dataset(data.x, data.y, curves=lowered), theta)
    x = torch.rand(4, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    assert_close(process.mean(x), residuals.mean(x) + x[:, 0] + 1.0)
    level, own = data.curves.x[:, :1] + 1.0, process.all_curves()[0]
    assert_close(own, residuals.all_curves()[0] + level)


def test_a_fit_finds_the_levels_of_curves_that_have_hardly_begun() -> None:
    """The deviation decays, so that the first steps, all that most curves have, are far from the level."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, D, generator=generator, dtype=torch.float64)
    steps = torch.arange(1, 11, dtype=torch.float64) / 10
    level = torch.sin(3.0 * x[:, 0])
    y = level[:, None] + 1.5 * torch.exp(-4.0 * steps)
    y = y + 0.02 * torch.randn(30, 10, generator=generator, dtype=torch.float64)
    last = y[:, -1].clone()
    y[6:, 3:] = torch.nan
    data = Dataset(x[:6], y[:6, -1], curves=Curves(x, steps, y))
    process = FreezeThaw().fit(data, SEEDS)
    mean, variance = process.all_curves()
    error = mean[6:, -1] - last[6:]
    assert float(error.square().mean().sqrt()) < 0.15
    assert float((error.square() / (variance[6:, -1] + process.observation_noise)).mean()) < 4.0
    settled = FreezeThaw().fit(data, SEEDS, WarmStart(process.hyperparameters, 6, settled=True))
    assert_close(settled.mean(x), process.mean(x))
    value, _ = FreezeThaw().log_posterior(data, process.hyperparameters)
    assert float(value) > float(FreezeThaw().log_posterior(data, FreezeThaw().start(data))[0])


def test_curves_that_stop_on_one_grid_share_a_group() -> None:
    every_second = [0, 1, 0, 1, 0, 1]
    rows = [[1] * 6, [1, 1, 0, 0, 0, 0], every_second, [0, 1, 0, 0, 0, 0], [0] * 6, [1, 0, 1, 1, 0, 0]]
    observed = torch.tensor(rows, dtype=torch.bool)
    groups = groups_of(observed, torch.where(observed, 1.0, torch.nan).double())
    found = {tuple(group.steps.tolist()): sorted(group.members.tolist()) for group in groups}
    assert found == {(0, 1, 2, 3, 4, 5): [0, 1], (1, 3, 5): [2, 3], (0, 2, 3): [5]}
    assert sum(int(group.observed.sum()) for group in groups) == int(observed.sum())


def test_no_observation_is_refused() -> None:
    data = data_of("prefix")
    assert data.curves is not None
    empty = Curves(data.curves.x, data.curves.steps, torch.full_like(data.curves.y, torch.nan))
    with pytest.raises(FitError, match="at least one observation"):
        FreezeThaw().fit(Dataset(data.x, data.y, curves=empty), SEEDS)


def test_it_is_a_surrogate() -> None:
    surrogate = FreezeThaw()
    assert isinstance(surrogate, Surrogate)
    with numerical_environment():
        process = surrogate.fit(data_of("gaps"), SEEDS)
    assert isinstance(process, Process)
    assert isinstance(process, SupportsLookahead)
    assert has_paths(process)
    check_surrogate(surrogate)


def test_categories_are_understood() -> None:
    data = data_of("gaps")
    assert data.curves is not None
    x = data.curves.x.clone()
    x[:, 1] = (x[:, 1] * 3.0).floor() / 2.0
    columns = Columns((1,), (None, 3))
    process = FreezeThaw().fit(
        Dataset(x[:2], x[:2, 0], columns=columns, curves=Curves(x, data.curves.steps, data.curves.y)), SEEDS
    )
    assert bool(torch.isfinite(process.mean(x)).all())
