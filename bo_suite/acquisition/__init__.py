"""Acquisitions: recipes that turn data into a score to be maximised."""

import warnings
from typing import Any

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.bore import Bore, RootGamma
from bo_suite.acquisition.confidence_bound import UpperConfidenceBound
from bo_suite.acquisition.hypervolume_improvement import LogExpectedHypervolumeImprovement
from bo_suite.acquisition.improvement import LogExpectedImprovement, NoisyExpectedImprovement
from bo_suite.acquisition.knowledge_gradient import AffineCost, Cost, KnowledgeGradient
from bo_suite.acquisition.lines import discrete_knowledge_gradient, log_discrete_knowledge_gradient
from bo_suite.acquisition.per_cost import PerCost
from bo_suite.acquisition.rung_improvement import RungImprovement
from bo_suite.acquisition.scalarised import Scalarised
from bo_suite.acquisition.stein import SteinBatch
from bo_suite.acquisition.thompson import ThompsonSampling

__all__ = [
    "Acquisition",
    "AdaptiveImprovement",
    "AffineCost",
    "Bore",
    "Cost",
    "KnowledgeGradient",
    "LogExpectedHypervolumeImprovement",
    "LogExpectedImprovement",
    "NoisyExpectedImprovement",
    "PerCost",
    "RootGamma",
    "RungImprovement",
    "Scalarised",
    "Score",
    "SteinBatch",
    "ThompsonSampling",
    "UpperConfidenceBound",
    "discrete_knowledge_gradient",
    "log_discrete_knowledge_gradient",
]


def __getattr__(name: str) -> Any:
    if name == "ConstrainedExpectedImprovement":  # as of version 0.8
        advice = f"{name} is now LogExpectedImprovement, which supports constraints"
        warnings.warn(advice, DeprecationWarning, stacklevel=2)
        return LogExpectedImprovement
    if name in ("Simulation", "simulate_knowledge_gradient"):
        raise ImportError(f"{name} is no longer in bo_suite: use notebooks/simulation.py of the repository")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
