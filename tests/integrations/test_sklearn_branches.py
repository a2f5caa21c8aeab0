"""BOSearchCV over several spaces, of which each candidate has one, and over spaces with conditions."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from bo_suite import Choice, Float, Int, Space
from bo_suite.errors import SpaceError
from bo_suite.integrations.distributions import translated
from bo_suite.integrations.sklearn import BOSearchCV

SCALERS = [StandardScaler(), MinMaxScaler()]
FOREST = RandomForestClassifier(n_estimators=2, random_state=0)
MODELS: list[Any] = [
    {"model": [SVC()], "model__C": stats.loguniform(0.01, 100), "model__kernel": ["rbf", "linear"]},
    {"model": [FOREST], "model__max_depth": (1, 4), "scale": SCALERS},
]


class Peak(BaseEstimator):  # type: ignore[misc]
    """Scores how near its parameters are to a peak, a higher one if `kind` is "b"."""

    def __init__(self, kind: str = "a", at: float = 0.0, width: float = 1.0) -> None:
        self.kind, self.at, self.width = kind, at, width

    def fit(self, X: Any, y: Any = None) -> "Peak":
        return self

    def score(self, X: Any, y: Any = None) -> float:
        return -((self.at - 0.3) ** 2) - (self.width - 1.0) ** 2 - (0.5 if self.kind == "a" else 0.0)


def search_of(space: Any, **settings: Any) -> BOSearchCV:
    fixed: dict[str, Any] = {"n_iter": 8, "cv": KFold(2), "random_state": 0}
    return BOSearchCV(Peak(), space, **fixed | settings)


def data() -> Any:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2))
    return X, (X[:, 0] > 0).astype(int)


def test_each_candidate_of_pipelines_is_of_one_space() -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("model", SVC())])
    search = BOSearchCV(pipe, MODELS, n_iter=6, cv=2, random_state=0)
    before = str(search.get_params())
    search.fit(*data())
    kinds = {type(params["model"]) for params in search.cv_results_["params"]}
    assert kinds == {SVC, RandomForestClassifier}
    for index, params in enumerate(search.cv_results_["params"]):
        names = MODELS[0 if isinstance(params["model"], SVC) else 1]
        assert params.keys() == names.keys()
        for name in ("model__C", "model__kernel", "model__max_depth", "scale"):
            column = search.cv_results_[f"param_{name}"]
            assert np.ma.getmaskarray(column)[index] == (name not in params)
            assert name not in params or column[index] == params[name]
    assert set(search.cv_results_) == set(
        GridSearchCV(pipe, [{"model__C": [1]}], cv=2).fit(*data()).cv_results_
    ) - {"param_model__C"} | {f"param_{name}" for space in MODELS for name in space}
    assert isinstance(search.best_estimator_.named_steps["model"], type(search.best_params_["model"]))
    assert str(search.get_params()) == before
    assert clone(search).search_space[0]["model__kernel"] == ["rbf", "linear"]
    again = pickle.loads(pickle.dumps(search))
    assert (again.predict(data()[0]) == search.predict(data()[0])).all()


def test_parameters_that_are_defined_equally_are_one_parameter() -> None:
    spaces = [
        {"at": (0.0, 1.0), "width": [1, 2], "scale": SCALERS},
        {"at": (0.0, 1.0), "width": [1, 3], "scale": SCALERS},
        {"at": (0.0, 1.0), "width": [1, 2]},
    ]
    space = translated(spaces).space
    assert space == Space(
        {
            "branch": Choice([0, 1, 2]),
            "at": Float(0.0, 1.0),
            "width": Choice([1, 2], when={"branch": [0, 2]}),
            "scale": Choice([0, 1], when={"branch": [0, 1]}),
            "width@1": Choice([1, 3], when={"branch": 1}),
        }
    )
    nested = Space({"a": Choice(["u", "v", "w"]), "b": Float(0, 1, when={"a": ["u", "v"]})})
    inner = translated([nested, {"a": ["x"]}]).space
    assert inner["b"] == Float(0, 1, when={"a": ["u", "v"], "branch": 0})
    named = translated([{"branch": (0.0, 1.0)}, {"branch": (0.0, 2.0)}])
    assert named.theirs({"branch_": 1, "branch@1": 1.5}) == {"branch": 1.5}
    assert translated([spaces[0]]).space == translated(spaces[0]).space


def test_the_better_space_is_found_and_an_empty_one_is_a_candidate() -> None:
    spaces = [
        {"kind": ["a"], "at": (0.0, 1.0), "width": (0.5, 3.0)},
        {"kind": ["b"], "at": (0.0, 1.0)},
        {},
    ]
    search = search_of(spaces, n_iter=10).fit([[0.0]] * 4)
    assert search.best_params_["kind"] == "b"
    assert search.best_params_["at"] == pytest.approx(0.3, abs=0.05)
    assert [params for params in search.cv_results_["params"] if not params] == [{}]


def test_points_to_start_from_are_of_the_space_that_has_their_names_and_values(tmp_path: Path) -> None:
    spaces = [
        {"kind": ["a"], "at": (0.0, 1.0)},
        {"kind": ["b"], "at": (0.5, 1.0), "width": (0.0, 1.0)},
        {"kind": ["b"], "at": (0.0, 0.5)},
    ]
    points = [{"kind": "b", "at": 0.2}, {"width": 0.5}, {"kind": "b", "at": 0.7}, {"kind": "a"}]
    settings = {"storage": tmp_path / "run.db", "points_to_evaluate": points}
    search_of(spaces, n_iter=2, **settings).fit([[0.0]] * 4)
    found = search_of(spaces, n_iter=5, **settings).fit([[0.0]] * 4).cv_results_["params"]
    assert found[0] == points[0]
    assert found[1].keys() == {"kind", "at", "width"}
    assert found[1]["width"] == 0.5
    assert found[2].items() >= points[2].items()
    assert found[3]["kind"] == "a"
    law = r"must be those of one branch, got \{'kind': 'a', 'width': 0.5\}"
    with pytest.raises(ValueError, match=law):
        search_of(spaces, points_to_evaluate=[{"kind": "a", "width": 0.5}]).fit([[0.0]] * 4)


def test_conditions_and_constraints_of_a_space_hold_for_candidates() -> None:
    space = Space(
        {"kind": Choice(["a", "b"]), "at": Float(0, 1), "width": Float(0, 2, when={"kind": "b"})},
        [lambda p: p["at"] + p.get("width", 0.0) <= 1.0],
    )
    params = search_of(space, n_iter=5).fit([[0.0]] * 4).cv_results_["params"]
    assert len(params) == 5
    assert all(("width" in one) == (one["kind"] == "b") for one in params)
    assert all(one["at"] + one.get("width", 0.0) <= 1.0 for one in params)
    mixed = {"kind": ["a", "b"], "at": Int(0, 1, when={"kind": "a"})}
    assert {"kind": "b"} in search_of(mixed, n_iter=3).fit([[0.0]] * 4).cv_results_["params"]
    with pytest.raises(ValueError, match="'width' is only active when kind is 'b', got kind='a'"):
        search_of(space, points_to_evaluate=[{"kind": "a", "width": 0.1}]).fit([[0.0]] * 4)
    with pytest.raises(SpaceError, match="one of several must have no constraints and no candidates"):
        translated([space, {"at": (0, 1)}])


@pytest.mark.parametrize(
    ("space", "law"),
    [
        ([], "must be a Space, a dict of parameters or a list of these, got"),
        ([{"at": (0, 1)}, 3], "must be a Space, a dict of parameters or a list of these, got 3"),
        ([{"at": (0, 1)}, {"at": 2}], "parameter 'at': must be a Float"),
        ([{"at": (0, 1)}, {"depth": (0, 1)}], "a parameter must be one of .*, got 'depth'"),
    ],
)
def test_a_list_that_cannot_be_searched_is_refused(space: Any, law: str) -> None:
    with pytest.raises(ValueError, match=law):
        search_of(space).fit([[0.0]] * 4)
