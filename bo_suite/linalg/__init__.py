"""Cholesky factors: with explicit jitter, and with rows appended."""

from bo_suite.linalg.cholesky import cholesky_append, jittered_cholesky, solve_lower

__all__ = ["cholesky_append", "jittered_cholesky", "solve_lower"]
