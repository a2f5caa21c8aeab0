"""Test functions with known minima: those of BoTorch, and the formulas of `formulas.py`.

BoTorch states its minimisers to a few digits, and some are missing (Hartmann in 4 dimensions, Michalewicz in
most). The minimisers here were refined until the value no longer fell, and all minimisers of a function are
listed. Functions whose name ends in a dimension, such as `ackley5`, exist in several dimensions.
"""

import copy
import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.problems.formulas import FLOATS, FORMULAS, TENSORS, Formula, Value
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space

Point = tuple[float, ...]


@dataclass(frozen=True)
class _Wrapped:
    """A test function of BoTorch, and its minimisers.

    Attributes:
        kind: The class in botorch.test_functions.
        dims: The dimensions in which it exists; empty for `first`, `first + step`, ...
        points: Minimisers by dimension.
    """

    kind: str
    dims: tuple[int, ...] = ()
    points: Callable[[int], tuple[Point, ...]] | None = None
    first: int = 2
    step: int = 1


def _origin(dim: int) -> tuple[Point, ...]:
    return ((0.0,) * dim,)


def _ones(dim: int) -> tuple[Point, ...]:
    return ((1.0,) * dim,)


def _styblinski_tang(dim: int) -> tuple[Point, ...]:
    # The root of 4 x³ − 32 x + 5 nearest to -2.9; the function is a sum over columns.
    return ((-2.903534027771177,) * dim,)


def _dixon_price(dim: int) -> tuple[Point, ...]:
    # x_i = 2^(2^(1-i) - 1); the last column enters only as its square.
    head = tuple(2.0 ** (2.0 ** (1 - i) - 1.0) for i in range(1, dim + 1))
    return (head, (*head[:-1], -head[-1]))


def _michalewicz(dim: int) -> tuple[Point, ...]:
    # A sum over columns, so each is minimised alone: on a fine grid, then by golden sections.
    from scipy.optimize import minimize_scalar

    point = []
    for i in range(1, dim + 1):
        grid = torch.linspace(0.0, math.pi, 20_001, dtype=torch.float64, device="cpu")
        values = -torch.sin(grid) * torch.sin(i * grid**2 / math.pi) ** 20
        best = float(grid[values.argmin()])
        result = minimize_scalar(
            _michalewicz_column,
            bounds=(best - 2e-4, best + 2e-4),
            args=(i,),
            method="bounded",
            options={"xatol": 1e-12},
        )
        point.append(float(result.x))
    return (tuple(point),)


def _michalewicz_column(x: float, i: int) -> float:
    return -math.sin(x) * math.sin(i * x * x / math.pi) ** 20


_HARTMANN = {
    3: (0.11458887665507, 0.55564889461693, 0.85254698468668),
    4: (0.18739527297347, 0.19415152930244, 0.55791778006256, 0.26477962417040),
    6: (
        0.20168951100671,
        0.15001069182346,
        0.47687397422190,
        0.27533243049410,
        0.31165161660011,
        0.65730053406562,
    ),
}


def _hartmann(dim: int) -> tuple[Point, ...]:
    return (_HARTMANN[dim],)


def _branin(_: int) -> tuple[Point, ...]:
    return ((-math.pi, 12.275), (math.pi, 2.275), (3 * math.pi, 2.475))


def _six_hump(_: int) -> tuple[Point, ...]:
    return ((0.0898420131003, -0.7126564030207), (-0.0898420131003, 0.7126564030207))


def _shekel(_: int) -> tuple[Point, ...]:
    return ((4.000746868271, 3.999509480086, 4.000746868271, 3.999509480086),)


def _beale(_: int) -> tuple[Point, ...]:
    return ((3.0, 0.5),)


def _bukin(_: int) -> tuple[Point, ...]:
    return ((-10.0, 1.0),)


def _eggholder(_: int) -> tuple[Point, ...]:
    return ((512.0, 404.231805113758),)


def _holder_table(_: int) -> tuple[Point, ...]:
    x, y = 8.055023475736563, 9.664590019241272
    return ((x, y), (x, -y), (-x, y), (-x, -y))


_WRAPPED = {
    "ackley": _Wrapped("Ackley", points=_origin, first=1),
    "beale": _Wrapped("Beale", (2,), _beale),
    "branin": _Wrapped("Branin", (2,), _branin),
    "bukin": _Wrapped("Bukin", (2,), _bukin),
    "cosine": _Wrapped("Cosine8", (8,), _origin),
    "dixon_price": _Wrapped("DixonPrice", points=_dixon_price),
    "drop_wave": _Wrapped("DropWave", (2,), _origin),
    "eggholder": _Wrapped("EggHolder", (2,), _eggholder),
    "griewank": _Wrapped("Griewank", points=_origin, first=1),
    "hartmann": _Wrapped("Hartmann", (3, 4, 6), _hartmann),
    "holder_table": _Wrapped("HolderTable", (2,), _holder_table),
    "levy": _Wrapped("Levy", points=_ones, first=1),
    "michalewicz": _Wrapped("Michalewicz", points=_michalewicz, first=1),
    "powell": _Wrapped("Powell", points=_origin, first=4, step=4),
    "rastrigin": _Wrapped("Rastrigin", points=_origin, first=1),
    "rosenbrock": _Wrapped("Rosenbrock", points=_ones),
    "shekel": _Wrapped("Shekel", (4,), _shekel),
    "six_hump_camel": _Wrapped("SixHumpCamel", (2,), _six_hump),
    "styblinski_tang": _Wrapped("StyblinskiTang", points=_styblinski_tang, first=1),
    "three_hump_camel": _Wrapped("ThreeHumpCamel", (2,), _origin),
}


@lru_cache(maxsize=64)
def _botorch(kind: str, dim: int) -> Any:
    # Cached: building the module takes far longer than evaluating it.
    with warnings.catch_warnings():
        # Importing GPyTorch gives deprecation warnings of PyTorch, which do not concern the caller.
        warnings.simplefilter("ignore", DeprecationWarning)
        import botorch.test_functions

    function = getattr(botorch.test_functions, kind)
    sized = kind in {wrapped.kind for wrapped in _WRAPPED.values() if len(wrapped.dims) != 1}
    # Some functions store their constants in the default dtype, which is float32.
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        return function(dim=dim) if sized else function()
    finally:
        torch.set_default_dtype(default)


@dataclass(frozen=True)
class _BoTorchValue:
    """The value of a BoTorch test function at a point; smaller is better."""

    kind: str
    dim: int

    def __call__(self, params: Params) -> float:
        function = _botorch(self.kind, self.dim)
        row = torch.tensor([list(params.values())], dtype=torch.float64, device="cpu")
        with torch.no_grad():
            value = float(function.evaluate_true(row))
        return value if function.is_minimization_problem else -value


@lru_cache(maxsize=64)
def _botorch_on(kind: str, dim: int, device: torch.device, dtype: torch.dtype) -> Any:
    # One copy per device and dtype: some functions move their constants, in place, to those of the last call.
    return copy.deepcopy(_botorch(kind, dim)).to(device=device, dtype=dtype)


@dataclass(frozen=True)
class _BoTorchRows:
    """The values of a BoTorch test function at rows in the user's units; smaller is better."""

    kind: str
    dim: int

    def __call__(self, rows: jt.Float[Tensor, "n d"]) -> jt.Float[Tensor, " n"]:
        function = _botorch_on(self.kind, self.dim, rows.device, rows.dtype)
        # `_evaluate_true` does not check bounds: the check would make the host wait for the device.
        values: Tensor = function._evaluate_true(rows)
        return values if function.is_minimization_problem else -values


@dataclass(frozen=True)
class _FormulaValue:
    """The value of a formula at a point."""

    formula: Value

    def __call__(self, params: Params) -> float:
        return float(self.formula(tuple(params.values()), FLOATS))


@dataclass(frozen=True)
class _FormulaRows:
    """The values of a formula at rows in the user's units."""

    formula: Value

    def __call__(self, rows: jt.Float[Tensor, "n d"]) -> jt.Float[Tensor, " n"]:
        values: Tensor = self.formula(rows.unbind(-1), TENSORS)
        return values


def _point(values: Point) -> Params:
    return {f"x{column}": value for column, value in enumerate(values, start=1)}


def _space(bounds: tuple[tuple[float, float], ...]) -> Space:
    return Space({f"x{column}": Float(low, high) for column, (low, high) in enumerate(bounds, start=1)})


def _from_botorch(name: str, wrapped: _Wrapped, dim: int) -> Problem:
    function = _BoTorchValue(wrapped.kind, dim)
    bounds = _botorch(wrapped.kind, dim).bounds.mT.tolist()
    assert wrapped.points is not None
    points = tuple(_point(values) for values in wrapped.points(dim))
    return Problem(
        name=name,
        space=_space(tuple((low, high) for low, high in bounds)),
        function=function,
        minimum=min(function(point) for point in points),
        minimizers=points,
        vectorized=_BoTorchRows(wrapped.kind, dim),
    )


def _from_formula(name: str, formula: Formula, dim: int) -> Problem:
    function = _FormulaValue(formula.value)
    points = tuple(_point(values) for values in formula.points(dim))
    return Problem(
        name=name,
        space=_space(formula.bounds * (dim if len(formula.bounds) == 1 and dim > 1 else 1)),
        function=function,
        minimum=min(function(point) for point in points),
        minimizers=points,
        vectorized=_FormulaRows(formula.value),
    )


_LISTED_DIMS = {"ackley": 5, "griewank": 6, "levy": 4, "powell": 4, "rosenbrock": 4, "styblinski_tang": 6}
"""The dimension in which a function that exists in every dimension is listed; 5 for functions not here."""


def _dims(name: str) -> tuple[int, ...] | None:
    """The dimensions in which a function exists; None for all."""
    dims = _WRAPPED[name].dims if name in _WRAPPED else FORMULAS[name].dims
    return dims or None


def synthetic_names() -> tuple[str, ...]:
    """Names of the test functions, each in its best-known dimensions."""
    names = []
    for name in (*_WRAPPED, *FORMULAS):
        dims = _dims(name)
        if dims is None:
            names.append(f"{name}{_LISTED_DIMS.get(name, 5)}")
        elif len(dims) == 1 and name != "cosine":
            names.append(name)
        else:
            names += [f"{name}{dim}" for dim in dims]
    return tuple(sorted(names))


def synthetic_problem(name: str) -> Problem | None:
    """The test function of a name such as `branin`, `hartmann6` or `ackley20`; None if no function has it.

    Raises:
        DataError: the function does not exist in the dimension.
    """
    match = re.fullmatch(r"([a-z_]+?)([1-9][0-9]*)?", name)
    if name in FORMULAS:
        stem, digits = name, None
    elif match is not None and (match[1] in _WRAPPED or match[1] in FORMULAS):
        stem, digits = match[1], match[2]
    else:
        return None
    dims = _dims(stem)
    if digits is None and (dims is None or len(dims) > 1):
        raise DataError(f"the name of {stem} must end in its dimension, such as {stem}6, got {name!r}")
    dim = int(digits) if digits is not None else dims[0]  # type: ignore[index]
    first, step = (_WRAPPED[stem].first, _WRAPPED[stem].step) if stem in _WRAPPED else (1, 1)
    if dims is not None and dim not in dims:
        raise DataError(f"{stem} must have a dimension among {list(dims)}, got {dim}")
    if dims is None and (dim < first or (dim - first) % step):
        raise DataError(f"{stem} must have a dimension among {first}, {first + step}, ..., got {dim}")
    if stem in _WRAPPED:
        return _from_botorch(name, _WRAPPED[stem], dim)
    return _from_formula(name, FORMULAS[stem], dim)
