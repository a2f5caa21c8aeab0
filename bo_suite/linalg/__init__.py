"""Cholesky factors with explicit jitter, and their updates as terms and rows are added and removed."""

from bo_suite.linalg.cholesky import (
    cholesky_append,
    cholesky_delete,
    cholesky_downdate,
    cholesky_slide,
    cholesky_update,
)
from bo_suite.linalg.factor import jittered_cholesky, solve_lower

__all__ = [
    "cholesky_append",
    "cholesky_delete",
    "cholesky_downdate",
    "cholesky_slide",
    "cholesky_update",
    "jittered_cholesky",
    "solve_lower",
]
