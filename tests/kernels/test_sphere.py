"""Zonal series against SciPy, quadrature and published values."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import eval_gegenbauer, eval_legendre
from torch import Tensor
from torch.testing import assert_close

from bo_suite.errors import DataError
from bo_suite.kernels.sphere import funk_hecke, harmonics_count, legendre, zonal_products, zonal_sum

DOUBLES = {"dtype": torch.float64}
COSINES = torch.linspace(-1.0, 1.0, 41, **DOUBLES)


def arc_cosine(t: Tensor) -> Tensor:
    """Cho and Saul 2009, equation 6, over its value at t = 1."""
    angle = torch.arccos(t)
    return (angle.sin() + (math.pi - angle) * t) / math.pi


def gaussian(t: Tensor) -> Tensor:
    return torch.exp((t - 1.0) / 0.6**2)


def counts(dim: int, degree: int) -> Tensor:
    return torch.tensor([float(harmonics_count(dim, each)) for each in range(degree + 1)], **DOUBLES)


def test_numbers_of_harmonics_are_the_published_ones() -> None:
    assert [harmonics_count(2, degree) for degree in range(4)] == [1, 2, 2, 2]
    assert [harmonics_count(3, degree) for degree in range(5)] == [1, 3, 5, 7, 9]
    assert [harmonics_count(4, degree) for degree in range(5)] == [1, 4, 9, 16, 25]
    assert harmonics_count(21, 2) == 21 * 22 // 2 - 1


@pytest.mark.parametrize("dim", [3, 4, 9, 21])
def test_polynomials_are_those_of_scipy(dim: int) -> None:
    order = 0.5 * (dim - 2)
    for degree in (0, 1, 2, 7, 20):
        expected = eval_gegenbauer(degree, order, COSINES.numpy()) / eval_gegenbauer(degree, order, 1.0)
        polynomial = legendre(COSINES, dim, degree)[:, -1]
        assert_close(polynomial, torch.tensor(expected), rtol=0.0, atol=1e-13)


def test_on_the_circle_they_are_chebyshev_polynomials_and_on_the_sphere_those_of_legendre() -> None:
    degrees = torch.arange(13, **DOUBLES)
    expected = torch.cos(degrees * torch.arccos(COSINES)[:, None])
    assert_close(legendre(COSINES, 2, 12), expected, rtol=0.0, atol=1e-13)
    expected = torch.tensor(eval_legendre(np.arange(13), COSINES.numpy()[:, None]))
    assert_close(legendre(COSINES, 3, 12), expected, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("dim", [2, 3, 6, 21])
def test_a_series_and_its_slope_are_those_of_its_terms(dim: int) -> None:
    generator = torch.Generator().manual_seed(0)
    t = 2.0 * torch.rand(2, 300, 70, generator=generator, **DOUBLES) - 1.0
    t[0, 0, 0], t[1, 0, 0] = 1.0, -1.0
    coefficients = torch.randn(2, 9, generator=generator, **DOUBLES) / counts(dim, 8)
    values, slopes = zonal_sum(t, coefficients, dim)
    leaf = t.clone().requires_grad_()
    expected = (legendre(leaf, dim, 8) @ (coefficients * counts(dim, 8))[:, None, :, None])[..., 0]
    assert_close(values, expected.detach(), rtol=0.0, atol=1e-12)
    by_t = torch.autograd.grad(expected.sum(), leaf)[0]
    assert_close(slopes, by_t, rtol=1e-11, atol=1e-11)
    alone, _ = zonal_sum(t[1], coefficients[1], dim)
    assert torch.equal(alone, values[1])


@pytest.mark.parametrize("dim", [2, 3, 9])
def test_products_are_the_gradient_of_a_series(dim: int) -> None:
    t = COSINES[:40].reshape(2, 4, 5)
    weights = torch.cos(torch.arange(40.0, **DOUBLES)).reshape(2, 4, 5)
    terms = legendre(t, dim, 7) * counts(dim, 7)
    assert_close(zonal_products(weights, t, dim, 7), torch.einsum("bmn,bmnl->bl", weights, terms))
    assert_close(zonal_products(weights, t, dim, 0), weights.sum((-2, -1))[..., None])


@pytest.mark.parametrize("degree", [0, 1])
def test_the_shortest_series(degree: int) -> None:
    values, slopes = zonal_sum(COSINES[None], torch.ones(degree + 1, **DOUBLES), 4)
    assert_close(values[0], 1.0 + 4.0 * degree * COSINES)
    assert_close(slopes[0], torch.full_like(COSINES, 4.0 * degree))


@pytest.mark.parametrize("dim", [2, 3, 9])
@pytest.mark.parametrize("kappa", [arc_cosine, gaussian])
def test_coefficients_are_those_of_adaptive_quadrature(dim: int, kappa) -> None:
    mass = quad(lambda a: math.sin(a) ** (dim - 2), 0.0, math.pi)[0]
    coefficients = funk_hecke(kappa, dim, 6)
    for degree in range(7):

        def integrand(angle: float, degree: int = degree) -> float:
            t = torch.tensor(math.cos(angle), **DOUBLES)
            return float(kappa(t) * legendre(t, dim, degree)[-1]) * math.sin(angle) ** (dim - 2)

        expected = quad(integrand, 0.0, math.pi, epsabs=1e-13)[0] / mass
        assert_close(coefficients[degree].item(), expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 5, 21])
def test_the_series_of_a_smooth_kernel_is_the_kernel(dim: int) -> None:
    degree, tolerance = (40, 1e-12) if dim < 6 else (24, 1e-10)
    coefficients = funk_hecke(gaussian, dim, degree)
    assert (coefficients > -1e-15).all()
    total = (coefficients * counts(dim, degree)).sum()
    assert_close(total.item(), 1.0, rtol=0.0, atol=tolerance)
    values, _ = zonal_sum(COSINES[None], coefficients, dim)
    assert_close(values[0], gaussian(COSINES), rtol=0.0, atol=tolerance)


def test_odd_coefficients_of_a_kink_vanish_from_the_third_on() -> None:
    for dim in (2, 3, 9):
        for shape in (torch.relu, arc_cosine):
            coefficients = funk_hecke(shape, dim, 9)
            assert coefficients[3::2].abs().max() < 1e-15
            assert coefficients[[0, 1, 2, 4, 6, 8]].abs().min() > 1e-7


def test_the_coefficients_of_a_rectifier_on_the_sphere_are_the_published_ones() -> None:
    # E[max(t, 0) P_l(t)] with t uniform on [-1, 1]: 1/4, 1/6, 1/16, 0, -1/96 (Bach 2017, appendix D)
    expected = torch.tensor([1 / 4, 1 / 6, 1 / 16, 0.0, -1 / 96], **DOUBLES)
    assert_close(funk_hecke(torch.relu, 3, 4), expected, rtol=0.0, atol=1e-15)


def test_coefficients_have_the_batch_and_the_dtype_of_the_function() -> None:
    widths = torch.tensor([[0.3], [0.9]], dtype=torch.float32)
    coefficients = funk_hecke(lambda t: torch.exp((t - 1.0) / widths**2).float(), 4, 5)
    assert coefficients.shape == (2, 6)
    assert coefficients.dtype == torch.float32


@pytest.mark.parametrize(("dim", "degree"), [(1, 3), (3, -1)])
def test_a_sphere_that_does_not_exist_is_refused(dim: int, degree: int) -> None:
    for function in (lambda: harmonics_count(dim, degree), lambda: legendre(COSINES, dim, degree)):
        with pytest.raises(DataError, match=f"got dim={dim}, degree={degree}"):
            function()
