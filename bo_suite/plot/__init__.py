"""Pictures. Figures are made directly, without pyplot: no global state, no display needed.

A notebook shows a figure that is the last line of a cell, after `%matplotlib inline`.
"""

from bo_suite.plot.bore import plot_bore
from bo_suite.plot.convergence import plot_convergence
from bo_suite.plot.fit import plot_fit
from bo_suite.plot.lines import plot_lines
from bo_suite.plot.regret import plot_regret
from bo_suite.plot.search import plot_search
from bo_suite.plot.simulation import plot_simulation

__all__ = [
    "plot_bore",
    "plot_convergence",
    "plot_fit",
    "plot_lines",
    "plot_regret",
    "plot_search",
    "plot_simulation",
]
