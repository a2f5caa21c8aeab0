"""Processes that observe linear functionals of the function."""

import math

import pytest
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import ArcCosine, Functionals, Matern52, SquaredExponential, Zonal
from bo_suite.linalg import solve_lower
from bo_suite.surrogates import ExactProcess, PriorMean, SparseProcess
from bo_suite.surrogates.basis import Basis, inducing_basis
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.paths import draw_paths

THETA = torch.tensor([-0.8, -0.5, 0.3], dtype=torch.float64)
NOISE = torch.tensor(1e-3, dtype=torch.float64)


def rows(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.rand(count, 2, generator=generator, dtype=torch.float64, device="cpu")


def function(x: Tensor) -> Tensor:
    return torch.sin(3.0 * x[..., 0]) + x[..., 1].square() * x[..., 0]


def gradients(x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def exact(kernel: Matern52 | SquaredExponential | Zonal, x: Tensor, mean: PriorMean) -> ExactProcess:
    theta = THETA if not isinstance(kernel, Zonal) else kernel.start(2)
    chol = torch.linalg.cholesky(kernel.gram(theta, x)[0] + NOISE * torch.eye(len(x), dtype=x.dtype))
    white = solve_lower(chol, (function(x) - mean(x))[:, None])[:, 0]
    return ExactProcess(
        Basis.of_observed(kernel, theta, x, chol), white, mean, NOISE, torch.zeros_like(NOISE)
    )


def every_kind(x: Tensor) -> tuple[Functionals, Tensor]:
    """Functionals of the function, and their values."""
    slope = gradients(x)
    direction = torch.tensor([0.6, -0.8], dtype=x.dtype).expand_as(x)
    parts = [
        (Functionals.partials(x, 0), slope[:, 0]),
        (Functionals.directional(x, direction), (slope * direction).sum(-1)),
        (Functionals.differences(x, x.flip(0)), function(x) - function(x.flip(0))),
        (Functionals.integrals(x, 1), torch.sin(3.0 * x[:, 0]) + x[:, 0] / 3.0),
        (Functionals.values(0.5 * x), function(0.5 * x)),
    ]
    functionals, values = parts[0]
    for more, value in parts[1:]:
        functionals, values = functionals.joined(more), torch.cat((values, value))
    return functionals, values


def constant(value: float = 0.4) -> PriorMean:
    return PriorMean(torch.tensor(value, dtype=torch.float64), lambda x: x[..., 0] ** 2)


def dense(
    process: ExactProcess, observed: Functionals, values: Tensor, noise: Tensor, at: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and covariance by the formulas of a joint Gaussian, with one dense solve."""
    kernel, theta, mean = process.kernel, process.theta, process.prior_mean
    both = Functionals.values(process.x).joined(observed)
    k = kernel.functionals_cross(theta, both, both)[0]
    k = k + torch.diag(torch.cat((NOISE.expand(len(process.x)), noise)))
    cross = kernel.functionals_cross(theta, Functionals.values(at), both)[0]
    prior = both.of(lambda x: mean(x)[..., None])[:, 0]
    data = torch.cat((function(process.x), values)) - prior
    cov = kernel.cross(theta, at, at)[0] - cross @ torch.linalg.solve(k, cross.mT)
    return mean(at) + cross @ torch.linalg.solve(k, data), cov


@pytest.mark.parametrize("kernel", [Matern52(), SquaredExponential()], ids=lambda one: type(one).__name__)
def test_conditioning_on_functionals_is_that_of_the_joint_gaussian(
    kernel: Matern52 | SquaredExponential,
) -> None:
    process = exact(kernel, rows(5), constant())
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.linspace(1e-4, 1e-2, observed.count, dtype=torch.float64)
    at = rows(7, seed=2)
    conditioned = process.condition(observed, values, noise)
    mean, cov = dense(process, observed, values, noise, at)
    torch.testing.assert_close(conditioned.mean(at), mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(conditioned.cov(at, at), cov, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(conditioned.var(at), cov.diagonal(), rtol=1e-8, atol=1e-8)
    # and then on values, one by one, and without the first observations again
    more = rows(2, seed=4)
    values_after = conditioned.condition(more, function(more))
    both, told = observed.joined(Functionals.values(more)), torch.cat((values, function(more)))
    mean, cov = dense(process, both, told, torch.cat((noise, NOISE.expand(2))), at)
    torch.testing.assert_close(values_after.mean(at), mean, rtol=1e-8, atol=1e-8)
    without = values_after.delete(slice(5, 5 + observed.count))
    torch.testing.assert_close(without.mean(at), process.condition(more, function(more)).mean(at))


def test_derivatives_and_integrals_are_predicted_from_values_alone() -> None:
    process = exact(SquaredExponential(), rows(60), constant(0.0))
    observed, values = every_kind(rows(3, seed=1))
    mean, var = process.mean_and_var(observed)
    deviation = (mean - values) / var.clamp(min=1e-8).sqrt()
    assert float(deviation.abs().max()) < 4.0
    assert float((mean - values).abs().max()) < 0.2
    torch.testing.assert_close(var, process.cov(observed, observed).diagonal(), rtol=1e-6, atol=1e-8)


def test_the_gradient_by_x_of_the_moments_is_that_of_finite_differences() -> None:
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.full((observed.count,), 1e-3, dtype=torch.float64)
    process = exact(Matern52(), rows(5), constant()).condition(observed, values, noise)
    at = rows(4, seed=3).requires_grad_()
    mean, var = process.mean_and_var(at)
    (by_x,) = torch.autograd.grad((mean + 2.0 * var).sum(), at)
    for entry in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[entry] = 1e-5
        ends = [process.mean_and_var(at.detach() + sign * step) for sign in (1.0, -1.0)]
        slope = ((ends[0][0] + 2.0 * ends[0][1]) - (ends[1][0] + 2.0 * ends[1][1])) / 2e-5
        torch.testing.assert_close(by_x[:, entry], slope, rtol=1e-5, atol=1e-6)


def test_paths_of_a_process_with_derivatives_have_its_moments() -> None:
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.full((observed.count,), 1e-3, dtype=torch.float64)
    process = exact(Matern52(), rows(5), constant()).condition(observed, values, noise)
    at = rows(6, seed=5)
    with torch.no_grad():
        draws = draw_paths(process, 2000, Seeds.of(0, 0), features=2048)(at)
    mean, var = process.mean_and_var(at)
    assert float(((draws.mean(0) - mean) / (var / 2000).sqrt()).abs().max()) < 5.0
    torch.testing.assert_close(draws.var(0), var, rtol=0.2, atol=2e-3)


def sparse(kernel: Matern52 | SquaredExponential, z: Tensor, mean: PriorMean) -> SparseProcess:
    """The prior with inducing points."""
    basis = inducing_basis(kernel, THETA, Points(z), 1e-12)
    eye = torch.eye(len(z), dtype=z.dtype)
    linear = torch.zeros(len(z), dtype=z.dtype)
    return SparseProcess(Basis(kernel, THETA, basis.variables, basis.factor, eye), linear, mean, NOISE, THETA)


def test_a_sparse_process_absorbs_functionals_as_the_optimal_q_does() -> None:
    z, x, at = rows(12, seed=7), rows(5), rows(6, seed=2)
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.linspace(1e-3, 1e-2, observed.count, dtype=torch.float64)
    prior = sparse(Matern52(), z, constant())
    process = prior.absorb(x, function(x)).absorb(observed, values, noise)
    # the optimal q(u) of Titsias (2009), equation 10, written with dense matrices
    kernel, both = Matern52(), Functionals.values(x).joined(observed)
    at_z = Functionals.values(z)
    kuu = kernel.gram(THETA, z)[0]
    kuf = kernel.functionals_cross(THETA, at_z, both)[0]
    levels = torch.cat((NOISE.expand(5), noise))
    mean = both.of(lambda rows: constant()(rows)[..., None])[:, 0]
    residual = torch.cat((function(x), values)) - mean
    sigma = torch.linalg.inv(kuu + (kuf / levels) @ kuf.mT)
    cross = kernel.cross(THETA, at, z)[0]
    expected = constant()(at) + cross @ sigma @ (kuf / levels) @ residual
    torch.testing.assert_close(process.mean(at), expected, rtol=1e-6, atol=1e-7)
    cov = kernel.cross(THETA, at, at)[0] - cross @ (torch.linalg.inv(kuu) - sigma) @ cross.mT
    torch.testing.assert_close(process.cov(at, at), cov, rtol=1e-6, atol=1e-7)
    released = process.release(observed, values, noise)
    torch.testing.assert_close(released.mean(at), prior.absorb(x, function(x)).mean(at))


def test_a_sparse_process_is_conditioned_on_functionals_without_loss() -> None:
    x, at = rows(5), rows(6, seed=2)
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.full((observed.count,), 1e-3, dtype=torch.float64)
    lossless = sparse(Matern52(), x, constant()).absorb(x, function(x)).condition(observed, values, noise)
    process = exact(Matern52(), x, constant()).condition(observed, values, noise)
    torch.testing.assert_close(lossless.mean(at), process.mean(at), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(lossless.var(at), process.var(at), rtol=1e-6, atol=1e-7)


def test_replicates_and_fantasies_share_the_functionals() -> None:
    x = rows(4)
    process = exact(Matern52(), x, constant())
    observed, values = every_kind(rows(2, seed=1))
    noise = torch.full((observed.count,), 1e-3, dtype=torch.float64)
    fantasies = torch.stack((values, values + 1.0, 2.0 * values))
    at = rows(5, seed=3)
    mean = process.condition(observed, fantasies, noise).mean(at)
    assert mean.shape == (3, 5)
    for index in range(3):
        alone = process.condition(observed, fantasies[index], noise).mean(at)
        torch.testing.assert_close(mean[index], alone)


def test_what_can_not_be_observed_is_refused() -> None:
    observed, values = every_kind(rows(3, seed=1))
    noise = torch.full((observed.count,), 1e-3, dtype=torch.float64)
    rough = exact(Zonal(ArcCosine()), rows(5), constant(0.0))
    with pytest.raises(DataError, match="twice differentiable, such as Matern52"):
        rough.condition(observed, values, noise)
    smooth = exact(Matern52(), rows(5), constant())
    with pytest.raises(DataError, match="noise of observed functionals must be given"):
        smooth.condition(observed, values)
    with pytest.raises(DataError, match="y must be"):
        smooth.condition(observed, values[:3], noise[:3])


def test_a_derivative_at_a_minimum_is_zero_and_says_where_it_is() -> None:
    # one value and one derivative of a parabola determine it better than three values far away
    x = torch.tensor([[0.3]], dtype=torch.float64)
    theta = torch.tensor([math.log(1.0), 0.0], dtype=torch.float64)
    basis = inducing_basis(SquaredExponential(), theta, Points(x), 1e-12)
    eye = torch.eye(1, dtype=torch.float64)
    prior = SparseProcess(
        Basis(SquaredExponential(), theta, basis.variables, basis.factor, eye),
        torch.zeros(1, dtype=torch.float64),
        PriorMean(torch.tensor(0.0, dtype=torch.float64)),
        NOISE,
        theta,
    )
    tiny = torch.tensor([1e-9], dtype=torch.float64)
    slope = Functionals.partials(x, 0)
    process = prior.condition(x, torch.tensor([0.5], dtype=torch.float64), tiny)
    process = process.condition(slope, torch.tensor([0.0], dtype=torch.float64), tiny)
    torch.testing.assert_close(process.mean(slope), torch.zeros(1, dtype=torch.float64), atol=1e-6, rtol=0.0)
    at = torch.tensor([[0.2], [0.4]], dtype=torch.float64)
    mean = process.mean(at)
    torch.testing.assert_close(mean[0], mean[1], rtol=1e-6, atol=1e-8)
