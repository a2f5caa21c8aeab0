"""Improvement under constraints by `build_score`, beside simulation."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Float, Space
from bo_suite.acquisition import (
    AdaptiveImprovement,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    UpperConfidenceBound,
)
from bo_suite.acquisition.base import Score
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.likely import LikelyScore, build_score
from bo_suite.acquisition.limit_scales import FittedLimits
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.errors import DataError
from bo_suite.study.step import next_steps
from bo_suite.surrogates import AutoGP

SEEDS = Seeds.of(0, 5)
INF = math.inf
IMPROVEMENTS = [LogExpectedImprovement(), AdaptiveImprovement()]
BOTH = pytest.mark.parametrize("acquisition", IMPROVEMENTS, ids=lambda one: type(one).__name__)
SQUARE = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})


def limited(count: int = 12, shift: float = 0.0, ends: Sequence[tuple[float, float]] = ()) -> Dataset:
    """Outcomes that fall to the right and upwards, and two constraints against it, met by at most 0."""
    x = rows(count, "x")
    y = -x[:, 0] - 0.8 * x[:, 1] + 0.2 * torch.sin(9.0 * x[:, 0] * x[:, 1])
    waves = 0.05 * torch.sin(9.0 * x.flip(-1)).T
    limits = torch.stack((x[:, 0] - 0.6, x[:, 1] - 0.7)) + waves + shift * (1.0 + x[:, 0])
    return with_limits(Dataset(x, (y - y.mean()) / y.std()), limits, ends or [(-INF, 0.0)] * 2)


def with_limits(data: Dataset, limits: Tensor, ends: Sequence[tuple[float, float]]) -> Dataset:
    """The data with constrained outcomes on a scale of their standard deviations."""
    size = limits.nan_to_num(0.0).std(-1, keepdim=True).clamp(min=1e-3)
    low, high = (torch.tensor(ends, dtype=torch.float64) / size).unbind(-1)
    y = limits / size
    outside = torch.maximum(low[:, None] - y, y - high[:, None]).clamp(min=0.0)
    violation = torch.where(outside.isnan().all(0), INF, outside.nan_to_num(0.0).sum(0))
    return replace(data, outcomes=Outcomes(data.x, y, 0, low, high, violation=violation), violation=violation)


def without_limits(data: Dataset) -> Dataset:
    return replace(data, outcomes=None, violation=None)


def rows(count: int, name: str = "rows") -> Tensor:
    return SEEDS.split(name).sobol(count, torch.zeros(count, 2, dtype=torch.float64))


def simulated(data: Dataset, process: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the improvement on the best feasible outcome, 0 where not all is met."""
    outcomes = data.outcomes
    assert outcomes is not None
    best = float(data.y[data.eligible].min())
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(100_000, 3, 1, dtype=torch.float64, generator=generator)
    mean, var = process.mean_and_var(x)
    improvement = (best - (mean + var.sqrt() * base[:, 0])).clamp(min=0.0)
    limits = FittedLimits.of(data, outcomes, SEEDS.split("feasibility"), None)
    means, variances = limits.process.mean_and_var(x.expand(2, *x.shape))
    for index in range(2):
        values = means[index] + variances[index].sqrt() * base[:, 1 + index]
        improvement = improvement * ((limits.low[index] <= values) & (values <= limits.high[index]))
    return improvement.mean(0), improvement.std(0) / math.sqrt(len(base))


@pytest.mark.parametrize(
    "ends", [[(-INF, 0.0)] * 2, [(-0.3, 0.0), (-0.5, 0.0)]], ids=["one-sided", "two-sided"]
)
def test_the_score_is_improvement_where_constraints_are_met_as_simulated(ends: Any) -> None:
    data, x = limited(ends=ends), rows(40)
    score = build_score(LogExpectedImprovement(), data, SEEDS)
    process = AutoGP().fit(without_limits(data), SEEDS)
    expected, error = simulated(data, process, x)
    assert bool(((score(x).exp() - expected).abs() <= 5.0 * error + 1e-6).all())
    assert float(expected.max()) > 0.01


@BOTH
def test_it_adds_the_log_probability_and_improves_on_the_best_feasible_outcome(acquisition: Any) -> None:
    data, x = limited(), rows(30)
    score = build_score(acquisition, data, SEEDS)
    assert isinstance(score, LikelyScore)
    assert score.score is not None
    feasibility = Feasibility.fit(data, SEEDS).log(x)
    assert_close(score(x) - score.score(x), feasibility, rtol=1e-9, atol=1e-9)
    at_best = build_score(acquisition, without_limits(data), SEEDS)(x)
    assert bool((score.score(x) >= at_best - 1e-9).all()), "the best of all is harder to improve on"
    assert float((score.score(x) - at_best).max()) > 0.1


@BOTH
def test_its_gradient_is_finite_and_that_of_finite_differences(acquisition: Any) -> None:
    score = build_score(acquisition, limited(), SEEDS)
    x = rows(8).requires_grad_()
    (gradient,) = torch.autograd.grad(score(x).sum(), x)
    with torch.no_grad():
        for column in range(2):
            shift = torch.zeros(2, dtype=torch.float64)
            shift[column] = 1e-6
            slope = (score(x + shift) - score(x - shift)) / 2e-6
            assert_close(gradient[:, column], slope, rtol=1e-3, atol=1e-3)


def test_a_pending_row_that_is_infeasible_is_nothing_to_improve_on() -> None:
    data, x = limited(), rows(20)
    row = torch.ones(1, 2, dtype=torch.float64)
    alone, given, shifted = (
        build_score(LogExpectedImprovement(), one, SEEDS)
        for one in (data, data.with_pending([row[0]]), limited(shift=-3.0).with_pending([row[0]]))
    )
    assert all(isinstance(one, LikelyScore) for one in (alone, given, shifted))
    assert_close(given.score(x), alone.score(x), rtol=1e-12, atol=1e-12)  # type: ignore[attr-defined]
    assert bool((shifted.score(x) < alone.score(x) - 1.0).any())  # type: ignore[attr-defined]


@BOTH
def test_without_constraints_it_is_the_score_alone(acquisition: Any) -> None:
    data, x = without_limits(limited()), rows(30)
    assert torch.equal(build_score(acquisition, data, SEEDS)(x), acquisition.build(data, SEEDS)(x))


@BOTH
def test_more_observations_than_are_searched_at_once_are_taken(acquisition: Any) -> None:
    data = limited(520)
    assert bool(torch.isfinite(build_score(acquisition, data, SEEDS)(rows(4))).all())


@BOTH
def test_before_a_row_is_feasible_the_probability_alone_is_maximised(acquisition: Any) -> None:
    data, x = limited(shift=1.0), rows(20)
    assert not bool(data.eligible.any())
    score = build_score(acquisition, data, SEEDS)
    assert isinstance(score, LikelyScore)
    assert score.score is None
    assert score.notes == ({"rule": "search for a feasible point"},)
    assert torch.equal(score(x), Feasibility.fit(data, SEEDS).log(x))
    (step,) = next_steps(data, SQUARE, acquisition, SEEDS, [None])
    assert step.source == "acquisition"
    assert float(step.row[0]) < 0.05


@BOTH
def test_constraints_that_are_met_everywhere_change_nothing(acquisition: Any) -> None:
    data, x = limited(), rows(30)
    always = with_limits(data, torch.full((2, 12), -1.0, dtype=torch.float64), [(-INF, 0.0)] * 2)
    score = build_score(acquisition, always, SEEDS)(x)
    expected = build_score(acquisition, without_limits(data), SEEDS)(x)
    hopeful = expected > -12.0  # below, the default does not fall as fast under constraints
    assert int(hopeful.sum()) >= 5
    assert_close(score[hopeful], expected[hopeful], rtol=0.0, atol=1e-3)


def test_steps_go_to_the_boundary_that_holds_the_optimum() -> None:
    (step,) = next_steps(limited(30), SQUARE, LogExpectedImprovement(), SEEDS, [None])
    assert step.feasibility is not None
    first, second = step.row.tolist()
    broken = first - 0.6 + 0.05 * math.sin(9.0 * second), second - 0.7 + 0.05 * math.sin(9.0 * first)
    assert -0.1 < max(broken) < 0.02


def improvement_of(score: Score) -> Any:
    assert isinstance(score, LikelyScore)
    assert score.score is not None
    return score.score


def test_a_row_whose_constraints_were_not_measured_is_nothing_to_improve_on() -> None:
    data = limited()
    assert data.outcomes is not None
    best = int(data.y.argmin())
    limits = data.outcomes.y.clone()
    limits[:, best] = torch.nan
    unknown = with_limits(data, limits, [(-INF, 0.0)] * 2)
    assert not bool(unknown.eligible[best])
    score = improvement_of(build_score(LogExpectedImprovement(), unknown, SEEDS))
    assert float(score.best) == float(unknown.y[unknown.eligible].min())


def test_an_acquisition_that_would_ignore_constraints_refuses_them() -> None:
    with pytest.raises(DataError, match="Bore does not support constraints"):
        build_score(Bore(), limited(), SEEDS)


@pytest.mark.parametrize(
    "acquisition",
    [
        NoisyExpectedImprovement(),
        UpperConfidenceBound(),
        pytest.param(KnowledgeGradient(), marks=pytest.mark.slow),
        *IMPROVEMENTS,
    ],
)
def test_every_acquisition_that_supports_constraints_meets_them(acquisition: Any) -> None:
    (step,) = next_steps(limited(20), SQUARE, acquisition, SEEDS, [None])
    assert step.source == "acquisition"
    assert step.row[0] < 0.65
    assert step.row[1] < 0.75


def test_the_old_name_is_that_of_expected_improvement() -> None:
    import bo_suite.acquisition as package

    with pytest.warns(DeprecationWarning, match="is now LogExpectedImprovement"):
        assert package.ConstrainedExpectedImprovement is LogExpectedImprovement
