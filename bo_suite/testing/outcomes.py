"""The checks of a problem of several outcomes, and of a method for them."""

import json
import pickle

import numpy as np
import torch

from bo_suite.bench.merit import merit
from bo_suite.bench.method import OutcomeMethod, OutcomeRun, OutcomeTask
from bo_suite.problems.outcomes import OutcomeProblem
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.testing.method import SPACES
from bo_suite.testing.require import require

_POINTS = 40
_STEPS = 8
_FAILED = (0, 4)

GOALS = {
    "one objective and a constraint": Goals.of("maximize", {"c": (None, 0.5)}),
    "two objectives": Goals.of({"f": "minimize", "g": "maximize"}),
    "two objectives and an interval": Goals.of({"f": "minimize", "g": "maximize"}, {"c": (0.1, 2.0)}),
}
"""The goals for which methods are checked, by their names in errors."""


def check_outcome_problem(problem: OutcomeProblem) -> None:
    """Checks that a problem keeps the contract of `OutcomeProblem`.

    Its name, space and goals survive pickling. Its outcomes are the names of the goals, finite, and the same
    at every call and of a copy, and the function does not change the params. The merit of forty random
    points together is not below the minimum or, if that is unknown, the best known merit.

    Args:
        problem: The problem.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    require(isinstance(problem, OutcomeProblem), f"a problem must be an OutcomeProblem, got {problem!r}")
    name, copy = problem.name, pickle.loads(pickle.dumps(problem))
    same = (copy.name, copy.space, copy.goals) == (name, problem.space, problem.goals)
    require(same, f"{name}: name, space and goals must survive pickling")
    seen = []
    for point in _random_points(problem.space, _POINTS):
        before = dict(point)
        outcomes = problem(point)
        require(point == before, f"{name}: the function must not change the params, got {point}")
        for again in (problem(point), copy(point)):
            require(outcomes == again, f"{name}: outcomes must be equal, got {outcomes} and {again}")
        seen.append(outcomes)
    found, best = merit(problem, seen), problem.best_known
    if found is not None and best is not None:
        tolerance = 1e-6 * max(1.0, abs(best))
        require(found >= best - tolerance, f"{name}: no merit may be below {best}, got {found}")


def check_outcome_method(method: OutcomeMethod) -> None:
    """Checks that a method keeps the contract of `OutcomeMethod`, and its runs that of `OutcomeRun`.

    It accepts at least one of the goals with one objective and a constraint, with two objectives, and with
    two and an interval. For each of these, in a mixed space and in one of two columns: its points are in
    canonical form, it takes outcomes and failures, also at the first point, and its provenance is JSON. Runs
    with equal seeds have equal points, also of a pickled copy.

    Args:
        method: The method; it runs for a few steps.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    require(isinstance(method, OutcomeMethod), f"a method must be an OutcomeMethod, got {method!r}")
    accepted = {name: goals for name, goals in GOALS.items() if method.accepts(goals)}
    require(bool(accepted), f"{method.name} must accept one of: {'; '.join(GOALS)}")
    copy = pickle.loads(pickle.dumps(method))
    for what, goals in accepted.items():
        for where, space in SPACES.items():
            law = f"{method.name} with {what} in {where}"
            reference = (2.0, 0.0) if goals.several else ()
            task = OutcomeTask(space, 0, _STEPS, goals, reference)
            points = [_points(one.start_outcomes(task), task, law) for one in (method, copy)]
            require(points[0] == points[1], f"{law}: equal seeds must give equal points, got {points}")


def _points(run: OutcomeRun, task: OutcomeTask, law: str) -> list[Params]:
    points = []
    for step in range(_STEPS):
        params = run.ask()
        checked = task.space.check(params)
        canonical = params == checked and [*map(type, params.values())] == [*map(type, checked.values())]
        require(canonical, f"{law}: a point must be in canonical form, {checked}, got {params}")
        provenance = run.provenance()
        restored = json.loads(json.dumps(provenance, allow_nan=False))
        require(restored == provenance, f"{law}: a provenance must be JSON, got {provenance!r}")
        points.append(params)
        if step in _FAILED:
            run.fail(dict(params), "made to fail")
        else:
            run.tell(dict(params), _outcomes(task, params))
    return points


def _outcomes(task: OutcomeTask, params: Params) -> dict[str, float]:
    """Mean squared distances of the encoded point from (0.3, ...), (0.7, ...) and the origin."""
    row = task.space.encode([params])[0]
    targets = (0.3, 0.7, 0.0)
    values = [float((row - target).square().mean()) for target in targets]
    return dict(zip(task.goals.names, values, strict=False))


def _random_points(space: Space, count: int) -> list[Params]:
    uniform = torch.from_numpy(np.random.default_rng(0).random((count, space.dim)))
    return space.decode(space.encoding.sample_from_unit(uniform))
