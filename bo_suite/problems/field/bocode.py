"""Problems of the package bocode, the extra `bo-suite[field]`: engineering, mixed and categorical, tuning.

Problems whose name has an odd CRC-32 cannot be made: they are kept for checking what was developed on the
others.

bocode maximises; here the value is minus its objective. A problem with constraints g_j <= 0 becomes

    value = -objective + 10 s sum_j max(0, g_j) / u_j,

where, over 256 uniform points of fixed seed, s is the distance of the 10% and 90% quantiles of the objective,
and u_j the median of the positive g_j (1 if no g_j is positive).
"""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.problems.field.extra import require_library
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Params, Space

_WEIGHT = 10.0
_POINTS = 256

_NOMINAL = (
    *("BraninCategorical", "BraninLVGP", "CoCaBOFunc3C", "GoldsteinLVGP", "MixedAckley", "NASBench201"),
    *("SchwefelCat", "StyblinskiTangCat", "WeldedBeamCategorical"),
)
"""Problems whose discrete levels have no order; those of the others are numbers, unless there are two."""

_NETWORKS = "LCBench"
_LOGARITHMIC = (0, 1, 3)
"""Batch size, learning rate and units of LCBench, which its authors search on a log scale."""


def check_name(name: str) -> None:
    """Raises a DataError if the problem of bocode is kept for checking."""
    if zlib.crc32(name.encode()) % 2:
        raise DataError(
            f"a problem of bocode must have a name with an even CRC-32, since the others are kept for "
            f"checking, got {name}"
        )


@dataclass(frozen=True)
class BocodeFunction:
    """The value of a problem of bocode, smaller is better; pickled as its name.

    Raises:
        DataError: the problem is kept for checking.
    """

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)

    def __call__(self, params: Params) -> float:
        row = torch.tensor([[*params.values()]], dtype=torch.float64, device="cpu")
        return _loaded(self.name).value(row)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A problem of bocode in memory.

    Attributes:
        problem: of bocode.
        spread: s of the penalty; 0 without constraints.
        units: u_j of the penalty.
    """

    problem: Any
    spread: float
    units: Tensor

    def value(self, row: Tensor) -> float:
        with warnings.catch_warnings():
            # Of models that do not converge, and of functions that leave the range of a logarithm.
            warnings.simplefilter("ignore")
            objectives, constraints = self.problem.evaluate(row)
        value = -float(objectives[0, 0])
        if self.spread:
            value += _WEIGHT * self.spread * float((constraints[0].clamp_min(0.0) / self.units).sum())
        return value


@cache
def _loaded(name: str) -> _Loaded:
    problem = require_library("bocode", "bocode").get_problem(name)()
    if not problem.num_constraints:
        return _Loaded(problem, 0.0, torch.ones(0, dtype=torch.float64))
    uniform = torch.from_numpy(np.random.default_rng(0).random((_POINTS, problem.dim)))
    rows = problem.enforce_variable_types(problem.scale(uniform))
    objectives, constraints = problem.evaluate(rows)
    low, high = np.quantile(objectives[:, 0].numpy(), (0.1, 0.9))
    violations = [column[column > 0] for column in constraints.T]
    units = [float(positive.median()) if len(positive) else 1.0 for positive in violations]
    return _Loaded(problem, float(high - low), torch.tensor(units, dtype=torch.float64))


def bocode_problem(name: str) -> Problem:
    """A problem of bocode, such as `bocode_Wing`.

    Raises:
        DataError: the problem is kept for checking, or bocode is not installed.
    """
    function = BocodeFunction(name)
    problem = _loaded(name).problem
    kinds = zip(problem.bounds, problem.resolved_variable_types(), strict=True)
    parameters = {
        f"x{index + 1}": _parameter(name, index, bounds, kind) for index, (bounds, kind) in enumerate(kinds)
    }
    return Problem(f"bocode_{name}", Space(parameters), function)


def _parameter(name: str, index: int, bounds: Sequence[float], kind: str | Sequence[float]) -> Parameter:
    low, high = (float(bound) for bound in bounds)
    log = name.startswith(_NETWORKS) and index in _LOGARITHMIC
    if isinstance(kind, str):  # continuous or integer
        return Float(low, high, log) if kind == "continuous" else Int(int(low), int(high), log)
    levels = tuple(kind)
    return Choice(levels, ordered=name not in _NOMINAL and len(levels) > 2)
