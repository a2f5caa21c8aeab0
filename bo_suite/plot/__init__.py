"""Figures of runs and suites, made without pyplot: no global state, no display needed.

A notebook shows a figure that is the last line of a cell, after `%matplotlib inline`.
"""

from typing import NoReturn

from bo_suite.plot.convergence import plot_convergence
from bo_suite.plot.regret import plot_regret

__all__ = ["plot_convergence", "plot_regret"]


def __getattr__(name: str) -> NoReturn:
    if name in ("plot_bore", "plot_fit", "plot_lines", "plot_search", "plot_simulation"):
        raise ImportError(f"{name} is no longer in bo_suite.plot: use notebooks/figures.py of the repository")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
