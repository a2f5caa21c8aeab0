"""Classifiers of rows that lack some columns: what is inactive is a level of its own."""

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import Bore
from bo_suite.classifiers import Classifier, GPClassifier, MLPClassifier, SklearnClassifier, WeightedExamples
from bo_suite.classifiers.features import features_of
from bo_suite.data import Columns, Condition, Dataset, Seeds

LEFT, RIGHT = ((0, ((0.0, 0.0),)),), ((0, ((1.0, 1.0),)),)
CONDITIONS = (Condition(1, LEFT), Condition(2, LEFT), Condition(3, RIGHT))
COLUMNS = Columns((0, 2), (2, None, 3, None), conditions=CONDITIONS)
CLASSIFIERS = [
    MLPClassifier(),
    GPClassifier(),
    SklearnClassifier(RandomForestClassifier(50)),
    SklearnClassifier(KNeighborsClassifier()),
]


def rows(count: int, seed: int) -> Tensor:
    x = torch.rand(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[:, 0], x[:, 2] = (2 * x[:, 0]).floor(), (3 * x[:, 2]).floor() / 2
    return torch.where(COLUMNS.active(x), x, 0.0)


def is_good(x: Tensor) -> Tensor:
    """All of the right branch, and the left one where its column is large: not near 0."""
    return (x[:, 0] == 1.0) | (x[:, 1] > 0.6)


def examples(count: int) -> WeightedExamples:
    x = rows(count, seed=0)
    good = is_good(x).to(x)
    return WeightedExamples(x, good, 1.0 - good, COLUMNS.unordered, COLUMNS.levels, CONDITIONS)


def test_features_are_levels_of_categories_and_what_is_active() -> None:
    x = torch.tensor([[0.0, 0.2, 0.5, 0.0], [1.0, 0.0, 0.0, 0.7]], dtype=torch.float64)
    expected = [[1, 0, 0.2, 0, 1, 0, 0.5, 1, 0], [0, 1, 0.5, 0, 0, 0, 0.7, 0, 1]]
    assert_close(features_of(x, COLUMNS), torch.tensor(expected, dtype=torch.float64))
    scaled = features_of(x, COLUMNS, -1.0)
    assert_close(scaled[:, [2, 6]], torch.tensor([[-0.6, 0.0], [0.0, 0.4]], dtype=torch.float64))
    assert_close(
        features_of(x, Columns(conditions=CONDITIONS))[:, 4:], torch.tensor([[1.0, 0], [0, 1.0]]).to(x)
    )
    assert features_of(x, Columns()) is x


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_a_classifier_tells_what_is_inactive_from_a_position_of_zero(classifier: Classifier) -> None:
    score = classifier.fit(examples(80), Seeds.of(0, 0))
    test = rows(200, seed=1)
    wrong = (score(test) > 0.0) != is_good(test)
    assert float(wrong.double().mean()) < 0.06
    low, right = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    assert float(score(low[None])) < 0.0 < float(score(right[None]))


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_what_is_in_an_inactive_column_has_no_influence_on_a_classifier(classifier: Classifier) -> None:
    data, test = examples(30), rows(20, seed=1)
    score = classifier.fit(data, Seeds.of(0, 0))
    assert torch.equal(score(torch.where(COLUMNS.active(test), test, 0.5)), score(test))
    if score.differentiable:
        leaf = test.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
        assert not bool(gradient[~COLUMNS.active(test)].any())
        assert bool((gradient[:, [1, 3]] != 0.0).any(-1).all())


def test_bore_gives_the_conditions_to_its_classifier() -> None:
    x = rows(40, seed=0)
    y = (x[:, 1] - 0.5).square() + x[:, 3]
    data = Dataset(x, (y - y.mean()) / y.std(), pending=rows(2, seed=3), columns=COLUMNS)
    score, test = Bore().build(data, Seeds.of(0, 0)), rows(20, seed=1)
    assert torch.equal(score(torch.where(COLUMNS.active(test), test, 0.5)), score(test))
