"""Formulas of test functions that BoTorch does not have, with their bounds and minimisers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Point = tuple[float, ...]


@dataclass(frozen=True)
class Maths:
    """The functions in formulas, beside arithmetic, `abs` and `**`: of numbers or of tensors."""

    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    exp: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    hypot: Callable[[Any, Any], Any]
    total: Callable[[Any], Any]


FLOATS = Maths(math.sin, math.cos, math.exp, math.sqrt, math.hypot, math.fsum)
TENSORS = Maths(torch.sin, torch.cos, torch.exp, torch.sqrt, torch.hypot, sum)

Value = Callable[[Sequence[Any], Maths], Any]
"""A formula of the columns of a point or, with TENSORS, of the columns of many points at once."""


@dataclass(frozen=True)
class Formula:
    """A test function.

    Attributes:
        value: The function of a point, smaller is better.
        bounds: One pair per column; a single pair holds for every column of a function of any dimension.
        points: Minimisers by dimension.
        dims: The dimensions in which it exists; empty for all.
    """

    value: Value
    bounds: tuple[tuple[float, float], ...]
    points: Callable[[int], tuple[Point, ...]]
    dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class _At:
    """The same minimisers in every dimension."""

    points: tuple[Point, ...]

    def __call__(self, dim: int) -> tuple[Point, ...]:
        return self.points


@dataclass(frozen=True)
class _Diagonal:
    """One minimiser with the same coordinate in every column."""

    coordinate: float

    def __call__(self, dim: int) -> tuple[Point, ...]:
        return ((self.coordinate,) * dim,)


def forrester(x: Sequence[Any], maths: Maths) -> Any:
    """(6 x − 2)² sin(12 x − 4). Forrester, Sobester and Keane 2008, appendix."""
    return (6 * x[0] - 2) ** 2 * maths.sin(12 * x[0] - 4)


def sin3(x: Sequence[Any], maths: Maths) -> Any:
    """sin 3x + x² − 0.7 x: two local minima of nearly equal value."""
    return maths.sin(3 * x[0]) + x[0] ** 2 - 0.7 * x[0]


def gramacy_lee(x: Sequence[Any], maths: Maths) -> Any:
    """sin(10 π x) / (2 x) + (x − 1)⁴. Gramacy and Lee 2012, section 5."""
    return maths.sin(10 * math.pi * x[0]) / (2 * x[0]) + (x[0] - 1) ** 4


def goldstein_price(x: Sequence[Any], maths: Maths) -> Any:
    """A product of two quartics; values from 3 to a million. Goldstein and Price 1971."""
    a, b = x
    first = 1 + (a + b + 1) ** 2 * (19 - 14 * a + 3 * a * a - 14 * b + 6 * a * b + 3 * b * b)
    second = 30 + (2 * a - 3 * b) ** 2 * (18 - 32 * a + 12 * a * a + 48 * b - 36 * a * b + 27 * b * b)
    return first * second


def booth(x: Sequence[Any], maths: Maths) -> Any:
    """(x + 2 y − 7)² + (2 x + y − 5)²."""
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def mccormick(x: Sequence[Any], maths: Maths) -> Any:
    """sin(x + y) + (x − y)² − 1.5 x + 2.5 y + 1. McCormick 1976."""
    return maths.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1


def easom(x: Sequence[Any], maths: Maths) -> Any:
    """−cos x cos y exp(−(x − π)² − (y − π)²): a narrow minimum on a plain. Easom 1990."""
    return -maths.cos(x[0]) * maths.cos(x[1]) * maths.exp(-((x[0] - math.pi) ** 2) - (x[1] - math.pi) ** 2)


def cross_in_tray(x: Sequence[Any], maths: Maths) -> Any:
    """−1e-4 (|sin x sin y exp|100 − ‖x‖/π|| + 1)^0.1."""
    bump = abs(maths.sin(x[0]) * maths.sin(x[1]) * maths.exp(abs(100 - maths.hypot(*x) / math.pi)))
    return -1e-4 * (bump + 1) ** 0.1


def colville(x: Sequence[Any], maths: Maths) -> Any:
    """Colville's coupled quartic in four columns. Colville 1968."""
    a, b, c, d = x
    return (
        100 * (a * a - b) ** 2
        + (a - 1) ** 2
        + (c - 1) ** 2
        + 90 * (c * c - d) ** 2
        + 10.1 * ((b - 1) ** 2 + (d - 1) ** 2)
        + 19.8 * (b - 1) * (d - 1)
    )


def sphere(x: Sequence[Any], maths: Maths) -> Any:
    """Σ x_i²."""
    return maths.total(value * value for value in x)


def ellipsoid(x: Sequence[Any], maths: Maths) -> Any:
    """Σ i x_i²."""
    return maths.total(i * value * value for i, value in enumerate(x, start=1))


def zakharov(x: Sequence[Any], maths: Maths) -> Any:
    """Σ x_i² + s² + s⁴ with s = Σ i x_i / 2: a curved valley."""
    s = maths.total(0.5 * i * value for i, value in enumerate(x, start=1))
    return sphere(x, maths) + s**2 + s**4


def schwefel(x: Sequence[Any], maths: Maths) -> Any:
    """418.98... d − Σ x_i sin √|x_i|: the second-best minimum is far from the best. Schwefel 1981."""
    return 418.9828872724337 * len(x) - maths.total(v * maths.sin(maths.sqrt(abs(v))) for v in x)


_TRAY = 1.3494066171539107

FORMULAS = {
    "forrester": Formula(forrester, ((0.0, 1.0),), _At(((0.7572487144081974,),)), (1,)),
    "sin3": Formula(sin3, ((-1.0, 2.0),), _At(((-0.359394510264,),)), (1,)),
    "gramacy_lee": Formula(gramacy_lee, ((0.5, 2.5),), _At(((0.548563444114526,),)), (1,)),
    "goldstein_price": Formula(goldstein_price, ((-2.0, 2.0),) * 2, _At(((0.0, -1.0),)), (2,)),
    "booth": Formula(booth, ((-10.0, 10.0),) * 2, _At(((1.0, 3.0),)), (2,)),
    "mccormick": Formula(
        mccormick, ((-1.5, 4.0), (-3.0, 4.0)), _At(((0.5 - math.pi / 3, -0.5 - math.pi / 3),)), (2,)
    ),
    "easom": Formula(easom, ((-10.0, 10.0),) * 2, _At(((math.pi, math.pi),)), (2,)),
    "cross_in_tray": Formula(
        cross_in_tray,
        ((-10.0, 10.0),) * 2,
        _At(((_TRAY, _TRAY), (_TRAY, -_TRAY), (-_TRAY, _TRAY), (-_TRAY, -_TRAY))),
        (2,),
    ),
    "colville": Formula(colville, ((-10.0, 10.0),) * 4, _At(((1.0,) * 4,)), (4,)),
    "sphere": Formula(sphere, ((-5.12, 5.12),), _Diagonal(0.0)),
    "ellipsoid": Formula(ellipsoid, ((-5.12, 5.12),), _Diagonal(0.0)),
    "zakharov": Formula(zakharov, ((-5.0, 10.0),), _Diagonal(0.0)),
    "schwefel": Formula(schwefel, ((-500.0, 500.0),), _Diagonal(420.968746359982)),
}
