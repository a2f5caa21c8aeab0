"""BOSearchCV in scikit-learn's own terms: its checks, its attributes, failures, time, storage and noise."""

import inspect
import os
import pickle
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import check_supervised_y_2d, parametrize_with_checks

from bo_suite import Choice, Float, Int, Optimizer, Space, Trial
from bo_suite.errors import StorageError
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.folds import fold_noise
from bo_suite.integrations.sklearn import BOSearchCV

X, y = load_iris(return_X_y=True)


class Threshold(ClassifierMixin, BaseEstimator):
    """Predicts class 1 beyond a threshold of the first feature; counts its fits and may fail or kill."""

    fits = 0
    kill_at: int | None = None

    def __init__(self, at: float = 0.5, other: Any = None, fails_above: float = np.inf) -> None:
        self.at = at
        self.other = other
        self.fails_above = fails_above

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Threshold":
        Threshold.fits += 1
        if Threshold.fits == Threshold.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.at > self.fails_above:
            raise ArithmeticError(f"no fit at {self.at}")
        self.classes_ = np.unique(y)
        self.weight_ = None if sample_weight is None else np.sum(sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return (np.asarray(X)[:, 0] > self.at).astype(int)


def small() -> tuple[np.ndarray, np.ndarray]:
    """Sixty samples whose best threshold is 0.3, with some noise."""
    random = np.random.default_rng(0)
    features = random.uniform(size=(60, 1))
    return features, (features[:, 0] + 0.1 * random.normal(size=60) > 0.3).astype(int)


GRID = {"at": [0.05, 0.2, 0.35, 0.6, 0.7, 0.8]}


def a_search(estimator: Any = None, space: Any = None, **settings: Any) -> BOSearchCV:
    settings = {"n_iter": 6, "cv": 3, "random_state": 0, **settings}
    return BOSearchCV(estimator or Threshold(), space or {"at": Float(0.0, 1.0)}, **settings)


@pytest.fixture(autouse=True)
def _no_fits() -> None:
    Threshold.fits = 0


# scikit-learn's own checks

_LIKE_RANDOMIZED = {"Ridge": {"check_supervised_y_2d": "fails for RandomizedSearchCV(Ridge()), too"}}


def _known(search: BOSearchCV) -> dict[str, str]:
    return _LIKE_RANDOMIZED.get(type(search.estimator).__name__, {})


_TAKES = inspect.signature(parametrize_with_checks).parameters
_EXPECTED = {"expected_failed_checks": _known} if "expected_failed_checks" in _TAKES else {}


@pytest.mark.filterwarnings("ignore")  # what the checks make estimators say
@parametrize_with_checks(
    [BOSearchCV(LogisticRegression(), {"C": Float(0.1, 10.0, log=True)}, 2, cv=2, random_state=0)],
    **_EXPECTED,
)
def test_estimator_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    name = check.func.__name__  # type: ignore[attr-defined]
    if not _EXPECTED and (name in _known(estimator) or name == "check_parameters_default_constructible"):
        pytest.xfail("as of RandomizedSearchCV, or constructs it and its like by their names before 1.6")
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [BOSearchCV(Ridge(), {"alpha": Float(0.1, 10.0, log=True)}, 2, cv=2, random_state=0)], **_EXPECTED
)
def test_estimator_checks_of_a_regressor(estimator: Any, check: Callable[[Any], None]) -> None:
    test_estimator_checks(estimator, check)


@pytest.mark.filterwarnings("ignore")
def test_the_expected_failure_is_that_of_randomized_search() -> None:
    theirs = RandomizedSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, n_iter=2, cv=2, random_state=0)
    with pytest.raises(AssertionError, match="DataConversionWarning"):
        check_supervised_y_2d("RandomizedSearchCV", theirs)


# Spaces


@pytest.mark.parametrize(
    ("given", "parameter"),
    [
        (Float(0.0, 1.0), Float(0.0, 1.0)),
        (stats.uniform(1, 3), Float(1.0, 4.0)),
        (stats.loguniform(1e-3, 10), Float(1e-3, 10.0, log=True)),
        (stats.reciprocal(1, 10), Float(1.0, 10.0, log=True)),
        (stats.loguniform(1e-3, 1, loc=1), Float(0.0, 1.0)),
        (stats.truncnorm(-1, 2), Float(0.0, 1.0)),
        (stats.randint(2, 9), Int(2, 8)),
        (stats.binom(5, 0.3), Int(0, 5)),
        (stats.randint(3, 4), Choice((3,))),
        (stats.rv_discrete(values=([16, 32, 64], [0.2, 0.3, 0.5])), Choice((16, 32, 64), ordered=True)),
        ((1, 5), Int(1, 5)),
        ((1, 5, "log-uniform"), Int(1, 5, log=True)),
        ((1, 5.0), Float(1.0, 5.0)),
        ((1e-3, 1.0, "log-uniform", 10), Float(1e-3, 1.0, log=True)),
        ((0.0, 1.0, "uniform"), Float(0.0, 1.0)),
        (("a", "b"), Choice(("a", "b"))),
        ((True, False), Choice((True, False))),
        ((1, 2, 3), Choice((1, 2, 3), ordered=True)),
        ([1, 2], Choice((1, 2))),
        ([9, 5, 1], Choice((9, 5, 1), ordered=True)),
        ([1, 5, 3], Choice((1, 5, 3))),
        (["a", None], Choice(("a", None))),
        (np.array(["a", "b"]), Choice(("a", "b"))),
        ([(1,), (1, 2)], Choice((0, 1))),
        (SimpleNamespace(low=1, high=9, prior="log-uniform", dtype=np.int64), Int(1, 9, log=True)),
        (SimpleNamespace(low=1, high=9, prior="uniform", dtype=float), Float(1.0, 9.0)),
        (SimpleNamespace(categories=("a", "b"), prior=None), Choice(("a", "b"))),
        (Float(0.0, 1.0, step=0.1), Float(0.0, 1.0, step=0.1)),
        (Int(2, 8, log=True, step=3), Int(2, 8, log=True, step=3)),
    ],
)
def test_a_dimension_is_what_it_was_in_its_own_library(given: Any, parameter: Any) -> None:
    assert translated({"name": given}).space == Space({"name": parameter})


@pytest.mark.parametrize("given", [stats.truncnorm(-1, 2), stats.beta(2, 3), stats.loguniform(0.1, 1, loc=1)])
def test_other_distributions_are_searched_by_their_quantiles(given: Any) -> None:
    dimension = translated({"name": given}).dimensions["name"]
    low, high = given.support()
    assert [dimension.theirs(0.0), dimension.theirs(1.0)] == pytest.approx([low, high])
    assert dimension.theirs(0.5) == pytest.approx(given.median())
    assert dimension.ours(dimension.theirs(0.3)) == pytest.approx(0.3)


def test_objects_come_out_as_they_went_in() -> None:
    options = [StandardScaler(), "passthrough", None, (1, 2)]
    dimension = translated({"name": options}).dimensions["name"]
    assert [dimension.theirs(dimension.ours(option)) for option in options] == options


@pytest.mark.parametrize(
    ("space", "law"),
    [
        ({"C": stats.norm()}, "parameter 'C': a distribution must have bounds, got norm"),
        ({"C": stats.poisson(3)}, "parameter 'C': a distribution must have bounds, got poisson"),
        ({"C": []}, "parameter 'C': must have at least one option"),
        ({"C": (1, 5, "normal")}, "parameter 'C': a prior must be one of"),
        ({"C": (5.0, 1.0)}, "parameter 'C': `low <= high` must hold"),
        ({"C": 3}, "parameter 'C': must be a Float, Int or Choice"),
        ({"C": {1, 2}}, "parameter 'C': must be a Float, Int or Choice"),
        ({}, "at least one parameter"),
        ({"C": Float(0.0, 1.0), "n": Int(1, 9, fidelity=True)}, "must be no fidelities"),
        ({"C": Float(0.0, 1.0), "n": Int(1, 9, context=True)}, "must be no contexts"),
        (3, "a search space must be a Space, a dict of parameters or a list of these"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused(space: Any, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        BOSearchCV(SVC(), space).fit(X, y)


# Searching


def test_it_takes_the_place_of_randomized_search() -> None:
    space = {"C": stats.loguniform(1e-2, 1e2), "kernel": ["linear", "rbf"]}
    settings: dict[str, Any] = {"n_iter": 5, "cv": 3, "random_state": 0, "return_train_score": True}
    theirs = RandomizedSearchCV(SVC(), space, **settings).fit(X, y)
    ours = BOSearchCV(SVC(), space, **settings).fit(X, y)
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for key, column in theirs.cv_results_.items():
        assert type(ours.cv_results_[key]) is type(column), key
        assert len(ours.cv_results_[key]) == 5, key
    assert {name for name in vars(theirs) if name.endswith("_")} < set(vars(ours))
    assert ours.best_params_ == ours.cv_results_["params"][ours.best_index_]
    assert ours.best_score_ == max(ours.cv_results_["mean_test_score"])
    assert ours.best_estimator_.get_params()["C"] == ours.best_params_["C"]
    assert ours.score(X, y) > 0.9
    assert (ours.n_splits_, ours.multimetric_, ours.stopped_, ours.total_iterations) == (3, False, None, 5)


def test_values_are_the_scores_of_the_same_grid() -> None:
    ours = BOSearchCV(SVC(), {"C": [0.1, 1.0, 10.0]}, n_iter=3, cv=3, random_state=0).fit(X, y)
    theirs = GridSearchCV(SVC(), {"C": list(ours.cv_results_["param_C"])}, cv=3).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score", "split2_test_score"):
        np.testing.assert_array_equal(ours.cv_results_[key], theirs.cv_results_[key])
    assert [trial.value for trial in ours.trials_] == list(theirs.cv_results_["mean_test_score"])


def test_the_same_random_state_is_the_same_search_and_fit_starts_anew() -> None:
    first = a_search(n_iter=8, cv=KFold(3, shuffle=True, random_state=1)).fit(*small())
    again = clone(first).fit(*small())
    points = first.cv_results_["params"]
    assert again.cv_results_["params"] == points
    assert first.fit(*small()).cv_results_["params"] == points
    assert a_search(random_state=1).fit(*small()).cv_results_["params"] != points[:6]
    assert len(a_search(random_state=np.random.RandomState(3)).fit(*small()).trials_) == 6


def test_a_fitted_search_can_be_pickled(tmp_path: Path) -> None:
    search = a_search(storage=tmp_path / "run.db").fit(*small())
    copy = pickle.loads(pickle.dumps(search))
    assert copy.trials_ == search.trials_
    assert list(copy.predict(small()[0])) == list(search.predict(small()[0]))


def test_splits_are_drawn_once() -> None:
    search = BOSearchCV(Threshold(), {"other": list(range(5))}, 5, cv=ShuffleSplit(12, test_size=0.4))
    scores = search.fit(*small()).cv_results_
    for fold in range(12):
        assert np.ptp(scores[f"split{fold}_test_score"]) == 0
    assert np.ptp([scores[f"split{fold}_test_score"][0] for fold in range(12)]) > 0


def test_splits_may_come_from_a_generator_and_depend_on_groups() -> None:
    data = small()
    pairs = list(KFold(3).split(data[0]))
    assert a_search(cv=(pair for pair in pairs)).fit(*data).n_splits_ == 3
    groups = np.arange(60) % 4
    assert a_search(cv=GroupKFold(4)).fit(*data, groups=groups).n_splits_ == 4


def test_a_number_of_points_is_asked_for_at_once() -> None:
    running: list[int] = []

    def count(optimizer: Optimizer, trial: Trial) -> None:
        running.append(sum(one.state == "running" for one in optimizer.trials))

    search = a_search(n_iter=7, n_points=3, callbacks=[count]).fit(*small())
    assert running == [2, 1, 0, 2, 1, 0, 0]
    assert len(search.cv_results_["params"]) == 7


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_several_workers_evaluate_the_same_as_one(backend: str) -> None:
    space = {"C": (1e-2, 1e2, "log-uniform")}
    with joblib.parallel_config(backend=backend):
        one, two = (
            BOSearchCV(SVC(), space, 4, 2, cv=3, random_state=0, n_jobs=jobs).fit(X, y) for jobs in (1, 2)
        )
    assert one.cv_results_["params"] == two.cv_results_["params"]
    assert list(one.cv_results_["mean_test_score"]) == list(two.cv_results_["mean_test_score"])


def test_pipelines_and_whole_steps_are_searched() -> None:
    pipeline = Pipeline([("scale", StandardScaler()), ("model", SVC())])
    space = {
        "scale": [StandardScaler(), "passthrough"],
        "model": [SVC(), SVC(kernel="linear")],
        "model__C": (1e-2, 1e2, "log-uniform"),
    }
    search = BOSearchCV(pipeline, space, 6, cv=3, random_state=0).fit(X, y)
    assert search.best_estimator_.get_params()["model__C"] == search.best_params_["model__C"]
    assert search.best_params_["model"] in space["model"]
    models = search.cv_results_["param_model"]
    assert isinstance(models, np.ma.MaskedArray)
    assert {model.kernel for model in models} == {"rbf", "linear"}


def test_a_finite_space_ends_the_search_early() -> None:
    search = a_search(space={"at": [0.1, 0.2, 0.3]}, n_points=2).fit(*small())
    assert sorted(search.cv_results_["param_at"]) == [0.1, 0.2, 0.3]
    assert search.stopped_ is not None
    assert "all 3 points" in search.stopped_


@pytest.mark.parametrize("name", ["gamma", "at__C", "model__at"])
def test_a_parameter_that_the_estimator_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"a parameter must be one of .*'at'.* got '{name}'"):
        a_search(space={"other": [1, 2], name: Float(0.0, 1.0)}).fit(*small())
    assert Threshold.fits == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_iter", 0),
        ("n_points", 0),
        ("timeout", 0),
        ("timeout", "1s"),
        ("callbacks", "x"),
        ("callbacks", ["x"]),
        ("storage", 3),
        ("acquisition", "ei"),
        ("random_state", "x"),
    ],
)
def test_wrong_settings_are_refused_by_fit_alone(name: str, value: Any) -> None:
    search = a_search(**{name: value})
    with pytest.raises(ValueError, match=r"must|cannot be used to seed"):
        search.fit(*small())
    assert Threshold.fits == 0


# Metrics


def test_with_several_metrics_refit_names_the_one_that_guides() -> None:
    scoring = ["accuracy", "recall"]
    search = a_search(scoring=scoring, refit="recall").fit(*small())
    assert [trial.value for trial in search.trials_] == list(search.cv_results_["mean_test_recall"])
    assert search.best_score_ == max(search.cv_results_["mean_test_recall"])
    assert {"rank_test_accuracy", "split0_test_accuracy", "std_test_recall"} <= set(search.cv_results_)


@pytest.mark.parametrize("refit", [False, lambda results: int(np.argmin(results["mean_test_recall"]))])
def test_without_a_name_the_first_metric_guides(refit: Any) -> None:
    search = a_search(scoring=["accuracy", "recall"], refit=refit).fit(*small())
    assert [trial.value for trial in search.trials_] == list(search.cv_results_["mean_test_accuracy"])
    if refit:
        assert search.best_index_ == np.argmin(search.cv_results_["mean_test_recall"])
        assert search.best_estimator_.at == search.best_params_["at"]
    else:
        assert not hasattr(search, "best_estimator_")


def _two_scores(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    right = float(np.mean(estimator.predict(X) == y))
    return {"right": right, "wrong": 1.0 - right}


def test_a_function_may_return_several_metrics() -> None:
    search = a_search(scoring=_two_scores, refit="wrong").fit(*small())
    assert [trial.value for trial in search.trials_] == list(search.cv_results_["mean_test_wrong"])
    Threshold.fits = 0
    with pytest.raises(ValueError, match=r"refit must be one of \['right', 'wrong'\]"):
        a_search(scoring=_two_scores).fit(*small())
    assert Threshold.fits == 3  # of one candidate, not of all


def test_without_refit_the_best_is_known_and_not_fitted() -> None:
    search = a_search(refit=False).fit(*small())
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    assert Threshold.fits == 18


def test_weights_reach_the_estimator_and_with_metadata_routing_the_scores() -> None:
    weights = np.where(small()[1] == 0, 2.0, 0.0)
    plain = a_search(scoring="accuracy").fit(*small(), sample_weight=weights)
    assert plain.best_estimator_.weight_ == weights.sum()
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = Threshold().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = a_search(estimator, cv=GroupKFold(4).set_split_request(groups=True))
        search.fit(*small(), sample_weight=weights, groups=np.arange(60) % 4)
        assert search.best_estimator_.weight_ == weights.sum()
        assert (search.n_splits_, search.best_score_) == (4, 1.0), "only weighted samples count"


# Failures


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more")
@pytest.mark.parametrize("n_points", [1, 3])
@pytest.mark.parametrize("error_score", [np.nan, -1.0])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "recall"], _two_scores])
def test_failing_candidates_are_failed_trials_with_rows(
    n_points: int, error_score: float, scoring: Any
) -> None:
    refit = {None: True, _two_scores: "right"}.get(
        scoring if scoring is None or callable(scoring) else 0, "recall"
    )
    search = a_search(
        Threshold(fails_above=0.5),
        GRID,
        n_points=n_points,
        error_score=error_score,
        scoring=scoring,
        refit=refit,
        return_train_score=True,
    ).fit(*small())
    metric = "score" if refit is True else refit
    failed = np.asarray(search.cv_results_["param_at"], dtype=float) > 0.5
    assert 0 < failed.sum() < 6
    assert [trial.state == "failed" for trial in search.trials_] == list(failed)
    assert all("no fit at" in (trial.reason or "") for trial in search.trials_ if trial.state == "failed")
    for key in (f"mean_test_{metric}", f"split0_test_{metric}", f"mean_train_{metric}"):
        np.testing.assert_array_equal(search.cv_results_[key][failed], error_score)
        assert np.isfinite(search.cv_results_[key][~failed]).all()
    ranks = search.cv_results_[f"rank_test_{metric}"]
    assert ranks[failed].min() > ranks[~failed].max()
    assert search.best_params_["at"] <= 0.5


def test_a_batch_without_a_fit_is_said() -> None:
    with pytest.warns((FitFailedWarning, UserWarning)) as said:
        a_search(Threshold(fails_above=0.5), GRID).fit(*small())
    failed = [str(one.message) for one in said if issubclass(one.category, FitFailedWarning)]
    assert failed
    assert all("no fit at" in text for text in failed)
    assert sum("non-finite" in str(one.message) for one in said) == 1


class HalfFragile(Threshold):
    def fit(self, X: Any, y: Any) -> "HalfFragile":  # type: ignore[override]
        if self.at > 0.5 and X[0, 0] == small()[0][0, 0]:
            raise ArithmeticError("no fit with the first sample")
        return super().fit(X, y)  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more")
@pytest.mark.parametrize(("error_score", "state"), [(np.nan, "failed"), (0.0, "finished")])
def test_some_failed_folds_fail_the_trial_where_the_mean_is_not_finite(
    error_score: float, state: str
) -> None:
    search = a_search(HalfFragile(), GRID, cv=KFold(3), error_score=error_score).fit(*small())
    hit = [trial for trial in search.trials_ if trial.params["at"] > 0.5]  # type: ignore[operator]
    assert {trial.state for trial in hit} == {state}
    if state == "failed":
        assert "first sample" in (hit[0].reason or "")
    else:
        assert [trial.value for trial in search.trials_] == list(search.cv_results_["mean_test_score"])


def test_the_estimators_own_error_is_raised_where_that_is_wanted() -> None:
    with pytest.raises(ArithmeticError, match="no fit at"):
        a_search(Threshold(fails_above=0.5), GRID, error_score="raise").fit(*small())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_a_search_without_one_fit_has_scikit_learns_error() -> None:
    with pytest.raises(ValueError, match=r"All the 3 fits failed(.|\n)*no fit at"):
        a_search(Threshold(fails_above=-1)).fit(*small())


# Ends


def test_the_timeout_ends_the_search_between_batches() -> None:
    search = a_search(n_points=2, timeout=1e-6).fit(*small())
    assert len(search.cv_results_["params"]) == 2
    assert search.stopped_ == "the timeout of 1e-06 seconds"
    assert hasattr(search, "best_estimator_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more")
def test_callbacks_see_every_trial_in_order_and_end_the_search() -> None:
    seen: list[tuple[int, str]] = []

    def stop(optimizer: Optimizer, trial: Trial) -> str | None:
        seen.append((trial.id, trial.state))
        assert optimizer.trials[trial.id] == trial
        return "enough" if trial.id == 2 else None

    with pytest.raises(ValueError, match="a callback must return None, or why the run is to end"):
        a_search(callbacks=[lambda optimizer, trial: False]).fit(*small())
    search = a_search(Threshold(fails_above=0.5), GRID, n_points=2, callbacks=[stop]).fit(*small())
    assert search.stopped_ == "enough"
    assert seen == [(trial.id, trial.state) for trial in search.trials_]
    assert len(seen) == 4  # the whole second batch is told
    assert {state for _, state in seen} == {"finished", "failed"}


# Storage


def kept_results(search: BOSearchCV) -> dict[str, Any]:
    """What two equal searches have in common: all but times."""
    return {key: list(column) for key, column in search.cv_results_.items() if "time" not in key}


def test_a_finished_search_is_not_evaluated_again_and_goes_on_where_more_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    settings: dict[str, Any] = {
        "return_train_score": True,
        "scoring": ["accuracy", "recall"],
        "refit": "recall",
    }
    first = a_search(storage=path, **settings).fit(*small())
    Threshold.fits = 0
    again = a_search(storage=path, **settings).fit(*small())
    assert Threshold.fits == 1  # the refit
    for key, column in first.cv_results_.items():
        np.testing.assert_array_equal(again.cv_results_[key], column)
    assert (again.best_params_, again.trials_) == (first.best_params_, first.trials_)
    more = a_search(storage=path, n_iter=9, **settings).fit(*small())
    assert Threshold.fits == 1 + 3 * 3 + 1
    assert kept_results(more)["params"][:6] == first.cv_results_["params"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more")
def test_rows_of_failed_candidates_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    first = a_search(Threshold(fails_above=0.5), GRID, storage=path).fit(*small())
    again = a_search(Threshold(fails_above=0.5), GRID, storage=path).fit(*small())
    for key, column in first.cv_results_.items():
        np.testing.assert_array_equal(again.cv_results_[key], column)
    assert "failed" in {trial.state for trial in again.trials_}


def search_to_kill(path: str, kill_at: int) -> None:
    Threshold.kill_at = kill_at
    a_search(storage=path, n_iter=8, n_points=2).fit(*small())


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    code = f"import test_sklearn_search as t; t.search_to_kill({str(path)!r}, {3 * 4 + 2})"
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    lines = Path(f"{path}.folds.jsonl")
    with lines.open("ab") as file:
        file.write(lines.read_bytes().strip().splitlines()[-1][:25])  # as a power cut would leave it
    seen: list[int] = []
    search = a_search(
        storage=path, n_iter=8, n_points=2, callbacks=[lambda _, trial: seen.append(trial.id)]
    ).fit(*small())
    assert seen == [4, 5, 6, 7]
    assert Threshold.fits == 3 * 4 + 1
    assert [trial.attempt for trial in search.trials_] == [1, 1, 1, 1, 2, 2, 1, 1]
    whole = a_search(storage=tmp_path / "whole.db", n_iter=8, n_points=2).fit(*small())
    assert kept_results(search) == kept_results(whole)
    assert a_search(storage=path, n_iter=8).fit(*small()).trials_ == search.trials_


class Dies(BaseException):
    """Ends a search in the middle."""


@pytest.mark.parametrize("moment", ["tell", "ask"])
def test_what_was_evaluated_and_not_told_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    original, calls = getattr(Optimizer, moment), 0

    def dying(self: Optimizer, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Dies
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Optimizer, moment, dying)
        with pytest.raises(Dies):
            a_search(storage=tmp_path / "run.db").fit(*small())
    search = a_search(storage=tmp_path / "run.db").fit(*small())
    assert Threshold.fits == 6 * 3 + 1
    assert kept_results(search) == kept_results(a_search().fit(*small()))


def test_a_candidate_that_kills_every_process_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    class Deadly(Threshold):
        def fit(self, X: Any, y: Any) -> "Deadly":  # type: ignore[override]
            raise Dies

    for _ in range(3):
        with pytest.raises(Dies):
            a_search(Deadly(), storage=path).fit(*small())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more")
        search = a_search(storage=path).fit(*small())
    assert search.trials_[0].reason == "3 processes died while evaluating it"
    assert np.isnan(search.cv_results_["mean_test_score"][0])
    assert len(search.cv_results_["params"]) == 6


def test_splits_without_a_seed_are_those_of_before(tmp_path: Path) -> None:
    options = {"other": list(range(8))}
    cv = ShuffleSplit(3, test_size=0.4)
    a_search(space=options, storage=tmp_path / "run.db", n_iter=3, cv=cv).fit(*small())
    scores = a_search(space=options, storage=tmp_path / "run.db", n_iter=6, cv=cv).fit(*small()).cv_results_
    assert len(scores["params"]) == 6
    for fold in range(3):
        assert np.ptp(scores[f"split{fold}_test_score"]) == 0


@pytest.mark.parametrize(
    ("changed", "law"),
    [
        ({"space": {"at": Float(0.0, 2.0)}}, "another space"),
        ({"random_state": 1}, "another seed"),
        ({"cv": 4}, "folds"),
        ({"cv": KFold(3)}, "other data or another `cv`"),
        ({"cv": KFold(3, shuffle=True, random_state=1), "n_iter": 3}, "other data or another `cv`"),
        ({"scoring": ["accuracy"], "refit": "accuracy"}, "the `scoring` and `refit` 'NoneType', got"),
        ({"scoring": "neg_log_loss"}, "the `scoring` and `refit` 'NoneType', got"),
    ],
)
def test_the_storage_of_another_search_is_refused(tmp_path: Path, changed: dict[str, Any], law: str) -> None:
    a_search(storage=tmp_path / "run.db", n_iter=3).fit(*small())
    with pytest.raises(StorageError, match=law):
        a_search(**{"storage": tmp_path / "run.db", **changed}).fit(*small())


def other_data(name: str) -> tuple[Any, Any, dict[str, Any]]:
    features, labels = small()
    changed = features.copy()
    changed[7] += 1e-6
    return {
        "fewer": (features[:50], labels[:50], {}),
        "as many others": (np.roll(features, 1), np.roll(labels, 1), {}),
        "one value": (changed, labels, {}),
        "one label": (features, np.where(np.arange(60) == 7, 1 - labels, labels), {}),
        "a table": (pd.DataFrame(features, columns=["a"]), labels, {}),
        "weights": (features, labels, {"sample_weight": np.ones(60)}),
    }[name]


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("name", ["fewer", "as many others", "one value", "one label", "a table", "weights"])
def test_the_storage_of_other_data_is_refused(name: str, done: bool, tmp_path: Path) -> None:
    a_search(storage=tmp_path / "run.db", n_iter=2).fit(*small())
    features, labels, fitting = other_data(name)
    again = a_search(storage=tmp_path / "run.db", n_iter=2 if done else 3)
    with pytest.raises(StorageError, match=r"was begun with other data.* nested"):
        again.fit(features, labels, **fitting)


def test_the_same_data_go_on_whatever_their_layout(tmp_path: Path) -> None:
    features, labels = np.hstack((small()[0], small()[0] ** 2)), small()[1]
    for count, same in enumerate((features, np.asfortranarray(features), features[::-1][::-1]), 1):
        search = a_search(storage=tmp_path / "run.db", n_iter=count).fit(same, labels.tolist())
        assert len(search.trials_) == count


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_a_nested_cross_validation_on_one_path_is_refused_beyond_its_first_fold(tmp_path: Path) -> None:
    search = a_search(storage=tmp_path / "run.db", n_iter=2)
    scores = cross_val_score(search, *small(), cv=3)
    assert list(np.isnan(scores)) == [False, True, True]
    with pytest.raises(StorageError, match="each outer fold of a nested cross-validation"):
        cross_val_score(search, *small(), cv=3, error_score="raise")
    apart = cross_val_score(a_search(n_iter=2), *small(), cv=3)
    assert not np.isnan(apart).any()


def test_a_search_begun_before_data_had_a_fingerprint_goes_on_with_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.db"
    a_search(storage=path, n_iter=2).fit(*small())
    splits = Path(f"{path}.splits.npz")
    with np.load(splits) as file:
        old = [file[name] for name in file.files if name != "data"]
    np.savez_compressed(splits, *old)
    assert len(a_search(storage=path, n_iter=3).fit(*small()).trials_) == 3
    assert "stored no fingerprint of the data" in caplog.text
    with pytest.raises(StorageError, match="other data or another `cv`"):
        a_search(storage=path, n_iter=3).fit(small()[0][:50], small()[1][:50])


# Points to start from


def test_points_to_evaluate_are_the_first_candidates_whole_or_in_part() -> None:
    points = [{"at": 0.31, "other": None, "fails_above": 5.3}, {"other": (1, 2)}, {"at": np.float32(0.5)}]
    space = {"at": Float(0.0, 1.0), "other": [None, (1, 2), "a"], "fails_above": stats.beta(2, 2, loc=5)}
    search = a_search(space=space, points_to_evaluate=points, n_points=2).fit(*small())
    candidates = search.cv_results_["params"]
    assert candidates[0] == points[0] | {"fails_above": pytest.approx(5.3)}, "a quantile is searched"
    assert candidates[1]["other"] == (1, 2)
    assert candidates[2]["at"] == 0.5
    assert len(candidates) == 6
    assert clone(search).points_to_evaluate == points


def test_points_count_once_in_a_search_that_goes_on(tmp_path: Path) -> None:
    points = [{"at": 0.31}, {"at": 0.32}, {"at": 0.33}]
    for count in (1, 2, 5):
        search = a_search(storage=tmp_path / "run.db", points_to_evaluate=points, n_iter=count)
        candidates = search.fit(*small()).cv_results_["params"]
        assert candidates[:3] == points[:count]
    assert len({candidate["at"] for candidate in candidates}) == 5


def test_a_point_given_twice_is_evaluated_once(caplog: pytest.LogCaptureFixture) -> None:
    search = a_search(points_to_evaluate=[{"at": 0.31}] * 2, n_iter=3).fit(*small())
    assert [candidate["at"] for candidate in search.cv_results_["params"]].count(0.31) == 1
    assert "is skipped: it was evaluated already" in caplog.text


@pytest.mark.parametrize(
    ("points", "law"),
    [
        ([{"elsewhere": 1}], r"must have parameters of \['at'\], got \['elsewhere'\]"),
        ([{"at": 2.0}], "'at': .* must hold, got 2.0"),
        ([{"at": "low"}], "'at': a Float must be a finite number"),
        ([3], "must be a dict of parameters, got 3"),
        ({"at": 0.5}, "points_to_evaluate"),
    ],
)
def test_points_that_are_none_of_the_space_are_refused(points: Any, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        a_search(points_to_evaluate=points).fit(*small())


def test_a_deleted_history_takes_what_was_beside_it_along(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    a_search(storage=path).fit(*small())
    path.unlink()
    Threshold.fits = 0
    search = a_search(storage=path, cv=4).fit(*small())
    assert (len(search.trials_), Threshold.fits) == (6, 6 * 4 + 1)


def test_without_a_random_state_a_stored_search_can_be_resumed(tmp_path: Path) -> None:
    for count in (3, 5):
        search = a_search(storage=tmp_path / "run.db", n_iter=count, random_state=None).fit(*small())
        assert len(search.cv_results_["params"]) == count


# Noise


def test_noise_of_the_fits_is_found_whatever_the_folds_have_in_common() -> None:
    random = np.random.default_rng(0)
    rows = np.linspace(0.0, 1.0, 200)[:, None]
    smooth = np.sin(3 * rows) + 5 * random.normal(size=5) + 0.1 * rows * random.normal(size=5)
    found = fold_noise(rows, smooth + 0.2 * random.normal(size=smooth.shape))
    assert found == pytest.approx(0.2 / np.sqrt(5), rel=0.25)
    assert fold_noise(rows, smooth) == pytest.approx(0.0, abs=1e-3)
    assert fold_noise(rows, np.ones((200, 5))) == 0.0


def test_noise_is_unknown_with_one_candidate_or_one_fold() -> None:
    assert fold_noise(np.zeros((1, 2)), np.zeros((1, 5))) is None
    assert fold_noise(np.zeros((4, 2)), np.zeros((4, 1))) is None


def test_folds_that_all_agree_are_told_without_noise() -> None:
    search = a_search(n_iter=8, scoring=lambda estimator, X, y: estimator.at).fit(*small())
    assert [trial.std for trial in search.trials_] == [None] + [0.0] * 7
    assert search.best_score_ == max(trial.value or 0.0 for trial in search.trials_)
    single = a_search(cv=ShuffleSplit(1, random_state=0)).fit(*small())
    assert [trial.std for trial in single.trials_] == [None] * 6


@pytest.mark.filterwarnings("ignore:The estimator Threshold does not support callbacks")
def test_callbacks_of_scikit_learn_itself_are_called() -> None:
    callbacks = pytest.importorskip("sklearn.callback")  # from 1.9 on
    search = a_search(n_points=2)
    search.set_callbacks(callbacks.ProgressBar())
    assert len(search.fit(*small()).trials_) == 6
