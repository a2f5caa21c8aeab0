"""Outcomes by name as the part of a Dataset that holds objectives and constraints."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bo_suite import Float, Space
from bo_suite.acquisition.fronts import observed_front
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.named import NamedOutcomes, uncapped
from bo_suite.study.observations import Observations
from bo_suite.study.outcomes import OutcomeTransform

SPACE = Space({"x": Float(0.0, 1.0)})
INF, NAN = math.inf, math.nan

TWO = Goals.of({"error": "minimize", "speed": "maximize"})
ONE = Goals.of("minimize", {"memory": (None, 8.0)})
MIXED = Goals.of(
    {"error": "minimize", "speed": "maximize"}, {"works": True, "memory": (2.0, 8.0), "speed": (1, None)}
)


def finished(
    goals: Goals, outcomes: dict[str, Any], stds: dict[str, float] | None = None, number: int = 0
) -> Trial:
    point = {"x": number / 16}
    only = None if goals.several else outcomes.get(goals.objectives[0].name)
    return Trial(
        number, point, "finished", only, None, None, 1, True, {}, 0.0, 1.0, outcomes=outcomes, stds=stds
    )


def ended(number: int, state: Any, reason: str | None = None, transient: bool = False) -> Trial:
    return Trial(number, {"x": number / 16}, state, None, None, reason, 1, True, {}, 0.0, 1.0, transient)


def dataset(goals: Goals, trials: list[Trial]) -> Any:
    return Observations(SPACE, goals, torch.device("cpu")).dataset(trials)


def tensor(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_values_are_those_of_each_objective_then_of_each_constraint() -> None:
    named = NamedOutcomes.of(
        MIXED,
        [
            finished(MIXED, {"error": 1.0, "speed": 2.0, "works": 1.0, "memory": 3.0}, {"speed": 0.5}),
            finished(MIXED, {"speed": None, "works": None}),
            finished(MIXED, {"error": 4.0, "memory": None}),
        ],
    )
    expected = [
        [1.0, NAN, 4.0],
        [2.0, NAN, NAN],
        [1.0, 0.0, NAN],
        [3.0, NAN, NAN],
        [2.0, NAN, NAN],
    ]
    assert torch.equal(named.values.nan_to_num(-9.0), torch.tensor(expected).double().nan_to_num(-9.0))
    assert named.broken.tolist() == [False, True, True], "a label that failed is False, and nothing is broken"
    stds = named.stds.nan_to_num(-9.0)
    assert stds[:, 0].tolist() == [-9.0, 0.5, -9.0, -9.0, 0.5]
    assert torch.equal(named.losses[:, 0], tensor(1.0, -2.0))


def test_the_encoded_outcomes_have_the_labels_last_and_the_ends_on_their_scale() -> None:
    trials = [
        finished(
            MIXED,
            {"error": 1.0 + k, "speed": 0.5 * k, "works": float(k % 3 > 0), "memory": 1.0 + k},
            {"error": 0.1, "works": 0.5},
            k,
        )
        for k in range(9)
    ]
    data = dataset(MIXED, trials)
    outcomes = data.outcomes
    assert (outcomes.objectives, outcomes.labels, outcomes.y.shape) == (2, 1, (5, 9))
    error, speed = tensor(*range(1, 10)), -0.5 * tensor(*range(9))
    for row, losses in ((0, error), (1, speed)):
        torch.testing.assert_close(outcomes.y[row], OutcomeTransform.fit(losses)(losses))
    assert outcomes.low[:2].tolist() == [-INF, -INF]
    assert outcomes.high[:2].tolist() == [INF, INF]
    memory, limited_speed, works = 2, 3, 4
    assert outcomes.y[works].tolist() == [float(k % 3 > 0) for k in range(9)]
    assert (outcomes.low[works], outcomes.high[works]) == (0.5, INF)
    inside = (outcomes.low[:, None] <= outcomes.y) & (outcomes.y <= outcomes.high[:, None])
    assert inside[memory].tolist() == [2.0 <= 1.0 + k <= 8.0 for k in range(9)]
    assert inside[limited_speed].tolist() == [0.5 * k >= 1 for k in range(9)]
    met = [2 <= 1 + k <= 8 and 0.5 * k >= 1 and k % 3 > 0 for k in range(9)]
    assert (outcomes.violation == 0.0).tolist() == met
    assert torch.equal(data.violation, outcomes.violation)
    assert outcomes.noise is not None
    assert bool(outcomes.noise[0].isfinite().all())
    assert bool(outcomes.noise[1].isnan().all())
    assert outcomes.noise[works].tolist() == [0.25] * 9
    torch.testing.assert_close(outcomes.noise[0], OutcomeTransform.fit(error).noise(error, error * 0.0 + 0.1))


def test_a_constraint_that_was_never_measured_is_left_out() -> None:
    goals = Goals.of({"a": "minimize"}, {"m": (None, 1.0), "w": True})
    trials = [finished(goals, {"a": float(k)}, number=k) for k in range(3)]
    data = dataset(goals, trials)
    assert (data.outcomes, data.violation) == (None, None)
    data = dataset(goals, [*trials, finished(goals, {"w": 1.0}, number=3)])
    assert (data.outcomes.labels, data.outcomes.y.shape) == (1, (1, 4))
    assert data.x.shape == (3, 1), "the row without the objective is among the outcomes alone"
    assert data.violation.tolist() == [INF, INF, INF]
    assert data.outcomes.violation.tolist() == [INF, INF, INF, 0.0]


def test_with_one_objective_the_data_are_those_of_the_objective_alone() -> None:
    values = [3.0, 1.0, 2.5, 9.0, 4.0]
    trials = [
        finished(ONE, {"value": value, "memory": 6.0 + value}, {"value": 0.25} if value > 2 else None, number)
        for number, value in enumerate(values)
    ]
    data = dataset(ONE, trials)
    transform = OutcomeTransform.fit(tensor(*values))
    torch.testing.assert_close(data.y, transform(tensor(*values)))
    assert data.noise.isnan().tolist() == [False, True, False, False, False]
    assert (data.outcomes.objectives, data.outcomes.y.shape) == (0, (1, 5))
    assert (data.violation == 0.0).tolist() == [value <= 2.0 for value in values]
    assert data.eligible.tolist() == [value <= 2.0 for value in values]


def test_partial_outcomes_are_rows_where_they_are_known() -> None:
    trials = [
        finished(ONE, {"value": 1.0, "memory": 9.0}, number=0),
        finished(ONE, {"value": 2.0}, number=1),
        finished(ONE, {"memory": 3.0}, number=2),
        finished(ONE, {"value": None, "memory": 4.0}, number=3),
        finished(ONE, {"value": 5.0, "memory": None}, number=4),
        ended(5, "failed", "broke"),
        ended(6, "failed", "lost", transient=True),
        ended(7, "withdrawn", "no"),
        ended(8, "running"),
    ]
    data = dataset(ONE, trials)
    assert (data.x[:, 0] * 16).tolist() == [0.0, 1.0, 4.0]
    assert (data.outcomes.x[:, 0] * 16).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert data.outcomes.y.isnan().tolist() == [[False, True, False, False, True]]
    assert (data.pending[:, 0] * 16).tolist() == [8.0]
    assert (data.failures[:, 0] * 16).tolist() == [5.0, 3.0, 4.0], "broken measurements are failures too"
    violation = data.outcomes.violation.tolist()
    assert violation[0] > 0.0
    assert (violation[1], violation[2], violation[4]) == (INF, 0.0, INF)
    assert violation[3] == 1.0, "the measurement of the objective failed"
    assert data.violation.tolist() == [violation[0], INF, INF]


def test_one_of_three_objectives_may_be_missing_or_constant() -> None:
    goals = Goals.of({"a": "minimize", "b": "minimize", "c": "maximize"})
    told = [
        {"a": 1.0, "b": 5.0, "c": 2.0},
        {"a": None, "b": 5.0, "c": 3.0},
        {"a": 0.5, "b": 5.0},
        {"c": 1.0},
        {"a": 2.0, "b": 5.0, "c": 1e300},
    ]
    data = dataset(goals, [finished(goals, one, number=number) for number, one in enumerate(told)])
    y = data.outcomes.y
    assert y.isnan().tolist() == [
        [False, True, False, True, False],
        [False, False, False, True, False],
        [False, False, True, False, False],
    ]
    assert y[1, [0, 1, 2, 4]].tolist() == [0.0] * 4
    assert bool(y[2, [0, 1, 3, 4]].diff().isfinite().all())
    assert data.outcomes.violation is None
    assert bool(data.y.isfinite().all())
    assert observed_front(data, data.outcomes).tolist() == [True, False, False, False, True]


def test_rows_are_ranked_by_the_rows_that_dominate_them() -> None:
    draw = torch.rand(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    trials = [
        finished(TWO, {"error": float(error), "speed": float(speed)}, number=number)
        for number, (error, speed) in enumerate(draw.T)
    ]
    rank = NamedOutcomes.of(TWO, trials).rank
    for row in range(40):
        error, speed = draw[:, row].tolist()
        dominating = sum(a <= error and b >= speed and (a, b) != (error, speed) for a, b in draw.T.tolist())
        assert math.floor(rank[row]) == dominating
    data = dataset(TWO, trials)
    torch.testing.assert_close(data.y, rank)
    everywhere = replace(data, outside=None)  # the points of the later trials lie outside of the space
    assert torch.equal(observed_front(everywhere, data.outcomes), rank < 1.0)


def test_values_of_the_user_are_scaled_as_the_outcomes_are_and_beyond_the_caps_too() -> None:
    values = tensor(1.0, 1.5, 2.0, 2.5, 100.0)
    trials = [
        finished(TWO, {"error": float(one), "speed": -float(one)}, number=number)
        for number, one in enumerate(values)
    ]
    outcomes = dataset(TWO, trials).outcomes
    scaled = [outcomes.scaled([float(one), -float(one)]) for one in values[:4]]
    torch.testing.assert_close(torch.tensor(scaled, dtype=torch.float64).T, outcomes.y[:, :4])
    transform = OutcomeTransform.fit(values)
    assert float(transform(values)[-1]) < scaled[3][0] + 50.0
    far = outcomes.scaled([1000.0, -1000.0])[0]
    assert far > outcomes.scaled([100.0, -100.0])[0] > float(outcomes.y[0, -1])
    assert far == pytest.approx(float(uncapped(transform)(tensor(1000.0))))


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1e9, 1e290])
def test_the_units_of_outcomes_do_not_matter(scale: float) -> None:
    def data(factor: float) -> Any:
        goals = Goals.of({"a": "minimize", "b": "maximize"}, {"m": (None, 0.5 * factor)})
        told = [
            {"a": factor * math.sin(3 * k), "b": factor * math.cos(2 * k), "m": factor * math.sin(k)}
            for k in range(8)
        ]
        return dataset(goals, [finished(goals, one, number=number) for number, one in enumerate(told)])

    one, other = data(1.0), data(scale)
    torch.testing.assert_close(other.outcomes.y, one.outcomes.y, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.outcomes.high, one.outcomes.high, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.y, one.y, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.violation, one.violation, rtol=1e-8, atol=1e-11)


def test_no_trial_is_no_row() -> None:
    for goals in (TWO, ONE, MIXED):
        data = dataset(goals, [ended(0, "running")])
        assert (data.x.shape, data.y.shape, data.outcomes) == ((0, 1), (0,), None)
