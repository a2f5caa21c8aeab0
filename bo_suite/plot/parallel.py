"""The figure of all finished trials, as lines over the parameters."""

from typing import TYPE_CHECKING

import numpy as np

from bo_suite.plot.run import Run, option_text, require_run
from bo_suite.plot.style import draw_name, name_ticks, new_figure, short_name
from bo_suite.space.parameters import Choice, Parameter
from bo_suite.study.summary import ranked

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORST_SHARE = 0.8
"""Values worse than this quantile have one colour, so that a few bad ones do not hide other differences."""

_MOST_TICKS = 8
"""Most options that are named on an axis."""

_LETTERS = 10
"""Most characters of an option on an axis."""

_MOST_LEVEL = 8
"""Most parameters whose names are level."""

_LARGEST = 1e300
"""Magnitudes are clipped here, so that colours stay finite."""


def plot_parallel(run: Run) -> "Figure":
    """Draw each finished trial as a line over the parameters, dark if it is good, the best on top.

    Each parameter has a vertical axis over its range, on its own scale.

    Args:
        run: an Optimizer or a Result.

    Returns:
        A figure; `figure.savefig(path)` writes it.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    run = require_run(run)
    space = run.space.varying
    trials = ranked(run.trials, run.goals, run.space)[::-1]
    at = np.arange(space.dim, dtype=float)
    figure, ((axes,),) = new_figure(width=min(max(7.2, 0.75 * space.dim), 20.0), height=4.2)
    axes.set_xlim(-0.3, space.dim - 0.7)
    axes.set_ylim(-0.04, 1.04)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=8)
    name_ticks(axes.xaxis, at.tolist(), [short_name(name, 20) for name in space.names])
    if space.dim > _MOST_LEVEL:
        for tick in axes.get_xticklabels():
            tick.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    for column, (_, parameter) in enumerate(space):
        _draw_axis(axes, column, parameter)
    if not trials:
        axes.text(0.5, 0.5, "no trial has a value yet", transform=axes.transAxes, ha="center", color="0.4")
        return figure

    values = np.clip([trial.value or 0.0 for trial in trials], -_LARGEST, _LARGEST)
    best, limit = values[-1], np.quantile(values, _WORST_SHARE if run.direction == "minimize" else 0.2)
    low, high = sorted((best, limit))
    shares = space.encode([trial.params for trial in trials]).numpy()
    lines = LineCollection(
        [np.column_stack((at, row)) for row in shares],
        cmap="viridis" if run.direction == "minimize" else "viridis_r",
        norm=Normalize(low, high if high > low else low + max(abs(low), 1.0)),
        linewidths=np.linspace(0.8, 2.4, len(trials)),
        alpha=np.linspace(0.35, 1.0, len(trials)),
    )
    lines.set_array(values)
    axes.add_collection(lines)
    extend = "neither" if len(set(values)) < 2 else "max" if run.direction == "minimize" else "min"
    figure.colorbar(lines, ax=axes, label="value", extend=extend, pad=0.02)
    return figure


def _draw_axis(axes: "Axes", column: int, parameter: Parameter) -> None:
    """The vertical axis of a parameter: its ends and its middle, or its options."""
    axes.axvline(column, color="0.75", linewidth=0.9, zorder=0.5)
    if isinstance(parameter, Choice):
        step = -(-parameter.levels // _MOST_TICKS)
        positions = [parameter.encode(option) for option in parameter.options[::step]]
    else:
        positions = [0.0, 0.5, 1.0]
    for position in positions:
        value = parameter.decode(position)
        text = f"{value:.3g}" if isinstance(value, float) else option_text(value, _LETTERS)
        share = position if isinstance(parameter, Choice) else parameter.encode(value)  # type: ignore[arg-type]
        label = axes.annotate(
            "", (column, share), (3, 0), textcoords="offset points", fontsize=8, va="center", zorder=5.0
        )
        draw_name(label, text)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6})
