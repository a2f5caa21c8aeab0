"""Batched box-constrained L-BFGS, and the maximisation of a score over a space."""

from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.optim.maximize import Search

__all__ = ["Search", "minimize_batch"]
