"""Problems that choose a model with its parameters: their spaces, their values, and models that fail."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

from bo_suite.bench.suite import get_suite
from bo_suite.problems import get_problem
from bo_suite.problems.model_choice import MODEL_CHOICE
from bo_suite.space.branches import branches
from bo_suite.space.space import Params, Space


def middle(space: Space, name: str, option: object) -> Params:
    """A point with an option, and the parents that it needs; numbers are in the middle of their ranges."""
    narrowed = space.with_fixed(space.check_some({name: option}))
    row = torch.full((1, narrowed.dim), 0.5, dtype=torch.float64)
    return narrowed.decode(narrowed.encoding.sample_from_unit(row))[0]


def options(space: Space) -> Iterator[tuple[str, object]]:
    """Each branch, as a parameter and its option."""
    for branch in branches(space):
        yield branch.name, space[branch.name].decode(branch.low)


def depth(space: Space, name: str) -> int:
    when = space[name].when
    return 1 if when is None else 1 + max(depth(space, parent) for parent in when)


@pytest.mark.parametrize("name", MODEL_CHOICE)
def test_spaces_are_three_levels_deep(name: str) -> None:
    space = get_problem(name).space
    assert len(space) >= 30
    assert max(depth(space, one) for one in space.names) == 3
    assert {depth(space, one) for one in ("degree", "momentum", "leaves", "power", "max_samples")} == {3}


@pytest.mark.parametrize("name", MODEL_CHOICE)
def test_every_model_has_a_value_and_the_same_again(name: str) -> None:
    problem = get_problem(name)
    constant = MODEL_CHOICE[name].constant
    assert constant is not None
    values: dict[str, float] = {}
    for option in ("svm", "forest", "boosting", "mlp", "neighbours", "linear"):
        point = middle(problem.space, "model", option)
        values[option] = problem(point)
        assert MODEL_CHOICE[name].best <= values[option] < 1.02 * constant, option
    assert problem(middle(problem.space, "model", "neighbours")) == values["neighbours"]
    assert len(set(values.values())) >= 4


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "model_choice_breast_cancer"))
        for name in MODEL_CHOICE
    ],
)
def test_every_branch_has_a_value(name: str) -> None:
    problem = get_problem(name)
    for parameter, option in options(problem.space):
        if parameter != "model":
            point = middle(problem.space, parameter, option)
            assert point[parameter] == option
            assert math.isfinite(problem(point)), point


@pytest.mark.parametrize("name", MODEL_CHOICE)
def test_the_loss_of_a_constant_prediction_is_that_of_scikit_learn(name: str) -> None:
    model = MODEL_CHOICE[name]
    regression = name == "model_choice_diabetes"
    constant = DummyRegressor() if regression else DummyClassifier(strategy="prior")
    scores = cross_val_score(constant, *model.data(), cv=model.folds(), scoring=model.scoring)
    assert model.loss(float(np.mean(scores))) == pytest.approx(model.constant, rel=1e-12)


def not_fitted(params: Params) -> object:
    return SVC(C=float("nan"))


def test_a_model_that_cannot_be_fitted_has_the_loss_of_a_constant_prediction() -> None:
    broken = replace(MODEL_CHOICE["model_choice_wine"], estimator=not_fitted)
    assert broken({}) == broken.constant
    with pytest.raises(ValueError, match="'C' parameter"):
        replace(broken, constant=None)({})


def test_the_suite_has_them_all() -> None:
    assert [problem.name for problem in get_suite("model-choice").build()] == list(MODEL_CHOICE)
