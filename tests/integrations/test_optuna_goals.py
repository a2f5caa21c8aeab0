"""Several objectives and constraints of Optuna's studies, and of histories as studies."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.acquisition.base import Score
from bo_suite.data import Dataset, Seeds
from bo_suite.storage.goals import Constraint, Goals, Objective
from bo_suite.surrogates.process import WarmStart

optuna = pytest.importorskip("optuna")

from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna  # noqa: E402
from bo_suite.integrations.optuna_outcomes import goals_of, measured_by_number  # noqa: E402
from bo_suite.integrations.optuna_trials import to_translation, to_trials  # noqa: E402
from bo_suite.integrations.optuna_view import to_study  # noqa: E402

PLANE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
SPACE = Space({"x": Float(0, 1), "y": Float(0, 1)})
TWO = ["minimize", "maximize"]


@dataclass(frozen=True)
class RankImprovement:
    """Log expected improvement of the number by which rows with several objectives are ranked."""

    supports: ClassVar[frozenset[str]] = frozenset({"objectives", "constraints"})

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        return LogExpectedImprovement().build(replace(data, outcomes=None), seeds, start)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def sampler() -> BoSuiteSampler:
    return BoSuiteSampler(RankImprovement(), PLANE, seed=0)


def ended(state: TrialState = TrialState.COMPLETE, x: float = 0.5, **fields: Any) -> Any:
    limits = fields.pop("limits", {})
    attributes = {f"constraints:{name}": value for name, value in limits.items()}
    return create_trial(
        state=state, params={"x": x, "y": 0.5}, distributions=PLANE, system_attrs=attributes, **fields
    )


def outcomes(study: Any) -> list[Any]:
    return [
        (trial.state, trial.value, trial.outcomes)
        for trial in to_trials(study.get_trials(), to_translation(PLANE), study)
    ]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_goals_follow_a_study() -> None:
    study = optuna.create_study(direction="maximize")
    assert goals_of(study, study.trials) == Goals.of("maximize")
    study.add_trial(ended(value=1.0, limits={"b": 1.0, "a": -1.0}))
    study.add_trial(ended(TrialState.FAIL, limits={"c": 0.0}))
    limits = {"a": (None, 0.0), "b": (None, 0.0), "c": (None, 0.0)}
    assert goals_of(study, study.trials) == Goals.of("maximize", limits)
    study = optuna.create_study(directions=TWO)
    assert goals_of(study, []) == Goals.of({"0": "minimize", "1": "maximize"})
    study.set_metric_names(["error", "speed"])
    assert goals_of(study, []) == Goals.of({"error": "minimize", "speed": "maximize"})
    study.set_metric_names(["error", "error"])
    assert goals_of(study, []) == Goals.of({"0": "minimize", "1": "maximize"})


def test_a_running_trial_sets_no_constraint_before_it_ends() -> None:
    study = optuna.create_study(sampler=sampler())
    trial = study.ask(PLANE)
    trial.set_constraint("c", 1.0)
    assert not goals_of(study, study.get_trials()).constraints
    study.tell(trial, 1.0)
    assert goals_of(study, study.get_trials()).constraints == (Constraint("c", -math.inf, 0.0),)


def test_a_constraint_with_the_name_of_an_objective_is_another_outcome() -> None:
    study = optuna.create_study(directions=TWO)
    limits = {"0": 1.0, "constraint 0": -2.0, "d": 3.0}
    study.add_trial(ended(values=[5.0, 6.0], limits=limits))
    goals = goals_of(study, study.trials)
    assert goals.objectives == (Objective("0", "minimize"), Objective("1", "maximize"))
    assert len(goals.names) == 5
    measured = measured_by_number(study.trials, goals)[0].outcomes
    assert measured is not None
    assert (measured["0"], measured["1"], measured["d"]) == (5.0, 6.0, 3.0)
    assert sorted(value for name, value in measured.items() if "constraint" in name) == [-2.0, 1.0]
    assert set(measured) == set(goals.names)


def test_outcomes_of_one_objective_have_names_once_there_is_a_constraint() -> None:
    study = optuna.create_study()
    study.add_trial(ended(value=1.0))
    study.add_trial(ended(TrialState.FAIL))
    assert outcomes(study) == [("finished", 1.0, None), ("failed", None, None)]
    study.add_trial(ended(value=2.0, limits={"c": -1.0}))
    study.add_trial(ended(value=math.inf, limits={"c": math.inf}))
    study.add_trial(ended(TrialState.FAIL, limits={"c": -math.inf}))
    study.add_trial(ended(TrialState.PRUNED, intermediate_values={0: 0.5}))
    assert outcomes(study) == [
        ("finished", 1.0, {"value": 1.0}),
        ("failed", None, None),
        ("finished", 2.0, {"value": 2.0, "c": -1.0}),
        ("finished", None, {"value": None, "c": 1e100}),
        ("finished", None, {"value": None, "c": -1e100}),
        ("finished", 2.0, {"value": 2.0}),
    ]


def test_outcomes_of_several_objectives() -> None:
    study = optuna.create_study(directions=TWO, sampler=sampler())
    study.add_trial(ended(values=[1.0, 2.0]))
    study.add_trial(ended(values=[1.0, -math.inf]))
    study.add_trial(ended(values=[math.inf, math.inf]))
    study.add_trial(ended(TrialState.FAIL))
    study.add_trial(ended(TrialState.PRUNED))
    study.ask(PLANE)
    assert outcomes(study) == [
        ("finished", None, {"0": 1.0, "1": 2.0}),
        ("finished", None, {"0": 1.0, "1": None}),
        ("failed", None, None),
        ("failed", None, None),
        ("failed", None, None),
        ("running", None, None),
    ]


def test_a_value_that_is_nan_fails_the_trial() -> None:
    study = optuna.create_study(directions=TWO, sampler=sampler())
    study.optimize(lambda trial: (trial.suggest_float("x", 0.0, 1.0), math.nan), n_trials=1)
    study.optimize(lambda trial: (trial.suggest_float("x", 0.0, 1.0), 1.0), n_trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_trials_of_several_objectives_are_those_of_our_own_loop() -> None:
    directions = {"0": "minimize", "1": "maximize"}
    opt = Optimizer(SPACE, RankImprovement(), 3, directions, constraints={"c": (None, 0.0)})
    study = optuna.create_study(
        directions=TWO, sampler=BoSuiteSampler(RankImprovement(), search_space=SPACE, seed=3)
    )
    for number in range(11):
        ours, theirs = opt.ask(), study.ask()
        point = {name: theirs.suggest_float(name, 0.0, 1.0) for name in ("x", "y")}
        assert point == ours.params, number
        x, y = point.values()
        if number == 7:
            opt.fail(ours, "too large")
            study.tell(theirs, state=TrialState.FAIL)
            continue
        opt.tell(ours, {"0": x + y, "1": x - y * y, "c": 0.4 - x})
        theirs.set_constraint("c", 0.4 - x)
        study.tell(theirs, [x + y, x - y * y])
    assert [trial.id for trial in opt.pareto] == sorted(
        (trial.number for trial in study.best_trials), key=lambda number: study.trials[number].values[0]
    )


def test_running_trials_of_several_objectives_are_pending() -> None:
    study = optuna.create_study(directions=TWO, sampler=sampler())
    study.optimize(
        lambda trial: (trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)), n_trials=8
    )
    asked = [study.ask(PLANE) for _ in range(3)]
    assert len({tuple(trial.params.values()) for trial in asked}) == 3


def test_an_acquisition_of_one_objective_is_refused() -> None:
    study = optuna.create_study(
        directions=TWO, sampler=BoSuiteSampler(LogExpectedImprovement(), PLANE, seed=0)
    )
    with pytest.raises(ValueError, match="LogExpectedImprovement does not support objectives"):
        study.ask(PLANE)


@pytest.mark.parametrize("limits", ["", "c"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_an_optimizer_starts_from_a_study_of_several_objectives(limits: str, tmp_path: Path) -> None:
    study = optuna.create_study(directions=TWO, sampler=sampler())
    study.set_metric_names(["error", "speed"])
    for x in (0.1, 0.3, 0.5, 0.7):
        values = [x, (x - 0.6) ** 2 if x < 0.6 else -1.0]
        study.add_trial(ended(x=x, values=values, limits=dict.fromkeys(limits, 0.2 - x)))
    study.add_trial(ended(x=0.9, values=[math.inf, 3.0], limits=dict.fromkeys(limits, -1.0)))
    study.add_trial(ended(TrialState.FAIL, x=0.8))
    study.ask(PLANE)
    opt = from_optuna(study, RankImprovement(), storage=tmp_path / "run.db")
    assert opt.direction == {"error": "minimize", "speed": "maximize"}
    assert opt.goals.limits == ({"c": [None, 0.0]} if limits else None)
    assert [trial.state for trial in opt.trials] == ["finished"] * 5 + ["failed"]
    assert (opt.trials[4].outcomes or {})["error"] is None
    front = [trial.params["x"] for trial in study.best_trials if math.isfinite(trial.values[0])]
    assert [trial.params["x"] for trial in opt.pareto] == sorted(front)
    assert front[0] == (0.3 if limits else 0.1)
    assert set(opt.ask().params) == {"x", "y"}
    opt.close()


LIMITS = {"memory": (2.0, 8.0), "works": True, "speed": (None, 0.97)}


def history(path: Path, limits: bool = True) -> Optimizer:
    """Forty added trials, some of them partial, one failed, one running."""
    opt = Optimizer(
        SPACE,
        RankImprovement(),
        4,
        {"error": "minimize", "speed": "maximize"},
        storage=path,
        constraints=LIMITS if limits else None,
    )
    draw = np.random.default_rng(5)
    for number in range(40):
        x, y, error, speed, memory = draw.random(5).tolist()
        told: dict[str, Any] = {"error": error, "speed": speed}
        if limits:
            told |= {"memory": 10.0 * memory, "works": number % 5 > 0}
        if number in (3, 8):
            told["error" if number == 3 else "speed"] = math.nan
        if number == 9 and limits:
            del told["memory"]
        opt.add({"x": x, "y": y}, told, {"error": 0.01})
    opt.add_failed({"x": 0.5, "y": 0.5}, "broke")
    opt.ask()
    return opt


@pytest.mark.parametrize("limits", [False, True])
def test_a_history_of_several_objectives_is_a_study_with_the_same_front(limits: bool, tmp_path: Path) -> None:
    opt = history(tmp_path / "run.db", limits)
    study = to_study(tmp_path / "run.db")
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.metric_names == ["error", "speed"]
    front = sorted(study.best_trials, key=lambda trial: trial.values[0])
    assert len(front) >= 2
    assert [trial.number for trial in front] == [trial.id for trial in opt.pareto]
    assert [trial.params for trial in front] == [trial.params for trial in opt.pareto]
    for ours, theirs in zip(opt.trials, study.trials, strict=True):
        measured = ours.outcomes or {}
        if ours.state == "finished" and None not in (measured.get("error"), measured.get("speed")):
            assert theirs.values == [measured["error"], measured["speed"]]
        else:
            assert theirs.values is None
        assert theirs.user_attrs.get("outcomes") == ours.outcomes
        met = all(value <= 0.0 for value in theirs.constraints.values())
        assert ours.state != "finished" or met == opt.goals.is_feasible(measured)
    opt.close()


def test_a_history_with_constraints_is_a_study_with_the_same_best_trial(tmp_path: Path) -> None:
    opt = Optimizer(SPACE, storage=tmp_path / "run.db", constraints={"memory": (None, 8.0), "works": True})
    for x, value, memory, works in ((0.1, 1.0, 9.0, True), (0.2, 2.0, 7.0, False), (0.3, 3.0, 8.0, True)):
        opt.add({"x": x, "y": 0.5}, {"value": value, "memory": memory, "works": works})
    opt.add({"x": 0.4, "y": 0.5}, {"value": 0.5})
    opt.add({"x": 0.5, "y": 0.5}, {"memory": 1.0})
    study = to_study(tmp_path / "run.db")
    assert study.metric_names is None
    assert study.best_trial.number == opt.best.id == 2
    assert study.trials[0].constraints == {"memory": 1.0, "works": -0.5}
    assert study.trials[3].constraints == {"memory": 1e100, "works": 1e100}
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["FAIL"]
    opt.close()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("limits", [False, True])
def test_a_history_goes_to_a_study_and_back(limits: bool, tmp_path: Path) -> None:
    opt = history(tmp_path / "run.db", limits)
    again = from_optuna(to_study(tmp_path / "run.db"), RankImprovement(), storage=tmp_path / "again.db")
    assert again.direction == opt.direction
    assert set(again.goals.limits or ()) == ({"memory", "works", "constraint speed"} if limits else set()), (
        "a constraint on an objective is another outcome"
    )
    points = [trial.params for trial in again.pareto]
    assert points == [trial.params for trial in opt.pareto]
    assert set(again.ask().params) == {"x", "y"}
    again.close()
    opt.close()


def test_optunas_pictures_of_several_objectives_are_drawn(tmp_path: Path) -> None:
    history(tmp_path / "run.db").close()
    study = to_study(tmp_path / "run.db")
    assert len(study.trials_dataframe()) == 42
    pytest.importorskip("plotly")
    figure = optuna.visualization.plot_pareto_front(study, include_dominated_trials=True)
    assert len(figure.data) >= 2
