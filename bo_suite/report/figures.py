"""Figures of a run, for plotly: its values, importances, and a check of its model."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.pages.drawing import COLORS, new_figure
from bo_suite.plot.convergence import Course, ValueAxis, value_axis
from bo_suite.plot.cross_validation import HeldOut
from bo_suite.report.axes import name_text
from bo_suite.space.space import Space
from bo_suite.storage.goals import VALUE, Goals
from bo_suite.storage.trial import Trial

if TYPE_CHECKING:  # plotly belongs to an extra, and pandas takes half a second to import
    import pandas as pd
    from plotly.graph_objects import Figure

_MOST_BARS = 20
"""Most parameters in the figure of importances."""

_LARGEST = 1e200
"""Magnitudes are clipped here, so that an axis and its ticks stay finite."""

_RED, _BLUE, _ORANGE, _GREY = COLORS[0], COLORS[1], COLORS[2], COLORS[7]
_SHARES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "main",
        "alone, without interactions",
        {"color": _BLUE, "size": 9, "symbol": "line-ns-open", "line": {"width": 3}},
    ),
    ("ped_anova", "PED-ANOVA", {"color": _ORANGE, "size": 8, "symbol": "diamond-open", "line": {"width": 2}}),
)
"""Column, label and marker of the shares beside the total."""

LEGEND = {"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom"}


def convergence_figure(trials: Sequence[Trial], goals: Goals, space: Space) -> "Figure":
    """Evaluations as dots, infeasible ones grey, the best feasible one so far in the space as a step line.

    Failed trials are crosses below.
    """
    from plotly.graph_objects import Scatter

    sign, course = goals.objectives[0].sign, Course.of(trials, goals, space)
    ids = [number for number, _ in course.finished]
    values = [_clipped(value) for _, value in course.finished]
    best = list(accumulate((_clipped(value) for _, value in course.counted), min if sign > 0 else max))
    figure = new_figure(330)
    axis = value_axis([sign * value for value in values], sign) if values else ValueAxis(False, None)
    heights = np.array(values)
    if axis.limits is not None:
        heights = heights.clip(*axis.limits)
        figure.update_yaxes(range=list(axis.limits))
    beyond = heights != np.array(values)
    colors = [_GREY if number in course.infeasible else _BLUE for number in ids]
    dots = {
        "color": colors if course.infeasible else _BLUE,
        "size": 7,
        "symbol": np.where(beyond, "triangle-up" if sign > 0 else "triangle-down", "circle"),
    }
    figure.add_trace(
        Scatter(
            x=ids,
            y=heights,
            customdata=values,
            mode="markers",
            marker=dots,
            name="evaluation"
            + (" (grey: infeasible)" if course.infeasible else "")
            + (" (triangles lie beyond the axis)" if beyond.any() else ""),
            hovertemplate="trial %{x}: %{customdata:.6g}<extra></extra>",
        )
    )
    figure.add_trace(
        Scatter(
            x=[number for number, _ in course.counted],
            y=best,
            mode="lines",
            line={"color": _RED, "width": 2, "shape": "hv"},
            name="best so far",
            hovertemplate="best until trial %{x}: %{y:.6g}<extra></extra>",
        )
    )
    add_failures(figure, course.failed)
    name = goals.objectives[0].name
    title = "Value" if name == VALUE else name_text(name)
    value: dict[str, Any] = {"title": {"text": title, "standoff": 8}, "exponentformat": "power"}
    figure.update_layout(yaxis=value | ({"type": "log"} if axis.log else {}))
    figure.update_xaxes(title={"text": "Trial", "standoff": 6})
    figure.update_layout(legend=LEGEND)
    return figure


def _clipped(value: float) -> float:
    return float(np.clip(value, -_LARGEST, _LARGEST))


def add_failures(figure: "Figure", failed: Sequence[int]) -> None:
    """Failed trials as crosses on the lower edge, on an axis of their own."""
    from plotly.graph_objects import Scatter

    if not failed:
        return
    cross = {"color": _ORANGE, "size": 8, "symbol": "x-thin-open", "line": {"width": 2}}
    figure.add_trace(
        Scatter(
            x=list(failed),
            y=[0.02] * len(failed),
            yaxis="y2",
            mode="markers",
            marker=cross,
            name="failed",
            hovertemplate="trial %{x} failed<extra></extra>",
        )
    )
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def importance_figure(table: "pd.DataFrame") -> "Figure":
    """The total index of each parameter as a bar, with its interval, and two other shares as marks."""
    from plotly.graph_objects import Bar, Scatter

    shown = table[:_MOST_BARS]
    rows = list(range(len(shown)))
    names = [name_text(name) for name in shown.index]
    figure = new_figure(110 + 26 * len(shown))
    hover = "%{customdata}: %{x:.3f}<extra></extra>"
    figure.add_trace(
        Bar(
            x=shown["total"],
            y=rows,
            orientation="h",
            width=0.6,
            marker={"color": "rgba(31,119,180,0.45)"},
            name="total",
            customdata=names,
            hovertemplate=hover,
        )
    )
    ends: list[float | None] = []
    heights: list[float | None] = []
    for row, low, high in zip(rows, shown["low"], shown["high"], strict=True):
        ends += [low, high, None]
        heights += [row, row, None]
    figure.add_trace(
        Scatter(
            x=ends,
            y=heights,
            mode="lines",
            line={"color": _RED, "width": 2},
            name="90% interval of the total",
            hoverinfo="skip",
        )
    )
    for column, label, marker in _SHARES:
        figure.add_trace(
            Scatter(
                x=shown[column],
                y=rows,
                mode="markers",
                marker=marker,
                name=label,
                customdata=names,
                hovertemplate=hover,
            )
        )
    figure.update_yaxes(tickvals=rows, ticktext=names, range=[len(rows) - 0.4, -0.6], showgrid=False)
    figure.update_xaxes(
        title={"text": "Share of the variation", "standoff": 6}, rangemode="tozero", showgrid=True
    )
    figure.update_layout(legend=LEGEND)
    return figure


def held_out_figure(held: HeldOut) -> "Figure":
    """What the model predicts of each outcome from all others, with 90 % intervals, beside the outcome."""
    from plotly.graph_objects import Scatter

    outcomes, low, middle, high, inside = (
        getattr(held, name).numpy() for name in ("outcomes", "low", "middle", "high", "inside")
    )
    ends = [float(min(low.min(), outcomes.min())), float(max(high.max(), outcomes.max()))]
    figure = new_figure(380)
    line = {"color": _GREY, "dash": "dash", "width": 1.5}
    figure.add_trace(
        Scatter(x=ends, y=ends, mode="lines", line=line, name="prediction = outcome", hoverinfo="skip")
    )
    for chosen, color, symbol, label in (
        (inside, _BLUE, "circle", "inside"),
        (~inside, _RED, "diamond", "outside"),
    ):
        if chosen.any():
            bars = {
                "type": "data",
                "symmetric": False,
                "array": (high - middle)[chosen],
                "arrayminus": (middle - low)[chosen],
                "width": 0,
                "thickness": 1.2,
            }
            figure.add_trace(
                Scatter(
                    x=outcomes[chosen],
                    y=middle[chosen],
                    error_y=bars,
                    mode="markers",
                    marker={"color": color, "size": 7, "symbol": symbol},
                    name=label,
                    hovertemplate="outcome %{x:.4g}, predicted %{y:.4g}<extra></extra>",
                )
            )
    figure.update_xaxes(title={"text": "Outcome", "standoff": 6})
    figure.update_yaxes(title={"text": "Prediction from all others", "standoff": 8})
    figure.update_layout(legend=LEGEND)
    return figure
