"""The figure of the importance of each parameter."""

from typing import TYPE_CHECKING

import numpy as np

from bo_suite.plot.run import Run, require_run
from bo_suite.plot.style import INK, MIST, RED, draw_name, legend_below, name_ticks, new_figure, short_name

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.figure import Figure

_MOST = 20
"""Most parameters that are drawn."""


def plot_importance(run: Run, *, outcome: str | None = None) -> "Figure":
    """Draw the total and the first-order index of each parameter, with intervals, and the second opinion.

    See `Belief.importance` for what they are. Of more than twenty parameters, the most important are drawn.

    Args:
        run: an Optimizer or a Result.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: fewer than three trials are finished.
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    table = require_run(run).belief(outcome).importance()
    shown = table[:_MOST]
    at = np.arange(len(shown))
    figure, ((axes,),) = new_figure(height=1.5 + 0.32 * len(shown))
    axes.barh(at, shown["total"], 0.62, color=MIST, label="total")
    axes.barh(at, shown["main"], 0.3, color=INK, label="alone, without interactions")
    axes.hlines(at, shown["low"], shown["high"], color=RED, linewidth=1.6, label="90% interval of the total")
    axes.plot(shown["ped_anova"], at, "D", color="white", markeredgecolor=INK, label="PED-ANOVA")
    name_ticks(axes.yaxis, at.tolist(), [short_name(str(name), 30) for name in shown.index])
    axes.invert_yaxis()
    axes.set_xlim(left=0.0)
    draw_name(axes.xaxis.label, share_label(outcome))
    axes.grid(axis="x", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    if len(table) > len(shown):
        axes.set_title(f"the {len(shown)} most important of {len(table)}", loc="left", fontsize=11)
    legend_below(figure, columns=2)
    return figure


def share_label(outcome: str | None) -> str:
    """What an index is a share of."""
    return "share of the variation" + ("" if outcome is None else f" of {short_name(outcome)}")
