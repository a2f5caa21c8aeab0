"""Ray Tune's contract with a searcher, without a cluster; runs on one are in test_ray_tune_runs.py."""

import json
import math
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB

from bo_suite import Choice, Float, Int, Space
from bo_suite.acquisition import Bore, UpperConfidenceBound
from bo_suite.classifiers import SklearnClassifier
from bo_suite.errors import StorageError
from bo_suite.storage.content import digest

try:
    from ray import cloudpickle, tune
    from ray._private.dict import flatten_dict
    from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

    from bo_suite.integrations.ray_space import by_name, nested, translated
    from bo_suite.integrations.ray_tune import BoSuiteSearch
except ImportError:
    tune = None

SPACE = Space({"x": Float(-1, 2), "n": Int(1, 9)})


@dataclass
class Held:
    """An object of a user, with something in it."""

    inner: Any


@pytest.fixture(autouse=True)
def ray_is_there(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("integration") and tune is None:
        pytest.skip("needs ray[tune], which `pip install 'bo-suite[ray]'` brings")


def search_of(space: Any = SPACE, **options: Any) -> "BoSuiteSearch":
    return BoSuiteSearch(space, **{"metric": "loss", "mode": "min"} | options)


def values_of(domain: Any) -> list[Any]:
    """All that is suggested until nothing is left."""
    search, found = search_of({"v": domain}), []
    while (config := search.suggest(f"t{len(found)}")) != Searcher.FINISHED:
        found.append(config["v"])
        search.on_trial_complete(f"t{len(found) - 1}", {"loss": float(len(found))})
    return found


def states(search: "BoSuiteSearch") -> list[str]:
    return [trial.state for trial in search.optimizer.trials]


def dies(search: "BoSuiteSearch") -> None:
    """Whoever opens the history next finds the owner of its running trials dead."""
    search.optimizer.close()


# Spaces.


@pytest.mark.integration
@pytest.mark.parametrize(
    "domain",
    [
        ("randint", 2, 5),
        ("randint", 3, 4),
        ("lograndint", 1, 5),
        ("qrandint", 2, 11, 3),
        ("qrandint", -4, 4, 4),
        ("qrandint", 2, 5, 1),
        ("qlograndint", 3, 16, 4),
        ("quniform", 0, 1, 0.25),
        ("quniform", 0.1, 0.5, 0.1),
        ("quniform", 0.2, 0.2, 0.1),
        ("qloguniform", 0.5, 2, 0.5),
        ("choice", ["a", 2, None, True, 0.5]),
        ("choice", [(1, 2), (1, 2, 3)]),
    ],
    ids=str,
)
def test_finite_domains_have_the_values_that_ray_draws_from_them(domain: tuple[Any, ...]) -> None:
    name, *bounds = domain
    theirs = getattr(tune, name)(*bounds)
    drawn = [theirs.cast(one) for one in theirs.sample(size=2000, random_state=np.random.default_rng(0))]
    found = values_of(theirs)
    assert len(found) == len(set(found)), "none twice"
    assert set(found) == set(drawn)
    assert {type(value) for value in found} == {type(value) for value in drawn}


@pytest.mark.integration
def test_domains_become_parameters_of_the_same_range_and_scale() -> None:
    space = {
        "u": tune.uniform(-1, 2),
        "l": tune.loguniform(1e-4, 1e-1),
        "i": tune.randint(0, 10),
        "j": tune.lograndint(1, 100),
        "c": tune.choice(["a", "b"]),
        "q": tune.qloguniform(1, 64, 0.5),
    }
    assert search_of(space).optimizer.space == Space(
        {
            "u": Float(-1, 2),
            "l": Float(1e-4, 1e-1, log=True),
            "i": Int(0, 9),
            "j": Int(1, 99, log=True),
            "c": Choice(("a", "b")),
            "q": Int(2, 128, log=True),
        }
    )


@pytest.mark.integration
def test_nested_spaces_are_flat_in_the_history_and_nested_in_configurations() -> None:
    thing = object()
    space = {
        "lr": tune.loguniform(1e-4, 1e-1),
        "net": {"depth": tune.randint(1, 4), "head": {"kind": tune.choice(["a", "b"]), "bias": True}},
        "layers": {1: tune.uniform(0, 1)},
        "data": [1, 2],
        "thing": thing,
        "empty": {},
    }
    search = search_of(space)
    config = search.suggest("a")
    assert config["net"]["depth"] in (1, 2, 3)
    assert config["net"]["head"]["kind"] in ("a", "b")
    assert config["net"]["head"]["bias"] is True
    assert 0 <= config["layers"][1] <= 1
    assert (config["data"], config["thing"], config["empty"]) == ([1, 2], thing, {})
    assert config.keys() == space.keys()
    assert list(search.optimizer.space.parameters) == ["lr", "net/depth", "net/head/kind", "layers/1"]


@pytest.mark.integration
def test_domains_in_the_options_of_a_choice_are_conditional(tmp_path: Path) -> None:
    svm = {"kind": "svm", "C": tune.loguniform(0.1, 10), "seed": tune.randint(0, 9)}
    deep = {"kind": "net", "body": tune.choice([{"depth": tune.randint(1, 4)}, {"width": 3}, "none"])}
    space = {"model": tune.choice([svm, deep, {"seed": tune.randint(0, 9)}, tune.uniform(5, 6), "mean"])}
    translation, paths = translated(space)
    assert translation.space == Space(
        {
            "model": Choice([0, 1, 2, 3, 4]),
            "model/C": Float(0.1, 10, log=True, when={"model": 0}),
            "model/seed": Int(0, 8, when={"model": [0, 2]}),
            "model/body": Choice([0, 1, 2], when={"model": 1}),
            "model/body/depth": Int(1, 3, when={"model/body": 0}),
            "model@3": Float(5, 6, when={"model": 3}),
        }
    )
    assert paths.keys() == set(translation.all_names)
    rows = translation.space.encoding.sample_from_unit(torch.rand(60, 6, dtype=torch.float64))
    kinds = set()
    for params in translation.space.decode(rows):
        config = nested({paths[name]: value for name, value in translation.theirs(params).items()})
        for form in (config, flatten_dict(config)):
            assert translation.ours(by_name(form, paths)) == params
        model = config["model"]
        kinds.add(str(sorted(model)) if isinstance(model, dict) else type(model).__name__)
        if isinstance(model, dict) and "body" in model:
            assert model["body"] in ({"depth": 1}, {"depth": 2}, {"depth": 3}, {"width": 3}, "none")
    assert kinds == {"['C', 'kind', 'seed']", "['body', 'kind']", "['seed']", "float", "str"}
    search = search_of(space)
    assert search.suggest("a").keys() == {"model"}
    search.save(str(tmp_path / "state"))
    with pytest.raises(StorageError, match="lacks the space"):
        BoSuiteSearch().restore(str(tmp_path / "state"))
    search_of(space).restore(str(tmp_path / "state"))


@pytest.mark.integration
def test_points_may_begin_in_an_option_of_a_choice() -> None:
    space = {"m": tune.choice([{"C": tune.uniform(0, 1)}, {"n": tune.randint(1, 9), "k": "net"}]), "x": 2}
    search = search_of(space, points_to_evaluate=[{"m": {"n": 3}}, {"m/C": 0.5}])
    assert search.suggest("a") == {"m": {"n": 3, "k": "net"}, "x": 2}
    assert search.suggest("b") == {"m": {"C": 0.5}, "x": 2}
    with pytest.raises(ValueError, match=r"must be those of one branch, got \{'m/C': 0.5, 'm/n': 3\}"):
        search_of(space, points_to_evaluate=[{"m": {"n": 3, "C": 0.5}}])


@pytest.mark.integration
def test_conditions_and_constraints_of_a_space_of_ours_hold(tmp_path: Path) -> None:
    space = Space(
        {"a/kind": Choice(["u", "v"]), "a/x": Float(0, 1, when={"a/kind": "u"}), "y": Float(0, 1)},
        [lambda p: p["y"] + p.get("a/x", 0.0) <= 1.0],
    )
    search = search_of(space)
    for number in range(6):
        config = search.suggest(f"t{number}")
        assert ("x" in config["a"]) == (config["a"]["kind"] == "u")
        assert config["y"] + config["a"].get("x", 0.0) <= 1.0
        search.on_trial_complete(f"t{number}", {"loss": config["y"]})
    search.save(str(tmp_path / "state"))
    with pytest.raises(StorageError, match="lacks the space"):
        BoSuiteSearch().restore(str(tmp_path / "state"))
    search_of(space).restore(str(tmp_path / "state"))


@pytest.mark.integration
def test_names_of_a_space_of_ours_are_split_at_the_slash() -> None:
    search = search_of(Space({"x": Float(0, 1), "net/depth": Int(1, 3)}))
    assert search.suggest("a").keys() == {"x", "net"}
    assert search.suggest("b")["net"]["depth"] in (1, 2, 3)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("space", "law"),
    [
        (lambda: {"a": {"b": tune.grid_search([1, 2])}}, r"'a/b' must be a domain.*got a grid_search"),
        (lambda: {"a": [tune.grid_search([1, 2])]}, "got a grid_search"),
        (lambda: {"a": tune.sample_from(lambda config: 1)}, "'a'.*got a sample_from"),
        (lambda: {"a": {"eval": "1 + 1"}}, "'a'.*got a sample_from"),
        (lambda: {"a": tune.randn(0, 1)}, "'a'.*got a Normal"),
        (lambda: {"a": tune.qrandn(0, 1, 0.5)}, "'a'.*got a Normal"),
        (lambda: {"a": [tune.uniform(0, 1)]}, "'a': domains must be in dicts"),
        (lambda: {"a": ({"b": tune.uniform(0, 1)},)}, "'a': domains must be in dicts"),
        (lambda: {"a": {tune.uniform(0, 1)}}, "'a': domains must be in dicts"),
        (lambda: {"a": Held(tune.uniform(0, 1))}, "'a': domains must be in dicts"),
        (lambda: {"a": np.array([tune.uniform(0, 1), 2], dtype=object)}, "'a': domains must be in dicts"),
        (lambda: {"a": Float(0, 1)}, "'a': domains must be in dicts, and Ray's, got Float"),
        (lambda: {"a": SPACE}, "'a': domains must be in dicts, and Ray's, got Space"),
        (lambda: {"a": tune.choice([[2, (tune.choice([1, 2]),)]])}, "'a': domains must be in dicts"),
        (lambda: {"a": tune.choice([{"b": tune.grid_search([1, 2])}])}, "'a/b'.*got a grid_search"),
        (lambda: {"a": tune.choice([{"b": tune.sample_from(lambda spec: 1)}])}, "'a/b'.*got a sample_from"),
        (lambda: {"a": tune.choice([{"eval": "1 + 1"}, 2])}, "'a'.*got a sample_from"),
        (lambda: {"a": tune.choice([Int(0, 3), 2])}, "'a': an option of a choice must be a value, a domain"),
        (lambda: {"a": {"b": {"c": tune.choice([Held(tune.uniform(0, 1))])}}}, "'a/b/c': an option"),
        (lambda: {"a": tune.uniform(1, 0)}, "'a': `low <= high` must hold"),
        (lambda: {"a": tune.randint(3, 3)}, "'a': `low <= high` must hold"),
        (lambda: {"a": tune.qrandint(4, 5, 3)}, "'a': `low <= high` must hold"),
        (lambda: {"a": tune.choice([])}, "'a'.*at least one"),
        (lambda: {"a": 1, "b": {"c": 2}}, r"a domain to be searched, got \['a', 'b/c'\] alone"),
        (lambda: {"a/b": tune.uniform(0, 1), "a": {"b": 1}}, "names must differ"),
        (lambda: Space({"a": Float(0, 1), "a/b": Float(0, 1)}), r"start of a nested one, got \['a'\]"),
        (lambda: [tune.uniform(0, 1)], "must be a Space or a dict"),
    ],
)
def test_a_space_that_cannot_be_searched_is_a_value_error(space: Any, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        BoSuiteSearch(space())
    if isinstance(space(), dict):
        with pytest.raises(ValueError, match=law):
            BoSuiteSearch().set_search_properties("loss", "min", space())


# What the Tuner says.


@pytest.mark.integration
def test_the_tuner_may_give_the_space_the_metric_and_the_mode() -> None:
    search = BoSuiteSearch()
    with pytest.raises(RuntimeError, match="no search space has been defined"):
        search.suggest("a")
    config = {"x": tune.uniform(0, 1), "y": 3}
    assert search.set_search_properties("acc", "max", config, num_samples=4) is True
    assert (search.metric, search.mode, search.optimizer.direction) == ("acc", "max", "maximize")
    assert search.suggest("a").keys() == {"x", "y"}
    assert search.set_search_properties("acc", "max", config) is False, "it has a space"


@pytest.mark.integration
def test_a_space_given_twice_is_refused_and_the_metric_taken() -> None:
    search = BoSuiteSearch(SPACE)
    with pytest.raises(RuntimeError, match="have not been set"):
        search.suggest("a")
    assert search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1)}) is False
    assert (search.metric, search.mode) == ("loss", "min")
    assert search.suggest("a").keys() == {"x", "n"}


@pytest.mark.integration
@pytest.mark.parametrize("given", [("acc", "min"), ("loss", "max"), (None, "max")])
def test_a_metric_or_mode_given_twice_must_be_the_same(given: tuple[str | None, str]) -> None:
    search = search_of()
    assert search.set_search_properties("loss", "min", {"y": 3}) is False
    with pytest.raises(ValueError, match=r"the metric and mode were .* before"):
        search.set_search_properties(*given, {"y": 3})


@pytest.mark.integration
def test_without_the_name_of_a_metric_it_is_what_the_trainable_returns() -> None:
    search = BoSuiteSearch(SPACE, mode="min")
    assert search.metric is None, "the Tuner may name it yet"
    search.suggest("a")
    search.on_trial_complete("a", {"_metric": 0.5})
    assert search.optimizer.best.value == 0.5


@pytest.mark.integration
@pytest.mark.parametrize("bad", [{"mode": "minimise"}, {"metric": ["a", "b"]}, {"metric": ""}], ids=str)
def test_a_metric_or_mode_that_is_none_is_a_value_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        search_of(**bad)
    with pytest.raises(ValueError, match="must be"):
        BoSuiteSearch().set_search_properties(
            bad.get("metric"), bad.get("mode", "min"), {"x": tune.uniform(0, 1)}
        )


@pytest.mark.integration
@pytest.mark.parametrize("metrics", [["loss", "latency"], ("loss",), {"loss": "min"}], ids=str)
def test_several_metrics_are_sent_to_minimize(metrics: Any) -> None:
    law = "the metric must be a name, got .*: Ray Tune has one metric, so search for several objectives by"
    with pytest.raises(ValueError, match=law):
        search_of(metric=metrics)


# Suggestions.


@pytest.mark.integration
def test_a_trial_asked_for_twice_has_one_configuration() -> None:
    search = search_of()
    first, second = search.suggest("a"), search.suggest("b")
    assert first != second
    assert search.suggest("a") == first
    search.on_trial_complete("a", {"loss": 1.0})
    assert search.suggest("a") == first
    assert len(search.optimizer.trials) == 2


@pytest.mark.integration
def test_suggestions_come_of_the_seed_and_not_of_global_generators() -> None:
    def run(seed: int) -> list[Any]:
        search, found = search_of(seed=seed), []
        for number in range(8):
            found.append(search.suggest(f"t{number}"))
            search.on_trial_complete(f"t{number}", {"loss": (found[-1]["x"] - 0.3) ** 2})
        return found

    def others() -> tuple[list[int], list[int]]:  # not `random`: the checks of shapes draw from it
        return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = others()
    first = run(0)
    assert others() == before
    assert run(0) == first
    assert run(1) != first


@pytest.mark.integration
def test_no_more_trials_are_suggested_than_may_run_side_by_side() -> None:
    search = search_of()
    assert search.set_max_concurrency(2) is True
    assert search.suggest("a")
    assert search.suggest("b")
    assert search.suggest("c") is None
    assert search.suggest("a"), "one that runs already"
    search.on_trial_complete("b", error=True)
    assert search.suggest("c")
    assert search.suggest("d") is None


@pytest.mark.integration
@pytest.mark.parametrize("batch", [False, True])
def test_rays_own_limiter_hands_its_limit_over_and_results_through_at_once(batch: bool) -> None:
    search = search_of()
    limiter = ConcurrencyLimiter(search, max_concurrent=2, batch=batch)
    assert limiter.suggest("a")
    assert limiter.suggest("b")
    assert limiter.suggest("c") is None
    limiter.on_trial_complete("a", {"loss": 1.0})
    assert states(search) == ["finished", "running"]
    assert limiter.suggest("c")
    copied = cloudpickle.loads(cloudpickle.dumps(limiter))
    assert copied.suggest("d") is None


# Completions.


@pytest.mark.integration
@pytest.mark.parametrize(("mode", "best"), [("min", 1.0), ("max", 3.0)])
def test_the_best_trial_is_that_of_the_mode(mode: str, best: float) -> None:
    search = search_of(mode=mode)
    for name, value in {"a": 2.0, "b": 3.0, "c": 1.0}.items():
        search.suggest(name)
        search.on_trial_complete(name, {"loss": np.float32(value), "other": 7})
    assert search.optimizer.best.value == best


@pytest.mark.integration
def test_a_second_completion_is_ignored_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    search = search_of()
    search.suggest("a")
    search.on_trial_complete("a", {"loss": 1.0})
    before = search.optimizer.trials
    for again in ({"result": {"loss": 2.0}}, {"error": True}, {"result": {"loss": math.nan}}, {}):
        caplog.clear()
        search.on_trial_complete("a", **again)
        assert "a completion of trial a was ignored" in caplog.text
    assert search.optimizer.trials == before


@pytest.mark.integration
@pytest.mark.parametrize(
    ("result", "error", "reason"),
    [
        (None, True, "with an error"),
        ({"loss": 1.0}, True, "with an error"),
        ({"acc": 1.0, "done": True}, False, r"must hold the metric 'loss', got \['acc', 'done'\]"),
        (None, False, r"must hold the metric 'loss', got \[\]"),
        ({"loss": math.nan}, False, "'loss' must be a finite number, got nan"),
        ({"loss": -math.inf}, False, "'loss' must be a finite number, got -inf"),
        ({"loss": "low"}, False, "'loss' must be a finite number, got 'low'"),
        ({"loss": True}, False, "'loss' must be a finite number, got True"),
    ],
)
def test_a_trial_without_a_value_is_taught_as_failed(
    result: Any, error: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    search = search_of()
    search.suggest("a")
    search.on_trial_complete("a", result, error)
    (trial,) = search.optimizer.trials
    assert trial.state == "failed"
    with pytest.raises(ValueError, match=reason):
        raise ValueError(trial.reason)
    assert trial.reason in caplog.text
    assert search.suggest("b"), "the search goes on"


@pytest.mark.integration
def test_a_trial_that_was_stopped_counts_with_the_last_value_it_reported() -> None:
    search = search_of()
    for name in ("a", "b", "c"):
        search.suggest(name)
        search.on_trial_result(name, {"loss": 3.0, "training_iteration": 1})
        search.on_trial_result(name, {"loss": 2.0, "training_iteration": 2})
        search.on_trial_result(name, {"acc": 0.5, "training_iteration": 3})
    search.on_trial_complete("a", {"loss": 1.5, "training_iteration": 4})
    search.on_trial_complete("b", {"acc": 0.6, "training_iteration": 4})
    search.on_trial_complete("c")
    assert [trial.value for trial in search.optimizer.trials] == [1.5, 2.0, 2.0]


@pytest.mark.integration
def test_a_failed_trial_that_ray_runs_again_is_a_new_observation(caplog: pytest.LogCaptureFixture) -> None:
    search = search_of()
    config = search.suggest("a")
    search.on_trial_complete("a", error=True)
    search.on_trial_complete("a", {"loss": 0.5})
    failed, finished = search.optimizer.trials
    assert (failed.state, finished.state, finished.value) == ("failed", "finished", 0.5)
    assert failed.params == finished.params == config
    search.on_trial_complete("a", {"loss": 0.7})
    assert "was ignored" in caplog.text
    assert len(search.optimizer.trials) == 2


@pytest.mark.integration
def test_a_trial_restarted_under_another_name_is_known_by_its_configuration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    search = search_of({"x": tune.uniform(0, 1), "net": {"n": tune.randint(1, 4), "k": 2}})
    result = {"loss": 0.5, "config/x": 0.25, "config/net/n": 3, "config/net/k": 2}
    search.on_trial_complete("new", result)
    search.on_trial_complete("new", result)
    (trial,) = search.optimizer.trials
    assert (trial.params, trial.value) == ({"x": 0.25, "net/n": 3}, 0.5)
    for strange in ({"loss": 1.0}, {"loss": 1.0, "config/x": 7.0, "config/net/n": 3}, None):
        caplog.clear()
        search.on_trial_complete("strange", strange)
        assert "a completion of trial strange was ignored" in caplog.text
    assert len(search.optimizer.trials) == 1


@pytest.mark.integration
def test_points_evaluated_elsewhere_are_observations() -> None:
    search = search_of({"x": tune.uniform(0, 1), "net": {"n": tune.randint(1, 4)}, "k": 2})
    search.add_evaluated_point({"x": 0.1, "net": {"n": 1}, "k": 2}, 1.0)
    search.add_evaluated_point({"x": 0.2, "net/n": 2}, 2.0, pruned=True, intermediate_values=[3.0, 2.0])
    search.add_evaluated_point({"x": 0.3, "net": {"n": 3}}, 3.0, error=True)
    search.add_evaluated_point({"x": 0.4, "net": {"n": 3}}, math.nan)
    trials = search.optimizer.trials
    assert [trial.value for trial in trials] == [1.0, 2.0, None, None]
    assert [trial.params["net/n"] for trial in trials] == [1, 2, 3, 3]
    assert "error" in trials[2].reason
    assert "finite" in trials[3].reason
    for bad, law in (({"x": 0.1}, "missing"), ({"x": 0.1, "net/n": 4}, "net/n.*<= 3")):
        with pytest.raises(ValueError, match=law):
            search.add_evaluated_point(bad, 1.0)


@pytest.mark.integration
@pytest.mark.parametrize(
    "options",
    [
        [{"kind": "a", "size": {"n": 1}}, {"kind": "b", "size": {}}, {"kind": "a"}],
        [(1, 2), (1, 2, 3), [4]],
        [np.float32(0.1), np.int64(3), "a"],
        [math.nan, 1, True],
        [np.array([1, 2]), np.array([3])],
        [None, {1: "a"}, False],
    ],
    ids=str,
)
def test_options_of_any_kind_come_back_from_results_and_evaluated_points(options: list[Any]) -> None:
    search = search_of({"net": {"opt": tune.choice(options)}, "x": tune.uniform(0, 1)})
    for place, option in enumerate(options):
        config = {"net": {"opt": json_like(option)}, "x": 0.1 * (place + 1)}
        search.add_evaluated_point(config, 1.0)
        flat = flatten_dict({"config": {**config, "x": 0.5 + 0.1 * place}, "loss": 2.0})
        search.on_trial_complete(f"new {place}", flat)
    found = [trial.params["net/opt"] for trial in search.optimizer.trials]
    theirs = search._translation.dimensions["net/opt"].theirs
    assert [theirs(one) for one in found[::2]] == [theirs(one) for one in found[1::2]]
    for option, one in zip(options, found[::2], strict=True):
        assert theirs(one) is option or theirs(one) == option


def json_like(value: Any) -> Any:
    """What is left of a value that went through a log of results."""
    if isinstance(value, tuple | list | np.ndarray):
        return [json_like(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


# Points to start from.

NESTED = {"x": ("uniform", 0, 1), "net": {"n": ("randint", 1, 9), "kind": ("choice", ["a", "b"])}, "k": 2}


def nested_space(tree: Any = None) -> Any:
    tree = NESTED if tree is None else tree
    if isinstance(tree, dict):
        return {name: nested_space(one) for name, one in tree.items()}
    return getattr(tune, tree[0])(*tree[1:]) if isinstance(tree, tuple) else tree


@pytest.mark.integration
def test_points_to_evaluate_come_first_whole_or_in_part_nested_or_flat() -> None:
    points = [
        {"x": 0.25, "net": {"n": 3, "kind": "b"}, "k": 2},
        {"net/n": 5},
        {"net": {"kind": "a"}, "x": np.float32(0.5)},
        {},
    ]
    search = search_of(nested_space(), points_to_evaluate=points)
    configs = [search.suggest(f"t{number}") for number in range(5)]
    assert configs[0] == {"x": 0.25, "net": {"n": 3, "kind": "b"}, "k": 2}
    assert configs[1]["net"]["n"] == 5
    assert configs[2] == {"x": 0.5, "net": {"n": configs[2]["net"]["n"], "kind": "a"}, "k": 2}
    assert len({str(config) for config in configs}) == 5
    assert [set(trial.provenance.get("fixed", ())) for trial in search.optimizer.trials] == [
        {"x", "net/n", "net/kind"},
        {"net/n"},
        {"x", "net/kind"},
        set(),
        set(),
    ]


@pytest.mark.integration
def test_the_rest_of_a_point_is_chosen_for_what_is_given() -> None:
    space = Space({"x": Float(0, 1), "y": Float(0, 1)})
    points = [{"x": 0.1}, {"x": 0.5}, {"x": 0.9}]
    search, gaps = search_of(space, points_to_evaluate=points), []
    for x, y in np.random.default_rng(0).random((16, 2)).tolist():
        search.add_evaluated_point({"x": x, "y": y}, (y - 0.2 - 0.6 * x) ** 2)
    for number, point in enumerate(points):
        config = search.suggest(f"t{number}")
        assert config["x"] == point["x"]
        gaps.append(abs(config["y"] - 0.2 - 0.6 * config["x"]))
        search.on_trial_complete(f"t{number}", {"loss": gaps[-1] ** 2})
    assert float(np.median(gaps)) < 0.1  # 0.27 at random


@pytest.mark.integration
def test_the_tuner_may_give_the_space_of_the_points() -> None:
    search = BoSuiteSearch(points_to_evaluate=[{"x": 0.25}])
    assert search.set_search_properties("loss", "min", {"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)})
    assert search.suggest("a")["x"] == 0.25


@pytest.mark.integration
def test_points_with_known_rewards_are_observations_and_not_run(tmp_path: Path) -> None:
    points = [{"x": 0.1, "n": 1}, {"x": 0.2, "n": 2}, {"x": 0.3, "n": 3}]
    for _ in range(2):  # a script that is run again adds nothing
        search = search_of(
            storage=tmp_path / "run.db", points_to_evaluate=points, evaluated_rewards=[1.0, 2, math.nan]
        )
        assert [trial.value for trial in search.optimizer.trials] == [1.0, 2.0, None]
        dies(search)
    assert search_of(storage=tmp_path / "run.db").suggest("a") not in points


@pytest.mark.integration
@pytest.mark.parametrize("how", ["storage", "state", "pickle"])
def test_points_that_were_asked_for_are_not_asked_for_again(how: str, tmp_path: Path) -> None:
    points = [{"x": 0.25, "n": 3}, {"n": 5}, {"n": 5}, {"x": 0.75}]
    options = {"storage": tmp_path / "run.db", "points_to_evaluate": points}
    search = search_of(**options)
    for name in ("a", "b"):
        search.suggest(name)
        search.on_trial_complete(name, {"loss": 1.0})
    if how == "state":
        search.save(str(tmp_path / "state.json"))
        dies(search)
        search = BoSuiteSearch()
        search.restore(str(tmp_path / "state.json"))
    elif how == "pickle":
        data = cloudpickle.dumps(search)
        dies(search)
        search = cloudpickle.loads(data)
        search.suggest("a")
    else:
        dies(search)
        search = search_of(**options)
    assert search.suggest("c")["n"] == 5
    assert search.suggest("d")["x"] == 0.75
    search.suggest("e")
    assert "fixed" not in search.optimizer.trials[-1].provenance


@pytest.mark.integration
def test_a_point_whose_value_is_known_is_left_out_with_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    search = search_of(points_to_evaluate=[{"x": 0.25, "n": 3}, {"x": 0.25, "n": 3}, {"n": 4}])
    assert search.suggest("a") == {"x": 0.25, "n": 3}
    assert search.suggest("b")["n"] == 4
    assert "is skipped:" in caplog.text


@pytest.mark.integration
@pytest.mark.parametrize(
    ("points", "rewards", "law"),
    [
        ({"x": 0.5}, None, "must be a list of configurations"),
        ([0.5], None, "must be a list of configurations"),
        ([{"y": 0.5}], None, r"must have parameters of \['x', 'net/n', 'net/kind', 'k'\], got \['y'\]"),
        ([{"net": {"depth": 3}}], None, r"got \['net/depth'\]"),
        ([{"x": 1.5}], None, "'x': .* must hold, got 1.5"),
        ([{"net": {"n": 9}}], None, "'net/n': .*<= 8"),
        ([{"net": {"kind": "c"}}], None, "'net/kind': the value must be one of"),
        ([{"x": 0.5, "k": 3}], None, r"'k': the value must be one of \[2\], got 3"),
        ([{"x": 0.5}], [1.0], "missing"),
        ([{"x": 0.5}], [1.0, 2.0], "list of 1 values"),
        (None, [1.0], "list of 0 values"),
        ([{"x": 0.5}], 1.0, "list of 1 values"),
    ],
)
def test_points_that_are_none_of_the_space_are_refused(points: Any, rewards: Any, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        search_of(nested_space(), points_to_evaluate=points, evaluated_rewards=rewards)


# States.


@pytest.mark.integration
@pytest.mark.parametrize("stored", [True, False])
def test_a_restored_search_goes_on_as_the_saved_one_would(stored: bool, tmp_path: Path) -> None:
    storage = tmp_path / "history.db" if stored else None
    saved = BoSuiteSearch(storage=storage)
    saved.set_search_properties("loss", "max", {"a": {"x": tune.uniform(0, 1)}, "thing": [1]})
    saved.set_max_concurrency(3)
    configs = {name: saved.suggest(name) for name in ("a", "b", "c")}
    saved.on_trial_complete("a", {"loss": 1.0})
    saved.on_trial_result("b", {"loss": 4.0})
    saved.save(str(tmp_path / "state.pkl"))
    dies(saved)

    search = BoSuiteSearch()
    search.restore(str(tmp_path / "state.pkl"))
    assert (search.metric, search.mode, search.optimizer.direction) == ("loss", "max", "maximize")
    assert states(search) == ["finished", "running", "running"]
    assert {name: search.suggest(name) for name in configs} == configs
    assert search.suggest("d")["thing"] == [1]
    assert search.suggest("e") is None, "the limit holds"
    search.on_trial_complete("b")
    search.on_trial_complete("c", {"loss": 3.0})
    assert [trial.value for trial in search.optimizer.trials] == [1.0, 4.0, 3.0, None]


@pytest.mark.integration
def test_results_later_than_the_snapshot_are_kept_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = search_of(storage=tmp_path / "history.db")
    configs = {name: saved.suggest(name) for name in ("told", "running")}
    saved.save(str(tmp_path / "state.pkl"))
    saved.on_trial_complete("told", {"loss": 1.0})
    configs |= {name: saved.suggest(name) for name in ("gone and told", "gone")}
    saved.on_trial_complete("gone and told", {"loss": 2.0})
    dies(saved)

    search = BoSuiteSearch()
    search.restore(str(tmp_path / "state.pkl"))
    assert [trial.value for trial in search.optimizer.trials] == [1.0, None, 2.0, None]
    search.on_trial_complete("told", {"loss": 1.5})  # as Ray has run it again
    assert "a completion of trial told was ignored" in caplog.text
    assert search.suggest("new") == configs["gone"], "what was lost is evaluated first"
    assert search.suggest("newer") not in configs.values()
    search.on_trial_complete("new", {"loss": 4.0})
    search.on_trial_complete("running", {"loss": 3.0})
    assert [trial.value for trial in search.optimizer.trials] == [1.0, 3.0, 2.0, 4.0, None]
    assert [trial.attempt for trial in search.optimizer.trials] == [1, 2, 1, 2, 1]


@pytest.mark.integration
def test_a_driver_that_was_taken_for_dead_cannot_end_the_trials_of_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = search_of(storage=tmp_path / "history.db")
    first.suggest("a")
    first.save(str(tmp_path / "state.pkl"))
    dies(first)
    second = search_of()
    second.restore(str(tmp_path / "state.pkl"))
    first.restore(str(tmp_path / "state.pkl"))  # alive after all, and of the first attempt
    first.on_trial_complete("a", {"loss": 9.0})
    assert "only the current attempt of a trial counts" in caplog.text
    second.on_trial_complete("a", {"loss": 1.0})
    assert [trial.value for trial in second.optimizer.trials] == [1.0]


@pytest.mark.integration
def test_a_new_search_of_the_same_storage_begins_with_what_was_running(tmp_path: Path) -> None:
    first = search_of(storage=tmp_path / "history.db")
    config = first.suggest("a")
    dies(first)
    assert search_of(storage=tmp_path / "history.db").suggest("b") == config


@pytest.mark.integration
def test_a_storage_of_another_space_or_without_the_trials_is_refused(tmp_path: Path) -> None:
    search = search_of(storage=tmp_path / "history.db")
    search.suggest("a")
    search.save(str(tmp_path / "state.pkl"))
    search.optimizer.close()
    with pytest.raises(StorageError, match="another space"):
        search_of({"x": tune.uniform(0, 1)}, storage=tmp_path / "history.db")
    with pytest.raises(StorageError, match="another direction"):
        search_of(mode="max", storage=tmp_path / "history.db")
    (tmp_path / "history.db").unlink()
    with pytest.raises(StorageError, match="must hold the 1 trials of the restored search, got 0"):
        search_of().restore(str(tmp_path / "state.pkl"))


@pytest.mark.integration
def test_ray_saves_and_restores_the_search_in_its_own_way(tmp_path: Path) -> None:
    generator = SearchGenerator(ConcurrencyLimiter(search_of(), max_concurrent=2))
    config = generator.searcher.suggest("a")
    generator.save_to_dir(str(tmp_path), "session")
    again = SearchGenerator(ConcurrencyLimiter(BoSuiteSearch(), max_concurrent=2))
    again.restore_from_dir(str(tmp_path))
    assert again.searcher.suggest("a") == config
    assert again.searcher.suggest("b")
    assert again.searcher.suggest("c") is None


@pytest.mark.integration
def test_a_state_does_not_change_with_the_search() -> None:
    search = search_of()
    search.suggest("a")
    state = search.get_state()
    search.suggest("b")
    search.on_trial_complete("a", {"loss": 1.0})
    other = BoSuiteSearch()
    other.set_state(state)
    assert states(other) == ["running"]
    assert other.suggest("a") == search.suggest("a")


def saved_search(folder: Path, space: Any = SPACE, **options: Any) -> Path:
    """The file of a search with one trial that has reported."""
    search = search_of(space, storage=folder / "history.db", **options)
    search.suggest("a")
    search.on_trial_result("a", {"loss": 4.0})
    search.save(str(folder / "state.pkl"))
    dies(search)
    return folder / "state.pkl"


class Armed:
    """What a pickle runs when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (Path.mkdir, (self.folder / "PWNED",))


@pytest.mark.integration
def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    state = search_of().get_state()
    for content in (
        cloudpickle.dumps(state),
        cloudpickle.dumps(Armed(tmp_path)),
        cloudpickle.dumps(state)[:40],
    ):
        (tmp_path / "state.pkl").write_bytes(content)
        with pytest.raises(StorageError, match=r"is a pickle of bo_suite 0\.8\.0.*begin a new search"):
            BoSuiteSearch().restore(str(tmp_path / "state.pkl"))
    assert not (tmp_path / "PWNED").exists()


RICH = {
    "x": ("uniform", -1, 2.5),
    "y": ("loguniform", 1e-4, 1e-1),
    "z": ("quniform", np.float64(0.0), 1.0, 0.25),
    "k": ("randint", 1, np.int64(9)),
    "m": ("qlograndint", 2, 64, 2),
    "c": ("choice", ["a", 2, None, True, 0.5, (1, (2, "b")), [1], {"d": [1, (2,)], 3: "e"}]),
}


@pytest.mark.integration
def test_a_space_of_ray_comes_back_as_it_was(tmp_path: Path) -> None:
    space = {
        "net": {name: getattr(tune, kind)(*bounds) for name, (kind, *bounds) in RICH.items()},
        7: ("u", [1]),
    }
    file = saved_search(tmp_path, space)
    search = BoSuiteSearch()
    search.restore(str(file))
    ours, theirs = translated(search._space), translated(space)
    assert ours[0].space == theirs[0].space
    assert ours[1] == theirs[1]
    assert ours[0].constants == {"7": ("u", [1])}
    point = search.suggest("b")
    assert {type(point["net"][name]) for name in "xyz"} == {float}
    config = search.suggest("a")
    dies(search)
    assert search_of(space, storage=tmp_path / "history.db").suggest("anew") == config


@pytest.mark.integration
def test_a_space_with_objects_must_be_given_again(tmp_path: Path) -> None:
    space = {"f": tune.choice([math.sin, math.cos]), "x": tune.uniform(0, 1)}
    file = str(saved_search(tmp_path, space))
    with pytest.raises(StorageError, match="lacks the space, which has objects that JSON cannot hold: pass"):
        BoSuiteSearch().restore(file)
    with pytest.raises(StorageError, match="another space than that of the searcher"):
        search_of().restore(file)
    search = BoSuiteSearch(space)
    search.restore(file)
    assert search.suggest("a")["f"] in (math.sin, math.cos)
    tuned = BoSuiteSearch()
    tuned.set_search_properties("loss", "min", space)
    tuned.restore(file)
    assert tuned.suggest("a") == search.suggest("a")


@pytest.mark.integration
def test_an_acquisition_is_kept_where_it_is_ours_and_given_again_where_not(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    file = saved_search(tmp_path / "ours", acquisition=UpperConfidenceBound(beta=9.0))
    search = BoSuiteSearch()
    search.restore(str(file))
    assert search._acquisition == UpperConfidenceBound(beta=9.0)
    outside = Bore(SklearnClassifier(GaussianNB()))
    file = saved_search(tmp_path, acquisition=outside)
    with pytest.raises(StorageError, match="must be given again"):
        BoSuiteSearch().restore(str(file))
    search = BoSuiteSearch(acquisition=outside)
    search.restore(str(file))
    assert repr(search._acquisition) == repr(outside)


def rewritten(file: Path, **fields: Any) -> None:
    whole = json.loads(file.read_text())
    whole["state"] |= fields
    whole["digest"] = digest(whole["state"])
    file.write_text(json.dumps(whole))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("field", "values"),
    [
        (
            "space",
            [5, {}, {"space": {}}, {"space": {"x": {"type": "os:system"}}}, {"leaves": 5}, {"leaves": [5]}],
        ),
        ("space", [{"leaves": [[["x"], {"constant": 1}]]}, {"leaves": [[[], {"float": [0, 1]}]]}, None]),
        ("space", [{"leaves": [[["x"], {"float": [0, "1"], "log": False, "step": None}]]}]),
        (
            "space",
            [{"leaves": [[["x"], {"choice": [{"os": ["system"]}]}]]}, {"leaves": [[["x"], "os:system"]]}],
        ),
        ("fingerprint", [5, "abc", []]),
        ("metric", [5, "", ["loss"], "a\0"]),
        ("mode", ["sideways", 1, True]),
        ("acquisition", [5, {"type": "os:system", "fields": {"command": "touch PWNED"}}]),
        ("seed", ["abc", 1.5, None, True]),
        ("storage", [5, "a\0b"]),
        ("limit", ["abc", -1, float("nan")]),
        ("known", [5, {"a": 0}, {"a": [0]}, {"a": [-1, 1]}, {"a": [0, 0]}, {"a": [0.5, 1]}, {"a": [7, 1]}]),
        ("live", [5, [5], ["unknown"], {}]),
        ("reported", [5, {"a": None}, {"a": [1]}]),
        ("history", [5, "not base64!", "A"]),
    ],
)
def test_a_field_of_a_state_that_does_not_fit_is_an_error(
    field: str, values: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved_search(tmp_path)
    text = file.read_text()
    for value in values:
        file.write_text(text)
        rewritten(file, **{field: value})
        with pytest.raises(StorageError):
            BoSuiteSearch().restore(str(file))
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.integration
@pytest.mark.parametrize("content", [b"", b"5", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"state": {}}'])
def test_a_file_that_is_no_state_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state.pkl").write_bytes(content)
    with pytest.raises(StorageError, match=r"state\.pkl"):
        BoSuiteSearch().restore(str(tmp_path / "state.pkl"))


@pytest.mark.integration
def test_any_change_of_a_byte_shows(tmp_path: Path) -> None:
    search = search_of()
    search.suggest("a")
    search.save(str(tmp_path / "state.pkl"))
    content, draw = (tmp_path / "state.pkl").read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(content)
        damaged[draw.integers(len(damaged))] ^= int(draw.integers(1, 256))
        (tmp_path / "state.pkl").write_bytes(damaged)
        with pytest.raises(StorageError):
            BoSuiteSearch().restore(str(tmp_path / "state.pkl"))


def test_without_ray_tune_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray_tune", "ray_space"):
        monkeypatch.delitem(sys.modules, f"bo_suite.integrations.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ray.tune.search.sample", None)
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    with pytest.raises(ImportError, match=r"pip install 'bo-suite\[ray\]'"):
        import_module("bo_suite.integrations.ray_tune")
