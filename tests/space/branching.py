"""Spaces with conditional parameters: one three levels deep, random ones, and their points by brute force."""

import itertools
import math
import random
from typing import Any

from bo_suite import Choice, Float, Int, Space

TREE = Space(
    {
        "degree": Int(2, 5, when={"kernel": "poly"}),  # before its parent
        "model": Choice(["svm", "forest", "linear"]),
        "kernel": Choice(["rbf", "poly", "sigmoid"], when={"model": "svm"}),
        "gamma": Float(1e-4, 1e1, log=True, when={"kernel": ["rbf", "poly"]}),
        "depth": Int(1, 12, when={"model": "forest"}),
        "leaf": Int(1, 9, when={"depth": (4, 8)}),
        "share": Float(0, 1, when={"model": ["forest", "linear"]}),
        "fine": Choice([True, False], when={"share": (0.25, 0.75), "depth": (2, 9)}),
        "scale": Choice(["none", "unit"]),
    }
)
"""Trees, a child with two parents, intervals of numbers, three levels."""

SMALL = Space(
    {
        "a": Choice(["u", "v", "w"]),
        "b": Int(1, 4, when={"a": ["u", "v"]}),
        "c": Choice([0, 1, 2], when={"b": (2, 3)}),
        "d": Int(0, 2, when={"a": "v", "b": [1, 3]}),
        "e": Choice(["x", "y"]),
    }
)
"""A finite space, in which one parameter depends on two."""


def random_space(seed: int, continuous: bool) -> Space:
    """A space of some parameters, each of which may be on those before it."""
    draws = random.Random(seed)
    parameters: dict[str, Any] = {}
    for number in range(draws.randint(2, 6)):
        when = {}
        for parent in draws.sample(list(parameters), min(len(parameters), draws.choice([0, 1, 1, 2]))):
            kind = parameters[parent]
            if isinstance(kind, Choice):
                when[parent] = draws.sample(list(kind.options), draws.randint(1, len(kind.options)))
            elif isinstance(kind, Int) and draws.random() < 0.5:
                values = range(kind.low, kind.high + 1)
                when[parent] = draws.sample(values, draws.randint(1, len(values)))
            else:
                low, high = sorted((draws.uniform(kind.low, kind.high), draws.uniform(kind.low, kind.high)))
                when[parent] = (low, high) if kind.levels is None else (math.floor(low), math.ceil(high))
        kind = draws.choice(["int", "choice", "float"] if continuous else ["int", "choice", "step"])
        condition = when or None
        first, levels = draws.randint(-2, 3), draws.randint(1, 4)
        parameters[f"p{number}"] = {
            "int": lambda: Int(first, first + levels - 1, when=condition),  # noqa: B023
            "choice": lambda: Choice([f"o{one}" for one in range(levels)], when=condition),  # noqa: B023
            "float": lambda: Float(1.0, 1.0 + levels, log=levels > 2, when=condition),  # noqa: B023
            "step": lambda: Float(0, 0.5 * levels, step=0.5, when=condition),  # noqa: B023
        }[kind]()
    names = list(parameters)
    draws.shuffle(names)
    return Space({name: parameters[name] for name in names})


def values_of(parameter: Any) -> list[Any]:
    """All values of a parameter that is not continuous."""
    if isinstance(parameter, Choice):
        return list(parameter.options)
    return [parameter.value(level) for level in range(parameter.levels)]


def is_met(parameter: Any, point: dict[str, Any]) -> bool:
    """Whether the condition of a parameter holds, by its text alone."""
    if parameter.when is None:
        return True
    for parent, accepted in parameter.when.items():
        if parent not in point:
            return False
        low_high = hasattr(accepted, "low")
        inside = accepted.low <= point[parent] <= accepted.high if low_high else point[parent] in accepted
        if not inside:
            return False
    return True


def every_point(space: Space) -> set[tuple[tuple[str, Any], ...]]:
    """The points of a finite space: all combinations of all values, without what is inactive."""
    found = set()
    for values in itertools.product(*(values_of(parameter) for _, parameter in space)):
        whole = dict(zip(space.names, values, strict=True))
        point: dict[str, Any] = {}
        for _ in space.names:
            point = {name: value for name, value in whole.items() if is_met(space[name], point)}
        found.add(tuple(point.items()))
    return found
