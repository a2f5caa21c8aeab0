from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import Matern52
from bo_suite.surrogates import ExactGP, ExactProcess
from bo_suite.surrogates.process import sample_joint


def dataset(*shape: int, seed: int = 0, unordered: tuple[int, ...] = ()) -> Dataset:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for column in unordered:
        x[..., column] = torch.floor(3 * x[..., column]) / 2
    return Dataset(x, torch.sin(5 * x).sum(-1), columns=Columns(unordered))


def theta(dim: int, *batch: int) -> Tensor:
    return torch.linspace(-1.0, 0.3, dim + 2, dtype=torch.float64).expand(*batch, -1) - 0.2


def refitted(process: ExactProcess, data: Dataset) -> ExactProcess:
    """The batch posterior at the hyperparameters and the prior mean of a process."""
    whole = ExactGP().process(data, process.hyperparameters)
    # the constant mean is fitted to all data: replace it by that of the process
    residual = (data.y - process.prior_mean(data.x))[..., None]
    white = torch.linalg.solve_triangular(whole.chol, residual, upper=False)[..., 0]
    return replace(whole, white=white, prior_mean=process.prior_mean)


def assert_same(process: ExactProcess, reference: ExactProcess, tolerance: float) -> None:
    test = dataset(6, process.x.shape[-1], seed=9, unordered=getattr(process.kernel, "unordered", ())).x
    test = test.expand(*process.x.shape[:-2], *test.shape)
    assert_close(process.chol, reference.chol, rtol=tolerance, atol=tolerance)
    assert_close(process.mean(test), reference.mean(test), rtol=tolerance, atol=tolerance)
    assert_close(process.cov(test, test), reference.cov(test, test), rtol=tolerance, atol=tolerance)
    assert_close(process.var(test), reference.var(test), rtol=tolerance, atol=tolerance)


def part(data: Dataset, kept: slice | Tensor) -> Dataset:
    return replace(data, x=data.x[..., kept, :], y=data.y[..., kept])


@pytest.mark.parametrize("unordered", [(), (1,), (0, 1, 2)])
def test_conditioning_equals_refitting_at_the_same_hyperparameters(unordered: tuple[int, ...]) -> None:
    whole = dataset(14, 3, unordered=unordered)
    process = ExactGP().process(part(whole, slice(10)), theta(3))
    assert_same(process.condition(whole.x[10:], whole.y[10:]), refitted(process, whole), 1e-9)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("index", [0, -1, 4, slice(2, 5), torch.tensor([1, 7]), torch.arange(9) % 2 == 0])
def test_deleting_equals_refitting_without(index: int | slice | Tensor, batch: tuple[int, ...]) -> None:
    whole = dataset(*batch, 9, 3)
    process = ExactGP().process(whole, theta(3, *batch))
    kept = torch.ones(9, dtype=torch.bool)
    kept[index] = False
    assert_same(process.delete(index), refitted(process, part(whole, kept)), 1e-10)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_sliding_equals_deleting_and_conditioning_also_with_fantasies(batch: tuple[int, ...]) -> None:
    whole = dataset(*batch, 12, 3)
    process = ExactGP().process(part(whole, slice(9)), theta(3, *batch))
    x, y = whole.x[..., 9:, :], whole.y[..., 9:]
    assert_same(process.slide(x, y), refitted(process, part(whole, slice(3, None))), 1e-10)
    fantasies = torch.stack((y, y + 1.0))
    noise = torch.full_like(y, 0.1)
    slid = process.slide(x, fantasies, noise)
    stepped = process.delete(slice(3)).condition(x, fantasies, noise)
    test = dataset(*batch, 4, 3, seed=5).x
    assert_close(slid.mean(test), stepped.mean(test), rtol=1e-10, atol=1e-10)
    again = slid.slide(x[..., :1, :], fantasies[..., :1])
    assert again.mean(test).shape == (2, *batch, 4)


def test_windows_and_deletions_that_do_not_fit_are_refused() -> None:
    data = dataset(4, 2)
    process = ExactGP().process(data, theta(2))
    more = dataset(5, 2, seed=1)
    with pytest.raises(DataError, match="a window of 4 observations can not slide by 5"):
        process.slide(more.x, more.y)
    with pytest.raises(DataError, match="at least one observation must be left"):
        process.delete(slice(None))
    with pytest.raises(DataError, match="rows of 4"):
        process.delete(4)


@pytest.mark.slow
def test_a_window_over_thousands_of_observations_stays_the_batch_posterior() -> None:
    """256 of 5,000 at fixed hyperparameters: no drift."""
    window, data = 256, dataset(5000, 4)
    process = ExactGP().process(part(data, slice(window)), theta(4))
    for i in range(window, 5000):
        process = process.slide(data.x[i : i + 1], data.y[i : i + 1])
    assert_same(process, refitted(process, part(data, slice(-window, None))), 1e-8)


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


def test_rows_that_do_not_count_leave_the_draws_of_the_others_as_they_are() -> None:
    process = ExactGP().process(dataset(2, 6, 2), theta(2, 2))
    x = dataset(2, 4, 2, seed=3).x
    x[1, 3] = x[1, 0]  # a copy is correlated with the original as much as can be
    base = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counted = torch.tensor([[True, False, True, True], [True, True, False, False]])
    draws = sample_joint(process, x, base, counted)
    assert draws.shape == (16, 2, 4)
    assert bool(torch.isfinite(draws).all())
    for place, kept in enumerate(counted):
        alone = ExactGP().process(dataset(2, 6, 2).replicates(place), theta(2))
        expected = sample_joint(alone, x[place, kept], base[place, :, kept])
        assert_close(draws[:, place, kept], expected, rtol=1e-8, atol=1e-8)
    everything = sample_joint(process, x, base, torch.ones_like(counted))
    assert_close(everything, sample_joint(process, x, base), rtol=0.0, atol=0.0)
    assert not torch.allclose(everything[:, 0, 2:], draws[:, 0, 2:])


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
    data = Dataset(x, (y.double() - y.double().mean()).clamp(-5, 5))
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
