"""Spaces of ConfigSpace as ours and back: the same points are legal in both."""

import pickle
import sys
from typing import Any

import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError
from bo_suite.space.candidates import sample_random

cs = pytest.importorskip("ConfigSpace")

from bo_suite.integrations.configspace import from_configspace, to_configspace  # noqa: E402

TREE = Space(
    {
        "kind": Choice(["svm", "mlp", "none"]),
        "C": Float(1e-3, 1e3, log=True, when={"kind": "svm"}),
        "n": Int(1, 5, when={"kind": ["mlp", "svm"]}),
        "deep": Float(-1.0, 1.0, when={"n": (3, 5)}),
        "wide": Float(0.0, 1.0, when={"C": (0.5, 20.0)}),
        "all": Float(0.0, 1.0, when={"C": (1e-3, 1e3)}),
        "size": Choice(["s", "m", "l"], ordered=True),
        "pace": Int(10, 50, step=10, when={"size": ["m", "l"], "n": (1, 2)}),
        "big": Int(1, 10**6, log=True),
        "late": Choice([True, False], when={"big": (1000, 10**6)}),
        "fast": Float(0, 1, when={"pace": (30, 50)}),
        "one": Choice(["only"]),
    }
)


def legal(theirs: Any, params: dict[str, Any]) -> bool:
    try:
        cs.Configuration(theirs, values=params).check_valid_configuration()
    except (cs.exceptions.IllegalValueError, cs.exceptions.ForbiddenValueError, ValueError):
        return False
    return True


def points(space: Space, count: int) -> list[dict[str, Any]]:
    taken = torch.empty(0, space.dim, dtype=torch.float64)
    return space.decode(sample_random(space, count, taken, Seeds.of(0, 0)))


def assert_same_points(space: Space, theirs: Any) -> None:
    for config in theirs.sample_configuration(100):
        space.check(dict(config))
    assert all(legal(theirs, params) for params in points(space, 100))


def a_configuration_space() -> Any:
    theirs = cs.ConfigurationSpace(seed=0)
    kind = cs.CategoricalHyperparameter("kind", ["a", "b", "c"], weights=[1, 2, 1])
    size = cs.OrdinalHyperparameter("size", [1, 10, 100])
    rate = cs.UniformFloatHyperparameter("rate", 1e-4, 1.0, log=True, default_value=0.5)
    depth = cs.UniformIntegerHyperparameter("depth", 1, 10)
    width = cs.NormalFloatHyperparameter("width", 0.0, 1.0, lower=-3.0, upper=2.0)
    units = cs.UniformIntegerHyperparameter("units", 1, 10**5, log=True)
    leaf, inner = cs.Float("leaf", (0.0, 1.0)), cs.Float("inner", (0.0, 1.0))
    theirs.add(kind, size, rate, depth, width, units, leaf, inner, cs.Constant("fixed", 3))
    theirs.add(cs.NotEqualsCondition(depth, kind, "c"))
    theirs.add(
        cs.AndConjunction(cs.LessThanCondition(width, depth, 5), cs.GreaterThanCondition(width, size, 1))
    )
    theirs.add(cs.OrConjunction(cs.LessThanCondition(leaf, depth, 3), cs.EqualsCondition(leaf, depth, 8)))
    theirs.add(
        cs.AndConjunction(
            cs.GreaterThanCondition(inner, rate, 0.01), cs.LessThanCondition(inner, units, 9999)
        )
    )
    theirs.add(
        cs.ForbiddenAndConjunction(
            cs.ForbiddenEqualsClause(kind, "a"), cs.ForbiddenInClause(depth, [1, 2, 3, 5])
        )
    )
    theirs.add(cs.ForbiddenLessThanRelation(depth, size), cs.ForbiddenEqualsClause(size, 100))
    return theirs


def test_a_space_of_configspace_has_the_same_points() -> None:
    theirs = a_configuration_space()
    space = from_configspace(theirs)
    assert space["rate"] == Float(1e-4, 1.0, log=True)
    assert space["size"] == Choice([1, 10, 100], ordered=True)
    assert space["width"] == Float(-3.0, 2.0, when={"depth": (1, 4), "size": [10, 100]})
    assert space["leaf"] == Float(0.0, 1.0, when={"depth": [1, 2, 8]})
    assert space["depth"] == Int(1, 10, when={"kind": ["a", "b"]})
    assert space["fixed"] == Choice([3])
    low, high = space["inner"].when["rate"]  # type: ignore[index]
    assert 0.01 < low < 0.01 * (1 + 1e-8)
    assert (high, space["inner"].when["units"]) == (1.0, (1, 9998))  # type: ignore[index]
    assert_same_points(space, theirs)
    with pytest.raises(SpaceError, match="'Forbidden: size == 100'"):
        space.check({**dict(theirs.get_default_configuration()), "size": 100})


def test_a_space_of_configspace_comes_back() -> None:
    space = from_configspace(a_configuration_space())
    again = to_configspace(space, seed=1)
    assert dict(from_configspace(again)) == dict(space)
    assert sorted(repr(from_configspace(again).constraints)) == sorted(repr(space.constraints))
    assert_same_points(space, again)
    assert legal(again, dict(again.get_default_configuration()))


def test_a_space_of_ours_has_the_same_points_in_configspace() -> None:
    theirs = to_configspace(TREE, seed=0)
    assert_same_points(TREE, theirs)
    again = from_configspace(theirs)
    assert again["pace"] == Choice([10, 20, 30, 40, 50], ordered=True, when={"size": ["m", "l"], "n": [1, 2]})
    assert again["all"] == Float(0.0, 1.0, when={"kind": ["svm"]})
    assert again["late"] == TREE["late"]
    assert again["one"] == TREE["one"]
    assert_same_points(again, theirs)


def test_a_space_of_configspace_is_searched_by_an_optimizer() -> None:
    theirs = a_configuration_space()
    opt = Optimizer(from_configspace(theirs), seed=0)
    for _ in range(2):
        trial = opt.ask()
        assert legal(theirs, trial.params)
        opt.tell(trial, trial.params["rate"])
    assert pickle.loads(pickle.dumps(opt.space)) == opt.space


def refused(*added: Any) -> Any:
    theirs = cs.ConfigurationSpace()
    theirs.add(cs.Float("x", (0.0, 1.0)), cs.Categorical("k", ["a", "b"]), cs.Float("child", (0.0, 1.0)))
    theirs.add(*(one(theirs) for one in added))
    return theirs


@pytest.mark.parametrize(
    ("condition", "law"),
    [
        (
            lambda s: cs.OrConjunction(
                cs.EqualsCondition(s["child"], s["k"], "a"), cs.GreaterThanCondition(s["child"], s["x"], 0.5)
            ),
            r"each condition of 'child' must be on one parameter, and all must hold together, got \(child",
        ),
        (
            lambda s: cs.NotEqualsCondition(s["child"], s["x"], 0.5),
            "'x', of more than 1000 values.*got child",
        ),
        (lambda s: cs.EqualsCondition(s["child"], s["x"], 0.5), "'x', of more than 1000 values"),
    ],
)
def test_conditions_that_no_parameter_of_ours_has_are_refused(condition: Any, law: str) -> None:
    with pytest.raises(SpaceError, match=law):
        from_configspace(refused(condition))


@pytest.mark.parametrize(
    ("space", "law"),
    [
        (
            Space({"x": Float(0, 1), "n": Int(1, 9, fidelity=True)}),
            r"no fidelities and contexts, got \['n'\]",
        ),
        (Space({"x": Float(0, 1), "n": Int(1, 9, context=True)}), r"no fidelities and contexts, got \['n'\]"),
        (Space({"x": Float(0, 1, step=1e-4)}), "'x': as an ordinal.*at most 1000 values, got 10001"),
        (Space({"x": Float(0, 1), "y": Float(0, 1)}, ["x <= y"]), r"no constraints but .*, got \['x <= y'\]"),
        (Space({"x": Float(0, 1)}, candidates={"x": [0.5]}), "no candidates, got <1 row>"),
        ({"x": Float(0, 1)}, "must be a Space, got"),
        (Space({"x": Float(0, 1)}, [lambda p: p["x"] < 0.5]), r"no constraints but .*, got \[<lambda>\]"),
    ],
)
def test_what_configspace_does_not_have_is_refused(space: Any, law: str) -> None:
    with pytest.raises(SpaceError, match=law):
        to_configspace(space)


def test_options_that_a_choice_cannot_have_are_refused_by_name() -> None:
    theirs = cs.ConfigurationSpace()
    theirs.add(cs.CategoricalHyperparameter("k", [(1, 2), (3, 4)]))
    with pytest.raises(SpaceError, match="parameter 'k': an option must be a string"):
        from_configspace(theirs)
    with pytest.raises(SpaceError, match="must be a ConfigurationSpace, got"):
        from_configspace({"x": (0, 1)})


def test_the_extra_is_named_where_configspace_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ConfigSpace", None)
    monkeypatch.delitem(sys.modules, "bo_suite.integrations.configspace")
    with pytest.raises(ImportError, match=r"bo-suite\[configspace\]"):
        __import__("bo_suite.integrations.configspace")
