"""Problems made from problems: noise, a box that is not centred, idle dimensions, discrete columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import SupportsFloat

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem, Rows
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space

_KEPT = 0.6
"""Share of each side that `shifted` keeps: a minimiser at the centre lands anywhere in [1/6, 5/6]."""


def noisy(problem: Problem, std: float, seed: int = 0) -> Problem:
    """The problem observed with additive Gaussian noise of standard deviation std.

    Raises:
        DataError: std < 0.
    """
    return replace(problem, name=f"noisy_{problem.name}", noise=float(std), seed=seed)


def shifted(problem: Problem, seed: int = 0) -> Problem:
    """The problem on a box cropped so that its first minimiser is off the centre.

    Optimisers that start at, or lean to, the centre or a corner are flattered by functions whose minimum
    lies there. Each Float column keeps a random stretch of 0.6 of its length that contains the minimiser,
    at least a tenth of the stretch away from its middle; a fidelity keeps its range.
    The function stays as it is: a translation would move values from outside the box into it, which
    need not be above the minimum. Where no minimiser is known, any stretch will do, and the best known value,
    which may lie outside, is forgotten.

    Raises:
        DataError: a minimum without a minimiser.
    """
    if problem.minimum is not None and not problem.minimizers:
        raise DataError(f"a shifted problem needs a minimizer of a known minimum, {problem.name} gives none")
    generator = np.random.default_rng((seed, problem.space.dim))
    best = problem.minimizers[0] if problem.minimizers else None
    parameters = dict(problem.space)
    for name, parameter in problem.space:
        draw = generator.random()
        if not isinstance(parameter, Float) or parameter.fidelity:
            continue
        pieces = [(0.0, 1.0 - _KEPT)]
        if best is not None:
            unit = parameter.encode(parameter.check(best[name]))
            first, last = max(0.0, unit - _KEPT), min(1.0 - _KEPT, unit)
            pieces = [(first, min(last, unit - 0.6 * _KEPT)), (max(first, unit - 0.4 * _KEPT), last)]
        start = _draw(draw, pieces)
        low, high = parameter.decode(start), parameter.decode(start + _KEPT)
        if best is not None:
            # Decoded bounds are rounded: a minimiser on the edge must not fall out.
            place = parameter.check(best[name])
            low, high = min(low, place), max(high, place)
        parameters[name] = Float(low, high, parameter.log)
    space = Space(parameters)
    inside = tuple(point for point in problem.minimizers if _contains(space, point))
    return replace(
        problem,
        name=f"shifted_{problem.name}",
        space=space,
        minimizers=inside,
        best_known=problem.minimum,
    )


def embedded(problem: Problem, dim: int, seed: int = 0) -> Problem:
    """The problem among irrelevant Float(0, 1) columns, dim in all, in a random order.

    Raises:
        DataError: fewer dimensions than the problem has.
    """
    if dim < problem.space.dim:
        raise DataError(f"`dim >= {problem.space.dim}` must hold to embed {problem.name}, got dim={dim}")
    order = np.random.default_rng((seed, dim)).permutation(dim)
    originals = list(problem.space.parameters)
    sources = [originals[place] if place < len(originals) else None for place in order]
    names = [f"x{place + 1}" for place in range(dim)]
    space = Space(
        {
            name: Float(0.0, 1.0) if source is None else problem.space.parameters[source]
            for name, source in zip(names, sources, strict=True)
        }
    )
    renamed = {source: name for name, source in zip(names, sources, strict=True) if source is not None}
    points = tuple(
        {name: 0.5 if source is None else point[source] for name, source in zip(names, sources, strict=True)}
        for point in problem.minimizers
    )
    function = _Renamed(problem, tuple(renamed[name] for name in originals))
    places = tuple(names.index(renamed[name]) for name in originals)
    return replace(
        problem,
        name=f"{problem.name}_in_{dim}d",
        space=space,
        function=function,
        minimizers=points,
        vectorized=None if problem.vectorized is None else _Selected(problem.vectorized, places),
    )


def mixed(
    problem: Problem,
    *,
    integers: Sequence[int] = (),
    ordered: Sequence[int] = (),
    unordered: Sequence[int] = (),
    levels: int = 5,
) -> Problem:
    """The problem with some Float columns reduced to a few values.

    A reduced column takes `levels` values spread evenly over its range, ends included, of which the one
    nearest to the first minimiser is moved onto it. So that minimiser stays in the space, and
    the minimum is the problem's; where it is not known, the best known value is forgotten. An integer column
    counts the values from 0; an ordered one names them in order; an unordered one names them in a scrambled
    order.

    Args:
        problem: The problem to restrict.
        integers: Columns that become Int(0, levels - 1).
        ordered: Columns that become an ordered Choice.
        unordered: Columns that become an unordered Choice.
        levels: Number of values of each of these, 2 to 26.

    Raises:
        DataError: a column that is not there, not a Float, a fidelity or given twice, or levels out of range.
    """
    columns = [*integers, *ordered, *unordered]
    items = list(problem.space)
    if len(set(columns)) < len(columns) or not all(0 <= column < len(items) for column in columns):
        raise DataError(f"columns must differ and be in 0 ... {len(items) - 1}, got {columns}")
    if not 2 <= levels <= 26:
        raise DataError(f"`2 <= levels <= 26` must hold, got levels={levels}")
    if problem.minimum is not None and not problem.minimizers:
        raise DataError(f"a mixed problem needs a minimizer of a known minimum, {problem.name} gives none")
    parameters = dict(items)
    tables: dict[str, tuple[tuple[str | int, float], ...]] = {}
    for column in columns:
        name, parameter = items[column]
        if not isinstance(parameter, Float):
            raise DataError(f"only Float columns can be reduced to levels, got {name!r}: {parameter!r}")
        if parameter.fidelity:
            raise DataError(f"a fidelity cannot be reduced to levels, got {name!r}: {parameter!r}")
        values = [parameter.decode(level / (levels - 1)) for level in range(levels)]
        if problem.minimizers:
            best = parameter.check(problem.minimizers[0][name])
            near = round(parameter.encode(best) * (levels - 1))
            values[near] = best
        options: list[str | int]
        if column in integers:
            parameters[name] = Int(0, levels - 1)
            options = list(range(levels))
        else:
            letters = [chr(ord("a") + place) for place in range(levels)]
            parameters[name] = Choice(tuple(letters), ordered=column in ordered)
            scramble = np.random.default_rng((column, levels)).permutation(levels)
            options = list(letters) if column in ordered else [letters[place] for place in scramble]
        tables[name] = tuple(zip(options, values, strict=True))
    function = _Levels(problem, tuple(tables.items()))
    points = tuple(found for point in problem.minimizers if (found := function.inverse(point)) is not None)
    return replace(
        problem,
        name=f"mixed_{problem.name}",
        space=Space(parameters),
        function=function,
        minimizers=points,
        best_known=problem.minimum,
        vectorized=None,
    )


def _draw(uniform: float, pieces: Sequence[tuple[float, float]]) -> float:
    """A uniform draw, mapped onto intervals; an empty one has its end before its start."""
    kept = [(start, end) for start, end in pieces if start <= end]
    rest = uniform * sum(end - start for start, end in kept)
    for start, end in kept[:-1]:
        if rest <= end - start:
            return start + rest
        rest -= end - start
    start, end = kept[-1]
    return min(start + rest, end)


def _contains(space: Space, point: Params) -> bool:
    return all(
        not isinstance(parameter, Float) or parameter.low <= float(point[name] or 0.0) <= parameter.high
        for name, parameter in space
    )


@dataclass(frozen=True)
class _Renamed:
    """A problem's value where its parameters go by other names."""

    problem: Problem
    names: tuple[str, ...]

    def __call__(self, params: Params) -> SupportsFloat:
        return self.problem.function(
            {
                original: params[name]
                for original, name in zip(self.problem.space.parameters, self.names, strict=True)
            }
        )


@dataclass(frozen=True)
class _Selected:
    """A vectorized function of some of the columns."""

    vectorized: Rows
    columns: tuple[int, ...]

    def __call__(self, rows: jt.Float64[Tensor, "n d"]) -> jt.Float64[Tensor, " n"]:
        # An index of integers would be sent to the device at each call; views of columns are there already.
        return self.vectorized(torch.stack([rows[:, column] for column in self.columns], dim=-1))


@dataclass(frozen=True)
class _Levels:
    """A problem's value where options stand for some of its values."""

    problem: Problem
    tables: tuple[tuple[str, tuple[tuple[str | int, float], ...]], ...]

    def __call__(self, params: Params) -> SupportsFloat:
        return self.problem.function(
            {**params, **{name: dict(table)[params[name]] for name, table in self.tables}}
        )

    def inverse(self, point: Params) -> Params | None:
        """The options that stand for a point; None where one of its values has none."""
        found = dict(point)
        for name, table in self.tables:
            options = [option for option, value in table if value == point[name]]
            if not options:
                return None
            found[name] = options[0]
        return found
