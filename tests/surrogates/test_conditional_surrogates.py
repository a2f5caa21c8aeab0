"""Surrogates of rows that lack some columns, and what is built on them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import (
    Acquisition,
    KnowledgeGradient,
    LogExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.acquisition.default import default_acquisition
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.data import Columns, Condition, Dataset, Outcomes, Seeds
from bo_suite.kernels import Conditional
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, Surrogate
from bo_suite.surrogates.inducing import KMeans
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.paths import draw_paths
from bo_suite.surrogates.process import WarmStart
from bo_suite.surrogates.variational.training import NaturalAdam

LEFT, RIGHT = ((0, ((0.0, 0.0),)),), ((0, ((1.0, 1.0),)),)
NESTED = Condition(5, ((3, ((0.5, 1.0),)),))
CONDITIONS = (Condition(2, LEFT), Condition(3, RIGHT), Condition(4, RIGHT), NESTED)
COLUMNS = Columns((0,), (2, None, None, None, None, None), conditions=CONDITIONS)
DIM, GROUPS = 6, 3
SURROGATES = [
    ExactGP(),
    AutoGP(handover=15),
    SGPR(inducing=12),
    SGPR(inducing=12, selection=KMeans(), learn_inducing=True),
    SVGP(inducing=12, training=NaturalAdam(steps=40)),
]


def rows(count: int, *batch: int, seed: int) -> Tensor:
    x = torch.rand(*batch, count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[..., 0] = (2 * x[..., 0]).floor()
    for _ in range(2):
        x = torch.where(COLUMNS.active(x), x, 0.0)
    return x


def function(x: Tensor) -> Tensor:
    """Another bowl in each branch; one child of a child matters."""
    left = (x[..., 2] - 0.3).square()
    right = 0.2 + 0.3 * x[..., 4] + COLUMNS.active(x)[..., 5] * (0.5 - x[..., 5])
    return x[..., 1].square() + torch.where(x[..., 0] == 0.0, left, right)


def data(count: int, *batch: int, seed: int = 0) -> Dataset:
    x = rows(count, *batch, seed=seed)
    y = function(x)
    return Dataset(x, (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True), columns=COLUMNS)


@pytest.mark.parametrize(
    "surrogate",
    [*SURROGATES[:3], *(pytest.param(one, marks=pytest.mark.slow) for one in SURROGATES[3:])],
    ids=str,
)
def test_surrogates_ignore_what_is_inactive_and_predict(surrogate: Surrogate) -> None:
    observed, test = data(40), rows(100, seed=1)
    process = surrogate.fit(observed, Seeds.of(0, 0))
    assert isinstance(process.kernel, Conditional)  # type: ignore[attr-defined]
    mean, var = process.mean_and_var(test)
    other = process.mean_and_var(torch.where(COLUMNS.active(test), test, 0.5))
    assert torch.equal(mean, other[0])
    assert torch.equal(var, other[1])
    raw = function(observed.x)
    expected = (function(test) - raw.mean()) / raw.std()
    assert float((mean - expected).square().mean()) < 0.2  # of outcomes with variance 1
    again = surrogate.fit(observed, Seeds.of(0, 0), WarmStart(process.hyperparameters, 40, settled=True))
    assert again.hyperparameters.shape == process.hyperparameters.shape
    leaf = test[:10].clone().requires_grad_()
    mean, var = process.mean_and_var(leaf)
    (gradient,) = torch.autograd.grad(mean.sum() + var.sum(), leaf)
    for column in (1, 2, 4, 5):
        step = torch.zeros(DIM, dtype=torch.float64)
        step[column] = 1e-6
        ahead, behind = process.mean_and_var(test[:10] + step), process.mean_and_var(test[:10] - step)
        slope = (ahead[0] + ahead[1] - behind[0] - behind[1]) / 2e-6
        assert_close(gradient[:, column], slope, rtol=1e-4, atol=1e-4)


def test_the_fit_beats_that_of_rows_with_zeros_where_columns_are_inactive() -> None:
    """By the density of each observation given all others."""
    gains = []
    for seed in range(4):
        observed = data(40, seed=seed)
        densities = []
        for columns in (COLUMNS, Columns((0,))):
            process = ExactGP().fit(replace(observed, columns=columns), Seeds.of(0, 0))
            mean, var = leave_one_out(process, observed.y)
            densities.append(float(-0.5 * ((observed.y - mean).square() / var + var.log()).sum()))
        gains.append(densities[0] - densities[1])
    assert sum(gain > 0.0 for gain in gains) >= 3
    assert sum(gains) > 0.0


def test_the_gradient_of_the_posterior_density_agrees_with_finite_differences() -> None:
    observed, surrogate = data(25, 2), ExactGP()
    size = surrogate.start(observed).shape[-1]
    assert size == DIM + GROUPS + 2
    noise = torch.randn(2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = surrogate.start(observed) + 0.3 * noise
    _, gradient = surrogate.log_posterior(observed, point)
    for index in range(size):
        step = torch.zeros(size, dtype=torch.float64)
        step[index] = 1e-5
        ahead, _ = surrogate.log_posterior(observed, point + step)
        behind, _ = surrogate.log_posterior(observed, point - step)
        assert_close(gradient[:, index], (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-4)


def test_replicates_are_fitted_as_alone() -> None:
    observed, test = data(20, 2), rows(9, 2, seed=4)
    together = ExactGP().fit(observed, Seeds((1, 2), (2,)))
    for index in range(2):
        alone = ExactGP().fit(observed.replicates(index), Seeds((index + 1,)))
        assert_close(together.mean(test)[index], alone.mean(test[index]), rtol=0.0, atol=0.02)


def test_streams_and_lookaheads_agree_with_the_covariance() -> None:
    observed, test = data(20), rows(8, seed=5)
    process = ExactGP().fit(observed, Seeds.of(0, 0))
    x = rows(3, seed=6)
    longer = process.condition(x, process.mean(x))
    assert_close(longer.mean(test), process.mean(test), rtol=1e-6, atol=1e-8)
    shorter = longer.delete(slice(20, 23))
    assert_close(shorter.var(test), process.var(test), rtol=1e-6, atol=1e-8)
    lookahead = process.lookahead(x)
    assert_close(lookahead.mean_and_cov(test)[1], process.cov(test, x), rtol=1e-6, atol=1e-8)
    pairs = lookahead.pair_cov(test[:3], x)
    assert_close(pairs, process.cov(test[:3], x).diagonal(), rtol=1e-6, atol=1e-8)
    sparse = SGPR(inducing=12).fit(observed, Seeds.of(0, 0))
    y = sparse.mean(x) + 0.3
    assert_close(sparse.absorb(x, y).release(x, y).mean(test), sparse.mean(test), rtol=1e-5, atol=1e-6)


def test_paths_have_the_moments_of_their_process() -> None:
    process, test, draws = ExactGP().fit(data(14), Seeds.of(0, 0)), rows(8, seed=3), 3000
    paths = draw_paths(process, draws, Seeds.of(0, 1), features=500)
    values = paths(test)
    error = 5.0 * process.var(test).sqrt() / draws**0.5
    assert bool(((values.mean(0) - process.mean(test)).abs() < error + 1e-6).all())
    assert_close(torch.cov(values.mT), process.cov(test, test), rtol=0.1, atol=0.08 * float(process.scale))
    path, leaf = draw_paths(process, 1, Seeds.of(0, 1)), test.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(path(leaf).sum(), leaf)
    assert not bool(gradient[~COLUMNS.active(test)].any())
    for column in (1, 2, 4, 5):
        step = torch.zeros(DIM, dtype=torch.float64)
        step[column] = 1e-7
        slope = (path(test + step) - path(test - step))[0] / 2e-7
        assert_close(gradient[:, column], slope, rtol=1e-3, atol=1e-3)  # some waves are short


@pytest.mark.parametrize(
    "acquisition",
    [
        LogExpectedImprovement(),
        UpperConfidenceBound(),
        KnowledgeGradient(),
        ThompsonSampling(),
        default_acquisition(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_acquisitions_score_conditional_rows(acquisition: Acquisition) -> None:
    observed, test = replace(data(20), pending=rows(2, seed=9)), rows(30, seed=1)
    score = acquisition.build(observed, Seeds.of(0, 0))
    value = score(test)
    assert bool(torch.isfinite(value).all())
    assert_close(score(torch.where(COLUMNS.active(test), test, 0.5)), value)
    again = acquisition.build(observed, Seeds.of(0, 1), WarmStart(score.hyperparameters, 20))
    assert bool(torch.isfinite(again(test)).all())


def test_probabilities_of_success_and_of_constraints_start_from_earlier_fits() -> None:
    observed, test = data(24), rows(20, seed=1)
    labels = (observed.x[:, 0] == 0.0).to(observed.x)
    y = torch.stack((observed.x[:, 1] - 0.5, labels))
    low, high = torch.tensor([[-torch.inf, 0.5], [0.0, torch.inf]], dtype=torch.float64)
    outcomes = Outcomes(observed.x, y, 0, low, high, labels=1)
    constrained = replace(observed, outcomes=outcomes, violation=torch.zeros_like(observed.y))
    first = Feasibility.fit(constrained, Seeds.of(0, 0))
    settled = replace(first.warm_start, settled=True)
    second = Feasibility.fit(constrained, Seeds.of(0, 0), settled)
    size = DIM + GROUPS + 2
    assert first.hyperparameters.shape == second.hyperparameters.shape == (5 * size + size - 1,)
    assert_close(first.hyperparameters[:size], second.hyperparameters[:size])
    assert float(first.log(test)[test[:, 0] == 1.0].max()) < float(first.log(test)[test[:, 0] == 0.0].max())
    failures = rows(40, seed=7)
    failed = replace(observed, failures=failures[failures[:, 0] == 0.0][:9])
    success = SuccessProbability.fit(failed, Seeds.of(0, 0))
    again = SuccessProbability.fit(failed, Seeds.of(0, 0), success.warm_start)
    assert_close(again.log(test), success.log(test))
