"""The contract of a problem."""

import math
import pickle
import time
from dataclasses import replace

import numpy as np
import torch

from bo_suite.problems import Problem
from bo_suite.space.space import Params, Space
from bo_suite.testing.require import require

_POINTS = 1000
_SECONDS = 1.0
"""A problem is tried at this many random points, or for about so long, and at ten in any case."""

_ROWS = 200
"""Random points at which a vectorized function is compared."""


def check_problem(problem: Problem) -> None:
    """Check that a problem is what `Problem` promises.

    Its name and space survive pickling; its value is finite, the same at every call, and leaves the params
    alone; its minimisers lie in the space, at the target where it has fidelities, and attain the minimum,
    within 1e-6 relative or absolute, and no random point moved to the target falls below it, or below the
    best known value where the minimum is not known; the vectorized function survives pickling, leaves its
    rows alone, and agrees with the function at random points and at the minimisers, given together or one by
    one, within 1e-12 relative or absolute; two equal problems show the same noise at a point, and another
    seed another noise.

    Args:
        problem: The problem.

    Raises:
        AssertionError: a rule that is broken, and the values that break it.
    """
    require(isinstance(problem, Problem), f"a problem must be a Problem, got {problem!r}")
    name = problem.name
    copy = pickle.loads(pickle.dumps(problem))
    require(copy.name == name, f"{name}: the name must survive pickling, got {copy.name!r}")
    require(copy.space == problem.space, f"{name}: the space must survive pickling")
    points = _random_points(problem.space, _POINTS)
    minimum, best_known = problem.minimum, problem.best_known
    known = "best known value" if minimum is None else "minimum"
    tolerance = 1e-6 * max(1.0, abs(best_known or 0.0))
    start = time.monotonic()
    for place, point in enumerate(points):
        if place >= 10 and time.monotonic() - start > _SECONDS:
            break
        given = dict(point)
        value = problem.value(given)
        require(given == point, f"{name}: the function must leave its params alone, changed {point}")
        require(type(value) is float, f"{name}: a value must be a float, got {value!r} at {point}")
        require(math.isfinite(value), f"{name}: a value must be finite, got {value} at {point}")
        if place < 3:
            again = copy.value(point)
            require(value == again, f"{name}: a value must not change, got {value}, then {again} at {point}")
        if best_known is not None:
            final = problem.space.at_target(point)
            lowest = value if final == point else problem.value(final)
            require(
                lowest >= best_known - tolerance,
                f"{name}: no value may be below the {known} {best_known}, got {lowest} at {final}",
            )
    for point in problem.minimizers:
        final = problem.space.at_target(point)
        require(point == final, f"{name}: a minimizer must be at the target fidelity, got {point}")
        value = problem.value(problem.space.check(point))
        require(
            minimum is not None and abs(value - minimum) <= tolerance,
            f"{name}: a minimizer must attain the minimum {minimum}, got {value} at {point}",
        )
    _check_vectorized(problem, copy, [*points[:_ROWS], *problem.minimizers])
    _check_noise(problem, points[:3])


def _check_vectorized(problem: Problem, copy: Problem, points: list[Params]) -> None:
    name, vectorized, copied = problem.name, problem.vectorized, copy.vectorized
    if vectorized is None or copied is None:
        require(vectorized is copied, f"{name}: the vectorized function must survive pickling")
        return
    rows = torch.tensor([[*point.values()] for point in points], dtype=torch.float64, device="cpu")
    given = rows.clone()
    values = vectorized(given)
    require(torch.equal(given, rows), f"{name}: the vectorized function must leave its rows alone")
    require(
        values.shape == rows.shape[:1] and values.dtype == rows.dtype and values.device == rows.device,
        f"{name}: the vectorized function must give a value a row, on dtype and device of the rows, got "
        f"{values.dtype} of shape {tuple(values.shape)} on {values.device} for {len(rows)} rows",
    )
    require(torch.equal(copied(rows), values), f"{name}: the vectorized function must survive pickling")
    for point, row, value in zip(points, rows, values.tolist(), strict=True):
        expected = problem.value(point)
        alone = float(vectorized(row[None])[0])
        for found in (value, alone):
            require(
                abs(found - expected) <= 1e-12 * max(1.0, abs(expected)),
                f"{name}: the vectorized function must agree with the function, got {found} and {expected} "
                f"at {point}",
            )


def _check_noise(problem: Problem, points: list[Params]) -> None:
    name = problem.name
    first, second = replace(problem), replace(problem)
    noises = []
    for point in points:
        seen, again, value = first(point), second(point), problem.value(point)
        require(seen == again, f"{name}: the noise of a point must be the same, got {seen} and {again}")
        noises.append(seen - value)
    if problem.noise == 0.0:
        require(not any(noises), f"{name}: without noise a problem must show its value, differs by {noises}")
        return
    require(len(set(noises)) == len(noises), f"{name}: each point must have its own noise, got {noises}")
    other = replace(problem, seed=problem.seed + 1)
    changed = [other(point) - problem.value(point) for point in points]
    require(changed != noises, f"{name}: another seed must give another noise, got {noises} twice")


def _random_points(space: Space, count: int) -> list[Params]:
    uniform = torch.from_numpy(np.random.default_rng(0).random((count, space.dim)))
    return space.decode(space.encoding.sample_from_unit(uniform))
