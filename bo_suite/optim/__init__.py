"""Batched box-constrained L-BFGS, and the maximisation of a score over a space."""

from bo_suite.optim.lbfgs import minimize_batch

__all__ = ["minimize_batch"]
