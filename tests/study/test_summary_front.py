"""The Pareto front of a run, beside brute force."""

import itertools
from typing import Any

import numpy as np
import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import TrialError
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import best_text, best_trial, pareto_trials, ranked

SPACE = Space({"x": Float(0.0, 1.0)})
NAMES = ("a", "b", "c")


def trial(number: int, outcomes: dict[str, Any] | None, **params: float) -> Trial:
    point, state = {"x": 0.5} | params, "failed" if outcomes is None else "finished"
    reason = "broke" if outcomes is None else None
    return Trial(number, point, state, None, None, reason, 1, True, {}, 0.0, 1.0, outcomes=outcomes)  # type: ignore[arg-type]


def goals_of(count: int, maximised: int, limit: bool) -> Goals:
    directions = {
        name: "maximize" if index < maximised else "minimize" for index, name in enumerate(NAMES[:count])
    }
    return Goals.of(directions, {"m": (None, 0.6)} if limit else None)


@pytest.mark.parametrize(
    ("count", "maximised", "limit"), list(itertools.product((2, 3), (0, 1, 2), (False, True)))
)
def test_the_front_is_that_of_brute_force(count: int, maximised: int, limit: bool) -> None:
    goals, draw = goals_of(count, maximised, limit), np.random.default_rng((count, maximised, limit))
    names = [*NAMES[:count], "m"]
    trials = []
    for number in range(60):
        row = dict(zip(names, np.round(draw.random(count + 1), 1).tolist(), strict=True))
        if not limit:
            del row["m"]
        if number % 7 == 0:
            row[names[number % len(row)]] = None
        trials.append(trial(number, None if number % 11 == 0 else row))

    def loss(one: Trial) -> tuple[float, ...]:
        signs = [-1.0] * maximised + [1.0] * (count - maximised)
        return tuple(sign * (one.outcomes or {})[name] for sign, name in zip(signs, names, strict=False))

    complete = [
        one
        for one in trials
        if one.outcomes
        and all(one.outcomes.get(name) is not None for name in names[:count])
        and (not limit or (one.outcomes["m"] is not None and one.outcomes["m"] <= 0.6))
    ]
    expected = []
    for one in complete:
        first, losses = loss(one), [loss(other) for other in complete]
        dominated = any(
            all(x <= y for x, y in zip(other, first, strict=True)) and other != first for other in losses
        )
        earlier = any(loss(other) == first for other in complete if other.id < one.id)
        if not dominated and not earlier:
            expected.append(one)
    front = pareto_trials(trials, goals, SPACE)
    assert front
    assert front == sorted(expected, key=loss)
    assert best_text(trials, goals, SPACE) == f"{len(front)} in the Pareto front"
    order = ranked(trials, goals, SPACE)
    assert order[: len(front)] == front
    assert {one.id for one in order} == {one.id for one in trials if one.state == "finished"}
    feasible = [goals.is_feasible(one.outcomes or {}) for one in order[len(front) :]]
    assert feasible == sorted(feasible, reverse=True)


def test_all_infeasible_or_incomplete_is_an_empty_front() -> None:
    goals = goals_of(2, 0, True)
    assert pareto_trials([], goals, SPACE) == []
    trials = [
        trial(0, {"a": 1.0, "b": 1.0, "m": 0.7}),
        trial(1, {"a": 0.0, "b": 0.0}),
        trial(2, {"a": 0.0, "m": 0.0}),
        trial(3, {"a": 0.0, "b": None, "m": 0.0}),
        trial(4, None),
    ]
    assert pareto_trials(trials, goals, SPACE) == []
    front = trial(5, {"a": 9.0, "b": 9.0, "m": 0.0})
    assert pareto_trials([*trials, front], goals, SPACE) == [front]


def test_equal_trials_are_in_it_once_and_the_first_of_them() -> None:
    goals = goals_of(2, 0, False)
    trials = [trial(number, {"a": 0.5, "b": 0.25}) for number in range(3)]
    assert pareto_trials(trials, goals, SPACE) == trials[:1]
    weaker = trial(3, {"a": 0.5, "b": 0.5})
    assert pareto_trials([weaker, *trials], goals, SPACE) == trials[:1]


def test_equal_objectives_are_one() -> None:
    goals = goals_of(2, 0, False)
    trials = [trial(number, {"a": value, "b": value}) for number, value in enumerate((0.5, 0.25, 0.75))]
    assert pareto_trials(trials, goals, SPACE) == [trials[1]]


def test_trials_below_the_target_or_outside_are_not_in_it() -> None:
    goals = goals_of(2, 0, False)
    space = Space({"x": Float(0.0, 1.0), "e": Float(0.1, 1.0, fidelity=True)})
    low, target = (trial(number, {"a": number, "b": number}, e=e) for number, e in enumerate((0.5, 1.0)))
    assert pareto_trials([low, target], goals, space) == [target]
    narrowed = Space({"x": Float(0.0, 0.4)})
    inside, outside = (
        trial(number, {"a": 1.0 - number, "b": 1.0}, x=x) for number, x in enumerate((0.2, 0.5))
    )
    assert pareto_trials([inside, outside], goals, narrowed) == [inside]
    assert pareto_trials([inside, outside], goals, SPACE) == [outside]


def test_one_objective_has_a_front_of_its_best_trial() -> None:
    opt = Optimizer(SPACE, constraints={"m": (None, 0.6)})
    opt.add({"x": 0.1}, {"value": 1.0, "m": 0.9})
    assert opt.pareto == []
    with pytest.raises(TrialError, match="violates the fewest constraints"):
        _ = opt.best
    for x, value in ((0.2, 3.0), (0.3, 2.0), (0.4, 2.0)):
        opt.add({"x": x}, {"value": value, "m": 0.5})
    assert [one.id for one in opt.pareto] == [opt.best.id] == [2]
    plain = Optimizer(SPACE, direction="maximize")
    for x in (0.2, 0.4):
        plain.add({"x": x}, x)
    assert [one.id for one in plain.pareto] == [1]


def test_several_objectives_have_no_best_trial() -> None:
    with pytest.raises(TrialError, match=r"got \['a', 'b'\]: see `pareto`"):
        best_trial([], goals_of(2, 0, False), SPACE)
