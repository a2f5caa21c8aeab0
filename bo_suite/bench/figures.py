"""Figures of a report, for plotly: they can be zoomed, and show the values under the pointer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bo_suite.pages.drawing import COLORS, literal, new_figure
from bo_suite.plot.regret import FLOOR, Curve, log_limits, read_curves
from bo_suite.plot.style import short_name

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

_Array = npt.NDArray[np.float64]
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "4px,4px", "8px,2px,2px,2px")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
_LINE_HEIGHT = 21
_LABELS = {
    "share": "Share of targets reached",
    "normalized": "Normalised regret",
    "regret": "Median regret",
    "evaluation": "Evaluations",
    "optimizer_seconds": "Seconds in the optimiser",
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn in every figure: its number decides the colour, and with it dashes and marker."""

    number: int

    @property
    def color(self) -> str:
        return COLORS[self.number % len(COLORS)]

    @property
    def line(self) -> dict[str, Any]:
        turn = self.number + self.number // len(_DASHES)
        return {"color": self.color, "dash": _DASHES[turn % len(_DASHES)], "width": 1.8, "shape": "hv"}

    @property
    def marker(self) -> dict[str, Any]:
        turn = self.number + 2 * (self.number // len(_SYMBOLS))
        return {"color": self.color, "symbol": _SYMBOLS[turn % len(_SYMBOLS)], "size": 7, "maxdisplayed": 6}


_SECONDS: Mapping[str, Any] = {"type": "log", "dtick": 1, "tickformat": "~s", "ticksuffix": "s"}
"""A logarithmic axis of seconds: 100µs, 1ms, 10ms, ..."""


def progress_figure(table: pd.DataFrame, axis: str, value: str, styles: Mapping[str, Style]) -> "Figure":
    """The values of each method as steps along an axis, with their intervals as bands.

    Args:
        table: of `bo_suite.bench.curves`: columns method, axis and value, and the ends of its interval.
        axis: "evaluation" or "optimizer_seconds"; the latter is logarithmic.
        value: "share", "normalized" or "regret"; regrets are on a logarithmic axis, where those below it are
            drawn on its edge.
        styles: of the methods, in the order of the legend.
    """
    figure = new_figure(280 + _LINE_HEIGHT * math.ceil(len(styles) / 3))
    log = value != "share"
    floor = _floor(table[value].to_numpy(dtype=np.float64), value) if log else 0.0
    curves = {curve.method: curve for curve in read_curves(table, axis, value, floor)}
    drawn = {name: curves[name] for name in styles if name in curves}
    for name, curve in drawn.items():
        for trace in _curve_traces(curve, styles[name]):
            figure.add_trace(trace)
    range_y: list[float] = [0.0, 1.02]
    if log and any(np.isfinite(curve.median).any() for curve in drawn.values()):
        range_y = np.log10(log_limits(list(drawn.values()))).tolist()
    scale, title_y = "log" if log else "linear", {"text": _LABELS[value], "standoff": 8}
    figure.update_yaxes(type=scale, range=range_y, title=title_y, exponentformat="power")
    figure.update_xaxes(title={"text": _LABELS[axis], "standoff": 6}, rangemode="tozero")
    if axis == "optimizer_seconds":
        figure.update_xaxes(**_SECONDS)
    figure.update_layout(legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom"})
    return figure


def dot_figure(
    values: Mapping[str, Sequence[float]],
    styles: Mapping[str, Style],
    title: str,
    *,
    half_width: float = math.nan,
    log: bool = False,
) -> "Figure":
    """A row a method: a marker at the median of its values, over a stroke at each of several values.

    Args:
        values: of each method, the first uppermost.
        styles: of the methods.
        title: of the axis.
        half_width: of an interval about each marker; none if NaN.
        log: whether the axis is logarithmic, in seconds.
    """
    from plotly.graph_objects import Scatter

    figure = new_figure(90 + 24 * max(len(values), 1))
    for row, (name, own) in enumerate(values.items()):
        marker = styles[name].marker | {"size": 9}
        label, median = literal(short_name(name)), float(np.median(own))
        if len(own) > 1:
            stroke = {"color": styles[name].color, "symbol": "line-ns-open", "size": 9, "opacity": 0.6}
            figure.add_trace(
                Scatter(x=list(own), y=[row] * len(own), mode="markers", marker=stroke, name=label)
            )
        bar = {"array": [half_width], "color": styles[name].color} if math.isfinite(half_width) else None
        figure.add_trace(Scatter(x=[median], y=[row], mode="markers", marker=marker, error_x=bar, name=label))
    figure.update_traces(showlegend=False, hovertemplate="%{x:.4g}")
    labels = [literal(short_name(name)) for name in values]
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6], showgrid=False
    )
    figure.update_xaxes(title_text=title)
    if log:
        figure.update_xaxes(**_SECONDS)
    return figure


def _floor(values: _Array, value: str) -> float:
    """The smallest value that is drawn on a logarithmic axis, which spans twelve powers of ten at most."""
    positive = values[np.isfinite(values) & (values > 0.0)]
    if not len(positive):
        return 1.0
    return max(FLOOR if value == "normalized" else 0.1 * float(positive.min()), 1e-12 * float(positive.max()))


def _curve_traces(curve: Curve, style: Style) -> list[Any]:
    """The line, over a band between two traces, of which the second fills down to the first."""
    from plotly.graph_objects import Scatter

    label, group, traces = literal(short_name(curve.method)), str(style.number), []
    has_band = np.isfinite(curve.low) & np.isfinite(curve.high) & np.isfinite(curve.median)
    if has_band.any():
        red, green, blue = (int(style.color[start : start + 2], 16) for start in (1, 3, 5))
        shade = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.13)"}
        edge = {"mode": "lines", "line": {"width": 0, "shape": "hv"}, "legendgroup": group}
        for values, fill in ((curve.low, {}), (curve.high, shade)):
            x, y = _steps(curve.x[has_band], values[has_band])
            traces.append(Scatter(x=x, y=y, name=label, showlegend=False, hoverinfo="skip", **edge, **fill))
    finite = np.isfinite(curve.median)
    x, y = _steps(curve.x[finite], curve.median[finite])
    if not x:
        x, y = [math.nan], [math.nan]  # the legend has no entry for a line without a point
    line = Scatter(x=x, y=y, name=label, legendgroup=group, line=style.line, marker=style.marker)
    traces.append(line.update(mode="lines+markers", hovertemplate="%{x:.4g}: %{y:.3g}"))
    return traces


def _steps(x: _Array, y: _Array) -> tuple[list[float], list[float]]:
    """The points at which the value changes, and the last, to four digits."""
    wanted = np.append(True, np.diff(y) != 0.0)[: len(y)]
    wanted[-1:] = True
    return _rounded(x[wanted]), _rounded(y[wanted])


def _rounded(values: _Array) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
