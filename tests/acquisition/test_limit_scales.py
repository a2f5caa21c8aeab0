"""The scales of constrained outcomes, and the choice among them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition.limit_scales import FittedLimits, LimitScales
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import WarmStart

SEEDS = Seeds.of(0, 3)
INF = math.inf


def rows(count: int, name: str = "x") -> Tensor:
    return SEEDS.split(name).sobol(count, torch.zeros(count, 2, dtype=torch.float64))


def limits(y: Tensor, low: float = -INF, high: float = 0.0, noise: Tensor | None = None) -> Outcomes:
    """Outcomes (c, n) with one interval."""
    x = rows(y.shape[-1])
    ends = (torch.full(y.shape[:-1], end, dtype=torch.float64) for end in (low, high))
    return Outcomes(x, y, 0, *ends, noise)


def fitted(one: Outcomes, start: WarmStart | None = None) -> FittedLimits:
    return FittedLimits.of(Dataset(one.x, one.x.sum(-1), outcomes=one), one, SEEDS, start)


def waves(count: int = 30) -> Tensor:
    x = rows(count)
    return torch.sin(6.0 * x[:, 0]) * torch.cos(4.0 * x[:, 1])


@pytest.mark.parametrize(("low", "high"), [(-INF, 0.0), (0.3, INF), (-0.5, 0.7)])
def test_scales_increase_with_the_stated_slopes_and_are_standardised(low: float, high: float) -> None:
    y = 3.0 * waves()[None]
    scales = LimitScales.of(limits(y, low, high))
    t, ordered = scales(y), y.sort(-1).values
    assert t.shape == (4, 1, 30)
    assert bool((scales(ordered).diff(dim=-1) >= 0.0).all())
    assert_close(t.mean(-1), torch.zeros(4, 1, dtype=torch.float64), atol=1e-12, rtol=0.0)
    assert_close(t.std(-1, correction=0), torch.ones(4, 1, dtype=torch.float64))
    step = 1e-6
    slope = (scales(y + step) - scales(y - step)) / (2.0 * step)
    assert_close(scales.log_slopes(y).exp(), slope, rtol=1e-6, atol=1e-6)


def test_they_are_linear_bilog_and_logarithms_from_both_sides() -> None:
    y = torch.tensor([[-3.0, -1.0, 0.5, 4.0]], dtype=torch.float64)
    t = LimitScales.of(limits(y))(y)[:, 0]
    exact = [
        [-3.0, -1.0, 0.5, 4.0],
        [-math.log(4.0), -math.log(2.0), math.log(1.5), math.log(5.0)],
        [math.log(0.03), math.log(2.03), math.log(3.53), math.log(7.03)],
        [-math.log(7.03), -math.log(5.03), -math.log(3.53), -math.log(0.03)],
    ]
    expected = torch.tensor(exact, dtype=torch.float64)
    expected = (expected - expected.mean(-1, keepdim=True)) / expected.std(-1, correction=0, keepdim=True)
    assert_close(t, expected)


def test_each_outcome_is_on_the_scale_of_its_shape() -> None:
    """The exponential of a smooth function, the function, and minus the exponential of minus it."""
    f = waves()
    y = torch.stack(((6.0 * f).exp() - 1.0, f, 1.0 - (-6.0 * f).exp()))
    y = y / y.abs().quantile(0.5, dim=-1, keepdim=True)
    found = fitted(limits(y))
    probe = rows(200, "probe")
    truth = torch.sin(6.0 * probe[:, 0]) * torch.cos(4.0 * probe[:, 1]) <= 0.0
    mean = found.process.mean(probe.expand(3, *probe.shape))
    share = ((mean <= found.high) == truth).double().mean(-1)
    assert bool((share > 0.97).all()), share
    assert bool((found.process.noise < 1e-2).all())
    assert bool(found.low.isinf().all())


def test_a_constant_outcome_is_on_the_linear_scale() -> None:
    y = torch.full((1, 8), -0.5, dtype=torch.float64)
    found = fitted(limits(y))
    assert_close(found.high, torch.full((1, 1), 0.5, dtype=torch.float64))


def test_missing_outcomes_do_not_count() -> None:
    x = rows(30)
    y = torch.stack((waves(), torch.cos(9.0 * x[:, 0]) + x[:, 1]))
    some = y.clone()
    some[1, 20:] = torch.nan
    found, alone = fitted(limits(some)), fitted(limits(y[:1]))
    probe = rows(20, "probe")
    assert_close(found.high[0], alone.high[0])
    mean, expected = found.process.mean(probe.expand(2, 20, 2)), alone.process.mean(probe.expand(1, 20, 2))
    assert_close(mean[0], expected[0], rtol=1e-3, atol=1e-3)
    assert bool(found.process.mean(probe.expand(2, 20, 2)).isfinite().all())


def test_known_noise_is_scaled_by_the_slope() -> None:
    y = 2.0 * waves()[None]
    noise = torch.full_like(y, 0.01)
    one = limits(y, noise=noise)
    scales = LimitScales.of(one)
    given = scales.of_outcomes(one)
    assert given.noise is not None
    assert_close(given.noise, (0.01 * (2.0 * scales.log_slopes(y)).exp()).flatten(-3, -2))
    assert bool((fitted(one).process.mean_and_var(rows(5)[None])[1] > 0.0).all())


def test_a_settled_start_is_taken_and_another_length_is_ignored() -> None:
    one = limits(torch.stack((waves(), waves().exp() - 1.0)))
    first = fitted(one)
    again = fitted(one, WarmStart(first.hyperparameters, 30, settled=True))
    assert_close(again.hyperparameters, first.hyperparameters)
    other = fitted(one, WarmStart(first.hyperparameters[:-3], 30, settled=True))
    assert_close(other.hyperparameters, first.hyperparameters, rtol=1e-6, atol=1e-6)


def test_beyond_what_is_compared_all_observations_are_fitted() -> None:
    y = waves(230)[None]
    one = limits(y)
    found = fitted(one)
    data = Dataset(one.x, one.x.sum(-1), outcomes=one)
    assert found.process.mean(one.x[None]).shape == (1, 230)
    assert_close((found.process.mean(one.x[None]) <= found.high)[0], y[0] <= 0.0)
    restarted = FittedLimits.of(
        data, replace(one), SEEDS, WarmStart(found.hyperparameters, 230, settled=True)
    )
    assert_close(restarted.hyperparameters, found.hyperparameters)
