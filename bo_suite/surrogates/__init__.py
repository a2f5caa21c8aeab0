"""Surrogates: frozen configurations whose `fit` returns an immutable Gaussian process."""

from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, Surrogate, WarmStart

__all__ = ["ExactGP", "ExactProcess", "Hyperparameters", "Process", "Surrogate", "WarmStart"]
