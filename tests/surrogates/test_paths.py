"""Draws that are functions: their moments are the process's, and Thompson sampling minimises one."""

import statistics
from dataclasses import replace

import gpytorch
import pytest
import torch
from torch.testing import assert_close

from bo_suite.acquisition import ThompsonSampling
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.problems import get_problem
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, Process, Surrogate
from bo_suite.surrogates.paths import draw_paths, has_paths, mean_path
from bo_suite.surrogates.variational.likelihoods import BernoulliLogit
from bo_suite.testing import check_acquisition
from bo_suite.testing.data import dataset, rows

DRAWS = 20_000
SURROGATES = [ExactGP(), SGPR(inducing=7), SVGP(inducing=7)]


def fitted(surrogate: Surrogate) -> Process:
    return surrogate.fit(dataset(14), Seeds.of(0, 0))


def conditioned(surrogate: Surrogate) -> Process:
    process = fitted(surrogate)
    x = rows(2, seed=8)
    return process.condition(x, process.mean(x) + 0.3)


@pytest.mark.parametrize(
    ("surrogate", "make"),
    [
        pytest.param(
            surrogate, make, marks=[pytest.mark.slow] * (make is fitted or surrogate != SURROGATES[0])
        )
        for surrogate in SURROGATES
        for make in (fitted, conditioned)
    ],
)
def test_paths_have_the_moments_of_their_process(surrogate: Surrogate, make) -> None:
    process, test = make(surrogate), rows(6, seed=3)
    paths = draw_paths(process, DRAWS, Seeds.of(0, 1), features=2000)
    values = paths(test)
    assert values.shape == (DRAWS, 6)
    spread = process.var(test).sqrt()
    error = 5.0 * spread / DRAWS**0.5
    assert bool(((values.mean(0) - process.mean(test)).abs() < error + 1e-6).all())
    # the shared random features leave an error of about prior variance / √(2 F) far from data
    assert_close(torch.cov(values.mT), process.cov(test, test), rtol=0.05, atol=0.02 * float(process.scale))


def test_paths_of_a_smooth_function_are_as_wide_as_its_posterior_whatever_the_frequencies() -> None:
    """What is uncertain between dense data lies in frequencies that few plain draws of them would hit."""
    problem = get_problem("branin")
    x = torch.rand(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.tensor([problem(params) for params in problem.space.decode(x)], dtype=torch.float64)
    process = ExactGP().fit(Dataset(x, (y - y.mean()) / y.std()), Seeds.of(0, 0))
    test = torch.rand(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ratios = [
        float((draw_paths(process, 100, Seeds.of(seed, 1))(test).var(0) / process.var(test)).median())
        for seed in range(15)
    ]
    assert 0.7 < statistics.median(ratios) < 1.3


def test_paths_pass_through_observations_without_noise() -> None:
    data = dataset(14)
    process = ExactGP().process(data, torch.tensor([-1.0, -1.0, 0.0, 0.0, -16.0], dtype=torch.float64))
    values = draw_paths(process, 50, Seeds.of(0, 1))(data.x)
    assert_close(values, data.y.expand(50, -1), rtol=0.0, atol=1e-2)


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda surrogate: type(surrogate).__name__)
def test_paths_are_differentiable_anywhere(surrogate: Surrogate) -> None:
    path = draw_paths(surrogate.fit(dataset(14), Seeds.of(0, 0)), 3, Seeds.of(0, 1))
    leaf = rows(4, seed=5).requires_grad_()
    (gradient,) = torch.autograd.grad(path(leaf)[1].sum(), leaf)
    for column in range(2):
        step = torch.zeros(3, dtype=torch.float64)
        step[column] = 1e-6
        slope = (path(leaf.detach() + step) - path(leaf.detach() - step))[1] / 2e-6
        assert_close(gradient[:, column], slope, rtol=1e-3, atol=1e-3)  # some waves are short


def test_paths_of_replicates_are_those_of_their_seeds() -> None:
    data, test = dataset(9, 2), rows(4, 2, seed=7)
    process = SGPR(inducing=5).fit(data, Seeds((1, 2), (2,)))
    together = draw_paths(process, 6, Seeds((3, 4), (2,)))(test)
    assert together.shape == (6, 2, 4)
    again = draw_paths(process, 6, Seeds((3, 4), (2,)))(test)
    assert torch.equal(together, again)
    assert not torch.equal(together[:, 0], draw_paths(process, 6, Seeds((5, 4), (2,)))(test)[:, 0])


def test_what_has_no_paths_is_said() -> None:
    data = dataset(9)
    process = ExactGP().fit(data, Seeds.of(0, 0))
    with pytest.raises(DataError, match="count and features must be >= 1, got 0 and 1024"):
        draw_paths(process, 0, Seeds.of(0, 0))
    fantasies = process.condition(rows(1, seed=1), torch.zeros(2, 1, dtype=torch.float64))
    with pytest.raises(DataError, match="without fantasies"):
        draw_paths(fantasies, 1, Seeds.of(0, 0))
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())
    with pytest.raises(DataError, match="paths need a kernel with `frequencies`"):
        ThompsonSampling(surrogate=ExactGP(kernel=kernel)).build(data, Seeds.of(0, 0))
    with pytest.raises(DataError, match="`features >= 1` must hold, got 0"):
        ThompsonSampling(features=0)


@pytest.mark.parametrize("surrogate", [AutoGP(), SGPR(inducing=6)], ids=lambda s: type(s).__name__)
def test_thompson_sampling_keeps_the_contract(surrogate: Surrogate) -> None:
    check_acquisition(ThompsonSampling(surrogate=surrogate))


def test_each_trial_draws_its_own_path() -> None:
    data, test = dataset(14), rows(50, seed=2)
    scores = [ThompsonSampling().build(data, Seeds.of(0, trial))(test) for trial in range(2)]
    assert not torch.equal(*scores)


def test_a_classifier_can_be_sampled() -> None:
    data = dataset(30)
    labels = replace(data, y=(data.y < 0).double())
    process = SVGP(inducing=10, likelihood=BernoulliLogit()).fit(labels, Seeds.of(0, 0))
    values = draw_paths(process, 200, Seeds.of(0, 1))(data.x)
    assert float(((values.mean(0) > 0) == (data.y < 0)).double().mean()) > 0.8


@pytest.mark.parametrize("surrogate", SURROGATES, ids=str)
def test_the_mean_path_is_the_posterior_mean(surrogate: Surrogate) -> None:
    process = fitted(surrogate)
    x = rows(9, seed=3)
    assert_close(mean_path(process)(x)[0], process.mean(x))


def test_a_process_whose_kernel_has_no_frequencies_has_no_paths() -> None:
    assert has_paths(fitted(ExactGP()))
    assert not has_paths(fitted(ExactGP(kernel=gpytorch.kernels.RBFKernel())))
