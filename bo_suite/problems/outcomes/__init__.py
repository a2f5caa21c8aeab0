"""Problems of several outcomes: constraints, several objectives, or both."""

from collections.abc import Callable, Mapping

from bo_suite.problems.base import Problem
from bo_suite.problems.outcomes.base import OutcomeProblem
from bo_suite.problems.outcomes.botorch_functions import BOTH, CONSTRAINED, OBJECTIVES
from bo_suite.problems.outcomes.others import OTHERS
from bo_suite.problems.outcomes.tuning import TUNING_TWO

__all__ = ["OUTCOME_PROBLEMS", "OUTCOME_SUITES", "AnyProblem", "OutcomeProblem"]

AnyProblem = Problem | OutcomeProblem
"""A problem of one value or of several outcomes."""

Recipe = Callable[[], OutcomeProblem]

OUTCOME_SUITES: Mapping[str, Mapping[str, Recipe]] = {
    "constrained": CONSTRAINED,
    "constrained-field": OTHERS,
    "multi-objective": {**OBJECTIVES, **TUNING_TWO},
    "constrained-multi-objective": BOTH,
}
"""Functions that make the problems, by suite and name."""

OUTCOME_PROBLEMS: Mapping[str, Recipe] = {
    name: make for recipes in OUTCOME_SUITES.values() for name, make in recipes.items()
}
"""Functions that make the problems of all suites, by name."""
