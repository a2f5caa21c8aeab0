import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from scipy.integrate import quad
from scipy.stats import t as student
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from bo_suite.errors import DataError
from bo_suite.surrogates.noise import log_noise_prior
from bo_suite.surrogates.variational.likelihoods import (
    BernoulliLogit,
    BernoulliProbit,
    Gaussian,
    Likelihood,
    MonteCarloLikelihood,
    Poisson,
    StudentT,
)

Scalar = Callable[[float], float]
Reference = tuple[Scalar, Scalar, Scalar]


def logit_density(y: Tensor, f: Tensor) -> Tensor:
    return logsigmoid((2.0 * y - 1.0) * f)


def gaussian_density(y: Tensor, f: Tensor) -> Tensor:
    return -0.5 * (math.log(2.0 * math.pi) - 1.0 + (y - f).square() * math.e)  # noise variance 1 / e


LIKELIHOODS: dict[str, Any] = {
    "gaussian": (Gaussian(), [-1.0], (0.7, -0.3, 2.0)),
    "logit": (BernoulliLogit(polya_gamma=False), [], (1.0, 0.0, 1.0)),
    "probit": (BernoulliProbit(), [], (1.0, 0.0, 1.0)),
    "student": (StudentT(), [-3.0], (0.7, -0.3, 2.0)),
    "poisson": (Poisson(), [], (0.0, 1.0, 12.0)),
    "monte carlo": (MonteCarloLikelihood(logit_density, log_concave=True), [], (1.0, 0.0, 1.0)),
}
EACH = pytest.mark.parametrize("name", LIKELIHOODS)


def given(name: str, dtype: torch.dtype = torch.float64) -> tuple[Likelihood, Tensor, Tensor]:
    likelihood, phi, y = LIKELIHOODS[name]
    return likelihood, torch.tensor(phi, dtype=dtype), torch.tensor(y, dtype=dtype)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def logit_reference(y: float, phi: list[float]) -> Reference:
    s = 2.0 * y - 1.0
    return (
        lambda f: -float(np.logaddexp(0.0, -s * f)),
        lambda f: s * special.expit(-s * f),
        lambda f: -special.expit(f) * special.expit(-f),
    )


def probit_reference(y: float, phi: list[float]) -> Reference:
    s = 2.0 * y - 1.0

    def hazard(u: float) -> float:
        return math.exp(-0.5 * u * u - special.log_ndtr(u)) / math.sqrt(2.0 * math.pi)

    return (
        lambda f: special.log_ndtr(s * f),
        lambda f: s * hazard(s * f),
        lambda f: -hazard(s * f) * (s * f + hazard(s * f)),
    )


def gaussian_reference(y: float, phi: list[float]) -> Reference:
    v = math.exp(phi[0])
    peak = -0.5 * math.log(2.0 * math.pi * v)
    return lambda f: peak - 0.5 * (y - f) ** 2 / v, lambda f: (y - f) / v, lambda f: -1.0 / v


def poisson_reference(y: float, phi: list[float]) -> Reference:
    peak = -math.lgamma(y + 1.0)
    return lambda f: peak + y * f - math.exp(f), lambda f: y - math.exp(f), lambda f: -math.exp(f)


def student_reference(y: float, phi: list[float], df: float = 4.0) -> Reference:
    k, a = df + 1.0, df * math.exp(phi[0])
    peak = float(student.logpdf(0.0, df)) - 0.5 * phi[0]
    return (
        lambda f: peak - 0.5 * k * math.log1p((y - f) ** 2 / a),
        lambda f: k * (y - f) / (a + (y - f) ** 2),
        lambda f: -k * (a - (y - f) ** 2) / (a + (y - f) ** 2) ** 2,
    )


REFERENCES: dict[str, Callable[[float, list[float]], Reference]] = {
    "gaussian": gaussian_reference,
    "logit": logit_reference,
    "probit": probit_reference,
    "student": student_reference,
    "poisson": poisson_reference,
}
"""log p(y | f) and its first two derivatives by f."""


def normal_mean(function: Scalar, mean: float, var: float, *breaks: float) -> float:
    """E[function(f)] by adaptive quadrature, told where f has features."""
    std = math.sqrt(var)

    def weighted(z: float) -> float:
        return function(mean + std * z) * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)

    points = [0.0, *(z for z in ((at - mean) / std for at in breaks) if abs(z) < 9.0)]
    return float(quad(weighted, -12.0, 12.0, points=points, epsabs=1e-14, limit=1000)[0])


EXACT = pytest.mark.parametrize("name", REFERENCES)


@EXACT
@pytest.mark.parametrize("mean", [-3.0, 0.4, 4.0])
@pytest.mark.parametrize("var", [1e-4, 0.5, 9.0, 25.0])
def test_expected_log_density_and_its_derivatives_agree_with_quadrature(
    name: str, mean: float, var: float
) -> None:
    """To 1e-8; for labels at variance 25, whose log density has poles too close to the nodes, to 1e-6."""
    likelihood, phi, ys = given(name)
    tolerance = {"rtol": 1e-6 if name in ("logit", "probit") and var > 9.0 else 1e-8, "atol": 1e-13}
    for y in ys.tolist():
        density, first, second = REFERENCES[name](y, phi.tolist())
        m, v = tensor(mean).requires_grad_(), tensor(var).requires_grad_()
        value = likelihood.expected_log_density(tensor(y), m, v, phi, None)
        by_mean, by_var = torch.autograd.grad(value.sum(), (m, v))
        assert_close(float(value.detach()), normal_mean(density, mean, var, 0.0, y), **tolerance)
        assert_close(float(by_mean), normal_mean(first, mean, var, 0.0, y), **tolerance)
        assert_close(float(by_var), 0.5 * normal_mean(second, mean, var, 0.0, y), **tolerance)


@EXACT
@pytest.mark.parametrize("mean", [-3.0, 0.4, 4.0])
@pytest.mark.parametrize("var", [1e-4, 0.5, 9.0, 25.0])
def test_log_predictive_density_agrees_with_quadrature(name: str, mean: float, var: float) -> None:
    likelihood, phi, ys = given(name)
    for y in ys.tolist():
        density = REFERENCES[name](y, phi.tolist())[0]
        value = likelihood.log_predictive_density(tensor(y), tensor(mean), tensor(var), phi, None)
        breaks = 0.0, y, math.log(max(y, 1.0))
        integral = normal_mean(lambda f, density=density: math.exp(density(f)), mean, var, *breaks)
        assert_close(float(value), math.log(integral), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["gaussian", "student"])
def test_expected_log_density_has_its_derivative_by_the_free_parameter(name: str) -> None:
    likelihood, phi, y = given(name)
    arguments = (y, tensor(0.1, -2.0, 1.0), tensor(0.3, 2.0, 0.01))
    leaf = phi.clone().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood.expected_log_density(*arguments, leaf, None).sum(), leaf)
    up, down = (likelihood.expected_log_density(*arguments, phi + h, None).sum() for h in (1e-5, -1e-5))
    assert_close(float(slope), float((up - down) / 2e-5), rtol=1e-7, atol=1e-7)


def test_student_t_tends_to_gaussian() -> None:
    y, mean, var, phi = tensor(0.3, -2.0), tensor(0.1, 1.0), tensor(0.5, 2.0), tensor(-1.0)
    for df in (1e6, 1e8):
        close = {"rtol": 1e3 / df, "atol": 1e3 / df}
        limit, gaussian = StudentT(df=df), Gaussian()
        for method in ("expected_log_density", "log_predictive_density", "sites"):
            found, wanted = (getattr(each, method)(y, mean, var, phi, None) for each in (limit, gaussian))
            assert_close(found, wanted, **close)
        assert_close(limit.latent_noise(phi, var), gaussian.latent_noise(phi, var), **close)


def test_poisson_in_closed_form_is_what_draws_say_and_its_rate_is_capped_along_a_tangent() -> None:
    y, mean, var = tensor(0.0, 3.0, 12.0), tensor(-1.0, 0.5, 2.0), tensor(0.2, 0.5, 0.1)
    draws = MonteCarloLikelihood(
        lambda y, f: y * f - f.exp() - torch.lgamma(y + 1.0), 4000, log_concave=True, response=torch.exp
    )
    for method in ("expected_log_density", "sites", "log_predictive_density"):
        pair = (getattr(each, method)(y, mean, var, tensor(), None) for each in (Poisson(), draws))
        assert_close(*pair, rtol=3e-3, atol=1e-3)
    expected = torch.exp(mean + 0.5 * var)
    assert_close(Poisson().predictive_mean(mean, var, tensor()), expected)
    assert_close(draws.predictive_mean(mean, var, tensor()), expected, rtol=1e-3, atol=0.0)
    far = tensor(20.0, 30.0, 1e6).requires_grad_()
    value = Poisson().expected_log_density(y, far, tensor(20.0, 0.0, 0.0), tensor(), None)
    (slope,) = torch.autograd.grad(value[[0, 2]].sum(), far)
    assert_close(slope[[0, 2]], 1.0 * y[[0, 2]] - math.exp(30.0))
    assert_close(float(value[1].detach()), 90.0 - math.exp(30.0) - math.log(6.0))
    assert bool(torch.isfinite(torch.stack(Poisson().sites(y, far, far, tensor(), None))).all())


def test_draws_are_exact_for_a_quadratic_log_density_and_close_for_labels() -> None:
    y, mean, var, phi = tensor(1.0, 0.0), tensor(0.4, 2.0), tensor(0.7, 1.5), tensor(-1.0)
    quadratic = MonteCarloLikelihood(gaussian_density, samples=7)
    for method in ("expected_log_density", "sites"):
        found = getattr(quadratic, method)(y, mean, var, tensor(), None)
        assert_close(found, getattr(Gaussian(), method)(y, mean, var, phi, None))
    labels = MonteCarloLikelihood(logit_density, 64, log_concave=True, response=torch.sigmoid)
    for method in ("expected_log_density", "log_predictive_density"):
        found = getattr(labels, method)(y, mean, var, tensor(), None)
        assert_close(
            found,
            getattr(BernoulliLogit(polya_gamma=False), method)(y, mean, var, tensor(), None),
            rtol=2e-3,
            atol=0.0,
        )
    probability = BernoulliLogit().predictive_mean(mean, var, tensor())
    assert_close(labels.predictive_mean(mean, var, tensor()), probability, rtol=1e-3, atol=0.0)
    assert_close(quadratic.predictive_mean(mean, var, tensor()), mean)


@pytest.mark.parametrize("name", ["logit", "probit"])
def test_probabilities_of_both_labels_sum_to_one_and_are_the_predictive_mean(name: str) -> None:
    likelihood, phi, _ = given(name)
    mean, var = tensor(-3.0, 0.0, 1.0, 5.0), tensor(0.1, 9.0, 25.0, 1e-14)
    one, zero = (
        likelihood.log_predictive_density(y + mean * 0, mean, var, phi, None).exp() for y in (1.0, 0.0)
    )
    assert_close(one + zero, torch.ones_like(mean))
    assert_close(likelihood.predictive_mean(mean, var, phi), one)


def test_poisson_predictions_sum_to_one_and_have_the_predictive_mean() -> None:
    y = torch.arange(6000, dtype=torch.float64)
    mean, var = torch.full_like(y, 0.5), torch.full_like(y, 1.0)
    probability = Poisson().log_predictive_density(y, mean, var, tensor(), None).exp()
    assert_close(float(probability.sum()), 1.0, rtol=1e-8, atol=0.0)
    assert_close(float((probability * y).sum()), math.e, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("df", [1.0, 2.5, 30.0])
@pytest.mark.parametrize("log_square", [-8.0, 1.0])
def test_student_t_predictions_integrate_to_one(df: float, log_square: float) -> None:
    def density(y: float) -> float:
        arguments = tensor(y), tensor(0.3), tensor(0.5), tensor(log_square)
        return float(StudentT(df=df).log_predictive_density(*arguments, None).exp())

    tails = (quad(density, *ends, epsabs=1e-9, limit=200)[0] for ends in ((-math.inf, 0.3), (0.3, math.inf)))
    assert_close(sum(tails), 1.0, rtol=1e-7, atol=0.0)


def everything(likelihood: Likelihood, y: Tensor, mean: Tensor, var: Tensor, phi: Tensor) -> list[Tensor]:
    linear, precision = likelihood.sites(y, mean, var, phi, None)
    return [
        likelihood.expected_log_density(y, mean, var, phi, None),
        linear,
        precision,
        likelihood.log_predictive_density(y, mean, var, phi, None),
        likelihood.predictive_mean(mean, var, phi),
        likelihood.latent_noise(phi, precision)[..., None],
    ]


@EACH
def test_batched_equals_looped_and_outcomes_broadcast(name: str) -> None:
    likelihood, phi, y = given(name)
    mean = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(2, 2, 3)
    var, phis = mean.square() + 0.1, phi + torch.arange(4.0, dtype=torch.float64).reshape(2, 2, 1)
    batched = everything(likelihood, y.expand(2, 2, 3), mean, var, phis)
    assert_close(everything(likelihood, y, mean, var, phis), batched)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for whole, part in zip(
            batched, everything(likelihood, y, mean[i, j], var[i, j], phis[i, j]), strict=True
        ):
            assert_close(whole[i, j], part)


@EACH
def test_float32_gives_what_float64_does(name: str) -> None:
    mean, var = tensor(-1.0, 0.3, 2.0), tensor(0.01, 0.5, 4.0)
    likelihood, phi, y = given(name)
    single = everything(likelihood, y.float(), mean.float(), var.float(), phi.float())
    for found, exact in zip(single, everything(likelihood, y, mean, var, phi), strict=True):
        assert found.dtype == torch.float32
        assert_close(found.double(), exact, rtol=2e-4, atol=2e-4)


@EXACT
@pytest.mark.parametrize("var", [0.0, 1e-14])
def test_with_next_to_no_variance_the_likelihood_at_the_mean_is_left(name: str, var: float) -> None:
    likelihood, phi, y = given(name)
    for mean in (-1.0, 0.5):
        linear, precision = likelihood.sites(y, torch.full_like(y, mean), torch.full_like(y, var), phi, None)
        values = everything(likelihood, y, torch.full_like(y, mean), torch.full_like(y, var), phi)
        for i, outcome in enumerate(y.tolist()):
            density, first, second = REFERENCES[name](outcome, phi.tolist())
            assert_close(float(values[0][i]), density(mean), rtol=1e-10, atol=1e-10)
            assert_close(float(values[3][i]), density(mean), rtol=1e-10, atol=1e-10)
            assert_close(float(linear[i] - precision[i] * mean), first(mean), rtol=1e-8, atol=1e-8)
            if name != "logit":
                assert_close(float(precision[i]), -second(mean), rtol=1e-8, atol=1e-7)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("var", [0.0, 1e-14, 1.0, 25.0])
def test_far_away_means_leave_everything_finite(name: str, dtype: torch.dtype, var: float) -> None:
    likelihood, phi, y = given(name, dtype)
    for mean in (-50.0, 50.0):
        leaves = (torch.full_like(y, mean).requires_grad_(), torch.full_like(y, var).requires_grad_())
        value = likelihood.expected_log_density(y, *leaves, phi, None).sum()
        gradients = torch.autograd.grad(value, leaves)
        results = [value, *gradients, *everything(likelihood, y, *leaves, phi)]
        assert all(bool(torch.isfinite(result).all()) for result in results)
        if likelihood.log_concave:
            assert bool((likelihood.sites(y, *leaves, phi, None)[1] >= 0).all())


@EACH
def test_free_parameters_start_in_their_box_with_a_differentiable_prior(name: str) -> None:
    likelihood, phi, y = given(name)
    assert isinstance(likelihood, Likelihood)
    start, (lower, upper) = likelihood.start(), likelihood.bounds(y)
    assert start.dtype == torch.float64
    assert start.shape == phi.shape == lower.shape == upper.shape
    assert bool(((lower <= start) & (start <= upper)).all())
    leaf = phi.expand(3, -1).clone().requires_grad_()
    value = likelihood.log_prior(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    for i in range(phi.shape[-1]):
        exact, by_phi = log_noise_prior(leaf[:, i].detach(), -6.0, 1.0)
        assert_close(value.detach(), exact)
        assert_close(slope[:, i], by_phi)
    assert value.shape == (3,)


def test_only_the_gaussian_is_conjugate_and_only_the_student_t_not_log_concave() -> None:
    assert [name for name in LIKELIHOODS if given(name)[0].conjugate] == ["gaussian"]
    assert [name for name in LIKELIHOODS if not given(name)[0].log_concave] == ["student"]


def test_latent_noise_is_one_over_the_mean_site_precision_within_limits() -> None:
    precision = torch.tensor([[1.0, 3.0], [0.0, 0.0], [1e30, 1e30]], dtype=torch.float64)
    found = BernoulliLogit().latent_noise(torch.zeros(3, 0, dtype=torch.float64), precision)
    assert_close(found, tensor(0.5, 1e6, 1e-7))
    assert_close(Gaussian().latent_noise(tensor(-2.0), precision[0]), torch.tensor(math.exp(-2.0)).double())
    at_scale = StudentT(df=5.0).latent_noise(tensor(0.0), precision[0])
    information, _ = quad(
        lambda y: student_reference(y, [0.0], 5.0)[1](0.0) ** 2 * student.pdf(y, 5.0), -500, 500
    )
    assert_close(float(at_scale), 1.0 / information, rtol=1e-6, atol=0.0)


def test_outcomes_that_can_not_be_are_refused() -> None:
    for likelihood in (BernoulliLogit(), BernoulliProbit()):
        likelihood.check(tensor(0.0, 1.0), None)
        with pytest.raises(DataError, match=r"labels must be 0 or 1, got 2\.0"):
            likelihood.check(tensor(0.0, 2.0), None)
    Poisson().check(tensor(0.0, 7.0), None)
    for bad in (-1.0, 0.5, math.inf, math.nan):
        with pytest.raises(DataError, match=rf"counts must be whole numbers of at least 0, got {bad}"):
            Poisson().check(tensor(3.0, bad), None)
    for real in (Gaussian(), StudentT()):
        real.check(tensor(-3.5), None)
        with pytest.raises(DataError, match="outcomes must be finite, got nan"):
            real.check(tensor(1.0, math.nan), None)


@EACH
def test_known_variances_are_refused_but_by_a_gaussian(name: str) -> None:
    likelihood, _, y = given(name)
    if name == "gaussian":
        likelihood.check(y, y.abs())
        return
    with pytest.raises(DataError, match="known noise variances need a Gaussian likelihood, but 3 were given"):
        likelihood.check(y, y.abs())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Gaussian(noise_spread=0.0),
            "`0 < noise_spread` and a finite noise_location must hold, got 0.0",
        ),
        (lambda: Gaussian(noise_location=math.nan), "finite noise_location must hold, got 1.0 and nan"),
        (
            lambda: StudentT(scale_spread=-1.0),
            "`0 < scale_spread` and a finite scale_location must hold, got -1",
        ),
        (lambda: StudentT(df=0.0), "`0 < df` and a finite df must hold, got 0.0"),
        (lambda: StudentT(df=math.inf), "`0 < df` and a finite df must hold, got inf"),
        (lambda: MonteCarloLikelihood(logit_density, samples=1), "`samples >= 2` must hold, got 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Likelihood], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()
