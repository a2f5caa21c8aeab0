"""Surrogates that learn from derivatives."""

import pytest
import torch
from torch import Tensor

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import ArcCosine, Matern52, SquaredExponential, Zonal
from bo_suite.surrogates import ExactGP, WarmStart
from bo_suite.surrogates.exact import ExactProcess

SEEDS = Seeds.of(0, 0)


def rows(count: int, *lead: int, seed: int = 0, d: int = 3) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.rand(*lead, count, d, generator=generator, dtype=torch.float64, device="cpu")


def function(x: Tensor) -> Tensor:
    return torch.sin(5.0 * x[..., 0]) + 2.0 * (x[..., 1] - 0.4) ** 2 + x[..., 2] * x[..., 0]


def gradient_of(x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def data_of(x: Tensor) -> Dataset:
    return Dataset(x, function(x), gradient=gradient_of(x))


def exact_by_autograd(
    kernel: Matern52 | SquaredExponential, theta: Tensor, data: Dataset, levels: Tensor, at: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance at some rows, and log evidence at prior mean 0, of the joint Gaussian of values and
    derivatives, all covariances by automatic differentiation."""

    def k(x: Tensor, z: Tensor) -> Tensor:
        rho = ((x - z) * torch.exp(-theta[:-1])).square().sum()
        if isinstance(kernel, SquaredExponential):
            return torch.exp(theta[-1] - 0.5 * rho)
        if float(rho.detach()) < 1e-16:  # the series at 0, as the root has no derivative there
            return torch.exp(theta[-1]) * (1.0 - 5.0 / 6.0 * rho + 25.0 / 24.0 * rho.square())
        r, root = rho.sqrt(), 5.0**0.5
        return torch.exp(theta[-1]) * (1.0 + root * r + 5.0 / 3.0 * rho) * torch.exp(-root * r)

    n, d = data.x.shape
    x = data.x
    size = n * (1 + d)
    joint = torch.zeros(size, size, dtype=x.dtype)
    cross = torch.zeros(len(at), size, dtype=x.dtype)
    for i in range(n):
        for j in range(n):
            both = torch.cat((x[i], x[j]))
            hessian = torch.autograd.functional.hessian(lambda v: k(v[:d], v[d:]), both)
            slope = torch.autograd.functional.jacobian(lambda v: k(v[:d], v[d:]), both)
            joint[i, j] = k(x[i], x[j])
            joint[n + i * d : n + (i + 1) * d, j] = slope[:d]
            joint[i, n + j * d : n + (j + 1) * d] = slope[d:]
            joint[n + i * d : n + (i + 1) * d, n + j * d : n + (j + 1) * d] = hessian[:d, d:]
    for i, row in enumerate(at):
        for j in range(n):
            cross[i, j] = k(row, x[j])
            cross[i, n + j * d : n + (j + 1) * d] = torch.autograd.functional.jacobian(
                lambda z, row=row: k(row, z), x[j]
            )
    gradient = data.gradient
    assert gradient is not None
    unit = gradient.square().mean(0).repeat(n)
    noise = torch.cat((levels[0].expand(n), levels[1] * unit))
    told = torch.cat((data.y, gradient.flatten()))
    covariance = joint + torch.diag(noise)
    mean = cross @ torch.linalg.solve(covariance, told)
    var = theta[-1].exp() - (cross * torch.linalg.solve(covariance, cross.mT).mT).sum(-1)
    evidence = torch.distributions.MultivariateNormal(torch.zeros(size, dtype=x.dtype), covariance)
    return mean, var, evidence.log_prob(told)


@pytest.mark.parametrize("kernel", [Matern52(), SquaredExponential()], ids=lambda one: type(one).__name__)
def test_the_process_is_the_joint_gaussian_of_automatic_differentiation(
    kernel: Matern52 | SquaredExponential,
) -> None:
    data, at = data_of(rows(4)), rows(5, seed=1)
    theta = torch.tensor([-0.7, -0.3, 0.1, 0.4], dtype=torch.float64)
    levels = torch.tensor([1e-3, 1e-2], dtype=torch.float64)
    surrogate = ExactGP(kernel, mean=0.0)
    process = surrogate.process(data, torch.cat((theta, levels.log())))
    mean, var, evidence = exact_by_autograd(kernel, theta, data, levels, at)
    torch.testing.assert_close(process.mean(at), mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(process.var(at), var, rtol=1e-8, atol=1e-8)
    both = torch.cat((theta, levels.log()))
    prior = surrogate.log_posterior(
        Dataset(data.x[:1], 0.0 * data.y[:1]), torch.cat((theta, levels[:1].log()))
    )
    alone = torch.distributions.Normal(0.0, (theta[-1].exp() + levels[0]).sqrt())
    log_priors = prior[0] - alone.log_prob(torch.tensor(0.0))  # of theta and of the first level
    standard = levels[1].log() + 6.0
    log_priors = log_priors - torch.log1p(standard.square())
    torch.testing.assert_close(surrogate.log_posterior(data, both)[0], evidence + log_priors)


@pytest.mark.parametrize("mean", [None, 0.3])
@pytest.mark.parametrize("missing", [False, True])
def test_the_gradient_of_the_density_is_that_of_finite_differences(mean: float | None, missing: bool) -> None:
    data = data_of(rows(5, 2))
    if missing:
        gradient = data.gradient.clone()
        gradient[0, 1], gradient[0, 3, 2] = torch.nan, torch.nan
        gradient[1, :, 1], gradient[1, 4:, 1] = torch.nan, 0.3
        data = Dataset(data.x, data.y, gradient=gradient)
    surrogate = ExactGP(mean=mean)
    points = torch.tensor([[-0.5, 0.2, 0.1, 0.3, -5.0, -4.0], [0.1, 0.1, -0.6, 0.0, -7.0, -2.0]])
    points = points.to(torch.float64)
    _, gradient = surrogate.log_posterior(data, points)
    for entry in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[entry] = 1e-5
        ends = [surrogate.log_posterior(data, points + sign * step)[0] for sign in (1.0, -1.0)]
        torch.testing.assert_close(gradient[:, entry], (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-5)


def test_derivatives_make_the_fit_better() -> None:
    data, at = data_of(rows(12)), rows(200, seed=5)
    without = ExactGP().fit(Dataset(data.x, data.y), SEEDS)
    process = ExactGP().fit(data, SEEDS)
    errors = [(one.mean(at) - function(at)).square().mean().sqrt() for one in (process, without)]
    assert float(errors[0]) < 0.3 * float(errors[1])
    inside = ((process.mean(at) - function(at)).abs() < 3.0 * process.var(at).sqrt()).double().mean()
    assert float(inside) > 0.9
    assert isinstance(process, ExactProcess)
    assert process.hyperparameters.shape == (6,)


@pytest.mark.parametrize("fault", ["nonsense", "sign", "shuffled"])
def test_derivatives_that_contradict_the_outcomes_lose_their_weight(fault: str) -> None:
    x, at = rows(30), rows(100, seed=6)
    generator = torch.Generator().manual_seed(2)
    wrong = {
        "nonsense": 5.0 * torch.randn(x.shape, generator=generator, dtype=torch.float64),
        "sign": -gradient_of(x),
        "shuffled": gradient_of(x)[torch.randperm(30, generator=generator)],
    }
    process = ExactGP().fit(Dataset(x, function(x), gradient=wrong[fault]), SEEDS)
    without = ExactGP().fit(Dataset(x, function(x)), SEEDS)
    errors = [(one.mean(at) - function(at)).square().mean().sqrt() for one in (process, without)]
    assert float(errors[0]) < 1.6 * float(errors[1])
    assert process.derivative_noise is not None
    assert float(process.derivative_noise) > 0.3


def test_a_mean_function_is_taken_off_derivatives_too() -> None:
    data = data_of(rows(8))
    at = rows(20, seed=3)
    process = ExactGP(mean=lambda x: function(x) + 0.1 * x[..., 0]).fit(data, SEEDS)
    assert float((process.mean(at) - function(at)).abs().max()) < 2e-2


def test_replicates_equal_their_solo_fits() -> None:
    data = data_of(rows(6, 2))
    together = ExactGP(restarts=1).fit(data, SEEDS)
    at = rows(4, seed=3)
    for index in range(2):
        alone = ExactGP(restarts=1).fit(data.replicates(index), SEEDS)
        torch.testing.assert_close(
            together.mean(at.expand(2, 4, 3))[index], alone.mean(at), rtol=1e-5, atol=1e-6
        )


def test_unknown_derivatives_are_left_out() -> None:
    x = rows(8)
    nothing = torch.full_like(x, torch.nan)
    at = rows(5, seed=2)
    process = ExactGP().fit(Dataset(x, function(x), gradient=nothing), SEEDS)
    torch.testing.assert_close(process.mean(at), ExactGP().fit(Dataset(x, function(x)), SEEDS).mean(at))
    assert process.derivative_noise is None
    one = nothing.clone()
    one[2, 1] = gradient_of(x)[2, 1]
    assert ExactGP().fit(Dataset(x, function(x), gradient=one), SEEDS).chol.shape == (9, 9)


def test_a_constant_outcome_with_zero_derivatives_can_be_fitted() -> None:
    x = rows(6)
    zero = torch.zeros_like(x)
    process = ExactGP().fit(Dataset(x, zero[:, 0], gradient=zero), SEEDS)
    assert bool(process.mean(rows(5, seed=1)).abs().max() < 1e-3)


def test_a_kernel_that_is_not_smooth_is_refused() -> None:
    with pytest.raises(DataError, match="twice differentiable, such as Matern52 or SquaredExponential"):
        ExactGP(Zonal(ArcCosine())).fit(data_of(rows(5)), SEEDS)


def test_categories_have_no_derivatives_and_do_not_disturb_those_of_other_columns() -> None:
    x = rows(10)
    x[:, 2] = (2.0 * x[:, 2]).round() / 2.0
    gradient = gradient_of(x)
    gradient[:, 2] = torch.nan
    data = Dataset(x, function(x), columns=Columns(unordered=(2,), levels=(None, None, 3)), gradient=gradient)
    at = rows(100, seed=8)
    at[:, 2] = (2.0 * at[:, 2]).round() / 2.0
    process = ExactGP().fit(data, SEEDS)
    without = ExactGP().fit(Dataset(x, function(x), columns=data.columns), SEEDS)
    errors = [(one.mean(at) - function(at)).square().mean().sqrt() for one in (process, without)]
    assert float(errors[0]) < 0.6 * float(errors[1])


def test_hyperparameters_without_a_factor_have_an_infinite_density_and_are_left() -> None:
    x = rows(1).expand(8, 3).contiguous()  # equal rows: Schur complements that are exactly zero
    data = Dataset(x, torch.zeros(8, dtype=x.dtype), gradient=torch.zeros_like(x))
    surrogate = ExactGP()
    start = surrogate.start(data).clone()
    start[-2:] = -80.0
    value, gradient = surrogate.log_posterior(data, start)
    assert float(value) == -torch.inf
    assert bool(gradient.isfinite().all())
    process = surrogate.fit(data, SEEDS, WarmStart(torch.where(start < -50.0, -700.0, start), 8))
    assert bool(process.mean(rows(3)).isfinite().all())
