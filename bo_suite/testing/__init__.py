"""Checks that a part keeps its contract; the built-in parts pass the same checks.

Each check raises an AssertionError that states the first broken rule.
"""

from bo_suite.testing.acquisition import check_acquisition
from bo_suite.testing.classifier import check_classifier
from bo_suite.testing.curves import check_learning_curves
from bo_suite.testing.method import check_method
from bo_suite.testing.outcomes import check_outcome_method, check_outcome_problem
from bo_suite.testing.problem import check_problem
from bo_suite.testing.scheduler import check_scheduler
from bo_suite.testing.surrogate import check_surrogate

__all__ = [
    "check_acquisition",
    "check_classifier",
    "check_learning_curves",
    "check_method",
    "check_outcome_method",
    "check_outcome_problem",
    "check_problem",
    "check_scheduler",
    "check_surrogate",
]
