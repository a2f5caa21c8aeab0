"""Distributions of the precision of the noise, and the messages of data to them."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Gamma, Wishart, kl_divergence

from bo_suite.errors import ArgumentError
from bo_suite.surrogates.messages import FixedPrecision, GammaPrecision, WishartPrecision


def definite(p: int, seed: int = 0) -> Tensor:
    half = torch.randn(p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return half @ half.mT + torch.eye(p, dtype=torch.float64)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_gamma_equals_torch() -> None:
    prior, other = (
        GammaPrecision(numbers(2.0, 0.3), numbers(0.5, 4.0)),
        GammaPrecision(numbers(7.0, 1.5), numbers(3.0, 0.2)),
    )
    expected = kl_divergence(Gamma(other.shape, other.rate), Gamma(prior.shape, prior.rate))
    torch.testing.assert_close(other.divergence(prior), expected)
    torch.testing.assert_close(other.mean[..., 0, 0], other.shape / other.rate)
    logarithm = [stats.loggamma(a).mean() - math.log(b) for a, b in ((7.0, 3.0), (1.5, 0.2))]
    torch.testing.assert_close(other.log_determinant, numbers(*logarithm))


def test_a_datum_sends_gamma_of_shape_three_halves() -> None:
    prior = GammaPrecision(numbers(2.0), numbers(0.5))
    scatter = numbers(0.8).reshape(1, 1, 1)
    updated = prior.updated(1, scatter)
    # a product of Gamma densities adds shapes less one, and rates
    assert float(updated.shape) == pytest.approx(2.0 + 1.5 - 1.0)
    assert float(updated.rate) == pytest.approx(0.5 + 0.4)
    again = prior.updated(3, 3.0 * scatter)
    assert float(again.shape) == pytest.approx(3.5)


def test_wishart_of_one_output_is_gamma() -> None:
    gamma, wishart = (
        GammaPrecision(numbers(2.0), numbers(0.5)),
        WishartPrecision(numbers(4.0), numbers(1.0).reshape(1, 1, 1)),
    )
    scatter = numbers(0.8).reshape(1, 1, 1)
    one, other = gamma.updated(5, scatter), wishart.updated(5, scatter)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.log_determinant, other.log_determinant)
    torch.testing.assert_close(one.divergence(gamma), other.divergence(wishart))


@pytest.mark.parametrize("p", [2, 4])
def test_wishart_equals_torch_and_scipy(p: int) -> None:
    prior = WishartPrecision(numbers(p + 0.5)[0], definite(p, 1))
    posterior = WishartPrecision(numbers(p + 9.0)[0], definite(p, 2))
    as_torch = [Wishart(each.freedom, precision_matrix=each.inverse_scale) for each in (posterior, prior)]
    torch.testing.assert_close(posterior.divergence(prior), kl_divergence(as_torch[0], as_torch[1]))
    torch.testing.assert_close(posterior.mean, as_torch[0].mean)
    scale = torch.linalg.inv(posterior.inverse_scale).numpy()
    draws = stats.wishart(p + 9.0, scale).rvs(20_000, random_state=0)
    logarithms = torch.logdet(torch.as_tensor(draws))
    error = float(logarithms.std()) / math.sqrt(len(logarithms))
    assert float(posterior.log_determinant) == pytest.approx(float(logarithms.mean()), abs=5.0 * error)


def test_a_datum_adds_one_degree_of_freedom_whatever_the_number_of_outputs_and_columns() -> None:
    """Of a value and a gradient of d columns P = 1 + d: dof d + 2 of a message, as published, adds none."""
    p, prior = 3, WishartPrecision(numbers(4.0)[0], definite(3, 1))
    residual = numbers(0.3, -0.2, 0.5)
    posterior = prior.updated(1, residual[:, None] * residual[None, :])
    as_torch = [Wishart(each.freedom, precision_matrix=each.inverse_scale) for each in (posterior, prior)]
    at = [definite(p, seed) for seed in (4, 5)]
    by_bayes = [as_torch[1].log_prob(w) + 0.5 * torch.logdet(w) - 0.5 * residual @ w @ residual for w in at]
    direct = [as_torch[0].log_prob(w) for w in at]
    torch.testing.assert_close(direct[1] - direct[0], by_bayes[1] - by_bayes[0])
    published = Wishart(prior.freedom + (p - 1 + 2) - (p + 1), precision_matrix=posterior.inverse_scale)
    wrong = [published.log_prob(w) for w in at]
    assert abs(float(wrong[1] - wrong[0] - by_bayes[1] + by_bayes[0])) > 0.1


def test_gamma_of_several_outputs_is_isotropic() -> None:
    prior = GammaPrecision(numbers(2.0)[0], numbers(0.5)[0], outputs=3)
    posterior = prior.updated(4, definite(3))
    assert float(posterior.shape) == pytest.approx(2.0 + 6.0)
    assert float(posterior.rate) == pytest.approx(0.5 + 0.5 * float(definite(3).trace()))
    torch.testing.assert_close(posterior.mean, posterior.mean[0, 0] * torch.eye(3, dtype=torch.float64))


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ArgumentError, match="positive and finite"):
        GammaPrecision(numbers(-1.0), numbers(1.0))
    with pytest.raises(ArgumentError, match="more than 1 degrees"):
        WishartPrecision(numbers(0.5)[0], definite(2))
    with pytest.raises(ArgumentError, match="symmetric and positive definite"):
        FixedPrecision(-definite(2))
    with pytest.raises(ArgumentError, match="symmetric and positive definite"):
        FixedPrecision(definite(2) + torch.triu(torch.ones(2, 2, dtype=torch.float64), 1))
