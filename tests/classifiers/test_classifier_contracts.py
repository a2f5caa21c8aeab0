"""Every built-in classifier, and Bore with it, passes the checks that outsiders are given."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bo_suite.acquisition import Bore
from bo_suite.classifiers import (
    Classifier,
    ClassifierScore,
    GPClassifier,
    MLPClassifier,
    SklearnClassifier,
    WeightedExamples,
)
from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import WarmStart
from bo_suite.testing import check_acquisition, check_classifier

CLASSIFIERS = [
    MLPClassifier(),
    MLPClassifier(hidden=(8,), members=3),
    GPClassifier(),
    GPClassifier(inducing=10, optimism=1.0),
    SklearnClassifier(RandomForestClassifier(50)),
    SklearnClassifier(ExtraTreesClassifier(50)),
    SklearnClassifier(GradientBoostingClassifier()),
    SklearnClassifier(LogisticRegression()),
]


QUICK = CLASSIFIERS[:1] + CLASSIFIERS[2:5] + CLASSIFIERS[7:]


@pytest.mark.parametrize(
    "classifier",
    [pytest.param(one, marks=[] if one in QUICK else [pytest.mark.slow]) for one in CLASSIFIERS],
    ids=str,
)
def test_classifiers(classifier: Classifier) -> None:
    check_classifier(classifier)


@pytest.mark.parametrize("weighting", ["improvement", pytest.param("probability", marks=pytest.mark.slow)])
@pytest.mark.parametrize("classifier", CLASSIFIERS[:5:2], ids=str)
def test_their_odds_are_acquisitions(classifier: Classifier, weighting: str) -> None:
    check_acquisition(Bore(classifier=classifier, weighting=weighting))


# --- planted faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Wrapped:
    inner: ClassifierScore
    change: Callable[[Tensor, Tensor], Tensor]
    differentiable: bool = True

    @property
    def hyperparameters(self) -> Any:
        return self.inner.hyperparameters

    def __call__(self, x: Tensor) -> Tensor:
        return self.change(self.inner(x), x)


@dataclass(frozen=True)
class Faulty:
    """A good classifier, but for one thing."""

    change: Callable[[Tensor, Tensor], Tensor] = lambda value, x: value
    see: Callable[[WeightedExamples], WeightedExamples] = lambda data: data
    inner: Classifier = field(default_factory=lambda: MLPClassifier(hidden=(8,), steps=100))

    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> Wrapped:
        return Wrapped(self.inner.fit(self.see(data), seeds, start), self.change)


def unweighted(data: WeightedExamples) -> WeightedExamples:
    return replace(data, positive=(data.positive > 0).to(data.x), negative=(data.negative > 0).to(data.x))


def test_without_a_fault_the_check_passes() -> None:
    check_classifier(Faulty())


@pytest.mark.parametrize(
    ("fault", "law"),
    [
        (Faulty(change=lambda value, x: value[..., None]), "one value a row"),
        (Faulty(change=lambda value, x: value.float()), "of the dtype of the rows"),
        (Faulty(change=lambda value, x: value / 0.0), "must be finite: 40 rows"),
        (Faulty(change=lambda value, x: value + 1e-3 * torch.rand(())), "the same at every call"),
        (Faulty(change=lambda value, x: -value), "higher where positives are"),
        (Faulty(change=lambda value, x: value + 0.1 * torch.floor(1e7 * x[..., 0])), "finite differences"),
        (Faulty(see=unweighted), "four times the weight must raise log odds"),
        (
            Faulty(see=lambda data: replace(data, positive=data.negative, negative=data.positive)),
            "higher where positives are",
        ),
    ],
)
def test_a_planted_fault_is_found(fault: Classifier, law: str) -> None:
    with pytest.raises(AssertionError, match=law):
        check_classifier(fault)


# --- labelled rows ----------------------------------------------------------------------------------------


def test_labelled_rows_that_break_a_rule_are_refused() -> None:
    x = torch.rand(4, 2, dtype=torch.float64)
    one = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    with pytest.raises(DataError, match="inputs must be finite"):
        WeightedExamples(x / 0.0, one, 1.0 - one)
    for bad in (torch.nan, -1.0, torch.inf):
        with pytest.raises(DataError, match="negative weights must be finite and at least 0"):
            WeightedExamples(x, one, torch.where(one > 0, bad, 1.0))
    with pytest.raises(DataError, match="an example of each class, got no positive example"):
        WeightedExamples(x, 0.0 * one, one)
    with pytest.raises(DataError, match="levels must give the number of values of columns"):
        WeightedExamples(x, one, 1.0 - one, (1,))
