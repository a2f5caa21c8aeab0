"""Functions of COCO (Hansen et al. 2021), whose minima are known.

Of its suites bbob, bbob-noisy, bbob-mixint and bbob-largescale. They come with the package coco-experiment,
the extra `bo-suite[field]`. Instances 1 to 5 alone can be made: the others are kept for checking what was
developed on these.

Values of bbob-noisy without noise are those of the bbob function that it is made from, on whose values COCO
puts the noise. The noise is that of its definition (Hansen, Finck, Ros and Auger 2009, RR-6869), drawn from
(seed, point) as all noise here: that of COCO is drawn from a state that all problems of a process share.

Reference: N. Hansen, A. Auger, R. Ros, O. Mersmann, T. Tušar and D. Brockhoff (2021). COCO: a platform for
comparing continuous optimizers in a black-box setting. Optimization Methods and Software 36.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.problems.field.extra import require_library
from bo_suite.problems.field.noise import BbobNoise
from bo_suite.space.parameters import Float, Int, Parameter
from bo_suite.space.space import Params, Space

INSTANCES = range(1, 6)
"""The instances that can be made."""

_LARGE = (1, 2, 3, 4, 5, 20)
"""Functions of bbob-largescale that can be made; the others end the process in coco-experiment 2.8.2."""

_BASES = {
    **dict.fromkeys((101, 102, 103, 107, 108, 109), 1),
    **dict.fromkeys((104, 105, 106, 110, 111, 112), 8),
    **dict.fromkeys((113, 114, 115), 7),
    **dict.fromkeys((119, 120, 121), 14),
    **dict.fromkeys((122, 123, 124), 17),
    **dict.fromkeys((128, 129, 130), 21),
}
"""The bbob function of each bbob-noisy function.

Not 116 to 118, an ellipsoid of another condition, and not 125 to 127, a composition of another factor.
"""


_SCALES = {
    **dict.fromkeys((1, 5, 7, 14, 16, 18, 21, 22), 1.0),
    **dict.fromkeys((17, 19, 23), 10.0),
    **dict.fromkeys((3, 4, 13, 15, 20, 24), 0.1),
    **dict.fromkeys((6, 8, 9, 11), 0.01),
    **dict.fromkeys((2, 10), 1e-3),
    12: 1e-4,
}
"""Factors on the values of bbob in bbob-mixint."""


@dataclass(frozen=True)
class CocoFunction:
    """The value of a function of COCO; pickled as its four numbers.

    Attributes:
        suite: of COCO: bbob, bbob-mixint or bbob-largescale.
        function: number from 1 to 24.
        instance: one of INSTANCES.
        dim: number of parameters.
    """

    suite: str
    function: int
    instance: int
    dim: int

    def __post_init__(self) -> None:
        if self.instance not in INSTANCES:
            raise DataError(
                f"an instance of COCO must be one of 1 to 5, since the others are kept for checking, "
                f"got {self.instance}"
            )
        if self.suite == "bbob-largescale" and self.function not in _LARGE:
            raise DataError(
                f"a function of bbob-largescale must be one of {_LARGE}, since coco-experiment ends the "
                f"process on the others, got {self.function}"
            )

    def __call__(self, params: Params) -> float:
        return float(_coco(self).evaluate(np.array([*params.values()], dtype=float)))


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A function of COCO in memory; the suite must live as long as its function, which it frees."""

    evaluate: Any
    suite: Any


@cache
def _coco(function: CocoFunction) -> _Loaded:
    cocoex = require_library("cocoex", "coco-experiment")
    f, i, d = function.function, function.instance, function.dim
    if function.suite == "bbob":
        return _Loaded(cocoex.BareProblem("bbob", f, d, i), None)
    suite = cocoex.Suite(function.suite, "instances: 1-5", f"function_indices: {f} dimensions: {d}")
    if len(suite) != len(INSTANCES):
        raise DataError(f"{function.suite} of COCO has no function {f} in {d} dimensions")
    return _Loaded(suite.get_problem(i - 1), suite)


def _box(dim: int) -> Space:
    return Space({f"x{number}": Float(-5.0, 5.0) for number in range(1, dim + 1)})


def bbob(function: int, instance: int, dim: int) -> Problem:
    """A function of bbob on [-5, 5]^dim, such as `bbob_f21_i3_5d`.

    Raises:
        DataError: another instance than 1 to 5, or coco-experiment is not installed.
    """
    values = CocoFunction("bbob", function, instance, dim)
    return Problem(f"bbob_f{function}_i{instance}_{dim}d", _box(dim), values, _bbob_minimum(values))


def _bbob_minimum(function: CocoFunction) -> float:
    """The minimum of a function of bbob, from COCO; that of bbob-largescale is the same."""
    return float(_coco(CocoFunction("bbob", function.function, function.instance, 2)).evaluate.best_value())


def large(function: int, instance: int, dim: int) -> Problem:
    """A function of bbob-largescale on [-5, 5]^dim, such as `bbob_largescale_f3_i2_80d`.

    Raises:
        DataError: another instance than 1 to 5, a function that does not work, or coco-experiment is not
            installed.
    """
    values = CocoFunction("bbob-largescale", function, instance, dim)
    name = f"bbob_largescale_f{function}_i{instance}_{dim}d"
    return Problem(name, _box(dim), values, _bbob_minimum(values))


def mixint(function: int, instance: int, dim: int) -> Problem:
    """A function of bbob-mixint, such as `bbob_mixint_f4_i2_10d`: four fifths of the parameters are integers.

    The integers have 2, 4, 8 and 16 values, a fifth of the parameters each.

    Raises:
        DataError: another instance than 1 to 5, or coco-experiment is not installed.
    """
    values = CocoFunction("bbob-mixint", function, instance, dim)
    coco = _coco(values).evaluate
    parameters: dict[str, Parameter] = {}
    bounds = zip(coco.lower_bounds.tolist(), coco.upper_bounds.tolist(), strict=True)
    for index, (low, high) in enumerate(bounds):
        is_integer = index < coco.number_of_integer_variables
        parameters[f"x{index + 1}"] = Int(int(low), int(high)) if is_integer else Float(low, high)
    minimum = _SCALES[function] * _bbob_minimum(values)
    return Problem(f"bbob_mixint_f{function}_i{instance}_{dim}d", Space(parameters), values, minimum)


def noisy(function: int, instance: int, dim: int) -> Problem:
    """A function of bbob-noisy, 101 to 130, on [-5, 5]^dim, such as `bbob_noisy_f107_i1_5d`.

    Raises:
        DataError: another instance than 1 to 5, a function whose value without noise is not one of bbob
            (116 to 118 and 125 to 127), or coco-experiment is not installed.
    """
    if function not in _BASES:
        raise DataError(f"a function of bbob-noisy must be one of {tuple(sorted(_BASES))}, got {function}")
    values = CocoFunction("bbob", _BASES[function], instance, dim)
    minimum = _bbob_minimum(values)
    name = f"bbob_noisy_f{function}_i{instance}_{dim}d"
    return Problem(name, _box(dim), values, minimum, noise_model=BbobNoise.of(function, dim, minimum))
