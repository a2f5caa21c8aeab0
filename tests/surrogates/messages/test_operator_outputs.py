"""Outputs that are linear functionals: values, gradients and both, beside a joint process by autograd."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal

from bo_suite.errors import DataError
from bo_suite.kernels import Functionals, Matern52, SquaredExponential, Zonal
from bo_suite.surrogates.basis import inducing_basis
from bo_suite.surrogates.features.observables import Observables
from bo_suite.surrogates.messages import (
    FixedPrecision,
    GammaPrecision,
    OperatorOutputs,
    ScalarOutputs,
    StreamingGP,
    WishartPrecision,
    gradients,
    values_and_gradients,
)
from bo_suite.surrogates.messages.outputs import Operator

THETA = torch.tensor([-0.4, -0.2, 0.3], dtype=torch.float64)
NOISE = torch.tensor([[0.05, 0.01, 0.0], [0.01, 0.2, 0.03], [0.0, 0.03, 0.1]], dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def function(x: Tensor) -> Tensor:
    return torch.sin(4.0 * x[..., 0]) * torch.cos(3.0 * x[..., 1])


def observations(x: Tensor, stacked: bool) -> Tensor:
    x = x.clone().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return torch.cat((value.detach()[..., None], slope), -1) if stacked else slope


def k(x: Tensor, z: Tensor) -> Tensor:
    return torch.exp(THETA[-1] - 0.5 * ((x - z) * torch.exp(-THETA[:-1])).square().sum())


def dense(x: Tensor, stacked: bool) -> tuple[Tensor, Tensor]:
    """Covariance of all observations and of the values at x with them, by differentiating k twice."""
    d = x.shape[-1]

    def block(a: Tensor, b: Tensor) -> Tensor:
        full = torch.zeros(d + 1, d + 1, dtype=x.dtype)
        full[0, 0] = k(a, b)
        by_both = jacobian(lambda u: jacobian(lambda v: k(v, u), a, create_graph=True), b)
        full[1:, 0], full[0, 1:] = jacobian(lambda v: k(v, b), a), jacobian(lambda v: k(a, v), b)
        full[1:, 1:] = by_both
        return full

    blocks = [[block(a, b) for b in x] for a in x]
    kept = slice(0 if stacked else 1, None)
    both = torch.cat([torch.cat([each[kept, kept] for each in row], -1) for row in blocks])
    cross = torch.cat([torch.cat([each[:1, kept] for each in row], -1) for row in blocks])
    return both, cross


@pytest.mark.parametrize("stacked", [False, True])
def test_the_messages_equal_the_optimum_of_the_joint_process_by_autograd(stacked: bool) -> None:
    """q of u = f(Z), with Z among the rows, from covariances by autograd and dense algebra, to 1e-8."""
    x = draws(6, 2)
    y, noise = observations(x, stacked), NOISE if stacked else NOISE[1:, 1:]
    operator: Operator = values_and_gradients if stacked else gradients
    weight = torch.linalg.inv(noise)
    gp = StreamingGP.start(SquaredExponential(), THETA, x, OperatorOutputs(operator), FixedPrecision(weight))
    gp = gp.observed(x[:2], y[:2]).observed(x[2:], y[2:])
    both, cross = dense(x, stacked)
    chol = gp.basis.factor.dense
    a = torch.linalg.solve_triangular(chol, cross, upper=False)
    all_noise = torch.kron(torch.eye(6, dtype=x.dtype), noise.contiguous())
    precision = torch.eye(6, dtype=x.dtype) + a @ torch.linalg.solve(all_noise, a.mT)
    linear = a @ torch.linalg.solve(all_noise, y.flatten())
    torch.testing.assert_close(
        gp.process.precision_chol @ gp.process.precision_chol.mT, precision, atol=1e-8, rtol=1e-8
    )
    torch.testing.assert_close(gp.process.linear, linear, atol=1e-8, rtol=1e-8)
    optimal = MultivariateNormal(torch.zeros_like(linear[:1]).expand(y.numel()), a.mT @ a + all_noise)
    trace = torch.linalg.solve(all_noise, both - a.mT @ a).trace()
    bound = optimal.log_prob(y.flatten()) - 0.5 * trace
    torch.testing.assert_close(gp.bound, bound, atol=1e-7, rtol=1e-8)
    exact = MultivariateNormal(torch.zeros_like(y.flatten()), both + all_noise).log_prob(y.flatten())
    assert float(gp.bound) < float(exact)


@pytest.mark.parametrize("kernel", [SquaredExponential(), Matern52()])
def test_values_alone_are_scalar_outputs(kernel: SquaredExponential | Matern52) -> None:
    x = draws(12, 2)
    y, inducing = function(x), draws(6, 2, seed=1)
    noise = GammaPrecision(torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))
    std = torch.zeros_like(x)
    std[:, 1] = 0.05
    for each in (None, std):
        one = StreamingGP.start(kernel, THETA, inducing, OperatorOutputs(Functionals.values, 0.4), noise)
        other = StreamingGP.start(kernel, THETA, inducing, ScalarOutputs(0.4), noise)
        one, other = one.observed(x, y[:, None], each).converged(), other.observed(x, y, each).converged()
        torch.testing.assert_close(one.bound, other.bound, atol=1e-6, rtol=1e-8)
        torch.testing.assert_close(one.noise.mean, other.noise.mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(one.process.mean(x), other.process.mean(x), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(("d", "stacked"), [(1, True), (2, False), (2, True), (3, False)])
def test_gradients_bring_the_function_nearer(d: int, stacked: bool) -> None:
    """The two-variable node of values, gradients and both, and other numbers of columns."""
    theta = torch.full((d + 1,), -0.6, dtype=torch.float64)

    def slopes(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        value = torch.sin(4.0 * x).sum(-1)
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    x, inducing, at = draws(15, d), draws(40, d, seed=1), draws(50, d, seed=2)
    value, slope = slopes(x)
    truth = slopes(at)[0]
    y = torch.cat((value[:, None], slope), -1) if stacked else slope
    outputs = OperatorOutputs(values_and_gradients if stacked else gradients)
    prior = GammaPrecision(
        torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.01, dtype=torch.float64), y.shape[-1]
    )
    gp = StreamingGP.start(Matern52(), theta, inducing, outputs, prior)
    gp = gp.observed(x, y).converged()
    error = gp.process.mean(at) - truth
    if not stacked:
        error = error - error.mean()
    plain = StreamingGP.start(
        Matern52(), theta, inducing, ScalarOutputs(), GammaPrecision(prior.shape, prior.rate)
    )
    without = plain.observed(x, value).converged().process.mean(at) - truth
    assert float(error.square().mean()) < 0.5 * float(without.square().mean())


def test_wishart_noise_is_learnt_from_values_and_gradients() -> None:
    n, d = 200, 2
    x = draws(n, d)
    chol = torch.linalg.cholesky(NOISE)
    draw = torch.randn(n, d + 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y = observations(x, stacked=True) + draw @ chol.mT
    prior = WishartPrecision(torch.tensor(4.0, dtype=torch.float64), 0.1 * torch.eye(3, dtype=torch.float64))
    gp = StreamingGP.start(
        SquaredExponential(), THETA - 0.5, draws(30, 2, seed=1), OperatorOutputs(values_and_gradients), prior
    ).observed(x, y)
    bounds = [gp.bound]
    for _ in range(15):
        gp = gp.iterated()
        bounds.append(gp.bound)
    assert bool((torch.stack(bounds).diff() > -1e-8).all())
    assert isinstance(gp.noise, WishartPrecision)
    assert float(gp.noise.freedom) == 4.0 + n
    learnt = torch.linalg.inv(gp.noise.mean)
    assert float((learnt - NOISE).abs().max()) < 0.06
    right = gp.bound
    # as published: a message of D + 2 degrees of freedom, one too few, so that none is added
    wrong = StreamingGP(
        gp.basis,
        gp.outputs,
        gp.prior,
        WishartPrecision(gp.prior.freedom, gp.noise.inverse_scale),
        gp.sums,
        gp.precision_chol,
    )
    assert float(wrong.bound) < float(right) - 100.0


def test_order_and_batches_do_not_matter() -> None:
    x = draws(9, 2)
    y = observations(x, stacked=True)
    start = StreamingGP.start(
        SquaredExponential(), THETA, draws(8, 2, seed=1), OperatorOutputs(values_and_gradients, mean=0.2),
        WishartPrecision(torch.tensor(4.0, dtype=torch.float64), torch.eye(3, dtype=torch.float64)),
    )  # fmt: skip
    whole, parts = start.observed(x, y), start
    for i in (4, 2, 0, 8, 1, 3, 7, 5, 6):
        parts = parts.observed(x[i : i + 1], y[i : i + 1])
    for one, other in ((whole, parts), (whole.converged(), parts.converged())):
        torch.testing.assert_close(one.precision_chol, other.precision_chol, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(one.bound, other.bound, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(one.process.linear, other.process.linear, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("stacked", [False, True])
def test_with_the_observed_functionals_as_inducing_variables_it_is_the_joint_process(stacked: bool) -> None:
    """Then nothing is lost: the evidence and the predictions of a joint process by autograd, to 1e-8."""
    x = draws(5, 2)
    y, noise = observations(x, stacked), NOISE if stacked else NOISE[1:, 1:]
    operator: Operator = values_and_gradients if stacked else gradients
    weight, kernel = torch.linalg.inv(noise), SquaredExponential()
    gp = StreamingGP.start(
        kernel, THETA, Observables(operator(x)), OperatorOutputs(operator), FixedPrecision(weight)
    )
    gp = replace(gp, basis=inducing_basis(kernel, THETA, Observables(operator(x)), 0.0))  # without jitter
    gp = gp.observed(x[:2], y[:2]).observed(x[2:], y[2:])
    both, cross = dense(x, stacked)
    cov = both + torch.kron(torch.eye(5, dtype=x.dtype), noise.contiguous())
    exact = MultivariateNormal(torch.zeros_like(y.flatten()), cov).log_prob(y.flatten())
    torch.testing.assert_close(gp.bound, exact, atol=1e-8, rtol=1e-8)
    solved = torch.linalg.solve(cov, cross.mT)
    torch.testing.assert_close(gp.process.mean(x), solved.mT @ y.flatten(), atol=1e-8, rtol=1e-8)
    prior = kernel.gram(THETA, x)[0]
    torch.testing.assert_close(gp.process.cov(x, x), prior - cross @ solved, atol=1e-8, rtol=1e-8)


def test_differences_of_inducing_values_lose_nothing() -> None:
    """The bound is then the log evidence, and predictions are those of the joint process."""
    x = 0.8 * draws(6, 2)
    far = x + 0.2

    def steps(rows: Tensor) -> Functionals:
        return Functionals.differences(rows + 0.2, rows)

    y = function(far) - function(x)
    noise = FixedPrecision(torch.full((1, 1), 20.0, dtype=torch.float64))
    kernel, inducing = SquaredExponential(), torch.cat((x, far))
    gp = StreamingGP.start(kernel, THETA, inducing, OperatorOutputs(steps), noise).observed(x, y[:, None])
    signs = torch.cat((-torch.eye(6), torch.eye(6)), -1).double()
    cov = signs @ kernel.gram(THETA, inducing)[0] @ signs.mT + 0.05 * torch.eye(6, dtype=x.dtype)
    exact = MultivariateNormal(torch.zeros_like(y), cov).log_prob(y)
    assert float(gp.bound) == pytest.approx(float(exact), abs=1e-5)
    at = draws(4, 2, seed=7)
    mean = kernel.cross(THETA, at, inducing)[0] @ signs.mT @ torch.linalg.solve(cov, y)
    torch.testing.assert_close(gp.process.mean(at), mean, atol=1e-6, rtol=0.0)


def test_any_functional_and_uncertain_inputs() -> None:
    """Integrals over a column, and averages over uncertain inputs by the rule."""
    x = draws(30, 2)
    integral = (1.0 - math.cos(4.0)) / 4.0 * torch.cos(3.0 * x[:, 1])
    noise = GammaPrecision(torch.tensor(2.0, dtype=torch.float64), torch.tensor(1e-3, dtype=torch.float64))
    outputs = OperatorOutputs(lambda rows: Functionals.integrals(rows, 0))
    gp = StreamingGP.start(SquaredExponential(), THETA, draws(25, 2, seed=1), outputs, noise)
    gp = gp.observed(x, integral[:, None]).converged()
    basis = gp.basis
    grid = torch.linspace(0.0, 1.0, 201, dtype=x.dtype)
    rows = torch.stack((grid, torch.full_like(grid, 0.5)), -1)
    mean = torch.trapezoid(gp.process.mean(rows), grid)
    assert float(mean) == pytest.approx((1.0 - math.cos(4.0)) / 4.0 * math.cos(1.5), abs=0.02)
    std = torch.full_like(x, 0.03)
    stacked = OperatorOutputs(values_and_gradients)
    prior = GammaPrecision(noise.shape, noise.rate, 3)
    smeared = StreamingGP.start(SquaredExponential(), THETA, basis.rows, stacked, prior)
    y = observations(x, stacked=True)
    assert bool(smeared.observed(x, y, std).converged().bound < smeared.observed(x, y).converged().bound)


def test_replicates_equal_solo_runs() -> None:
    x, inducing = draws(3, 7, 2), draws(3, 6, 2, seed=1)
    y = observations(x, stacked=True)
    noise = GammaPrecision(torch.tensor(2.0, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64), 3)
    outputs = OperatorOutputs(values_and_gradients)
    together = StreamingGP.start(SquaredExponential(), THETA.expand(3, -1), inducing, outputs, noise)
    together = together.observed(x, y).converged()
    for i in range(3):
        alone = StreamingGP.start(SquaredExponential(), THETA, inducing[i], outputs, noise)
        alone = alone.observed(x[i], y[i]).converged()
        torch.testing.assert_close(together.bound[i], alone.bound)
        torch.testing.assert_close(together.process.mean(x)[i], alone.process.mean(x[i]))


def test_what_has_no_derivatives_is_refused() -> None:
    x = draws(5, 2)
    noise = FixedPrecision(torch.eye(2, dtype=torch.float64))
    with pytest.raises(DataError, match="twice differentiable, such as Matern52 or SquaredExponential"):
        StreamingGP.start(Zonal(), Zonal().start(2), x, OperatorOutputs(gradients), noise)
    gp = StreamingGP.start(SquaredExponential(), THETA, x, OperatorOutputs(Functionals.values), noise)
    with pytest.raises(DataError, match="the operator has 1 functionals a row, but y has 2 outputs"):
        gp.observed(x, x)
