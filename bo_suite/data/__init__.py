"""Observations as a surrogate sees them, and the random numbers of a step."""

import warnings
from importlib import import_module
from typing import Any

from bo_suite.data.columns import Columns, Condition, Parent
from bo_suite.data.curves import Curves
from bo_suite.data.dataset import Dataset
from bo_suite.data.doubles import CPU_DOUBLES
from bo_suite.data.outcomes import MISSING, LinearObjectives, Outcomes
from bo_suite.data.seeds import Seeds

__all__ = [
    "CPU_DOUBLES",
    "MISSING",
    "Columns",
    "Condition",
    "Curves",
    "Dataset",
    "LinearObjectives",
    "Outcomes",
    "Parent",
    "Seeds",
]


def __getattr__(name: str) -> Any:
    if name == "OutcomeTransform":  # as of version 0.8
        warnings.warn("OutcomeTransform is now in bo_suite.study.outcomes", DeprecationWarning, stacklevel=2)
        return import_module("bo_suite.study.outcomes").OutcomeTransform
    raise AttributeError(f"module 'bo_suite.data' has no attribute {name!r}")
