import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from bo_suite.surrogates.variational.likelihoods import (
    BernoulliLogit,
    BernoulliProbit,
    Gaussian,
    Likelihood,
    MonteCarloLikelihood,
    Poisson,
    StudentT,
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def logit_density(y: Tensor, f: Tensor) -> Tensor:
    return logsigmoid((2.0 * y - 1.0) * f)


BY_DERIVATIVES = [
    BernoulliLogit(polya_gamma=False),
    BernoulliProbit(),
    StudentT(),
    MonteCarloLikelihood(logit_density, log_concave=True),
]
"""Those whose sites are derivatives of their expected log densities."""


def test_gaussian_sites_are_the_likelihood_known_variances_included() -> None:
    y, mean, var, phi = tensor(0.3, -2.0, 1.0), tensor(0.1, 1.0, 0.0), tensor(0.5, 2.0, 1.0), tensor(-1.0)
    noise = tensor(0.25, math.nan, 4.0)
    known = tensor(0.25, math.exp(-1.0), 4.0)
    for given_noise, level in ((noise, known), (None, torch.full_like(y, math.exp(-1.0)))):
        linear, precision = Gaussian().sites(y, mean, var, phi, given_noise)
        assert_close(linear, y / level)
        assert_close(precision, 1.0 / level)
        density = Gaussian().log_predictive_density(y, mean, var, phi, given_noise)
        assert_close(density, torch.from_numpy(norm.logpdf(y, mean, (var + level).sqrt())))
        value = Gaussian().expected_log_density(y, mean, var, phi, given_noise)
        normal = torch.distributions.Normal(mean, level.sqrt())
        assert_close(value, normal.log_prob(y) - 0.5 * var / level)


LABELS = [(1.0,), (1.0, 1.0, 0.0, 1.0), (0.0,) * 6]


def labels_problem(labels: tuple[float, ...], mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Labels of one latent value, and its mean and variance at each of them."""
    y = tensor(*labels)
    return y, mean.expand(len(labels)), var.expand(len(labels))


def divergence(mean: Tensor, var: Tensor) -> Tensor:
    """KL[N(mean, var) || N(0, 1)]."""
    return 0.5 * (mean.square() + var - 1.0 - var.log())


@pytest.mark.parametrize("labels", LABELS)
def test_polya_gamma_sites_ascend_the_jaakkola_jordan_bound_to_nearly_the_exact_mean(
    labels: tuple[float, ...],
) -> None:
    mean, var, last = tensor(0.0), tensor(1.0), -math.inf
    for _ in range(60):
        y, means, variances = labels_problem(labels, mean, var)
        xi = (mean.square() + var).sqrt()
        bound = (logsigmoid(xi) + 0.5 * ((2.0 * y - 1.0) * mean - xi)).sum() - divergence(mean, var)
        assert float(bound) >= last - 1e-14
        bounded = BernoulliLogit().expected_log_density(y, means, variances, tensor(), None).sum()
        assert_close(bound, bounded - divergence(mean, var), rtol=1e-9, atol=1e-9)
        by_quadrature = BernoulliLogit(polya_gamma=False)
        assert bool(
            (bounded < by_quadrature.expected_log_density(y, means, variances, tensor(), None).sum()).all()
        )
        linear, precision = BernoulliLogit().sites(y, means, variances, tensor(), None)
        var = 1.0 / (1.0 + precision.sum(-1, keepdim=True))
        mean, before, last = var * linear.sum(), mean, float(bound)
    assert_close(mean, before, rtol=1e-12, atol=1e-12)

    def joint(f: float) -> float:
        odds = sum(math.log1p(math.exp(-f if label else f)) for label in labels)
        return math.exp(-0.5 * f * f - odds)

    exact = quad(lambda f: f * joint(f), -12.0, 12.0)[0] / quad(joint, -12.0, 12.0)[0]
    assert abs(float(mean) / exact - 1.0) < 0.05


@pytest.mark.parametrize("likelihood", [*BY_DERIVATIVES, Poisson(), Gaussian()])
@pytest.mark.parametrize("labels", LABELS)
def test_the_fixed_point_of_natural_gradient_sites_is_where_the_bound_is_stationary(
    likelihood: Likelihood, labels: tuple[float, ...]
) -> None:
    phi = likelihood.start() / 2.0

    def bound(mean: Tensor, log_var: Tensor) -> float:
        y, means, variances = labels_problem(labels, mean, log_var.exp())
        value = likelihood.expected_log_density(y, means, variances, phi, None).sum()
        return float(value - divergence(mean, log_var.exp()))

    linear, precision = tensor(0.0), tensor(1.0)
    for _ in range(300):
        y, means, variances = labels_problem(labels, linear / precision, 1.0 / precision)
        to_linear, to_precision = likelihood.sites(y, means, variances, phi, None)
        linear = 0.8 * linear + 0.2 * to_linear.sum()
        precision = 0.8 * precision + 0.2 * (1.0 + to_precision.sum())
    mean, log_var, h = linear / precision, -precision.log(), 1e-4
    assert abs(bound(mean + h, log_var) - bound(mean - h, log_var)) / (2 * h) < 1e-6
    assert abs(bound(mean, log_var + h) - bound(mean, log_var - h)) / (2 * h) < 1e-6
    assert abs(bound(mean + 0.1, log_var) - bound(mean, log_var)) > 1e-4


def test_an_outlier_has_a_negative_student_t_site() -> None:
    precision = StudentT().sites(tensor(0.0, 5.0), tensor(0.0, 0.0), tensor(0.1, 0.1), tensor(-3.0), None)[1]
    assert float(precision[0]) > 0 > float(precision[1])


@pytest.mark.parametrize("likelihood", BY_DERIVATIVES)
def test_sites_leave_no_graph_behind_and_work_where_gradients_are_off(likelihood: Likelihood) -> None:
    y, phi = tensor(0.0, 1.0), likelihood.start()
    with torch.no_grad():
        linear, precision = likelihood.sites(y, y, y + 1.0, phi, None)
    assert not linear.requires_grad
    assert not precision.requires_grad
