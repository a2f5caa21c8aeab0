"""The probability that outcomes lie in their intervals, beside 60 digits and finite differences."""

import math
from collections.abc import Sequence
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition.feasibility import Feasibility, log_probability_between
from bo_suite.acquisition.limit_scales import FittedLimits
from bo_suite.classifiers import GPClassifier, WeightedExamples
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import WarmStart

SEEDS = Seeds.of(0, 5)
INF = math.inf


def exact(low: float, high: float) -> float:
    """log(Φ(high) - Φ(low)) by 60 digits of erfc in the lower tail."""
    with mpmath.workdps(60):
        if low + high > 0:
            low, high = -high, -low
        upper, lower = (mpmath.erfc(-mpmath.mpf(end) / mpmath.sqrt(2)) / 2 for end in (high, low))
        return float(mpmath.log(upper - lower))


ENDS = (-300.0, -40.0, -9.0, -3.0, -0.5, 0.0, 1e-3, 0.5, 3.0, 9.0, 40.0, 300.0)
WIDTHS = (1e-12, 1e-6, 0.9e-3, 1.1e-3, 0.1, 1.0, 10.0, 700.0)
FINITE = [(low, low + width) for low in ENDS for width in WIDTHS if low + width > low]
OPEN = [*((-INF, end) for end in ENDS), *((end, INF) for end in ENDS)]


def test_it_is_accurate_in_both_tails_and_for_narrow_and_open_intervals() -> None:
    for low, high in (*FINITE, *OPEN):
        found = log_probability_between(*torch.tensor([[low], [high]], dtype=torch.float64)).item()
        assert found == pytest.approx(exact(low, high), rel=1e-12, abs=2e-7), (low, high)


def test_an_interval_without_ends_is_certain() -> None:
    low, high = torch.tensor([[-INF], [INF]], dtype=torch.float64)
    assert log_probability_between(low, high).item() == pytest.approx(0.0, abs=1e-11)


@pytest.mark.parametrize(("low", "high"), [one for one in (*FINITE, *OPEN) if max(map(abs, one)) != 700.0])
def test_its_gradient_is_that_of_the_exact_value(low: float, high: float) -> None:
    """-φ(low) / P and φ(high) / P, also of an open end."""
    ends = [torch.tensor([end], dtype=torch.float64, requires_grad=True) for end in (low, high)]
    log_probability_between(*ends).sum().backward()
    with mpmath.workdps(80):
        signed = (low, high) if low + high <= 0 else (-high, -low)
        upper, lower = (mpmath.erfc(-mpmath.mpf(end) / mpmath.sqrt(2)) / 2 for end in reversed(signed))
        chance = upper - lower
        expected = [float(sign * mpmath.npdf(end) / chance) for sign, end in ((-1, low), (1, high))]
    found = [0.0 if end.grad is None else end.grad.item() for end in ends]
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def rows(count: int, name: str = "rows") -> Tensor:
    return SEEDS.split(name).sobol(count, torch.zeros(count, 2, dtype=torch.float64))


def limited(
    y: Tensor, ends: Sequence[tuple[float, float]], labels: int = 0, x: Tensor | None = None
) -> Dataset:
    """Data with the constrained outcomes y alone; the objective is the sum of the columns."""
    x = rows(y.shape[-1], "x") if x is None else x
    low, high = torch.tensor(ends, dtype=torch.float64).unbind(-1)
    parts = torch.maximum(low[:, None] - y, y - high[:, None]).clamp(min=0.0)
    violation = torch.where(parts.isnan().all(0), INF, parts.nan_to_num(0.0).sum(0))
    outcomes = Outcomes(x, y, 0, low, high, labels=labels, violation=violation)
    return Dataset(x, x.sum(-1), outcomes=outcomes, violation=violation)


def two_outcomes() -> Tensor:
    x = rows(14, "x")
    y = torch.stack((torch.sin(5.0 * x[:, 0]) + x[:, 1], x[:, 1] - x[:, 0].square()))
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


ENDS_OF_TWO = [(-0.4, 0.8), (-INF, 0.3)]


def test_it_is_the_share_of_draws_of_the_fitted_outcomes_that_meet_all() -> None:
    data, x = limited(two_outcomes(), ENDS_OF_TWO), rows(30)
    found = Feasibility.fit(data, SEEDS).log(x).exp()
    assert data.outcomes is not None
    generator = torch.Generator().manual_seed(0)
    met = torch.ones(100_000, 30, dtype=torch.bool)
    limits = FittedLimits.of(data, data.outcomes, SEEDS.split("feasibility"), None)
    mean, var = limits.process.mean_and_var(x.expand(2, 30, 2))
    for index, (low, high) in enumerate(zip(limits.low, limits.high, strict=True)):
        draws = torch.randn(100_000, 30, dtype=torch.float64, generator=generator)
        draws = mean[index] + var[index].sqrt() * draws
        met &= (low <= draws) & (draws <= high)
    share = met.double().mean(0)
    error = (share * (1.0 - share) / len(met)).sqrt()
    assert bool(((found - share).abs() <= 5.0 * error + 1e-5).all())
    assert float(found.max()) > 0.5
    assert float(found.min()) < 0.2


def test_its_gradient_is_that_of_finite_differences() -> None:
    feasibility = Feasibility.fit(limited(two_outcomes(), ENDS_OF_TWO), SEEDS)
    x = rows(8).requires_grad_()
    (gradient,) = torch.autograd.grad(feasibility.log(x).sum(), x)
    step = 1e-5
    with torch.no_grad():
        for column in range(2):
            shift = torch.zeros(2, dtype=torch.float64)
            shift[column] = step
            slope = (feasibility.log(x + shift) - feasibility.log(x - shift)) / (2.0 * step)
            assert_close(gradient[:, column], slope, rtol=1e-4, atol=1e-4)


def test_pending_points_make_it_surer_and_do_not_move_it() -> None:
    data, x = limited(two_outcomes(), ENDS_OF_TWO), rows(3, "pending")
    before, after = (
        Feasibility.fit(one, SEEDS).intervals for one in (data, data.with_pending(list(x.unbind())))
    )
    assert before is not None
    assert after is not None
    (mean, var), (same, smaller) = (one.process.mean_and_var(x.expand(2, 3, 2)) for one in (before, after))
    assert_close(same, mean, rtol=1e-4, atol=1e-4)
    assert bool((smaller < var).all())


def test_labels_are_those_of_the_classifier_and_equal_ones_lead_away_from_what_failed() -> None:
    x = rows(16, "x")
    label = (x[:, 0] > 0.5).double()
    y, ends = torch.stack((two_outcomes()[1].repeat(2)[:16], label)), [(-INF, 0.3), (0.5, INF)]
    data, probe = limited(y, ends, labels=1, x=x), rows(20)
    feasibility = Feasibility.fit(data, SEEDS)
    examples = WeightedExamples(x, 3.0 * label, 3.0 * (1.0 - label))
    process = GPClassifier().fit(examples, SEEDS.split("feasibility").split("label 1")).process
    mean, var = (moment.detach().numpy() for moment in process.mean_and_var(probe))
    positive = torch.from_numpy(norm.logsf(0.0, mean, np.sqrt(var)))
    alone = Feasibility.fit(limited(y[:1], ends[:1], x=x), SEEDS).log(probe)
    assert_close(feasibility.log(probe), alone + positive, rtol=1e-6, atol=1e-6)
    never = torch.zeros(1, 4, dtype=torch.float64)
    near = torch.tensor([[0.1, 0.1], [0.2, 0.1], [0.1, 0.2], [0.15, 0.15]], dtype=torch.float64)
    unmet = Feasibility.fit(limited(never, ends[1:], labels=1, x=near), SEEDS)
    assert unmet.log_odds == ()
    close, far = unmet.log(torch.tensor([[0.12, 0.12], [0.9, 0.9]], dtype=torch.float64)).tolist()
    assert far > close + 0.1


def test_a_value_that_was_not_measured_says_nothing() -> None:
    y = two_outcomes()
    some = y.clone()
    some[1, 9:] = torch.nan
    found = Feasibility.fit(limited(some, ENDS_OF_TWO), SEEDS)
    fewer = Feasibility.fit(limited(y[1:, :9], ENDS_OF_TWO[1:], x=rows(14, "x")[:9]), SEEDS)
    assert found.intervals is not None
    assert fewer.intervals is not None
    probe = rows(20)
    mean, _ = found.intervals.process.mean_and_var(probe.expand(2, 20, 2))
    expected, _ = fewer.intervals.process.mean_and_var(probe.expand(1, 20, 2))
    assert_close(mean[1], expected[0], rtol=0.0, atol=0.1)


def test_a_warm_start_is_taken_and_one_of_another_size_is_ignored() -> None:
    data, x = limited(two_outcomes(), ENDS_OF_TWO), rows(20)
    first = Feasibility.fit(data, SEEDS)
    settled = replace(first.warm_start, settled=True)
    assert_close(Feasibility.fit(data, SEEDS, settled).log(x), first.log(x), rtol=1e-5, atol=1e-5)
    other = WarmStart(first.hyperparameters[:5], 12)
    assert_close(Feasibility.fit(data, SEEDS, other).log(x), first.log(x), rtol=1e-5, atol=1e-5)


def test_gradients_of_the_objective_do_not_lose_the_start() -> None:
    data = limited(two_outcomes(), ENDS_OF_TWO)
    first = Feasibility.fit(data, SEEDS).warm_start
    start = WarmStart(first.hyperparameters + 0.1, first.observations, settled=True)
    told = replace(data, gradient=torch.ones_like(data.x))
    taken, expected = (Feasibility.fit(one, SEEDS, start).hyperparameters for one in (told, data))
    assert_close(taken, expected)


def test_replicates_are_each_as_alone() -> None:
    y = torch.stack((two_outcomes(), two_outcomes().flip(-1)))
    x = rows(14, "x")
    low, high = torch.tensor(ENDS_OF_TWO, dtype=torch.float64).unbind(-1)
    both = Outcomes(x.expand(2, 14, 2), y, 0, low.expand(2, 2), high.expand(2, 2))
    data = Dataset(x.expand(2, 14, 2), y[:, 0], outcomes=both)
    probe = rows(12)
    together = Feasibility.fit(data, Seeds((3, 4), (2,))).log(probe.expand(2, 12, 2))
    for index in range(2):
        alone = Feasibility.fit(limited(y[index], ENDS_OF_TWO), Seeds((3 + index,)))
        assert_close(together[index], alone.log(probe), rtol=1e-3, atol=1e-3)
