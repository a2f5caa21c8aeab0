"""Rounding of rows to what points can express, without breaking a comparison."""

import math

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.space.comparison import number_of_column
from bo_suite.space.parameters import Choice
from bo_suite.space.system import System

_ROUNDING = 1e-7
"""Residual, relative to the scale, below which rounding is its cause; a larger one is left as it is."""

_EXACT = 1e-15
"""Residual up to which an inequality holds exactly: sums of a few values have no smaller errors."""

_SHARES = (1e-9, 1e-8)
"""Shares of the way to the centre that rows move where rounding cannot be made up for otherwise."""


def to_representable(
    system: System, rows: jt.Float[Tensor, "*b d"], centre: jt.Float64[Tensor, " d"]
) -> jt.Float[Tensor, "*b d"]:
    """The nearest rows that encode points; of each comparison one column makes up for the rounding.

    A Float has eleven significant digits. After rounding, an equality is off by that much, and the value of
    a column of its own is solved for; an inequality is at most exceeded by that much, and a column of its own
    gives way by some units of its last digit. If it has none, the row moves a little towards the centre.

    Args:
        system: the comparisons.
        rows: that meet these.
        centre: of the polytope of the rows.
    """
    exact = _rounded(system, rows)
    for share in _SHARES:
        excess = _exceeded(system, exact)
        wrong = (excess > _EXACT) & (excess <= _ROUNDING)
        if not bool(wrong.any()):
            break
        moved = rows + share * system.continuous.to(rows) * (centre.to(rows) - rows)
        moved = _rounded(system, moved)
        better = wrong & (_exceeded(system, moved) <= _EXACT) & system.is_met(moved)
        exact = torch.where(better[..., None], moved, exact)
    return exact


def _exceeded(system: System, rows: Tensor) -> Tensor:
    """The largest violation of an inequality."""
    return torch.where(system.equalities.to(rows.device), 0.0, system.violation(rows)).amax(-1)


def _rounded(system: System, rows: Tensor) -> Tensor:
    """The nearest rows that encode points, with one column of each comparison that makes up for that."""
    exact = system.encoding.project(rows)
    equal = system.equalities
    for comparison, column in _pivots(system).items():
        residual = system.residuals(exact)[..., comparison]
        slope = system.slopes(exact)[..., comparison, column]
        unit = _unit(system, column)
        shift = -residual / torch.where(slope != 0.0, slope, 1.0)
        if bool(equal[comparison]):
            due = shift.abs() > 0.6 * unit
        else:
            due = residual > _EXACT
            shift = shift.sign() * (shift.abs() / unit).ceil() * unit
        due = due & (residual.abs() <= _ROUNDING) & (slope != 0.0)
        if bool(due.any()):
            moved = exact.clone()
            moved[..., column] += torch.where(due, shift, 0.0).to(exact)
            moved = system.encoding.project(moved.clamp(0.0, 1.0))
            closer = system.violation(moved).amax(-1) <= system.violation(exact).amax(-1)
            exact = torch.where((due & closer)[..., None], moved, exact)
    return exact


def _pivots(system: System) -> dict[int, int]:
    """A continuous column for each comparison that has one: of those in no equality before, the finest."""
    slopes = system.slopes(torch.full((len(system.encoding.names),), 0.5, **CPU_DOUBLES))
    pivots: dict[int, int] = {}
    taken: set[int] = set()
    for row in sorted(range(len(slopes)), key=lambda row: not bool(system.equalities[row])):
        inside = [column for column in system.columns if float(slopes[row, column]) != 0.0]
        columns = [column for column in inside if bool(system.continuous[column]) and column not in taken]
        if columns:
            pivots[row] = min(columns, key=lambda one: abs(float(slopes[row, one])) * _unit(system, one))
        if bool(system.equalities[row]):
            taken |= set(inside)
    return pivots


def _unit(system: System, column: int) -> float:
    """The distance of neighbouring positions of a continuous column; at most, on a log scale."""
    number = number_of_column(system.encoding.columns[column])
    assert not isinstance(number, Choice), "a Choice is in no comparison"
    if number.log:
        return 1e-10 / math.log(number.high / number.low)
    width = number.high - number.low
    return 10.0 ** (math.floor(math.log10(width)) - 11) / width
