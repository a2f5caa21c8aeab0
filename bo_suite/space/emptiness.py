"""Which comparisons contradict each other, by linear programming and by listing steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bo_suite.space.comparison import TOLERANCE, Comparison, number_of_column
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Parameter

_LISTED = 100_000
"""Most combinations of values with steps that are all tested."""


def contradictory(
    comparisons: Sequence[Comparison], parameters: Mapping[str, Parameter | Fixed]
) -> tuple[str, ...]:
    """Texts of comparisons that no values within the ranges meet together, as few as possible; () if none.

    Values and logarithms of values are independent variables of the linear programme, and steps count only
    if there are few combinations of them. So a contradiction is certain, while there may be others.
    """
    if not comparisons or _is_met_somewhere(comparisons, parameters):
        return ()
    if _is_possible(comparisons, parameters):
        steps = [one for one in comparisons if _has_steps_alone(one, parameters)]
        if not steps or _has_steps(steps, parameters):
            return ()
        needed = _needed(steps, lambda some: _has_steps(some, parameters))
    else:
        needed = _needed(comparisons, lambda some: _is_possible(some, parameters))
    return tuple(dict.fromkeys(one.text for one in needed))


def _needed(
    comparisons: Sequence[Comparison], is_possible: Callable[[Sequence[Comparison]], bool]
) -> list[Comparison]:
    """The comparisons without those that the contradiction does not need."""
    needed = list(comparisons)
    for one in comparisons:
        others = [other for other in needed if other is not one]
        if others and not is_possible(others):
            needed = others
    return needed


def _range(parameter: Parameter | Fixed) -> tuple[float, float]:
    number = number_of_column(parameter)
    assert not isinstance(number, Choice), "a Choice is in no comparison"
    if isinstance(parameter, Fixed):
        value = parameter.value
        assert isinstance(value, int | float), "a fixed number is a number"
        return float(value), float(value)
    return float(number.low), float(number.high)


def _is_met_somewhere(comparisons: Sequence[Comparison], parameters: Mapping[str, Parameter | Fixed]) -> bool:
    """Whether the middle, the lowest or the highest values meet all comparisons; cheaper than solving."""
    names = {name for one in comparisons for name, _ in one.coefficients}
    for share in (0.5, 0.0, 1.0):
        point: dict[str, Any] = {name: parameters[name].decode(share) for name in names}
        if all(one.is_met(point) for one in comparisons):
            return True
    return False


def _is_possible(comparisons: Sequence[Comparison], parameters: Mapping[str, Parameter | Fixed]) -> bool:
    """Whether a linear programme over the ranges has a solution."""
    from scipy.optimize import linprog  # takes a third of a second to import

    variables = list(dict.fromkeys((name, one.log) for one in comparisons for name, _ in one.coefficients))
    bounds = []
    for name, log in variables:
        low, high = _range(parameters[name])
        bounds.append((math.log(low), math.log(high)) if log else (low, high))
    lows, highs = np.array(bounds).T
    widths = np.where(highs > lows, highs - lows, 1.0)
    matrix, values = np.zeros((len(comparisons), len(variables))), np.zeros(len(comparisons))
    for row, one in enumerate(comparisons):
        for name, coefficient in one.coefficients:
            matrix[row, variables.index((name, one.log))] = coefficient
        values[row] = one.bound
    values = values - matrix @ lows
    matrix = matrix * widths / (scales := np.array([one.scale for one in comparisons]))[:, None]
    values = values / scales
    equal = np.array([one.equality for one in comparisons])
    solution = linprog(
        np.zeros(len(variables)),
        A_ub=matrix[~equal] if (~equal).any() else None,
        b_ub=values[~equal] + TOLERANCE if (~equal).any() else None,
        A_eq=matrix[equal] if equal.any() else None,
        b_eq=values[equal] if equal.any() else None,
        bounds=np.stack((np.zeros(len(lows)), (highs - lows) / widths), 1),
        method="highs",
    )
    return bool(solution.status != 2)


def _has_steps_alone(comparison: Comparison, parameters: Mapping[str, Parameter | Fixed]) -> bool:
    """Whether all parameters of a comparison have a number of values."""
    return all(parameters[name].levels is not None for name, _ in comparison.coefficients)


def _has_steps(comparisons: Sequence[Comparison], parameters: Mapping[str, Parameter | Fixed]) -> bool:
    """Whether a combination of values with steps meets comparisons; True if there are too many to test."""
    names = list(dict.fromkeys(name for one in comparisons for name, _ in one.coefficients))
    if math.prod(parameters[name].levels or 1 for name in names) > _LISTED:
        return True
    lists = []
    for name in names:
        parameter, number = parameters[name], number_of_column(parameters[name])
        assert not isinstance(number, Choice), "a Choice is in no comparison"
        levels = range(parameter.levels or 1)
        lists.append([parameter.value] if isinstance(parameter, Fixed) else [*map(number.value, levels)])
    values = dict(zip(names, np.meshgrid(*map(np.array, lists), indexing="ij"), strict=True))
    met = np.ones(np.shape(values[names[0]]), dtype=bool)
    for one in comparisons:
        excess = sum(
            coefficient * (np.log(values[name]) if one.log else values[name])
            for name, coefficient in one.coefficients
        )
        excess = excess - one.bound
        met &= (np.abs(excess) if one.equality else excess) <= TOLERANCE * one.scale
    return bool(met.any())
