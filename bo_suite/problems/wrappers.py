"""Problems made from problems: with noise, a shifted box, irrelevant columns or discrete columns."""

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

_SHARE = 0.6
"""Share of each side that `shifted` retains: a minimiser at the centre gets a position in [1/6, 5/6]."""

_OFF_CENTRE = 0.1
"""Distance of the minimiser from the middle of the new side, at least, as a share of that side."""


def noisy(problem: Problem, std: float, seed: int = 0) -> Problem:
    """The problem with additive Gaussian noise of standard deviation std.

    Raises:
        DataError: std < 0.
    """
    return replace(problem, name=f"noisy_{problem.name}", noise=float(std), seed=seed)


def shifted(problem: Problem, seed: int = 0) -> Problem:
    """The problem on a smaller box that is not centred on the first minimiser.

    A function whose minimum lies at the centre or in a corner flatters optimisers that start there. Each
    Float column is cropped to a random interval of 0.6 of its length that contains the minimiser, at least a
    tenth of the interval away from its middle. Fidelities are not cropped. The function is not translated:
    values from outside the box could be below the minimum. Without a known minimiser any interval is used,
    and the best known value, which may lie outside, is dropped.

    Raises:
        DataError: the minimum is known, but no minimiser.
    """
    if problem.minimum is not None and not problem.minimizers:
        raise DataError(f"a shifted problem needs a minimizer of the known minimum, {problem.name} has none")
    generator = np.random.default_rng((seed, problem.space.dim))
    best = problem.minimizers[0] if problem.minimizers else None
    parameters = dict(problem.space)
    for name, parameter in problem.space:
        draw = generator.random()
        if not isinstance(parameter, Float) or parameter.levels is not None:
            continue
        if parameter.fidelity or parameter.context:
            continue
        intervals = [(0.0, 1.0 - _SHARE)]
        if best is not None:
            unit = parameter.encode(parameter.check(best[name]))
            first, last = max(0.0, unit - _SHARE), min(1.0 - _SHARE, unit)
            right, left = (0.5 + _OFF_CENTRE) * _SHARE, (0.5 - _OFF_CENTRE) * _SHARE
            intervals = [(first, min(last, unit - right)), (max(first, unit - left), last)]
        start = _draw(draw, intervals)
        low, high = parameter.decode(start), parameter.decode(start + _SHARE)
        if best is not None:
            # Decoded bounds are rounded: a minimiser on the edge must stay inside.
            value = parameter.check(best[name])
            low, high = min(low, value), max(high, value)
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
    """The problem with irrelevant Float(0, 1) columns added, `dim` columns in total, in random order.

    Raises:
        DataError: dim is smaller than the dimension of the problem.
    """
    if dim < problem.space.dim:
        raise DataError(f"`dim >= {problem.space.dim}` must hold to embed {problem.name}, got dim={dim}")
    order = np.random.default_rng((seed, dim)).permutation(dim)
    originals = list(problem.space.parameters)
    sources = [originals[index] if index < len(originals) else None for index in order]
    names = [f"x{column + 1}" for column in range(dim)]
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
    columns = tuple(names.index(renamed[name]) for name in originals)
    return replace(
        problem,
        name=f"{problem.name}_in_{dim}d",
        space=space,
        function=function,
        minimizers=points,
        vectorized=None if problem.vectorized is None else _Selected(problem.vectorized, columns),
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

    A reduced column takes `levels` values, evenly spaced over its range, ends included. The value nearest to
    the first minimiser is replaced by the minimiser's, so the minimum stays the same. If the minimum is
    unknown, the best known value is dropped. An Int column numbers the values from 0. An ordered Choice names
    them in order, an unordered one in random order.

    Args:
        problem: The problem to restrict.
        integers: Columns that become Int(0, levels - 1).
        ordered: Columns that become an ordered Choice.
        unordered: Columns that become an unordered Choice.
        levels: Number of values of each of these columns, 2 to 26.

    Raises:
        DataError: a column that does not exist, is not a Float without a step, is a fidelity or a context,
            or appears twice, or levels out of range.
    """
    columns = [*integers, *ordered, *unordered]
    items = list(problem.space)
    if len(set(columns)) < len(columns) or not all(0 <= column < len(items) for column in columns):
        raise DataError(f"columns must differ and be in 0 ... {len(items) - 1}, got {columns}")
    if not 2 <= levels <= 26:
        raise DataError(f"`2 <= levels <= 26` must hold, got levels={levels}")
    if problem.minimum is not None and not problem.minimizers:
        raise DataError(f"a mixed problem needs a minimizer of the known minimum, {problem.name} has none")
    parameters = dict(items)
    tables: dict[str, tuple[tuple[str | int, float], ...]] = {}
    for column in columns:
        name, _ = items[column]
        options: list[str | int]
        if column in integers:
            parameters[name] = Int(0, levels - 1)
            options = list(range(levels))
        else:
            letters = [chr(ord("a") + level) for level in range(levels)]
            parameters[name] = Choice(tuple(letters), ordered=column in ordered)
            scramble = np.random.default_rng((column, levels)).permutation(levels)
            options = list(letters) if column in ordered else [letters[level] for level in scramble]
        tables[name] = tuple(zip(options, _level_values(problem, name, levels), strict=True))
    function = _Levels(problem, tuple(tables.items()))
    minimizers = map(function.inverse, problem.minimizers)
    return replace(
        problem,
        name=f"mixed_{problem.name}",
        space=Space(parameters),
        function=function,
        minimizers=tuple(point for point in minimizers if point is not None),
        best_known=problem.minimum,
        vectorized=None,
    )


def _level_values(problem: Problem, name: str, levels: int) -> list[float]:
    """The values of a reduced column; the one nearest to the first minimiser is replaced by the minimiser's.

    Raises:
        DataError: the column is not a Float without a step, or is a fidelity or a context.
    """
    parameter = problem.space[name]
    if not isinstance(parameter, Float) or parameter.has_step:
        raise DataError(
            f"only Float columns without a step can be reduced to levels, got {name!r}: {parameter!r}"
        )
    if parameter.fidelity or parameter.context:
        kind = "fidelity" if parameter.fidelity else "context"
        raise DataError(f"a {kind} cannot be reduced to levels, got {name!r}: {parameter!r}")
    values = [parameter.decode(level / (levels - 1)) for level in range(levels)]
    if problem.minimizers:
        best = parameter.check(problem.minimizers[0][name])
        values[round(parameter.encode(best) * (levels - 1))] = best
    return values


def _draw(uniform: float, intervals: Sequence[tuple[float, float]]) -> float:
    """A uniform draw in [0, 1] mapped onto a union of intervals; an interval with end < start is empty."""
    nonempty = [(start, end) for start, end in intervals if start <= end]
    offset = uniform * sum(end - start for start, end in nonempty)
    for start, end in nonempty[:-1]:
        if offset <= end - start:
            return start + offset
        offset -= end - start
    start, end = nonempty[-1]
    return min(start + offset, end)


def _contains(space: Space, point: Params) -> bool:
    return all(
        not isinstance(parameter, Float) or parameter.low <= float(point[name] or 0.0) <= parameter.high
        for name, parameter in space
    )


@dataclass(frozen=True)
class _Renamed:
    """The value of a problem whose parameters have other names."""

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
        # Views of columns are on the device already; an index of integers would be sent to it at each call.
        return self.vectorized(torch.stack([rows[:, column] for column in self.columns], dim=-1))


@dataclass(frozen=True)
class _Levels:
    """The value of a problem in which options stand for values of some columns."""

    problem: Problem
    tables: tuple[tuple[str, tuple[tuple[str | int, float], ...]], ...]

    def __call__(self, params: Params) -> SupportsFloat:
        return self.problem.function(
            {**params, **{name: dict(table)[params[name]] for name, table in self.tables}}
        )

    def inverse(self, point: Params) -> Params | None:
        """The point with values replaced by options; None if a value has no option."""
        params = dict(point)
        for name, table in self.tables:
            options = [option for option, value in table if value == point[name]]
            if not options:
                return None
            params[name] = options[0]
        return params
