"""Figures of runs and suites, made without pyplot: no global state, no display needed.

A notebook shows a figure that is the last line of a cell, after `%matplotlib inline`.
"""

from typing import NoReturn

from bo_suite.plot.contour import plot_contour
from bo_suite.plot.convergence import plot_convergence
from bo_suite.plot.cross_validation import plot_cross_validation
from bo_suite.plot.curves import plot_curves
from bo_suite.plot.importance import plot_importance
from bo_suite.plot.parallel import plot_parallel
from bo_suite.plot.pareto import plot_pareto
from bo_suite.plot.regret import plot_regret
from bo_suite.plot.rungs import plot_rungs
from bo_suite.plot.simulated import plot_simulated_time
from bo_suite.plot.slices import plot_slices
from bo_suite.plot.ternary import plot_ternary

__all__ = [
    "plot_contour",
    "plot_convergence",
    "plot_cross_validation",
    "plot_curves",
    "plot_importance",
    "plot_parallel",
    "plot_pareto",
    "plot_regret",
    "plot_rungs",
    "plot_simulated_time",
    "plot_slices",
    "plot_ternary",
]


def __getattr__(name: str) -> NoReturn:
    if name in ("plot_bore", "plot_fit", "plot_lines", "plot_search", "plot_simulation"):
        raise ImportError(f"{name} is no longer in bo_suite.plot: use notebooks/figures.py of the repository")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
