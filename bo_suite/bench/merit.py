"""What a run has found on a problem of several outcomes, as one number."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from bo_suite.errors import DataError
from bo_suite.problems.outcomes import OutcomeProblem


def merit(problem: OutcomeProblem, outcomes: Sequence[Mapping[str, float]]) -> float | None:
    """The merit of the outcomes of a run, smaller is better.

    One objective: its smallest feasible loss, which is its value with the sign of the direction; None without
    a feasible point. Several: minus the hypervolume of the feasible losses.

    Args:
        problem: of the run.
        outcomes: of the evaluations so far that did not fail.
    """
    feasible = [own for own in outcomes if problem.goals.is_feasible(own)]
    losses = [row for own in feasible if (row := problem.goals.losses(own)) is not None]
    if problem.goals.several:
        return 0.0 - hypervolume(losses, problem.reference_losses)  # not -0.0
    return min((row[0] for row in losses), default=None)


def hypervolume(losses: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume of the points that a row dominates and that dominate the reference point.

    Computed by moocore. Rows that do not dominate the reference point add nothing.

    Reference: Fonseca, Paquete and López-Ibáñez (2006), "An improved dimension-sweep algorithm for the
    hypervolume indicator".

    Raises:
        DataError: moocore is not installed.
    """
    require_moocore()
    corner = np.asarray(reference, dtype=np.float64)
    inside = [row for row in losses if np.all(np.asarray(row) < corner)]
    if not inside:
        return 0.0
    return float(import_module("moocore").hypervolume(np.asarray(inside, dtype=np.float64), ref=corner))


def require_moocore() -> None:
    """Raises a DataError if moocore is not installed."""
    if find_spec("moocore") is None:
        raise DataError(
            "problems with several objectives need the package moocore: install it with "
            "`pip install 'bo-suite[objectives]'`"
        )
