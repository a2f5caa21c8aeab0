"""Moments of Pólya-gamma variables, and logistic regression by their closed-form updates."""

import math

import gpytorch
import mpmath
import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor
from torch.testing import assert_close

from bo_suite.classifiers.base import WeightedExamples
from bo_suite.classifiers.gp import GPClassifier
from bo_suite.kernels import as_kernel
from bo_suite.surrogates.variational.quadrature import polya_gamma_mean

TILTS = [0.0, 1e-6, 0.1, 1.0, 5.0, 50.0, 500.0]
EACH = pytest.mark.parametrize("c", TILTS)

ALPHA = 2.0
"""Prior precision of the coefficients of (1, x, x²)."""

TRUTH = np.array([math.log(2.0) - 0.5, 1.0, -0.375])
"""Log ratio of N(1, 1) to N(0, 2²)."""


def laplace_cumulant(c: float, order: int) -> float:
    """Of PG(1, c), by the derivatives at 0 of log(cosh(c / 2) / cosh(√((c² / 2 + t) / 2)))."""
    with mpmath.workdps(80):
        tilt = mpmath.mpf(c)

        def log_transform(t: mpmath.mpf) -> mpmath.mpf:
            root = mpmath.sqrt((tilt**2 / 2 + t) / 2)
            return mpmath.log(mpmath.cosh(tilt / 2)) - mpmath.log(mpmath.cosh(root))

        return float(mpmath.re((-1) ** order * mpmath.diff(log_transform, 0, order, h=mpmath.mpf(10) ** -25)))


def variance(c: float) -> float:
    """(sinh c - c) / (4 c³ cosh²(c / 2)), 1/24 at 0."""
    with mpmath.workdps(60):
        tilt = mpmath.mpf(c)
        if c == 0.0:
            return 1.0 / 24.0
        return float((mpmath.sinh(tilt) - tilt) / (4 * tilt**3 * mpmath.cosh(tilt / 2) ** 2))


def terms(c: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the first gamma variables' parts of PG(1, c), and of the sum of all others.

    ω = (1 / 2π²) Σ g_k / ((k - ½)² + a²), a = c / 2π; beyond the first `count`, by an integral.
    """
    a = np.maximum(np.abs(c), 1e-9)[..., None] / (2.0 * math.pi)
    head = 1.0 / ((np.arange(count) + 0.5) ** 2 + a**2)
    return head / (2.0 * math.pi**2), (np.arctan(a / count) / a)[..., 0] / (2.0 * math.pi**2)


def draw(c: np.ndarray, generator: np.random.Generator, count: int = 200) -> np.ndarray:
    """Draws of PG(1, c), the variables beyond the first `count` being as their mean."""
    head, rest = terms(c, count)
    return (head * generator.standard_exponential(head.shape)).sum(-1) + rest


@EACH
def test_the_mean_is_the_slope_of_the_laplace_transform(c: float) -> None:
    found = polya_gamma_mean(torch.tensor([c, -c], dtype=torch.float64))
    assert_close(found, torch.full_like(found, laplace_cumulant(c, 1)), rtol=1e-13, atol=0.0)


@EACH
def test_the_variance_is_the_curvature_of_the_laplace_transform(c: float) -> None:
    assert_close(variance(c), laplace_cumulant(c, 2), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("c", TILTS[2:])
def test_the_slope_of_the_mean_by_half_the_squared_tilt_is_minus_the_variance(c: float) -> None:
    tilt = torch.tensor([c], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(polya_gamma_mean(tilt).sum(), tilt)
    assert_close(float(-slope / c), variance(c), rtol=1e-11, atol=0.0)


@EACH
def test_draws_by_the_sum_of_gamma_variables_have_these_moments(c: float) -> None:
    draws = draw(np.full(20_000, c), np.random.default_rng(0))
    mean, spread = float(polya_gamma_mean(torch.tensor([c], dtype=torch.float64))), variance(c)
    assert abs(draws.mean() - mean) < 4.0 * math.sqrt(spread / len(draws))
    squares = (draws - mean) ** 2
    assert abs(squares.mean() - spread) < 4.0 * squares.std() / math.sqrt(len(draws))


@EACH
def test_the_terms_of_the_sum_and_their_tail_add_up_to_the_mean(c: float) -> None:
    head, rest = terms(np.array([c]), 200)
    mean = float(polya_gamma_mean(torch.tensor([c], dtype=torch.float64)))
    assert_close(float(head.sum() + rest[0]), mean, rtol=1e-6, atol=0.0)
    assert mean - float(head.sum()) > 2e-5


def toy(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (1, x, x²) and labels of as many draws from N(1, 1), label 1, as from N(0, 2²)."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal((2, count // 2))
    x = np.concatenate((1.0 + normal[0], 2.0 * normal[1]))
    return x[:, None] ** np.arange(3), np.repeat([1.0, 0.0], count // 2)


def regression(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the coefficients, the values of f at the unit vectors: k(z, x) = zᵀx / α."""
    kernel = gpytorch.kernels.LinearKernel().double()
    kernel.variance = 1.0 / ALPHA
    theta = as_kernel(kernel, ()).start(3)
    y, units = torch.from_numpy(labels), torch.eye(3, dtype=torch.float64)
    data = WeightedExamples(torch.from_numpy(features), y, 1.0 - y)
    process = GPClassifier(kernel=kernel, mean=0.0).posterior(data, theta, units).process
    return process.mean(units).numpy(), process.cov(units, units).numpy()


def laplace(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mode of the posterior and the inverse Hessian there, by Newton's method."""
    beta = np.zeros(3)
    for _ in range(50):
        pi = expit(features @ beta)
        hessian = (features.T * (pi * (1.0 - pi))) @ features + ALPHA * np.eye(3)
        beta = beta + np.linalg.solve(hessian, features.T @ (labels - pi) - ALPHA * beta)
    return beta, np.linalg.inv(hessian)


def gibbs(features: np.ndarray, labels: np.ndarray, sweeps: int, seed: int) -> np.ndarray:
    """Draws of the coefficients (Polson, Scott and Windle 2013, section 3.1), the first tenth left out."""
    generator = np.random.default_rng(seed)
    beta, draws = np.zeros(3), []
    for _ in range(sweeps):
        omega = draw(features @ beta, generator, 50)
        root = np.linalg.cholesky((features.T * omega) @ features + ALPHA * np.eye(3))
        white = np.linalg.solve(root, features.T @ (labels - 0.5)) + generator.standard_normal(3)
        beta = np.linalg.solve(root.T, white)
        draws.append(beta)
    return np.array(draws[sweeps // 10 :])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ten_thousand_labels_give_the_coefficients_of_the_log_density_ratio(seed: int) -> None:
    """By the posterior's own deviations, which are too small, and by those of Laplace's approximation."""
    features, labels = toy(10_000, seed)
    mean, cov = regression(features, labels)
    mode, spread = laplace(features, labels)
    assert (np.abs(mean - mode) < 0.02 * np.sqrt(np.diag(spread))).all()
    for matrix, each in ((cov, 3.0), (spread, 2.0)):
        assert (np.abs(mean - TRUTH) < each * np.sqrt(np.diag(matrix))).all()
    assert (mean - TRUTH) @ np.linalg.solve(spread, mean - TRUTH) < 3.0**2


def test_the_posterior_is_centred_as_gibbs_sampling_is_and_no_wider() -> None:
    """The bound holds back information: its precisions are ω where those of the likelihood are π (1 - π)."""
    features, labels = toy(128, 8888)
    mean, cov = regression(features, labels)
    draws = gibbs(features, labels, 4000, 0)
    exact = draws.std(0)
    assert (np.abs(mean - draws.mean(0)) < 0.2 * exact).all()
    ratio = np.sqrt(np.diag(cov)) / exact
    assert (ratio > 0.6).all()
    assert (ratio < 1.05).all()


def test_the_ratio_is_largest_where_the_known_one_is() -> None:
    x = torch.linspace(-5.0, 5.0, 3001, dtype=torch.float64)
    features: Tensor = x[:, None] ** torch.arange(3)
    mean, _ = regression(*toy(10_000, 0))
    best = float(x[(features @ torch.from_numpy(mean)).argmax()])
    assert abs(best - 4.0 / 3.0) < 0.1
