import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import LogExpectedHypervolumeImprovement
from bo_suite.acquisition.expected_hypervolume import log_expected_hypervolume_improvement
from bo_suite.acquisition.fronts import observed_front
from bo_suite.acquisition.hypervolume import non_dominated_boxes
from bo_suite.acquisition.several import outcome_dataset
from bo_suite.data import Columns, Dataset, Outcomes, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates import AutoGP, Process, WarmStart

F64 = torch.float64
SEEDS = Seeds.of(0, 12)


def rows(n: int, d: int = 2, seed: int = 5) -> Tensor:
    return Seeds.of(seed, 0).sobol(n, torch.zeros(1, d, dtype=F64))


def data_of(y: Tensor, x: Tensor, noise: Tensor | None = None, pending: Tensor | None = None) -> Dataset:
    ends = torch.full((len(y),), torch.inf, dtype=F64)
    merit = y.nan_to_num(0.0).sum(0)
    outcomes = Outcomes(x, y, len(y), -ends, ends, noise)
    return Dataset(x, merit, pending=x[:0] if pending is None else pending, outcomes=outcomes)


def trade_off(x: Tensor, objectives: int = 2) -> Tensor:
    """Squared distances from corners, standardised."""
    corners = torch.tensor([[0.2, 0.3], [0.8, 0.4], [0.5, 0.9], [0.4, 0.1]], dtype=F64)[:objectives]
    y = (x[None] - corners[:, None]).square().sum(-1)
    return (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)


def quick(**fields: object) -> LogExpectedHypervolumeImprovement:
    return LogExpectedHypervolumeImprovement(**{"fantasies": 8, **fields})  # type: ignore[arg-type]


def finite_everywhere(acquisition: LogExpectedHypervolumeImprovement, data: Dataset) -> Tensor:
    x = rows(64, seed=9).requires_grad_()
    value = acquisition.build(data, SEEDS)(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert bool(value.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool((gradient != 0.0).any(-1).all())
    return value.detach()


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_without_noise_it_improves_on_the_observed_front_with_solo_fits(
    objectives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bo_suite.surrogates.outputs.choice._STRONG", math.inf)  # never together
    x = rows(16)
    data = data_of(trade_off(x, objectives), x, torch.zeros(objectives, 16, dtype=F64))
    score = LogExpectedHypervolumeImprovement().build(data, SEEDS)
    assert data.outcomes is not None
    alone = [
        AutoGP().fit(outcome_dataset(data, j, 1), SEEDS).mean_and_var(rows(9)[None])
        for j in range(objectives)
    ]
    mean, var = (torch.cat(moments) for moments in zip(*alone, strict=True))
    front = data.outcomes.y[:, observed_front(data, data.outcomes)]
    reference = torch.tensor(score.notes[0]["reference"], dtype=F64)
    least, most = front.aminmax(dim=-1)
    assert_close(reference, most + 0.1 * (most - least), rtol=1e-6, atol=1e-6)
    assert score.notes[0]["front"] == front.shape[1]
    expected = log_expected_hypervolume_improvement(mean, var, non_dominated_boxes(front, reference))
    assert_close(score(rows(9)), expected, rtol=1e-4, atol=1e-4)
    json.dumps(score.notes)


def test_the_reference_point_is_far_away_in_every_third_step() -> None:
    x = rows(13)
    data = data_of(trade_off(x), x, torch.zeros(2, 13, dtype=F64))
    assert data.outcomes is not None
    least, most = data.outcomes.y[:, observed_front(data, data.outcomes)].aminmax(dim=-1)
    for pending, share in ((0, 0.1), (1, 3.0), (2, 0.1), (3, 0.1), (4, 3.0)):
        score = quick().build(replace(data, pending=rows(4, seed=3)[:pending]), SEEDS)
        expected = (most + share * (most - least)).tolist()
        assert score.notes[0]["reference"] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_gradients_agree_with_finite_differences_with_pending_points_and_noise() -> None:
    x = rows(12)
    noise = 0.05 * torch.ones(2, 12, dtype=F64)
    score = quick().build(data_of(trade_off(x), x, noise, pending=rows(2, seed=3)), SEEDS)
    probe = rows(5, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(score, (probe,), eps=1e-6, atol=1e-4, rtol=1e-4)


def test_pending_points_lower_the_score_nearby_and_not_far_away() -> None:
    x = rows(16)
    y, pending = trade_off(x), torch.tensor([[0.45, 0.36]], dtype=F64)
    before = quick().build(data_of(y, x), SEEDS)
    start = WarmStart(before.hyperparameters, 16, settled=True)
    after = quick().build(data_of(y, x, pending=pending), SEEDS, start)
    assert float(after(pending + 1e-3)) < float(before(pending + 1e-3)) - 3.0


def test_the_average_over_fantasies_is_that_over_samples_of_the_pending_values() -> None:
    x = rows(10)
    y, noise = trade_off(x), torch.zeros(2, 10, dtype=F64)
    pending, probe = rows(1, seed=3), rows(6, seed=8)
    score = quick(fantasies=16).build(data_of(y, x, noise, pending), SEEDS)
    data = data_of(y, x, noise)
    process = AutoGP().fit(outcome_dataset(data, 0, 2), SEEDS)
    draws = SEEDS.split("fantasies").quasi_normal(16, 2, x)
    mean, var = process.mean_and_var(pending.expand(2, -1, -1))
    total = []
    reference = torch.tensor(score.notes[0]["reference"], dtype=F64)
    for draw in draws:
        value = mean + var.sqrt() * draw[:, None]
        given = process.condition(pending.expand(2, -1, -1), value, torch.full((2, 1), 1e-10, dtype=F64))
        boxes = non_dominated_boxes(torch.cat((y, value), -1), reference)
        moments = given.mean_and_var(probe.expand(2, -1, -1))
        total.append(log_expected_hypervolume_improvement(*moments, boxes))
    expected = torch.stack(total).exp().mean(0).log()
    assert_close(score(probe), expected, rtol=1e-3, atol=1e-3)


def test_noise_makes_it_the_noisy_improvement_which_does_not_trust_lucky_observations() -> None:
    x = rows(24)
    y = trade_off(x)
    lucky = y.clone()
    lucky[:, 7] -= 3.0  # far better than the function is
    noise = 0.5 * torch.ones_like(y)
    noisy = quick().build(data_of(lucky, x, noise), SEEDS)
    assert noisy.boxes.levels.ndim == 3
    assert noisy.boxes.levels.amin() > lucky.amin()


def test_noise_of_next_to_nothing_counts_as_none() -> None:
    x = rows(12)
    noise = torch.full((2, 12), 1e-6, dtype=F64)
    assert quick().build(data_of(trade_off(x), x, noise), SEEDS).boxes.levels.ndim == 2


def test_infeasible_rows_and_rows_outside_of_the_space_are_not_on_the_front() -> None:
    x = rows(12)
    noise = torch.zeros(2, 12, dtype=F64)
    data = data_of(trade_off(x), x, noise)
    assert data.outcomes is not None
    best = observed_front(data, data.outcomes).nonzero()[0, 0]
    violation = torch.zeros(12, dtype=F64)
    violation[best] = 1.0
    infeasible = replace(data, outcomes=replace(data.outcomes, violation=violation))
    outside = replace(data, outside=violation > 0.0, columns=Columns(narrowed=True))
    without = data_of(torch.where(violation > 0.0, torch.nan, data.outcomes.y), x, noise)
    expected = without.outcomes.y[:, observed_front(without, without.outcomes)].sort(-1).values  # type: ignore[union-attr]
    for changed in (infeasible, outside):
        levels = quick().build(changed, SEEDS).boxes.levels[:, :-1]
        assert torch.equal(levels.sort(-1).values, expected)


def test_fixed_columns_take_the_front_of_posterior_means_there() -> None:
    x = rows(14)
    known = data_of(trade_off(x), x, torch.zeros(2, 14, dtype=F64))
    data = replace(known, columns=Columns(fixed=((1, 0.9),)))
    score = quick().build(data, SEEDS)
    moved = x.clone()
    moved[:, 1] = 0.9
    means = score.process.mean(moved.expand(2, -1, -1))
    least = score.boxes.levels.amin(-1)
    assert_close(least, means.amin(-1), rtol=1e-9, atol=1e-9)


def test_constrained_outcomes_behind_the_objectives_are_ignored() -> None:
    x = rows(12)
    y = trade_off(x, 3)
    ends = torch.full((3,), torch.inf, dtype=F64)
    three = Dataset(x, y[0], outcomes=Outcomes(x, y, 2, -ends, ends))
    two = data_of(y[:2], x)
    probe = rows(7, seed=8)
    assert torch.equal(quick().build(three, SEEDS)(probe), quick().build(two, SEEDS)(probe))


def test_a_given_reference_point_is_mapped_to_the_scale_of_the_surrogate() -> None:
    x = rows(12)
    data = data_of(trade_off(x), x, torch.zeros(2, 12, dtype=F64))
    assert data.outcomes is not None
    scaled = replace(data.outcomes, scaled=lambda values: [value / 10.0 for value in values])
    score = quick(reference=(15.0, 20.0)).build(replace(data, outcomes=scaled), SEEDS)
    assert score.notes[0]["reference"] == [1.5, 2.0]
    assert score.boxes.levels[:, -1].tolist() == [1.5, 2.0]


@pytest.mark.parametrize("reference", [(100.0, 200.0), (-50.0, -60.0)], ids=["worse than all", "dominated"])
def test_any_reference_point_gives_finite_scores(reference: tuple[float, float]) -> None:
    x = rows(12)
    finite_everywhere(quick(reference=reference), data_of(trade_off(x), x))


def test_a_fit_starts_where_the_last_one_ended() -> None:
    @dataclass(frozen=True)
    class Recorder:
        starts: list[WarmStart | None]

        def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
            self.starts.append(start)
            return AutoGP().fit(data, seeds, start)

    x, recorder = rows(12), Recorder([])
    data = data_of(trade_off(x), x)
    score = quick(surrogate=recorder).build(data, SEEDS)
    assert score.hyperparameters.shape == (2 * score.process.hyperparameters.shape[-1],)
    quick(surrogate=recorder).build(data, SEEDS, WarmStart(score.hyperparameters, 12))
    quick(surrogate=recorder).build(data, SEEDS, WarmStart(score.hyperparameters[1:], 12))
    first, second, third = recorder.starts
    assert first is None
    assert third is None
    assert second is not None
    assert torch.equal(second.hyperparameters, score.process.hyperparameters)


BAD = {
    "identical objectives": lambda y: torch.stack((y[0], y[0])),
    "a constant objective": lambda y: torch.stack((y[0], torch.zeros_like(y[0]))),
    "all constant": lambda y: torch.zeros_like(y),
    "a front of one point": lambda y: torch.stack((y[0], 2.0 * y[0] + 1.0)),
    "an outlier": lambda y: torch.where(torch.arange(y.shape[1]) == 3, 1e6, y),
    "a good outlier": lambda y: torch.where(torch.arange(y.shape[1]) == 3, -1e4, y),
    "one missing": lambda y: torch.cat((y, torch.where(torch.arange(y.shape[1]) == 3, torch.nan, y[:1]))),
    "one always missing": lambda y: torch.cat((y, torch.full_like(y[:1], torch.nan))),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("pending", [0, 2])
def test_odd_observations_give_finite_scores_with_gradients(name: str, pending: int) -> None:
    x = rows(12)
    y = BAD[name](trade_off(x))
    finite_everywhere(quick(), data_of(y, x, pending=rows(2, seed=4)[:pending]))


def test_nothing_feasible_gives_finite_scores_with_gradients() -> None:
    x = rows(12)
    data = data_of(trade_off(x), x)
    assert data.outcomes is not None
    violation = torch.ones(12, dtype=F64)
    finite_everywhere(quick(), replace(data, outcomes=replace(data.outcomes, violation=violation)))


def test_one_observation_gives_finite_scores_with_gradients() -> None:
    finite_everywhere(quick(), data_of(torch.zeros(2, 1, dtype=F64), rows(1)))


def test_what_it_cannot_do_is_said() -> None:
    x = rows(6)
    with pytest.raises(DataError, match="at least two objectives, got data with one"):
        quick().build(Dataset(x, trade_off(x)[0]), SEEDS)
    with pytest.raises(DataError, match="a value for each of 2 objectives, got"):
        quick(reference=(1.0, 2.0, 3.0)).build(data_of(trade_off(x), x), SEEDS)
    with pytest.raises(DataError, match="must be finite"):
        quick(reference=(1.0, math.nan))
    with pytest.raises(DataError, match="fantasies >= 1"):
        quick(fantasies=0)


def test_an_acquisition_without_a_search_equals_one_that_was_stored_and_restored() -> None:
    acquisition = LogExpectedHypervolumeImprovement(reference=(1.0, 2.0))
    assert acquisition.search is not None
    assert replace(acquisition) == acquisition == quick(reference=(1.0, 2.0))


def test_the_front_leaves_out_rows_outside_of_a_narrowed_space_unless_all_are() -> None:
    x = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.5, 0.5]], dtype=torch.float64)
    y = torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
    ends = torch.full((2,), -torch.inf, dtype=torch.float64), torch.full((2,), torch.inf, dtype=torch.float64)
    outcomes = Outcomes(x, y, 2, *ends)
    for outside, expected in (
        ([False, False, False], [True, False, False]),
        ([True, False, False], [False, True, True]),
        ([True, True, True], [True, False, False]),
    ):
        data = Dataset(x, y[0], outcomes=outcomes, outside=torch.tensor(outside))
        assert observed_front(data, outcomes).tolist() == expected
