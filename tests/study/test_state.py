"""What the library hands out is immutable or a copy, and a trial is known by its id and attempt."""

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from mutating import ATTACKS, bowl, in_a_worker, pops

from bo_suite import Choice, Float, Int, Optimizer, Space, Trial, minimize
from bo_suite.acquisition import AdaptiveImprovement
from bo_suite.errors import TrialError
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header
from bo_suite.study.initial import initial_size
from bo_suite.study.suggest import Suggester

SPACE = Space({"x": Float(-1, 2), "n": Int(1, 9), "kind": Choice(["a", "b", "c"])})
BUDGET = 8


def spoil(value: Any) -> None:
    """Changes whatever can be changed, all the way down."""
    if isinstance(value, dict):
        for one in value.values():
            spoil(one)
        value.update(x="spoilt", n=None)
        value.pop("kind", None)
    elif isinstance(value, list):
        for one in value:
            spoil(one)
        value.append("spoilt")
        value.reverse()


def forms(optimizer: Optimizer) -> list[tuple[Any, ...]]:
    """All that the trials say, but for times."""
    return [
        (t.id, t.params, t.state, t.value, t.attempt, t.provenance.get("hyperparameters"))
        for t in optimizer.trials
    ]


def drive(optimizer: Optimizer, count: int = BUDGET, then: Callable[[Optimizer], None] | None = None) -> None:
    """Asks and tells, and attacks after each trial."""
    for _ in range(count):
        trial = optimizer.ask()
        try:
            optimizer.tell(trial, bowl(trial.params))
        except ValueError as error:
            optimizer.fail(trial, str(error))
        if then is not None:
            then(optimizer)


@pytest.fixture(scope="module")
def undisturbed() -> list[tuple[Any, ...]]:
    """A run, and one suggestion more."""
    optimizer = Optimizer(SPACE, budget=BUDGET)
    drive(optimizer)
    optimizer.ask()
    return forms(optimizer)


@pytest.fixture(scope="module")
def points(undisturbed: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [form[1] for form in undisturbed]


def test_a_function_does_what_it_likes_with_its_dict(points: list[dict[str, Any]]) -> None:
    attacks = cycle(ATTACKS)
    result = minimize(lambda params: next(attacks)(params), SPACE, BUDGET, progress=False, catch=ValueError)
    assert [trial.params for trial in result.trials] == points[:BUDGET]
    assert {trial.state for trial in result.trials} == {"finished", "failed"}
    assert result.best.value == bowl(result.best.params)


def threads() -> Executor:
    return ThreadPoolExecutor(2)


@pytest.mark.parametrize(("workers", "executor"), [(2, threads), (2, None)], ids=["threads", "processes"])
def test_a_function_on_workers_does_what_it_likes_with_its_dict(workers: int, executor: Any) -> None:
    result = minimize(
        in_a_worker, SPACE, 8, workers=workers, executor=executor, progress=False, catch=ValueError
    )
    assert len(result.trials) == 8
    for trial in result.trials:
        assert SPACE.check(trial.params) == trial.params
        if trial.state == "finished":
            assert trial.value == bowl(trial.params)


def test_each_try_gets_a_dict_of_its_own(points: list[dict[str, Any]]) -> None:
    seen: list[dict[str, Any]] = []

    def flaky(params: dict[str, Any]) -> float:
        seen.append(dict(params))
        lost = len(seen) % 2
        value = pops(params)
        if lost:
            raise ConnectionError
        return value

    quiet = Space({"x": Float(-1, 2), "n": Int(1, 4), "kind": Choice(["a", "b", "c"])})
    result = minimize(flaky, quiet, 4, retries=1, progress=False)
    assert [trial.state for trial in result.trials] == ["finished"] * 4
    assert seen[::2] == seen[1::2] == [trial.params for trial in result.trials]


def test_callbacks_change_what_they_get(undisturbed: list[tuple[Any, ...]]) -> None:
    last: list[Optimizer] = []

    def callback(optimizer: Optimizer, trial: Trial) -> None:
        spoil(trial.params)
        spoil(trial.provenance)
        optimizer.trials.clear()
        for one in optimizer.trials:
            spoil(one.params)
        last.append(optimizer)

    seen: list[dict[str, Any]] = []
    callbacks = [callback, lambda optimizer, trial: seen.append(trial.params)]
    result = minimize(pops, SPACE, BUDGET, callbacks=callbacks, progress=False, catch=ValueError)
    assert seen == [form[1] for form in undisturbed[:BUDGET]]
    assert [trial.params for trial in result.trials] == seen
    assert isinstance(result.trials, tuple)
    spoil(result.best.params)
    spoil(result.trials[0].params)
    assert [trial.params for trial in result.trials] == seen


def trials_cleared(optimizer: Optimizer) -> None:
    optimizer.trials.clear()
    optimizer.trials.reverse()


def best_popped(optimizer: Optimizer) -> None:
    if any(trial.value is not None for trial in optimizer.trials):
        optimizer.best.params.pop("kind")
        spoil(optimizer.best.params)


def trials_spoilt(optimizer: Optimizer) -> None:
    for trial in [*optimizer.trials, optimizer.trial(0)]:
        spoil(trial.params)
        spoil(trial.provenance)
        trial.params["x"] = 1e9


def provenance_spoilt(optimizer: Optimizer) -> None:
    for trial in optimizer.trials:
        for value in trial.provenance.values():
            if isinstance(value, list):
                value[:] = [1e300, None]


def frame_edited(optimizer: Optimizer) -> None:
    frame = optimizer.to_frame()
    frame["param_x"] = 0.0
    frame.pop("id")
    frame.iloc[0] = None


def recommended(optimizer: Optimizer) -> None:
    optimizer.recommend().clear()


def bounded(optimizer: Optimizer) -> None:
    bound = optimizer.regret_bound()
    spoil(bound.trial.params)
    spoil(bound.trial.provenance)


def space_attacked(optimizer: Optimizer) -> None:
    space = optimizer.space
    space.parameters.pop("x")  # type: ignore[attr-defined]
    space.parameters.update(x=Int(1, 2))  # type: ignore[attr-defined]
    space.target_fidelity.update(x=1)
    for attack in (
        lambda: setattr(space, "parameters", {}),
        lambda: setattr(space.parameters["x"], "high", 5.0),
        lambda: space.parameters["kind"].options.append("d"),  # type: ignore[union-attr]
        lambda: space.levels.append(1),  # type: ignore[attr-defined]
    ):
        with pytest.raises((AttributeError, TypeError)):
            attack()
    space.to_dict()["kind"]["options"].append("d")
    space.encode([{"x": 0.0, "n": 1, "kind": "a"}]).fill_(7.0)
    space.check({"x": 0.0, "n": 1, "kind": "a"}).clear()


def copies_made(optimizer: Optimizer) -> None:
    for trial in optimizer.trials:
        for one in (copy.copy(trial), copy.deepcopy(trial), pickle.loads(pickle.dumps(trial))):
            assert one == trial
            assert hash(one) == hash(trial)
            spoil(one.params)
            spoil(one.provenance)
        dataclasses.asdict(trial)["params"].clear()


CHEAP = (
    trials_cleared,
    best_popped,
    trials_spoilt,
    provenance_spoilt,
    frame_edited,
    space_attacked,
    copies_made,
)
"""Attacks on what no model is fitted for."""


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "file"])
def test_what_an_optimizer_hands_out_is_the_callers(
    stored: bool, undisturbed: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    optimizer = Optimizer(SPACE, budget=BUDGET, storage=tmp_path / "run.db" if stored else None)

    def attacked(optimizer: Optimizer) -> None:
        for attack in CHEAP:
            attack(optimizer)

    drive(optimizer, BUDGET - 1, attacked)
    recommended(optimizer)
    bounded(optimizer)
    drive(optimizer, 1)
    optimizer.ask()
    assert forms(optimizer) == undisturbed
    optimizer.close()


def test_a_loop_pops_from_a_trials_params_before_it_tells(undisturbed: list[tuple[Any, ...]]) -> None:
    optimizer = Optimizer(SPACE, budget=BUDGET)
    for _ in range(BUDGET):
        trial = optimizer.ask()
        params = trial.params
        try:
            value = pops(params)
        except ValueError:
            ended = optimizer.fail(trial, "no")
        else:
            ended = optimizer.tell(trial, value)
        trial.params.clear()
        spoil(ended.params)
        spoil(ended.provenance)
    optimizer.ask()
    assert forms(optimizer) == undisturbed


def test_what_is_told_is_a_copy_of_what_the_user_holds() -> None:
    runs = []
    for attacked in (False, True):
        options = ["a", "b"]
        parameters: dict[str, Any] = {"x": Float(0, 1), "kind": Choice(options)}  # type: ignore[arg-type]
        space = Space(parameters)
        optimizer = Optimizer(space)
        for place in range(7):
            params = {"x": place / 10, "kind": "ab"[place % 2]}
            if place == 3:
                optimizer.add_failed(params, "no")
            else:
                optimizer.add(params, (place - 2.3) ** 2)
            if attacked:
                spoil(params)
        if attacked:
            options.append("c")
            options.reverse()
            parameters["x"] = Int(1, 2)
            parameters.clear()
        batch = optimizer.ask(3)
        if attacked:
            batch.reverse()
            for trial in batch:
                spoil(trial.params)
        runs.append(([trial.params for trial in optimizer.trials], optimizer.ask().params, space))
    assert runs[0] == runs[1]


def test_a_history_keeps_no_dict_of_those_that_it_was_given() -> None:
    params: list[dict[str, Any]] = [{"x": 0.5, "n": 3, "kind": "a"}]
    sources: list[dict[str, Any]] = [{"source": "test", "hyperparameters": [0.1, 0.2], "observations": 3}]
    history = History.open(None, Header(SPACE, 0, "minimize", None, None))
    (trial,) = history.insert(params, sources, expected=0) or []
    spoil(params)
    spoil(sources)
    history.trials().clear()
    assert history.trials() == [trial]
    assert trial.params == {"x": 0.5, "n": 3, "kind": "a"}
    assert trial.provenance == {"source": "test", "hyperparameters": [0.1, 0.2], "observations": 3}


def test_a_trial_is_made_of_copies_and_cannot_be_changed() -> None:
    params: Any = {"x": 0.1}
    provenance: Any = {"hyperparameters": [1.0], "deep": {"er": [[2.0]]}, "pair": ([3.0],)}
    trial = Trial(0, params, "running", None, None, None, 1, True, provenance, 0.0, None)
    params["x"] = 2
    provenance["hyperparameters"].append(9.0)
    provenance["deep"]["er"][0].append(9.0)
    provenance["pair"][0].append(9.0)
    trial.provenance["deep"]["er"][0].clear()
    trial.provenance["pair"][0].clear()
    assert trial.params == {"x": 0.1}
    assert trial.provenance == {"hyperparameters": [1.0], "deep": {"er": [[2.0]]}, "pair": ([3.0],)}
    for name in ("params", "provenance", "value", "id", "run"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(trial, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(trial, name)
    changed = dataclasses.replace(trial, params={"x": 0.2})
    assert (trial.params, changed.params, changed.provenance) == ({"x": 0.1}, {"x": 0.2}, trial.provenance)


def test_suggestions_are_the_callers(undisturbed: list[tuple[Any, ...]]) -> None:
    optimizer = Optimizer(SPACE, budget=BUDGET)
    drive(optimizer)
    suggester = Suggester(SPACE, AdaptiveImprovement(), initial=initial_size(BUDGET, SPACE))
    trials = optimizer.trials
    found = []
    for _ in range(2):
        (suggestion,) = suggester.suggest(trials)
        found.append(dict(suggestion.params))
        spoil(suggestion.params)
        spoil(suggestion.provenance)
        data = suggester.observations.dataset(trials)
        data.x.fill_(0.5)
        assert data.failures is not None
        data.failures.fill_(0.5)
    assert found == [undisturbed[-1][1]] * 2


def copied(trial: Trial) -> Iterator[Trial]:
    yield copy.copy(trial)
    yield copy.deepcopy(trial)
    yield pickle.loads(pickle.dumps(trial))
    yield dataclasses.replace(trial)
    yield dataclasses.replace(trial, params={"x": 0.0}, provenance={})


def test_copies_of_a_trial_are_told() -> None:
    optimizer = Optimizer(SPACE)
    for place in range(5):
        trial = optimizer.ask()
        told = list(copied(trial))[place]
        assert optimizer.tell(told, 1.0).params == trial.params
        with pytest.raises(TrialError, match="ends once"):
            optimizer.tell(trial, 2.0)


def test_a_trial_of_another_optimizer_is_refused_whatever_its_params() -> None:
    one, other = Optimizer(SPACE), Optimizer(SPACE)
    mine, theirs = one.ask(), other.ask()
    assert mine.params == theirs.params
    assert mine.id == theirs.id
    for end in (lambda: one.tell(theirs, 1.0), lambda: one.fail(theirs, "no"), lambda: one.withdraw(theirs)):
        with pytest.raises(TrialError, match="must be one of this history, got one of another"):
            end()
    for told in copied(theirs):
        with pytest.raises(TrialError, match="one of another"):
            one.tell(told, 1.0)
    one.tell(mine, 1.0)


def test_a_trial_of_an_earlier_attempt_is_refused(tmp_path: Path) -> None:
    first = Optimizer(SPACE, storage=tmp_path / "run.db")
    lost = first.ask()
    first.close()
    second = Optimizer(SPACE, storage=tmp_path / "run.db")
    (again,) = second.reclaim()
    assert (again.id, again.params, again.attempt) == (lost.id, lost.params, 2)
    for end in (lambda: second.tell(lost, 1.0), lambda: second.fail(lost, "no")):
        with pytest.raises(TrialError, match="handed out again as attempt 2, got attempt 1"):
            end()
    assert second.tell(again, 1.0).attempt == 2
    second.close()


def test_optimizers_on_one_file_tell_each_others_trials(tmp_path: Path) -> None:
    one = Optimizer(SPACE, storage=tmp_path / "run.db")
    other = Optimizer(SPACE, storage=tmp_path / "run.db")
    mine, theirs = one.ask(), other.ask()
    assert mine.params != theirs.params
    assert one.tell(theirs, 1.0).params == theirs.params
    assert other.fail(mine, "no").params == mine.params
    assert one.trials == other.trials
    one.close()
    other.close()


def test_equal_points_are_told_apart_by_their_ids() -> None:
    optimizer = Optimizer(Space({"x": Float(0, 1)}))
    history = optimizer._history
    same = [{"x": 0.25}] * 4
    trials = history.insert(same, [{}] * 4, expected=0) or []
    for place in (2, 0, 3, 1):
        optimizer.tell(trials[place], float(place), std=0.5)
    assert [trial.value for trial in optimizer.trials] == [0.0, 1.0, 2.0, 3.0]
    assert len(set(trials)) == 4


def test_what_scikit_learn_hands_out_is_the_callers() -> None:
    from sklearn.datasets import make_regression
    from sklearn.linear_model import Ridge

    from bo_suite.integrations.sklearn import BOSearchCV

    X, y = make_regression(30, 3, random_state=0)
    space = {"alpha": [0.1, 1.0, 10.0, 100.0], "fit_intercept": [True, False]}
    seen: list[list[tuple[Any, ...]]] = []

    def attack(optimizer: Optimizer, trial: Trial) -> None:
        spoil(trial.params)
        optimizer.trials.clear()
        for one in optimizer.trials:
            spoil(one.params)

    for callbacks in ([], [attack]):
        search = BOSearchCV(Ridge(), space, n_iter=8, cv=2, random_state=0, callbacks=callbacks)
        search.fit(X, y)
        spoil(search.trials_[0].params)
        seen.append([(trial.params, trial.value) for trial in search.trials_])
        assert pickle.loads(pickle.dumps(search.trials_)) == search.trials_
    assert seen[0] == seen[1]


def test_what_goes_into_and_comes_out_of_optuna_is_the_callers(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    from bo_suite.integrations.optuna import BoSuiteSampler, from_optuna
    from bo_suite.integrations.optuna_view import to_study

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    runs, suggestions = [], []
    for attacked in (False, True):
        search_space: dict[str, Any] = {
            "x": FloatDistribution(0.0, 1.0),
            "kind": CategoricalDistribution(["a", "b"]),
        }
        sampler = BoSuiteSampler(search_space=search_space, seed=0)
        study = optuna.create_study(sampler=sampler)
        asked = {name: copy.deepcopy(one) for name, one in search_space.items()}
        for _ in range(9):
            if attacked:
                search_space["x"].high = 0.5
                search_space["new"] = FloatDistribution(0.0, 1.0)
                sampler.infer_relative_search_space(study, None)["x"].high = 0.1
            trial = study.ask(copy.deepcopy(asked))
            value = (trial.params["x"] - 0.3) ** 2
            if attacked:
                spoil(trial.params)
                spoil(study.trials[-1].params)
                spoil(study.trials[-1].system_attrs)
            study.tell(trial, value)
        runs.append([trial.params for trial in study.trials])
        optimizer = from_optuna(study)
        if attacked:
            for one in study.trials:
                spoil(one.params)
        suggestions.append(optimizer.ask().params)
    assert runs[0] == runs[1]
    assert suggestions[0] == suggestions[1]

    optimizer = Optimizer(SPACE, storage=tmp_path / "run.db")
    drive(optimizer, 3)
    view = to_study(tmp_path / "run.db")
    for one in view.trials:
        spoil(one.params)
        one.distributions["x"].high = 0.0
        one.distributions.clear()
    assert [one.params for one in view.trials] == [trial.params for trial in optimizer.trials]
    assert view.trials[0].distributions["x"].high == 2.0
    optimizer.close()


def test_what_ray_hands_out_is_the_callers() -> None:
    pytest.importorskip("ray")
    from bo_suite.integrations.ray_tune import BoSuiteSearch

    runs = []
    for attacked in (False, True):
        search = BoSuiteSearch(SPACE, metric="loss", mode="min")
        configs = []
        for place in range(8):
            config = search.suggest(f"t{place}")
            configs.append(copy.deepcopy(config))
            result = {"loss": bowl({**config, "n": 1})}
            if attacked:
                spoil(config)
                search.optimizer.trials.clear()
                spoil(search.optimizer.trials[0].params)
            search.on_trial_complete(f"t{place}", result)
        runs.append(configs)
    assert runs[0] == runs[1]
