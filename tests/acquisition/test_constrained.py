"""Expected improvement under constraints, beside simulation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite import Float, Space
from bo_suite.acquisition import (
    Bore,
    ConstrainedExpectedImprovement,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.acquisition.success import build_score
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.study.step import next_steps
from bo_suite.surrogates import ExactGP

SEEDS = Seeds.of(0, 5)


def limited(count: int = 12, replicates: tuple[int, ...] = ()) -> Dataset:
    """Outcomes that fall to the right and upwards, and two constraints against it."""
    x = SEEDS.split("x").sobol(count, torch.zeros(count, 2, dtype=torch.float64))
    x = x.expand(*replicates, *x.shape).contiguous()
    y = -x.sum(-1)
    limits = torch.stack((x[..., 0] - 0.6, 10.0 * (x[..., 1] - 0.7)), -1)
    return Dataset(x, (y - y.mean()) / y.std(), constraints=limits)


def rows(count: int) -> Tensor:
    return SEEDS.split("rows").sobol(count, torch.zeros(count, 2, dtype=torch.float64))


def test_the_score_is_improvement_where_constraints_are_met_as_simulated() -> None:
    data, surrogate = limited(), ExactGP()
    score = ConstrainedExpectedImprovement(surrogate).build(data, SEEDS)
    x = rows(40)
    best = float(data.y[(data.constraints <= 0).all(-1)].min())
    process = surrogate.fit(replace(data, constraints=None), SEEDS)
    mean, var = process.mean_and_var(x)
    base = torch.randn(200_000, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    improvement = (best - (mean + var.sqrt() * base[:, 0])).clamp(min=0.0)
    met = torch.ones_like(improvement)
    for place, (limit, bound) in enumerate(zip(score.limits, score.bounds, strict=True)):
        mean, var = limit.mean_and_var(x)
        met = met * (mean + var.sqrt() * base[:, 1 + place] <= bound)
    simulated = improvement * met
    error = simulated.std(0) / math.sqrt(len(base))
    assert bool(((score(x).exp() - simulated.mean(0)).abs() <= 5 * error + 1e-12).all())
    assert float(simulated.mean(0).max()) > 0.01


def test_constraint_values_are_standardised_so_that_their_unit_does_not_matter() -> None:
    data = limited()
    scaled = replace(data, constraints=data.constraints * torch.tensor([1e-6, 1e9], dtype=torch.float64))
    x = rows(30)
    build = ConstrainedExpectedImprovement().build
    assert_close(build(scaled, SEEDS)(x), build(data, SEEDS)(x), rtol=1e-6, atol=1e-8)


def test_without_constraints_it_is_expected_improvement() -> None:
    data = replace(limited(), constraints=None)
    x = rows(30)
    expected = LogExpectedImprovement().build(data, SEEDS)(x)
    assert torch.equal(ConstrainedExpectedImprovement().build(data, SEEDS)(x), expected)


def test_a_value_far_beyond_the_others_says_no_more_than_a_large_one() -> None:
    data = limited(20)
    far = data.constraints.clone()
    far[:, 0] = data.constraints[:, 0] - 1.0  # so that the first is met everywhere
    far[0] = torch.tensor([1e100, 1.0], dtype=torch.float64)
    score = ConstrainedExpectedImprovement().build(replace(data, constraints=far), SEEDS)
    mean, var = score.limits[0].mean_and_var(data.x[1:])
    assert bool((torch.special.ndtr((score.bounds[0] - mean) / var.sqrt()) > 0.9).all())


def test_more_observations_than_are_searched_at_once_are_taken() -> None:
    data = limited(520)
    assert bool(torch.isfinite(ConstrainedExpectedImprovement().build(data, SEEDS)(rows(4))).all())


def test_a_value_that_is_not_known_is_as_if_that_observation_said_nothing_of_the_constraint() -> None:
    data = limited(14)
    some = data.constraints.clone()
    some[9:, 1] = torch.nan
    one = replace(data, constraints=some)
    score = ConstrainedExpectedImprovement().build(one, SEEDS)
    known = Dataset(data.x[:9], data.y[:9], None, data.pending, constraints=data.constraints[:9])
    fewer = ConstrainedExpectedImprovement().build(known, SEEDS)
    x = rows(20)

    def met(score, place: int) -> Tensor:
        mean, var = score.limits[place].mean_and_var(x)
        return torch.special.ndtr((score.bounds[place] - mean) / var.sqrt())

    assert_close(met(score, 1), met(fewer, 1), rtol=0.0, atol=1e-3)
    assert torch.equal(one.feasible[9:], some[9:, 0] <= 0)  # nothing is known against these
    batch = limited(8, (2,))
    some = batch.constraints.clone()
    some[0, 3, 0] = torch.nan
    with pytest.raises(DataError, match="must not be NaN"):
        ConstrainedExpectedImprovement().build(replace(batch, constraints=some), Seeds((3, 4), (2,)))


def test_before_a_point_is_feasible_the_most_probably_feasible_one_is_next() -> None:
    data = limited()
    data = replace(data, constraints=data.constraints + 10.0 * data.x[:, :1] + 1.0)
    assert not bool(data.feasible.any())
    score = ConstrainedExpectedImprovement().build(data, SEEDS)
    assert score.improvement is None
    space = Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
    (step,) = next_steps(data, space, ConstrainedExpectedImprovement(), SEEDS, [None])
    assert step.source == "acquisition"
    assert float(step.row[0]) < 0.05


def test_a_constraint_that_is_the_same_everywhere_changes_nothing() -> None:
    data = limited()
    x = rows(20)
    expected = LogExpectedImprovement().build(replace(data, constraints=None), SEEDS)(x)
    always = replace(data, constraints=torch.full_like(data.constraints, -1.0))
    score = ConstrainedExpectedImprovement().build(always, SEEDS)(x)
    assert bool(torch.isfinite(score).all())
    order, same = score.argsort(), expected.argsort()
    assert int(order[-1]) == int(same[-1])


def test_replicates_are_each_as_alone() -> None:
    data = limited(10, (2,))
    shifted = data.constraints.clone()
    shifted[1] -= 0.2
    both = replace(data, constraints=shifted)
    x = rows(16).expand(2, 16, 2)
    seeds = Seeds((3, 4), (2,))
    together = ConstrainedExpectedImprovement().build(both, seeds)(x)
    for place in range(2):
        alone = ConstrainedExpectedImprovement().build(both.replicates(place), Seeds((3 + place,)))(x[place])
        assert_close(together[place], alone, rtol=1e-3, atol=1e-3)


def test_a_warm_start_is_that_of_each_part_and_one_of_another_model_is_ignored() -> None:
    from bo_suite.surrogates import WarmStart

    data = limited()
    first = ConstrainedExpectedImprovement().build(data, SEEDS)
    again = ConstrainedExpectedImprovement().build(data, SEEDS, WarmStart(first.hyperparameters, 12))
    x = rows(20)
    assert_close(again(x), first(x), rtol=1e-3, atol=1e-3)
    other = WarmStart(first.hyperparameters[:5], 12)
    assert bool(torch.isfinite(ConstrainedExpectedImprovement().build(data, SEEDS, other)(x)).all())


@pytest.mark.parametrize(
    "acquisition",
    [
        LogExpectedImprovement(),
        NoisyExpectedImprovement(),
        UpperConfidenceBound(),
        ThompsonSampling(),
        Bore(),
        KnowledgeGradient(),
    ],
)
def test_acquisitions_that_would_ignore_constraints_refuse_them(acquisition) -> None:
    with pytest.raises(DataError, match="does not support constraints"):
        build_score(acquisition, limited(), SEEDS)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="`fantasies >= 1` must hold"):
        ConstrainedExpectedImprovement(fantasies=0)
