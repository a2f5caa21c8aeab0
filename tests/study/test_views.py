"""The model of an outcome beside what the run recommends and takes for feasible."""

from functools import cache

import numpy as np
import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.study.views import OutcomeView

SPACE = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def outcomes(point: dict[str, float]) -> dict[str, float]:
    x, y = point["x"], point["y"]
    return {"a": (x - 0.9) ** 2 + 0.1 * y, "b": -((x - 0.1) ** 2) - 0.1 * y, "size": 10 * x}


@cache
def run(several: bool, limited: bool = True, measured: tuple[str, ...] = ("a", "b", "size")) -> Optimizer:
    direction = {"a": "minimize"} | ({"b": "maximize"} if several else {})
    limits = {"size": (None, 6.0)} if limited else None
    optimizer = Optimizer(SPACE, direction=direction, constraints=limits)
    for number in range(16):
        point = {"x": (0.618 * number) % 1.0, "y": (0.414 * number) % 1.0}
        told = {name: one for name, one in outcomes(point).items() if name in optimizer.goals.names}
        optimizer.add(point, {name: one for name, one in told.items() if name in measured})
    return optimizer


def view(optimizer: Optimizer, outcome: str) -> OutcomeView:
    return OutcomeView.of(optimizer.belief(outcome), optimizer.trials, optimizer.goals, optimizer.space)


def test_rows_are_infeasible_where_the_limit_is_passed() -> None:
    of_a = view(run(several=False), "a")
    points = [{"x": x, "y": y} for x in np.linspace(0, 1, 21) for y in (0.1, 0.5, 0.9)]
    clear = [point for point in points if abs(point["x"] - 0.6) > 0.03]
    infeasible = of_a.infeasible(of_a.belief.encode(clear)).tolist()
    assert infeasible == [point["x"] > 0.6 for point in clear]


def test_the_point_is_the_recommended_one() -> None:
    one = run(several=False)
    assert view(one, "a").point == view(one, "size").point == one.recommend()
    assert outcomes(one.recommend())["size"] < 6.05
    two = run(several=True)
    front = two.recommend()
    assert view(two, "a").point == min(front, key=lambda point: two.predict(point)["a", "mean"].iloc[0])
    assert view(two, "b").point == max(front, key=lambda point: two.predict(point)["b", "mean"].iloc[0])


def test_without_a_constraint_everything_is_feasible() -> None:
    for optimizer in (run(several=True, limited=False), run(several=False, measured=("a",))):
        of_a = view(optimizer, "a")
        assert of_a.feasibility is None
        assert not of_a.infeasible(of_a.belief.encode([{"x": 0.9, "y": 0.1}])).any()
    plain = Optimizer(SPACE)
    for number in range(6):
        plain.add({"x": number / 6, "y": 0.5}, (number - 2) ** 2)
    assert view(plain, "value").point == pytest.approx(plain.recommend())


def test_an_objective_that_was_never_measured() -> None:
    of_a = view(run(several=True, measured=("a", "size")), "a")
    assert of_a.point == of_a.belief.recommended()
