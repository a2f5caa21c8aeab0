"""Every built-in passes the checks that outsiders are given; parts with a planted fault do not."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import gpytorch
import pytest
import torch

from bo_suite.acquisition import (
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.errors import DataError
from bo_suite.surrogates import SGPR, ExactGP, Surrogate
from bo_suite.testing import check_acquisition, check_surrogate

KERNEL = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=3)).double()


SLOPED = gpytorch.kernels.ScaleKernel(gpytorch.kernels.LinearKernel()).double() + KERNEL
"""Not stationary: its variance has a gradient of its own."""


@pytest.mark.parametrize(
    "surrogate",
    [
        ExactGP(),
        ExactGP(restarts=4),
        ExactGP(kernel=KERNEL),
        pytest.param(ExactGP(kernel=SLOPED), marks=pytest.mark.slow),
        pytest.param(SGPR(inducing=5, kernel=SLOPED), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_surrogates(surrogate: Surrogate) -> None:
    check_surrogate(surrogate)


@pytest.mark.parametrize(
    "acquisition",
    [
        LogExpectedImprovement(),
        LogExpectedImprovement(fantasies=8),
        NoisyExpectedImprovement(),
        UpperConfidenceBound(),
        UpperConfidenceBound(beta=0.5),
        pytest.param(LogExpectedImprovement(surrogate=ExactGP(kernel=KERNEL)), marks=pytest.mark.slow),
        KnowledgeGradient(),
        pytest.param(
            KnowledgeGradient(surrogate=ExactGP(kernel=SLOPED), fantasies=4),
            marks=pytest.mark.slow,
        ),
        pytest.param(KnowledgeGradient(surrogate=SGPR(inducing=5)), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_acquisitions(acquisition: object) -> None:
    check_acquisition(acquisition)


@dataclass(frozen=True)
class Deaf:
    """Ignores pending points."""

    inner: object

    def build(self, data, seeds, start=None):
        return self.inner.build(replace(data, pending=data.pending[:0]), seeds, start)


@dataclass(frozen=True)
class Forgetful:
    """Draws from the global generator."""

    inner: object

    def fit(self, data, seeds, start=None):
        noise = 0.1 * torch.randn_like(data.y)
        return self.inner.fit(replace(data, y=data.y + noise), seeds)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogExpectedImprovement(fantasies=0), "`fantasies >= 1` must hold, got 0"),
        (lambda: NoisyExpectedImprovement(baseline=0), "`baseline >= 1` must hold, got 0"),
        (lambda: UpperConfidenceBound(beta=-1.0), "`0 <= beta < inf` must hold, got -1.0"),
        (lambda: ExactGP(restarts=0), "`restarts >= 1` must hold, got 0"),
        (lambda: ExactGP(noise_spread=0.0), "`0 < noise_spread` and a finite noise_location must hold"),
    ],
)
def test_a_bad_configuration_is_refused_at_once(make, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_planted_faults_are_found() -> None:
    with pytest.raises(AssertionError, match="pending point must lower"):
        check_acquisition(Deaf(LogExpectedImprovement()))
    with pytest.raises(AssertionError, match="same seeds must give the same process"):
        check_surrogate(Forgetful(ExactGP()))


def test_a_cost_that_is_no_function_is_refused_at_once() -> None:
    fields = SimpleNamespace(quantiles=1, candidates=1, fantasies=1, cost=3.0)  # annotations would be first
    with pytest.raises(DataError, match=r"a cost must be a function of rows and fidelity columns, got 3\.0"):
        KnowledgeGradient.__post_init__(fields)
