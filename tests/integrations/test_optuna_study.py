"""BoSuiteSampler in studies, studies as data of ours, and histories as studies."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import Bore
from bo_suite.errors import StorageError, TrialError
from bo_suite.run.schedulers import ASHA

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna  # noqa: E402
from bo_suite.integrations.optuna_trials import to_distribution, to_translation, to_trials  # noqa: E402
from bo_suite.integrations.optuna_view import HistoryStorage, to_study  # noqa: E402

PLANE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(1e-3, 1.0, log=True)}

MIXED = Space(
    {
        "x": Float(-1.0, 2.0),
        "rate": Float(1e-4, 1.0, log=True),
        "layers": Int(1, 5),
        "kind": Choice(["a", "b", "c"]),
        "size": Choice(["s", "m", "l"], ordered=True),
    }
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def bowl(params: dict[str, Any]) -> float:
    kind = {"a": 0.0, "b": 0.3, "c": 0.6}[params["kind"]] + {"s": 0.0, "m": 0.1, "l": 0.2}[params["size"]]
    return (params["x"] - 0.5) ** 2 + (params["rate"] - 0.1) ** 2 + abs(params["layers"] - 3) + kind


def on_plane(trial: Any) -> float:
    return (trial.suggest_float("x", 0.0, 1.0) - 0.3) ** 2 + trial.suggest_float("y", 1e-3, 1.0, log=True)


def told(state: TrialState, x: float, **fields: Any) -> Any:
    return create_trial(state=state, params={"x": x, "y": 0.1}, distributions=PLANE, **fields)


def learnt(study: Any) -> list[tuple[str, float | None]]:
    trials = to_trials(study.get_trials(), to_translation(PLANE), study)
    return [(trial.state, trial.value) for trial in trials]


@pytest.mark.parametrize("direction", [pytest.param("minimize", marks=pytest.mark.slow), "maximize"])
def test_trials_are_those_of_our_own_loop(direction: str) -> None:
    opt = Optimizer(MIXED, seed=3, direction=direction)
    study = optuna.create_study(direction=direction, sampler=BoSuiteSampler(search_space=MIXED, seed=3))
    for number in range(10):
        ours, theirs = opt.ask(), study.ask()
        params = {
            "x": theirs.suggest_float("x", -1.0, 2.0),
            "rate": theirs.suggest_float("rate", 1e-4, 1.0, log=True),
            "layers": theirs.suggest_int("layers", 1, 5),
            "kind": theirs.suggest_categorical("kind", ["a", "b", "c"]),
            "size": theirs.suggest_categorical("size", ["s", "m", "l"]),
        }
        assert params == ours.params, number
        if number == 7:
            opt.fail(ours, "too large")
            study.tell(theirs, state=TrialState.FAIL)
        else:
            opt.tell(ours, bowl(params))
            study.tell(theirs, bowl(params))


def test_the_same_seed_gives_the_same_study_in_any_thread() -> None:
    def points() -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=BoSuiteSampler(seed=5))
        with ThreadPoolExecutor(1) as elsewhere:
            for _ in range(9):
                elsewhere.submit(study.optimize, on_plane, n_trials=1).result()
        return [trial.params for trial in study.trials]

    once, again = points(), points()
    assert once == again
    study = optuna.create_study(sampler=BoSuiteSampler(seed=5))
    study.optimize(on_plane, n_trials=9)
    assert [trial.params for trial in study.trials] == once
    other = optuna.create_study(sampler=BoSuiteSampler())
    other.optimize(on_plane, n_trials=3)
    assert [trial.params for trial in other.trials[1:]] != once[1:3]


def test_running_trials_are_pending_with_their_full_point_before_they_ask_for_it() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    for _ in range(7):
        study.optimize(on_plane, n_trials=1)
    asked = [study.ask() for _ in range(3)]
    known = to_trials(study.get_trials(), to_translation(PLANE), study)
    pending = [trial for trial in known if trial.state == "running"]
    assert [trial.id for trial in pending] == [trial.number for trial in asked]
    assert not any(trial.params for trial in asked)
    assert len({tuple(trial.params.values()) for trial in pending}) == 3
    for trial, promised in zip(asked, pending, strict=True):
        on_plane(trial)
        assert trial.params == promised.params


def test_enqueued_trials_are_run_as_they_are_and_known_before() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.enqueue_trial({"x": 0.25, "y": 0.5})
    (waiting,) = to_trials(study.get_trials(), to_translation(PLANE), study)
    assert (waiting.state, waiting.params) == ("running", {"x": 0.25, "y": 0.5})
    study.optimize(on_plane, n_trials=2)
    assert study.trials[0].params == {"x": 0.25, "y": 0.5}
    assert not any("proposal" in name for name in study.trials[0].system_attrs)
    assert study.trials[1].params != study.trials[0].params


def test_a_pruned_trial_counts_as_its_last_value_but_no_better_than_the_median() -> None:
    study = optuna.create_study()
    for x, value in ((0.1, 1.0), (0.2, 2.0), (0.3, 3.0)):
        study.add_trial(told(TrialState.COMPLETE, x, value=value))
    study.add_trial(told(TrialState.PRUNED, 0.4, intermediate_values={1: 0.0, 5: 7.0}))
    study.add_trial(told(TrialState.PRUNED, 0.5, intermediate_values={1: 9.0, 5: 0.5}))
    study.add_trial(told(TrialState.PRUNED, 0.6))
    study.add_trial(told(TrialState.PRUNED, 0.7, intermediate_values={1: float("nan")}))
    study.add_trial(
        told(TrialState.PRUNED, 0.8, value=0.5, intermediate_values={1: 0.5})
    )  # as Optuna ends one
    assert learnt(study)[3:] == [
        ("finished", 7.0),
        ("finished", 2.0),
        ("failed", None),
        ("failed", None),
        ("finished", 2.0),
    ]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_failed_and_infinite_trials_are_places_to_avoid(direction: str) -> None:
    study = optuna.create_study(direction=direction, sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    for x in (0.1, 0.3, 0.5, 0.7, 0.9):
        study.add_trial(told(TrialState.COMPLETE, x, value=x))
    study.add_trial(told(TrialState.FAIL, 0.0))
    study.add_trial(told(TrialState.COMPLETE, 1.0, value=float("inf")))
    assert learnt(study)[5:] == [("failed", None), ("failed", None)]
    with_failure = study.ask(PLANE).params["x"]
    assert 0.02 < with_failure < 0.98


def corner(trial: Any) -> float:
    """The least is 1, at the corner x = 0, y = 1 that alone meets the constraint there."""
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 1e-3, 1.0, log=True)
    trial.set_constraint("sum", 1.0 - x - y)
    return float(2 * x + y)


def test_constraints_are_met_at_an_optimum_on_their_boundary() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.optimize(corner, n_trials=20)
    assert study.best_value < 1.02
    assert sum(study.best_trial.params.values()) >= 1.0


def test_constraints_of_the_older_kind_count_too_and_infinity_is_cut() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    for x in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9):
        excess = [0.6 - x, float("-inf")]
        study.add_trial(told(TrialState.COMPLETE, x, value=x, system_attrs={"constraints": excess}))
    for _ in range(5):
        asked = study.ask(PLANE)
        asked.set_constraint("0", 0.6 - asked.params["x"])
        asked.set_constraint("1", -1.0)
        study.tell(asked, asked.params["x"])
    assert 0.6 <= study.best_value < 0.63


def test_an_acquisition_that_knows_no_constraints_refuses_them() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(Bore(), PLANE, seed=0))
    with pytest.raises(ValueError, match="Bore does not support constraints"):
        study.optimize(corner, n_trials=8)


def test_a_step_gives_values_on_the_grid_in_its_type() -> None:
    space = {"f": FloatDistribution(-0.3, 0.3, step=0.1), "i": IntDistribution(1, 9, step=4)}
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=0))
    for _ in range(9):
        study.tell(study.ask(space), 0.0)
    values = {trial.params["f"] for trial in study.trials}
    assert values <= {-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3}
    assert {trial.params["i"] for trial in study.trials} == {1, 5, 9}


def test_a_finite_space_is_searched_once_and_then_repeated(caplog: pytest.LogCaptureFixture) -> None:
    space = {"a": CategoricalDistribution([True, "a", None]), "b": IntDistribution(0, 1)}
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=0))
    with caplog.at_level(logging.INFO, logger="bo_suite"):
        for _ in range(9):
            study.tell(study.ask(space), 0.0)
    points = [json.dumps(trial.params) for trial in study.trials]
    assert len(set(points[:6])) == 6
    assert len(set(points)) == 6
    assert sum("repeats a point" in record.message for record in caplog.records) >= 3


def test_parameters_outside_the_given_space_are_drawn_on_their_scale() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space={"x": PLANE["x"]}, seed=0))
    study.optimize(on_plane, n_trials=40)
    drawn = sorted(trial.params["y"] for trial in study.trials)
    assert 0.01 < drawn[20] < 0.1  # the median of a logarithmic scale from 1e-3 to 1
    assert study.best_trial.params["x"] == pytest.approx(0.3, abs=0.3)


def test_a_space_that_changes_within_a_study_keeps_what_still_fits() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.optimize(on_plane, n_trials=8)
    narrow = {**PLANE, "x": FloatDistribution(0.0, 0.4)}
    known = to_trials(study.get_trials(), to_translation(narrow), study)
    assert 0 < len(known) < 8
    assert all(not trial.provenance for trial in known)  # hyperparameters of another scale start no fit
    study.sampler = BoSuiteSampler(search_space=narrow, seed=0)
    assert study.ask(narrow).params["x"] <= 0.4
    kinds = {"x": CategoricalDistribution([1, 2])}
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=kinds, seed=0))
    with pytest.raises(ValueError, match="different distribution kind"):
        study.optimize(on_plane, n_trials=1)


def test_spaces_that_cannot_be_searched_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="'x' cannot be searched: low and high of a Float must differ"):
        BoSuiteSampler(search_space={"x": FloatDistribution(1.0, 1.0 + 1e-15)})
    with pytest.raises(ValueError, match="seed must be an integer"):
        BoSuiteSampler(seed=0.5)


def test_no_two_threads_propose_the_same_point() -> None:
    grid = {"x": IntDistribution(0, 9), "y": IntDistribution(0, 9)}
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=grid, seed=0))

    def objective(trial: Any) -> float:
        return (trial.suggest_int("x", 0, 9) - 3) ** 2 + (trial.suggest_int("y", 0, 9) - 7) ** 2

    study.optimize(objective, n_trials=16, n_jobs=4)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 16


@pytest.mark.slow
def test_no_two_processes_propose_the_same_point(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "optuna_workers.py"
    out = tmp_path / "workers.jsonl"
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    options = ["--storage", storage, "--processes", "3", "--trials", "60", "--out", str(out)]
    subprocess.run([sys.executable, str(script), *options], check=True, timeout=300)
    record = json.loads(out.read_text())
    assert record["twice"] == 0
    assert record["trials"] >= 60


def test_a_process_that_asked_meanwhile_is_taken_note_of(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.optimize(on_plane, n_trials=8)
    propose = BoSuiteSampler._proposal
    found = []

    def slowly(self: Any, study: Any, trial: Any, translation: Any, *known: Any) -> Any:
        found.append(propose(self, study, trial, translation, *known))
        if len(found) == 1:  # somebody else stores the very same point before we do
            study.add_trial(
                create_trial(params=translation.theirs(found[0].params), distributions=PLANE, value=0.5)
            )
        return found[-1]

    monkeypatch.setattr(BoSuiteSampler, "_proposal", slowly)
    asked = study.ask(PLANE)
    assert len(found) == 2
    assert asked.params == found[1].params != found[0].params


def test_choices_may_be_any_objects() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's, of choices that no file could hold
        kinds = {"layers": CategoricalDistribution([(64,), (64, 64), None]), "x": PLANE["x"]}
        study = optuna.create_study(sampler=BoSuiteSampler(seed=0))
        for _ in range(10):
            trial = study.ask(kinds)
            study.tell(trial, trial.params["x"] + len(trial.params["layers"] or ()))
    assert study.best_params["layers"] is None


def test_what_is_drawn_at_random_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def changing(trial: Any) -> float:
        return float(trial.suggest_float("x", 0.0, 1.0) + trial.suggest_float("y", 0.0, 1.0 + trial.number))

    study = optuna.create_study(sampler=BoSuiteSampler(seed=0))
    with caplog.at_level(logging.WARNING, logger="bo_suite"):
        study.optimize(changing, n_trials=8)
        said = [record.message for record in caplog.records]
        assert len(said) == 1
        assert "'y' is drawn at random" in said[0]
        caplog.clear()
        study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
        study.optimize(lambda trial: trial.suggest_float("x", 2.0, 3.0), n_trials=5)
        said = [record.message for record in caplog.records]
    assert sum("no trial has the parameters that are searched" in message for message in said) == 1


def test_arguments_that_are_none_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must be an object with a `build` method, got 'EI'"):
        BoSuiteSampler("EI")
    with pytest.raises(ValueError, match="must have one of Optuna's distributions, got"):
        BoSuiteSampler(search_space={"x": (0, 1)})
    with pytest.raises(ValueError, match="must be a dict of Optuna's distributions, got"):
        BoSuiteSampler(search_space=["x"])
    with pytest.raises(ValueError, match="a study has no fidelities"):
        BoSuiteSampler(search_space=Space({"x": Float(0, 1), "e": Float(0.1, 1, fidelity=True)}))


def test_an_infinite_constraint_value_does_not_hide_the_others() -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("c", float("inf") if trial.number == 3 else 0.5 - x)
        return float(x)

    study = optuna.create_study(sampler=BoSuiteSampler(search_space={"x": PLANE["x"]}, seed=0))
    study.optimize(objective, n_trials=14)
    assert 0.5 <= study.best_value < 0.51


def test_many_trials_with_constraints_and_odd_attributes_are_taken() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    for place in range(520):
        x = (place * 0.618) % 1.0
        attributes = {"constraints:c": 0.5 - x, "constraints:d": None, "another": [1]}
        study.add_trial(told(TrialState.COMPLETE, x, value=x, system_attrs=attributes))
    assert 0.0 <= study.ask(PLANE).params["x"] <= 1.0


def test_pruners_work_with_it() -> None:
    def objective(trial: Any) -> float:
        value = on_plane(trial)
        for step in range(5):
            trial.report(value + 1.0 / (step + 1), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    pruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0)
    study = optuna.create_study(sampler=BoSuiteSampler(seed=1), pruner=pruner)
    study.optimize(objective, n_trials=16)
    states = [trial.state for trial in study.trials]
    assert TrialState.PRUNED in states
    assert TrialState.FAIL not in states


def test_an_optimizer_starts_from_a_study(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")
    space = {**PLANE, "s": FloatDistribution(0.0, 1.0, step=0.25), "one": IntDistribution(3, 3)}
    for x, s in ((0.1, 0.0), (0.4, 0.5), (0.8, 1.0)):
        params = {"x": x, "y": 0.1, "s": s, "one": 3}
        attributes = {"constraints:c": -1.0}
        study.add_trial(create_trial(params=params, distributions=space, value=x, system_attrs=attributes))
    params = {"x": 0.9, "y": 0.1, "s": 0.25, "one": 3}
    study.add_trial(create_trial(state=TrialState.FAIL, params=params, distributions=space))
    params = {"x": 0.95, "y": 0.1, "s": 0.25, "one": 3}
    beyond = create_trial(params=params, distributions=space, value=9.0, system_attrs={"constraints:c": 1.0})
    study.add_trial(beyond)
    study.ask(space)
    opt = from_optuna(study, seed=4, storage=tmp_path / "run.db")
    assert opt.direction == "maximize"
    assert opt.space.parameters["s"] == Float(0, 1, step=0.25)
    assert [(trial.state, trial.value) for trial in opt.trials] == [
        ("finished", 0.1),
        ("finished", 0.4),
        ("finished", 0.8),
        ("failed", None),
        ("finished", 9.0),
    ]
    assert opt.goals.limits == {"c": [None, 0.0]}
    assert opt.trials[4].outcomes == {"value": 9.0, "c": 1.0}
    assert opt.best.params == {"x": 0.8, "y": 0.1, "s": 1.0}
    assert set(opt.ask().params) == {"x", "y", "s"}
    opt.close()
    with pytest.raises(TrialError, match="must be new"):
        from_optuna(study, seed=4, storage=tmp_path / "run.db")


def test_an_optimizer_takes_over_every_trial_of_stepped_parameters() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        i, f = trial.suggest_int("i", 0, 100, step=10), trial.suggest_float("f", 0.0, 1.0, step=0.1)
        return (i - 40) ** 2 + f

    study.optimize(objective, n_trials=30)
    opt = from_optuna(study)
    assert opt.space == Space({"f": Float(0, 1, step=0.1), "i": Int(0, 100, step=10)})
    assert [trial.value for trial in opt.trials] == [trial.value for trial in study.trials]
    assert opt.best.params == pytest.approx(study.best_params)
    assert opt.ask().params["i"] in range(0, 101, 10)


def test_an_optimizer_takes_over_a_fine_step() -> None:
    study = optuna.create_study()
    fine = {"x": FloatDistribution(0.0, 1.0, step=1e-4)}
    study.add_trial(create_trial(params={"x": 0.5}, distributions=fine, value=1.0))
    opt = from_optuna(study)
    assert opt.space == Space({"x": Float(0, 1, step=1e-4)})
    assert opt.best.params == {"x": 0.5}


STEPPED = {
    "linear": Float(-0.3, 0.3, step=0.1),
    "integer": Int(1, 9, step=4),
    "log": Float(0.1, 1.0, log=True, step=0.1),
    "log integer": Int(1, 100, log=True, step=9),
    "thirds": Float(0.0, 1.0, step=1 / 3),
}


def test_a_space_with_steps_is_searched_on_its_values() -> None:
    space = Space(STEPPED)
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=0))
    distributions = {name: to_distribution(parameter) for name, parameter in space}
    assert distributions["linear"] == FloatDistribution(-0.3, 0.3, step=0.1)
    assert distributions["integer"] == IntDistribution(1, 9, step=4)
    for _ in range(6):
        trial = study.ask(distributions)
        assert space.check(trial.params) == trial.params
        study.tell(trial, sum(trial.params.values()))
    too_many = Space({"x": Float(1e-6, 10, log=True, step=1e-6)})
    with pytest.raises(ValueError, match=r"must be at most 10\*\*6 values, got 10000000"):
        BoSuiteSampler(search_space=too_many)
    with pytest.raises(ValueError, match=r"a study has no contexts, got a Space with \['t'\]"):
        BoSuiteSampler(search_space=Space({"x": Float(0, 1), "t": Float(0, 1, context=True)}))


def test_a_history_with_steps_opens_as_a_study(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(Space(STEPPED), storage=path)) as opt:
        for _ in range(4):
            trial = opt.ask()
            opt.tell(trial, sum(trial.params.values()))
        best = opt.best.params
    study = to_study(path)
    assert study.best_params == best
    assert study.best_trial.distributions["linear"] == FloatDistribution(-0.3, 0.3, step=0.1)


def test_studies_that_are_no_data_for_an_optimizer_are_refused() -> None:
    with pytest.raises(ValueError, match="with a parameter in common, got none"):
        from_optuna(optuna.create_study())
    study = optuna.create_study()
    far = {"x": IntDistribution(2**60, 2**60 + 2**21, step=2**10)}
    study.add_trial(create_trial(params={"x": 2**60}, distributions=far, value=1.0))
    with pytest.raises(ValueError, match="at most 1000 steps, got 2049"):
        from_optuna(study)
    study = optuna.create_study()
    twice = {"x": CategoricalDistribution([1, True])}
    study.add_trial(create_trial(params={"x": True}, distributions=twice, value=1.0))
    with pytest.raises(ValueError, match="cannot be in a Space: the options of a Choice must differ"):
        from_optuna(study)


def test_a_history_is_a_study_to_look_at(tmp_path: Path) -> None:
    opt = Optimizer(MIXED, storage=tmp_path / "run.db", direction="maximize", seed=7)
    for trial in opt.ask(4):
        opt.tell(trial, -bowl(trial.params))
    opt.fail(opt.ask(), "too large")
    study = to_study(tmp_path / "run.db")
    assert study.study_name == "run"
    assert study.best_params == opt.best.params
    assert study.best_value == opt.best.value
    assert study.direction.name == "MAXIMIZE"
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4 + ["FAIL"]
    assert study.trials[4].user_attrs["reason"] == "too large"
    opt.ask()
    assert [trial.state.name for trial in study.trials][5:] == ["RUNNING"]
    for trial in study.trials:
        assert study._storage.get_trial(trial._trial_id) == trial
    frame = study.trials_dataframe()
    assert list(frame["params_x"]) == [trial.params["x"] for trial in opt.trials]


def test_stopped_and_paused_trials_have_their_curves_in_a_study(tmp_path: Path) -> None:
    with closing(Optimizer(MIXED, storage=tmp_path / "run.db", scheduler=ASHA(9, 3, 2))) as opt:
        for trial, value in zip(opt.ask(3), (1.0, 2.0, 0.5), strict=True):
            opt.report(trial, 2, value + 1.0)
            opt.report(trial, 3, value)
        opt.tell(0, 0.75)
        opt._history.report(2, 4, 0.25, verdict="pause")
    study = to_study(tmp_path / "run.db")
    finished, stopped, paused = study.trials
    assert [(one.state.name, one.values) for one in study.trials] == [
        ("COMPLETE", [0.75]),
        ("PRUNED", [2.0]),
        ("RUNNING", None),
    ]
    assert stopped.intermediate_values == {2: 3.0, 3: 2.0}
    assert paused.intermediate_values == {2: 1.5, 3: 0.5, 4: 0.25}
    assert paused.user_attrs["paused"] is True
    assert study.best_trial == finished
    for one in study.trials:
        one._validate()


def test_a_study_follows_changes_of_its_history(tmp_path: Path) -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 9, step=2), "kind": Choice(["a", "b", "c"])})
    with closing(Optimizer(space, storage=tmp_path / "run.db")) as opt:
        for x, n, kind in ((0.9, 9, "a"), (0.4, 1, "b"), (0.2, 5, "c")):
            opt.add({"x": x, "n": n, "kind": kind}, x)
        study = to_study(tmp_path / "run.db")
        assert study.trials[0].distributions["n"] == IntDistribution(1, 9, step=2)
        opt.forget(2, "broken")
        opt.amend(1, -1.0)
        narrow = {"x": Float(0, 0.5), "n": Int(2, 8, step=2), "kind": Choice(["c", "b"]), "new": Float(0, 1)}
        opt.extend(narrow, {"new": 0.5})
        opt.add({"x": 0.1, "n": 2, "kind": "c", "new": 0.0}, 3.0)
        params = [trial.params for trial in opt.trials]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert [trial.params for trial in study.trials] == params
    assert (study.best_value, study.trials[2].user_attrs["reason"]) == (-1.0, "broken")
    assert study.trials[0].distributions == {
        "x": FloatDistribution(0.0, 0.9),
        "n": IntDistribution(1, 9),
        "kind": CategoricalDistribution(["c", "b", "a"]),
        "new": FloatDistribution(0.0, 1.0),
    }
    assert [trial.user_attrs.get("outside", False) for trial in study.trials] == [True, True, True, False]
    for trial in study.trials:
        trial._validate()
    assert set(optuna.importance.get_param_importances(study)) == {"x", "n", "kind", "new"}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_optunas_plots_show_a_history(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    opt = Optimizer(MIXED, storage=tmp_path / "run.db")
    for trial in opt.ask(5):
        opt.tell(trial, bowl(trial.params))
    study = to_study(tmp_path / "run.db")
    axes = optuna.visualization.matplotlib.plot_optimization_history(study)
    shown = [tuple(point) for found in axes.collections for point in found.get_offsets().tolist()]
    assert (0.0, opt.trials[0].value) in shown
    assert len(optuna.visualization.matplotlib.plot_slice(study)) == 5
    assert set(optuna.importance.get_param_importances(study)) == set(MIXED.parameters)
    plt.close("all")


def test_a_view_of_a_history_cannot_change_it(tmp_path: Path) -> None:
    Optimizer(MIXED, storage=tmp_path / "run.db").close()
    storage = HistoryStorage(tmp_path / "run.db")
    study = to_study(tmp_path / "run.db")
    with pytest.raises(RuntimeError, match="this storage is read-only"):
        study.ask()
    with pytest.raises(RuntimeError, match="this storage is read-only"):
        study.set_user_attr("a", 1)
    with pytest.raises(RuntimeError, match="this storage is read-only"):
        optuna.create_study(storage=storage)
    with pytest.raises(KeyError):
        optuna.load_study(study_name="another", storage=storage)
    with pytest.raises(KeyError):
        storage.get_trial(0)
    with pytest.raises(StorageError, match="must exist"):
        to_study(tmp_path / "none.db")


@pytest.mark.integration
def test_the_dashboard_shows_a_history(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    opt = Optimizer(MIXED, storage=tmp_path / "run.db")
    for trial in opt.ask(3):
        opt.tell(trial, bowl(trial.params))
    app = dashboard.wsgi(HistoryStorage(tmp_path / "run.db"))
    for path in ("/dashboard", "/api/studies", "/api/studies/0"):
        status: list[str] = []
        body = app(
            {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": "", "wsgi.errors": sys.stderr},
            lambda found, headers, error=None, seen=status: seen.append(found),
        )
        assert b"".join(body)
        getattr(body, "close", lambda: None)()  # of a file
        assert status[0].startswith("200"), path


def test_the_extra_is_named_where_optuna_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bo_suite.integrations.optuna")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'bo-suite\[optuna\]'"):
        import_module("bo_suite.integrations.optuna")


PROPOSAL = "bo_suite:proposal"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (None, 5, "a proposal"),
        (None, {}, "a proposal"),
        (None, {"params": {}}, "a proposal"),
        ("params", 5, "field params"),
        ("params", {"x": 0.5}, r"field params .*missing \['y'\]"),
        ("params", {"x": 0.5, "y": 0.5, "z": 0.5}, "field params .*unknown"),
        ("params", {"x": 7.0, "y": 0.5}, "field params .*'x'"),
        ("params", {"x": "os:system", "y": 0.5}, "field params .*'x'"),
        ("space", 5, "field space"),
        ("provenance", [], "field provenance"),
        ("provenance", {"hyperparameters": "abc", "observations": 7}, "field hyperparameters"),
        ("provenance", {"hyperparameters": [1.0, None], "observations": 7}, "field hyperparameters"),
        ("provenance", {"hyperparameters": [1e400], "observations": 7}, "field hyperparameters"),
        ("provenance", {"hyperparameters": [0.0]}, "number of observations"),
        ("provenance", {"hyperparameters": [0.0], "observations": "7"}, "number of observations"),
        ("provenance", {"success": [0.0, "a"], "observations": 7}, "field success"),
        ("provenance", {"success": [0.0], "observations": 7}, "number of failures"),
    ],
)
def test_a_stored_proposal_that_does_not_fit_is_an_error(field: str | None, value: Any, message: str) -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=PLANE, seed=0))
    study.optimize(on_plane, 2)
    stored = study.trials[1].system_attrs[PROPOSAL]
    form = value if field is None else {**stored, field: value}
    attributes = study._storage._get_trial(study.trials[1]._trial_id).system_attrs
    attributes[PROPOSAL] = form
    with pytest.raises(StorageError, match=f"trial 1, {PROPOSAL}.*{message}"):
        study.ask()
    attributes[PROPOSAL] = stored
    assert study.ask()
