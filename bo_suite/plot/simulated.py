"""Outcomes of simulated runs over simulated time, by method."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from bo_suite.errors import DataError
from bo_suite.plot.style import INK, LINES, LineStyle, draw_name, new_figure, plain_log_ticks, short_name
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Array = npt.NDArray[np.float64]

_STYLES = (*LINES, LineStyle(INK, (0, (1, 3)), "*"))

_UNITS = ((2 * 86400.0, 86400.0, "days"), (2 * 3600.0, 3600.0, "hours"), (120.0, 60.0, "minutes"))
"""From how many seconds on a unit is used, its length and its name."""

_LOG_FROM = 20.0
"""Ratio of the ends of the axis of time from which it is logarithmic."""


class TimedRun(Protocol):
    """A simulated run, as `bench.simulate` returns it."""

    @property
    def sign(self) -> float:
        """1 if smaller outcomes are better, -1 if larger ones are."""

    @property
    def seconds(self) -> float:
        """Simulated time at which the run ended."""

    def incumbents(self, any_step: bool = False) -> list[tuple[float, float]]:
        """(seconds, value) of each improvement of the best outcome at the last step, by time."""


def plot_simulated_time(
    results: Mapping[str, Sequence[TimedRun]],
    *,
    best: float | None = None,
    target: float | None = None,
    highlight: str | None = None,
) -> "Figure":
    """Draw the best outcome of each method over simulated time: the median over runs, and their quartiles.

    With `best`, the axis is the distance to it (the simple regret), on a log scale; distances of 0 are drawn
    at half of the smallest positive one. With `target`, a second panel shows the share of runs of each method
    that have reached it. A line begins when half of the runs have an outcome at the last step.

    Args:
        results: simulations of one problem by name of the method, such as one for each seed; at most eight
            methods.
        best: the best possible outcome.
        target: an outcome to be reached, in the problem's direction.
        highlight: the method that the picture is about, drawn strongest.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: there is no method or there are more than eight, a method has no run, the runs differ in
            their direction, or `highlight` is no method.
    """
    _check(results, highlight)
    panels = 1 if target is None else 2
    figure, grid = new_figure(1, panels, width=4.2 * panels + 2.2, height=3.9)
    axes, sign = grid[0][0], next(iter(results.values()))[0].sign
    first = [run.incumbents()[0][0] for runs in results.values() for run in runs if run.incumbents()]
    last = max(run.seconds for runs in results.values() for run in runs)
    low = min(first, default=0.5 * last)
    log = last > _LOG_FROM * low > 0.0
    times = np.geomspace(low, last, 400) if log else np.linspace(low, last, 400)
    unit, name = next(((size, name) for over, size, name in _UNITS if last >= over), (1.0, "seconds"))
    courses = {method: _Course.of(runs, times, sign) for method, runs in results.items()}
    floor = None if best is None else _floor(list(courses.values()), sign * best)
    lines = []
    for index, (method, course) in enumerate(courses.items()):
        style, width = _STYLES[index], 2.6 if method == highlight else 1.6
        if floor is not None and best is not None:
            course = course.regret(sign * best, floor)
        else:
            course = course.signed(sign)
        axes.fill_between(times / unit, course.low, course.high, color=style.color, alpha=0.14, linewidth=0)
        label = short_name(method).replace("$", r"\$")
        lines += axes.plot(
            times / unit,
            course.median,
            color=style.color,
            linestyle=style.dashes,
            linewidth=width,
            label=label,
        )
    axes.set_ylabel("best outcome" if best is None else f"distance to {best:.6g}")
    if best is not None:
        axes.set_yscale("log")
    if target is not None:
        if best is None:
            axes.axhline(target, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        _draw_reached(grid[0][1], results, times / unit, unit, (target, sign), highlight)
    for panel in grid[0]:
        panel.set_xlabel(f"simulated time ({name})")
        if log:
            panel.set_xscale("log")
            plain_log_ticks(panel.xaxis)
        panel.grid(axis="y", color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
    numbers = [str(index) for index in range(len(lines))]  # a label that begins with "_" would be left out
    legend = figure.legend(lines, numbers, loc="outside right center", frameon=False)
    for text, method in zip(legend.get_texts(), results, strict=True):
        draw_name(text, short_name(method))
        text.set_fontweight("bold" if method == highlight else "normal")
    return figure


@dataclass(frozen=True)
class _Course:
    """The best loss of a method at given times: the median over its runs, and their quartiles."""

    low: _Array
    median: _Array
    high: _Array

    @staticmethod
    def of(runs: Sequence[TimedRun], times: _Array, sign: float) -> "_Course":
        """Losses, infinite before the first outcome."""
        losses = np.stack([_losses_at(run, times, sign) for run in runs])
        quartiles = np.quantile(losses, (0.25, 0.5, 0.75), axis=0, method="inverted_cdf")
        return _Course(*(np.where(np.isfinite(one), one, np.nan) for one in quartiles))

    def regret(self, least: float, floor: float) -> "_Course":
        """Distances to the least loss, at least `floor`."""
        return _Course(*(np.maximum(one - least, floor) for one in (self.low, self.median, self.high)))

    def signed(self, sign: float) -> "_Course":
        """Outcomes in the user's direction."""
        return _Course(*(sign * one for one in (self.low, self.median, self.high)))


def _losses_at(run: TimedRun, times: _Array, sign: float) -> _Array:
    """The best loss of a run at each time, infinite before the first."""
    incumbents = run.incumbents()
    moments = np.array([moment for moment, _ in incumbents])
    losses = np.array([math.inf, *(sign * value for _, value in incumbents)])
    return losses[np.searchsorted(moments, times * (1.0 + 1e-12), side="right")]


def _floor(courses: Sequence[_Course], least: float) -> float:
    """Half of the smallest positive distance to the least loss."""
    distances = np.concatenate([one - least for course in courses for one in (course.low, course.median)])
    positive = distances[distances > 0.0]
    return 0.5 * float(positive.min()) if len(positive) else 1e-12


def _draw_reached(
    axes: "Axes",
    results: Mapping[str, Sequence[TimedRun]],
    times: _Array,
    unit: float,
    goal: tuple[float, float],
    highlight: str | None,
) -> None:
    """The share of runs that have reached a target at each time."""
    target, sign = goal
    for style, (method, runs) in zip(_STYLES, results.items(), strict=False):
        losses = np.stack([_losses_at(run, times * unit, sign) for run in runs])
        share = (losses <= sign * target).mean(axis=0)
        width = 2.6 if method == highlight else 1.6
        axes.plot(times, share, color=style.color, linestyle=style.dashes, linewidth=width)
    axes.set(ylim=(-0.02, 1.02), ylabel=f"share of runs that reached {target:.6g}")


def _check(results: Mapping[str, Sequence[TimedRun]], highlight: str | None) -> None:
    if not 1 <= len(results) <= len(_STYLES):
        raise DataError(f"one to {len(_STYLES)} methods can be drawn, got {len(results)}")
    if empty := [method for method, runs in results.items() if not runs]:
        raise DataError(f"a method must have a run, got none of {described(empty[0])}")
    if len({run.sign for runs in results.values() for run in runs}) > 1:
        raise DataError("all runs must have the same direction, got some of each")
    if highlight is not None and highlight not in results:
        raise DataError(f"`highlight` must be a method, got {described(highlight)} of {list(results)}")
