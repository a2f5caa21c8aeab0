"""Several outputs as one process, against a dense joint Gaussian process that is written out here."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import MISSING, Columns, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.surrogates import ExactGP, WarmStart
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs import (
    CoregionalisedGP,
    EitherProcess,
    IntrinsicProcess,
    OutputsChoice,
    StackedProcess,
)
from bo_suite.surrogates.outputs.observations import as_hyperparameters, of_hyperparameters
from bo_suite.surrogates.process import sample_joint

F64, SEEDS = torch.float64, Seeds.of(0, 1)
P, N, D = 3, 12, 2


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(n: int, d: int = D, seed: int = 5) -> Tensor:
    return Seeds.of(seed, 0).sobol(n, torch.zeros(1, d, dtype=F64))


def outcomes(x: Tensor) -> Tensor:
    """A function, minus it with some more, and another one."""
    f = torch.sin(5.0 * x[..., 0]) + x[..., 1]
    y = torch.stack((f, 0.3 * torch.cos(4.0 * x[..., 1]) - f, torch.cos(6.0 * x[..., 1])))
    y = y + 0.1 * drawn(*y.shape)
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


def data_of(missing: bool = False, known: bool = False) -> Dataset:
    x = rows(N)
    y, noise = outcomes(x), torch.full((P, N), torch.nan, dtype=F64)
    if missing:
        noise[0, 3:7], noise[2, ::2], noise[:, 9] = MISSING, MISSING, MISSING
    if known:
        noise[1, :6] = torch.linspace(0.01, 0.5, 6, dtype=F64)
    return Dataset(x.expand(P, N, D), y, noise if missing or known else None)


CASES = {
    "complete": (CoregionalisedGP(), data_of(), IntrinsicProcess),
    "rank 2": (CoregionalisedGP(rank=2), data_of(), IntrinsicProcess),
    "two terms": (CoregionalisedGP(terms=2), data_of(), StackedProcess),
    "missing": (CoregionalisedGP(), data_of(missing=True), StackedProcess),
    "known noise": (CoregionalisedGP(rank=2, terms=2), data_of(known=True), StackedProcess),
}


def vector_of(model: CoregionalisedGP, data: Dataset) -> Tensor:
    start = model.start(data)
    return start + 0.3 * drawn(len(start))


class Dense:
    """The joint Gaussian process of all outcomes, from the covariances of single pairs."""

    def __init__(self, model: CoregionalisedGP, data: Dataset, vector: Tensor) -> None:
        self.kernel, self.theta = model.kernel_of(data), vector[:-P]
        self.noise = vector[-P:].exp()
        known = torch.full_like(data.y, torch.nan) if data.noise is None else data.noise
        pairs = [(i, j) for i in range(P) for j in range(N) if not known[i, j] >= MISSING]
        self.rows = torch.stack([data.x[i, j] for i, j in pairs])
        self.output = torch.tensor([i for i, _ in pairs])
        self.row = torch.tensor([j for _, j in pairs])
        self.y = torch.stack([data.y[i, j] for i, j in pairs])
        noise = [self.noise[i] if known[i, j].isnan() else known[i, j] for i, j in pairs]
        cov = self.covariance(self.rows, self.output, self.rows, self.output) + torch.diag(torch.stack(noise))
        self.inverse = cov.inverse()
        one = torch.nn.functional.one_hot(self.output, P).double()
        precision = one.T @ self.inverse @ one + torch.eye(P, dtype=F64)
        self.mean = precision.inverse() @ one.T @ self.inverse @ self.y
        normal = torch.distributions.MultivariateNormal(self.mean[self.output], cov)
        standard = torch.distributions.Normal(torch.zeros(P, dtype=F64), 1.0)
        self.evidence = (
            normal.log_prob(self.y) + standard.log_prob(self.mean).sum() + P * 0.5 * math.log(2.0 * math.pi)
        )

    def covariance(self, x: Tensor, i: Tensor, z: Tensor, j: Tensor) -> Tensor:
        total = torch.zeros(len(x), len(z), dtype=F64)
        for inner, weights, log_own in self.kernel.split(self.theta):
            between = weights @ weights.T + torch.diag(log_own.exp())
            total = total + between[i][:, j] * self.kernel.inner.cross(inner, x, z)[0]
        return total

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (p, m) and joint covariance (p, m, p, m) at rows."""
        i, z = torch.arange(P).repeat_interleave(len(x)), x.repeat(P, 1)
        across = self.covariance(z, i, self.rows, self.output)
        mean = self.mean[i] + across @ self.inverse @ (self.y - self.mean[self.output])
        cov = self.covariance(z, i, z, i) - across @ self.inverse @ across.T
        return mean.reshape(P, -1), cov.reshape(P, len(x), P, len(x))

    def without_row(self, row: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the outcomes of a row given the others."""
        inside, outside = (self.row == row).nonzero()[:, 0], (self.row != row).nonzero()[:, 0]
        cov = self.inverse.inverse()
        gain = cov[inside][:, outside] @ cov[outside][:, outside].inverse()
        residual = (self.y - self.mean[self.output])[outside]
        mean = self.mean[self.output[inside]] + gain @ residual
        return mean, (cov[inside][:, inside] - gain @ cov[outside][:, inside]).diagonal()


@pytest.mark.parametrize("name", CASES)
def test_evidence_and_moments_are_those_of_the_dense_joint_process(name: str) -> None:
    model, data, kind = CASES[name]
    vector = vector_of(model, data)
    dense = Dense(model, data, vector)
    value, gradient = model.log_posterior(data, vector)
    prior = model.kernel_of(data).log_prior(vector[:-P], D + 1)[0]
    prior = prior - torch.log1p((vector[-P:] - model.noise_location).square()).sum()
    assert_close(value - prior, dense.evidence, rtol=1e-8, atol=1e-8)
    steps = 1e-6 * torch.eye(len(vector), dtype=F64)
    slopes = [
        model.log_posterior(data, vector + s)[0] - model.log_posterior(data, vector - s)[0] for s in steps
    ]
    assert_close(gradient, torch.stack(slopes) / 2e-6, rtol=1e-6, atol=1e-5)
    hyperparameters = as_hyperparameters(model.kernel_of(data), vector[:-P], vector[-P:])
    assert_close(torch.cat(of_hyperparameters(model.kernel_of(data), hyperparameters)), vector)
    process = model.process(data, hyperparameters)
    assert isinstance(process, kind)
    assert_close(process.hyperparameters, hyperparameters)
    x = rows(5, seed=8)
    mean, joint = dense.moments(x)
    cov = torch.stack([joint[i, :, i] for i in range(P)])
    for at in (x.expand(P, 5, D), x.repeat(P, 1, 1)):  # one memory, or several
        assert_close(process.mean(at), mean, rtol=1e-8, atol=1e-8)
        assert_close(process.var(at), cov.diagonal(dim1=-2, dim2=-1), rtol=1e-8, atol=1e-8)
        assert_close(process.cov(at, at), cov, rtol=1e-8, atol=1e-8)
    assert_close(process.noise, vector[-P:].exp())
    assert_close(process.scale, sum(b.diagonal() for b in model.kernel_of(data).between(vector[:-P])))
    mean, var = process.leave_one_out(data.y)
    for row in range(N):
        left_out = dense.output[dense.row == row]
        expected = dense.without_row(row)
        assert_close(mean[left_out, row], expected[0], rtol=1e-8, atol=1e-8)
        assert_close(var[left_out, row], expected[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("noise", ["its own", "given", "of samples"])
def test_conditioning_is_on_all_outputs_at_once(noise: str) -> None:
    model, data, _ = CASES["complete"]
    vector = vector_of(model, data)
    hyperparameters = as_hyperparameters(model.kernel_of(data), vector[:-P], vector[-P:])
    process = model.process(data, hyperparameters)
    x, y, probe = rows(4, seed=8).expand(P, 4, D), drawn(2, P, 4), rows(6, seed=9).expand(P, 6, D)
    given = {
        "its own": None,
        "given": drawn(P, 4).square(),
        "of samples": (1e-10 * process.scale)[:, None].expand(P, 4),
    }[noise]
    conditioned = process.condition(x, y, given)
    assert isinstance(conditioned, StackedProcess if noise == "given" else IntrinsicProcess)
    more = torch.full((P, 4), torch.nan, dtype=F64) if given is None else given
    for fantasy in range(2):
        both = torch.cat((data.y, y[fantasy]), -1)
        known = torch.cat((torch.full_like(data.y, torch.nan), more), -1)
        # The means are those of the data, as they are for a process that is conditioned.
        means, x_of_both = Dense(model, data, vector).mean, torch.cat((data.x[0], x[0]))
        expected = _posterior_mean(model, data, vector, x_of_both, both, known, means, probe[0])
        tolerance = 1e-3 if noise == "of samples" else 1e-8
        assert_close(conditioned.mean(probe)[fantasy], expected, rtol=tolerance, atol=tolerance)


def _joint(model: CoregionalisedGP, data: Dataset, vector: Tensor, x: Tensor, known: Tensor) -> Tensor:
    """The covariance of all outcomes at rows x, output by output."""
    kernel, n = model.kernel_of(data), len(x)
    ((inner, weights, log_own),) = kernel.split(vector[:-P])
    between = weights @ weights.T + torch.diag(log_own.exp())
    noise = torch.where(known.isnan(), vector[-P:].exp()[:, None].expand(P, n), known)
    return torch.kron(between, kernel.inner.cross(inner, x, x)[0]) + torch.diag(noise.flatten())


def _posterior_mean(
    model: CoregionalisedGP,
    data: Dataset,
    vector: Tensor,
    x: Tensor,
    y: Tensor,
    known: Tensor,
    means: Tensor,
    probe: Tensor,
) -> Tensor:
    kernel = model.kernel_of(data)
    ((inner, weights, log_own),) = kernel.split(vector[:-P])
    between = weights @ weights.T + torch.diag(log_own.exp())
    cross = torch.kron(between, kernel.inner.cross(inner, probe, x)[0])
    residual = (y - means[:, None]).flatten()
    solved = torch.linalg.solve(_joint(model, data, vector, x, known), residual)
    return means[:, None] + (cross @ solved).reshape(P, -1)


@pytest.mark.parametrize("name", ["complete", "missing"])
def test_samples_have_the_joint_covariance_of_all_outputs(name: str) -> None:
    model, data, _ = CASES[name]
    vector = vector_of(model, data)
    hyperparameters = as_hyperparameters(model.kernel_of(data), vector[:-P], vector[-P:])
    process = model.process(data, hyperparameters)
    x, count = rows(3, seed=8), 40_000
    draws = sample_joint(process, x.expand(P, 3, D), drawn(P, count, 3))
    assert draws.shape == (count, P, 3)
    mean, cov = Dense(model, data, vector).moments(x)
    flat = (draws - mean).reshape(count, P * 3)
    error = 5.0 * float(cov.max()) / count**0.5
    assert_close(flat.T @ flat / count, cov.reshape(P * 3, P * 3), rtol=0.0, atol=error)


@pytest.mark.parametrize("name", ["complete", "two terms", "missing"])
def test_replicates_are_each_as_alone(name: str) -> None:
    model, data, _ = CASES[name]
    other = replace(data, x=rows(N, seed=6).expand(P, N, D), y=outcomes(rows(N, seed=6)))
    both = Dataset(
        torch.stack((data.x, other.x), 1),
        torch.stack((data.y, other.y), 1),
        None if data.noise is None else torch.stack((data.noise, data.noise), 1),
    )
    x, together = rows(5, seed=8), model.fit(both, SEEDS)
    mean, var = together.mean_and_var(x.expand(P, 2, 5, D))
    for index, one in enumerate((data, other)):
        alone = model.fit(one, SEEDS).mean_and_var(x.expand(P, 5, D))
        assert_close(mean[:, index], alone[0], rtol=1e-4, atol=1e-4)
        assert_close(var[:, index], alone[1], rtol=1e-4, atol=1e-4)
    fantasies = drawn(4, P, 2, 3)
    conditioned = together.condition(rows(3, seed=9).expand(P, 2, 3, D), fantasies)
    assert conditioned.mean(x.expand(P, 2, 5, D)).shape == (4, P, 2, 5)


@pytest.mark.parametrize("name", ["complete", "missing"])
def test_gradients_by_rows_are_those_of_finite_differences(name: str) -> None:
    model, data, _ = CASES[name]
    process, x = model.fit(data, SEEDS), rows(2, seed=8)

    def total(x: Tensor) -> Tensor:
        mean, var = process.mean_and_var(x.expand(P, *x.shape))
        return (mean * drawn(P, 2) + var * drawn(P, 2, seed=4)).sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(leaf), leaf)
    steps = 1e-6 * torch.eye(4, dtype=F64).reshape(4, 2, 2)
    slopes = torch.stack([total(x + s) - total(x - s) for s in steps]).reshape(2, 2) / 2e-6
    assert_close(gradient, slopes.detach(), rtol=1e-5, atol=1e-6)


def test_a_settled_start_is_taken_and_one_of_another_size_is_ignored() -> None:
    model, data, _ = CASES["complete"]
    first = model.fit(data, SEEDS)
    settled = WarmStart(first.hyperparameters, N, settled=True)
    x = rows(4, seed=8).expand(P, 4, D)
    assert_close(model.fit(data, SEEDS, settled).mean(x), first.mean(x), rtol=1e-9, atol=1e-9)
    other = WarmStart(torch.zeros(P, 9, dtype=F64), N)
    assert torch.equal(model.fit(data, SEEDS, other).mean(x), first.mean(x))


def test_an_output_that_is_missing_in_half_the_space_is_known_from_the_other() -> None:
    x = rows(24)
    f = torch.sin(6.0 * x[:, 0]) * torch.cos(3.0 * x[:, 1])
    y = torch.stack((f, -f)) / f.std()
    noise = torch.full_like(y, torch.nan)
    noise[1, x[:, 0] > 0.5] = MISSING
    data, unknown = Dataset(x.expand(2, 24, D), y, noise), x[:, 0] > 0.5
    one, separate = CoregionalisedGP().fit(data, SEEDS), ExactGP().fit(data, SEEDS)
    errors = [(p.mean(data.x)[1] - y[1])[unknown].square().mean() for p in (one, separate)]
    assert float(errors[0]) < 0.01
    assert float(errors[0]) < 0.1 * float(errors[1])
    choice = OutputsChoice.of(ExactGP(), data, separate, SEEDS, None)
    assert bool(choice.together)


def odd(name: str) -> Dataset:
    x, y = rows(10), outcomes(rows(10))
    noise = torch.full_like(y, torch.nan)
    if name == "one constant":
        y[1] = 0.0
    if name == "all constant":
        y[:] = 0.0
    if name == "one always missing":
        noise[1] = MISSING
    if name == "equal outputs":
        y[1] = y[2] = y[0]
    if name == "one row":
        x, y, noise = x[:1], y[:, :1], noise[:, :1]
    if name == "equal rows":
        x = x[:1].expand(10, D)
    if name == "an outlier":
        y[0, 0] = 1e4
    return Dataset(x.expand(P, *x.shape), y, None if bool(noise.isnan().all()) else noise)


ODD = [
    "one constant",
    "all constant",
    "one always missing",
    "equal outputs",
    "one row",
    "equal rows",
    "an outlier",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_outcomes_give_finite_processes_and_choices(name: str) -> None:
    data = odd(name)
    x = rows(6, seed=8).expand(P, 6, D)
    for model in (CoregionalisedGP(), CoregionalisedGP(terms=2)):
        process = model.fit(data, SEEDS)
        mean, var = process.mean_and_var(x)
        assert bool(mean.isfinite().all())
        assert bool((var.isfinite() & (var >= 0.0)).all())
    separate = ExactGP().fit(data, SEEDS)
    choice = OutputsChoice.of(ExactGP(), data, separate, SEEDS, None)
    assert bool(choice.process.mean(x).isfinite().all())


def test_what_it_cannot_do_is_said() -> None:
    x = rows(6)
    with pytest.raises(DataError, match="several outputs must be the first dimension of the data"):
        CoregionalisedGP().fit(Dataset(x, x.sum(-1)), SEEDS)
    apart = Dataset(torch.stack((x, x.flip(0))), torch.stack((x[:, 0], x[:, 1])))
    with pytest.raises(DataError, match="all outputs must have the same rows"):
        CoregionalisedGP().fit(apart, SEEDS)
    y = torch.zeros(2, 6, dtype=F64)
    nothing = Dataset(x.expand(2, 6, D), y, torch.full_like(y, MISSING))
    with pytest.raises(FitError, match="needs at least one observation"):
        CoregionalisedGP().fit(nothing, SEEDS)
    with pytest.raises(DataError, match="rank and terms must be at least 1"):
        CoregionalisedGP(rank=0)
    with pytest.raises(DataError, match="finite noise_location"):
        CoregionalisedGP(noise_spread=0.0)


def test_categories_and_conditions_are_those_of_the_columns() -> None:
    x = rows(14)
    x[:, 1] = (x[:, 1] > 0.5).double()
    data = Dataset(x.expand(P, 14, D), outcomes(x), columns=Columns((1,), (None, 2)))
    process = CoregionalisedGP().fit(data, SEEDS)
    assert process.latent.kernel.unordered == (1,)
    separate = ExactGP().fit(data, SEEDS)
    assert len(CoregionalisedGP().start(data, separate)) == 2 + P + P + P


def test_the_choice_is_made_for_each_replicate_as_alone() -> None:
    """One run with noisy equal outputs, and one with outputs that have nothing in common."""
    x = rows(40)
    f = torch.sin(5.0 * x[:, 0]) + x[:, 1]
    like = torch.stack((f, -f)) + 0.5 * drawn(2, 40)
    unlike = torch.stack((torch.sin(9.0 * x[:, 0]), x[:, 1] ** 2)) + 0.01 * drawn(2, 40)
    y = torch.stack((like, unlike), 1)
    y = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    data = Dataset(x.expand(2, 2, 40, D), y)
    separate = ExactGP().fit(data, Seeds((0, 1), (2,)))
    choice = OutputsChoice.of(ExactGP(), data, separate, Seeds((0, 1), (2,)), None)
    one = CoregionalisedGP().fit(data, SEEDS, separate=separate)
    probe = rows(7, seed=8).expand(2, 2, 7, D)
    either = EitherProcess(separate, one, torch.tensor([True, False]))
    for together, index in ((one, 0), (separate, 1)):
        assert torch.equal(either.mean(probe)[:, index], together.mean(probe)[:, index])
        assert torch.equal(either.cov(probe, probe)[:, index], together.cov(probe, probe)[:, index])
        after = [p.condition(probe, p.mean(probe)).var(probe)[:, index] for p in (either, together)]
        assert_close(*after)
        assert torch.equal(either.noise[:, index], together.noise[:, index])
        assert torch.equal(either.scale[:, index], together.scale[:, index])
    for index in range(2):
        alone = Dataset(data.x[:, index], data.y[:, index])
        process = ExactGP().process(alone, separate.hyperparameters[:, index])
        assert bool(OutputsChoice.of(ExactGP(), alone, process, SEEDS, None).together) == bool(
            choice.together[index]
        )
        mean, var = leave_one_out(process, alone.y)
        assert bool((var > 0.0).all() and mean.isfinite().all())


@pytest.mark.parametrize(
    "surrogate", [ExactGP(mean=0.0), ExactGP(kernel=CoregionalisedGP().kernel_of(data_of()))]
)
def test_a_surrogate_with_a_model_of_its_own_is_left_alone(surrogate: ExactGP) -> None:
    data = data_of()
    separate = ExactGP().fit(data, SEEDS)
    choice = OutputsChoice.of(surrogate, data, separate, SEEDS, None)
    assert choice.process is separate
    assert choice.hyperparameters is None
    assert not bool(choice.together)
