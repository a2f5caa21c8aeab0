"""Conditional parameters of Optuna's studies: what trials show, and what BoSuiteSampler makes of it."""

import math
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition.default import default_acquisition
from bo_suite.study.suggest import Suggester

optuna = pytest.importorskip("optuna")

from optuna.distributions import FloatDistribution, IntDistribution  # noqa: E402
from optuna.samplers import PartialFixedSampler, RandomSampler  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna  # noqa: E402
from bo_suite.integrations.optuna_cache import StudyCache  # noqa: E402
from bo_suite.integrations.optuna_tree import Tree  # noqa: E402
from bo_suite.integrations.optuna_trials import to_distribution, to_translation, to_trials  # noqa: E402
from bo_suite.integrations.optuna_view import to_study  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)

MODELS = Space(
    {
        "C": Float(1e-2, 1e2, log=True, when={"kind": "svm"}),
        "degree": Int(2, 5, when={"kernel": "poly"}),
        "gamma": Float(1e-3, 1.0, log=True, when={"kernel": ["poly", "rbf"]}),
        "kernel": Choice(["linear", "poly", "rbf"], when={"kind": "svm"}),
        "kind": Choice(["svm", "mlp"]),
        "layers": Int(1, 3, when={"kind": "mlp"}),
        "units_0": Int(4, 64, when={"kind": "mlp"}),
        "units_1": Int(4, 64, when={"layers": (2, 3)}),
        "units_2": Int(4, 64, when={"layers": (3, 3)}),
    }
)


def models(trial: Any) -> float:
    if trial.suggest_categorical("kind", ["svm", "mlp"]) == "mlp":
        layers = trial.suggest_int("layers", 1, 3)
        return 1.0 + sum(abs(trial.suggest_int(f"units_{layer}", 4, 64) - 20) / 60 for layer in range(layers))
    loss = abs(math.log10(trial.suggest_float("C", 1e-2, 1e2, log=True)) - 1)
    kernel = trial.suggest_categorical("kernel", ["linear", "poly", "rbf"])
    if kernel == "poly":
        loss += abs(trial.suggest_int("degree", 2, 5) - 3) - 0.5
    if kernel != "linear":
        loss += abs(math.log10(trial.suggest_float("gamma", 1e-3, 1.0, log=True)) + 2) - 0.4
    return float(loss)


def studied(objective: Any, count: int, sampler: Any = None) -> Any:
    study = optuna.create_study(sampler=sampler or RandomSampler(seed=0))
    study.optimize(objective, n_trials=count)
    return study


def tree_of(study: Any, trials: Any = None) -> Tree:
    return StudyCache().tree(study.get_trials() if trials is None else trials, BoSuiteSampler()._dimension)


def conditions(tree: Tree) -> dict[str, Any]:
    return {name: when.to_dict() for name, when in tree.when.items()}


def proposal(study: Any, trial: Any) -> dict[str, Any]:
    point: dict[str, Any] = study.trials[trial.number].system_attrs["bo_suite:proposal"]["params"]
    return point


def test_the_tree_of_an_objective_is_that_of_the_space_with_the_same_conditions() -> None:
    tree = tree_of(studied(models, 40))
    assert list(tree.distributions) == list(MODELS.names)
    assert conditions(tree) == {name: p.to_dict()["when"] for name, p in MODELS if p.when is not None}


def test_a_tree_does_not_depend_on_the_order_or_on_when_trials_were_seen() -> None:
    study, cache, sampler = studied(models, 30), StudyCache(), BoSuiteSampler()
    trials = study.get_trials()
    for count in range(len(trials)):
        grown = cache.tree(trials[:count], sampler._dimension)
        assert grown == tree_of(study, trials[:count])
    assert tree_of(study, random.Random(0).sample(trials, 30)) == tree_of(study)


@pytest.mark.parametrize(
    ("rule", "when"),
    [
        (lambda p: p["n"] in (3, 4), {"n": {"low": 3, "high": 4}}),
        (lambda p: p["a"] != "u", {"a": ["v", "w"]}),
        (lambda p: p["flag"] and p["a"] == "w", {"a": ["w"], "flag": [True]}),
        (lambda p: p["flag"] or p["a"] == "w", None),
        (lambda p: int(1e6 * p["x"]) % 2 == 0, None),
    ],
    ids=["interval", "values", "both", "either", "chance"],
)
def test_what_others_explain(rule: Any, when: Any) -> None:
    def objective(trial: Any) -> float:
        params = {
            "a": trial.suggest_categorical("a", ["u", "v", "w"]),
            "flag": trial.suggest_categorical("flag", [False, True]),
            "n": trial.suggest_int("n", 1, 6),
            "x": trial.suggest_float("x", 0.0, 1.0),
        }
        return float(trial.suggest_float("child", 0.0, 1.0)) if rule(params) else 0.0

    tree = tree_of(studied(objective, 60))
    assert conditions(tree) == ({} if when is None else {"child": when})
    assert ("child" in tree.distributions) == (when is not None)


def test_a_threshold_of_a_real_number_is_found_between_trials_once_there_are_enough() -> None:
    def objective(trial: Any) -> float:
        rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
        return float(trial.suggest_float("momentum", 0.0, 1.0)) if rate > 0.01 else 0.0

    study = studied(objective, 30)
    assert "momentum" not in tree_of(study, study.get_trials()[:5]).distributions
    rates = [(trial.params["rate"], "momentum" in trial.params) for trial in study.get_trials()]
    below, above = max(r for r, has in rates if not has), min(r for r, has in rates if has)
    low, high = tree_of(study).when["momentum"]["rate"]
    assert low == pytest.approx(math.sqrt(below * above), rel=1e-6)
    assert high == 1.0


def test_a_trial_that_contradicts_the_tree_changes_it() -> None:
    study = studied(models, 40)
    rbf = {"kind": "svm", "kernel": "rbf", "C": 1.0, "gamma": 0.1, "degree": 3}
    distributions: dict[str, Any] = {}
    for trial in study.get_trials():
        distributions |= trial.distributions
    study.add_trial(create_trial(params=rbf, distributions={n: distributions[n] for n in rbf}, value=0.0))
    assert "degree" not in tree_of(study).distributions  # it occurs in some trials with "rbf" alone
    narrow = IntDistribution(2, 3)
    study.add_trial(create_trial(params={"degree": 3}, distributions={"degree": narrow}, value=0.0))
    assert not tree_of(study).distributions  # a trial without the others


def test_suggestions_are_those_of_an_optimizer_over_the_conditional_space() -> None:
    study, opt = optuna.create_study(sampler=BoSuiteSampler(seed=3)), Optimizer(MODELS, seed=3)
    study.add_trials(studied(models, 30).get_trials())
    for trial in study.get_trials():
        opt.add(trial.params, trial.value)
    for _ in range(2):
        ours, theirs = opt.ask(), study.ask()
        value = models(theirs)
        assert theirs.params == ours.params
        opt.tell(ours, value)
        study.tell(theirs, value)


def test_conditions_of_a_given_space_hold_from_the_first_trial() -> None:
    space = Space(
        {
            "pace": Int(10, 50, step=10),
            "size": Float(1.0, 16.0, step=3.0),
            "kind": Choice(["a", 1]),
            "one": Choice(["only"]),
            "x": Float(0.0, 1.0, when={"pace": (15, 45), "kind": "a"}),
            "y": Float(0.0, 1.0, when={"size": (2, 10), "one": "only"}),
            "z": Float(0.0, 1.0, when={"x": (0.5, 1.0)}),
            "w": Float(0.0, 1.0, when={"pace": [10, 50], "size": [1.0, 16.0]}),
        }
    )
    study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=2))
    opt, distributions = Optimizer(space, seed=2), {n: to_distribution(p) for n, p in space}
    for number in range(7):
        ours, theirs = opt.ask(), study.ask()
        params = {name: theirs._suggest(name, distributions[name]) for name in ours.params}
        assert params == ours.params
        opt.tell(ours, float(number % 5))
        study.tell(theirs, float(number % 5))
    logarithmic = Space({"size": Float(1, 16, log=True, step=3), "y": Float(0, 1, when={"size": (2, 11)})})
    sampler = BoSuiteSampler(search_space=logarithmic)  # whose values are categories of Optuna
    assert conditions(sampler._tree(study)) == {"y": {"size": [4.0, 7.0, 10.0]}}


def test_a_study_from_nothing_learns_its_conditions_and_finds_the_best_branch() -> None:
    def objective(trial: Any) -> float:
        if trial.suggest_categorical("kind", ["good", "bad"]) == "bad":
            return 1.0 + float(trial.suggest_float("b", 0.0, 1.0))
        return (float(trial.suggest_float("a", 0.0, 1.0)) - 0.7) ** 2

    study = studied(objective, 14, BoSuiteSampler(seed=0))
    assert study.best_value < 1e-3
    assert all(proposal(study, trial) == trial.params for trial in study.get_trials()[6:])


def test_parameters_without_a_trial_in_common_are_each_searched() -> None:
    def objective(trial: Any) -> float:
        name = "xy"[trial.number % 2]
        return abs(float(trial.suggest_float(name, 0.0, 1.0)) - {"x": 0.3, "y": 0.8}[name])

    study = studied(objective, 10)
    study.sampler = BoSuiteSampler(seed=0)
    study.optimize(objective, n_trials=6)
    for name, best in {"x": 0.3, "y": 0.8}.items():
        assert any(abs(t.params[name] - best) < 0.03 for t in study.get_trials()[10:] if name in t.params)


def test_a_parameter_that_was_added_to_the_objective_is_searched_given_the_others() -> None:
    def wider(trial: Any) -> float:
        x = float(trial.suggest_float("x", 0.0, 1.0))
        return (trial.suggest_float("y", 0.0, 1.0) - x) ** 2

    study = studied(lambda trial: trial.suggest_float("x", 0.0, 1.0), 5)
    study.optimize(wider, n_trials=12)
    study.sampler = BoSuiteSampler(seed=0)
    known = to_trials(study.get_trials(), to_translation(study.trials[-1].distributions), study)
    assert len(known) == 12
    study.enqueue_trial({"x": 0.15})
    study.optimize(wider, n_trials=1)
    suggester = Suggester(Space({"x": Float(0, 1), "y": Float(0, 1)}), default_acquisition(frozenset(), 1))
    (expected,) = suggester.suggest(known, number=17, fixed={"x": 0.15})
    assert study.trials[-1].params == expected.params


def test_what_is_enqueued_or_fixed_counts_where_it_is_active() -> None:
    study = optuna.create_study(sampler=BoSuiteSampler(seed=0))
    study.add_trials(studied(models, 30).get_trials())
    for fixed in (
        {"kind": "svm", "kernel": "poly", "degree": 5},
        {"kind": "mlp", "degree": 5},
        {"degree": 5},
    ):
        study.enqueue_trial(fixed)
        trial = study.ask()
        point = MODELS.check(proposal(study, trial))
        assert {name: point.get(name) for name in fixed if name != "degree"}.items() <= fixed.items()
        study.tell(trial, models(trial))
    assert study.trials[30].params["degree"] == 5
    whole = {"kind": "svm", "kernel": "linear", "C": 1.0}
    study.enqueue_trial(whole)
    trial = study.ask()
    assert "bo_suite:proposal" not in study.trials[-1].system_attrs  # nothing is left to choose
    study.tell(trial, models(trial))
    assert trial.params == whole
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.sampler = PartialFixedSampler({"kind": "mlp", "C": 1.0}, study.sampler)
    for _ in range(2):
        trial = study.ask()
        point = proposal(study, trial)
        study.tell(trial, models(trial))
        assert trial.params == point
        assert trial.params["kind"] == "mlp"


def test_running_trials_are_pending_with_the_whole_point_and_failed_ones_are_known() -> None:
    sampler = BoSuiteSampler(seed=0)
    study = optuna.create_study(sampler=sampler)
    study.add_trials(studied(models, 30).get_trials())
    running = [study.ask() for _ in range(3)]
    points = [proposal(study, trial) for trial in running]
    assert len({str(point) for point in points}) == 3
    study.tell(running[0], state=TrialState.FAIL)
    tree = sampler._tree(study)
    translation = sampler._translation(tree.distributions, tree)
    trials, _ = sampler._other_trials(study, study.ask()._cached_frozen_trial, translation)
    assert [trial.params for trial in trials[30:]] == points
    assert [trial.state for trial in trials[30:]] == ["failed", "running", "running"]


def test_a_finite_conditional_space_is_searched_once_and_then_repeated() -> None:
    def objective(trial: Any) -> float:
        if trial.suggest_categorical("a", [False, True]):
            return float(trial.suggest_int("n", 1, 3))
        return float(trial.suggest_categorical("b", [4, 5]))

    study = studied(objective, 10, BoSuiteSampler(seed=0))
    assert len({str(trial.params) for trial in study.get_trials()}) == 5
    study.enqueue_trial({"a": False})
    trial = study.ask()
    assert set(proposal(study, trial)) == {"a", "b"}


def test_an_optimizer_takes_conditions_over_in_its_own_values() -> None:
    def objective(trial: Any) -> float:
        pace = trial.suggest_int("pace", 10, 50, step=10)
        value = trial.suggest_float("share", 0.0, 1.0) if pace >= 30 else 0.0
        objects = trial.suggest_categorical("kind", [1, "1"])
        return float(value + (trial.suggest_float("w", 0.0, 1.0) if objects == "1" else 0.0))

    study = studied(objective, 30)
    opt = from_optuna(study)
    assert opt.space == Space(
        {
            "kind": Choice([1, "1"]),
            "pace": Int(10, 50, step=10),
            "share": Float(0.0, 1.0, when={"pace": (30, 50)}),
            "w": Float(0.0, 1.0, when={"kind": "1"}),
        }
    )
    assert [trial.params for trial in opt.trials] == [dict(sorted(t.params.items())) for t in study.trials]
    assert from_optuna(studied(models, 40)).space == MODELS


def test_a_conditional_history_opens_as_a_study_after_its_space_has_changed(tmp_path: Path) -> None:
    with closing(Optimizer(MODELS, seed=0, storage=tmp_path / "run.db")) as opt:
        points = [opt.ask().params for _ in range(4)]
        opt.extend(Space({**dict(MODELS), "units_0": Int(4, 128, when={"kind": "mlp"})}))
    study = to_study(tmp_path / "run.db")
    assert [trial.params for trial in study.get_trials()] == points
    assert all(trial.distributions.keys() == trial.params.keys() for trial in study.get_trials())


@pytest.mark.parametrize(
    ("space", "law"),
    [
        (Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x + y <= 1"]), r"constraints .*got \['x \+ y <= 1'\]"),
        (Space({"x": Float(0, 1)}, candidates={"x": [0.5]}), "no candidates, got a Space with <1 row>"),
        (Space({"s": Choice(["a", "b"], descriptors={"p": [1, 2]})}), r"no descriptors .* those of \['s'\]"),
    ],
)
def test_what_a_study_does_not_have_is_refused_by_a_sampler(space: Space, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        BoSuiteSampler(search_space=space)


def test_distributions_of_one_value_are_no_part_of_a_tree() -> None:
    def objective(trial: Any) -> float:
        trial.suggest_categorical("one", ["only"])
        x = float(trial.suggest_float("x", 0.0, 1.0))
        return x + (trial.suggest_int("two", 3, 3) if trial.number % 2 else 0)

    assert tree_of(studied(objective, 6)) == Tree({"x": FloatDistribution(0.0, 1.0)})
