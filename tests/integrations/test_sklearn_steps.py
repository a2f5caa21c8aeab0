"""BOSearchCV with a scheduler: candidates are fitted in steps, and hopeless ones are stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bo_suite import Optimizer
from bo_suite.errors import StorageError
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.run.schedulers import ASHA, PASHA, MedianRule, PromotionASHA

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
CV = KFold(3, shuffle=True, random_state=0)
RATES = {"learning_rate": (1e-4, 1.0, "log-uniform")}


def boosting(**options: Any) -> Any:
    return GradientBoostingClassifier(max_depth=2, subsample=0.7, random_state=0, **options)


def search_of(estimator: Any = None, space: Any = RATES, **options: Any) -> BOSearchCV:
    given = {"n_iter": 5, "cv": CV, "scheduler": ASHA(9), "step": "n_estimators", "random_state": 0}
    if estimator is None:
        estimator = boosting()
        given |= {"scoring": "neg_log_loss", "points_to_evaluate": [{"learning_rate": 0.4}]}
    return BOSearchCV(estimator, space, **(given | options))


def test_hopeless_candidates_stop_early_and_scores_are_those_of_fits_at_once() -> None:
    search = search_of(return_train_score=True).fit(X, Y)
    results = search.cv_results_
    steps = results["n_steps"]
    assert set(steps) <= {1, 3, 9}
    assert steps.min() < 9 == steps.max()
    for params, count, score in zip(results["params"], steps, results["mean_test_score"], strict=True):
        whole = boosting(n_estimators=int(count), **params)
        at_once = cross_val_score(whole, X, Y, cv=CV, scoring="neg_log_loss")
        assert score == pytest.approx(at_once.mean(), abs=1e-12)
    assert [trial.state for trial in search.trials_] == [
        "finished" if count == 9 else "stopped" for count in steps
    ]
    assert [trial.value for trial in search.trials_] == pytest.approx(results["mean_test_score"])


def test_the_best_has_all_steps_and_is_refitted_with_all() -> None:
    search = search_of().fit(X, Y)
    whole = search.cv_results_["n_steps"] == 9
    assert whole[search.best_index_]
    assert search.best_score_ == search.cv_results_["mean_test_score"][whole].max()
    assert "n_estimators" not in search.best_params_
    assert search.best_estimator_.n_estimators_ == 9
    assert search.best_estimator_.warm_start is False
    again = boosting(n_estimators=9, **search.best_params_).fit(X, Y)
    np.testing.assert_array_equal(search.predict_proba(X), again.predict_proba(X))


@pytest.mark.slow
def test_side_by_side_in_processes_gives_the_same() -> None:
    alone = search_of(n_points=3).fit(X, Y)
    together = search_of(n_points=3, n_jobs=2).fit(X, Y)
    for name in ("params", "n_steps", "mean_test_score"):
        np.testing.assert_array_equal(alone.cv_results_[name], together.cv_results_[name])


@pytest.mark.parametrize("estimator", [SGDClassifier(random_state=0), MLPClassifier((4,), random_state=0)])
def test_steps_can_be_calls_of_partial_fit(estimator: Any) -> None:
    search = search_of(estimator, {"alpha": (1e-6, 10.0, "log-uniform")}, step="partial_fit", n_iter=3)
    search.fit(X, Y)
    params, count = search.cv_results_["params"][-1], int(search.cv_results_["n_steps"][-1])
    scores = []
    for train, test in CV.split(X):
        model = clone(estimator).set_params(**params)
        for _ in range(count):
            model.partial_fit(X[train], Y[train], classes=[0, 1, 2])
        scores.append(model.score(X[test], Y[test]))
    assert search.cv_results_["mean_test_score"][-1] == pytest.approx(np.mean(scores), abs=1e-12)
    assert search.best_estimator_.t_ > 1 + 8 * len(X) / 200


def test_a_pipeline_goes_on_with_its_last_step() -> None:
    pipe = make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_leaf_nodes=3))
    name = "histgradientboostingregressor__"
    space = {f"{name}learning_rate": (1e-3, 1.0, "log-uniform")}
    search = search_of(pipe, space, step=f"{name}max_iter", n_iter=3, scheduler=MedianRule(4)).fit(X, Y)
    assert search.best_estimator_[-1].n_iter_ == 4


class Failing(ClassifierMixin, BaseEstimator):
    """Cannot be fitted with three steps if `depth` is above 0.5."""

    def __init__(self, depth: float = 0.0, n_estimators: int = 1, warm_start: bool = False) -> None:
        self.depth = depth
        self.n_estimators = n_estimators
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any) -> "Failing":
        if self.depth > 0.5 and self.n_estimators > 2:
            raise ValueError("too deep")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X), dtype=int)


@pytest.mark.filterwarnings("ignore:(?s).*fits of.*failed", "ignore:One or more of the test scores")
def test_a_candidate_may_fail_on_the_way() -> None:
    search = search_of(Failing(), {"depth": (0.0, 1.0)}, n_iter=5).fit(X, Y)
    deep = np.array([params["depth"] > 0.5 for params in search.cv_results_["params"]])
    assert deep.any()
    np.testing.assert_array_equal(np.isnan(search.cv_results_["mean_test_score"]), deep)
    assert {trial.state for trial, failed in zip(search.trials_, deep, strict=True) if failed} == {"failed"}
    assert not deep[search.best_index_]


class Died(BaseException):
    """The process ends here."""


def test_a_search_that_died_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "search.db"
    calls = []
    report = Optimizer.report

    def dying(self: Any, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:  # the second candidate is on record at step 3, which is not reported
            raise Died
        return report(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Optimizer, "report", dying)
        with pytest.raises(Died):
            search_of(storage=path).fit(X, Y)
    search, whole = search_of(storage=path).fit(X, Y), search_of().fit(X, Y)
    for name in ("params", "n_steps", "mean_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], whole.cv_results_[name])
    assert [trial.attempt for trial in search.trials_] == [1, 2, 1, 1, 1]
    with pytest.raises(StorageError, match="in steps of n_estimators"):
        BOSearchCV(boosting(), RATES, cv=CV, storage=path).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({"scheduler": None}, "needs a scheduler, and a step"),
        ({"step": None}, "needs a scheduler, and a step"),
        ({"scheduler": ASHA}, "a scheduler must be an object"),
        ({"scheduler": PromotionASHA(9)}, "it keeps no paused ones, got PromotionASHA"),
        ({"scheduler": PASHA(9)}, "it keeps no paused ones, got PASHA"),
        ({"step": "partial_fit"}, "counts calls of partial_fit, which GradientBoostingClassifier"),
        ({"step": "rounds"}, "must be a parameter of an estimator with warm_start"),
        ({"estimator": SVC(), "space": {"C": (0.1, 9.0)}, "step": "max_iter"}, "with warm_start"),
        (
            {"estimator": LogisticRegression(), "space": {"C": (0.1, 9.0)}, "step": "max_iter"},
            "max_iter of LogisticRegression is counted anew in each fit, so it cannot be the step$",
        ),
        (
            {"estimator": MLPClassifier(), "space": {"alpha": (0.1, 9.0)}, "step": "max_iter"},
            "use step='partial_fit'",
        ),
        ({"space": RATES | {"n_estimators": (1, 9)}}, "must not be searched, got \\['n_estimators'\\]"),
        ({"space": RATES | {"warm_start": [True, False]}}, "must not be searched, got \\['warm_start'\\]"),
        ({"objectives": ["score", "fit_time"]}, "one objective without constraints"),
        ({"constraints": {"fit_time": (None, 1.0)}}, "one objective without constraints"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        search_of(**options).fit(X, Y)


def test_a_searched_model_cannot_be_fitted_in_steps() -> None:
    pipe = make_pipeline(StandardScaler(), boosting())
    space = {"gradientboostingclassifier": [boosting(), boosting(max_features=1)]}
    with pytest.raises(ValueError, match="must not be searched, got \\['gradientboostingclassifier'\\]"):
        search_of(pipe, space, step="gradientboostingclassifier__n_estimators").fit(X, Y)
