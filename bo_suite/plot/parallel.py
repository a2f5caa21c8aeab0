"""The figure of all finished trials, as lines over the parameters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bo_suite.plot.run import Run, option_text, require_run
from bo_suite.plot.style import draw_name, name_ticks, new_figure, short_name
from bo_suite.space.parameters import Choice, Parameter
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial
from bo_suite.study.beliefs import direction_of, outcome_named
from bo_suite.study.summary import outcomes_of, ranked

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


def plot_parallel(run: Run, *, outcome: str | None = None) -> "Figure":
    """Draw each finished trial as a line over the parameters, dark if it is good, the best on top.

    Each parameter has a vertical axis over its range, on its own scale, and lines have gaps where it is
    inactive. Trials are good by one outcome, of
    which smaller is better unless it is maximised; infeasible ones are dashed grey lines below all others.

    Args:
        run: an Optimizer or a Result.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    run = require_run(run)
    space = run.space.varying
    name = outcome_named(run.goals, outcome)
    trials = _sorted(run, name)
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

    feasible = [run.goals.is_feasible(outcomes_of(trial, run.goals)) for trial in trials]
    if not all(feasible):
        infeasible = [trial for trial, one in zip(trials, feasible, strict=True) if not one]
        trials = [trial for trial, one in zip(trials, feasible, strict=True) if one]
        _draw_infeasible(axes, at, run.space, infeasible)
    if not trials:
        return figure
    measured = [outcomes_of(trial, run.goals)[name] or 0.0 for trial in trials]
    values = np.clip(measured, -_LARGEST, _LARGEST)
    minimizing = direction_of(run.goals, name) == "minimize"
    best, limit = values[-1], np.quantile(values, _WORST_SHARE if minimizing else 1.0 - _WORST_SHARE)
    low, high = sorted((best, limit))
    shares = _shares(space, trials)
    if space.columns.conditions:  # values between inactive ones have no line
        axes.plot(at, shares.T, ".", color="0.45", markersize=3.0, zorder=1.2)
    lines = LineCollection(
        [np.column_stack((at, row)) for row in shares],
        cmap="viridis" if minimizing else "viridis_r",
        norm=Normalize(low, high if high > low else low + max(abs(low), 1.0)),
        linewidths=np.linspace(0.8, 2.4, len(trials)),
        alpha=np.linspace(0.35, 1.0, len(trials)),
    )
    lines.set_array(values)
    axes.add_collection(lines)
    extend = "neither" if len(set(values)) < 2 else "max" if minimizing else "min"
    bar = figure.colorbar(lines, ax=axes, extend=extend, pad=0.02)
    draw_name(bar.ax.yaxis.label, short_name(name))
    return figure


def _sorted(run: Run, name: str) -> list[Trial]:
    """The trials with an outcome, the best last; with one objective as `ranked` orders them."""
    trials = ranked(run.trials, run.goals, run.space)
    if run.goals.several or name != run.goals.objectives[0].name:
        sign = 1.0 if direction_of(run.goals, name) == "minimize" else -1.0
        values = {trial.id: outcomes_of(trial, run.goals).get(name) for trial in trials}
        trials = [trial for trial in trials if values[trial.id] is not None]
        trials = sorted(trials, key=lambda trial: (sign * (values[trial.id] or 0.0), trial.id))
    return trials[::-1]


def _shares(space: Space, trials: Sequence[Trial]) -> np.ndarray:
    """The positions of trials, NaN where a parameter is inactive: lines have a gap there."""
    names = space.names
    points = [{name: value for name, value in trial.params.items() if name in names} for trial in trials]
    rows = space.encode(points)
    return np.where(space.columns.active(rows).numpy(), rows.numpy(), np.nan)


def _draw_infeasible(axes: "Axes", at: np.ndarray, space: Space, trials: Sequence[Trial]) -> None:
    """Draw infeasible trials as dashed grey lines."""
    from matplotlib.collections import LineCollection

    shares = _shares(space.varying, trials)
    segments = [np.column_stack((at, row)) for row in shares]
    lines = LineCollection(segments, colors="0.72", linestyles="dashed", linewidths=0.8, zorder=1.0)
    axes.add_collection(lines)
    axes.set_title(f"dashed: {len(trials)} infeasible", loc="right", fontsize=9, color="0.35")


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
