import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Matern52
from bo_suite.surrogates import ExactGP, ExactProcess
from bo_suite.surrogates.process import sample_joint


def dataset(*shape: int, seed: int = 0, unordered: tuple[int, ...] = ()) -> Dataset:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for column in unordered:
        x[..., column] = torch.floor(3 * x[..., column]) / 2
    return Dataset(x, torch.sin(5 * x).sum(-1), None, x[..., :0, :], unordered)


def theta(dim: int, *batch: int) -> Tensor:
    return torch.linspace(-1.0, 0.3, dim + 2, dtype=torch.float64).expand(*batch, -1) - 0.2


@pytest.mark.parametrize("unordered", [(), (1,), (0, 1, 2)])
def test_conditioning_equals_refitting_at_the_same_hyperparameters(unordered: tuple[int, ...]) -> None:
    whole = dataset(14, 3, unordered=unordered)
    part = Dataset(whole.x[:10], whole.y[:10], None, whole.pending, unordered)
    process = ExactGP().process(part, theta(3))
    conditioned = process.condition(whole.x[10:], whole.y[10:])
    # the constant mean is profiled from the data it was fitted to: give the whole the same one
    residual = torch.linalg.solve_triangular(
        conditioned.chol, (whole.y - process.prior_mean)[:, None], upper=False
    )
    full = ExactGP().process(whole, theta(3))
    full = ExactProcess(
        full.kernel,
        full.theta,
        full.x,
        full.chol,
        residual[:, 0],
        process.prior_mean,
        full.noise,
        full.jitter,
    )
    test = dataset(6, 3, seed=9, unordered=unordered).x
    assert_close(conditioned.chol, full.chol, rtol=1e-10, atol=1e-10)
    assert_close(conditioned.mean(test), full.mean(test), rtol=1e-9, atol=1e-9)
    assert_close(conditioned.cov(test, test), full.cov(test, test), rtol=1e-9, atol=1e-9)
    assert_close(conditioned.var(test), full.cov(test, test).diagonal(), rtol=1e-9, atol=1e-9)


def test_fantasies_share_the_covariance_and_each_equals_its_own_conditioning() -> None:
    data = dataset(2, 8, 2)
    process = ExactGP().process(data, theta(2, 2))
    x = dataset(2, 3, 2, seed=4).x
    y = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = process.condition(x, y)
    test = dataset(2, 4, 2, seed=5).x
    assert together.mean(test).shape == (5, 2, 4)
    for fantasy in range(5):
        alone = process.condition(x, y[fantasy])
        assert_close(together.mean(test)[fantasy], alone.mean(test))
        assert_close(together.var(test), alone.var(test))
    further = together.condition(test, together.mean(test))
    assert_close(further.mean(x), together.mean(x), rtol=1e-9, atol=1e-9)


def test_fantasies_at_the_mean_leave_the_mean_and_pending_points_shrink_the_variance() -> None:
    data = dataset(8, 2)
    process = ExactGP().process(data, theta(2))
    x, test = dataset(3, 2, seed=4).x, dataset(20, 2, seed=5).x
    conditioned = process.condition(x, process.mean(x))
    assert_close(conditioned.mean(test), process.mean(test), rtol=1e-9, atol=1e-9)
    assert bool((conditioned.var(test) <= process.var(test) + 1e-12).all())


def test_replicates_equal_their_solo_runs() -> None:
    data = dataset(3, 9, 2)
    seeds = Seeds((1, 2, 3), (3,))
    together = ExactGP(restarts=3).fit(data, seeds)
    test = dataset(3, 5, 2, seed=7).x
    for place in range(3):
        alone = ExactGP(restarts=3).fit(
            Dataset(data.x[place], data.y[place], None, data.pending[place]), Seeds((place + 1,))
        )
        assert_close(together.mean(test)[place], alone.mean(test[place]), rtol=1e-4, atol=1e-4)
        assert_close(together.hyperparameters[place], alone.hyperparameters, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("unordered", [(), (1,)])
def test_gradients_of_the_posterior_and_of_the_likelihood(unordered: tuple[int, ...]) -> None:
    data = dataset(2, 7, 3, unordered=unordered)
    process = ExactGP().process(data, theta(3, 2))
    x = dataset(2, 4, 3, seed=2, unordered=unordered).x
    continuous = [column for column in range(3) if column not in unordered]

    def posterior(part: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.clone()
        rows[..., continuous] = part
        return process.mean_and_var(rows)

    assert torch.autograd.gradcheck(posterior, x[..., continuous].clone().requires_grad_())

    surrogate, point = ExactGP(), theta(3, 2).clone()
    _, gradient = surrogate.log_posterior(data, point)
    for place in range(point.shape[-1]):
        step = torch.zeros_like(point)
        step[:, place] = 1e-5
        rise = surrogate.log_posterior(data, point + step)[0] - surrogate.log_posterior(data, point - step)[0]
        assert_close(gradient[:, place], rise / 2e-5, rtol=1e-6, atol=1e-6)


def test_joint_samples_have_the_posterior_moments() -> None:
    process = ExactGP().process(dataset(6, 2), theta(2))
    x = dataset(3, 2, seed=3).x
    base = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = sample_joint(process, x, base)
    assert_close(samples.mean(0), process.mean(x), rtol=0.0, atol=0.02)
    assert_close(samples.T.cov(), process.cov(x, x), rtol=0.0, atol=0.02)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 4))
def test_a_fit_beats_its_starts_and_interpolates_sanely(seed: int, n: int, d: int) -> None:
    data = dataset(n, d, seed=seed)
    surrogate = ExactGP()
    process = surrogate.fit(data, Seeds.of(seed, 0))
    start = torch.cat((Matern52().start(d), torch.tensor([surrogate.noise_location], dtype=torch.float64)))
    found, _ = surrogate.log_posterior(data, process.hyperparameters)
    assert float(found) >= float(surrogate.log_posterior(data, start)[0]) - 1e-9
    assert bool((process.var(data.x) <= process.kernel.diagonal(process.theta, data.x) + 1e-9).all())


@pytest.mark.parametrize(
    "y",
    [torch.zeros(50), torch.ones(50), torch.tensor([0.0] * 49 + [1.0])],
    ids=["zeros", "ones", "one differs"],
)
def test_fifty_equal_points_fit(y: Tensor) -> None:
    x = torch.full((50, 2), 0.25, dtype=torch.float64)
    data = Dataset(x, (y.double() - y.double().mean()).clamp(-5, 5), None, x[:0])
    process = ExactGP().fit(data, Seeds.of(0, 0))
    assert bool(torch.isfinite(process.mean(x)).all())


def test_given_noise_is_used_where_it_is_given_and_fitted_elsewhere() -> None:
    data = dataset(10, 1)
    noise = torch.full_like(data.y, torch.nan)
    noise[0] = 25.0
    noisy = Dataset(data.x, data.y, noise, data.pending)
    process = ExactGP().fit(noisy, Seeds.of(0, 0))
    without = ExactGP().process(Dataset(data.x[1:], data.y[1:], None, data.pending), process.hyperparameters)
    assert_close(process.var(data.x[:1]), without.var(data.x[:1]), rtol=0.2, atol=1e-3)


def test_what_cannot_be_fitted_says_so() -> None:
    with pytest.raises(FitError, match="at least one observation"):
        ExactGP().fit(dataset(0, 2), Seeds.of(0, 0))
    x, none = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(0, 1, dtype=torch.float64)
    with pytest.raises(DataError, match="must be finite"):
        Dataset(x, torch.full((1,), torch.nan, dtype=torch.float64), None, none)
