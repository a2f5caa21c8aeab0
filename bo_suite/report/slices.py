"""Figures of a model through a point: along each parameter, and over two of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from bo_suite.pages.drawing import COLORS, new_figure
from bo_suite.plot.run import ParameterAxis, axis_of, closeness, section_over
from bo_suite.plot.slices import spans
from bo_suite.report.axes import label_axis, value_text
from bo_suite.space.space import Params
from bo_suite.study.belief import Belief
from bo_suite.study.views import OutcomeView

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

_MOST_DOTS = 300
"""Most observations in a slice, the closest to it."""

_VALUES, _CELLS = 81, 49
"""Values of a parameter at which the model is evaluated, in a slice and along each side of a contour."""

_RED, _BLUE, _GREY = COLORS[0], COLORS[1], COLORS[7]

_DARK, _LIGHT = "rgba(208,51,63,0.28)", "rgba(208,51,63,0.12)"
"""Bands of the function and of observations, in the red of the mean."""

_EXTENT = "extent"
"""Marks traces that the value axis, which all slices share, must hold."""

_Array = npt.NDArray[np.float64]


def slice_figures(view: OutcomeView, names: Sequence[str]) -> list[tuple[str, "Figure"]]:
    """Names of parameters, each with the model along it; the other parameters are as in the point."""
    figures = [(name, _slice_figure(view, axis_of(view.belief.space, name))) for name in names]
    values = [
        np.asarray(trace.y, dtype=float)
        for _, figure in figures
        for trace in figure.data
        if trace.meta == _EXTENT
    ]
    if values:
        low, high = (float(end) for end in (min(map(np.nanmin, values)), max(map(np.nanmax, values))))
        room = 0.04 * (high - low)
        for _, figure in figures:
            figure.update_yaxes(range=[low - room, high + room] if high > low else None)
    return figures


def _slice_figure(view: OutcomeView, axis: ParameterAxis) -> "Figure":
    from plotly.graph_objects import Scatter

    belief, point, values = view.belief, view.point, axis.values(_VALUES)
    rows = view.rows_through([{axis.name: value} for value in values])
    prediction = belief.at(rows)
    at = axis.coordinates(values)
    figure = new_figure(280)
    interval_traces = _bands if axis.continuous else _bars
    for low, high, color, label in (
        (prediction.observation_low, prediction.observation_high, _LIGHT, "90% of observations"),
        (prediction.low, prediction.high, _DARK, "90% of the function"),
    ):
        figure.add_traces(interval_traces(at, low.numpy(), high.numpy(), {"name": label}, color))
    line = {"mode": "lines", "line": {"color": _RED, "width": 2}}
    stroke = {"color": _RED, "size": 26, "symbol": "line-ew-open", "line": {"width": 2.5}}
    figure.add_trace(
        Scatter(
            x=at,
            y=prediction.mean.numpy(),
            customdata=[value_text(value) for value in values],
            name="mean",
            hovertemplate="%{customdata}: %{y:.4g}<extra></extra>",
            **(line if axis.continuous else {"mode": "markers", "marker": stroke}),
        )
    )
    figure.add_trace(_observations(belief, point, axis))
    for first, end in spans(axis.edges(values), (view.outside(rows) | view.infeasible(rows)).numpy()):
        figure.add_vrect(x0=first, x1=end, fillcolor=_GREY, opacity=0.22, line={"width": 0}, layer="below")
    (where,) = axis.coordinates([point[axis.name]])
    figure.add_vline(x=where, line={"color": _GREY, "dash": "dash", "width": 1.5})
    label_axis(figure, axis, "x")
    figure.update_layout(showlegend=False, barmode="overlay")
    return figure


def _bands(at: _Array, low: _Array, high: _Array, name: dict[str, str], color: str) -> list[Any]:
    """A band between two traces, of which the second fills down to the first."""
    from plotly.graph_objects import Scatter

    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "meta": _EXTENT} | name
    return [Scatter(x=at, y=low, **edge), Scatter(x=at, y=high, fill="tonexty", fillcolor=color, **edge)]


def _bars(at: _Array, low: _Array, high: _Array, name: dict[str, str], color: str) -> list[Any]:
    """A bar for each option, and what the axis must hold of it."""
    from plotly.graph_objects import Bar, Scatter

    bars = Bar(x=at, y=high - low, base=low, width=0.7, marker={"color": color}, hoverinfo="skip", **name)
    ends = [low.min(), high.max()]
    return [
        bars,
        Scatter(x=[at[0]] * 2, y=ends, meta=_EXTENT, mode="lines", line={"width": 0}, hoverinfo="skip"),
    ]


def _observations(belief: Belief, point: Params, axis: ParameterAxis) -> Any:
    """Observations, the larger and darker the closer they are to the slice; the farthest may be left out."""
    from plotly.graph_objects import Scatter

    close = closeness(belief, point, [axis.name])
    nearest = close.argsort(descending=True)[:_MOST_DOTS].flip(0)
    trials = [belief.trials[index] for index in nearest.tolist()]
    outcomes = torch.tensor([trial.value for trial in trials], dtype=torch.float64, device="cpu")
    near = close[nearest].numpy()
    marker = {"color": _BLUE, "size": 5.0 + 5.0 * near, "opacity": 0.15 + 0.8 * near, "line": {"width": 0}}
    return Scatter(
        x=axis.coordinates_in([trial.params for trial in trials]),
        y=belief.capped(outcomes).numpy(),
        customdata=[[trial.id, trial.value] for trial in trials],
        meta=_EXTENT,
        mode="markers",
        marker=marker,
        name="evaluation",
        hovertemplate="trial %{customdata[0]}: %{customdata[1]:.6g}<extra></extra>",
    )


def contour_figure(view: OutcomeView, across: ParameterAxis, up: ParameterAxis) -> "Figure":
    """The mean of the model over two parameters; dark is better, and the star is the point.

    A grey veil is over what is outside of the space or likely to be infeasible.
    """
    from plotly.graph_objects import Heatmap, Scatter

    belief, point = view.belief, view.point
    columns, rows, section = section_over(view, across, up, _CELLS)
    veiled = section.outside | section.infeasible
    figure = new_figure(420)
    figure.add_trace(
        Heatmap(
            x=across.edges(columns),
            y=up.edges(rows),
            z=section.mean,
            colorscale="Viridis",
            reversescale=belief.direction == "maximize",
            colorbar={"title": {"text": "Mean", "side": "right"}, "thickness": 14, "outlinewidth": 0},
            hovertemplate="%{z:.4g}<extra></extra>",
        )
    )
    if veiled.any():
        figure.add_trace(
            Heatmap(
                x=across.edges(columns),
                y=up.edges(rows),
                z=np.where(veiled, 1.0, np.nan),
                colorscale=[[0, "#d0d0d0"], [1, "#d0d0d0"]],
                showscale=False,
                opacity=0.72,
                hoverinfo="skip",
            )
        )
    figure.add_trace(
        Scatter(
            x=across.coordinates_in([trial.params for trial in belief.trials]),
            y=up.coordinates_in([trial.params for trial in belief.trials]),
            customdata=[[trial.id, trial.value] for trial in belief.trials],
            mode="markers",
            marker={"color": "white", "size": 7, "line": {"color": "black", "width": 1}},
            hovertemplate="trial %{customdata[0]}: %{customdata[1]:.6g}<extra></extra>",
        )
    )
    figure.add_trace(
        Scatter(
            x=across.coordinates([point[across.name]]),
            y=up.coordinates([point[up.name]]),
            mode="markers",
            marker={"color": _RED, "size": 16, "symbol": "star", "line": {"color": "white", "width": 1}},
            hovertemplate="recommended<extra></extra>",
        )
    )
    label_axis(figure, across, "x")
    label_axis(figure, up, "y")
    figure.update_layout(showlegend=False)
    return figure
