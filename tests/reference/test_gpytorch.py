"""Posterior, likelihood and gradients beside GPyTorch and BoTorch at the same hyperparameters, to 1e-8."""

import math

import gpytorch
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP

TIGHT = {"rtol": 1e-8, "atol": 1e-8}


class Reference(gpytorch.models.ExactGP):
    """Matern-5/2 ARD with an outputscale and a constant mean, all given."""

    def __init__(self, data: Dataset, hyperparameters: Tensor, mean: Tensor, likelihood: object) -> None:
        super().__init__(data.x, data.y, likelihood)
        dim = data.x.shape[-1]
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=dim))
        self.double()
        self.mean_module.constant.data = mean.clone()
        self.covar_module.base_kernel.lengthscale = hyperparameters[:dim].exp()
        self.covar_module.outputscale = hyperparameters[dim].exp()

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def problem(n: int, d: int, *, given_noise: bool = False) -> tuple[Dataset, Tensor]:
    generator = torch.Generator().manual_seed(n + d)
    x = torch.rand(n, d, generator=generator, dtype=torch.float64)
    y = torch.sin(4 * x).sum(-1) + 0.1 * torch.randn(n, generator=generator, dtype=torch.float64)
    noise = 0.01 + 0.1 * torch.rand(n, generator=generator, dtype=torch.float64) if given_noise else None
    theta = torch.cat((torch.linspace(-1.0, 0.5, d), torch.tensor([0.4, math.log(0.02)]))).double()
    return Dataset(x, (y - y.mean()) / (y.std() if n > 1 else 1.0), noise, x[:0]), theta


@pytest.mark.parametrize(("n", "d"), [(1, 1), (12, 2), (60, 6), (150, 20)])
@pytest.mark.parametrize("given_noise", [False, True])
def test_posterior_likelihood_and_gradients(n: int, d: int, given_noise: bool) -> None:
    data, theta = problem(n, d, given_noise=given_noise)
    surrogate = ExactGP()
    process = surrogate.process(data, theta)
    if data.noise is None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood(
            noise_constraint=gpytorch.constraints.GreaterThan(1e-9)
        ).double()
        likelihood.noise = theta[-1].exp()
    else:
        likelihood = gpytorch.likelihoods.FixedNoiseGaussianLikelihood(data.noise)
    model = Reference(data, theta, process.prior_mean.constant, likelihood)

    model.train()
    likelihood.train()
    with gpytorch.settings.fast_computations(False, False, False), gpytorch.settings.cholesky_max_tries(1):
        evidence = likelihood(model(data.x)).log_prob(data.y)
        evidence.backward()
        model.eval()
        test = torch.rand(7, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        posterior = model(test)
        mean, cov = posterior.mean.detach(), posterior.covariance_matrix.detach()

    assert_close(process.mean(test), mean, **TIGHT)
    assert_close(process.cov(test, test), cov, **TIGHT)
    assert_close(process.var(test), cov.diagonal(), **TIGHT)

    value, gradient = surrogate.log_posterior(data, theta)
    prior, by_prior = log_priors(surrogate, theta, d)
    ours = value - prior + 0.5 * process.prior_mean.constant.square()
    assert_close(ours, evidence.detach(), **TIGHT)

    kernel = model.covar_module
    reference = torch.cat(
        (
            by_log(kernel.base_kernel.raw_lengthscale, kernel.base_kernel.lengthscale)[0],
            by_log(kernel.raw_outputscale, kernel.outputscale)[None],
        )
    )
    assert_close((gradient - by_prior)[:-1], reference, **TIGHT)
    if data.noise is None:
        assert_close((gradient - by_prior)[-1], by_log(likelihood.raw_noise, likelihood.noise)[0], **TIGHT)
    else:
        assert_close((gradient - by_prior)[-1], torch.zeros((), dtype=torch.float64), **TIGHT)


def by_log(raw: Tensor, value: Tensor) -> Tensor:
    """Gradient by the logarithm, from gpytorch's gradient by the softplus-inverse."""
    return raw.grad / torch.sigmoid(raw.detach()) * value.detach()


def double(*numbers: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(number, dtype=torch.float64) for number in numbers)


def log_priors(surrogate: ExactGP, theta: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Up to the same constant as the surrogate's, from torch.distributions, and its gradient."""
    leaf = theta.clone().requires_grad_()
    location = math.sqrt(2.0) + 0.5 * math.log(dim)
    parts = (
        (torch.distributions.LogNormal(*double(location, math.sqrt(3.0))), leaf[:dim].exp()),
        (torch.distributions.LogNormal(*double(0.0, 1.0)), leaf[dim].exp()),
    )
    total = sum(
        d.log_prob(v).sum() + (d.scale.log() + 0.5 * math.log(2 * math.pi)) * v.numel() for d, v in parts
    )
    # the noise prior is a density of log noise
    total = total - ((leaf[-1] - surrogate.noise_location) / surrogate.noise_spread).square().log1p()
    (gradient,) = torch.autograd.grad(total, leaf)
    return total.detach(), gradient


def test_any_gpytorch_kernel_gives_the_same_process_and_gradients() -> None:
    data, theta = problem(20, 3)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=3)).double()
    before = {name: value.clone() for name, value in kernel.state_dict().items()}
    surrogate = ExactGP(kernel=kernel)
    matern = kernel.base_kernel
    raw_parameters = {
        "raw_outputscale": kernel.raw_outputscale_constraint.inverse_transform(theta[3].exp())[None],
        "base_kernel.raw_lengthscale": matern.raw_lengthscale_constraint.inverse_transform(theta[:3].exp()),
    }
    raw = torch.cat([raw_parameters[name] for name, _ in kernel.named_parameters()] + [theta[-1:]])
    native, foreign = ExactGP().process(data, theta), surrogate.process(data, raw)
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    gradients = []
    for process in (native, foreign):
        mean, var = process.mean_and_var(x)
        gradients.append(torch.autograd.grad((mean + var).sum(), x)[0])
    assert_close(gradients[0], gradients[1], **TIGHT)
    assert_close(native.mean(x), foreign.mean(x), **TIGHT)
    assert_close(native.cov(x, x), foreign.cov(x, x), **TIGHT)

    _, gradient = surrogate.log_posterior(data, raw)
    for place in range(raw.numel()):
        step = torch.zeros_like(raw)
        step[place] = 1e-5
        rise = surrogate.log_posterior(data, raw + step)[0] - surrogate.log_posterior(data, raw - step)[0]
        assert_close(gradient[place], rise / 2e-5, rtol=1e-5, atol=1e-6)
    fitted = surrogate.fit(data, Seeds.of(0, 0))
    assert bool(torch.isfinite(fitted.hyperparameters).all())
    for name, value in kernel.state_dict().items():
        assert_close(value, before[name])


def test_single_task_gp_of_botorch_agrees_at_its_own_fitted_hyperparameters() -> None:
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP

    data, _ = problem(30, 4)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=4))
    model = SingleTaskGP(data.x, data.y[:, None], covar_module=kernel, outcome_transform=None)
    fit_gpytorch_mll(gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model))
    theta = torch.cat(
        (
            kernel.base_kernel.lengthscale.detach()[0].log(),
            kernel.outputscale.detach().log()[None],
            model.likelihood.noise.detach().log(),
        )
    )
    process = ExactGP().process(data, theta)
    test = torch.rand(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theirs = model.posterior(test)
    # their mean is learned with the rest, ours is profiled: compare what does not depend on it
    assert_close(process.cov(test, test), theirs.covariance_matrix.detach(), **TIGHT)
