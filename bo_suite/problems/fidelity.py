"""Test functions with fidelities: a known function at the target, and approximations at lower fidelities.

The fidelity is the last parameter. The approximations are biased and may fall below the minimum.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bo_suite.problems.base import Problem
from bo_suite.problems.synthetic import synthetic_problem
from bo_suite.space.parameters import Float, Int
from bo_suite.space.space import Params, Space

_ALPHA = (1.0, 1.2, 3.0, 3.2)
_A = (
    (10.0, 3.0, 17.0, 3.5, 1.7, 8.0),
    (0.05, 10.0, 17.0, 0.1, 8.0, 14.0),
    (3.0, 3.5, 1.7, 10.0, 17.0, 8.0),
    (17.0, 8.0, 0.05, 10.0, 0.1, 14.0),
)
_P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def _values(params: Params) -> tuple[float, ...]:
    return tuple(params.values())


def augmented_branin(params: Params) -> float:
    """(x2 − (5.1/(4π²) − 0.1 (1 − s)) x1² + 5/π x1 − 6)² + 10 (1 − 1/(8π)) cos x1 + 10: Branin at s = 1.

    Wu et al. 2019; as in BoTorch.
    """
    x, y, s = _values(params)
    curve = 5.1 / (4 * math.pi**2) - 0.1 * (1 - s)
    return (y - curve * x**2 + 5 / math.pi * x - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def augmented_hartmann(params: Params) -> float:
    """−Σ_i α_i exp(−Σ_j A_ij (x_j − P_ij)²) with α_1 = 1 − 0.1 (1 − s): Hartmann in 6 dimensions at s = 1.

    Wu et al. 2019; as in BoTorch.
    """
    *x, s = _values(params)
    total = -0.1 * (1 - s) * _bump(x, 0)
    return -(total + math.fsum(alpha * _bump(x, row) for row, alpha in enumerate(_ALPHA)))


def _bump(x: list[float], row: int) -> float:
    return math.exp(-math.fsum(a * (v - p) ** 2 for v, a, p in zip(x, _A[row], _P[row], strict=True)))


def branin_3_fidelities(params: Params) -> float:
    """Augmented Branin at s = 0, 0.5, 1 for the levels 1, 2, 3."""
    x, y, level = _values(params)
    return augmented_branin({"x1": x, "x2": y, "s": (level - 1) / 2})


@dataclass(frozen=True)
class _Fidelity:
    """A function, the name of the problem that it equals at the target, and its fidelity parameter."""

    function: Callable[[Params], float]
    target: str
    parameter: Float | Int


FIDELITY = {
    "augmented_branin": _Fidelity(augmented_branin, "branin", Float(0.0, 1.0, fidelity=True)),
    "augmented_hartmann6": _Fidelity(augmented_hartmann, "hartmann6", Float(0.0, 1.0, fidelity=True)),
    "branin_3_fidelities": _Fidelity(branin_3_fidelities, "branin", Int(1, 3, fidelity=True)),
}


def fidelity_problem(name: str) -> Problem:
    """The problem of one of the names in FIDELITY."""
    definition = FIDELITY[name]
    target = synthetic_problem(definition.target)
    assert target is not None, "the target is one of the test functions"
    points = tuple({**point, "fidelity": definition.parameter.high} for point in target.minimizers)
    return Problem(
        name=name,
        space=Space({**target.space.parameters, "fidelity": definition.parameter}),
        function=definition.function,
        minimum=min(definition.function(point) for point in points),
        minimizers=points,
    )
