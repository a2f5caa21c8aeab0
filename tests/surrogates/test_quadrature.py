import math
from itertools import pairwise

import pytest
import torch
from scipy import special
from scipy.integrate import quad
from scipy.stats import norm, poisson
from torch import Tensor
from torch.testing import assert_close

from bo_suite.surrogates.variational import quadrature


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_polynomials_and_exponentials_have_their_moments() -> None:
    mean, var = tensor(-0.3, 1.0), tensor(0.7, 2.0)
    assert_close(quadrature.expectation(lambda f: f.square(), mean, var), mean.square() + var)
    third = mean**3 + 3.0 * mean * var
    assert_close(quadrature.expectation(lambda f: f**3, mean, var), third)
    assert_close(quadrature.log_expectation(lambda f: f, mean, var), mean + 0.5 * var)


@pytest.mark.parametrize("count", [2, 7, 64])
def test_normal_draws_have_mean_zero_variance_one_and_no_skewness(count: int) -> None:
    z = quadrature.normal_draws(count)
    assert z.shape == (count,)
    assert bool((z.diff() > 0).all())
    assert_close(torch.stack([z.mean(), z.square().mean(), (z**3).mean()]), tensor(0.0, 1.0, 0.0))


def test_polya_gamma_mean_is_the_series_of_its_gamma_variables() -> None:
    assert_close(
        quadrature.polya_gamma_mean(tensor(0.0, 1e-9, 1e-5)), tensor(0.25, 0.25, 0.25), rtol=1e-11, atol=0
    )
    half = torch.arange(0.5, 1e6, dtype=torch.float64)
    for c in (0.0, 0.3, 2.0, 30.0):
        series = (half.square() + (c / (2.0 * math.pi)) ** 2).reciprocal().sum() / (2.0 * math.pi**2)
        found = float(quadrature.polya_gamma_mean(tensor(-c)))
        assert_close(found, float(series), rtol=1e-5, atol=0.0)
        assert_close(found, math.tanh(c / 2) / (2 * c) if c else 0.25, rtol=1e-14, atol=0.0)
    assert_close(quadrature.polya_gamma_mean(tensor(1e200)), tensor(5e-201), rtol=1e-14, atol=0.0)


def test_an_expected_rate_goes_on_along_its_tangent() -> None:
    mean, var = tensor(1.0, 25.0, 40.0, 1e6), tensor(2.0, 10.0, 0.0, 1.0)
    value, slope = quadrature.expected_rate(mean, var)
    most = math.exp(30.0)
    assert_close(value, tensor(math.exp(2.0), most, 11.0 * most, (1e6 + 0.5 - 29.0) * most))
    assert_close(slope, tensor(math.exp(2.0), most, most, most))


def log1p_mean(q: float, r: float) -> float:
    """∫ log(1 + x²) N(x | √q, r) dx by adaptive quadrature."""
    mean, std = math.sqrt(q), math.sqrt(r)
    ends = sorted({mean - 12.0 * std, min(max(0.0, mean - 12.0 * std), mean + 12.0 * std), mean + 12.0 * std})
    total = 0.0
    for low, high in pairwise(ends):
        cuts = [x for x in (-100.0, -1.0, 1.0, 100.0, mean) if low < x < high]
        total += quad(
            lambda x: math.log1p(x * x) * norm.pdf(x, mean, std),
            low,
            high,
            points=cuts,
            epsabs=0.0,
            limit=2000,
        )[0]
    return total


@pytest.mark.parametrize(
    ("q", "r"), [(1e-6, 1e-6), (1.0, 0.1), (5.0, 2.0), (100.0, 1.0), (0.0, 1e4), (1e6, 1e6)]
)
def test_expected_log_of_one_plus_a_square_over_eleven_decades(q: float, r: float) -> None:
    assert_close(
        float(quadrature.expected_log1p(tensor(q), tensor(r))), log1p_mean(q, r), rtol=1e-9, atol=0.0
    )


@pytest.mark.parametrize("q", [1e-6, 2.0, 1e6, 1e9])
def test_expected_log_and_power_without_variance_are_those_at_the_mean(q: float) -> None:
    at, none = tensor(q).requires_grad_(), tensor(0.0).requires_grad_()
    value = quadrature.expected_log1p(at, none)
    by_q, by_r = torch.autograd.grad(value.sum(), (at, none))
    assert_close(float(value.detach()), math.log1p(q), rtol=1e-9, atol=0.0)
    assert_close(float(by_q), 1.0 / (1.0 + q), rtol=1e-7, atol=0.0)
    assert_close(float(by_r), (1.0 - q) / (1.0 + q) ** 2, rtol=1e-5, atol=1e-13)
    for k in (1.0, 2.5, 50.0, 5e5):
        power = float(quadrature.log_expected_power(tensor(q), tensor(0.0), k))
        assert_close(power, math.lgamma(k) - k * math.log1p(q), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("k", [1.0, 2.5, 50.0])
def test_a_wide_power_sees_the_normal_density_at_its_peak(k: float) -> None:
    mean, var = 1e5, 1e10
    mass = 0.5 * math.log(math.pi) + math.lgamma(k - 0.5)
    found = float(quadrature.log_expected_power(tensor(mean**2), tensor(var), k))
    assert_close(found, mass + norm.logpdf(0.0, mean, math.sqrt(var)), rtol=0.0, atol=1e-3)


@pytest.mark.parametrize("y", [0.0, 3.0, 1000.0, 1e5])
def test_a_poisson_mixture_without_variance_is_poisson(y: float) -> None:
    for rate in (0.1, 30.0, 1e5):
        found = quadrature.log_poisson_mixture(tensor(y), tensor(math.log(rate)), tensor(0.0))
        assert_close(float(found), float(poisson.logpmf(y, rate)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("y", "mean", "var"), [(0.0, 8.0, 25.0), (1.0, -5.0, 25.0), (1000.0, 6.0, 0.3), (1e5, 0.0, 9.0)]
)
def test_a_poisson_mixture_agrees_with_quadrature_by_the_rate(y: float, mean: float, var: float) -> None:
    peak = (
        special.lambertw(var * math.exp(min(mean + var * y, 700.0))).real / var if mean + var * y < 700 else y
    )
    std = math.sqrt(var)

    def joint(f: float) -> float:
        return math.exp(y * f - math.exp(f) - math.lgamma(y + 1.0) + norm.logpdf(f, mean, std) - top)

    at = math.log(peak)
    top = y * at - peak - math.lgamma(y + 1.0) + norm.logpdf(at, mean, std)
    width = 1.0 / math.sqrt(peak + 1.0 / var)
    ends = [at - 40 * std, at - 10 * width, at, at + 10 * width, at + 4 * std + 10 * width]
    mass = sum(quad(joint, low, high, epsabs=1e-14, limit=500)[0] for low, high in pairwise(ends))
    found = quadrature.log_poisson_mixture(tensor(y), tensor(mean), tensor(var))
    assert_close(float(found), math.log(mass) + top, rtol=1e-8, atol=1e-8)
