"""Acquisitions: recipes that turn data into a score to be maximised."""

from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.confidence_bound import UpperConfidenceBound
from bo_suite.acquisition.improvement import LogExpectedImprovement, NoisyExpectedImprovement
from bo_suite.acquisition.thompson import ThompsonSampling

__all__ = [
    "Acquisition",
    "LogExpectedImprovement",
    "NoisyExpectedImprovement",
    "Score",
    "ThompsonSampling",
    "UpperConfidenceBound",
]
