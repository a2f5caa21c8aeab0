"""What Optuna allows as distributions, categories and fixed values: nothing of it ends a study."""

import math
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.samplers import PartialFixedSampler, RandomSampler  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna  # noqa: E402
from bo_suite.integrations.optuna_space import dimension_of, nearest  # noqa: E402
from bo_suite.integrations.optuna_trials import to_translation, to_trials  # noqa: E402

PLANE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield
    optuna.logging.set_verbosity(before)


def study_of(storage: Any = None, **options: Any) -> Any:
    return optuna.create_study(sampler=BoSuiteSampler(seed=0, **options), storage=storage)


def learnt(study: Any) -> list[Any]:
    """Trials as the sampler would have them for the next one."""
    trials = study.get_trials(deepcopy=False)
    space = study.sampler.infer_relative_search_space(study, trials[-1])
    return to_trials(trials, to_translation(space), study)


class Thing:
    def __init__(self, size: int) -> None:
        self.size = size


class Sour:
    """Hashes and compares with an error, but for itself."""

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        raise RuntimeError("no comparison")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


NAN = float("nan")
THINGS = [Thing(1), Thing(2), Thing(3)]

CATEGORIES: dict[str, Any] = {
    "nan": lambda: [float("nan"), 1.0, 2.0],
    "nan of numpy": lambda: [np.float32("nan"), np.float64(1.0), None],
    "infinities": lambda: [float("nan"), math.inf, -math.inf],
    "True and 1": lambda: [True, 1, "1"],
    "1 and 1.0": lambda: [1, 1.0, True],
    "0, False, None and text": lambda: [0, False, None, "None", ""],
    "scalars of numpy": lambda: [np.int64(3), np.float64(0.5), np.bool_(True)],
    "tuples": lambda: [(64,), (64, 64), ()],
    "lists": lambda: [[64], [64, 64], []],
    "dicts": lambda: [{"a": 1}, {"a": 2}, {}],
    "things": lambda: THINGS,
    "twice the same": lambda: ["a", "a", "b"],
}


@pytest.mark.parametrize("given", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CATEGORIES)
def test_every_trial_of_odd_categories_is_learnt_as_what_was_proposed(name: str, given: bool) -> None:
    options = {"search_space": {"x": PLANE["x"], "c": CategoricalDistribution(CATEGORIES[name]())}}
    study, returned = study_of(**(options if given else {})), []

    def objective(trial: Any) -> float:
        x, value = trial.suggest_float("x", 0.0, 1.0), trial.suggest_categorical("c", CATEGORIES[name]())
        returned.append(value)
        return float((x - 0.3) ** 2)

    study.optimize(objective, n_trials=7)
    trials = learnt(study)
    assert [trial.state for trial in trials] == ["finished"] * 7
    places = to_translation({"c": CategoricalDistribution(CATEGORIES[name]())}).dimensions["c"]
    for trial, value in list(zip(trials, returned, strict=True))[1:]:
        if "number" in trial.provenance and name != "twice the same":
            assert trial.params["c"] == places.ours(value)
            assert type(places.theirs(trial.params["c"])) is type(value)
    assert len({repr(value) for value in returned}) >= 2


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.slow), "journal"])
@pytest.mark.parametrize("name", ["nan", "infinities", "True and 1", "1 and 1.0", "0, False, None and text"])
def test_odd_categories_come_back_from_a_file(name: str, kind: str, tmp_path: Path) -> None:
    def storage() -> Any:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'study.db'}"
        journal = optuna.storages.journal
        return optuna.storages.JournalStorage(journal.JournalFileBackend(str(tmp_path / "journal.log")))

    def objective(trial: Any) -> float:
        trial.suggest_categorical("c", CATEGORIES[name]())
        return float(trial.suggest_float("x", 0.0, 1.0))

    optuna.create_study(storage=storage(), study_name="s", sampler=BoSuiteSampler(seed=0)).optimize(
        objective, 3
    )
    study = optuna.load_study(storage=storage(), study_name="s", sampler=BoSuiteSampler(seed=0))
    study.optimize(objective, 2)
    assert len(learnt(study)) == 5


@pytest.mark.parametrize("name", CATEGORIES)
def test_a_category_is_found_by_itself_its_type_or_its_value(name: str) -> None:
    options = CATEGORIES[name]()
    dimension = dimension_of(CategoricalDistribution(options))
    for place, option in enumerate(options):
        found = dimension.theirs(dimension.ours(option))
        assert found is option or (found == option and type(found) is type(option))
        if name not in ("twice the same", "things"):
            assert dimension.ours(options[place]) == dimension.ours(CATEGORIES[name]()[place])
    with pytest.raises(ValueError, match="must be one of"):
        dimension.parameter.check(dimension.ours("elsewhere"))


def test_objects_that_refuse_to_be_compared_are_known_by_themselves() -> None:
    options = [Sour(), Sour()]
    dimension = dimension_of(CategoricalDistribution(options))
    assert [dimension.ours(option) for option in options] == [0, 1]
    with pytest.raises(ValueError, match="must be one of"):
        dimension.ours(Sour())


DISTRIBUTIONS: dict[str, Any] = {
    "int to 2**63": IntDistribution(0, 2**63 - 1),
    "int beyond 2**53": IntDistribution(0, 2**53 + 1),
    "int of both signs": IntDistribution(-(2**62), 2**62),
    "int far from 0": IntDistribution(2**60, 2**60 + 4096),
    "int beyond floats": IntDistribution(0, 10**400),
    "int with a step": IntDistribution(0, 2**62 - 1, step=3),
    "int with a step and few": IntDistribution(2**62, 2**62 + 2**40, step=2**20),
    "int with a step of 4": IntDistribution(1, 13, step=4),
    "log int": IntDistribution(1, 10**15, log=True),
    "log int to 2**63": IntDistribution(3, 2**63 - 1, log=True),
    "float that overflows": FloatDistribution(-1e308, 1e308),
    "float to the largest": FloatDistribution(0.0, sys.float_info.max),
    "float to infinity": FloatDistribution(0.0, math.inf),
    "subnormal float": FloatDistribution(0.0, 1e-320),
    "two floats": FloatDistribution(0.0, 5e-324),
    "narrow float": FloatDistribution(1.0, 1.0 + 1e-15),
    "narrow log float": FloatDistribution(1.0, 1.0 + 1e-9, log=True),
    "log float from the least": FloatDistribution(5e-324, 1.0, log=True),
    "wide log float": FloatDistribution(1e-300, 1e300, log=True),
    "fine step": FloatDistribution(0.0, 1.0, step=1e-18),
    "step of 1e-12": FloatDistribution(0.0, 1.0, step=1e-12),
    "step finer than floats": FloatDistribution(1e6, 1e6 + 1.0, step=1e-9),
    "step that overflows": FloatDistribution(-1e308, 1e308, step=1e300),
    "one value": FloatDistribution(2.0, 2.0),
    "one integer": IntDistribution(2**63, 2**63),
    "one category": CategoricalDistribution([float("nan")]),
}

RANDOM = {"narrow float", "narrow log float", "step that overflows"}
"""Those that are drawn at random."""


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_distribution_ends_a_study_and_the_others_are_searched(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    space, study = {"x": PLANE["x"], "v": DISTRIBUTIONS[name]}, study_of()
    for _ in range(7):
        trial = study.ask(space)
        study.tell(trial, (trial.params["x"] - 0.3) ** 2)
    found, values = learnt(study), [trial.params["v"] for trial in study.trials]
    assert [trial.state for trial in found] == ["finished"] * 7
    assert found[-1].provenance["source"] == "acquisition"
    alone = DISTRIBUTIONS[name].single()
    assert set(found[0].params) == ({"x"} if alone or name in RANDOM else {"x", "v"})
    said = [record.message for record in caplog.records if "cannot be searched" in record.message]
    assert len(said) == (name in RANDOM)
    assert alone or len(set(values)) > 1
    if isinstance(DISTRIBUTIONS[name], FloatDistribution):
        assert all(DISTRIBUTIONS[name].low <= value <= DISTRIBUTIONS[name].high for value in values)


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if not DISTRIBUTIONS[name].single()])
def test_values_of_a_dimension_are_those_of_its_distribution(name: str) -> None:
    distribution = DISTRIBUTIONS[name]
    if name in RANDOM:
        with pytest.raises(ValueError, match="must"):
            dimension_of(distribution)
        return
    dimension = dimension_of(distribution)
    for unit in (0.0, 1e-9, 0.123456789, 0.5, 0.987654321, 1.0):
        ours = dimension.parameter.decode(unit)
        theirs = dimension.theirs(ours)
        assert distribution.low <= theirs <= distribution.high
        assert isinstance(theirs, int if isinstance(distribution, IntDistribution) else float)
        again = dimension.parameter.check(dimension.ours(theirs))
        assert dimension.parameter.encode(again) == pytest.approx(unit, abs=0.6 if "two" in name else 0.3)
        kept = distribution.to_external_repr(distribution.to_internal_repr(theirs))
        dimension.parameter.check(dimension.ours(kept))  # as it comes back from Optuna


def test_a_name_that_no_space_of_ours_takes_is_drawn_at_random(caplog: pytest.LogCaptureFixture) -> None:
    space, study = {"x": PLANE["x"], "": CategoricalDistribution(["a", "b"])}, study_of()
    for _ in range(4):
        study.tell(study.ask(space), 0.0)
    assert [set(trial.params) for trial in learnt(study)] == [{"x"}] * 4
    assert {trial.params[""] for trial in study.trials} <= {"a", "b"}
    assert sum("a parameter's name must be" in record.message for record in caplog.records) == 1


@pytest.mark.slow
def test_an_optimum_at_a_huge_integer_is_found() -> None:
    study = study_of()
    study.optimize(lambda trial: abs(trial.suggest_int("n", 0, 2**63 - 1) / 2**63 - 0.7), n_trials=14)
    assert study.best_value < 0.02
    assert all(isinstance(trial.params["n"], int) for trial in study.trials)


def test_steps_are_the_floats_of_the_decimal_sums() -> None:
    dimension = dimension_of(FloatDistribution(-0.3, 0.3, step=0.1))
    assert [dimension.theirs(place) for place in range(7)] == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    for bad in (0.05, "0.1", None):
        with pytest.raises(ValueError, match="the value must be"):
            dimension.ours(bad)


# Fixed values.


def ridge(trial: Any) -> float:
    x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
    return float((y - 0.2 - 0.6 * x) ** 2)


@pytest.mark.parametrize("how", ["enqueued", "partial", "inner of two", "hyperband"])
def test_the_rest_of_a_point_is_chosen_for_what_is_fixed(how: str) -> None:
    sampler, gaps = BoSuiteSampler(seed=0), []
    pruner = optuna.pruners.HyperbandPruner() if how == "hyperband" else None
    study = optuna.create_study(sampler=RandomSampler(seed=0), pruner=pruner)
    study.optimize(ridge, n_trials=16)
    study.sampler = sampler
    for x in (0.1, 0.5, 0.9):
        if how in ("enqueued", "hyperband"):
            study.enqueue_trial({"x": x, "elsewhere": 3})
        elif how == "partial":
            study.sampler = PartialFixedSampler({"x": x, "elsewhere": 3}, sampler)
        else:
            study.sampler = PartialFixedSampler({"x": x}, PartialFixedSampler({"x": 0.33}, sampler))
        study.optimize(ridge, n_trials=1)
        study.sampler = sampler
        params = study.trials[-1].params
        assert params["x"] == x
        gaps.append(abs(params["y"] - 0.2 - 0.6 * x))
    assert float(np.median(gaps)) < 0.1  # 0.27 at random


@pytest.mark.parametrize("how", ["enqueued", "partial"])
def test_the_fixed_values_are_known_to_others_before_the_objective_starts(how: str) -> None:
    sampler = BoSuiteSampler(search_space=PLANE, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(ridge, n_trials=6)
    if how == "enqueued":
        study.enqueue_trial({"x": 0.25})
    else:
        study.sampler = PartialFixedSampler({"x": 0.25}, sampler)
    asked = study.ask()
    study.sampler = sampler
    (pending,) = [trial for trial in learnt(study) if trial.state == "running"]
    assert pending.params["x"] == 0.25
    if how == "partial":
        study.sampler = PartialFixedSampler({"x": 0.25}, sampler)
    ridge(asked)
    assert asked.params == pending.params


def test_a_trial_that_is_fixed_as_a_whole_is_not_proposed_for() -> None:
    sampler = BoSuiteSampler(search_space=PLANE, seed=0)
    study = optuna.create_study(sampler=PartialFixedSampler({"x": 0.25, "y": 0.75}, sampler))
    study.optimize(ridge, n_trials=3)
    assert [trial.params for trial in study.trials] == [{"x": 0.25, "y": 0.75}] * 3
    assert not any("bo_suite:proposal" in trial.system_attrs for trial in study.trials)


@pytest.mark.parametrize(("value", "taken"), [(5.0, 1.0), (-5.0, 0.0), (7, 1.0)])
def test_a_fixed_value_out_of_range_counts_as_the_nearest(
    value: float, taken: float, caplog: pytest.LogCaptureFixture
) -> None:
    study = study_of(search_space=PLANE)
    study.optimize(ridge, n_trials=6)
    study.enqueue_trial({"x": value})
    asked = study.ask()
    (pending,) = [trial for trial in learnt(study) if trial.state == "running"]
    assert pending.params["x"] == taken
    assert asked.suggest_float("x", 0.0, 1.0) == value, "as Optuna has it"
    assert asked.suggest_float("y", 0.0, 1.0) == pending.params["y"]
    study.tell(asked, 1.0)
    for _ in range(2):
        study.ask()
    said = [record.message for record in caplog.records]
    assert sum("fixed values of ['x'] are out of range" in text for text in said) == 1
    assert sum("1 of 7 trials have no point in the space" in text for text in said) == 1
    assert study.trials[-1].system_attrs["bo_suite:proposal"]["provenance"]["left_out"] == 1


@pytest.mark.parametrize(
    ("distribution", "value", "found"),
    [
        (FloatDistribution(0.0, 1.0, step=0.25), 0.3, 0.25),
        (FloatDistribution(0.0, 1.0, step=0.25), 9, 1.0),
        (IntDistribution(0, 9, step=3), 4, 3),
        (IntDistribution(1, 9), 2.6, 3),
        (IntDistribution(0, 2**63 - 1), 2**70, 2**63 - 1),
        (CategoricalDistribution(["a", "b"]), "c", "c"),
    ],
)
def test_the_nearest_value_of_a_distribution(distribution: Any, value: Any, found: Any) -> None:
    assert nearest(distribution, value) == found


def test_a_finite_space_whose_points_are_taken_keeps_what_is_fixed() -> None:
    space = {"a": CategoricalDistribution(["u", "v"]), "b": CategoricalDistribution([float("nan"), 1])}
    study = study_of(search_space=space)
    for _ in range(3):
        study.enqueue_trial({"b": 1})
    for _ in range(3):
        study.tell(study.ask(space), 0.0)
    assert [trial.params["b"] for trial in study.trials] == [1, 1, 1]
    assert {trial.params["a"] for trial in study.trials[:2]} == {"u", "v"}


# What is left out.


def test_trials_that_nothing_is_learnt_from_are_counted_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = study_of(search_space={"x": FloatDistribution(0.0, 0.5), "y": PLANE["y"]})
    for x in (0.1, 0.3, 0.7, 0.9):
        study.add_trial(create_trial(params={"x": x, "y": x}, distributions=PLANE, value=x))
    study.add_trial(create_trial(state=TrialState.FAIL))
    for _ in range(2):
        study.tell(study.ask({"x": FloatDistribution(0.0, 0.5), "y": PLANE["y"]}), 1.0)
    (said,) = [record.message for record in caplog.records if "have no point" in record.message]
    assert "3 of 5 trials have no point in the space that is searched, such as trial 2: " in said
    assert "'x': `0.0 <= value <= 0.5` must hold, got 0.7" in said
    proposals = [trial.system_attrs["bo_suite:proposal"]["provenance"] for trial in study.trials[5:]]
    assert [provenance["left_out"] for provenance in proposals] == [3, 3]


def test_what_an_optimizer_does_not_take_over_of_a_study_is_said(caplog: pytest.LogCaptureFixture) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))

    def objective(trial: Any) -> float:
        kind = trial.suggest_categorical("kind", ["a", "b"])
        x = trial.suggest_float(f"x_{kind}", 0.0, 1.0) + trial.suggest_float("w", 0.0, 1.0 + trial.number)
        return x + trial.suggest_int("one", 3, 3)

    study.optimize(objective, n_trials=10)
    study.add_trial(create_trial(state=TrialState.FAIL))
    study.ask()
    opt = from_optuna(study)
    assert (list(opt.space.parameters), len(opt.trials)) == (["kind", "x_a", "x_b"], 10)
    (said,) = [record.message for record in caplog.records if "left out of the study" in record.message]
    assert "parameters ['w'], whose range has changed" in said
    assert "of a single value, {'one': 3}" in said
    assert "1 of 12 trials have no point" in said
    assert "1 trials that have not ended" in said
    caplog.clear()
    whole = optuna.create_study(sampler=RandomSampler(seed=0))
    whole.optimize(ridge, n_trials=3)
    assert len(from_optuna(whole).trials) == 3
    assert "left out" not in caplog.text


def test_a_range_that_no_parameter_of_ours_has_is_refused_by_name() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_int("n", 0, 2**60), n_trials=2)
    with pytest.raises(ValueError, match="'n' must be a Float or an Int within"):
        from_optuna(study)
