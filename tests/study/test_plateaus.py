"""Surfaces that are constant in steps, as the accuracy on a few hundred rows or a rounded measurement is."""

import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from bo_suite import Float, Space, minimize


def steps(params: dict[str, Any]) -> float:
    """A bowl with its minimum off the centre, in steps of 0.05."""
    bowl = 2.0 * (params["a"] - 0.83) ** 2 + 2.0 * (params["b"] - 0.13) ** 2
    return round(20.0 * bowl) / 20.0


def table(seed: int) -> Callable[[dict[str, Any]], float]:
    """A bowl in seven dimensions that is known at 400 points, each standing for what is nearest to it."""
    draws = random.Random(seed)
    rows = [[draws.random() for _ in range(7)] for _ in range(400)]
    target = [draws.random() for _ in range(7)]
    values = [sum((x - t) ** 2 for x, t in zip(row, target, strict=True)) for row in rows]

    def nearest(params: dict[str, Any]) -> float:
        point = list(params.values())
        gaps = [sum((x - p) ** 2 for x, p in zip(row, point, strict=True)) for row in rows]
        return values[gaps.index(min(gaps))] - min(values)

    return nearest


def random_search(f: Callable[[dict[str, Any]], float], names: str, seed: int, count: int) -> float:
    draws = random.Random(1000 + seed)
    return min(f({name: draws.random() for name in names}) for _ in range(count))


def found(f: Callable[[dict[str, Any]], float], names: str, seed: int, count: int) -> float:
    space = Space({name: Float(0.0, 1.0) for name in names})
    value = minimize(f, space, count, seed, progress=False).best.value
    assert value is not None
    return value


@pytest.mark.slow
def test_the_lowest_step_of_a_bowl_is_found() -> None:
    for seed in range(3):
        assert found(steps, "ab", seed, 40) == 0.0


@pytest.mark.slow
def test_a_table_that_is_looked_up_by_the_nearest_row_is_searched_better_than_at_random() -> None:
    """The search once stayed on the first good row."""
    ours, theirs = [], []
    for seed in range(5):
        f = table(seed)
        ours.append(found(f, "abcdefg", seed, 60))
        theirs.append(statistics.median(random_search(f, "abcdefg", 10 * seed + k, 60) for k in range(9)))
    assert statistics.median(ours) < statistics.median(theirs)
