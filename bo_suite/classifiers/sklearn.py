"""Any classifier that follows scikit-learn's conventions, as the classifier of a density ratio."""

from dataclasses import dataclass, field, replace
from typing import Any

import jaxtyping as jt
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bo_suite.classifiers.base import WeightedExamples
from bo_suite.classifiers.features import features_of
from bo_suite.data import Columns, Seeds
from bo_suite.errors import DataError, FitError, NumericalError
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.process import WarmStart
from bo_suite.values.describe import error_text

_Array = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]

_MOST_COPIES = 4
"""Resampled examples for each given one, at most."""

_FLATTEST = 1e-3
"""Smallest slope of a calibration: a classifier that is no better than chance keeps its order."""

_SMALLEST = 2.0**-53
"""Where 1 - p ends, by which most estimators get one of the two probabilities."""


@dataclass(frozen=True)
class SklearnClassifier:
    """Log odds by a classifier of scikit-learn, XGBoost, LightGBM, CatBoost or alike, cloned for every fit.

    A row with a positive weight and a negative weight is two examples. Weights are scaled to mean one and
    given to `fit` as `sample_weight`, of a pipeline to its last step. Where `fit` does not take them, as with
    nearest neighbours, the examples are resampled instead: systematically, each in proportion to its weight
    to within one copy (Kitagawa 1996, appendix), so often that the smallest weight counts once, but at most
    four times as many as are given, and at least one of each class. Equal weights, and small integer ones,
    so mean the same as copies.

    With p1 and p0 the probabilities that `predict_proba` gives, the score is log p1 - log p0, where
    log p is log e + p / e - 1 below e: increasing down to 0, where trees and neighbours get to. An estimator
    that gives a 0 to any of its n examples has e = 1 / (2 n + 2), half an example; any other 2^-53, the
    resolution of 1 - p.

    Calibration takes the score s to a s + b (Platt 1999, with his targets), by the scores of examples that
    were held out; a row's two examples are held out together. Since a > 0 it changes the odds but not their
    order, hence not where they are largest.

    Everything else is the estimator's own: boosting with `min_samples_leaf=20`, say, gives equal scores
    to all rows until there are 40 examples, and threads are those of its `n_jobs`.

    Attributes:
        estimator: a classifier with `predict_proba`. Those of its parameters, and of its parts, that are
            called `random_state` and are None get numbers that depend on the seeds.
        calibration_folds: 0 for the score as it is; else the number of parts of the data that are held out
            in turn, at the price of as many fits. Without as many rows of each class it is left as it is.

    Raises:
        DataError: an estimator that is no classifier or gives no probabilities, or one fold.
    """

    estimator: Any
    calibration_folds: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.estimator, type):
            name = self.estimator.__name__
            raise DataError(f"`estimator` must be an object such as {name}(), got the class {name}")
        name = type(self.estimator).__name__
        if not _follows_conventions(self.estimator):
            raise DataError(f"`estimator` must be a classifier with scikit-learn's methods, got {name}")
        if not hasattr(self.estimator, "predict_proba"):
            raise DataError(
                f"`estimator` must have predict_proba, got {name} without; CalibratedClassifierCV adds it"
            )
        if self.calibration_folds < 0 or self.calibration_folds == 1:
            raise DataError(f"`calibration_folds` must be 0 or at least 2, got {self.calibration_folds}")

    @outside_inference_mode
    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> "SklearnLogOdds":
        """The log odds given the data, one estimator a replicate; `start` is of no use to it.

        Raises:
            FitError: the estimator could not be fitted, or has learned other classes than 0 and 1.
            NumericalError: it gives what are no probabilities.
        """
        count = data.batch_shape.numel()
        keys = seeds.keys * count if len(seeds.keys) == 1 else seeds.keys
        x = _numpy(features_of(data.x, data.columns))
        parts = zip(
            x.reshape(count, *x.shape[-2:]),
            _numpy(data.positive).reshape(count, -1),
            _numpy(data.negative).reshape(count, -1),
            keys,
            strict=True,
        )
        models = tuple(self._fit_one(_examples(*part), Seeds((key,))) for *part, key in parts)
        return SklearnLogOdds(models, data.batch_shape, data.columns)

    def _fit_one(self, examples: "_Examples", seeds: Seeds) -> "_Model":
        model = _fit(self.estimator, examples, seeds)
        has_zeros = bool((_probabilities(model.estimator, examples.x) <= 0.0).any())
        model = replace(model, floor=1.0 / (2 * len(examples.label) + 2) if has_zeros else _SMALLEST)
        fold = _folds(examples, self.calibration_folds, seeds) if self.calibration_folds else None
        if fold is None:
            return model
        score = np.empty_like(examples.weight)
        for number in range(self.calibration_folds):
            part = _fit(self.estimator, examples.at(fold != number), seeds.split(f"fold {number}"))
            part = replace(part, floor=model.floor)  # on the scale of the scores to come
            score[fold == number] = part.log_odds(examples.x[fold == number])
        slope, intercept = _platt(score, examples.label, examples.weight)
        return replace(model, slope=slope, intercept=intercept)


@dataclass(frozen=True, eq=False)
class SklearnLogOdds:
    """Log odds by fitted estimators, one a replicate.

    Attributes:
        models: the estimators, and how their probabilities become scores.
        batch_shape: shape of the replicate dimensions `*b`.
        columns: kinds of the columns.
    """

    models: tuple["_Model", ...]
    batch_shape: torch.Size
    columns: Columns
    differentiable: bool = field(default=False, init=False)
    hyperparameters: None = field(default=None, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log p1 - log p0 of each row, by one call of `predict_proba` a replicate.

        Raises:
            DataError: other replicates than the data's.
            NumericalError: the estimator gives what are no probabilities.
        """
        leading, last = x.shape[:-2], len(self.batch_shape)
        if leading[len(leading) - last :] != self.batch_shape:
            raise DataError(
                f"x must end in (*{tuple(self.batch_shape)}, m, d) as the data did, got {tuple(x.shape)}"
            )
        if x.shape[:-1].numel() == 0:
            return x.new_zeros(x.shape[:-1])
        features = _numpy(features_of(x, self.columns))
        features = features.reshape(-1, len(self.models), *features.shape[-2:])
        score = np.empty(features.shape[:-1])
        for place, model in enumerate(self.models):
            rows = features[:, place]
            score[:, place] = model.log_odds(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape[:-1])
        return torch.from_numpy(score).to(x).reshape(x.shape[:-1])


@dataclass(frozen=True, eq=False)
class _Examples:
    """Rows with a label and a weight each, and the number of the row in the data."""

    x: _Array
    label: _Integers
    weight: _Array
    row: _Integers

    def at(self, where: npt.NDArray[np.bool_]) -> "_Examples":
        return _Examples(self.x[where], self.label[where], self.weight[where], self.row[where])


@dataclass(frozen=True, eq=False)
class _Model:
    """A fitted estimator; its log odds are slope (log p1 - log p0) + intercept, p1 being in `column`."""

    estimator: Any
    column: int
    floor: float = _SMALLEST
    slope: float = 1.0
    intercept: float = 0.0

    def log_odds(self, x: _Array) -> _Array:
        p = _probabilities(self.estimator, x)
        score = _log(p[:, self.column], self.floor) - _log(p[:, 1 - self.column], self.floor)
        calibrated: _Array = self.slope * score + self.intercept
        return calibrated


def _follows_conventions(estimator: object) -> bool:
    from sklearn.base import is_classifier

    try:
        return hasattr(estimator, "get_params") and bool(is_classifier(estimator))
    except (AttributeError, TypeError):  # raised on what has no tags
        return False


def _numpy(tensor: Tensor) -> _Array:
    array: _Array = tensor.detach().to("cpu", torch.float64).numpy()
    return array


def _examples(x: _Array, positive: _Array, negative: _Array) -> _Examples:
    ones, zeros = np.flatnonzero(positive), np.flatnonzero(negative)
    row = np.concatenate((ones, zeros))
    label = np.repeat((1, 0), (len(ones), len(zeros)))
    weight = np.concatenate((positive[ones], negative[zeros]))
    return _Examples(x[row], label, weight / weight.mean(), row)


def _fit(estimator: Any, examples: _Examples, seeds: Seeds) -> _Model:
    from sklearn.base import clone

    name = type(estimator).__name__
    weight, parameter = examples.weight / examples.weight.mean(), _weight_parameter(estimator)
    try:
        fresh = _seeded(clone(estimator), seeds)
        if parameter is not None:
            fresh.fit(examples.x, examples.label, **{parameter: weight})
        else:
            chosen = _resample(weight, examples.label, seeds.split("resample"))
            fresh.fit(examples.x[chosen], examples.label[chosen])
    except Exception as error:  # whatever a foreign fit raises
        raise FitError(f"{name} could not be fitted: {error_text(error)}") from error
    classes = [int(label) for label in getattr(fresh, "classes_", ())]
    if sorted(classes) != [0, 1]:
        raise FitError(f"{name} must learn the classes 0 and 1, learned {classes}")
    return _Model(fresh, classes.index(1))


def _seeded(estimator: Any, seeds: Seeds) -> Any:
    """The estimator with an integer for every random state, of its parts too, that is None."""
    states = {
        name: seeds.split(name).keys[0] % 2**31
        for name, value in estimator.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }
    return estimator.set_params(**states)


def _weight_parameter(estimator: Any) -> str | None:
    """What `fit` calls the weights of the examples, None where it takes none."""
    from sklearn.utils.validation import has_fit_parameter

    if hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        parameter = _weight_parameter(last)
        return None if parameter is None else f"{name}__{parameter}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def _resample(weight: _Array, label: _Integers, seeds: Seeds) -> _Integers:
    """Places of examples, sorted: ⌊N W_i + u⌋ - ⌊N W_{i-1} + u⌋ copies of the i-th, W the cumulated shares.

    N makes the smallest share one copy, but is at most `_MOST_COPIES` times the number of examples. A class
    that gets no copy gets its heaviest example.
    """
    share = weight / weight.sum()
    count = round(1.0 / max(float(share.min()), 1.0 / (_MOST_COPIES * len(weight))))
    u = float(seeds.uniform((1,), torch.empty(0, dtype=torch.float64, device="cpu")))
    ends = np.floor(count * np.cumsum(share) + u)
    ends[-1] = count
    copies = np.diff(ends, prepend=0.0).astype(np.int64)
    for one in (0, 1):
        members = np.flatnonzero(label == one)
        if not copies[members].any():
            copies[members[weight[members].argmax()]] = 1
    return np.repeat(np.arange(len(weight)), copies)


def _probabilities(estimator: Any, x: _Array) -> _Array:
    name = type(estimator).__name__
    try:
        p = np.asarray(estimator.predict_proba(x), dtype=np.float64)
    except Exception as error:  # whatever a foreign predict_proba raises
        raise FitError(f"{name} has no probabilities to give: {error_text(error)}") from error
    if p.shape != (len(x), 2):
        raise NumericalError(f"{name} must give two probabilities a row, gave {p.shape} for {len(x)} rows")
    if not bool(((p >= -1e-6) & (p <= 1.0 + 1e-6)).all()):
        raise NumericalError(f"{name} must give probabilities in [0, 1], gave {p.min()} to {p.max()}")
    return p.clip(0.0, 1.0)


def _log(p: _Array, floor: float) -> _Array:
    """log p, and below the floor its tangent there."""
    logarithm: _Array = np.log(np.maximum(p, floor)) + np.minimum(p / floor, 1.0) - 1.0
    return logarithm


def _folds(examples: _Examples, count: int, seeds: Seeds) -> _Integers | None:
    """The fold of each example, a row's two in the same; None where a class has fewer rows than folds.

    Rows are dealt out in turn, those of either class in one go, so that every fold gets its part of both.
    """
    size = int(examples.row.max()) + 1
    positive = np.bincount(examples.row[examples.label == 1], minlength=size) > 0
    negative = np.bincount(examples.row[examples.label == 0], minlength=size) > 0
    if min(positive.sum(), negative.sum()) < count:
        return None
    block = np.where(positive, negative.astype(np.int64), 3 - negative.astype(np.int64))
    draws = seeds.split("folds").uniform((size,), torch.empty(0, dtype=torch.float64, device="cpu"))
    fold = np.empty(size, dtype=np.int64)
    fold[np.lexsort((_numpy(draws), block))] = np.arange(size) % count
    dealt: _Integers = fold[examples.row]
    return dealt


def _platt(score: _Array, label: _Integers, weight: _Array) -> tuple[float, float]:
    """a and b that minimise Σ w (log(1 + exp z) - t z), z = a score + b, for a of at least `_FLATTEST`.

    t = (W₁ + 1) / (W₁ + 2) for label 1 and 1 / (W₀ + 2) for label 0, W the total weights (Platt 1999).
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    unit = max(float(np.abs(score).max()), 1.0)
    positive, negative = weight[label == 1].sum(), weight[label == 0].sum()
    target = np.where(label == 1, (positive + 1.0) / (positive + 2.0), 1.0 / (negative + 2.0))

    def loss(theta: _Array) -> tuple[float, _Array]:
        z = theta[0] * score / unit + theta[1]
        residual = weight * (expit(z) - target)
        value = float(weight @ (np.logaddexp(0.0, z) - target * z))
        return value, np.array([residual @ score / unit, residual.sum()])

    bounds = [(_FLATTEST * unit, None), (None, None)]
    found = minimize(loss, (unit, 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0] / unit), float(found.x[1])
