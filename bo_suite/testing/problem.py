"""The check of a problem."""

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
"""A problem is checked at so many random points or for about so many seconds, but at ten points or more."""

_ROWS = 200
"""Random points at which a vectorized function is compared with the function."""


def check_problem(problem: Problem) -> None:
    """Checks that a problem keeps the contract of `Problem`.

    Its name and space survive pickling. Its value is finite and the same at every call, and the function does
    not change the params. Its minimisers lie in the space, with fidelities at the target, and attain the
    minimum within 1e-6, relative or absolute. No random point moved to the target falls below the minimum or,
    if that is unknown, below the best known value. The vectorized function survives pickling, does not change
    its rows, and agrees with the function at random points and at the minimisers, together or one by one,
    within 1e-12, relative or absolute. Equal problems have equal noise at a point, and another seed gives
    other noise.

    Args:
        problem: The problem.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    require(isinstance(problem, Problem), f"a problem must be a Problem, got {problem!r}")
    name = problem.name
    copy = pickle.loads(pickle.dumps(problem))
    require(copy.name == name, f"{name}: the name must survive pickling, got {copy.name!r}")
    require(copy.space == problem.space, f"{name}: the space must survive pickling")
    points = random_points(problem.space, _POINTS)
    tolerance = 1e-6 * max(1.0, abs(problem.best_known or 0.0))
    _check_values(problem, copy, points, tolerance)
    for point in problem.minimizers:
        target = problem.space.at_target(point)
        require(point == target, f"{name}: a minimizer must be at the target fidelity, got {point}")
        value, minimum = problem.value(problem.space.check(point)), problem.minimum
        require(
            minimum is not None and abs(value - minimum) <= tolerance,
            f"{name}: a minimizer must attain the minimum {minimum}, got {value} at {point}",
        )
    _check_vectorized(problem, copy, [*points[:_ROWS], *problem.minimizers])
    _check_noise(problem, points[:3])


def _check_values(problem: Problem, copy: Problem, points: list[Params], tolerance: float) -> None:
    """Checks values at random points, for about `_SECONDS`."""
    name, best_known = problem.name, problem.best_known
    kind = "best known value" if problem.minimum is None else "minimum"
    start = time.monotonic()
    for index, point in enumerate(points):
        if index >= 10 and time.monotonic() - start > _SECONDS:
            break
        params = dict(point)
        value = problem.value(params)
        require(params == point, f"{name}: the function must not change its params, changed {point}")
        require(type(value) is float, f"{name}: a value must be a float, got {value!r} at {point}")
        require(math.isfinite(value), f"{name}: a value must be finite, got {value} at {point}")
        if index < 3:
            again = copy.value(point)
            require(value == again, f"{name}: a value must not change, got {value}, then {again} at {point}")
        if best_known is not None:
            target = problem.space.at_target(point)
            value_at_target = value if target == point else problem.value(target)
            require(
                value_at_target >= best_known - tolerance,
                f"{name}: no value may be below the {kind} {best_known}, got {value_at_target} at {target}",
            )


def _check_vectorized(problem: Problem, copy: Problem, points: list[Params]) -> None:
    name, vectorized, copied = problem.name, problem.vectorized, copy.vectorized
    if vectorized is None or copied is None:
        require(vectorized is copied, f"{name}: the vectorized function must survive pickling")
        return
    rows = torch.tensor([[*point.values()] for point in points], dtype=torch.float64, device="cpu")
    argument = rows.clone()
    values = vectorized(argument)
    require(torch.equal(argument, rows), f"{name}: the vectorized function must not change its rows")
    require(
        values.shape == rows.shape[:1] and values.dtype == rows.dtype and values.device == rows.device,
        f"{name}: the vectorized function must give one value per row, of the dtype and on the device of the "
        f"rows, got "
        f"{values.dtype} of shape {tuple(values.shape)} on {values.device} for {len(rows)} rows",
    )
    require(torch.equal(copied(rows), values), f"{name}: the vectorized function must survive pickling")
    for point, row, value in zip(points, rows, values.tolist(), strict=True):
        expected = problem.value(point)
        solo = float(vectorized(row[None])[0])
        for vectorized_value in (value, solo):
            require(
                abs(vectorized_value - expected) <= 1e-12 * max(1.0, abs(expected)),
                f"{name}: the vectorized function must agree with the function, got {vectorized_value} and "
                f"{expected} at {point}",
            )


def _check_noise(problem: Problem, points: list[Params]) -> None:
    name = problem.name
    first, second = replace(problem), replace(problem)
    noises = []
    for point in points:
        observed, again, value = first(point), second(point), problem.value(point)
        require(
            observed == again, f"{name}: the noise of a point must be the same, got {observed} and {again}"
        )
        noises.append(observed - value)
    if not problem.noisy:
        require(
            not any(noises), f"{name}: without noise a problem must return its value, differs by {noises}"
        )
        return
    require(len(set(noises)) == len(noises), f"{name}: each point must have its own noise, got {noises}")
    other = replace(problem, seed=problem.seed + 1)
    changed = [other(point) - problem.value(point) for point in points]
    require(changed != noises, f"{name}: another seed must give other noise, got {noises} twice")


def random_points(space: Space, count: int) -> list[Params]:
    """So many points, uniform on the scale of each parameter; always the same ones."""
    uniform = torch.from_numpy(np.random.default_rng(0).random((count, space.dim)))
    return space.decode(space.encoding.sample_from_unit(uniform))
