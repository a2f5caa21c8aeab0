"""Probabilistic classifiers, for acquisitions and density ratios."""

from bo_suite.classifiers.base import Classifier, Labelled, LogOdds
from bo_suite.classifiers.gp import GPClassifier
from bo_suite.classifiers.mlp import MLPClassifier
from bo_suite.classifiers.sklearn import SklearnClassifier

__all__ = ["Classifier", "GPClassifier", "Labelled", "LogOdds", "MLPClassifier", "SklearnClassifier"]
