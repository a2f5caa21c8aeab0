"""Constrained problems of COCO (bbob-constrained) and bocode, with the objective apart from the constraints.

Both come with the extra `bo-suite[field]`. As in `bo_suite.problems.field`, instances of COCO above 5 and
problems of bocode whose name has an odd CRC-32 cannot be made: they are kept for checking.

Reference: Dufossé, Hansen, Brockhoff, Sampaio, Atamna and Auger (2022), "Building scalable test problems for
benchmarking constrained optimizers" (bbob-constrained).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from bo_suite.errors import DataError
from bo_suite.problems.field.bocode import BocodeFunction, bocode_problem
from bo_suite.problems.field.coco import INSTANCES
from bo_suite.problems.field.extra import require_library
from bo_suite.problems.outcomes.base import OutcomeProblem
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import VALUE, Goals


def _limits(count: int) -> dict[str, tuple[None, float]]:
    return {f"c{index + 1}": (None, 0.0) for index in range(count)}


@dataclass(frozen=True)
class CocoConstrained:
    """The outcomes of a function of bbob-constrained; pickled as its three numbers.

    Attributes:
        function: number from 1 to 54.
        instance: one of 1 to 5.
        dim: number of parameters.
    """

    function: int
    instance: int
    dim: int

    def __post_init__(self) -> None:
        if self.instance not in INSTANCES:
            raise DataError(
                f"an instance of COCO must be one of 1 to 5, since the others are kept for checking, "
                f"got {self.instance}"
            )

    def __call__(self, params: Params) -> dict[str, float]:
        problem, x = _coco(self)[0], np.array([*params.values()], dtype=float)
        return {VALUE: float(problem(x)), **dict(zip(_limits(10**3), problem.constraint(x), strict=False))}


@cache
def _coco(function: CocoConstrained) -> tuple[Any, Any]:
    """The function in memory, and its suite, which must live as long."""
    cocoex = require_library("cocoex", "coco-experiment")
    which = f"function_indices: {function.function} dimensions: {function.dim}"
    suite = cocoex.Suite("bbob-constrained", "instances: 1-5", which)
    if len(suite) != len(INSTANCES):
        raise DataError(f"bbob-constrained has no function {function.function} in {function.dim} dimensions")
    return suite.get_problem(function.instance - 1), suite


def coco_constrained(function: int, instance: int, dim: int) -> OutcomeProblem:
    """A function of bbob-constrained on [-5, 5]^dim, such as `bbob_constrained_f7_i3_2d`.

    The optimum is known for those of the suite `constrained`.

    Raises:
        DataError: another instance than 1 to 5, or coco-experiment is not installed.
    """
    values = CocoConstrained(function, instance, dim)
    return OutcomeProblem(
        name=f"bbob_constrained_f{function}_i{instance}_{dim}d",
        space=Space({f"x{index + 1}": Float(-5.0, 5.0) for index in range(dim)}),
        function=values,
        goals=Goals.of("minimize", _limits(_coco(values)[0].number_of_constraints)),
        optimum=COCO_OPTIMA.get((function, instance, dim)),
    )


@dataclass(frozen=True)
class BocodeConstrained:
    """The outcomes of a problem of bocode, smaller is better; pickled as its name.

    Raises:
        DataError: the problem is kept for checking.
    """

    name: str

    def __post_init__(self) -> None:
        BocodeFunction(self.name)

    def __call__(self, params: Params) -> dict[str, float]:
        row = torch.tensor([[*params.values()]], dtype=torch.float64, device="cpu")
        objectives, constraints = _bocode(self.name).evaluate(row)
        values = constraints[0].tolist()
        return {VALUE: -float(objectives[0, 0]), **dict(zip(_limits(len(values)), values, strict=True))}


@cache
def _bocode(name: str) -> Any:
    return require_library("bocode", "bocode").get_problem(name)()


def bocode_constrained(name: str, best_seen: float | None = None) -> OutcomeProblem:
    """A constrained problem of bocode, such as `bocode_constrained_ThreeTruss`.

    Raises:
        DataError: the problem is kept for checking or has no constraints, or bocode is not installed.
    """
    function = BocodeConstrained(name)
    if not (count := _bocode(name).num_constraints):
        raise DataError(f"a constrained problem of bocode must have constraints, {name} has none")
    return OutcomeProblem(
        name=f"bocode_constrained_{name}",
        space=bocode_problem(name).space,
        function=function,
        goals=Goals.of("minimize", _limits(count)),
        best_seen=best_seen,
    )


COCO_OPTIMA: dict[tuple[int, int, int], float] = {
    (1, 1, 5): 1334.8211648000001,
    (8, 2, 2): 113.962419430464,
    (13, 3, 3): -1674.7359216489133,
    (19, 1, 2): 1510.0219449308474,
    (20, 4, 5): 18.336821275313703,
    (26, 2, 10): 22.163922232579566,
    (31, 5, 3): 27.036134206097852,
    (37, 1, 10): 32318.112340371346,
    (38, 3, 5): -34294.851787769,
    (44, 2, 5): 454.3,
    (49, 4, 2): -201.0,
    (50, 1, 10): 259.8,
}
"""Value at the optimum that coco-experiment 2.8.2 names, by function, instance and dimension."""

_BOCODE: dict[str, float] = {
    "ThreeTruss": 263.89584337651274,
    "CompressionSpring": 0.012665232788365854,
    "HelicalSpring": 2.658559165983061,
    "SteppedCantileverBeam": 65612.07436312623,
    "ReinforcedConcreteBeam": 359.20799999999997,
    "SatelliteDesign": 1.0464107146122807,
    "HeatExchanger": 12569.924599099999,
    "JLH1": 0.03125,
}
"""Best feasible value seen, by name."""

OTHERS: dict[str, Callable[[], OutcomeProblem]] = {
    **{f"bbob_constrained_f{f}_i{i}_{d}d": partial(coco_constrained, f, i, d) for f, i, d in COCO_OPTIMA},
    **{
        f"bocode_constrained_{name}": partial(bocode_constrained, name, best)
        for name, best in _BOCODE.items()
    },
}
"""Functions that make the problems of COCO and bocode in the suite `constrained`, by name."""
