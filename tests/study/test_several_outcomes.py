"""Constraints and several objectives in the loop, as a user meets them."""

import math
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.acquisition import LogExpectedHypervolumeImprovement, Scalarised
from bo_suite.errors import DataError, StorageError, TrialError

SPACE = Space({"x": Float(-5.0, 5.0), "y": Float(-5.0, 5.0)})
BOTH = {"near": "minimize", "far": "maximize"}


def limited(params: dict[str, Any]) -> dict[str, Any]:
    """The least value that is feasible is 1, at x = y = -√2 / 2 · 2."""
    x, y = params["x"], params["y"]
    return {"value": math.hypot(x + 3.0, y + 3.0), "stress": x * x + y * y, "works": x + y > -6.0}


def two(params: dict[str, Any]) -> dict[str, float]:
    """Trading one distance for another: the front is the line between two points."""
    x, y = params["x"], params["y"]
    return {"near": math.hypot(x - 1.0, y), "far": -math.hypot(x + 1.0, y)}


def run(opt: Optimizer, function: Any, count: int) -> Optimizer:
    for _ in range(count):
        trial = opt.ask()
        opt.tell(trial, function(trial.params))
    return opt


def test_the_best_trial_under_constraints_is_feasible_and_near_the_optimum_on_the_boundary() -> None:
    constraints = {"stress": (None, 4.0), "works": True}
    opt = run(Optimizer(SPACE, constraints=constraints, seed=1), limited, 20)
    best = opt.best
    assert best.outcomes is not None
    assert best.outcomes["stress"] <= 4.0
    assert best.value == pytest.approx(math.hypot(3.0, 3.0) - 2.0, abs=0.02)
    assert opt.pareto == [best]
    why = [trial.provenance.get("why", {}) for trial in opt.trials]
    assert all(0.0 <= one["feasible"] <= 1.0 for one in why if one)


def test_a_feasible_point_is_found_in_a_hundredth_of_the_space() -> None:
    """By the probability of feasibility alone: no observation is feasible before."""

    def narrow(params: dict[str, Any]) -> dict[str, float]:
        return {"value": params["x"], "off": math.hypot(params["x"] - 2.2, params["y"] + 3.1)}

    opt = run(Optimizer(SPACE, constraints={"off": (None, 0.5)}), narrow, 16)
    first = next(trial for trial in opt.trials if (trial.outcomes or {})["off"] <= 0.5)
    assert first.id >= 6
    assert first.provenance["chosen"]["rule"] == "search for a feasible point"
    assert opt.best.outcomes is not None
    assert opt.best.outcomes["off"] <= 0.5


def test_an_equality_is_an_interval_and_a_two_sided_constraint_is_met() -> None:
    def on_a_circle(params: dict[str, Any]) -> dict[str, float]:
        return {"value": params["x"] + params["y"], "radius": math.hypot(params["x"], params["y"])}

    opt = run(Optimizer(SPACE, constraints={"radius": (2.95, 3.05)}), on_a_circle, 20)
    assert opt.best.value == pytest.approx(-3.05 * math.sqrt(2.0), abs=0.1)


def test_a_label_alone_is_learnt_and_all_infeasible_goes_on() -> None:
    opt = run(
        Optimizer(SPACE, constraints={"works": True}), lambda p: {"value": p["x"], "works": p["x"] > 0}, 20
    )
    assert opt.best.value is not None
    assert 0.0 < opt.best.value < 0.5
    never = run(Optimizer(SPACE, constraints={"works": True}), lambda p: {"value": 1.0, "works": False}, 9)
    with pytest.raises(TrialError, match=r"before one is feasible \(works is true\), got 9 finished"):
        _ = never.best
    assert never.pareto == []
    assert never.recommend().keys() == {"x", "y"}


def test_the_front_of_two_objectives_is_approached_and_recommended() -> None:
    opt = run(Optimizer(SPACE, direction=BOTH), two, 18)
    front = [trial.outcomes for trial in opt.pareto]
    assert len(front) >= 8
    assert all(one is not None and one["near"] - one["far"] < 2.2 for one in front[1:-1])
    with pytest.raises(TrialError, match="see `pareto`"):
        _ = opt.best
    recommended = opt.recommend()
    assert isinstance(recommended, list)
    assert 3 <= len(recommended) <= 10
    assert all(abs(point["y"]) < 0.5 and -1.5 < point["x"] < 1.5 for point in recommended)
    predicted = opt.predict(recommended)
    assert list(predicted.columns.levels[0]) == ["near", "far"]
    assert float((predicted["near"]["mean"] - predicted["far"]["mean"]).max()) < 2.5
    assert opt.belief("far").direction == "maximize"
    with pytest.raises(ValueError, match="several objectives"):
        opt.belief()
    with pytest.raises(ValueError, match="got 'fast'"):
        opt.belief("fast")
    with pytest.raises(TrialError, match="one objective and no constraint"):
        opt.regret_bound()


def test_recommended_points_differ() -> None:
    space = Space({"n": Int(1, 4), "c": Choice(["u", "v"])})
    opt = Optimizer(space, direction={"a": "minimize", "b": "minimize"}, initial=8)
    for _ in range(8):
        trial = opt.ask()
        opt.tell(trial, {"a": trial.params["n"], "b": 5 - trial.params["n"] + (trial.params["c"] == "u")})
    recommended = opt.recommend()
    assert isinstance(recommended, list)
    points = {tuple(point.items()) for point in recommended}
    assert len(points) == len(recommended) >= 2
    narrowed = Space({"n": Int(3, 4), "c": Choice(["u", "v"])})
    opt.extend(narrowed)
    recommended = opt.recommend()
    assert isinstance(recommended, list)
    assert len({tuple(point.items()) for point in recommended}) == len(recommended)


def test_partial_outcomes_teach_what_they_know_and_can_be_completed_later() -> None:
    opt = Optimizer(SPACE, direction=BOTH)
    for number in range(12):
        trial = opt.ask()
        outcomes = two(trial.params)
        opt.tell(trial, {name: outcomes[name] for name in (["near"] if number % 3 == 1 else outcomes)})
    assert {"far"} not in [set(trial.outcomes or {}) for trial in opt.trials]
    assert all(set(trial.outcomes or {}) == {"near", "far"} for trial in opt.pareto)
    assert all(trial.provenance["source"] == "acquisition" for trial in opt.trials[6:])
    amended = opt.amend(1, {"far": -1.0})
    assert amended.outcomes == {**two(amended.params), "far": -1.0}
    frame = opt.to_frame()
    assert math.isnan(frame["value_far"][4])
    assert frame["value_far"][1] == -1.0
    assert list(opt.to_frame(history=True)["after_outcomes"][0]) == ["near", "far"]


def test_a_failed_measurement_is_stored_and_its_region_is_left() -> None:
    def fragile(params: dict[str, Any]) -> dict[str, float]:
        return {**two(params), "far": math.nan if params["x"] > 0 else two(params)["far"]}

    opt = run(Optimizer(SPACE, direction=BOTH), fragile, 20)
    broken = [trial.id for trial in opt.trials if (trial.outcomes or {})["far"] is None]
    assert broken
    assert len([number for number in broken if number >= 10]) <= 4
    assert all(trial.params["x"] <= 0 for trial in opt.pareto)


def test_a_run_is_resumed_with_its_goals_and_asks_what_the_uninterrupted_run_asks(tmp_path: Path) -> None:
    path, arguments = tmp_path / "run.db", {"direction": BOTH, "constraints": {"near": (None, 6.0)}}
    whole = run(Optimizer(SPACE, seed=5, **arguments), two, 11)
    run(Optimizer(SPACE, seed=5, storage=path, **arguments), two, 8).close()
    resumed = Optimizer.resume(path)
    assert resumed.goals == whole.goals
    assert resumed.direction == BOTH
    run(resumed, two, 3)
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]
    with pytest.raises(StorageError, match="belongs to another direction"):
        Optimizer(SPACE, seed=5, storage=path, direction="maximize", constraints=arguments["constraints"])
    with pytest.raises(StorageError, match="belongs to another constraints"):
        Optimizer(SPACE, seed=5, storage=path, direction=BOTH)


def test_a_batch_under_constraints_and_objectives_spreads_out() -> None:
    opt = run(Optimizer(SPACE, direction=BOTH, constraints={"near": (None, 4.0)}), two, 8)
    asked = opt.ask(4)
    points = [tuple(trial.params.values()) for trial in asked]
    assert min(math.dist(one, other) for at, one in enumerate(points) for other in points[:at]) > 0.05


@pytest.mark.parametrize(
    "function",
    [
        lambda p: {"near": p["x"], "far": -p["x"]},
        lambda p: {"near": p["x"], "far": 1.0},
        lambda p: {"near": 1.0, "far": 1.0},
        lambda p: {"near": 1e300 * p["x"], "far": 1e-300 * p["y"]},
        lambda p: {"near": round(p["x"]), "far": round(p["y"])},
    ],
    ids=["identical", "one constant", "all constant", "huge and tiny", "steps"],
)
def test_odd_objectives_give_new_points_in_the_space(function: Any) -> None:
    opt = run(Optimizer(SPACE, direction=BOTH), function, 9)
    assert len({tuple(trial.params.values()) for trial in opt.trials}) == 9
    assert len(opt.pareto) >= 1
    assert opt.ask().provenance["source"] == "acquisition"


@pytest.mark.parametrize(
    "reference", [(1e6, -1e6), (-10.0, 10.0), (3.0, -3.0)], ids=["far", "beyond", "fair"]
)
def test_any_reference_point_gives_a_suggestion(reference: tuple[float, float]) -> None:
    opt = Optimizer(SPACE, LogExpectedHypervolumeImprovement(reference=reference), direction=BOTH)
    run(opt, two, 8)
    assert opt.trials[-1].provenance["source"] == "acquisition"


def test_a_reference_point_of_another_number_of_objectives_is_refused() -> None:
    opt = Optimizer(SPACE, LogExpectedHypervolumeImprovement(reference=(1.0,)), direction=BOTH)
    run(opt, two, 6)
    with pytest.raises(DataError, match="for each of 2 objectives"):
        opt.ask()


def test_acquisitions_of_one_objective_are_refused_with_several_before_a_file_is_made(tmp_path: Path) -> None:
    from bo_suite.acquisition import Bore, LogExpectedImprovement

    path = tmp_path / "run.db"
    with pytest.raises(DataError, match="LogExpectedImprovement does not support objectives"):
        Optimizer(SPACE, LogExpectedImprovement(), direction=BOTH, storage=path)
    with pytest.raises(DataError, match="Bore does not support constraints"):
        Optimizer(SPACE, Bore(), constraints={"c": (None, 0.0)}, storage=path)
    assert not path.exists()


def test_five_objectives_are_scalarised_anew_in_each_step() -> None:
    names = [f"f{index}" for index in range(5)]
    space = Space({f"x{index}": Float(0.0, 1.0) for index in range(3)})

    def five(params: dict[str, Any]) -> dict[str, float]:
        return {name: sum((v - 0.2 * at) ** 2 for v in params.values()) for at, name in enumerate(names)}

    opt = run(Optimizer(space, direction=dict.fromkeys(names, "minimize")), five, 10)
    weights = [trial.provenance["chosen"]["weights"] for trial in opt.trials[6:]]
    assert len({tuple(one) for one in weights}) == 4
    assert all(sum(one) == pytest.approx(1.0, abs=1e-5) for one in weights)


def test_one_compromise_is_sought_by_given_weights() -> None:
    opt = run(Optimizer(SPACE, Scalarised(weights=(1.0, 1.0)), direction=BOTH), two, 22)
    middle = min(
        abs(trial.outcomes["near"] + trial.outcomes["far"]) for trial in opt.pareto if trial.outcomes
    )
    assert middle < 0.1


def test_minimize_takes_dicts_from_worker_processes() -> None:
    result = minimize(
        limited,
        SPACE,
        budget=9,
        workers=2,
        constraints={"stress": (None, 9.0), "works": True},
        progress=False,
    )
    assert all(set(trial.outcomes or {}) == {"value", "stress", "works"} for trial in result.trials)
    assert result.best in result.pareto
    assert result.belief("stress").predict({"x": 0.0, "y": 0.0})["mean"][0] < 20.0


def test_minimize_says_what_a_function_must_return() -> None:
    with pytest.raises(TrialError, match=r"must return a dict of 'near', 'far', got 1\.0"):
        minimize(lambda p: 1.0, SPACE, budget=3, direction=BOTH, progress=False)
    with pytest.raises(TrialError, match="name the objective by direction="):
        minimize(lambda p: {"error": 1.0}, SPACE, budget=3, progress=False)
    result = minimize(
        lambda p: {"near": math.nan, "far": math.inf}, SPACE, budget=3, direction=BOTH, progress=False
    )
    assert {trial.state for trial in result.trials} == {"failed"}
    partly = minimize(
        lambda p: {"near": p["x"], "far": math.inf}, SPACE, budget=2, direction=BOTH, progress=False
    )
    assert [trial.outcomes["far"] for trial in partly.trials if trial.outcomes] == [None, None]


def test_an_outcome_can_be_an_objective_and_constrained() -> None:
    opt = run(Optimizer(SPACE, direction=BOTH, constraints={"near": (None, 1.0)}), two, 14)
    assert opt.pareto
    assert all((trial.outcomes or {})["near"] <= 1.0 for trial in opt.pareto)


def test_a_repeated_point_does_not_have_the_forecast_of_the_new_point() -> None:
    opt = Optimizer(SPACE, constraints={"m": (None, 0.0)}, repeats=True, seed=2)
    for number in range(12):
        trial = opt.ask()
        x, y = trial.params["x"], trial.params["y"]
        value = 0.1 * (x - 5.0) ** 2 + 0.1 * y * y + (0.5 if number % 2 else -0.5)
        opt.tell(trial, {"value": value, "m": x}, std={"value": 0.5})
    repeats = [trial.provenance for trial in opt.trials if trial.provenance.get("repeat")]
    assert repeats
    assert all("feasible" not in one["why"] and "predicted" not in one["why"] for one in repeats)


def test_a_pending_point_that_is_infeasible_does_not_count_as_the_front() -> None:
    def limited_by_x(params: dict[str, Any]) -> dict[str, float]:
        x, y = params["x"], params["y"]
        return {"a": (x - 5.0) ** 2 + (y + 1.0) ** 2, "b": (x - 5.0) ** 2 + (y - 3.0) ** 2, "m": x + 0.1 * y}

    both = {"a": "minimize", "b": "minimize"}
    opt = run(Optimizer(SPACE, direction=both, constraints={"m": (None, 0.0)}), limited_by_x, 10)
    opt.enqueue({"x": 5.0, "y": 1.0})
    opt.ask()
    trial = opt.ask()
    assert trial.provenance["why"]["feasible"] > 0.2
    assert limited_by_x(trial.params)["m"] < 0.5


def test_a_finite_space_with_constraints_is_exhausted_as_any_other() -> None:
    from bo_suite.errors import SpaceExhausted

    opt = Optimizer(Space({"k": Int(0, 7)}), constraints={"c": (None, 3.0)})
    for _ in range(8):
        trial = opt.ask()
        opt.tell(trial, {"value": -trial.params["k"], "c": float(trial.params["k"])})
    assert opt.best.params == {"k": 3}
    with pytest.raises(SpaceExhausted):
        opt.ask()


def test_a_recommended_point_is_likely_to_be_feasible() -> None:
    opt = run(Optimizer(SPACE, constraints={"stress": (None, 4.0)}), limited_by_stress, 14)
    point = opt.recommend()
    assert point["x"] ** 2 + point["y"] ** 2 <= 4.0


def limited_by_stress(params: dict[str, Any]) -> dict[str, Any]:
    outcomes = limited(params)
    return {"value": outcomes["value"], "stress": outcomes["stress"]}


def test_the_order_of_objectives_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    Optimizer(SPACE, direction=BOTH, storage=path).close()
    reopened = Optimizer(SPACE, direction=dict(reversed(BOTH.items())), storage=path)
    assert [objective.name for objective in reopened.goals.objectives] == list(BOTH)


def test_repeats_are_refused_with_several_objectives() -> None:
    with pytest.raises(TrialError, match="repeats must be False or None with several objectives"):
        Optimizer(SPACE, direction=BOTH, repeats=True)
