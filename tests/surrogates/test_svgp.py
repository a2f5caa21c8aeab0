"""Sparse variational processes with any likelihood: bounds, gradients, natural steps, training, and fits."""

import math
import re
from dataclasses import replace
from pathlib import Path

import gpytorch
import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import BoSuiteError, DataError, FitError
from bo_suite.kernels import as_kernel
from bo_suite.surrogates import SGPR, SVGP, WarmStart
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.inducing import Given
from bo_suite.surrogates.variational import likelihoods
from bo_suite.surrogates.variational.elbo import Model
from bo_suite.surrogates.variational.problem import VariationalProblem, VariationalState
from bo_suite.surrogates.variational.training import Adam, NaturalAdam, NaturalLBFGS, Training
from bo_suite.testing import check_surrogate

SEEDS = Seeds.of(0, 0)
RBF = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
HELD = SVGP(kernel=RBF, likelihood=likelihoods.Gaussian(math.log(0.15**2), 1e6), mean=0.0)
EXACT, TIGHT, NEAR = ({"rtol": gap, "atol": gap} for gap in (1e-10, 1e-8, 1e-6))


def laplace_density(y: Tensor, f: Tensor) -> Tensor:
    return -(y - f).abs() / 0.1 - math.log(0.2)


LIKELIHOODS: dict[str, likelihoods.Likelihood] = {
    "gaussian": likelihoods.Gaussian(),
    "logit": likelihoods.BernoulliLogit(),
    "exact logit": likelihoods.BernoulliLogit(polya_gamma=False),
    "probit": likelihoods.BernoulliProbit(),
    "student": likelihoods.StudentT(scale_location=-2.0),
    "poisson": likelihoods.Poisson(),
    "monte carlo": likelihoods.MonteCarloLikelihood(laplace_density),
}
EACH = pytest.mark.parametrize("name", LIKELIHOODS)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def latent(x: Tensor) -> Tensor:
    return 2.0 * torch.sin(6.0 * x).mean(-1)


def dataset(name: str, *shape: int, known: bool = False) -> Dataset:
    """Outcomes of a known latent function."""
    x = rows(*shape)
    f, noise = latent(x), normal(*shape[:-1], seed=1)
    if name.endswith(("logit", "probit")):
        y = (f + noise * (1.0 if name == "probit" else 1.7) > 0).double()
    elif name == "poisson":
        y = torch.poisson(f.exp(), generator=torch.Generator().manual_seed(2))
    else:
        y = f + 0.1 * noise
    return Dataset(x, y, 0.01 + 0.1 * rows(*shape[:-1], seed=3) if known else None, x[..., :0, :])


def lifted(data: Dataset, count: int) -> Dataset:
    parts = (data.x, data.y, data.noise, data.pending)
    return Dataset(*(None if part is None else part.expand(count, *part.shape) for part in parts))


def task_of(
    name: str, data: Dataset, *, mean: float | None = None, kernel: object = None
) -> VariationalProblem:
    model = Model(as_kernel(kernel, ()), LIKELIHOODS[name], mean, 1e-6, data.x.shape[-1])
    return VariationalProblem(
        model, data, True, Seeds(tuple(range(max(1, data.batch_shape.numel()))), data.batch_shape)
    )


def started(task: VariationalProblem, count: int) -> VariationalState:
    eta = task.model.start(task.data.x).expand(*task.data.batch_shape, -1)
    return VariationalState.prior(eta, Points(task.data.x[..., :count, :]))


def csv(name: str, skip: int = 1) -> Tensor:
    path = Path(__file__).parent / "fixtures" / name
    return torch.from_numpy(np.loadtxt(path, delimiter=",", skiprows=skip, ndmin=2))


def fixture() -> tuple[Dataset, Given]:
    xy = csv("pyrox_svgp_xy.csv")
    return Dataset(xy[:, :1], xy[:, 1]), Given(csv("pyrox_svgp_Z0.csv", 0))


def log_evidence(data: Dataset, eta: Tensor) -> Tensor:
    """Exact, of a gpytorch RBF kernel at mean zero."""
    k = as_kernel(RBF, ()).gram(eta[..., :2], data.x)[0]
    noise = torch.diag_embed(eta[..., 2:].exp().expand(data.y.shape))
    return MultivariateNormal(torch.zeros_like(data.y), k + noise).log_prob(data.y)


@pytest.fixture
def unchecked(monkeypatch) -> None:
    """Without the checks of shapes, for hundreds of steps."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(jaxtyping, "jaxtyped", lambda **options: lambda function: function)  # of closures


class Recorder:
    """Stands for Adam: keeps the gradients and moves nothing."""

    found: tuple[Tensor, ...] = ()

    def __init__(self, moved: list[Tensor], **options: object) -> None:
        self.moved, self.param_groups = moved, [{"lr": 0.0}]

    def step(self) -> None:
        Recorder.found = tuple(part.grad.clone() for part in self.moved)


@pytest.mark.parametrize(("name", "kernel"), [*((name, None) for name in LIKELIHOODS), ("gaussian", RBF)])
@pytest.mark.parametrize("whitened", [True, False])
def test_gradients_of_the_bound_agree_with_finite_differences(name, kernel, whitened, monkeypatch) -> None:
    """By the hyperparameters, Z, and the mean and factor of q(v) or q(u), whichever is held."""
    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    base = dataset(name, 7, 2, known=name == "gaussian")
    eta = task_of(name, base, kernel=kernel).model.start(base.x)
    eta, lower = eta + 0.1 * normal(len(eta)), torch.tril_indices(3, 3)
    flat = torch.cat((eta, rows(6, seed=4), 0.3 * normal(3), torch.eye(3, dtype=torch.float64)[*lower]))
    flat[-6:] += 0.1
    steps = 1e-5 * torch.eye(len(flat), dtype=torch.float64)
    points = torch.cat((flat[None], flat + steps, flat - steps))
    count, data = len(points), lifted(base, len(points))
    task = task_of(name, data, kernel=kernel)

    eta, z, mean, factor = points.split((len(eta), 6, 3, 6), -1)
    z, scale = z.reshape(count, 3, 2), torch.zeros(count, 3, 3, dtype=torch.float64)
    scale[:, *lower] = factor
    if not whitened:
        k_zz = task.model.kernel.gram(task.model.split(eta)[0], z)[0]
        chol = torch.linalg.cholesky(k_zz + 1e-6 * torch.diag_embed(k_zz.diagonal(dim1=-2, dim2=-1)))
        white = torch.linalg.solve(chol, torch.cat((mean[..., None], scale), -1))
        mean, scale = white[..., 0], white[..., 1:].tril()
    precision = torch.cholesky_inverse(scale)
    point = VariationalState(eta, Points(z), (precision @ mean[..., None])[..., 0], precision)
    loss = Adam(steps=1, whitened=whitened).run(task, point)[1][0]
    slopes = (loss[1 : 1 + len(flat)] - loss[1 + len(flat) :]) / 2e-5
    by_eta, by_z, by_mean, by_scale = (part[0] for part in Recorder.found)
    gradient = torch.cat((by_eta, by_z.flatten(), by_mean, by_scale[*lower]))
    assert_close(gradient, slopes, rtol=1e-5, atol=1e-5)
    assert_close(-loss, task.bound(point) + task.model.log_prior(eta)[0], **TIGHT)


@pytest.mark.parametrize(("known", "mean"), [(False, None), (False, 0.3), (True, None), (True, 0.3)])
def test_one_natural_step_from_the_prior_attains_the_collapsed_bound(known: bool, mean) -> None:
    data, z = dataset("gaussian", 2, 25, 2, known=known), rows(2, 6, 2, seed=4)
    eta = torch.tensor([-0.8, -0.8, -0.5, -3.0], dtype=torch.float64) + 0.1 * normal(2, 4)
    collapsed = SGPR(mean=mean).process(data, eta, z)
    whole = eta if mean is not None else torch.cat((eta, collapsed.prior_mean.constant[:, None]), -1)
    process, test = SVGP(mean=mean).process(data, whole, z), rows(2, 5, 2, seed=5)
    assert_close(SVGP(mean=mean).bound(data, process), SGPR(mean=mean).bound(data, eta, z), **NEAR)
    assert_close(process.mean(test), collapsed.mean(test), **TIGHT)
    assert_close(process.cov(test, test), collapsed.cov(test, test), **TIGHT)
    assert_close(process.noise, collapsed.noise)


def test_the_bound_of_any_q_is_at_most_the_evidence() -> None:
    data, chosen = fixture()
    many = lifted(Dataset(data.x[:100], data.y[:100], None, data.pending), 10)
    eta = torch.tensor([0.2, 0.2, -3.0], dtype=torch.float64) + normal(10, 3, seed=2)
    z = chosen.x + 0.1 * normal(10, 20, 1, seed=3)
    best, evidence = HELD.process(many, eta, z), log_evidence(many, eta)
    for size in (0.0, 0.01, 0.1, 1.0):
        factor = best.precision_chol * (1.0 + size * normal(10, 20, 20, seed=4)).abs()
        linear = best.linear * (1.0 + size * normal(10, 20, seed=5))
        moved = replace(best, basis=replace(best.basis, precision_chol=factor), linear=linear)
        bounds = torch.stack((HELD.bound(many, moved), HELD.bound(many, best) + 1e-6, evidence + 1e-5))
        assert bool((bounds.diff(dim=0) >= 0).all())


@pytest.mark.slow
@pytest.mark.parametrize(("whitened", "steps"), [(True, 800), (False, 500)])
def test_adam_reaches_the_known_optimum_of_the_fixture(whitened: bool, steps: int, unchecked) -> None:
    data, chosen = fixture()
    training = Adam(steps=steps, whitened=whitened)
    surrogate = replace(HELD, selection=chosen, learn_inducing=True, jitter=1.63e-4, training=training)
    process = surrogate.fit(data, SEEDS)
    bound = float(surrogate.bound(data, process))
    assert 187.0 <= bound <= min(188.0, float(log_evidence(data, process.hyperparameters)))
    assert_close(float(process.noise.sqrt()), 0.153, rtol=0.0, atol=0.01)
    assert process.trace.losses.shape == (steps,)


TRAININGS = [kind(steps=60, batch=batch) for kind in (NaturalAdam, Adam) for batch in (None, 16)]
TRAININGS += [Adam(steps=60, whitened=False), NaturalLBFGS(rounds=3)]


@pytest.mark.parametrize("training", TRAININGS, ids=str)
def test_training_raises_the_bound(training: Training, unchecked) -> None:
    task = task_of("student", dataset("student", 2, 40, 2))
    point = started(task, 8)
    moved, losses = training.run(task, point)
    before, after = (task.bound(each) + task.model.log_prior(each.eta)[0] for each in (point, moved))
    assert bool((after > before + 1.0).all())
    assert losses[0].shape == (2,)
    held, _ = training.run(replace(task, learn_inducing=False), point)
    inputs = point.variables.points
    assert [torch.equal(each.variables.points, inputs) for each in (held, moved)] == [True, False]


def test_batches_of_an_epoch_take_every_observation_once_and_replicates_their_own_way() -> None:
    y = rows(1, 23).expand(3, -1)
    task = task_of("gaussian", Dataset(y[..., None], y, y.exp(), y[:, :0, None]))
    taken = list(task.batches(5, 10))
    assert [part.y.shape[-1] for part, _ in taken] == [5, 5, 5, 5, 3] * 2
    orders = [torch.cat([part.y for part, _ in half], -1) for half in (taken[:5], taken[5:])]
    for order in orders:
        assert torch.equal(order.sort(-1).values, y.sort(-1).values)
        assert not torch.equal(order[0], order[1])
    assert not torch.equal(orders[0], orders[1])
    for part, _ in taken:
        assert torch.equal(part.x[..., 0], part.y)
        assert torch.equal(part.noise, part.y.exp())
    assert [weight for _, weight in task.batches(None, 3)] == [1.0] * 3
    assert len(list(task.batches(5, 7))) == 7


@EACH
def test_the_mean_over_an_epoch_is_the_full_bound_and_gradient(name: str) -> None:
    data = dataset(name, 2, 23, 2)
    task = task_of(name, data)
    point = task.converge(started(task, 6), 0.5, 3)

    def parts(batch: Dataset, weight: float) -> tuple[Tensor, ...]:
        part = task.model.expectation(point.eta, point.variables, point.q, batch, slice(None))
        sums = (part.value, *part.by_q, *part.site_sums)
        return (*(weight * each for each in sums), *part.by_parameters(weight))

    whole = parts(data, 1.0)
    mean = [torch.zeros_like(each) for each in whole]
    for batch, weight in task.batches(5, 5):
        share = batch.y.shape[-1] / 23
        mean = [total + share * each for total, each in zip(mean, parts(batch, weight), strict=True)]
    for found, expected in zip(mean, whole, strict=True):
        assert_close(found, expected, **EXACT)


@EACH
def test_natural_steps_never_lower_the_bound(name: str) -> None:
    task = task_of(name, dataset(name, 2, 30, 2))
    for size in (0.0, 4.0):
        point = replace(started(task, 10), linear=size * normal(2, 10, seed=6))
        steps = [point, *(task.converge(point, 0.5, most) for most in (1, 2, 3, 5, 8, 20))]
        values = torch.stack([task.bound(step) for step in steps])
        assert bool((values.diff(dim=0) >= -1e-8 * values[0].abs()).all())
        assert bool((values[-1] > values[0] + 1.0).all())


def test_natural_steps_reach_the_reference_optimum_of_a_classifier() -> None:
    x, label, y = csv("gaussx_probit.csv").unbind(-1)
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel()).double()
    kernel.outputscale, kernel.base_kernel.lengthscale = torch.tensor([1.5, 1.0], dtype=torch.float64)
    theta = as_kernel(kernel, ()).start(1)
    data = Dataset(x[:, None], (label + 1) / 2, None, x[:0, None])
    model = Model(as_kernel(kernel, ()), LIKELIHOODS["probit"], 0.0, 1e-6 / 1.5, 1)
    task = VariationalProblem(model, data, False, SEEDS)
    point = task.converge(VariationalState.prior(theta, Points(data.x)), 0.5, 20)
    assert_close(float(task.bound(point)), -7.8734, rtol=0.0, atol=1e-3)
    eta = torch.cat((theta, theta.new_tensor([0.09]).log()))
    data, surrogate = replace(data, y=y), SVGP(kernel=kernel, mean=0.0, jitter=1e-6 / 1.5)
    bound = surrogate.bound(data, surrogate.process(data, eta, data.x))
    assert_close(float(bound), -15.6205, rtol=0.0, atol=1e-3)


def fitted(name: str, data: Dataset) -> tuple[Tensor, Tensor]:
    surrogate = SVGP(inducing=20, likelihood=LIKELIHOODS[name], training=NaturalLBFGS(rounds=3))
    process = surrogate.fit(data, SEEDS)
    return surrogate.predictive_mean(process, TEST), process.mean(TEST)


TEST = rows(200, 2, seed=8)
TRUTH = latent(TEST)


@pytest.mark.parametrize("name", ["logit", "probit"])
def test_labels_are_told_apart(name: str, unchecked) -> None:
    probability, _ = fitted(name, dataset(name, 200, 2))
    assert float(((probability > 0.5) == (TRUTH > 0))[TRUTH.abs() > 0.5].double().mean()) > 0.9


def test_rates_of_counts_are_recovered(unchecked) -> None:
    rate, _ = fitted("poisson", dataset("poisson", 100, 2))
    assert float(torch.stack((rate, TRUTH.exp())).corrcoef()[0, 1]) > 0.9
    assert_close(rate.mean(), TRUTH.exp().mean(), rtol=0.2, atol=0.0)


def test_outliers_mislead_a_gaussian_likelihood_and_not_others(unchecked) -> None:
    data = dataset("student", 60, 2)
    data.y[::10] += 8.0
    names = ("student", "monte carlo", "gaussian")
    student, laplace, gaussian = (float((fitted(name, data)[1] - TRUTH).square().mean()) for name in names)
    assert max(student, laplace) < 0.25**2
    assert gaussian > 4.0 * max(student, laplace)


def test_predictions_are_those_of_the_likelihood_with_its_fitted_parameters(unchecked) -> None:
    quick, x = NaturalLBFGS(rounds=1), rows(6, 2, seed=5)
    surrogate = SVGP(training=quick)
    process = surrogate.fit(dataset("gaussian", 30, 2), SEEDS)
    mean, var = process.mean_and_var(x)
    expected = torch.distributions.Normal(mean, (var + process.noise).sqrt()).log_prob(mean + 0.1)
    assert_close(surrogate.log_predictive_density(process, x, mean + 0.1), expected)
    assert_close(surrogate.predictive_mean(process, x), mean)
    surrogate = SVGP(likelihood=LIKELIHOODS["probit"], training=quick)
    process = surrogate.fit(dataset("probit", 30, 2), SEEDS)
    probability = surrogate.predictive_mean(process, x)
    assert_close(surrogate.log_predictive_density(process, x, torch.ones_like(mean)).exp(), probability)
    after = process.condition(x, process.mean(x) + 1.0)
    assert bool((after.var(x) < 0.99 * process.var(x)).all())
    assert bool((surrogate.predictive_mean(after, x) > probability).all())


def test_the_noise_has_the_prior_of_the_likelihood_from_the_start() -> None:
    surrogate = SVGP(likelihood=likelihoods.Gaussian(0.0, 0.01), training=NaturalAdam(steps=1))
    process = surrogate.fit(dataset("gaussian", 2, 2), SEEDS)
    assert_close(float(process.noise.log()), 0.0, rtol=0.0, atol=0.1)


def test_replicates_equal_their_solo_fits_and_a_warm_start_stays(unchecked) -> None:
    data, seeds = dataset("poisson", 2, 25, 2), Seeds((1, 2), (2,))
    surrogate = SVGP(inducing=8, likelihood=likelihoods.Poisson(), training=NaturalLBFGS(rounds=3))
    together = surrogate.fit(data, seeds)
    for place in range(2):
        solo = surrogate.fit(data.replicates(place), Seeds((place + 1,)))
        assert_close(together.mean(data.x)[place], solo.mean(data.x[place]), rtol=0.0, atol=0.02)
    warm = surrogate.fit(data, seeds, WarmStart(together.hyperparameters, 25))
    assert bool((warm.trace.losses[0] <= together.trace.losses[-1] + 0.1).all())


def test_outcomes_that_a_likelihood_can_not_have_are_refused_before_all_else() -> None:
    others = Given(rows(1, 9))  # which would be refused next
    for name, value, message in (
        ("logit", 2.0, "labels must be 0 or 1, got 2.0"),
        ("probit", -1.0, "labels must be 0 or 1, got -1.0"),
        ("poisson", -2.0, "counts must be whole numbers of at least 0, got -2.0"),
    ):
        data = dataset(name, 3, 2)
        data.y[1] = value
        with pytest.raises(DataError, match=message):
            SVGP(likelihood=LIKELIHOODS[name], selection=others).fit(data, SEEDS)
    for name in LIKELIHOODS.keys() - {"gaussian"}:
        with pytest.raises(DataError, match="known noise variances need a Gaussian likelihood"):
            SVGP(likelihood=LIKELIHOODS[name], selection=others).fit(dataset(name, 5, 2, known=True), SEEDS)


class Indefinite(gpytorch.kernels.RBFKernel):
    def forward(self, x1: Tensor, x2: Tensor, **options: object) -> Tensor:
        return 1.0 / super().forward(x1, x2, **options)


def test_what_can_not_be_fitted_says_so() -> None:
    for make, message in (
        (lambda: SVGP(inducing=0), "`inducing >= 1` must hold, a whole number, got 0"),
        (lambda: SVGP(jitter=-1.0), "`0 <= jitter < inf` must hold, got -1.0"),
        (lambda: Adam(steps=0), "`steps >= 1` must hold, got 0"),
        (lambda: Adam(rate=0.0), "`0 < rate < inf` must hold, got 0.0"),
        (lambda: Adam(batch=0), "`batch >= 1` must hold, got 0"),
        (lambda: NaturalAdam(natural=1.5), "`0 < natural <= 1` must hold, got 1.5"),
        (lambda: NaturalLBFGS(natural=0.0), "`0 < natural <= 1` must hold, got 0.0"),
        (lambda: NaturalLBFGS(rounds=0), "rounds and evaluations must be >= 1, got 0, 10"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            make()
    with pytest.raises(FitError, match="at least one observation, got none"):
        SVGP().fit(dataset("gaussian", 0, 2), SEEDS)
    for name in ("gaussian", "probit"):
        with pytest.raises(BoSuiteError, match="positive definite"):
            SVGP(kernel=Indefinite(), likelihood=LIKELIHOODS[name]).fit(dataset(name, 10, 2), SEEDS)


@pytest.mark.parametrize("name", ["gaussian", "probit"])
def test_unusual_data_are_fitted(name: str, unchecked) -> None:
    """Constant outcomes, duplicates, more inducing inputs than observations, single precision."""
    x = rows(12, 2).repeat(2, 1)
    data = Dataset(x, torch.ones_like(x[:, 0]))
    quick = SVGP(likelihood=LIKELIHOODS[name], training=NaturalAdam(steps=20))
    process = quick.fit(data, SEEDS)
    assert process.inducing.shape == (12, 2)
    many = replace(quick, selection=Given(rows(40, 2, seed=9))).fit(data, SEEDS)
    single = quick.fit(Dataset(x.float(), data.y.float()), SEEDS)
    for each in (process, many, single):
        assert_close(quick.predictive_mean(each, x.to(each.theta)).double(), data.y, rtol=0.0, atol=0.5)


@pytest.mark.parametrize("training", [NaturalAdam(steps=60), NaturalLBFGS(), Adam(steps=20)], ids=str)
def test_the_contract_holds(training: Training, unchecked) -> None:
    check_surrogate(SVGP(training=training))


@pytest.mark.parametrize("training", [NaturalAdam(steps=60), Adam(steps=60), NaturalLBFGS(rounds=6)], ids=str)
def test_a_warm_start_is_refined_by_a_shortened_training_and_ends_as_high(training: Training) -> None:
    data, seeds = dataset("gaussian", 40, 2), Seeds.of(0, 0)
    surrogate = SVGP(inducing=10, training=training)
    cold = surrogate.fit(data, seeds)
    warm = surrogate.fit(data, seeds, WarmStart(cold.hyperparameters, 40))
    assert len(warm.trace.losses) <= (1 if isinstance(training, NaturalLBFGS) else 10)
    assert surrogate.bound(data, warm) > surrogate.bound(data, cold) - 0.5
