"""The check of learning curves."""

import pickle

import numpy as np

from bo_suite.problems.curves import LearningCurves
from bo_suite.testing.problem import random_points
from bo_suite.testing.require import require


def check_learning_curves(problem: LearningCurves, points: int = 50) -> None:
    """Checks that a problem keeps the contract of `LearningCurves`.

    It survives pickling. The curves of random points have `max_step` finite values and strictly increasing
    times above 0, are the same at every call and after pickling, and the params are not changed.

    Args:
        problem: the problem.
        points: number of random points.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    name, steps = problem.name, problem.max_step
    require(isinstance(problem, LearningCurves), f"{name} must have the members of LearningCurves")
    require(problem.direction in ("minimize", "maximize"), f"{name}: unknown direction {problem.direction!r}")
    copy = pickle.loads(pickle.dumps(problem))
    same = (copy.name, copy.space, copy.max_step, copy.direction)
    require(
        same == (name, problem.space, steps, problem.direction),
        f"{name}: name, space, max_step and direction must survive pickling",
    )
    for point in random_points(problem.space, points):
        params = dict(point)
        values, seconds = problem.curve(params)
        require(params == point, f"{name}: the params must not be changed, changed {point}")
        shapes = np.shape(values), np.shape(seconds)
        require(
            shapes == ((steps,), (steps,)), f"{name}: a curve must have {steps} steps, got shapes {shapes}"
        )
        require(bool(np.isfinite(values).all()), f"{name}: values must be finite, got {values} at {point}")
        require(
            bool(np.isfinite(seconds).all() and seconds[0] > 0.0 and (np.diff(seconds) > 0.0).all()),
            f"{name}: times must be finite, above 0 and strictly increasing, got {seconds} at {point}",
        )
        for again in (problem.curve(point), copy.curve(point)):
            require(
                np.array_equal(again[0], values) and np.array_equal(again[1], seconds),
                f"{name}: a curve must be the same at every call, got another one at {point}",
            )
