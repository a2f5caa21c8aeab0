"""Peers on conditional spaces: Optuna's samplers define by run, and SMAC3's ConfigSpace has conditions."""

from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Space
from bo_suite.bench.method import Task
from bo_suite.bench.peers import get_method
from bo_suite.bench.peers.seeded import from_levels, to_levels
from bo_suite.bench.peers.smac_facade import configuration_space
from bo_suite.space.space import Params

SPACE = Space(
    {
        "degree": Int(2, 5, when={"kernel": "poly"}),  # before its parent
        "model": Choice(["svm", "forest", "none"]),
        "kernel": Choice(["rbf", "poly"], when={"model": "svm"}),
        "depth": Int(1, 12, when={"model": "forest"}),
        "leaf": Int(1, 9, when={"depth": (4, 8)}),
        "share": Float(0, 1, when={"model": ["forest", "svm"]}),
        "fine": Float(0, 1, when={"share": (0.2, 0.7), "depth": (2.5, 20)}),
        "always": Int(0, 4, when={"share": (0, 1)}),
        "size": Choice(["S", "M", "L"], ordered=True, when={"leaf": [2, 3, 4]}),
    }
)


def loss(point: Params) -> float:
    return float(point.get("depth", 6)) / 12 + float(point.get("share", 0.5)) + 0.1 * len(point)


def points(name: str, seed: int, count: int) -> list[Params]:
    try:
        method: Any = get_method(name)
        run = method.start(Task(SPACE, seed, count, noisy=False))
    except ImportError as error:
        pytest.skip(str(error))
    asked = []
    for number in range(count):
        asked.append(run.ask())
        if number == 3:
            run.fail(asked[-1], "made to fail")
        else:
            run.tell(asked[-1], loss(asked[-1]))
    return asked


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", ["random", "sobol", "tpe", "tpe_group", pytest.param("smac", marks=pytest.mark.slow)]
)
def test_points_have_the_active_parameters_alone(name: str) -> None:
    asked = points(name, 1, 30)
    assert all(SPACE.check(point) == point for point in asked)
    assert {point["model"] for point in asked} == {"svm", "forest", "none"}
    assert points(name, 1, 12) == asked[:12] or name == "smac"  # its design depends on the budget
    assert points(name, 2, 12) != asked[:12]


@pytest.mark.integration
def test_observations_of_others_may_lack_parameters() -> None:
    optuna = pytest.importorskip("optuna")
    method: Any = get_method("tpe_group")
    run = method.start(Task(SPACE, 0, 20, noisy=False))
    added: list[Params] = [{"model": "none"}, {"model": "svm", "kernel": "rbf", "share": 0.5, "always": 2}]
    for point in added:
        run.add(point, loss(point))
    study = run._library._study
    assert [trial.params for trial in study.trials] == [to_levels(SPACE, point) for point in added]
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 2
    assert SPACE.check(run.ask())


def test_levels_of_a_point_are_those_of_its_parameters() -> None:
    point = {"model": "svm", "kernel": "poly", "degree": 3, "share": 0.25, "always": 1}
    levels = to_levels(SPACE, point)
    assert levels == {"degree": 3, "model": 0, "kernel": 1, "share": 0.25, "always": 1}
    assert from_levels(SPACE, levels) == point


@pytest.mark.integration
def test_a_configuration_space_has_the_same_points() -> None:
    pytest.importorskip("ConfigSpace")
    there = configuration_space(SPACE, 0)
    drawn = [dict(config) for config in there.sample_configuration(400)]
    assert all(dict(SPACE.check(point)) == point for point in drawn)
    ends = {point["depth"] for point in drawn if "leaf" in point}
    assert ends == {4, 5, 6, 7, 8}, "both ends of an interval are inside"
    assert {point["depth"] for point in drawn if "fine" in point} == set(range(3, 13))
    assert all("always" in point for point in drawn if "share" in point)
