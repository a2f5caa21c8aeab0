"""Trials with several objectives, sorted by what they are to the front, and the hypervolume over them."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedHypervolumeImprovement
from bo_suite.errors import ArgumentError
from bo_suite.study.fronts import FrontTrials, HypervolumeCourse, reference_used

SPACE = Space({"x": Float(0.0, 1.0), "z": Float(1.0, 9.0, fidelity=True)})
TWO = {"error": "minimize", "gain": "maximize"}


def run(rows: Sequence[dict[str, float] | None]) -> Optimizer:
    optimizer = Optimizer(SPACE, direction=TWO, constraints={"memory": (None, 8.0)})
    for number, told in enumerate(rows):
        point = {"x": number / len(rows), "z": 9.0}
        if told is None:
            optimizer.add_failed(point, "no luck")
        else:
            optimizer.add(point, told)
    return optimizer


def rows(*values: tuple[float, ...]) -> list[dict[str, float]]:
    return [dict(zip((*TWO, "memory"), (*row, 1.0)[:3], strict=True)) for row in values]


def sorted_trials(optimizer: Optimizer) -> FrontTrials:
    return FrontTrials.of(optimizer.trials, optimizer.goals, optimizer.space)


def ids(trials: Sequence) -> list[int]:
    return [trial.id for trial in trials]


def test_trials_are_sorted_by_what_they_are() -> None:
    told = [*rows((1, 1), (2, 4), (2, 2), (0.5, 9, 10)), {"gain": 99.0}, None]
    optimizer = run(told)
    optimizer.add({"x": 0.5, "z": 2.0}, {"error": -9.0, "gain": 99.0, "memory": 1.0})  # below the target
    found = sorted_trials(optimizer)
    assert ids(found.front) == [0, 1] == ids(optimizer.pareto)
    assert ids(found.dominated) == [2]
    assert ids(found.excluded) == [3]
    assert ids(found.incomplete) == [4]
    assert ids(found.failed) == [5]
    assert ids(found.feasible) == [0, 1, 2]
    assert found.worst_feasible == {"error": 2.0, "gain": 1.0}


def test_the_hypervolume_is_the_area_that_is_dominated() -> None:
    course = HypervolumeCourse.of(
        sorted_trials(run(rows((4, 1), (2, 3), (5, 9), (1, 2), (2, 3), (0, 0)))), {"error": 4.0, "gain": 1.0}
    )
    # The boxes up to (4, 1): none; 2 x 2; none, as 5 is beyond 4; (1, 2) adds 1 x 1; none; none, as 0 < 1.
    assert course is not None
    assert course.ids == (0, 1, 2, 3, 4, 5)
    assert course.volumes == pytest.approx([0.0, 4.0, 4.0, 5.0, 5.0, 5.0], rel=1e-12)
    assert not course.inferred


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_the_hypervolume_agrees_with_random_points(objectives: int) -> None:
    random = np.random.default_rng(objectives)
    names = [f"f{j}" for j in range(objectives)]
    values = random.uniform(size=(15, objectives))
    optimizer = Optimizer(SPACE, direction=dict.fromkeys(names, "minimize"))
    for number, row in enumerate(values):
        optimizer.add({"x": number / 15, "z": 9.0}, dict(zip(names, row.tolist(), strict=True)))
    course = HypervolumeCourse.of(sorted_trials(optimizer))
    assert course is not None
    assert course.inferred
    assert course.reference == dict(zip(names, values.max(0).tolist(), strict=True))
    low, high = values.min(0), values.max(0)
    points = random.uniform(low, high, size=(200_000, objectives))
    for count in (3, 15):
        share = (points[:, None] >= values[None, :count]).all(-1).any(-1).mean()
        assert course.volumes[count - 1] == pytest.approx(share * (high - low).prod(), abs=5e-3)


def test_the_volume_never_shrinks_and_scales_are_free() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(20, 2))
    expected = HypervolumeCourse.of(sorted_trials(run(rows(*values.tolist()))))
    assert expected is not None
    assert (np.diff(expected.volumes) >= 0.0).all()
    for scale in (1e-150, 1e120):
        course = HypervolumeCourse.of(sorted_trials(run(rows(*(scale * values).tolist()))))
        assert course is not None
        assert course.volumes == pytest.approx(np.array(expected.volumes) * scale**2, rel=1e-9)
    huge = HypervolumeCourse.of(sorted_trials(run(rows((1e300, -1e300), (-1e300, 1e300), (0, 0)))))
    assert huge is not None
    assert all(map(math.isfinite, huge.volumes))


def test_without_a_feasible_trial_or_with_equal_ones() -> None:
    assert HypervolumeCourse.of(sorted_trials(run(rows((1, 1, 9))))) is None
    given = HypervolumeCourse.of(sorted_trials(run(rows((1, 1, 9)))), {"error": 2, "gain": 0})
    assert given is not None
    assert (given.ids, given.volumes) == ((), ())
    equal = HypervolumeCourse.of(sorted_trials(run(rows((1, 1), (1, 1)))))
    assert equal is not None
    assert equal.volumes == (0.0, 0.0)


@pytest.mark.parametrize(
    "reference",
    [
        (1.0, 2.0),
        {"error": 1.0},
        {"error": 1.0, "gain": math.nan},
        {"error": 1, "gain": 2, "memory": 3},
        "error",
    ],
)
def test_a_reference_point_has_a_number_for_each_objective(reference: object) -> None:
    with pytest.raises(ArgumentError, match="must have a finite number for each of"):
        HypervolumeCourse.of(sorted_trials(run(rows((1, 1)))), reference)


def test_the_reference_point_of_a_run_is_beyond_its_front() -> None:
    space = Space({"x": Float(0.0, 1.0)})
    optimizer = Optimizer(space, direction={"a": "minimize", "b": "maximize"}, seed=0)
    for _ in range(8):
        trial = optimizer.ask()
        x = trial.params["x"]
        optimizer.tell(trial, {"a": x**2, "b": -100 * (x - 0.7) ** 2})
    assert reference_used(optimizer.trials[:6], optimizer.goals) is None
    point = reference_used(optimizer.trials, optimizer.goals)
    assert point is not None
    before = [trial.outcomes or {} for trial in optimizer.trials[:-1]]
    front = [
        one
        for one in before
        if not any(o["a"] <= one["a"] and o["b"] >= one["b"] and o != one for o in before)
    ]
    worst = max(one["a"] for one in front), min(one["b"] for one in front)
    assert worst[0] < point["a"] < worst[0] + 0.5
    assert worst[1] - 50 < point["b"] < worst[1]


def test_a_given_reference_point_is_mapped_back_from_the_scale_of_each_objective() -> None:
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    acquisition = LogExpectedHypervolumeImprovement(reference=(2.0, -3.0))
    optimizer = Optimizer(space, acquisition, direction={"a": "minimize", "b": "maximize"}, seed=0)
    scales = set()
    for _ in range(11):
        trial = optimizer.ask()
        if trial.provenance["source"] == "acquisition":
            scales.add(tuple(trial.provenance["chosen"]["linear"]))
            point = reference_used(optimizer.trials, optimizer.goals)
            assert point == pytest.approx({"a": 2.0, "b": -3.0}, rel=1e-5)
        x, y = trial.params["x"], trial.params["y"]
        optimizer.tell(trial, {"a": (x - 0.3) ** 2 + y, "b": (x - 0.8) ** 2 - y})
    assert any(any(one) for one in scales)
