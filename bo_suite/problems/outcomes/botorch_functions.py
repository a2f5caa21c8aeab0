"""Test functions of BoTorch with several objectives, constraints or both.

Outcomes are named f1, f2, ... (`value` for one objective) and c1, c2, ...; a constraint is met if it is at
most 0: c is minus BoTorch's slack. All objectives are minimised. The reference points are BoTorch's, but for
SRN and BNH, for which BoTorch has none ([0, 0], with its own note that it is to be determined): theirs are
just above the largest feasible values. BoTorch's SRN has the constraint sum(x^4) <= 225, not sum(x^2) as the
paper.

The largest hypervolumes of ZDT and DTLZ2 follow from formulas. The others, and the best values of engineering
problems, are the best that was seen: BoTorch's figures where they are better, otherwise those of
`benchmarks/outcome_optima.py`. Some of the literature's optima, which BoTorch quotes, are not those of
BoTorch's functions: these attain smaller feasible values.

Reference: Balandat et al. (2020), "BoTorch: A Framework for Efficient Monte-Carlo Bayesian Optimization".
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.problems.outcomes.base import OutcomeProblem
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import VALUE, Goals

Arguments = tuple[tuple[str, int], ...]
"""Arguments of a class of BoTorch, by name."""


@cache
def _loaded(name: str, arguments: Arguments) -> Any:
    """The function in memory."""
    from botorch.test_functions import multi_objective, synthetic

    home = multi_objective if hasattr(multi_objective, name) else synthetic
    return getattr(home, name)(**dict(arguments))


@dataclass(frozen=True)
class BoTorchFunction:
    """The outcomes of a test function of BoTorch; pickled as its name and arguments.

    Attributes:
        name: of the class, in `botorch.test_functions.multi_objective` or `synthetic`.
        arguments: of the class, such as (("dim", 6),).
        constrained: whether it has constraints.
    """

    name: str
    arguments: Arguments = ()
    constrained: bool = False

    def __call__(self, params: Params) -> dict[str, float]:
        objectives, violations = self.rows(torch.tensor([[*params.values()]], dtype=torch.float64))
        names = _names(objectives.shape[-1], violations.shape[-1])
        return dict(zip(names, torch.cat([objectives, violations], dim=-1)[0].tolist(), strict=True))

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Objectives (n, k) and constraints (n, c) of many points (n, d); a constraint is met if <= 0."""
        function = _loaded(self.name, self.arguments)
        objectives = function.evaluate_true(x).reshape(len(x), -1)
        if not self.constrained:
            return objectives, x.new_zeros(len(x), 0)
        return objectives, -function.evaluate_slack_true(x)


def _names(objectives: int, constraints: int) -> list[str]:
    first = [VALUE] if objectives == 1 else [f"f{index + 1}" for index in range(objectives)]
    return [*first, *(f"c{index + 1}" for index in range(constraints))]


@dataclass(frozen=True)
class _Listed:
    """How to make a problem: of what, and what is known of it."""

    cls: str
    arguments: Arguments = ()
    constraints: int = 0
    reference: tuple[float, ...] | None = None
    exact: bool = False
    best_seen: float | None = None


def _made(name: str, listed: _Listed) -> OutcomeProblem:
    function = _loaded(listed.cls, listed.arguments)
    several = getattr(function, "num_objectives", 1) > 1
    best = getattr(function, "_max_hv", None) if several else function._optimal_value
    if listed.best_seen is not None:
        best = listed.best_seen
    names = _names(function.num_objectives if several else 1, listed.constraints)
    limits = {name: (None, 0.0) for name in names if name.startswith("c")}
    objectives = names[: len(names) - listed.constraints]
    direction = dict.fromkeys(objectives, "minimize") if several else "minimize"
    bounds = function.bounds.T.tolist()
    return OutcomeProblem(
        name=name,
        space=Space({f"x{index + 1}": Float(low, high) for index, (low, high) in enumerate(bounds)}),
        function=BoTorchFunction(listed.cls, listed.arguments, listed.constraints > 0),
        goals=Goals.of(direction, limits or None),
        reference=() if not several else listed.reference or tuple(function._ref_point),
        optimum=best if listed.exact else None,
        best_seen=best,
    )


def _dim(dim: int, **others: int) -> Arguments:
    return tuple({"dim": dim, **others}.items())


_MULTI = {
    "branin_currin": _Listed("BraninCurrin", best_seen=59.396142991960666),
    "zdt1_6d": _Listed("ZDT1", _dim(6), exact=True),
    "zdt2_6d": _Listed("ZDT2", _dim(6), exact=True),
    "zdt3_6d": _Listed("ZDT3", _dim(6), exact=True),
    "dtlz2_6d": _Listed("DTLZ2", _dim(6), exact=True),
    "vehicle_safety": _Listed("VehicleSafety"),
    "car_side_impact": _Listed("CarSideImpact"),
    "penicillin": _Listed("Penicillin"),
}

_MULTI_CONSTRAINED = {
    "constrained_branin_currin": _Listed("ConstrainedBraninCurrin", constraints=1),
    "c2dtlz2_6d": _Listed("C2DTLZ2", _dim(6), constraints=1),
    "disc_brake": _Listed("DiscBrake", constraints=4),
    "osy": _Listed("OSY", constraints=6),
    "srn": _Listed("SRN", constraints=2, reference=(40.0, 6.0)),
    "bnh": _Listed("BNH", constraints=2, reference=(140.0, 52.0)),
    "constr": _Listed("CONSTR", constraints=2),
    "welded_beam": _Listed("WeldedBeam", constraints=4),
    "mw7_4d": _Listed("MW7", _dim(4), constraints=2),
}

_SINGLE_CONSTRAINED = {
    "pressure_vessel": _Listed("PressureVessel", constraints=4, best_seen=5799.941104526112),
    "welded_beam_one": _Listed("WeldedBeamSO", constraints=6, best_seen=1.587077519461164),
    "tension_compression_string": _Listed(
        "TensionCompressionString", constraints=4, best_seen=0.01266523278844745
    ),
    "speed_reducer": _Listed("SpeedReducer", constraints=11, best_seen=2996.3481854572356),
    "constrained_gramacy": _Listed("ConstrainedGramacy", constraints=2, best_seen=0.59978805202),
    "constrained_hartmann6": _Listed(
        "ConstrainedHartmann", _dim(6), constraints=1, best_seen=-3.3223680044401815
    ),
    "constrained_hartmann6_smooth": _Listed(
        "ConstrainedHartmannSmooth", _dim(6), constraints=1, best_seen=-3.3223680044401815
    ),
}


@dataclass(frozen=True)
class ConstrainedAckley:
    """Ackley's function under sum(x) <= 0 and |x| <= 5, the problem of SCBO's tutorial.

    value = -20 exp(-0.2 sqrt(mean x^2)) - exp(mean cos(2 pi x)) + 20 + e, c1 = sum(x), c2 = |x| - 5.

    Reference: Eriksson and Poloczek (2021), "Scalable Constrained Bayesian Optimization".
    """

    def __call__(self, params: Params) -> dict[str, float]:
        x = torch.tensor([*params.values()], dtype=torch.float64)
        decay = -20.0 * torch.exp(-0.2 * x.square().mean().sqrt())
        value = decay - torch.exp(torch.cos(2 * torch.pi * x).mean()) + 20.0 + torch.e
        return {VALUE: float(value), "c1": float(x.sum()), "c2": float(x.norm()) - 5.0}


def constrained_ackley(dim: int) -> OutcomeProblem:
    """Ackley's function on [-5, 10]^dim under two constraints, with its minimum 0 at the origin."""
    if dim < 1:
        raise DataError(f"`dim >= 1` must hold, got dim={dim}")
    return OutcomeProblem(
        name=f"constrained_ackley{dim}",
        space=Space({f"x{index + 1}": Float(-5.0, 10.0) for index in range(dim)}),
        function=ConstrainedAckley(),
        goals=Goals.of("minimize", {"c1": (None, 0.0), "c2": (None, 0.0)}),
        optimum=0.0,
    )


Recipe = Callable[[], OutcomeProblem]


def _recipes(table: dict[str, _Listed]) -> dict[str, Recipe]:
    return {name: partial(_made, name, listed) for name, listed in table.items()}


OBJECTIVES: dict[str, Recipe] = _recipes(_MULTI)
"""Functions that make the problems with several objectives, by name."""

BOTH: dict[str, Recipe] = _recipes(_MULTI_CONSTRAINED)
"""Functions that make the problems with several objectives and constraints, by name."""

CONSTRAINED: dict[str, Recipe] = {
    **_recipes(_SINGLE_CONSTRAINED),
    "constrained_ackley5": partial(constrained_ackley, 5),
    "constrained_ackley10": partial(constrained_ackley, 10),
}
"""Functions that make the problems with one objective and constraints, by name."""
