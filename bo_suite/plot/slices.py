"""The figure of a model along each parameter, through the recommended point."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bo_suite.errors import TrialError
from bo_suite.plot.run import (
    ParameterAxis,
    Run,
    axis_of,
    closeness,
    names_by_importance,
    option_text,
    require_active,
    require_run,
)
from bo_suite.plot.style import GOLD, INK, RED, draw_name, legend_below, new_figure, short_name
from bo_suite.space.space import Params
from bo_suite.study.belief import Belief, Prediction
from bo_suite.study.beliefs import outcome_named
from bo_suite.study.views import OutcomeView
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST, _COLUMNS = 12, 3
"""Most panels unless parameters are named, and panels in a row."""

_VALUES = 101
"""Values of a parameter at which the model is evaluated."""

_FAINTEST = 0.12
"""Smallest opacity of an observation."""


def plot_slices(run: Run, parameters: Sequence[str] | None = None, *, outcome: str | None = None) -> "Figure":
    """Draw the model along each active parameter; the others are as in the recommended point.

    The line is the mean, the dark band the 90 % interval of the function, the light one that of a new
    observation; options have bars instead. Dots are observations, the larger and darker the closer their
    other parameters are to those of the recommended point; a triangle is one beyond the cap of the outcomes
    (see `Belief`). The dashed line is the recommended value. Values outside of the space, and those that are
    feasible with a probability below one half, are hatched. Parameters that a value activates are as in the
    best trials. With several objectives the recommended point is the one of `recommend` that is best in the
    outcome.

    Args:
        run: an Optimizer or a Result.
        parameters: names of the parameters to draw; None for all, but the twelve most important if there are
            more.
        outcome: name of the outcome; None for the only objective.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: no trial is finished, no parameter is named, or one that has a single value or is inactive
            in the recommended point.
        UnknownParameter: the space has no parameter of a name.
        ArgumentError: no outcome has the name, or none is named with several objectives.
    """
    run = require_run(run)
    belief = run.belief(outcome)
    for name in _named(parameters):
        axis_of(belief.space, name)  # before the model of the view is fitted
    view = OutcomeView.of(belief, run.trials, run.goals, run.space)
    names = [require_active(view.point, name) for name in _named(parameters)] or _active_names(view)
    axes_of = [axis_of(belief.space, name) for name in names]
    rows = -(-len(axes_of) // _COLUMNS)
    columns = min(len(axes_of), _COLUMNS)
    figure, panels = new_figure(rows, columns, width=max(2.9 * columns, 4.5), height=2.5 * rows + 0.7)
    drawn = panels.flatten().tolist()
    for unused in drawn[len(axes_of) :]:
        unused.set_visible(False)
    for axes, axis in zip(drawn, axes_of, strict=False):
        _draw_slice(axes, view, axis)
    limits = np.array([axes.get_ylim() for axes in drawn[: len(axes_of)]])
    for axes in drawn:
        axes.set_ylim(limits.min(), limits.max())
    for axes in panels[:, 0]:
        draw_name(axes.yaxis.label, short_name(outcome_named(run.goals, outcome)))
    legend_below(figure, columns=2 if columns == 1 else 4)
    return figure


def _named(parameters: Sequence[str] | None) -> Sequence[str]:
    """The parameters that are named; none for all."""
    if parameters is None:
        return []
    if isinstance(parameters, str) or not parameters:
        raise TrialError(f"parameters must be a list of names, got {described(parameters)}")
    return parameters


def _active_names(view: OutcomeView) -> list[str]:
    """The parameters to draw unless some are named: those that are active in the point, in order."""
    names = [name for name, parameter in view.belief.space if parameter.levels != 1 and name in view.point]
    return names if len(names) <= _MOST else names_by_importance(view.belief, view.point, _MOST)


def _draw_slice(axes: "Axes", view: OutcomeView, axis: ParameterAxis) -> None:
    """Draw one panel."""
    belief, point, values = view.belief, view.point, axis.values(_VALUES)
    rows = view.rows_through([{axis.name: value} for value in values])
    prediction = belief.at(rows)
    at = axis.coordinates(values)
    axis.label(axes, "x")
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    if axis.continuous:
        _draw_bands(axes, at, prediction)
    else:
        _draw_bars(axes, at, prediction)
        axes.set_xlim(at[0] - 0.6, at[-1] + 0.6)
    outside = view.outside(rows)
    _hatch(axes, axis.edges(values), outside.numpy(), "xxx", "outside the space")
    _hatch(axes, axis.edges(values), (view.infeasible(rows) & ~outside).numpy(), "///", "likely infeasible")
    _draw_observations(axes, belief, point, axis)
    recommended = point[axis.name]
    (where,) = axis.coordinates([recommended])
    axes.axvline(where, color=GOLD, linestyle=(0, (4, 2)), linewidth=1.4, label="recommended", zorder=1.5)
    draw_name(axes.set_title("", loc="right", fontsize=9, color="0.35"), _shown(recommended))


def _shown(value: object) -> str:
    """The recommended value in a title."""
    return f"{value:.4g}" if isinstance(value, float) else option_text(value)  # type: ignore[arg-type]


def _draw_bands(axes: "Axes", at: np.ndarray, prediction: Prediction) -> None:
    """Mean and bands over values between which lines may be drawn."""
    bands = (
        (prediction.observation_low, prediction.observation_high, 0.12, "90% of observations"),
        (prediction.low, prediction.high, 0.26, "90% of the function"),
    )
    for low, high, alpha, label in bands:
        axes.fill_between(at, low, high, color=RED, alpha=alpha, linewidth=0, label=label)
    axes.plot(at, prediction.mean, color=RED, linewidth=1.8, label="mean")


def _draw_bars(axes: "Axes", at: np.ndarray, prediction: Prediction) -> None:
    """Mean and intervals of options."""
    bars = (
        (prediction.observation_low, prediction.observation_high, 0.12, "90% of observations"),
        (prediction.low, prediction.high, 0.26, "90% of the function"),
    )
    for low, high, alpha, label in bars:
        axes.bar(at, high - low, 0.7, low, color=RED, alpha=alpha, linewidth=0, label=label)
    axes.hlines(prediction.mean, at - 0.35, at + 0.35, color=RED, linewidth=1.8, label="mean")


def _hatch(axes: "Axes", edges: np.ndarray, hatched: np.ndarray, hatch: str, label: str) -> None:
    """Hatch some values, each up to the middle between it and the next."""
    for low, high in spans(edges, hatched):
        axes.axvspan(
            low,
            high,
            facecolor="none",
            edgecolor="0.78",
            hatch=hatch,
            linewidth=0,
            label=label,
            zorder=0.4,
        )


def spans(edges: np.ndarray, marked: np.ndarray) -> list[tuple[float, float]]:
    """The ends of the spans of neighbouring cells that are marked.

    Args:
        edges: of the cells.
        marked: which cells are.
    """
    changes = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False]))))
    return [(float(edges[first]), float(edges[end])) for first, end in changes.reshape(-1, 2)]


def _draw_observations(axes: "Axes", belief: Belief, point: Params, axis: ParameterAxis) -> None:
    """Observations, the larger and darker the closer they are to the slice."""
    from matplotlib.colors import to_rgba_array

    close = closeness(belief, point, [axis.name])
    at = axis.coordinates_in([trial.params for trial in belief.trials])
    outcomes = torch.tensor([trial.value for trial in belief.trials], dtype=torch.float64, device="cpu")
    capped = belief.capped(outcomes)
    beyond = capped != outcomes
    order = close.argsort()
    for chosen, marker, label in (
        (order[~beyond[order]], "o", "evaluation"),
        (order[beyond[order]], "^" if belief.sign > 0 else "v", "evaluation beyond the cap"),
    ):
        if len(chosen):
            axes.scatter(
                at[chosen],
                capped[chosen],
                s=(6.0 + 22.0 * close[chosen]).numpy(),
                color=to_rgba_array(INK, (_FAINTEST + (0.9 - _FAINTEST) * close[chosen]).numpy()),
                marker=marker,
                linewidths=0,
                zorder=2.5,
            )
            axes.scatter([], [], s=24.0, color=INK, marker=marker, linewidths=0, label=label)
