"""Pictures. Figures are made directly, without pyplot: no global state, no display needed."""

from bo_suite.plot.bore import plot_bore
from bo_suite.plot.convergence import plot_convergence
from bo_suite.plot.fit import plot_fit
from bo_suite.plot.simulation import plot_simulation

__all__ = ["plot_bore", "plot_convergence", "plot_fit", "plot_simulation"]
