import math

import mpmath
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch.testing import assert_close

from bo_suite.acquisition import improvement
from bo_suite.acquisition.improvement import LogExpectedImprovement, log_expected_improvement, log_h
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP


def exact_log_h(u: float) -> float:
    with mpmath.workdps(60):
        point = mpmath.mpf(u)
        return float(mpmath.log(mpmath.npdf(point) + point * mpmath.ncdf(point)))


@pytest.mark.parametrize(
    "u", [-141.5, -140.0, -100.1, -99.9, -60.0, -38.0, -10.0, -2.0, -1.0, -1e-9, 0.0, 0.5, 3.0, 50.0]
)
def test_log_h_agrees_with_mpmath_down_to_minus_ten_thousand(u: float) -> None:
    point = torch.tensor(u, dtype=torch.float64)
    assert_close(float(log_h(point)), exact_log_h(u), rtol=1e-11, atol=1e-11)


def test_the_range_reaches_log_ei_of_minus_ten_thousand() -> None:
    assert exact_log_h(-141.5) < -1e4


def test_log_h_has_its_own_derivative_everywhere() -> None:
    u = torch.linspace(-300.0, 8.0, 4001, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_h(u).sum(), u)
    for point, slope in zip(u.tolist()[::400], gradient.tolist()[::400], strict=True):
        with mpmath.workdps(60):
            z = mpmath.mpf(point)
            exact = float(mpmath.ncdf(z) / (mpmath.npdf(z) + z * mpmath.ncdf(z)))
        assert_close(slope, exact, rtol=1e-9, atol=0.0)
    assert bool((gradient > 0).all())


def test_extreme_arguments_stay_finite_with_finite_slopes() -> None:
    u = torch.tensor([-1e100, -1e10, -1e4, 1e4, 1e10], dtype=torch.float64, requires_grad=True)
    value = log_h(u)
    (gradient,) = torch.autograd.grad(value.sum(), u)
    assert not bool(torch.isnan(value).any())
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("mean", "std", "best"), [(0.3, 0.5, 0.1), (-1.0, 0.01, 0.2), (2.0, 0.3, 0.0)])
def test_expected_improvement_agrees_with_quadrature(mean: float, std: float, best: float) -> None:
    integral, _ = quad(
        lambda f: (best - f) * norm.pdf(f, mean, std),
        mean - 40 * std,
        best,
        points=[mean],
        epsabs=0,
        limit=500,
    )
    tensors = [torch.tensor([v], dtype=torch.float64) for v in (mean, std**2, best)]
    assert_close(float(log_expected_improvement(*tensors)), math.log(integral), rtol=1e-7, atol=1e-7)


def test_luck_of_many_observations_is_no_incumbent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of noisy outcomes the smallest posterior mean is improved on, of those known without noise the best."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    y = x[:, 0] + torch.randn(60, generator=generator, dtype=torch.float64)
    known = torch.full_like(y, torch.nan)
    known[y.argsort()[5]] = 1e-6
    acquisition = LogExpectedImprovement(surrogate=ExactGP())
    few = acquisition.build(Dataset(x, y), Seeds.of(0, 0))
    assert_close(few.best, y.min()[None])
    monkeypatch.setattr(improvement, "MANY", 50)
    for noise in (None, known):
        score = acquisition.build(Dataset(x, y, noise), Seeds.of(0, 0))
        least = score.process.mean(x)
        if noise is not None:
            least = torch.where(noise.isnan(), least, y)
        assert_close(score.best, least.min()[None])
        assert float(score.best) > float(y.min())
    exact = acquisition.build(Dataset(x, y, torch.full_like(y, 1e-6)), Seeds.of(0, 0))
    assert_close(exact.best, y.min()[None])
