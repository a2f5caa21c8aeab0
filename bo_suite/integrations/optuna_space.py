"""Optuna's distributions as dimensions of a Translation, whatever their ranges, and conditions on these."""

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from numbers import Real
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from bo_suite.errors import SpaceError
from bo_suite.integrations.translate import Dimension, listed, same, stepped
from bo_suite.space.conditions import levels_in, positions_of
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.space.when import Accepted, Interval, When

_LARGEST = sys.float_info.max
_VAST = 1e300
"""Larger bounds may overflow in a sum."""


def dimension_of(distribution: BaseDistribution, ordered: bool = False) -> Dimension:
    """Return the dimension that is searched for a distribution of more than one value.

    An integer range too large for an Int is searched as a Float, whose values are rounded.

    Args:
        distribution: Optuna's.
        ordered: whether categories are ordered.

    Raises:
        SpaceError: the range is too narrow, or the distribution is not Optuna's.
    """
    if isinstance(distribution, CategoricalDistribution):
        return listed(distribution.choices, ordered)
    if isinstance(distribution, IntDistribution):
        return _of_integers(distribution)
    if isinstance(distribution, FloatDistribution):
        return _of_floats(distribution)
    raise SpaceError(f"it must be a float, an integer or categorical, got {distribution}")


def conditions_of(space: Space, dimensions: Mapping[str, Dimension]) -> dict[str, When]:
    """Return the conditions of a space in values of the dimensions of its distributions."""
    return {
        name: When(tuple((one, _in_values_of(dimensions[one], space, name, one)) for one in when))
        for name, when in space.conditions.simplified.items()
        if name in dimensions
    }


def _in_values_of(dimension: Dimension, space: Space, name: str, parent: str) -> Accepted:
    """What a condition accepts of a parent, in values of its dimension."""
    accepted, parameter = space.conditions.simplified[name][parent], space[parent]
    if not isinstance(accepted, Interval):
        return tuple(dimension.parameter.check(dimension.ours(value)) for value in accepted)
    assert not isinstance(parameter, Choice), "an interval is of numbers"
    if not parameter.has_step:
        return accepted
    levels = levels_in(parameter, *positions_of(parameter, accepted)[0])
    if isinstance(dimension.parameter, Choice):
        return tuple(parameter.value(level) for level in levels)
    return Interval(*(dimension.ours(parameter.value(level)) for level in (levels[0], levels[-1])))  # type: ignore[arg-type]


def drawn(distribution: Any, uniform: float) -> float:
    """Map a uniform draw in [0, 1] to a value of a FloatDistribution that cannot be searched."""
    low, high = float(distribution.low), float(distribution.high)
    value = low * (1.0 - uniform) + high * uniform
    if distribution.step is not None:
        value = _on_grid(value, low, distribution.step)
    return min(max(value, low), high)


def nearest(distribution: BaseDistribution, value: Any) -> Any:
    """Return the value of a distribution nearest to a number; return any other value as it is."""
    if not (isinstance(distribution, FloatDistribution | IntDistribution) and isinstance(value, Real)):
        return value
    low, high, step = distribution.low, distribution.high, distribution.step
    inside: Any = min(max(value, low), high)
    if isinstance(distribution, IntDistribution):
        number, pace = round(inside), distribution.step
        return min(low + (number - low + pace // 2) // pace * pace, high)
    return inside if step is None else min(_on_grid(inside, low, step), high)


def _of_integers(distribution: IntDistribution) -> Dimension:
    low, high, step = distribution.low, distribution.high, distribution.step
    with suppress(SpaceError):
        if step == 1:
            return Dimension(Int(low, high, log=distribution.log))
    count = (high - low) // step + 1
    with suppress(SpaceError):
        if not distribution.log:  # counted from 0, whatever its bounds
            return stepped(low, step, count)
    bottom, top = float(max(low, int(-_LARGEST))), float(min(high, int(_LARGEST)))
    bottom = math.nextafter(bottom, math.inf) if bottom < low else bottom  # Optuna stores values as floats
    top = math.nextafter(top, -math.inf) if top > high else top

    def rounded(value: float) -> int:
        number = round(min(max(value, bottom), top))
        return low + min((number - low + step // 2) // step, count - 1) * step

    return _as_float(bottom, top, distribution.log, rounded)


def _of_floats(distribution: FloatDistribution) -> Dimension:
    low, high, step = max(distribution.low, -_LARGEST), min(distribution.high, _LARGEST), distribution.step
    if step is None:
        return _as_float(low, high, distribution.log, same)
    if not math.isfinite((high - low) / step):
        raise SpaceError(f"`(high - low) / step` must be a finite number, got {distribution}")
    with suppress(SpaceError):
        grid = stepped(low, step, 1 + round((high - low) / step))
        return replace(grid, theirs=lambda number: min(grid.theirs(number), high))
    return _as_float(low, high, False, lambda value: min(_on_grid(value, low, step), high))


def _on_grid(value: float, low: float, step: float) -> float:
    """Return low + a multiple of the step, nearest to a value, in decimal arithmetic."""
    first, pace = Decimal(str(low)), Decimal(str(step))
    return float(first + ((Decimal(value) - first) / pace).to_integral_value() * pace)


def _as_float(low: float, high: float, log: bool, theirs: Callable[[float], Any]) -> Dimension:
    """Search a Float with the same bounds or, if these are vast, with a quarter of them."""
    if log or max(abs(low), abs(high)) < _VAST:
        parameter = Float(low, high, log)
        return Dimension(parameter) if theirs is same else Dimension(parameter, theirs, _clipped(low, high))
    clip = _clipped(low, high)
    return Dimension(
        Float(0.25 * low, 0.25 * high), lambda value: theirs(4.0 * value), lambda value: 0.25 * clip(value)
    )


def _clipped(low: float, high: float) -> Callable[[Any], float]:
    """Return a function that clips values outside the bounds by no more than rounding."""

    def clip(value: Any) -> float:
        number = float(value)
        inside = min(max(number, low), high)
        return inside if abs(number - inside) <= 2.0 * math.ulp(inside) else number

    return clip
