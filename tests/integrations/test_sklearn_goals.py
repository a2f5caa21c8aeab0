"""Several metrics and times as objectives of a search of scikit-learn, and constraints on them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from bo_suite import Float
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.acquisition.base import Score
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import StorageError
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.surrogates.process import WarmStart


@dataclass(frozen=True)
class RankImprovement:
    """Log expected improvement of the number by which rows with several objectives are ranked."""

    supports: ClassVar[frozenset[str]] = frozenset({"objectives", "constraints"})

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        return LogExpectedImprovement().build(replace(data, outcomes=None), seeds, start)


class Cut(ClassifierMixin, BaseEstimator):
    """Predicts 1 above a threshold."""

    def __init__(self, at: float = 0.5, fails_above: float = np.inf) -> None:
        self.at = at
        self.fails_above = fails_above

    def fit(self, X: Any, y: Any) -> "Cut":
        if self.at > self.fails_above:
            raise ArithmeticError(f"no fit at {self.at}")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        return (np.asarray(X)[:, 0] > self.at).astype(int)


def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    features = random.uniform(size=(90, 1))
    return features, (features[:, 0] + 0.3 * random.normal(size=90) > 0.4).astype(int)


BOTH = ["precision", "recall"]


def searched(scoring: Any = BOTH, refit: Any = "recall", **settings: Any) -> BOSearchCV:
    settings = {"n_iter": 10, "cv": 3, "random_state": 0, "acquisition": RankImprovement(), **settings}
    estimator = settings.pop("estimator", Cut())
    with np.errstate(all="ignore"):
        return BOSearchCV(estimator, {"at": Float(0.1, 0.8)}, scoring=scoring, refit=refit, **settings).fit(
            *data()
        )


def front(*columns: Any) -> list[int]:
    """Indices of the rows that no other dominates, larger is better, the first of equal ones."""
    rows = list(zip(*columns, strict=True))
    return [
        index
        for index, row in enumerate(rows)
        if row not in rows[:index]
        and not any(all(a >= b for a, b in zip(other, row, strict=True)) and other != row for other in rows)
    ]


@pytest.mark.parametrize("refit", ["recall", pytest.param("precision", marks=pytest.mark.slow), False])
def test_several_metrics_are_objectives_and_refit_chooses_the_best(refit: Any) -> None:
    search = searched(refit=refit, objectives=BOTH)
    results = search.cv_results_
    assert search.trials_[0].outcomes is not None
    for name in BOTH:
        assert [(trial.outcomes or {})[name] for trial in search.trials_] == list(
            results[f"mean_test_{name}"]
        )
        assert f"rank_test_{name}" in results
    assert any(trial.stds for trial in search.trials_)
    assert search.multimetric_
    assert search.pareto_.tolist() == front(*(results[f"mean_test_{name}"] for name in BOTH))
    assert len(search.pareto_) >= 2
    if refit:
        assert search.best_index_ == results[f"rank_test_{refit}"].argmin()
        assert search.best_score_ == max(results[f"mean_test_{refit}"])
        assert search.best_estimator_.at == search.best_params_["at"]
    else:
        assert not hasattr(search, "best_index_")


def test_the_default_acquisition_is_that_of_the_optimizer() -> None:
    search = searched(objectives=BOTH, acquisition=None, n_iter=8)
    last = search.trials_[-1].provenance
    assert (last["source"], last["acquisition"].split("(")[0]) == (
        "acquisition",
        "LogExpectedHypervolumeImprovement",
    )


def test_a_time_is_minimised_beside_the_score() -> None:
    search = searched("accuracy", True, objectives=["score", "fit_time"])
    results = search.cv_results_
    columns = results["mean_test_score"], -results["mean_fit_time"]
    assert search.pareto_.tolist() == front(*columns)
    assert [(trial.outcomes or {})["fit_time"] for trial in search.trials_] == list(results["mean_fit_time"])
    assert search.best_score_ == max(results["mean_test_score"])


def test_directions_may_be_given() -> None:
    objectives = {"precision": "minimize", "recall": "maximize"}
    search = searched(objectives=objectives)
    results = search.cv_results_
    assert search.pareto_.tolist() == front(-results["mean_test_precision"], results["mean_test_recall"])


def test_constraints_are_met_by_the_best_candidate() -> None:
    search = searched(acquisition=None, constraints={"precision": (0.8, None)}, n_iter=12)
    results = search.cv_results_
    met = results["mean_test_precision"] >= 0.8
    assert 0 < sum(met) < 12
    assert met[search.best_index_]
    assert search.best_score_ == max(results["mean_test_recall"][met])
    assert results["mean_test_recall"][~met].max() > search.best_score_, "the constraint matters"
    assert search.pareto_.tolist() == [search.best_index_]
    first = search.trials_[0].outcomes or {}
    assert first == {"value": results["mean_test_recall"][0], "precision": results["mean_test_precision"][0]}


def test_objectives_and_constraints_together() -> None:
    search = searched(objectives=BOTH, constraints={"precision": (0.7, None), "score_time": (None, 60.0)})
    results = search.cv_results_
    met = np.flatnonzero(results["mean_test_precision"] >= 0.7)
    columns = [results[f"mean_test_{name}"][met] for name in BOTH]
    assert search.pareto_.tolist() == met[front(*columns)].tolist()


def test_if_no_candidate_is_feasible_the_best_of_all_is_refitted() -> None:
    search = searched(acquisition=None, constraints={"precision": (2.0, None)})
    assert search.pareto_.tolist() == []
    assert search.best_score_ == max(search.cv_results_["mean_test_recall"])


def test_a_search_of_one_metric_has_a_front_of_its_best_candidate() -> None:
    search = searched("accuracy", True, acquisition=None)
    assert search.trials_[0].outcomes is None
    assert search.pareto_.tolist() == [search.best_index_]


def _ratios(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    right = estimator.predict(X) == y
    return {"right": float(np.mean(right)), "odd": np.nan if estimator.at > 0.4 else 1.0 - estimator.at}


def test_a_function_returns_metrics_and_one_that_is_nan_is_a_partial_outcome() -> None:
    with pytest.warns(UserWarning, match="non-finite"):
        search = searched(_ratios, "right", objectives=["right", "odd"])
    lacking = [trial for trial in search.trials_ if (trial.outcomes or {}).get("odd") is None]
    assert 0 < len(lacking) < 10
    assert {trial.state for trial in search.trials_} == {"finished"}
    assert all((search.cv_results_["params"][index]["at"] <= 0.4) for index in search.pareto_)


def test_fits_that_fail_are_failed_trials() -> None:
    with pytest.warns(Warning, match="fail|finite"):
        search = searched(estimator=Cut(fails_above=0.5), objectives=BOTH)
    failed = [index for index, trial in enumerate(search.trials_) if trial.state == "failed"]
    assert failed
    assert all(np.isnan(search.cv_results_["mean_test_recall"][index]) for index in failed)
    assert not set(failed) & set(search.pareto_)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"objectives": ["f1"]}, "must be of 'precision', 'recall', 'fit_time', 'score_time', got 'f1'"),
        (
            {"constraints": {"f1": (0, 1)}},
            "must be of 'precision', 'recall', 'fit_time', 'score_time', got 'f1'",
        ),
        ({"objectives": "recall"}, "objectives must be a list of metrics, or a dict of directions"),
        ({"objectives": {"recall": "up"}}, "the direction of 'recall' must be 'minimize' or 'maximize'"),
        ({"objectives": []}, "direction must be"),
        ({"constraints": ["recall"]}, "constraints must be intervals of outcomes by name"),
        ({"constraints": {"recall": (0.9, 0.1)}}, "the smaller first"),
        ({"objectives": BOTH, "refit": True}, "refit must be one of"),
        ({"scoring": _ratios, "refit": "right", "objectives": ["left"]}, "must be of 'right', 'odd'"),
    ],
)
def test_wrong_goals_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        searched(**settings)


def test_a_search_resumes_with_its_goals_and_refuses_others(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"objectives": BOTH, "constraints": {"precision": (0.7, None)}}
    settings["storage"] = tmp_path / "run.db"
    first = searched(callbacks=[lambda _, trial: "enough" if trial.id == 6 else None], **settings)
    assert len(first.trials_) == 7
    resumed = searched(**settings)
    whole = searched(**(settings | {"storage": None}))
    assert [trial.params for trial in resumed.trials_] == [trial.params for trial in whole.trials_]
    assert [trial.params for trial in resumed.trials_[:7]] == [trial.params for trial in first.trials_]
    assert resumed.pareto_.tolist() == whole.pareto_.tolist()
    for other in ({"objectives": None}, {"constraints": None}, {"objectives": ["recall"]}):
        with pytest.raises(StorageError, match="belongs to another"):
            searched(n_iter=11, **(settings | other))
