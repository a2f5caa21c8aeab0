import math
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

from bo_suite.errors import DataError, NumericalError
from bo_suite.surrogates import natural
from bo_suite.surrogates.natural import Natural

DOUBLE = torch.float64
FIXTURE = Path(__file__).parent / "fixtures" / "gaussx_probit.csv"
X, LABEL, Y = (torch.tensor(column) for column in np.loadtxt(FIXTURE, delimiter=",", skiprows=1).T)
COV = 1.5 * torch.exp(-0.5 * (X[:, None] - X).square()) + 1e-6 * torch.eye(30, dtype=DOUBLE)
PRIOR_CHOL = torch.linalg.cholesky(COV)
PRIOR = Natural.from_moments(torch.zeros_like(X), COV)
NOISE = torch.tensor([0.09], dtype=DOUBLE)
NODES, WEIGHTS = (torch.tensor(part) for part in np.polynomial.hermite.hermgauss(60))


def draws(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def spd(*shape: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> Tensor:
    root = draws(*shape, shape[-1], seed=seed, dtype=dtype)
    return root @ root.mT + 0.5 * torch.eye(shape[-1], dtype=dtype)


def kl_of(q: Natural) -> Tensor:
    mean, cov = q.moments()
    return natural.gaussian_kl(mean, torch.linalg.cholesky(cov), PRIOR_CHOL)


def expected_probit(q: Natural) -> tuple[Tensor, Tensor, Tensor]:
    """E_q of Σ log Φ(label f), of its gradient and of the diagonal of its Hessian, by quadrature."""
    mean, cov = q.moments()
    z = LABEL * (mean + (2.0 * cov.diagonal()).sqrt() * NODES[:, None])
    value = torch.special.log_ndtr(z)
    ratio = torch.exp(-0.5 * z.square() - 0.5 * math.log(2.0 * math.pi) - value)
    weights = WEIGHTS / math.sqrt(math.pi)
    return (weights @ value).sum(), weights @ (LABEL * ratio), -(weights @ (ratio * (ratio + z)))


def probit_sites(q: Natural) -> tuple[Tensor, Tensor]:
    _, gradient, hessian = expected_probit(q)
    return natural.conjugate_sites(gradient, hessian, q.moments()[0])


def probit_elbo(q: Natural) -> float:
    return float(expected_probit(q)[0] - kl_of(q))


def probit_run(steps: int) -> list[Natural]:
    runs = [PRIOR]
    for _ in range(steps):
        runs.append(natural.conjugate_update(runs[-1], PRIOR, *probit_sites(runs[-1]), 0.5))
    return runs


def gaussian_bound(mean: Tensor, chol: Tensor) -> float:
    var = chol.tril().square().sum(-1)
    kl = natural.gaussian_kl(mean, chol, PRIOR_CHOL)
    return float(natural.gaussian_elbo(Y, mean, var, NOISE, kl))


def exact_posterior() -> Natural:
    return natural.conjugate_update(PRIOR, PRIOR, Y / NOISE, (1.0 / NOISE).expand(30), 1.0)


def log_evidence(cov: Tensor) -> float:
    marginal = MultivariateNormal(torch.zeros_like(Y), cov + NOISE * torch.eye(30, dtype=DOUBLE))
    return float(marginal.log_prob(Y))


def test_natural_parameters_go_to_moments_and_back() -> None:
    mean, cov = draws(3, 4), spd(3, 4, seed=1)
    q = Natural.from_moments(mean, cov)
    assert_close(q.moments(), (mean, cov))
    assert_close(q.precision @ cov, torch.eye(4, dtype=DOUBLE).expand(3, 4, 4))
    assert_close(q.linear, (q.precision @ mean[..., None])[..., 0])


def test_natural_parameters_are_those_of_the_log_density() -> None:
    mean, cov, f = draws(4), spd(4, seed=1), draws(50, 4, seed=2)
    q = Natural.from_moments(mean, cov)
    log_density = f @ q.linear + ((f @ q.quadratic) * f).sum(-1)
    const = MultivariateNormal(mean, cov).log_prob(f) - log_density
    assert_close(const, const[:1].expand(50))


def test_shapes_that_do_not_fit_are_refused_without_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(DataError, match=r"quadratic \(\*b, m, m\), got \(3,\) and \(2, 2\)"):
        Natural(draws(3), spd(2))


def test_an_indefinite_precision_is_refused_with_its_batch_element() -> None:
    quadratic = torch.diag_embed(torch.tensor([[-1.0, -1.0], [-1.0, 1e-9]], dtype=DOUBLE))
    with pytest.raises(NumericalError, match="batch element 1"):
        Natural(draws(2, 2), quadratic).moments()


def test_a_site_precision_taken_for_a_quadratic_term_is_refused_and_not_jittered_away() -> None:
    linear, precision = probit_sites(PRIOR)
    clash = Natural(linear, PRIOR.quadratic + precision.diag())
    step = natural.damped_natural_update(PRIOR, clash, 0.5)
    assert float(torch.linalg.eigvalsh(step.precision).min()) < -0.5
    with pytest.raises(NumericalError, match="precision must be positive definite, but it is not"):
        step.moments()


def test_a_damped_update_is_the_weighted_mean_of_natural_parameters() -> None:
    one, two = (Natural.from_moments(draws(3, seed=s), spd(3, seed=s)) for s in (1, 2))
    mixed = natural.damped_natural_update(one, two, 0.3)
    assert_close(mixed.linear, 0.7 * one.linear + 0.3 * two.linear)
    assert_close(mixed.quadratic, 0.7 * one.quadratic + 0.3 * two.quadratic)
    assert_close(natural.damped_natural_update(one, two, 1.0).moments(), two.moments())


STEPS: dict[str, Callable[[float], object]] = {
    "damped": lambda rate: natural.damped_natural_update(PRIOR, PRIOR, rate),
    "conjugate": lambda rate: natural.conjugate_update(PRIOR, PRIOR, X, X, rate),
    "rule": lambda rate: natural.bayesian_learning_rule(PRIOR, X, COV, rate),
    "diagonal": lambda rate: natural.bayesian_learning_rule_diagonal(X, X.abs(), X, X, rate),
    "riemannian": lambda rate: natural.riemannian_step(COV, COV, rate),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("rate", [0.0, -0.5, 1.1, math.nan])
def test_a_rate_that_is_no_weight_is_refused(step: Callable[[float], object], rate: float) -> None:
    with pytest.raises(DataError, match="`0 < rate <= 1` must hold, got"):
        step(rate)


def test_conjugate_steps_on_probit_classification_reach_the_best_bound_without_a_fall() -> None:
    values = [probit_elbo(q) for q in probit_run(40)]
    assert_close(values[0], -34.42, atol=0.01, rtol=0.0)  # the prior
    assert_close(values[5], -7.907, atol=1e-3, rtol=0.0)
    assert_close(values[20:], [-7.8733722] * 21, atol=1e-6, rtol=0.0)
    assert bool((np.diff(values) > -1e-9).all())


def test_the_best_conjugate_posterior_is_a_stationary_point_of_the_bound() -> None:
    q = probit_run(40)[-1]
    _, gradient, hessian = expected_probit(q)
    mean, cov = q.moments()
    assert_close(mean, COV @ gradient, atol=1e-7, rtol=0.0)
    root = (-hessian).sqrt()
    inner = torch.linalg.cholesky(torch.eye(30, dtype=DOUBLE) + root[:, None] * COV * root)
    white = torch.linalg.solve_triangular(inner, root[:, None] * COV, upper=False)
    assert_close(cov, COV - white.mT @ white, atol=1e-6, rtol=0.0)


def test_the_rule_on_the_log_joint_is_the_conjugate_step_on_the_log_likelihood() -> None:
    q = probit_run(2)[-1]
    _, gradient, hessian = expected_probit(q)
    pull = (PRIOR.precision @ q.moments()[0][:, None])[:, 0]
    rule = natural.bayesian_learning_rule(q, gradient - pull, hessian.diag() - PRIOR.precision, 0.5)
    conjugate = natural.conjugate_update(q, PRIOR, *probit_sites(q), 0.5)
    assert_close(rule.linear, conjugate.linear, atol=1e-7, rtol=1e-7)
    assert_close(rule.quadratic, conjugate.quadratic)


def test_one_undamped_step_is_exact_for_a_gaussian_likelihood_and_a_prior_with_a_mean() -> None:
    cov, mean, noise, y = spd(5), draws(5, seed=1), draws(5, seed=2).square() + 0.1, draws(5, seed=3)
    prior = Natural.from_moments(mean, cov)
    start = Natural.from_moments(draws(5, seed=4), spd(5, seed=5))
    centre = start.moments()[0]
    sites = natural.conjugate_sites((y - centre) / noise, -1.0 / noise, centre)
    gain = torch.linalg.solve(cov + noise.diag(), cov).mT
    expected = mean + gain @ (y - mean), cov - gain @ cov
    assert_close(natural.conjugate_update(start, prior, *sites, 1.0).moments(), expected)


def test_the_bound_at_the_exact_posterior_is_the_log_evidence() -> None:
    mean, cov = exact_posterior().moments()
    bound = gaussian_bound(mean, torch.linalg.cholesky(cov))
    assert_close(bound, log_evidence(COV), atol=1e-6, rtol=0.0)
    assert_close(bound, -15.6205, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_the_bound_of_any_other_posterior_is_below_the_log_evidence(size: float) -> None:
    mean, cov = exact_posterior().moments()
    chol, evidence = torch.linalg.cholesky(cov), log_evidence(COV)
    scale = chol.diagonal().sqrt()[:, None]
    for seed in range(20):
        noise = size * draws(31, 30, seed=seed)
        assert gaussian_bound(mean + chol @ noise[30], chol) < evidence
        assert gaussian_bound(mean, chol @ (torch.eye(30, dtype=DOUBLE) + noise[:30].tril() / 6.0)) < evidence
        assert gaussian_bound(mean, chol + scale * noise[:30]) < evidence


def test_a_gaussian_bound_takes_a_noise_for_each_observation() -> None:
    y, mean, var, noise = (
        draws(2, 5),
        draws(2, 5, seed=1),
        draws(2, 5, seed=2).square(),
        draws(5).square() + 0.1,
    )
    kl = draws(2, seed=3).square()
    expected = Normal(mean, noise.sqrt()).log_prob(y) - 0.5 * var / noise
    bound = natural.gaussian_elbo(y, mean, var, noise.expand(2, 5), kl)
    assert_close(bound, expected.sum(-1) - kl)


def test_a_monte_carlo_bound_is_within_its_error_of_quadrature() -> None:
    q = probit_run(3)[-1]
    mean, cov = q.moments()
    samples = mean + draws(20_000, 30) @ torch.linalg.cholesky(cov).mT

    def log_likelihood(f: Tensor) -> Tensor:
        return torch.special.log_ndtr(LABEL * f).sum(-1)

    error = float(log_likelihood(samples).std() / math.sqrt(20_000))
    estimate = float(natural.monte_carlo_elbo(log_likelihood, samples, kl_of(q)))
    assert 0.0 < error < 0.02
    assert abs(estimate - probit_elbo(q)) < 4.0 * error


def test_a_log_likelihood_that_is_not_summed_over_observations_is_refused() -> None:
    with pytest.raises(DataError, match=r"must be \(s, \*b\) = \(7, 2\), got \(7, 2, 3\)"):
        natural.monte_carlo_elbo(torch.special.log_ndtr, draws(7, 2, 3), draws(2))


@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1])
def test_the_full_rule_converges_to_a_gaussian_target(rate: float) -> None:
    mean, cov = draws(4), spd(4, seed=1)
    target = Natural.from_moments(mean, cov)
    q = Natural.from_moments(draws(4, seed=2), spd(4, seed=3))
    for _ in range(1 if rate == 1.0 else int(30 / rate)):
        gradient = (target.precision @ (mean - q.moments()[0])[:, None])[:, 0]
        q = natural.bayesian_learning_rule(q, gradient, -target.precision, rate)
    assert_close(q.moments(), (mean, cov))


def test_the_full_rule_moves_the_mean_by_the_new_covariance_times_the_gradient() -> None:
    q = Natural.from_moments(draws(4), spd(4, seed=1))
    gradient, hessian = draws(4, seed=2), -spd(4, seed=3)
    step = natural.bayesian_learning_rule(q, gradient, hessian, 0.3)
    assert_close(step.precision, 0.7 * q.precision - 0.3 * hessian)
    mean, cov = step.moments()
    assert_close(mean, q.moments()[0] + 0.3 * cov @ gradient)


@pytest.mark.parametrize("start", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_diagonal_rule_converges_to_a_diagonal_gaussian_without_overshooting(
    start: float, rate: float
) -> None:
    centre, target = draws(2, 6), draws(2, 6, seed=1).square() + 0.1
    mean, precision = draws(2, 6, seed=2), torch.full((2, 6), start, dtype=DOUBLE)
    side = (mean - centre).sign()
    for _ in range(100):
        gradient = target * (centre - mean)
        mean, precision = natural.bayesian_learning_rule_diagonal(mean, precision, gradient, -target, rate)
        assert bool((side * (mean - centre) > -1e-12).all())
    assert_close((mean, precision), (centre, target))


def test_the_diagonal_rule_keeps_precisions_positive_where_the_target_is_convex() -> None:
    precision, hessian = draws(200).square() + 1e-6, 100.0 * draws(200, seed=1)
    for rate in (0.1, 0.5, 1.0):
        assert bool(((1.0 - rate) * precision - rate * hessian < 0.0).any())
        step = natural.bayesian_learning_rule_diagonal(hessian, precision, hessian, hessian, rate)[1]
        assert bool((step >= 0.5 * precision).all())


def test_a_riemannian_step_of_a_diagonal_precision_is_that_of_the_diagonal_rule() -> None:
    precision, hessian = draws(5).square() + 0.1, draws(5, seed=1)
    full = natural.riemannian_step(precision.diag(), -hessian.diag(), 0.4)
    moved, diagonal = natural.bayesian_learning_rule_diagonal(hessian, precision, hessian, hessian, 0.4)
    assert_close((full, moved), (diagonal.diag(), hessian + 0.4 * hessian / diagonal))


def test_a_riemannian_step_stays_definite_where_the_damped_step_does_not() -> None:
    precision, root = spd(4, 5), draws(4, 5, 5, seed=1)
    target = 10.0 * (root + root.mT)
    for rate in (0.3, 1.0):
        plain = torch.linalg.eigvalsh((1.0 - rate) * precision + rate * target)
        assert bool((plain[..., 0] < -1.0).all())
        step = natural.riemannian_step(precision, target, rate)
        assert bool((torch.linalg.eigvalsh(step - 0.5 * precision)[..., 0] > -1e-9).all())
        assert_close(step, step.mT, atol=0.0, rtol=0.0)


def test_a_riemannian_step_is_the_damped_step_to_first_order() -> None:
    precision, root = spd(4, 5), draws(4, 5, 5, seed=1)
    direction = root + root.mT - precision
    curvature = 0.5 * direction @ torch.linalg.solve(precision, direction)
    for rate in (1.0, 1e-1, 1e-3):
        step = natural.riemannian_step(precision, precision + direction, rate)
        plain = precision + rate * direction
        assert_close((step - plain) / rate**2, curvature, atol=1e-8, rtol=1e-6)
    assert_close(natural.riemannian_step(precision, precision, 0.7), precision)


def test_a_riemannian_step_from_an_indefinite_precision_is_refused() -> None:
    with pytest.raises(NumericalError, match="precision must be positive definite"):
        natural.riemannian_step(-spd(3), spd(3), 0.5)


def test_a_gauss_newton_precision_is_minus_the_hessian_of_a_linear_model() -> None:
    jacobian, weights, start = draws(3, 2, 4), draws(3, 2, seed=1).square(), draws(3, 4, seed=2)

    def log_density(theta: Tensor) -> Tensor:
        outputs = (jacobian @ theta[..., None])[..., 0]
        return -0.5 * (weights * outputs.square()).sum()

    hessian = torch.autograd.functional.hessian(log_density, start)
    expected = -torch.stack([hessian[i, :, i] for i in range(3)])
    precision = natural.gauss_newton_precision(jacobian, weights)
    assert_close(precision, expected)
    assert float(torch.linalg.eigvalsh(precision).min()) > -1e-12
    unweighted = natural.gauss_newton_precision(jacobian)
    assert_close(unweighted, natural.gauss_newton_precision(jacobian, torch.ones_like(weights)))


def test_divergences_agree_with_torch() -> None:
    mean, chol = draws(3, 4), torch.linalg.cholesky(spd(3, 4, seed=1))
    prior_chol = torch.linalg.cholesky(spd(3, 4, seed=2))
    q, zero = MultivariateNormal(mean, scale_tril=chol), torch.zeros_like(mean)
    prior = MultivariateNormal(zero, scale_tril=prior_chol)
    white = MultivariateNormal(zero, torch.eye(4, dtype=DOUBLE))
    assert_close(natural.gaussian_kl(mean, chol, prior_chol), kl_divergence(q, prior))
    assert_close(natural.whitened_kl(mean, chol), kl_divergence(q, white))


def test_whitening_a_posterior_does_not_change_its_divergence() -> None:
    mean, chol = draws(4), torch.linalg.cholesky(spd(4, seed=1))
    prior_chol = torch.linalg.cholesky(spd(4, seed=2))
    expected = natural.gaussian_kl(prior_chol @ mean, prior_chol @ chol, prior_chol)
    assert_close(natural.whitened_kl(mean, chol), expected)


def test_divergences_allow_negative_diagonals_which_leave_the_covariance_as_it_is() -> None:
    mean, chol = draws(4), torch.linalg.cholesky(spd(4, seed=1))
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=DOUBLE)
    assert_close(natural.whitened_kl(mean, chol * signs), natural.whitened_kl(mean, chol))
    prior = torch.linalg.cholesky(spd(4, seed=2))
    assert_close(
        natural.gaussian_kl(mean, chol * signs, prior * signs), natural.gaussian_kl(mean, chol, prior)
    )


@pytest.mark.parametrize("garbage", [5.0, math.nan, math.inf])
def test_what_is_above_a_lower_factor_is_ignored_in_value_and_gradient(garbage: float) -> None:
    mean, chol = draws(2, 4), torch.linalg.cholesky(spd(2, 4, seed=1))
    prior = torch.linalg.cholesky(spd(2, 4, seed=2))
    above = torch.ones(4, 4, dtype=torch.bool).triu(1)
    dirty, dirty_prior = chol.masked_fill(above, garbage).requires_grad_(), prior.masked_fill(above, garbage)
    both = natural.whitened_kl(mean, dirty), natural.gaussian_kl(mean, dirty, dirty_prior)
    assert_close(both, (natural.whitened_kl(mean, chol), natural.gaussian_kl(mean, chol, prior)))
    (gradient,) = torch.autograd.grad(both[0].sum() + both[1].sum(), dirty)
    assert bool((gradient.masked_select(above) == 0.0).all())
    assert bool((gradient.masked_select(~above) != 0.0).all())


def everything(m1: Tensor, m2: Tensor, p1: Tensor, p2: Tensor) -> list[Tensor]:
    """Every result of the module, of two vectors (*b, 4) and two positive definite matrices (*b, 4, 4)."""
    one, two = Natural(m1, -0.5 * p1), Natural(m2, -0.5 * p2)
    up = m1.square() + 0.1
    sites = natural.conjugate_sites(m1, -up, m2)
    steps = (
        natural.damped_natural_update(one, two, 0.3),
        natural.conjugate_update(one, two, *sites, 0.3),
        natural.bayesian_learning_rule(one, m2, -p2, 0.3),
        Natural.from_moments(m1, p1),
    )
    kl = natural.gaussian_kl(m1, p1, p2)
    return [
        *(part for step in steps for part in (step.linear, step.quadratic, step.precision, *step.moments())),
        *sites,
        *natural.bayesian_learning_rule_diagonal(m1, up, m2, m2, 0.3),
        natural.riemannian_step(p1, p2 - 3.0 * p1, 0.3),
        natural.gauss_newton_precision(p1[..., :2, :], up[..., :2]),
        kl,
        natural.whitened_kl(m1, p1),
        natural.gaussian_elbo(m1, m2, up, up[..., :1], kl),
        natural.monte_carlo_elbo(lambda f: -f.abs().sum(-1), torch.stack((m1, m2)), kl),
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batches_equal_their_elements_one_by_one(dtype: torch.dtype) -> None:
    vectors = [draws(2, 3, 4, seed=seed, dtype=dtype) for seed in (0, 1)]
    matrices = [spd(2, 3, 4, seed=seed, dtype=dtype) for seed in (2, 3)]
    together = everything(*vectors, *matrices)
    for i, j in np.ndindex(2, 3):
        alone = everything(*(part[i, j] for part in (*vectors, *matrices)))
        assert_close([part[i, j] for part in together], alone)
    assert {part.dtype for part in together} == {dtype}
