import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import yeojohnson
from torch.testing import assert_close

from bo_suite.data import Dataset, OutcomeTransform, Seeds, _yeo_johnson, _yeo_johnson_inverse


@pytest.mark.parametrize("power", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_yeo_johnson_agrees_with_scipy(power: float) -> None:
    z = torch.linspace(-4, 4, 41, dtype=torch.float64)
    ours = _yeo_johnson(z, torch.tensor(power, dtype=torch.float64))
    assert_close(ours, torch.from_numpy(yeojohnson(z.numpy(), power)), rtol=1e-10, atol=1e-10)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30),
    st.sampled_from([1e-300, 1e-30, 1.0, 1e30, 1e290]),
)
def test_the_transform_keeps_order_and_stays_finite_at_any_scale(values: list[float], scale: float) -> None:
    y = torch.tensor(values, dtype=torch.float64) * scale
    z = OutcomeTransform.fit(y)(y)
    assert bool(torch.isfinite(z).all())
    order = y.argsort()
    assert bool((z[order].diff() >= -1e-9).all())
    assert float(z[y.argmin()]) <= float(z.min()) + 1e-12


def test_scale_and_shift_of_outcomes_do_not_matter() -> None:
    y = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    reference = OutcomeTransform.fit(y)(y)
    for scaled in (y * 1e30, y * 1e-30, y * 7.0):
        assert_close(OutcomeTransform.fit(scaled)(scaled), reference, rtol=1e-9, atol=1e-9)
    shifted = y + 100.0
    assert_close(OutcomeTransform.fit(shifted)(shifted), reference, rtol=1e-6, atol=1e-6)


def test_one_and_constant_outcomes_are_zero() -> None:
    for y in (torch.tensor([3.0]), torch.full((50,), 1e300, dtype=torch.float64), torch.zeros(4)):
        assert_close(OutcomeTransform.fit(y.double())(y.double()), torch.zeros_like(y.double()))


def test_an_outlier_does_not_flatten_the_rest() -> None:
    y = torch.cat((torch.linspace(0, 1, 20), torch.tensor([1e12]))).double()
    z = OutcomeTransform.fit(y)(y)
    assert float(z[19] - z[0]) > 1.0


def test_noise_is_scaled_by_the_slope() -> None:
    y = torch.randn(30, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp()
    transform = OutcomeTransform.fit(y)
    inside = y < y.quantile(0.9)
    slope = (transform(y + 1e-6) - transform(y - 1e-6)) / 2e-6
    variance = transform.noise(y, torch.full_like(y, 0.1))
    assert_close(variance[inside], (0.1 * slope[inside]).square(), rtol=1e-5, atol=1e-9)


def test_replicates_are_transformed_alone() -> None:
    y = torch.randn(3, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64).exp()
    together = OutcomeTransform.fit(y)(y)
    for row, whole in zip(y, together, strict=True):
        assert_close(OutcomeTransform.fit(row)(row), whole)


def test_seeds_depend_on_seed_trial_and_purpose_alone() -> None:
    like = torch.zeros(2, dtype=torch.float64)
    first = Seeds.of(1, 2).normal((4,), like)
    torch.manual_seed(9)
    assert_close(Seeds.of(1, 2).normal((4,), like), first)
    others = [Seeds.of(1, 3), Seeds.of(2, 2), Seeds.of(1, 2).split("a"), Seeds.of(12, 0), Seeds.of(1, 20)]
    for other in others:
        assert not bool((other.normal((4,), like) == first).any())


def test_replicate_draws_equal_solo_draws() -> None:
    like = torch.zeros(2, 5, 3, dtype=torch.float64)
    both = Seeds((7, 8), (2,))
    assert_close(both.sobol(16, like)[1], Seeds((8,)).sobol(16, like[1]))
    assert_close(both.quasi_normal(16, 3, like)[0], Seeds((7,)).quasi_normal(16, 3, like))
    assert bool(((both.sobol(16, like) >= 0) & (both.sobol(16, like) < 1)).all())


def test_keys_of_several_runs_are_those_of_each() -> None:
    like = torch.zeros(3, 2, 2, dtype=torch.float64)
    together = Seeds.of_each((4, 0, -7), 5)
    assert together.batch_shape == (3,)
    draws = together.split("a").normal((6,), like)
    for place, seed in enumerate((4, 0, -7)):
        alone = Seeds.of(seed, 5)
        assert together.keys[place : place + 1] == alone.keys
        assert torch.equal(draws[place], alone.split("a").normal((6,), like[0]))


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("pending", [0, 3])
def test_replicates_of_data_are_picked_by_their_places(noisy: bool, pending: int) -> None:
    generator = torch.Generator().manual_seed(3)
    x, others = (torch.rand(2, 3, n, 2, generator=generator, dtype=torch.float64) for n in (5, pending))
    y = x.sum(-1)
    data = Dataset(x, y, y**2 if noisy else None, others, (1,), (None, 4), (0,))
    some = data.replicates(torch.tensor([5, 0, 5]))
    assert some.batch_shape == (3,)
    for part, (i, j) in zip(
        (some.replicates(0), some.replicates(1), data.replicates(4)), [(1, 2), (0, 0), (1, 1)], strict=True
    ):
        assert part.batch_shape == ()
        assert torch.equal(part.x, x[i, j])
        assert torch.equal(part.y, y[i, j])
        assert torch.equal(part.pending, others[i, j])
        assert part.noise is None if not noisy else torch.equal(part.noise, y[i, j] ** 2)
        assert (part.unordered, part.levels, part.fidelities) == ((1,), (None, 4), (0,))
    assert torch.equal(data.replicates(4).replicates(0).x, x[1, 1])
    with pytest.raises(IndexError):
        data.replicates(6)


def outcomes(seed: int, kind: str) -> torch.Tensor:
    normal = torch.randn(25, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"normal": normal, "skewed": normal.mul(2.0).exp(), "left": -normal.exp(), "flat": normal * 0.0}[
        kind
    ]


KINDS = ["normal", "skewed", "left", "flat"]


@settings(deadline=None)
@given(st.integers(0, 50), st.sampled_from(KINDS), st.sampled_from([1e-300, 1e-30, 1.0, 1e30, 1e280]))
def test_the_inverse_gives_outcomes_back_up_to_the_cap(seed: int, kind: str, scale: float) -> None:
    y = outcomes(seed, kind) * scale
    transform = OutcomeTransform.fit(y)
    below = y - torch.linspace(0.0, 3.0, 25, dtype=torch.float64) * transform.unit
    capped = torch.minimum(y, transform.cap * transform.unit)
    assert_close(transform.inverse(transform(y)) / transform.unit, capped / transform.unit, rtol=0, atol=1e-9)
    assert_close(
        transform.inverse(transform(below)) / transform.unit,
        torch.minimum(below, transform.cap * transform.unit) / transform.unit,
        rtol=0,
        atol=1e-9,
    )


@settings(deadline=None)
@given(st.integers(0, 50), st.sampled_from(KINDS), st.lists(st.floats(-8.0, 8.0), min_size=1, max_size=20))
def test_the_inverse_increases_and_is_undone_by_the_map_up_to_the_cap(
    seed: int, kind: str, values: list[float]
) -> None:
    transform = OutcomeTransform.fit(outcomes(seed, kind))
    z = torch.tensor(values, dtype=torch.float64).sort().values
    y = transform.inverse(z)
    assert not bool(y.isnan().any())
    assert bool((y[:-1] <= y[1:]).all())
    largest = transform(transform.cap * transform.unit)
    assert_close(transform(y), torch.minimum(z, largest), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("power", [-1.0, -0.3, 0.0, 0.5, 1.0])
def test_the_inverse_of_yeo_johnson_is_infinite_beyond_what_it_reaches(power: float) -> None:
    one = torch.tensor(power, dtype=torch.float64)
    z = torch.linspace(-6, 6, 61, dtype=torch.float64)
    assert_close(_yeo_johnson_inverse(_yeo_johnson(z, one), one), z, rtol=1e-9, atol=1e-9)
    ends = _yeo_johnson_inverse(torch.tensor([-50.0, 5.0, 50.0], dtype=torch.float64), one)
    assert bool(ends[0].isfinite())
    assert bool(ends[2].isinf()) == (power < 0)


def test_replicates_are_mapped_back_alone() -> None:
    y = torch.randn(3, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64).exp()
    z = torch.linspace(-3, 1, 5, dtype=torch.float64)
    together = OutcomeTransform.fit(y).inverse(z.expand(3, 5))
    for row, whole in zip(y, together, strict=True):
        assert_close(OutcomeTransform.fit(row).inverse(z), whole)
