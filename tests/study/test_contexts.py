"""Contexts: values that nature sets, and that are given at each ask."""

from typing import Any

import pytest

from bo_suite import Choice, Float, Optimizer, Space, minimize
from bo_suite.errors import SpaceError

SPACE = Space(
    {"x": Float(0.0, 1.0), "shift": Choice(["day", "night"]), "heat": Float(10.0, 30.0, context=True)}
)


def loss(params: dict[str, Any]) -> float:
    """The best x follows the heat: 0.2 at 10, 0.8 at 30."""
    return float((params["x"] - 0.2 - 0.03 * (params["heat"] - 10.0)) ** 2 + 0.1 * (params["shift"] == "day"))


def test_a_context_must_be_given() -> None:
    opt = Optimizer(SPACE)
    opt.add({"x": 0.5, "shift": "day", "heat": 20.0}, 1.0)
    for call in (opt.ask, opt.recommend, lambda: opt.ask(3), lambda: opt.ask(fixed={"x": 0.5})):
        with pytest.raises(SpaceError, match=r"every context must be given.*missing \['heat'\]"):
            call()
    with pytest.raises(SpaceError, match="'heat'"):
        opt.ask(fixed={"heat": 31.0})
    with pytest.raises(SpaceError, match="minimize"):
        minimize(loss, SPACE, 3, progress=False)
    assert len(opt.trials) == 1


def test_the_answer_follows_the_context() -> None:
    opt = Optimizer(SPACE, seed=0)
    heats = [12.0, 27.0, 18.0, 22.5, 29.0, 10.5, 15.0, 25.0, 20.0, 13.5]
    for step in range(30):
        heat = heats[step % len(heats)]
        trial = opt.ask(fixed={"heat": heat})
        assert trial.params["heat"] == heat
        opt.tell(trial, loss(trial.params))
    for heat in (11.0, 16.5, 24.0, 28.0):  # 11, 16.5, 24 and 28 were never asked
        point = opt.recommend(fixed={"heat": heat})
        assert point["heat"] == heat
        assert point["shift"] == "night"
        assert point["x"] == pytest.approx(0.2 + 0.03 * (heat - 10.0), abs=0.05)


def test_a_queued_point_may_leave_the_context_to_the_ask() -> None:
    opt = Optimizer(SPACE)
    opt.enqueue([{"x": 0.25, "shift": "day"}, {"x": 0.55, "shift": "day", "heat": 12.0}])
    assert opt.ask(fixed={"heat": 20.0}).params == {"x": 0.25, "shift": "day", "heat": 20.0}
    assert opt.ask(fixed={"heat": 20.0}).params["x"] != 0.55, "another heat: it waits"
    assert opt.ask(fixed={"heat": 12.0}).params == {"x": 0.55, "shift": "day", "heat": 12.0}


def test_the_model_recommends_at_the_latest_contexts() -> None:
    opt = Optimizer(SPACE)
    for number in range(24):
        point = {
            "x": (0.5 + 7 * number % 24) / 24,
            "shift": ("day", "night")[number % 2],
            "heat": 10.0 + 20.0 * (5 * number % 24) / 23,
        }
        opt.add(point, loss(point))
    for heat in (12.0, 28.0):
        opt.add({"x": 0.1, "shift": "day", "heat": heat}, loss({"x": 0.1, "shift": "day", "heat": heat}))
        opt.ask(fixed={"heat": 20.0})  # which has no outcome
        recommended = opt.belief().recommended()
        assert recommended["heat"] == heat
        assert recommended == opt.recommend(fixed={"heat": heat})
    opt.extend({"heat": Float(10.0, 20.0, context=True)})
    latest = [trial for trial in opt.trials if trial.value is not None and trial.params["heat"] <= 20.0][-1]
    assert latest.params["heat"] == 12.0
    assert opt.belief().recommended() == opt.recommend(fixed={"heat": 12.0})
    opt.extend({"heat": Float(40.0, 50.0, context=True)})
    assert 40.0 <= opt.belief().recommended()["heat"] <= 50.0, "no trial has contexts in the space"


def test_a_context_with_one_value_is_recommended() -> None:
    opt = Optimizer(Space({"x": Float(0.0, 1.0), "shift": Choice(["day"], context=True)}))
    opt.add({"x": 0.3, "shift": "day"}, 1.0)
    opt.add({"x": 0.6, "shift": "day"}, 0.5)
    assert opt.belief().recommended() == opt.recommend(fixed={"shift": "day"})
