"""Regret of several methods after each evaluation, and after each second that they spent on suggestions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bo_suite.errors import DataError
from bo_suite.plot.style import INK, LINES, LineStyle, draw_name, new_figure, short_name

if TYPE_CHECKING:  # matplotlib and pandas are slow to import, and most runs draw nothing
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_Array = npt.NDArray[np.float64]

FLOOR = 1e-9
"""Smallest normalised regret that is drawn, as in the area under its curve: less is rounding error."""

_STYLES = (*LINES, LineStyle(INK, (0, (1, 3)), "*"))
_EVALUATION, _SECONDS = "evaluation", "optimizer_seconds"
_NARROWEST = 2.5  # smallest ratio of the ends of a logarithmic axis


@dataclass(frozen=True)
class Curve:
    """The median of a method along an axis, and its interval; NaN where there is nothing to draw."""

    method: str
    x: _Array
    median: _Array
    low: _Array
    high: _Array

    @property
    def last_change(self) -> int:
        """Index of the point after which nothing changes."""
        table = np.nan_to_num(np.stack((self.median, self.low, self.high)), posinf=-1.0)
        changed = np.flatnonzero((np.diff(table) != 0.0).any(axis=0))
        return int(changed[-1]) + 1 if len(changed) else 0


def read_curves(
    table: "pd.DataFrame", axis: str, value: str = "normalized", floor: float = FLOOR
) -> list[Curve]:
    """The curves of a table, in the order of its methods.

    Args:
        table: columns method, the axis, the value and, if it has intervals, value_low and value_high.
        axis: "evaluation" or "optimizer_seconds".
        value: column of the medians.
        floor: smaller values are raised to it.
    """
    curves = []
    for method, rows in table.astype({"method": str}).groupby("method", sort=False):
        rows = rows.sort_values(axis)
        median = rows[value].to_numpy(dtype=np.float64)
        low, high = (
            np.maximum(rows[name].to_numpy(dtype=np.float64), floor) if name in rows else median * np.nan
            for name in (f"{value}_low", f"{value}_high")
        )
        median = np.where(np.isfinite(median), np.maximum(median, floor), np.nan)
        curves.append(Curve(str(method), rows[axis].to_numpy(dtype=np.float64), median, low, high))
    return curves


def log_limits(curves: Sequence[Curve], others: Sequence[Curve] = ()) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds the medians, and the interval ends within a factor 3 of them.

    Args:
        curves: whose medians the axis must hold.
        others: of which it need only hold the smallest median. Over seconds the median may begin far above
            the others: while some runs have no observation yet.
    """
    least = min(float(np.nanmin(curve.median, initial=np.inf)) for curve in (*curves, *others))
    most = max(float(np.nanmax(curve.median, initial=-np.inf)) for curve in curves)
    ends = np.concatenate([end for curve in (*curves, *others) for end in (curve.low, curve.high)])
    near = ends[(ends > 0.3 * least) & (ends < 3.0 * most)]
    least, most = min([least, *near]), max([most, *near])
    margin = max((most / least) ** 0.04, 1.15, (_NARROWEST * least / most) ** 0.5)
    return least / margin, most * margin


def plot_regret(
    over_evaluations: "pd.DataFrame",
    over_seconds: "pd.DataFrame | None" = None,
    *,
    highlight: str | None = None,
    names: Mapping[str, str] | None = None,
) -> "Figure":
    """Draws the median normalised regret of each method, with its interval if the table has one.

    Both axes are logarithmic, except that of evaluations. Regrets below 1e-9 are drawn at 1e-9. Over seconds,
    a line becomes thin where it no longer changes. The legend lists the methods from the largest final regret
    to the smallest; a method whose final median is infinite, because most of its runs crashed, comes first.

    Args:
        over_evaluations: `overall_curves` of a `bo_suite.bench.Comparison`: columns method, evaluation,
            normalized, normalized_low and normalized_high, up to eight methods.
        over_seconds: `overall_curves_over_time` of the same methods, with the column optimizer_seconds
            instead of evaluation; drawn in a second panel.
        highlight: the method that the picture is about, drawn strongest.
        names: names to show instead of the methods' own.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: a column is missing or not numeric, no value is finite, there are more than eight methods,
            the tables have different methods, or `highlight` or `names` name another method.
    """
    tables = [(over_evaluations, _EVALUATION)]
    if over_seconds is not None:
        tables.append((over_seconds, _SECONDS))
    methods = _checked_methods(tables, highlight, names or {})
    styles = dict(zip(methods, _STYLES, strict=False))
    labels = {method: short_name((names or {}).get(method, method)) for method in methods}
    panels = [_ordered(table, axis, methods) for table, axis in tables]
    figure, grid = new_figure(1, len(tables), width=3.9 * len(tables) + 1.6)
    limits = log_limits(panels[0], panels[-1])
    lines: dict[str, Line2D] = {}
    for axes, curves in zip(grid[0], panels, strict=True):
        axes.set(yscale="log", ylim=limits)
        for index, curve in reversed(list(enumerate(curves))):
            width = 2.6 if curve.method == highlight else 1.6
            lines[curve.method] = _draw(axes, curve, styles[curve.method], width, index)
            lines[curve.method].set_label(labels[curve.method].replace("$", r"\$"))  # in a legend of the user
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
    _label_axes(list(grid[0]))
    ordered = sorted(panels[0], key=lambda curve: np.nan_to_num(-curve.median[-1], nan=-np.inf))
    last = [curve.method for curve in ordered]
    legend = figure.legend(
        [lines[method] for method in last], last, loc="outside right center", frameon=False
    )
    for text, method in zip(legend.get_texts(), last, strict=True):
        draw_name(text, labels[method])
        text.set_fontweight("bold" if method == highlight else "normal")
    return figure


def _checked_methods(
    tables: "Sequence[tuple[pd.DataFrame, str]]", highlight: str | None, names: Mapping[str, str]
) -> list[str]:
    """The methods, the highlighted one first."""
    methods_of = []
    for table, axis in tables:
        columns = ("method", axis, "normalized", "normalized_low", "normalized_high")
        if missing := [name for name in columns if name not in table.columns]:
            raise DataError(f"curves need the columns {', '.join(columns)}; {missing[0]} is missing")
        for name in columns[1:]:
            if table[name].dtype.kind not in "iuf":
                raise DataError(f"the column {name} must hold numbers, got {table[name].dtype}")
        methods_of.append(list(dict.fromkeys(table["method"].astype(str))))
    methods = methods_of[0]
    if not 1 <= len(methods) <= len(_STYLES):
        raise DataError(f"a picture takes 1 to {len(_STYLES)} methods, got {len(methods)}")
    if set(methods) != set(methods_of[-1]):
        raise DataError(f"both tables must have the same methods, got {methods} and {methods_of[-1]}")
    for name in (*names, *([] if highlight is None else [highlight])):
        if name not in methods:
            raise DataError(f"a method must be one of {methods}, got {name!r}")
    return sorted(methods, key=lambda method: method != highlight)


def _ordered(table: "pd.DataFrame", axis: str, methods: Sequence[str]) -> list[Curve]:
    curves = sorted(read_curves(table, axis), key=lambda curve: methods.index(curve.method))
    if all(np.isnan(curve.median).all() for curve in curves):
        raise DataError(f"a picture needs a finite value over {axis}, got none")
    return curves


def _draw(axes: "Axes", curve: Curve, style: LineStyle, width: float, index: int) -> "Line2D":
    """Draws the band and the line of a curve, further to the front the lower its index; returns the line."""
    low, high = axes.get_ylim()
    front = 3.0 - 0.05 * index
    end = curve.last_change + 1 if axes is not axes.figure.axes[0] else len(curve.x)
    has_band = ~np.isnan(curve.median) & ~np.isnan(curve.low) & ~np.isnan(curve.high)
    has_band[end:] = False
    axes.fill_between(
        curve.x,
        np.clip(curve.low, low, high),
        np.clip(curve.high, low, high),
        where=has_band.tolist(),
        color=style.color,
        alpha=0.22 if width > 2.0 else 0.11,
        linewidth=0,
        zorder=front - 2.0,
    )
    axes.plot(curve.x[end - 1 :], curve.median[end - 1 :], color=style.color, linewidth=0.8, zorder=front - 1)
    drawn = slice(end if not np.isnan(curve.median).all() else 0)  # markevery fails on a line without a point
    (line,) = axes.plot(
        curve.x[drawn],
        curve.median[drawn],
        color=style.color,
        linestyle=style.dashes,
        linewidth=width,
        marker=style.marker,
        markevery=(0.03 + 0.02 * index, 0.2),
        markersize=6.0,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=front,
    )
    return line


def _label_axes(panels: "Sequence[Axes]") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    panels[0].set(xlabel="evaluations", ylabel="normalised regret (lower is better)")
    panels[0].xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in panels[1:]:
        axes.set(xscale="log", xlabel="time in ask and tell")
        axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
        axes.tick_params(axis="y", labelleft=False)
