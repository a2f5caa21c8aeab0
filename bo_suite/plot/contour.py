"""The figure of a model over two parameters."""

from typing import TYPE_CHECKING

import numpy as np

from bo_suite.errors import TrialError
from bo_suite.plot.run import (
    Run,
    axis_of,
    closeness,
    names_by_importance,
    require_active,
    require_run,
    section_over,
)
from bo_suite.plot.style import RED, draw_name, legend_below, new_figure, short_name
from bo_suite.study.belief import Belief
from bo_suite.study.views import OutcomeView

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_VALUES = 61
"""Values of each parameter at which the model is evaluated."""


def plot_contour(
    run: Run, x: str | None = None, y: str | None = None, *, outcome: str | None = None
) -> "Figure":
    """Draw the mean of the model over two parameters; the others are as in the recommended point.

    Dark is better. Dots are evaluations, the larger the closer their other parameters are to those of the
    recommended point, which is the star. Where points are feasible with a probability below one half there is
    a grey veil; what a constraint of the space refuses is grey; where a parameter is inactive nothing is
    drawn. With several objectives the recommended point is the one of `recommend` that is best in the
    outcome.

    Args:
        run: an Optimizer or a Result.
        x: name of the parameter on the horizontal axis; None for the most important one.
        y: name of the parameter on the vertical axis; None for the most important of the others.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: no trial is finished, or the parameters are equal, have a single value or are inactive in
            the recommended point.
        UnknownParameter: the space has no parameter of a name.
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    from matplotlib.colors import ListedColormap

    run = require_run(run)
    belief = run.belief(outcome)
    for name in (x, y):
        if name is not None:
            axis_of(belief.space, name)  # before the model of the view is fitted
    if x is not None and x == y:
        raise TrialError(f"x and y must be two parameters, got {x!r} twice")
    view = OutcomeView.of(belief, run.trials, run.goals, run.space)
    point = view.point
    across, up = (axis_of(belief.space, require_active(point, name)) for name in _two(view, x, y))
    columns, rows, section = section_over(view, across, up, _VALUES)

    figure, ((axes,),) = new_figure(width=6.0, height=4.8)
    edges, mean = (across.edges(columns), up.edges(rows)), section.mean
    mesh = axes.pcolormesh(*edges, mean, cmap=mean_colours(belief), rasterized=True)
    draw_bar(figure, mesh, outcome)
    for cells, alpha, grey, label in (
        (section.infeasible, 0.72, "0.82", "likely infeasible"),
        (section.outside, 1.0, "0.94", "outside the space"),
    ):
        if cells.any():
            veil = np.ma.masked_array(np.zeros(cells.shape), ~cells)
            axes.pcolormesh(*edges, veil, cmap=ListedColormap([grey]), alpha=alpha, rasterized=True)
            axes.fill([], [], color=grey, label=label)
    across.label(axes, "x")
    up.label(axes, "y")
    at, heights = across.coordinates(columns), up.coordinates(rows)
    drawn = mean[np.isfinite(mean)]  # none if the parameters are active together between two values alone
    if across.continuous and up.continuous and min(mean.shape) > 1 and len(np.unique(drawn)) > 1:
        axes.contour(at, heights, mean, levels=8, colors="white", linewidths=0.6, alpha=0.6)
    points = [trial.params for trial in belief.trials] + [point]
    places = np.stack([across.coordinates_in(points), up.coordinates_in(points)])
    draw_points(axes, places, closeness(belief, point, [across.name, up.name]).numpy())
    legend_below(figure, columns=4)
    return figure


def mean_colours(belief: Belief) -> str:
    """The colour map of means, in which dark is better."""
    return "viridis" if belief.direction == "minimize" else "viridis_r"


def draw_bar(figure: "Figure", drawn: "ScalarMappable", outcome: str | None) -> None:
    """Draw the colour bar of the means of an outcome beside the only panel."""
    bar = figure.colorbar(drawn, ax=figure.axes[0])
    mean_of = "the function" if outcome is None else short_name(outcome)
    draw_name(bar.ax.yaxis.label, f"mean of {mean_of}")


def draw_points(axes: "Axes", places: np.ndarray, close: np.ndarray) -> None:
    """Draw evaluations, and the recommended point as a star.

    Args:
        axes: the panel.
        places: of the evaluations, then of the recommended point (2, n + 1).
        close: how close each evaluation is to the recommended point in the other parameters (n,).
    """
    axes.scatter(
        places[0, :-1],
        places[1, :-1],
        s=8.0 + 24.0 * close,
        color="white",
        edgecolors="black",
        linewidths=0.7,
        label="evaluation",
        zorder=3.0,
    )
    axes.plot(
        *places[:, -1:],
        "*",
        color=RED,
        markersize=15,
        markeredgecolor="white",
        label="recommended",
        zorder=4.0,
    )


def _two(view: OutcomeView, x: str | None, y: str | None) -> tuple[str, str]:
    """The names of the two parameters."""
    if x is not None and y is not None:
        return x, y
    given = [name for name in (x, y) if name is not None]
    names = [name for name in names_by_importance(view.belief, view.point, 3) if name not in given]
    if len(names) + len(given) < 2:
        raise TrialError("a contour needs two parameters with more than one value, got one")
    first = names.pop(0) if x is None else x
    return first, names[0] if y is None else y
