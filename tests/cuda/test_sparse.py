"""Sparse surrogates give the same numbers on a CUDA device as on the CPU."""

import pytest
import torch
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import SGPR, SVGP, AutoGP
from bo_suite.surrogates.features import Activations, Orthogonal, SphericalHarmonics
from bo_suite.surrogates.paths import draw_paths
from bo_suite.surrogates.variational.likelihoods import BernoulliLogit, Poisson
from bo_suite.testing.data import dataset, rows

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def to_cuda(data: Dataset) -> Dataset:
    return Dataset(data.x.cuda(), data.y.cuda(), None, data.pending.cuda(), data.columns)


@pytest.mark.parametrize("surrogate", [SGPR(inducing=12), SVGP(inducing=12, mean=0.0)], ids=str)
def test_a_process_its_streaming_and_its_paths_agree_with_the_cpu(surrogate) -> None:
    data, test, seeds = dataset(40, 3), rows(6, 3, seed=3), Seeds((1, 2, 3), (3,))
    here = surrogate.fit(data, seeds)
    there = surrogate.process(to_cuda(data), here.hyperparameters.cuda(), here.inducing.cuda())
    assert there.mean(test.cuda()).is_cuda
    assert_close(there.mean(test.cuda()).cpu(), here.mean(test), **CLOSE)
    assert_close(there.cov(test.cuda(), test.cuda()).cpu(), here.cov(test, test), **CLOSE)
    more = rows(2, 3, seed=4)
    y = torch.ones(3, 2, dtype=torch.float64)
    for change in ("absorb", "condition"):
        left = getattr(here, change)(more, y)
        right = getattr(there, change)(more.cuda(), y.cuda())
        assert_close(right.mean(test.cuda()).cpu(), left.mean(test), **CLOSE)
    back = there.absorb(more.cuda(), y.cuda()).release(more.cuda(), y.cuda())
    assert_close(back.mean(test.cuda()), there.mean(test.cuda()), **CLOSE)
    paths = draw_paths(there, 5, seeds)(test.cuda())
    assert paths.is_cuda
    assert_close(paths.cpu(), draw_paths(here, 5, seeds)(test), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "features",
    [SphericalHarmonics(count=12), Activations(8), Orthogonal(SphericalHarmonics(degree=1), 5)],
    ids=str,
)
def test_features_agree_with_the_cpu(features) -> None:
    data, test, seeds = dataset(40, 3), rows(6, 3, seed=3), Seeds((1, 2, 3), (3,))
    surrogate = SGPR(inducing=features)
    here = surrogate.fit(data, seeds)
    eta, device = here.hyperparameters.cuda(), to_cuda(data)
    variables = surrogate.place(device, eta, seeds)
    variables = variables.moved(here.variables.parameters.cuda())
    there = surrogate.process(device, eta, variables)
    assert_close(there.mean(test.cuda()).cpu(), here.mean(test), **CLOSE)
    assert_close(there.cov(test.cuda(), test.cuda()).cpu(), here.cov(test, test), **CLOSE)
    paths = draw_paths(there, 5, seeds)(test.cuda())
    assert_close(paths.cpu(), draw_paths(here, 5, seeds)(test), rtol=1e-4, atol=1e-4)
    assert surrogate.fit(device, seeds).mean(test.cuda()).is_cuda


@pytest.mark.parametrize("likelihood", [BernoulliLogit(), Poisson()], ids=str)
def test_other_likelihoods_are_fitted_on_the_device(likelihood) -> None:
    data = dataset(60)
    counts = Dataset(data.x, (data.y > 0).double(), None, data.pending, data.columns)
    process = SVGP(inducing=15, likelihood=likelihood).fit(to_cuda(counts), Seeds.of(0, 0))
    mean = process.mean(data.x.cuda())
    assert mean.is_cuda
    assert float(mean[data.y > 0].mean()) > float(mean[data.y <= 0].mean())


def test_the_handover_works_on_the_device() -> None:
    data = to_cuda(dataset(60))
    process = AutoGP(handover=30).fit(data, Seeds.of(0, 0))
    assert_close(process.mean(data.x), data.y, rtol=0.0, atol=0.3)
