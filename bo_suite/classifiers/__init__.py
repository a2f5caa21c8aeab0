"""Probabilistic classifiers, for acquisitions and density ratios."""

import warnings
from typing import Any

from bo_suite.classifiers.base import Classifier, ClassifierScore, WeightedExamples
from bo_suite.classifiers.gp import GPClassifier
from bo_suite.classifiers.mlp import MLPClassifier
from bo_suite.classifiers.sklearn import SklearnClassifier

__all__ = [
    "Classifier",
    "ClassifierScore",
    "GPClassifier",
    "MLPClassifier",
    "SklearnClassifier",
    "WeightedExamples",
]

_RENAMED = {"Labelled": "WeightedExamples", "LogOdds": "ClassifierScore"}
"""New names of the classes of version 0.8."""


def __getattr__(name: str) -> Any:
    if name not in _RENAMED:
        raise AttributeError(f"module 'bo_suite.classifiers' has no attribute {name!r}")
    warnings.warn(f"{name} is now {_RENAMED[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_RENAMED[name]]
