"""Sparse regression: bound and gradient beside dense formulas, processes beside dense conditioning."""

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import gpytorch
import jaxtyping
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import BoSuiteError, DataError, FitError, NumericalError
from bo_suite.kernels import Kernel, Matern52, as_kernel
from bo_suite.surrogates import SGPR, AutoGP, ExactGP, SparseProcess, Surrogate, WarmStart
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.inducing import Given, KMeans, Subset
from bo_suite.surrogates.noise import observation_noise
from bo_suite.surrogates.variational import collapsed
from bo_suite.surrogates.variational.collapsed import CollapsedObjective
from bo_suite.surrogates.variational.likelihoods import Gaussian
from bo_suite.testing import check_surrogate

FIXTURES = Path(__file__).parent / "fixtures"
SEEDS = Seeds.of(0, 0)
RBF = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
ARD = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=3)).double()
FLAT = Gaussian(noise_location=math.log(0.15**2), noise_spread=1e6)
SET_UP = SGPR(kernel=RBF, inducing=20, learn_inducing=True, likelihood=FLAT, mean=0.0)
EXACT, TIGHT, NEAR = ({"rtol": gap, "atol": gap} for gap in (1e-10, 1e-8, 1e-6))


def rows(*shape: int, seed: int = 0, unordered: tuple[int, ...] = ()) -> Tensor:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for column in unordered:
        x[..., column] = torch.floor(3 * x[..., column]) / 2
    return x


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dataset(*shape: int, unordered: tuple[int, ...] = (), known: bool = False) -> Dataset:
    """Noisy outcomes, the variance of every other one known where `known`."""
    x = rows(*shape, unordered=unordered)
    y = torch.sin(5 * x).sum(-1) + 0.1 * normal(*shape[:-1])
    noise = 0.02 + 0.1 * rows(*shape[:-1], seed=7)
    noise[..., ::2] = torch.nan
    return Dataset(x, y, noise if known else None, columns=Columns(unordered))


def part(data: Dataset, kept: slice | int) -> Dataset:
    noise = None if data.noise is None else data.noise[..., kept]
    return replace(data, x=data.x[..., kept, :], y=data.y[..., kept], noise=noise)


def given(kernel: Kernel, dim: int, *batch: int) -> Tensor:
    """Hyperparameters (theta, log noise), different in each replicate."""
    theta = kernel.start(dim) - 0.3 + 0.2 * normal(*batch, len(kernel.start(dim)), seed=11)
    return torch.cat((theta, torch.full((*batch, 1), -2.0, dtype=torch.float64)), -1)


def fixture() -> tuple[Dataset, Given]:
    xy = torch.from_numpy(np.loadtxt(FIXTURES / "pyrox_svgp_xy.csv", delimiter=",", skiprows=1))
    inducing = torch.from_numpy(np.loadtxt(FIXTURES / "pyrox_svgp_Z0.csv"))[:, None]
    return Dataset(xy[:, :1], xy[:, 1]), Given(inducing)


def log_evidence(data: Dataset, eta: Tensor) -> Tensor:
    """Exact, of the fixture's kernel at mean zero, computed apart; differentiable."""
    scale, lengthscale = torch.nn.functional.softplus(eta[..., :2, None, None]).unbind(-3)
    k = scale * torch.exp(-0.5 * ((data.x - data.x.mT) / lengthscale).square())
    noise = torch.diag_embed(eta[..., -1:].exp().expand(*eta.shape[:-1], len(data.y)))
    return MultivariateNormal(torch.zeros_like(data.y), k + noise).log_prob(data.y)


CASES = [Matern52(), Matern52(unordered=(1,)), ARD]
KERNEL = pytest.mark.parametrize("kernel", CASES, ids=["ordered", "unordered", "gpytorch"])
MEAN_AND_KNOWN = pytest.mark.parametrize(("mean", "known"), list(product([None, 0.4], [False, True])))


def case(kernel: object, known: bool, *batch: int, n: int = 9) -> tuple[Kernel, Dataset, Tensor, Tensor]:
    """Kernel, data, hyperparameters, and five inducing inputs."""
    unordered = getattr(kernel, "unordered", ())
    kernel, inducing = as_kernel(kernel, unordered), rows(*batch, 5, 3, seed=3, unordered=unordered)
    return kernel, dataset(*batch, n, 3, unordered=unordered, known=known), given(kernel, 3, *batch), inducing


@KERNEL
@MEAN_AND_KNOWN
def test_the_gradient_agrees_with_finite_differences(kernel, mean, known: bool, monkeypatch) -> None:
    monkeypatch.setattr(collapsed, "_CACHED", 20 if known else 10_000)  # in chunks, and in one
    kernel, data, eta, inducing = case(kernel, known, 2)
    objective = CollapsedObjective(kernel, data, Points(inducing), mean, 1e-6, -3.0, 1.0, [])
    point = torch.cat((eta, inducing.flatten(-2)), -1)
    free = torch.ones_like(inducing[0], dtype=torch.bool)
    free[:, list(data.unordered)] = False
    free = torch.cat((torch.ones(eta.shape[-1], dtype=torch.bool), free.flatten()))
    steps = 1e-5 * torch.eye(point.shape[-1], dtype=torch.float64)[free][:, None]
    slopes = (objective(point + steps)[0] - objective(point - steps)[0]) / 2e-5
    gradient = objective(point[None])[1][0]
    assert_close(gradient[:, free].T, slopes, **NEAR)
    assert bool((gradient[:, ~free] == 0).all())
    assert_close(objective(eta[None])[1][0], gradient[:, : eta.shape[-1]], **EXACT)


@KERNEL
@MEAN_AND_KNOWN
def test_bound_and_process_agree_with_dense_formulas(kernel, mean, known: bool, monkeypatch) -> None:
    monkeypatch.setattr(collapsed, "_CACHED", 20 if known else 10_000)
    kernel, data, eta, inducing = case(kernel, known, 2, n=15)
    surrogate = SGPR(kernel=kernel, mean=mean, jitter=1e-3)
    process, test = surrogate.process(data, eta, inducing), rows(2, 4, 3, seed=8, unordered=data.unordered)
    noise = observation_noise(eta[:, -1].exp(), data.noise, 15)[0]

    joint = kernel.gram(eta[:, :-1], torch.cat((inducing, data.x, test), -2))[0]
    k_zz = joint[:, :5, :5] + 1e-3 * torch.diag_embed(joint[:, :5, :5].diagonal(dim1=-2, dim2=-1))
    k_xz, k_xx = joint[:, 5:, :5], joint[:, 5:, 5:]
    q = k_xz @ torch.linalg.solve(k_zz, k_xz.mT)
    cov = q[:, :15, :15] + torch.diag_embed(noise)
    centre = process.prior_mean.constant[:, None]
    missing = ((k_xx - q).diagonal(dim1=-2, dim2=-1)[:, :15] / noise).sum(-1)
    evidence = MultivariateNormal(centre.expand(2, 15), cov).log_prob(data.y)
    assert_close(surrogate.bound(data, eta, inducing), evidence - 0.5 * missing, **TIGHT)

    gain = torch.linalg.solve(cov, q[:, :15, 15:]).mT
    assert_close(process.mean(test), centre + (gain @ (data.y - centre)[..., None])[..., 0], **TIGHT)
    assert_close(process.cov(test, test), k_xx[:, 15:, 15:] - gain @ q[:, :15, 15:], **TIGHT)

    information = torch.linalg.solve(cov, torch.ones(2, 15, 1, dtype=torch.float64))[..., 0]
    profiled = (information * data.y).sum(-1) / (information.sum(-1) + 1.0)
    assert_close(
        process.prior_mean.constant, profiled if mean is None else torch.full_like(profiled, mean), **TIGHT
    )


def test_the_bound_is_that_of_gpytorch() -> None:
    data, inducing = fixture()[0], torch.linspace(-2.5, 2.5, 7, dtype=torch.float64)[:, None]
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    kernel = gpytorch.kernels.InducingPointKernel(RBF, inducing, likelihood).train()
    with gpytorch.settings.fast_computations(False, False, False), torch.no_grad():
        prior = gpytorch.distributions.MultivariateNormal(torch.zeros_like(data.y), kernel(data.x))
        reference = likelihood(prior).log_prob(data.y)
        reference = reference + sum(term.loss() for term in kernel.added_loss_terms())
    eta = torch.cat((as_kernel(RBF, ()).start(1), likelihood.noise.detach().log()))
    assert_close(SGPR(kernel=RBF, mean=0.0, jitter=0.0).bound(data, eta, inducing), reference, **TIGHT)


def test_the_exact_evidence_of_the_fixture_has_its_published_maximum() -> None:
    data, start = fixture()[0], [0.0, 0.0, -3.8]
    found = minimize(lambda eta: -float(log_evidence(data, torch.tensor(eta))), start, tol=1e-3)
    assert_close(-found.fun, 188.829, rtol=0.0, atol=1e-2)


def test_the_fixture_is_fitted_to_its_known_optimum() -> None:
    data, chosen = fixture()
    for jitter, low, high in ((1.63e-4, 187.8, 188.0), (None, 188.7, 188.829 + 1e-3)):
        surrogate = replace(SET_UP, selection=chosen, jitter=jitter)
        process = surrogate.fit(data, SEEDS)
        bound = float(surrogate.bound(data, process.hyperparameters, process.inducing))
        assert low <= bound <= min(high, float(log_evidence(data, process.hyperparameters)))
        scale, lengthscale = torch.nn.functional.softplus(process.theta).tolist()
        assert_close(float(process.noise.sqrt()), 0.153, rtol=0.0, atol=0.01)
        assert_close(lengthscale, 0.498, rtol=0.0, atol=0.01)
        assert_close(scale, 0.614, rtol=0.0, atol=0.12)


def test_the_bound_never_exceeds_the_evidence() -> None:
    """So it can not be 193.226 on the fixture, which a published notebook has."""
    data, chosen = part(fixture()[0], slice(120)), fixture()[1]
    eta = torch.tensor([0.2, 0.2, -3.0], dtype=torch.float64) + normal(40, 3, seed=2)
    inducing = chosen.x + 0.3 * normal(40, 20, 1, seed=3)
    lifted = Dataset(data.x.expand(40, -1, -1), data.y.expand(40, -1), None, data.x[:0].expand(40, -1, -1))
    for jitter in (1e-10, 1.63e-4):
        bound = replace(SET_UP, jitter=jitter).bound(lifted, eta, inducing)
        assert bool((bound <= log_evidence(data, eta) + 1e-5).all())


@pytest.mark.parametrize("every", [1, 5])
def test_inducing_inputs_at_the_data_make_it_exact(every: int) -> None:
    data = part(fixture()[0], slice(None, None, every))
    eta = torch.tensor([0.2, -0.4, -3.8], dtype=torch.float64)
    held = SGPR(kernel=RBF, mean=0.0, jitter=1e-10)
    assert_close(held.bound(data, eta, data.x), log_evidence(data, eta), **NEAR)
    process = replace(held, mean=None).process(data, eta, data.x)
    exact = ExactGP(kernel=RBF).process(data, eta)
    test = 6 * rows(50, 1) - 3
    for _ in range(2):
        assert_close(process.prior_mean.constant, exact.prior_mean.constant, **NEAR)
        assert_close(process.mean(test), exact.mean(test), **NEAR)
        assert_close(process.cov(test, test), exact.cov(test, test), **NEAR)
        process, exact = process.condition(test[:3], normal(3)), exact.condition(test[:3], normal(3))


def assert_same(process: SparseProcess, reference: SparseProcess) -> None:
    test = rows(*process.theta.shape[:-1], 20, process.inducing.shape[-1], seed=21)
    assert_close(process.mean(test), reference.mean(test), **TIGHT)
    assert_close(process.cov(test, test), reference.cov(test, test), **TIGHT)
    assert_close(process.precision_chol, reference.precision_chol, **TIGHT)


@pytest.mark.slow
def test_a_stream_of_thousands_of_observations_equals_the_batch_fit(monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as slow as ten streams
    monkeypatch.setattr(jaxtyping, "jaxtyped", lambda **options: lambda function: function)
    data, inducing, eta = dataset(5000, 3), rows(30, 3, seed=4), given(Matern52(), 3)
    process = SGPR(mean=0.2).process(part(data, slice(1)), eta, inducing)
    for i in range(1, 5000):
        process = process.absorb(data.x[i : i + 1], data.y[i : i + 1])
    assert_same(process, SGPR(mean=0.2).process(data, eta, inducing))


def test_what_is_absorbed_equals_a_refit_and_is_released_again() -> None:
    data, inducing = replace(dataset(2, 60, 3), noise=0.02 + rows(2, 60)), rows(2, 12, 3, seed=4)
    surrogate, eta = SGPR(mean=-0.1), given(Matern52(), 3, 2)
    process = surrogate.process(part(data, slice(40)), eta, inducing)
    early, late = part(data, slice(9)), part(data, slice(40, None))
    absorbed = process.absorb(late.x, late.y, late.noise)
    assert_same(absorbed, surrogate.process(data, eta, inducing))
    assert_same(absorbed.release(late.x, late.y, late.noise), process)
    rest = absorbed.release(early.x, early.y, early.noise)
    assert_same(rest, surrogate.process(part(data, slice(9, None)), eta, inducing))
    with pytest.raises(NumericalError, match="must"):
        process.release(late.x, late.y, torch.full_like(late.y, 1e-4))


@pytest.mark.parametrize(("verb", "batch"), list(product(["absorb", "condition"], [(), (2,)])))
def test_fantasies_equal_what_each_would_be_alone(verb: str, batch: tuple[int, ...]) -> None:
    data, test = dataset(*batch, 20, 3), rows(*batch, 6, 3, seed=6)
    process = SGPR().process(data, given(Matern52(), 3, *batch), rows(*batch, 8, 3, seed=4))
    x, y = rows(*batch, 4, 3, seed=5), normal(3, *batch, 4)
    together = getattr(process, verb)(x, y)
    assert together.mean(test).shape == (3, *batch, 6)
    twice = getattr(together, verb)(x[..., :2, :] + 0.1, y[..., :2] + 0.1)
    for fantasy in range(3):
        alone = getattr(process, verb)(x, y[fantasy])
        assert_close(together.mean(test)[fantasy], alone.mean(test), **EXACT)
        assert_close(together.var(test), alone.var(test), **EXACT)
        further = getattr(alone, verb)(x[..., :2, :] + 0.1, y[fantasy][..., :2] + 0.1)
        assert_close(twice.mean(test)[fantasy], further.mean(test), **TIGHT)
    assert_close(together.release(x, y).mean(test), process.mean(test).expand(3, *batch, 6), **TIGHT)


def conditioned(process, x: Tensor, y: Tensor, noise: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance at `test` by dense conditioning of the process's own moments."""
    gain = torch.linalg.solve(process.cov(x, x) + torch.diag_embed(noise), process.cov(x, test)).mT
    mean = process.mean(test) + (gain @ (y - process.mean(x))[..., None])[..., 0]
    return mean, process.cov(test, test) - gain @ process.cov(x, test)


@KERNEL
@pytest.mark.parametrize(("batch", "noise"), list(product([(), (2,)], [None, 0.05, 1e-6])))
def test_conditioning_is_that_of_its_own_moments(kernel, batch: tuple[int, ...], noise: float | None) -> None:
    kernel, data, eta, inducing = case(kernel, False, *batch, n=30)
    process = SGPR(kernel=kernel).process(data, eta, inducing)
    test = rows(*batch, 5, 3, seed=9, unordered=data.unordered)
    for step in range(3):
        x = rows(*batch, 4, 3, seed=20 + step, unordered=data.unordered)
        if step:
            x[..., 0, :] = inducing[..., 0, :]
        y = normal(*((5, *batch, 4) if step else (*batch, 4)), seed=step)
        own = None if noise is None else torch.full_like(x[..., 0], noise)
        variance = process.noise[..., None].expand(x.shape[:-1]) if own is None else own
        expected = conditioned(process, x, y, variance, test)
        process = process.condition(x, y, own)
        assert_close(process.mean(test), expected[0], **(NEAR if noise == 1e-6 else TIGHT))
        assert_close(process.cov(test, test), expected[1], **TIGHT)


def test_conditioning_again_on_the_same_points_averages_their_outcomes() -> None:
    data, test = dataset(20, 3), rows(5, 3, seed=9)
    process = SGPR().process(data, given(Matern52(), 3), rows(6, 3, seed=4))
    x, y, noise = rows(2, 3, seed=5), normal(3, 2, seed=1), torch.full((3, 2), 0.3, dtype=torch.float64)
    at_once, in_turn = process.condition(x.repeat(3, 1), y.flatten(), noise.flatten()), process
    for step in range(3):
        in_turn = in_turn.condition(x, y[step], noise[step])
    mean, cov = conditioned(process, x, y.mean(0), noise[0] / 3, test)
    for found in (at_once, in_turn):
        assert_close(found.mean(test), mean, **TIGHT)
        assert_close(found.cov(test, test), cov, **TIGHT)


@pytest.mark.parametrize("kernel", [Matern52(), ARD], ids=["analytic", "gpytorch"])
def test_gradients_of_mean_and_variance_by_the_place(kernel) -> None:
    kernel, data, eta, inducing = case(kernel, False, 2)
    process = SGPR(kernel=kernel).process(data, eta, inducing)
    process = process.condition(rows(2, 2, 3, seed=5), normal(3, 2, 2))
    assert torch.autograd.gradcheck(process.mean_and_var, rows(2, 4, 3, seed=6).requires_grad_())


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float64, 1e-18), (torch.float32, 1e-9)])
def test_the_variance_is_not_negative_where_all_is_known(dtype: torch.dtype, noise: float) -> None:
    data = dataset(40, 2)
    data = replace(data, x=data.x.to(dtype), y=data.y.to(dtype), pending=data.pending.to(dtype))
    process = SGPR(inducing=20, jitter=0.0).fit(data, SEEDS)
    z = process.inducing
    var = process.absorb(z, process.mean(z), torch.full_like(z[:, 0], noise)).var(torch.cat((z, z + 1e-7)))
    assert_close(var.min(), torch.tensor(0.0, dtype=dtype), rtol=0.0, atol=0.0)


def test_a_fit_in_single_precision_is_close_to_that_in_double() -> None:
    data, test = dataset(100, 2), rows(50, 2, seed=5)
    single = Dataset(data.x.float(), data.y.float(), None, data.pending.float())
    found, reference = (SGPR(learn_inducing=True).fit(each, SEEDS) for each in (single, data))
    assert float(found.noise) >= 0.99e-4
    assert_close(found.mean(test.float()).double(), reference.mean(test), rtol=0.0, atol=0.05)


def test_the_same_seeds_give_the_same_fit_and_others_another() -> None:
    data, surrogate = dataset(100, 2), SGPR(inducing=5, selection=Subset(), learn_inducing=True)
    first, again, other = (surrogate.fit(data, Seeds.of(0, trial)) for trial in (0, 0, 1))
    assert torch.equal(first.mean(data.x), again.mean(data.x))
    assert torch.equal(first.trace.losses, again.trace.losses)
    assert not torch.equal(first.trace.initial, other.trace.initial)


def test_a_fit_lowers_its_losses_to_that_of_the_process_and_a_warm_start_goes_on_there() -> None:
    data = dataset(300, 2)
    process = SGPR(inducing=15, learn_inducing=True).fit(data, SEEDS)
    start = WarmStart(process.hyperparameters, 300)
    losses, prior = process.trace.losses, Gaussian().log_prior(process.hyperparameters[-1:])
    prior = prior + Matern52().log_prior(process.theta, 2)[0] - 0.5 * process.prior_mean.constant.square()
    assert_close(-losses.min(), SGPR().bound(data, start.hyperparameters, process.inducing) + prior, **TIGHT)
    assert float(losses[0]) > float(losses.min()) + 1.0
    warm = SGPR(selection=Given(process.inducing)).fit(data, Seeds.of(0, 1), start)
    assert_close(warm.trace.losses[0], losses.min(), **TIGHT)
    assert float(warm.trace.losses.min()) <= float(losses.min()) + 1e-8
    assert len(warm.trace.losses) < len(losses)


def test_learned_inducing_inputs_move_within_the_data_and_raise_the_bound() -> None:
    data = dataset(2, 100, 2)
    process = SGPR(inducing=6, learn_inducing=True).fit(data, Seeds((1, 2), (2,)))
    box = data.x.aminmax(dim=-2, keepdim=True)
    assert bool(((process.inducing >= box[0]) & (process.inducing <= box[1])).all())
    assert float((process.inducing - process.trace.initial).abs().max()) > 0.01
    learned = SGPR().bound(data, process.hyperparameters, process.inducing)
    assert bool((learned > SGPR().bound(data, process.hyperparameters, process.trace.initial)).all())


def test_no_more_inducing_inputs_than_distinct_observations() -> None:
    data = dataset(12, 2)
    twice = Dataset(data.x.repeat(2, 1), data.y.repeat(2), None, data.pending)
    for selection in (SGPR().selection, KMeans(), Subset()):
        process = SGPR(inducing=50, selection=selection).fit(twice, SEEDS)
        assert process.inducing.shape == (12, 2)
        assert torch.unique(process.inducing, dim=0).shape == (12, 2)
        assert_close(process.mean(data.x), data.y, rtol=0.0, atol=0.5)


class Bare(gpytorch.kernels.Kernel):
    """exp(sign * distance), without parameters; no covariance where the sign is 1."""

    sign = -1.0

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: object) -> Tensor:
        return torch.exp(self.sign * self.covar_dist(x1, x2, diag=diag))


def test_a_kernel_without_parameters_is_fitted() -> None:
    data = dataset(10, 2)
    assert SGPR(kernel=Bare()).fit(data, SEEDS).mean(data.x).shape == (10,)


def test_what_can_not_be_fitted_says_so() -> None:
    with pytest.raises(DataError, match="`inducing >= 1` must hold, a whole number, got 0"):
        SGPR(inducing=0)
    with pytest.raises(DataError, match="`0 <= jitter < inf` must hold, got -1e-06"):
        SGPR(jitter=-1e-6)
    with pytest.raises(FitError, match="at least one observation, got none"):
        SGPR().fit(dataset(0, 2), SEEDS)
    indefinite = gpytorch.kernels.ScaleKernel(Bare()).double()
    indefinite.base_kernel.sign = 1.0
    for selection in (SGPR().selection, Subset()):
        with pytest.raises(BoSuiteError, match="positive definite"):
            SGPR(kernel=indefinite, selection=selection).fit(dataset(10, 2), SEEDS)
    process = SGPR().fit(dataset(8, 2), SEEDS)
    for verb in (process.absorb, process.condition, process.release):
        with pytest.raises(DataError, match="y must be"):
            verb(rows(2, 4, 2), normal(4))
    with pytest.raises(DataError, match="must be finite"):
        replace(dataset(3, 2), y=torch.tensor([0.0, math.inf, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("learned", [False, True])
def test_constant_outcomes_and_fewer_than_inducing_inputs_are_fitted(learned: bool) -> None:
    surrogate, x = SGPR(inducing=8, learn_inducing=learned), rows(30, 2)
    for y in (torch.zeros_like(x[:, 0]), torch.full_like(x[:, 0], 2.5)):
        process = surrogate.fit(Dataset(x, y), SEEDS)
        assert_close(process.mean(x), y, rtol=0.0, atol=0.2)
        assert bool(torch.isfinite(process.var(x)).all())
    few, surrogate = dataset(5, 2), replace(surrogate, selection=Given(rows(20, 2, seed=9)))
    assert_close(surrogate.fit(few, SEEDS).mean(few.x), few.y, rtol=0.0, atol=0.3)


@pytest.mark.parametrize("model", [SGPR(), SGPR(inducing=5), SGPR(learn_inducing=True), AutoGP(handover=6)])
def test_the_contract_holds(model: Surrogate) -> None:
    check_surrogate(model)
