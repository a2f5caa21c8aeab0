import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor
from torch.testing import assert_close

from bo_suite.classifiers.base import Classifier, ClassifierScore, WeightedExamples
from bo_suite.classifiers.sklearn import SklearnClassifier
from bo_suite.data import Seeds
from bo_suite.errors import DataError, FitError, NumericalError, StorageError
from bo_suite.storage.serialization import from_json, to_json

F64 = torch.float64
SEEDS = Seeds.of(3, 7)


def xgboost() -> Any:
    return pytest.importorskip("xgboost").XGBClassifier(n_estimators=20, n_jobs=1)


def lightgbm() -> Any:
    return pytest.importorskip("lightgbm").LGBMClassifier(
        n_estimators=20, min_child_samples=5, n_jobs=1, verbose=-1
    )


def catboost() -> Any:
    kind = pytest.importorskip("catboost").CatBoostClassifier
    return kind(iterations=20, verbose=0, thread_count=1, allow_writing_files=False)


MAKERS: dict[str, Callable[[], Any]] = {
    "forest": lambda: RandomForestClassifier(20),
    "extra trees": lambda: ExtraTreesClassifier(20),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=20, subsample=0.7),
    "logistic": LogisticRegression,
    "support vectors": lambda: CalibratedClassifierCV(SVC(), ensemble=False),
    "naive Bayes": lambda: GaussianNB(var_smoothing=1e-2),
    "neighbours": KNeighborsClassifier,
    "Gaussian process": GaussianProcessClassifier,
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
}
PEERS = [xgboost, lightgbm, catboost]
KINDS = [
    *(pytest.param(make, id=name) for name, make in MAKERS.items()),
    *(pytest.param(make, id=make.__name__, marks=pytest.mark.integration) for make in PEERS),
]


def uniform(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.rand(count, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


def near_a_corner(x: Tensor) -> Tensor:
    return (x[..., 0] + x[..., 1] < 0.8).to(x)


def labelled(count: int = 80, seed: int = 0) -> WeightedExamples:
    """Mostly positive near a corner; a column of three categories; some rows are of both labels or none."""
    x = uniform(count, 3, seed)
    x[:, 2] = torch.floor(3.0 * x[:, 2]) / 2.0
    weights = 0.2 + uniform(count, 2, seed + 1)
    positive = near_a_corner(x) * weights[:, 0]
    negative = (1.0 - near_a_corner(x)) * weights[:, 1]
    negative[::9] = weights[::9, 1]
    positive[5], negative[5] = 0.0, 0.0
    return WeightedExamples(x, positive, negative, (2,), (None, None, 3))


def plain(x: Tensor, positive: Tensor, negative: Tensor) -> WeightedExamples:
    return WeightedExamples(x, positive.to(F64), negative.to(F64))


def noisy(count: int, dim: int = 2, seed: int = 0) -> WeightedExamples:
    """Equal weights, labels drawn from a logistic curve in the first column."""
    x = uniform(count, dim, seed)
    label = uniform(count, 1, seed + 1)[:, 0] < torch.sigmoid(4.0 * (x[:, 0] - 0.5))
    return plain(x, label, ~label)


def both(first: WeightedExamples, second: WeightedExamples) -> WeightedExamples:
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("x", "positive", "negative")]
    return WeightedExamples(*(torch.stack(pair) for pair in pairs), first.unordered, first.levels)


def score_of(estimator: Any, data: WeightedExamples, x: Tensor, folds: int = 0) -> Tensor:
    return SklearnClassifier(estimator, folds).fit(data, SEEDS)(x)


def log_loss(score: Tensor, data: WeightedExamples) -> float:
    softplus = torch.nn.functional.softplus
    loss = data.positive * softplus(-score) + data.negative * softplus(score)
    return float(loss.sum() / (data.positive + data.negative).sum())


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is given; takes no weights; the probability of label 1 is the first column."""

    overlaps: ClassVar[list[float]] = []

    def __init__(self, flipped: bool = False) -> None:
        self.flipped = flipped

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Recorder":
        self.x_, self.y_ = x, y
        self.classes_ = np.array([1, 0] if self.flipped else [0, 1])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        seen = {tuple(row) for row in self.x_}
        self.overlaps.append(float(np.mean([tuple(row) in seen for row in x])))
        p = np.stack((1.0 - x[:, 0], x[:, 0]), 1)
        return p[:, ::-1] if self.flipped else p


class Broken(Recorder):
    """Goes wrong in the way that it is told."""

    def __init__(self, way: str = "") -> None:
        self.way = way

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Broken":
        if self.way == "fit":
            raise ValueError("the matrix is singular")
        self.x_ = x
        self.classes_ = np.array([1] if self.way == "one class" else [0, 1])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        if self.way == "predict":
            raise KeyError("lost")
        p = np.full((len(x), 1 if self.way == "one column" else 2), 0.5)
        p[-1] = {"nan": np.nan, "above": 1.5}.get(self.way, 0.5)
        return p


class Gone(ClassifierMixin, BaseEstimator):
    """A classifier without probabilities."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Gone":
        return self


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("make", KINDS)
def test_any_classifier_gives_finite_log_odds_that_tell_the_classes_apart(
    make: Callable[[], Any], dtype: torch.dtype
) -> None:
    data, x = labelled(), labelled(400, seed=5).x.to(dtype)
    data = WeightedExamples(
        *(t.to(dtype) for t in (data.x, data.positive, data.negative)), (2,), (None, None, 3)
    )
    classifier = SklearnClassifier(make())
    assert isinstance(classifier, Classifier)
    score = classifier.fit(data, SEEDS)
    assert isinstance(score, ClassifierScore)
    assert not score.differentiable
    assert score.hyperparameters is None
    value = score(x.requires_grad_())
    assert value.shape == (400,)
    assert value.dtype == dtype
    assert not value.requires_grad
    assert bool(torch.isfinite(value).all())
    inside = near_a_corner(x) == 1.0
    sums = x[:, 0] + x[:, 1]
    assert float((value[inside & (sums < 0.6)] > 0).double().mean()) > 0.9
    assert float((value[~inside & (sums > 1.0)] < 0).double().mean()) > 0.9
    assert score(x[:0]).shape == (0,)


@pytest.mark.parametrize("make", KINDS)
def test_the_same_seeds_give_the_same_score_and_the_estimator_stays_as_it_was(
    make: Callable[[], Any],
) -> None:
    data, x, estimator = labelled(), labelled(50, seed=5).x, make()
    before = repr(estimator.get_params(deep=False))
    first = score_of(estimator, data, x)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert_close(score_of(estimator, data, x), first, rtol=0.0, atol=0.0)
    assert repr(estimator.get_params(deep=False)) == before
    assert not [name for name in vars(estimator) if name == "classes_" or name.startswith("n_features")]


@pytest.mark.parametrize("make", KINDS)
def test_replicates_score_as_they_do_alone(make: Callable[[], Any]) -> None:
    first, second = labelled(), labelled(seed=20)
    x = torch.stack((labelled(30, seed=5).x, labelled(30, seed=6).x))
    seeds = Seeds((11, 12), (2,))
    together = SklearnClassifier(make()).fit(both(first, second), seeds)
    alone = [SklearnClassifier(make()).fit(data, Seeds((key,))) for data, key in ((first, 11), (second, 12))]
    expected = torch.stack([score(part) for score, part in zip(alone, x, strict=True)])
    assert_close(together(x), expected, rtol=0.0, atol=0.0)
    assert_close(together(torch.stack((x, x.flip(1))))[1], expected.flip(1), rtol=1e-9, atol=1e-9)
    with pytest.raises(DataError, match=r"x must end in \(\*\(2,\), m, d\)"):
        together(x[0])


def test_one_key_serves_all_replicates() -> None:
    data, x = labelled(), labelled(20, seed=5).x
    forest = SklearnClassifier(RandomForestClassifier(5))
    value = forest.fit(both(data, data), SEEDS)(torch.stack((x, x)))
    assert_close(value[0], value[1], rtol=0.0, atol=0.0)
    assert_close(value[0], forest.fit(data, SEEDS)(x), rtol=0.0, atol=0.0)


def test_seeds_decide_on_a_forest_however_nested_unless_its_state_is_given() -> None:
    data, x = noisy(60), uniform(50, 2, seed=5)

    def of(estimator: Any, key: int) -> Tensor:
        return SklearnClassifier(estimator).fit(data, Seeds((key,)))(x)

    nested = VotingClassifier([("forest", RandomForestClassifier(5))], voting="soft")
    for free in (
        RandomForestClassifier(5),
        make_pipeline(StandardScaler(), RandomForestClassifier(5)),
        nested,
    ):
        assert not torch.equal(of(free, 1), of(free, 2))
        assert_close(of(free, 1), of(free, 1), rtol=0.0, atol=0.0)
    fixed = RandomForestClassifier(5, random_state=4)
    assert_close(of(fixed, 1), of(fixed, 2), rtol=0.0, atol=0.0)


def test_the_score_is_the_decision_function_of_a_logistic_regression_up_to_the_resolution() -> None:
    data, x = noisy(60), 60.0 * uniform(400, 2, seed=5) - 30.0
    peer = LogisticRegression(C=100.0).fit(data.x.numpy(), data.positive.numpy())
    expected, order = torch.from_numpy(peer.decision_function(x.numpy())).sort()
    value = score_of(LogisticRegression(C=100.0), data, x)[order]
    near = expected.abs() < 15.0
    assert 20 < int(near.sum()) < 380
    assert_close(value[near], expected[near], rtol=0.0, atol=1e-8)
    assert bool((value.diff() >= 0).all())
    assert float(value.abs().max()) < 38.0


@pytest.mark.parametrize("name", ["logistic", "pipeline", "nested"])
def test_weights_mean_as_many_copies(name: str) -> None:
    logistic = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    estimator = {
        "logistic": logistic,
        "pipeline": make_pipeline(StandardScaler(with_mean=False, with_std=False), logistic),
        "nested": make_pipeline(make_pipeline("passthrough", logistic)),
    }[name]
    data, x = noisy(80), uniform(50, 2, seed=5)
    copies = torch.arange(80) % 3 + 1
    weighted = plain(data.x, data.positive * copies * 0.01, data.negative * copies * 0.01)
    repeated = plain(*(t.repeat_interleave(copies, 0) for t in (data.x, data.positive, data.negative)))
    value = score_of(estimator, weighted, x)
    assert_close(value, score_of(estimator, repeated, x), rtol=1e-6, atol=1e-6)
    assert float((value - score_of(estimator, data, x)).abs().max()) > 1e-2


def test_the_unit_of_the_weights_does_not_matter() -> None:
    data, x = labelled(), labelled(50, seed=5).x
    scaled = WeightedExamples(data.x, data.positive * 1e-6, data.negative * 1e-6, data.unordered, data.levels)
    for estimator in (LogisticRegression(C=0.3), KNeighborsClassifier()):
        assert_close(score_of(estimator, scaled, x), score_of(estimator, data, x), rtol=1e-9, atol=1e-9)


def test_a_row_of_both_labels_has_the_odds_of_its_weights() -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=F64)
    data = plain(x, torch.tensor([0.3, 0.2]), torch.tensor([0.1, 0.8]))
    value = score_of(RandomForestClassifier(3, bootstrap=False), data, x)
    assert_close(value, torch.log(torch.tensor([3.0, 0.25], dtype=F64)))


def test_small_integer_weights_are_exact_copies_where_fit_takes_none() -> None:
    x = uniform(9, 1)
    copies = torch.arange(9) % 3 + 1
    label = torch.arange(9) % 2 == 0
    data = plain(x, label * copies * 0.1, ~label * copies * 0.1)
    fitted = SklearnClassifier(Recorder()).fit(data, SEEDS).models[0].estimator
    order = np.argsort(fitted.x_[:, 0])
    place = torch.argsort(x[:, 0])
    expected = x[place].repeat_interleave(copies[place], 0)
    assert_close(torch.from_numpy(fitted.x_[order]), expected, rtol=0.0, atol=0.0)
    assert fitted.y_.sum() == copies[label].sum()


def test_equal_weights_are_not_resampled() -> None:
    data = noisy(30)
    fitted = SklearnClassifier(Recorder()).fit(data, SEEDS).models[0].estimator
    assert sorted(fitted.x_[:, 0]) == sorted(data.x[:, 0].tolist())


@pytest.mark.parametrize("key", range(5))
def test_resampling_is_in_proportion_to_within_one_copy_and_bounded(key: int) -> None:
    x, weights = uniform(200, 1), uniform(200, 1, seed=1)[:, 0] ** 3
    label = torch.arange(200) % 4 == 0
    data = plain(x, label * weights, ~label * weights)
    fitted = SklearnClassifier(Recorder()).fit(data, Seeds((key,))).models[0].estimator
    assert len(fitted.x_) == 800
    copies = torch.tensor([(fitted.x_[:, 0] == row).sum() for row in x[:, 0].tolist()])
    share = 800 * weights / weights.sum()
    assert float((copies - share).abs().max()) < 1.0
    assert abs(fitted.y_.sum() - float(share[label].sum())) < 1.0


@pytest.mark.parametrize("least", [1e-9, 1e-320])
def test_each_class_keeps_its_heaviest_example_however_light(least: float) -> None:
    x = uniform(20, 1)
    positive, negative = torch.zeros(20, dtype=F64), torch.ones(20, dtype=F64)
    positive[:2] = torch.tensor([least, 3.0 * least], dtype=F64)
    fitted = SklearnClassifier(Recorder()).fit(plain(x, positive, negative), SEEDS).models[0].estimator
    assert_close(fitted.x_[fitted.y_ == 1], x[1:2].numpy(), rtol=0.0, atol=0.0)


def test_pure_leaves_count_as_half_an_example() -> None:
    data = noisy(40, dim=1)
    score = SklearnClassifier(ExtraTreesClassifier(10)).fit(data, SEEDS)
    value = score(data.x)
    assert set(np.unique(score.models[0].estimator.predict_proba(data.x.numpy()))) == {0.0, 1.0}
    assert_close(value, (2.0 * data.positive - 1.0) * (math.log(82.0) + 1.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("flipped", [False, True])
def test_the_score_increases_all_the_way_and_is_the_log_odds_down_to_the_floor(flipped: bool) -> None:
    x = torch.linspace(0.0, 1.0, 1001, dtype=F64)[:, None]
    data = plain(x[::100], x[::100, 0] > 0.5, x[::100, 0] <= 0.5)  # 11 examples, among them 0 and 1
    value = score_of(Recorder(flipped), data, x)
    assert bool(torch.isfinite(value).all())
    assert bool((value.diff() > 0).all())
    above = (x[:, 0] >= 1.0 / 24.0) & (x[:, 0] <= 23.0 / 24.0)
    assert_close(value[above], torch.logit(x[above, 0]), rtol=1e-10, atol=1e-10)
    slopes = value.diff() * 1000.0  # no kink at the floor: slope 24 + 1 / (1 - 1 / 24) on both its sides
    assert_close(slopes[:40], torch.full((40,), 25.0, dtype=F64), rtol=0.02, atol=0.0)
    assert_close(float(slopes[41]), 24.4, rtol=0.04, atol=0.0)


def test_probabilities_without_zeros_are_not_cut_off() -> None:
    x = torch.tensor([[0.0], [1e-25], [1e-15], [1e-9], [0.2], [1.0]], dtype=F64)
    data = plain(x[2:4], torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    value = score_of(Recorder(), data, x)
    assert_close(value[2:5], torch.logit(x[2:5, 0]), rtol=1e-12, atol=1e-12)
    assert bool(torch.isfinite(value).all())
    assert bool((value.diff() > 0).all())


def test_categories_are_only_equal_or_different() -> None:
    x = torch.tensor([0.0, 0.5, 1.0], dtype=F64).repeat(20)[:, None]
    middle = x[:, 0] == 0.5
    data = WeightedExamples(x, middle.to(F64), (~middle).to(F64), (0,), (3,))
    score = SklearnClassifier(LogisticRegression()).fit(data, SEEDS)
    value = score(x[:3])
    assert score.models[0].estimator.n_features_in_ == 3
    assert float(value[1]) > 1.0
    assert float(value[[0, 2]].max()) < -1.0
    assert_close(value[0], value[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("estimator", "dim"),
    [
        pytest.param(GaussianNB(), 1, id="naive Bayes of one column six times"),
        pytest.param(
            GradientBoostingClassifier(n_estimators=200, max_depth=5),
            2,
            id="overfitted boosting",
            marks=pytest.mark.slow,
        ),
        pytest.param(RandomForestClassifier(50), 2, id="forest of pure leaves"),
    ],
)
def test_calibration_lowers_the_log_loss_of_rows_not_seen_and_keeps_the_order(
    estimator: Any, dim: int
) -> None:
    data, fresh = noisy(300, dim), noisy(2000, dim, seed=9)
    if dim == 1:
        data, fresh = (plain(part.x.repeat(1, 6), part.positive, part.negative) for part in (data, fresh))
    raw, calibrated = (score_of(estimator, data, fresh.x, folds) for folds in (0, 5))
    ideal = log_loss(4.0 * (fresh.x[:, 0] - 0.5), fresh)
    assert log_loss(calibrated, fresh) - ideal < 0.5 * (log_loss(raw, fresh) - ideal)
    order = raw.argsort()
    assert bool((calibrated[order].diff() >= 0).all())
    slope = (calibrated[order[-1]] - calibrated[order[0]]) / (raw[order[-1]] - raw[order[0]])
    expected = calibrated[order[0]] + slope * (raw - raw[order[0]])
    assert_close(calibrated, expected, rtol=1e-9, atol=1e-9)


def test_calibration_leaves_alone_what_is_right() -> None:
    data, x = noisy(2000), uniform(50, 2, seed=5)
    raw, calibrated = (score_of(LogisticRegression(), data, x, folds) for folds in (0, 3))
    assert_close(calibrated, raw, rtol=0.1, atol=0.1)


def test_calibrated_odds_are_those_of_platts_targets_where_the_classes_are_apart() -> None:
    x = (torch.arange(20) < 12).to(F64)[:, None] + 0.01 * uniform(20, 1)
    data = plain(x, x[:, 0] >= 1.0, x[:, 0] < 1.0)
    value = score_of(KNeighborsClassifier(1), data, torch.tensor([[1.0], [0.0]], dtype=F64), 4)
    assert_close(value, torch.tensor([13.0, 1.0 / 9.0], dtype=F64).log(), rtol=1e-3, atol=0.0)


def test_a_classifier_worse_than_chance_keeps_its_order() -> None:
    x = torch.linspace(0.0, 1.0, 60, dtype=F64)[:, None]
    label = torch.arange(60) % 2 == 0  # the nearest of the others is of the other label
    value = score_of(KNeighborsClassifier(1), plain(x, label, ~label), x, 5)
    assert float(value[label].min()) > float(value[~label].max())


def test_examples_of_a_row_are_held_out_together() -> None:
    x = uniform(13, 1)
    weights = torch.ones(13)
    Recorder.overlaps.clear()
    score_of(Recorder(), plain(x, weights, weights), x, 4)
    assert sorted(Recorder.overlaps) == [0.0] * 4 + [1.0] * 2  # held-out rows; all rows, and x


@pytest.mark.parametrize(("positives", "same"), [(2, True), (3, False)])
def test_a_class_of_fewer_rows_than_folds_is_not_calibrated(positives: int, same: bool) -> None:
    x = uniform(20, 2)
    positive = torch.arange(20) < positives
    data = plain(x, positive, torch.arange(20) >= 1)
    raw, calibrated = (score_of(LogisticRegression(), data, x, folds) for folds in (0, 3))
    assert torch.equal(raw, calibrated) is same


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (RandomForestClassifier, r"must be an object such as RandomForestClassifier\(\), got the class"),
        (
            RandomForestRegressor(),
            "must be a classifier with scikit-learn's methods, got RandomForestRegressor",
        ),
        (GaussianMixture(2), "must be a classifier with scikit-learn's methods, got GaussianMixture"),
        (None, "must be a classifier with scikit-learn's methods, got NoneType"),
        (torch.nn.Linear(2, 1), "must be a classifier with scikit-learn's methods, got Linear"),
        (SVC(), "must have predict_proba, got SVC without; CalibratedClassifierCV adds it"),
        (make_pipeline(StandardScaler(), SVC()), "must have predict_proba, got Pipeline without"),
        (Gone(), "must have predict_proba, got Gone without"),
    ],
)
def test_what_is_no_classifier_with_probabilities_is_refused_at_once(estimator: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SklearnClassifier(estimator)


@pytest.mark.parametrize("folds", [1, -2])
def test_folds_are_none_or_several(folds: int) -> None:
    with pytest.raises(DataError, match=f"`calibration_folds` must be 0 or at least 2, got {folds}"):
        SklearnClassifier(GaussianNB(), folds)


@pytest.mark.parametrize(
    ("estimator", "kind", "message"),
    [
        (Broken("fit"), FitError, "Broken could not be fitted: ValueError: the matrix is singular"),
        (RandomForestClassifier(-1), FitError, "RandomForestClassifier could not be fitted: .*n_estimators"),
        (Broken("one class"), FitError, r"Broken must learn the classes 0 and 1, learned \[1\]"),
        (Broken("predict"), FitError, "Broken has no probabilities to give: KeyError: 'lost'"),
        (Broken("one column"), NumericalError, r"must give two probabilities a row, gave \(20, 1\) for 20"),
        (Broken("nan"), NumericalError, r"Broken must give probabilities in \[0, 1\], gave nan to nan"),
        (Broken("above"), NumericalError, r"Broken must give probabilities in \[0, 1\], gave 0.5 to 1.5"),
    ],
)
def test_what_goes_wrong_within_an_estimator_is_told(
    estimator: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        SklearnClassifier(estimator).fit(noisy(20), SEEDS)


def test_rows_of_another_width_are_told() -> None:
    score = SklearnClassifier(GaussianNB()).fit(noisy(20), SEEDS)
    with pytest.raises(FitError, match="GaussianNB has no probabilities to give"):
        score(uniform(5, 3))


def test_a_stored_one_must_be_given_again() -> None:
    classifier = SklearnClassifier(RandomForestClassifier(30), 3)
    form = to_json(classifier)
    assert form == to_json(SklearnClassifier(RandomForestClassifier(30), 3))
    assert form != to_json(SklearnClassifier(RandomForestClassifier(31), 3))
    with pytest.raises(StorageError, match=r"must be given again to resume.*RandomForestClassifier"):
        from_json(form)
