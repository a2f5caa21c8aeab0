"""What methods had found after each evaluation, and after each second that they took to choose points."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bo_suite.errors import DataError
from bo_suite.plot.style import INK, LINES, LineStyle, draw_name
from bo_suite.values.describe import visible

if TYPE_CHECKING:  # matplotlib and pandas are slow to import, and most runs draw nothing
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Array = npt.NDArray[np.float64]

_STYLES = (*LINES, LineStyle(INK, (0, (1, 3)), "*"))
_VALUES = ("normalized", "normalized_low", "normalized_high")
_EVALUATION, _SECONDS = "evaluation", "optimizer_seconds"

_FLOOR = 1e-9
"""Of a normalised regret, as in the area under its curve: less is rounding."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 8.4, 4.0, 0.88, 0.52, 0.34
"""Of the figure, and of its margins, in inches."""

_LONGEST = 26
"""Letters of a name."""

_NARROWEST = 2.5
"""Ratio of the ends of a logarithmic axis at least: it then has a tick, of one, two and five."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_LETTERS, _SMALL, _GAP, _LEAD = 10.5, 9.5, 14.5, 17.0
"""Sizes of letters, the least distance between names, and how far they are from the axes, in points."""


@dataclass(frozen=True)
class _Curve:
    """A method's line: finite where there is something to draw, its interval NaN where there is none."""

    name: str
    style: LineStyle
    bold: bool
    x: _Array
    median: _Array
    low: _Array
    high: _Array

    @property
    def settled(self) -> int:
        """The place from which on nothing changes."""
        table = np.nan_to_num(np.stack((self.median, self.low, self.high)), posinf=-1.0)
        changed = np.flatnonzero((np.diff(table) != 0.0).any(axis=0))
        return int(changed[-1]) + 1 if len(changed) else 0


def plot_regret(
    over_evaluations: "pd.DataFrame",
    over_seconds: "pd.DataFrame | None" = None,
    *,
    highlight: str | None = None,
    names: Mapping[str, str] | None = None,
) -> "Figure":
    """Medians of the normalised regret, with their intervals where there are any, and each method's name.

    The axes are logarithmic but for that of evaluations; regrets below 1e-9 are drawn there. Over seconds, a
    line is thin, and without its interval, from where nothing changes any more. A method whose median is
    infinite at the end, since most of its runs crashed, is named at the upper edge.

    Args:
        over_evaluations: `overall_curves` of a `bo_suite.bench.Comparison`: columns method, evaluation,
            normalized, normalized_low and normalized_high, up to eight methods.
        over_seconds: its `overall_curves_over_time`, the same methods, with a column optimizer_seconds for
            the evaluation; a second panel where given.
        highlight: the method that the picture is about, drawn strongest.
        names: shown for those of methods.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: a column that is missing or of no numbers, no finite value, more than eight methods, or
            methods that differ between the tables, or are not among them.
    """
    from matplotlib.figure import Figure

    tables = [(over_evaluations, _EVALUATION)]
    if over_seconds is not None:
        tables.append((over_seconds, _SECONDS))
    methods = _checked(tables, highlight, names or {})
    shown = {method: _short((names or {}).get(method, method)) for method in methods}
    gutter = (_LEAD + 6.0 + max(map(_extent, shown.values()))) / 72.0
    width = _WIDTH if over_seconds is not None else 0.5 * (_WIDTH + _LEFT) + 0.6
    across = (width - _LEFT) / len(tables) - gutter
    figure = Figure(figsize=(width, _HEIGHT), dpi=110)
    height = 1.0 - (_BOTTOM + _TOP) / _HEIGHT
    panels: list[Axes] = []
    for place in range(len(tables)):
        left = (_LEFT + place * (across + gutter)) / width
        panels.append(figure.add_axes((left, _BOTTOM / _HEIGHT, across / width, height)))
    drawn = [_curves(table, axis, shown, highlight) for table, axis in tables]
    low, high = _limits(drawn)
    for axes, curves in zip(panels, drawn, strict=True):
        axes.set(yscale="log", ylim=(low, high))
        _draw(axes, curves, thin=axes is not panels[0])
        _name(axes, curves, 72.0 * height * _HEIGHT)
    _dress(panels, over_evaluations[_EVALUATION].to_numpy(dtype=np.float64), across)
    return figure


def _checked(
    tables: "Sequence[tuple[pd.DataFrame, str]]", highlight: str | None, names: Mapping[str, str]
) -> list[str]:
    """The methods, the highlighted one first."""
    found: list[list[str]] = []
    for table, axis in tables:
        columns = ("method", axis, *_VALUES)
        if missing := [name for name in columns if name not in table.columns]:
            raise DataError(
                f"curves must have the columns {', '.join(columns)}, got none called {missing[0]}"
            )
        for name in columns[1:]:
            if table[name].dtype.kind not in "iuf":
                raise DataError(f"the column {name} must hold numbers, got {table[name].dtype}")
        found.append(list(dict.fromkeys(table["method"].astype(str))))
    methods = found[0]
    if not 1 <= len(methods) <= len(_STYLES):
        raise DataError(f"there must be 1 to {len(_STYLES)} methods in a picture, got {len(methods)}")
    if set(methods) != set(found[-1]):
        raise DataError(f"both tables must be of the same methods, got {methods} and {found[-1]}")
    asked = [*names, *([] if highlight is None else [highlight])]
    if unknown := [name for name in asked if name not in methods]:
        raise DataError(f"a method must be one of {methods}, got {unknown[0]!r}")
    return sorted(methods, key=lambda method: method != highlight)


def _curves(
    table: "pd.DataFrame", axis: str, shown: Mapping[str, str], highlight: str | None
) -> list[_Curve]:
    found = []
    for style, (method, name) in zip(_STYLES, shown.items(), strict=False):
        rows = table[table["method"].astype(str) == method].sort_values(axis)
        x, median, low, high = (rows[column].to_numpy(dtype=np.float64) for column in (axis, *_VALUES))
        median = np.where(np.isfinite(median), np.maximum(median, _FLOOR), np.nan)
        low, high = np.maximum(low, _FLOOR), np.maximum(high, _FLOOR)
        found.append(_Curve(name, style, method == highlight, x, median, low, high))
    if all(np.isnan(curve.median).all() for curve in found):
        raise DataError(f"a picture needs a finite value, got none over the column {axis}")
    return found


def _limits(drawn: Sequence[Sequence[_Curve]]) -> tuple[float, float]:
    """What holds the medians, and of the intervals what lies near them.

    Over seconds the median may begin far above: between runs that have begun and those that have not.
    """
    least = min(float(np.nanmin(curve.median, initial=np.inf)) for curves in drawn for curve in curves)
    most = max(float(np.nanmax(curve.median, initial=-np.inf)) for curve in drawn[0])
    ends = np.concatenate([end for curves in drawn for curve in curves for end in (curve.low, curve.high)])
    near = ends[(ends > 0.3 * least) & (ends < 3.0 * most)]
    least, most = min([least, *near]), max([most, *near])
    margin = max((most / least) ** 0.04, 1.15, (_NARROWEST * least / most) ** 0.5)
    return least / margin, most * margin


def _draw(axes: "Axes", curves: Sequence[_Curve], thin: bool) -> None:
    """Bands below, then lines, that of the highlighted method on top."""
    low, high = axes.get_ylim()
    for place, curve in reversed(list(enumerate(curves))):
        if np.isnan(curve.median).all():  # of which matplotlib cannot mark any place
            continue
        color, over = curve.style.color, 3.0 - 0.05 * place
        end = curve.settled + 1 if thin else len(curve.x)
        known = ~np.isnan(curve.median) & ~np.isnan(curve.low) & ~np.isnan(curve.high)
        known[end:] = False
        axes.fill_between(
            curve.x,
            np.clip(curve.low, low, high),
            np.clip(curve.high, low, high),
            where=known.tolist(),
            color=color,
            alpha=0.22 if curve.bold else 0.11,
            linewidth=0,
            zorder=over - 2.0,
        )
        axes.plot(curve.x[end - 1 :], curve.median[end - 1 :], color=color, linewidth=0.8, zorder=over - 1.0)
        axes.plot(
            curve.x[:end],
            curve.median[:end],
            color=color,
            linestyle=curve.style.dashes,
            linewidth=2.6 if curve.bold else 1.6,
            marker=curve.style.marker,
            markevery=(0.03 + 0.02 * place, 0.2),
            markersize=6.5 if curve.bold else 5.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=over,
            label=curve.name.replace("$", r"\$"),  # for a legend of the user, which parses it
        )


def _name(axes: "Axes", curves: Sequence[_Curve], height: float) -> None:
    """Markers at the ends of the lines, and beside them the names, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    ends = [high if np.isnan(curve.median[-1]) else float(curve.median[-1]) for curve in curves]
    lying = height * np.log(np.array(ends) / low) / np.log(high / low)
    across = axes.get_yaxis_transform()
    for curve, end, at, to in zip(curves, ends, lying, _apart(lying, _GAP, 4.0, height), strict=True):
        color = curve.style.color
        if end < high:
            axes.plot(
                1.0,
                end,
                curve.style.marker,
                color=color,
                markersize=7.5 if curve.bold else 6.5,
                markeredgecolor="white",
                markeredgewidth=0.7,
                transform=across,
                clip_on=False,
                zorder=4.0,
            )
        label = axes.annotate(
            "",
            (1.0, end),
            xycoords=across,
            xytext=(_LEAD, to - at),
            textcoords="offset points",
            va="center",
            color=_darker(color),
            fontsize=_LETTERS,
            fontweight="bold" if curve.bold else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.8,
                "shrinkA": 1.0,
                "shrinkB": 4.0,
                "relpos": (0.0, 0.5),
            },
        )
        draw_name(label, curve.name)


def _apart(places: _Array, gap: float, low: float, high: float) -> _Array:
    """The places moved as little as leaves a gap between any two: a monotone regression of what is over gaps.

    They stay between the ends where these leave room.
    """
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    blocks: list[tuple[float, int]] = []
    for value in places[order] - steps:
        mean, count = float(value), 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    regressed = np.repeat([mean for mean, _ in blocks], [count for _, count in blocks])
    moved = np.empty_like(places)
    moved[order] = np.clip(regressed, low, max(high - float(steps[-1]), low)) + steps
    return moved


def _dress(panels: "Sequence[Axes]", evaluations: _Array, across: float) -> None:
    """Axes of this many inches, their labels and titles."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    titles = ("medians after each evaluation", "after each second of choosing points")
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, loc="left", fontsize=_LETTERS + 0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_yticks(*_ticks(*axes.get_ylim(), 6, _plain))
        axes.tick_params(labelsize=_SMALL)
    first, *rest = panels
    first.set_ylabel("normalised regret, less is better", fontsize=_LETTERS)
    first.set_xlabel("evaluations", fontsize=_LETTERS)
    first.set_xlim(evaluations.min(), max(evaluations.max(), evaluations.min() + 1))
    first.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in rest:
        axes.set_xscale("log")
        low, high = _span(axes)
        axes.set_xlim(low, high)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(*_ticks(low, high, max(2, int(across / 0.48)), _seconds))
        axes.set_xlabel("time in ask and tell", fontsize=_LETTERS)
        axes.tick_params(axis="y", labelleft=False)


def _span(axes: "Axes") -> tuple[float, float]:
    """Ends of what is drawn along the horizontal axis."""
    drawn = [line for line in axes.get_lines() if line.get_transform() == axes.transData]
    x = np.concatenate([np.asarray(line.get_xdata())[np.isfinite(line.get_ydata())] for line in drawn])
    return float(x.min()), max(float(x.max()), _NARROWEST * float(x.min()))


def _ticks(
    low: float, high: float, most: int, worded: Callable[[float], str]
) -> tuple[list[float], list[str]]:
    """Powers of ten between the ends; not all where there are many, and twice and five times them if few."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    every = max(1, math.ceil((last - first + 1) / most))
    factors = (1, 2, 5) if math.log10(high / low) < 1.5 else (1,)
    powers = [power for power in range(first - 1, last + 1) if power % every == 0]
    steps = [factor * 10.0**power for power in powers for factor in factors]
    inside = [step for step in steps if low <= step * (1 + 1e-9) and step <= high * (1 + 1e-9)]
    return inside, [worded(step) for step in inside]


def _plain(value: float) -> str:
    """The value in digits, or as a power of ten where those would be many."""
    if value >= 1e-4:
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    factor = round(value / 10.0**power)
    return ("" if factor == 1 else f"{factor}×") + f"10{str(power).translate(_RAISED)}"


def _seconds(value: float) -> str:
    scale, unit = (1.0, "s") if value > 0.099 else (1e3, "ms") if value > 0.99e-4 else (1e6, "µs")
    return f"{value * scale:g} {unit}"


def _short(name: str) -> str:
    """The name, its middle left out where it is too long for the margin."""
    shown = visible(name)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 8]}…{shown[-7:]}"


def _extent(name: str) -> float:
    """Its width in points, in bold letters."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    bold = FontProperties(weight="bold", size=_LETTERS)
    width, _, _ = text_to_path.get_text_width_height_descent(name, bold, ismath=False)
    return float(width)


def _darker(color: str) -> tuple[float, ...]:
    """The colour as it is legible in letters."""
    from matplotlib.colors import to_rgb

    return tuple(0.7 * part for part in to_rgb(color))
