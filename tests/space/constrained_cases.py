"""Spaces with constraints, and what all their points must obey."""

import math
from typing import Any

import torch
from torch import Tensor

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import CPU_DOUBLES
from bo_suite.space.candidates import project


def in_a_disc(params: dict[str, Any]) -> bool:
    return bool(params["x"] ** 2 + params["y"] ** 2 <= 0.3)


def rare(params: dict[str, Any]) -> bool:
    """True on one of ten thousandths of the unit square."""
    return abs(params["x"] - 0.37) < 0.005 and abs(params["y"] - 0.61) < 0.005


UNIT = Float(0.0, 1.0)
SPACES = {
    "simplex": Space(dict.fromkeys("abc", UNIT), ["a + b + c == 1"]),
    "simplex of ten": Space(
        {f"p{i}": UNIT for i in range(10)}, [" + ".join(f"p{i}" for i in range(10)) + " == 1"]
    ),
    "percentages": Space(dict.fromkeys("abc", Float(0.0, 100.0)), ["a + b + c == 100", "a >= 2*b"]),
    "inequalities": Space(
        {"x": Float(-5, 5), "y": Float(0, 3), "k": Choice(["u", "v"])}, ["2*x <= y", "-3 <= x - y <= 1"]
    ),
    "two equalities": Space({f"x{i}": UNIT for i in range(5)}, ["x0 + x1 == 0.7", "x1 - x2 + 3*x3 == 1"]),
    "integers": Space(dict.fromkeys("abc", Int(0, 10)), ["a + b + c == 10"]),
    "unequal integers": Space({"a": Int(0, 30), "b": Int(0, 30)}, ["2*a + 3*b == 60"]),
    "many integers": Space({f"n{i}": Int(0, 40) for i in range(6)}, ["n0+n1+n2+n3+n4+n5 == 60", "n0 <= n1"]),
    "integers and reals": Space(
        {"n": Int(0, 5), "x": UNIT, "y": Float(0, 2)}, ["n + x + y == 3.5", "n <= 2*y + 1"]
    ),
    "steps": Space(
        {"x": Float(0, 1, step=0.1), "y": Float(0, 1, step=0.05), "z": UNIT}, ["x + y <= 0.8", "x + 2*z <= 1"]
    ),
    "a sum on a log scale": Space(
        {"lr": Float(1e-5, 1e-1, log=True), "depth": Int(1, 12)}, ["lr <= 0.001 * depth"]
    ),
    "a trace": Space({"a": UNIT, "b": UNIT, "t": Float(1e-4, 0.1, log=True)}, ["a + b + t == 1"]),
    "products": Space(
        {"a": Float(0.1, 100, log=True), "b": Float(0.1, 100, log=True), "c": Float(0.1, 10, log=True)},
        ["a * b <= 10", "a**2 / c == 3"],
    ),
    "integer products": Space({"a": Int(1, 64, log=True), "b": Int(1, 64, log=True)}, ["a * b == 64"]),
    "a function": Space({"x": Float(-1, 1), "y": Float(-1, 1)}, [in_a_disc]),
    "a function and a sum": Space(
        {"x": Float(-1, 1), "y": Float(-1, 1), "z": UNIT}, [in_a_disc, "x + y + z == 0.5"]
    ),
    "a thin slab": Space({"x": UNIT, "y": UNIT, "z": UNIT}, ["0.5 <= x + y - z <= 0.500001"]),
    "one point": Space({"x": UNIT, "y": UNIT}, ["x + y == 2"]),
}
LIKE = torch.zeros(0, **CPU_DOUBLES)


def like(space: Space) -> Tensor:
    return torch.zeros(0, space.dim, **CPU_DOUBLES)


def assert_exact(space: Space, rows: Tensor) -> None:
    """Every row, rounded to a point, meets the constraints to 1e-9 in the user's units."""
    exact = project(space, rows.reshape(-1, space.dim))
    assert torch.equal(project(space, exact), exact)
    for point in space.decode(exact):
        assert space.check(point) == point
        for one in space.constraints.comparisons:
            terms = [
                coefficient * (math.log(point[name]) if one.log else point[name])
                for name, coefficient in one.coefficients
            ]
            excess = sum(terms) - one.bound
            assert (abs(excess) if one.equality else excess) <= 1e-9
