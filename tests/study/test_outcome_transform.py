import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import yeojohnson
from torch.testing import assert_close

from bo_suite.study.outcomes import OutcomeTransform, _yeo_johnson, _yeo_johnson_inverse


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
