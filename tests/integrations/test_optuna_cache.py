"""What a sampler keeps of its studies gives what reading them anew gives."""

import copy
import pickle
from typing import Any

import pytest
import torch

optuna = pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.search_space import intersection_search_space  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from bo_suite.integrations import optuna_cache, optuna_trials  # noqa: E402
from bo_suite.integrations.optuna import BoSuiteSampler  # noqa: E402
from bo_suite.integrations.optuna_cache import StudyCaches, Translations  # noqa: E402
from bo_suite.integrations.optuna_tree import Tree  # noqa: E402
from bo_suite.study.observations import Observations  # noqa: E402

PLANE = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}
optuna.logging.set_verbosity(optuna.logging.WARNING)


def on_plane(trial: Any) -> float:
    return (trial.suggest_float("x", 0.0, 1.0) - 0.3) ** 2 + trial.suggest_float("y", 0.0, 1.0)


def study_of(*trials: Any, sampler: Any = None) -> Any:
    study = optuna.create_study(sampler=sampler or BoSuiteSampler(search_space=PLANE, seed=0))
    study.add_trials(trials)
    return study


def complete(x: float, value: float = 1.0, **rest: Any) -> Any:
    return create_trial(params={"x": x, "y": 1 - x}, distributions=PLANE, value=value, **rest)


def pruned(x: float, value: float) -> Any:
    steps = {0: value}
    return create_trial(
        state=TrialState.PRUNED,
        params={"x": x, "y": 1 - x},
        distributions=PLANE,
        intermediate_values=steps,
    )


def test_a_finished_trial_is_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    translated = optuna_trials.translated

    def counted(trials: Any, *rest: Any) -> Any:
        numbers.extend(trial.number for trial in trials if trial.state.is_finished())
        return translated(trials, *rest)

    monkeypatch.setattr(optuna_cache, "translated", counted)
    study = study_of(*(complete(place / 10, place) for place in range(8)))
    study.optimize(on_plane, n_trials=4)
    assert sorted(numbers) == list(range(11))
    encoded: list[int] = []
    encode = Observations.dataset

    def seen(self: Any, trials: Any, *rest: Any) -> Any:
        encoded.append(len(self._encoded[0]))
        return encode(self, trials, *rest)

    monkeypatch.setattr(Observations, "dataset", seen)
    study.optimize(on_plane, n_trials=2)
    assert encoded == [11, 12]


def test_what_is_known_follows_a_study_as_its_trials_change() -> None:
    study, studies, translations = study_of(), StudyCaches(), Translations(frozenset())
    translation = translations.of(PLANE)
    added = [
        pruned(0.1, 5.0),  # of which nothing can be learnt before another has completed
        complete(0.2, 1.0),
        create_trial(state=TrialState.FAIL, params={"x": 0.3, "y": 0.1}, distributions=PLANE),
        complete(0.4, 9.0),  # moves the median, and the value of the pruned one
        complete(0.5, 7.0),
        create_trial(params={"x": 0.5}, distributions={"x": PLANE["x"]}, value=0.0),
        pruned(0.6, 2.0),
        complete(0.7, 8.0),
    ]
    for trial in added:
        study.add_trial(trial)
        trials = study.get_trials()
        there = studies.of(study).trials(trials, translation, study)
        assert there == optuna_trials.to_trials(trials, translation, study)
        tree = studies.of(study).tree(trials, study.sampler._dimension)
        assert tree == Tree(intersection_search_space(trials, include_pruned=True))


def test_the_trials_of_a_bracket_are_looked_at_alone() -> None:
    study, known = study_of(*(complete(place / 10) for place in range(4))), StudyCaches()
    study.add_trial(create_trial(params={"x": 0.5}, distributions={"x": PLANE["x"]}, value=0.0))
    trials = study.get_trials()
    for part in (trials, trials[:4], trials[3:], trials[:2], trials):
        tree = known.of(study).tree(part, study.sampler._dimension)
        assert tree == Tree(intersection_search_space(part, include_pruned=True))


def test_a_study_that_takes_the_id_of_a_deleted_one_is_another(tmp_path: Any) -> None:
    storage = optuna.storages.get_storage(f"sqlite:///{tmp_path / 'study.db'}")
    sampler, ids = BoSuiteSampler(search_space=PLANE, seed=0), set()
    for name, shift in (("first", 0.0), ("second", 0.4)):
        study = optuna.create_study(sampler=sampler, storage=storage, study_name=name)
        study.add_trials([complete(shift + place / 20, place) for place in range(7)])
        trials, translation = study.get_trials(), sampler._translations.of(PLANE)
        known, _ = sampler._other_trials(study, study.ask()._cached_frozen_trial, translation)
        assert [one.params["x"] for one in known] == [trial.params["x"] for trial in trials]
        suggester = sampler._studies.of(study)._in(translation).suggester
        assert suggester is not None
        expected = translation.space.encode([{**one.params} for one in trials])
        torch.testing.assert_close(suggester.observations.dataset(known).x, expected)
        ids.add(study._study_id)
        optuna.delete_study(study_name=name, storage=storage)
    assert len(ids) == 1


def test_two_studies_of_one_sampler_and_copies_of_it_do_not_mix() -> None:
    sampler = BoSuiteSampler(search_space=PLANE, seed=0)
    first = study_of(*(complete(place / 10, place) for place in range(8)), sampler=sampler)
    second = study_of(*(complete(place / 10, -place) for place in range(8)), sampler=sampler)
    mixed = [[study.ask(PLANE).params for study in (first, second)] for _ in range(2)]
    for place, sign in enumerate((1, -1)):
        for one in (BoSuiteSampler(search_space=PLANE, seed=0), copy.deepcopy(sampler)):
            alone = study_of(*(complete(place / 10, sign * place) for place in range(8)), sampler=one)
            assert [alone.ask(PLANE).params for _ in range(2)] == [both[place] for both in mixed]
    again = pickle.loads(pickle.dumps(sampler))
    assert not again._studies._of
    alone = study_of(*(complete(place / 10, place) for place in range(8)), sampler=again)
    assert alone.ask(PLANE).params == mixed[0][0]


def test_search_spaces_that_are_equal_but_for_their_types_are_told_apart() -> None:
    translations = Translations(frozenset())
    ones, flags = ({"k": CategoricalDistribution(kinds)} for kinds in ((1, 2), (True, 2)))
    assert ones == flags
    assert translations.of(ones).theirs({"k": translations.of(ones).ours({"k": 1})["k"]}) == {"k": 1}
    assert translations.of(flags) is not translations.of(ones)
    assert translations.of(dict(ones)) is translations.of(ones)
    for high in range(40):
        translations.of({"n": IntDistribution(0, 1 + high)})
    assert len(translations._cache) <= 32
