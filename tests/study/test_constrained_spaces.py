"""Runs over spaces with constraints among parameters: only allowed points are asked, and runs resume."""

import copy
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bo_suite import Choice, Float, Int, Mixture, Optimizer, Space, minimize
from bo_suite.acquisition import Bore, KnowledgeGradient, SteinBatch, ThompsonSampling
from bo_suite.errors import SpaceError, SpaceExhausted, StorageError
from bo_suite.plot import plot_contour, plot_slices
from bo_suite.study.views import OutcomeView

MIXTURE = Mixture(["a", "b", "c"])


def fits(params: dict[str, Any]) -> bool:
    return bool(params["a"] * params["b"] <= 0.2)


def loss(params: dict[str, Any]) -> float:
    """Smallest, 0, at a = 0.2, b = 0.5 and c = 0.3."""
    return (params["a"] - 0.2) ** 2 + (params["b"] - 0.5) ** 2 + (params["c"] - 0.3) ** 2


def mixed_loss(params: dict[str, Any]) -> float:
    return float((params["x"] - params["n"] / 4) ** 2 + params["n"] + (params["k"] == "u"))


MIXED = Space(
    {"n": Int(0, 6), "m": Int(0, 6), "x": Float(0, 1), "k": Choice(["u", "v"])},
    ["n + m == 6", "4*x <= m", lambda params: params["k"] == "v" or params["n"] < 5],
)


def assert_allowed(optimizer: Optimizer) -> None:
    for trial in optimizer.trials:
        assert optimizer.space.check(trial.params) == trial.params


def test_a_mixture_is_minimised_to_its_minimum() -> None:
    result = minimize(loss, Space(MIXTURE.parameters, [MIXTURE]), budget=20, progress=False)
    assert result.best.value < 1e-4
    assert all(abs(sum(trial.params.values()) - 1.0) <= 1e-9 for trial in result.trials)


def test_the_minimum_on_a_face_is_found() -> None:
    """Without the constraint it is at (1, 1); with it at (0.5, 0.5), on the boundary."""
    space = Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x + y <= 1"])
    result = minimize(
        lambda params: (params["x"] - 1) ** 2 + (params["y"] - 1) ** 2, space, budget=18, progress=False
    )
    assert result.best.value == pytest.approx(0.5, abs=1e-3)
    assert all(trial.params["x"] + trial.params["y"] <= 1.0 for trial in result.trials)


@pytest.mark.parametrize(
    "acquisition",
    [
        None,
        pytest.param(KnowledgeGradient(candidates=2, quantiles=3), marks=pytest.mark.slow),
        ThompsonSampling(),
        Bore(),
    ],
    ids=lambda one: type(one).__name__,
)
def test_every_acquisition_asks_for_allowed_points_alone(acquisition: Any) -> None:
    optimizer = Optimizer(MIXED, acquisition, seed=3, initial=3)
    for _ in range(5):
        trial = optimizer.ask()
        optimizer.tell(trial, mixed_loss(trial.params))
    trials = optimizer.ask(2)
    assert len({repr(trial.params) for trial in trials}) == 2
    assert_allowed(optimizer)
    optimizer.space.check(optimizer.recommend())


def test_points_that_are_chosen_jointly_are_allowed() -> None:
    optimizer = Optimizer(
        Space({**MIXTURE.parameters, "n": Int(0, 3)}, [MIXTURE, "n <= 10*a"]), Bore(), seed=1
    )
    for _ in range(8):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
    assert len(optimizer.ask(4, batch=SteinBatch(steps=10, turns=2))) == 4
    assert_allowed(optimizer)


def test_several_objectives_over_a_mixture() -> None:
    optimizer = Optimizer(
        Space(MIXTURE.parameters, [MIXTURE, "a <= 2*b"]),
        seed=0,
        direction={"first": "minimize", "second": "minimize"},
    )
    for _ in range(8):
        trial = optimizer.ask()
        optimizer.tell(trial, {"first": trial.params["a"], "second": loss(trial.params)})
    assert_allowed(optimizer)
    for point in optimizer.recommend():
        optimizer.space.check(point)


def test_fixed_values_and_queued_points_are_completed_within_the_constraints() -> None:
    optimizer = Optimizer(Space({**MIXTURE.parameters, "t": Float(0, 1)}, [MIXTURE, "t <= a"]), seed=0)
    optimizer.enqueue([{"a": 0.5}, {"a": 0.25, "b": 0.25, "c": 0.5, "t": 0.125}])
    assert optimizer.ask().params["a"] == 0.5
    assert optimizer.ask().params == {"a": 0.25, "b": 0.25, "c": 0.5, "t": 0.125}
    assert optimizer.ask(fixed={"b": 0.75}).params["b"] == 0.75
    for trial in optimizer.trials:
        optimizer.tell(trial, loss(trial.params))
    for _ in range(4):
        trial = optimizer.ask(fixed={"b": 0.625, "t": 0.25})
        assert (trial.params["b"], trial.params["t"]) == (0.625, 0.25)
        optimizer.tell(trial, loss(trial.params))
    assert optimizer.recommend(fixed={"b": 0.75})["b"] == 0.75
    assert_allowed(optimizer)
    for call in (optimizer.enqueue, lambda values: optimizer.ask(fixed=values)):
        with pytest.raises(SpaceError, match="got none within the ranges and with"):
            call({"a": 0.7, "b": 0.6})
    with pytest.raises(SpaceError, match=r"'a \+ b \+ c == 1' must hold, .* off by 0.5"):
        optimizer.add({"a": 0.5, "b": 0.5, "c": 0.5, "t": 0.1}, 1.0)


def test_contexts_may_be_in_constraints() -> None:
    space = Space({"x": Float(0, 1), "heat": Float(0, 1, context=True)}, ["x <= heat"])
    optimizer = Optimizer(space, seed=0)
    for heat in (0.5, 0.1, 0.0, 0.9, 0.3, 0.2, 0.7, 0.4):
        trial = optimizer.ask(fixed={"heat": heat})
        assert trial.params["x"] <= heat
        optimizer.tell(trial, (trial.params["x"] - 0.6) ** 2)
    assert optimizer.recommend(fixed={"heat": 0.25})["x"] <= 0.25


def test_one_point_is_asked_once() -> None:
    optimizer = Optimizer(Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x + y >= 2"]))
    trial = optimizer.ask()
    assert trial.params == {"x": 1.0, "y": 1.0}
    optimizer.tell(trial, 1.0)
    with pytest.raises(SpaceExhausted, match="the only point of the space has been suggested"):
        optimizer.ask()


def test_a_finite_region_is_asked_whole() -> None:
    optimizer = Optimizer(Space(dict.fromkeys("abc", Int(0, 2)), ["a + b + c == 3"]), seed=0)
    for _ in range(7):
        trial = optimizer.ask()
        optimizer.tell(trial, float(trial.params["a"]))
    assert len({tuple(trial.params.values()) for trial in optimizer.trials}) == 7
    with pytest.raises(SpaceExhausted, match="all 7 points"):
        optimizer.ask()


def test_a_run_resumes_with_its_functions(tmp_path: Path) -> None:
    file = tmp_path / "run.db"
    optimizer = Optimizer(Space(MIXTURE.parameters, [MIXTURE, fits]), seed=2, storage=file)
    for _ in range(8):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
    copied = copy.copy(optimizer)
    without = Optimizer.resume(file)
    assert without.best == optimizer.best
    assert without.predict(without.best.params)["outside"].tolist() == [False]
    with pytest.raises(SpaceError, match=r"given again, as in Optimizer.resume\(path, functions=\[fits\]\)"):
        without.ask()
    with pytest.raises(SpaceError, match="functions must be a list of the constraint functions of the space"):
        Optimizer.resume(file, functions=[loss])
    shutil.copy(file, tmp_path / "same.db")
    expected = copied.ask().params
    assert fits(expected)
    assert Optimizer.resume(tmp_path / "same.db", functions=[fits]).ask().params == expected
    with pytest.raises(StorageError, match=r"another space: constraints: .*fits\], got \[.*\]"):
        Optimizer(Space(MIXTURE.parameters, [MIXTURE]), seed=2, storage=file)
    again = Optimizer(Space(MIXTURE.parameters, [MIXTURE, fits]), seed=2, storage=file)
    assert fits(again.ask().params)


def test_constraints_stay_when_a_space_is_extended(tmp_path: Path) -> None:
    space = Space({**MIXTURE.parameters, "n": Int(0, 3)}, [MIXTURE, fits])
    optimizer = Optimizer(space, seed=0, storage=tmp_path / "run.db")
    other = Optimizer.resume(tmp_path / "run.db", functions=[fits])
    for _ in range(6):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
    after = optimizer.extend({"a": Float(0.0, 0.5), "z": Float(0, 1)}, {"z": 0.5})
    assert after.constraints.form == space.constraints.form
    for run in (optimizer, other):
        for _ in range(3):
            trial = run.ask()
            assert trial.params["a"] <= 0.5
            assert fits(trial.params)
            run.tell(trial, loss(trial.params))
    with pytest.raises(SpaceError, match="got none within the ranges for"):
        optimizer.extend({"a": Float(0.0, 0.1), "b": Float(0.0, 0.1), "c": Float(0.0, 0.1)})
    with pytest.raises(SpaceError, match="the constraints of a space must stay"):
        optimizer.extend(Space(dict(after), [MIXTURE, "a <= b"]))


def test_a_function_that_fails_later_is_reported(tmp_path: Path) -> None:
    calls = []

    def tired(params: dict[str, Any]) -> Any:
        calls.append(params)
        return True if len(calls) < 2000 else math.nan

    optimizer = Optimizer(Space({"x": Float(0, 1), "y": Float(0, 1)}, [tired]), seed=0)
    with pytest.raises(SpaceError, match="constraint function 'tired' must return True or False, got nan at"):
        optimizer.ask(30)


def test_slices_and_contours_move_along_equalities() -> None:
    result = minimize(
        loss, Space({**MIXTURE.parameters, "t": Float(0, 1)}, [MIXTURE, "t <= a"]), 8, progress=False
    )
    belief = result.belief()

    view = OutcomeView.of(belief, result.trials, result.goals, result.space)
    rows = view.rows_through([{"a": value} for value in (0.0, 0.25, 0.5, 1.0)])
    torch.testing.assert_close(rows[:, :3].sum(-1), torch.ones(4, dtype=torch.float64))
    assert rows[:, 0].tolist() == [0.0, 0.25, 0.5, 1.0]
    pair = view.rows_through([{"a": 0.5, "b": 0.25}, {"a": 0.75, "b": 0.75}])
    torch.testing.assert_close(pair[0, 2], torch.tensor(0.25, dtype=torch.float64))
    assert view.outside(pair).tolist()[1]
    assert plot_slices(result) is not None
    assert plot_contour(result, "a", "b") is not None
