"""The learning curves of a run, and what a model expects of one of them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.plot.reports import LOG_FROM, Reports, scale_values
from bo_suite.plot.run import Run
from bo_suite.plot.style import (
    INK,
    LINES,
    MIST,
    RED,
    LineStyle,
    new_figure,
    plain_log_ticks,
)
from bo_suite.storage.addresses import Location
from bo_suite.storage.trial import State
from bo_suite.study.extrapolation import Extrapolation

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES: dict[State, LineStyle] = {
    "stopped": LineStyle(MIST, "-", "o"),
    "paused": LineStyle("#e69f00", (0, (5, 1.5, 1, 1.5)), "s"),
    "failed": LineStyle(INK, (0, (1, 1.2)), "x"),
    "running": LineStyle("#00775a", (0, (6, 2)), ">"),
    "finished": LineStyle("#0b3c5d", "-", ""),
}
"""Lines of each fate, with the mark of their ends; later ones are drawn over earlier ones."""

_MOST_RUNGS = 12
"""Most rungs that are drawn; more, such as those at every step, would be a grid."""


def plot_curves(run: Run | Location, *, trial: int | None = None) -> "Figure":
    """Draw the learning curves of all trials, coloured by what became of them; vertical lines are the rungs.

    With `trial`, the other curves are grey, and the figure shows what is expected of this one: the posterior
    mean and the 90 % interval of its curve up to the last step, by a `FreezeThaw` of all curves, in the
    user's units. As in the model of the run, outcomes beyond the cap of bad outcomes count as equal to it.

    Args:
        run: an Optimizer, a Result, or the file or the address of a run.
        trial: id of a trial that has reported and is not finished.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: no trial has reported, the run has several objectives, or the trial has no report, has
            failed or is finished.
        StorageError: there is no history at the place.
        FitError, NumericalError: the model of a curve cannot be fitted.
    """
    reports = Reports.of(run)
    expected = (
        None
        if trial is None
        else Extrapolation.of(reports.trials, reports.space, reports.goals, reports.max_step, trial)
    )
    figure, ((axes,),) = new_figure(height=4.4)
    if expected is None:
        _draw_fates(axes, reports)
    else:
        _draw_extrapolation(axes, reports, expected)
    _finish(axes, reports, expected)
    return figure


def _draw_fates(axes: "Axes", reports: Reports) -> None:
    """One line for each fate, with gaps between trials and a mark at each end; the best in red."""
    best = reports.best
    for state, style in _STYLES.items():
        trials = [one for one in reports.trials if one.state == state and one is not best]
        curves = [curve for curve in map(reports.curve, trials) if curve[0]]
        if not curves:
            continue
        width = 1.0 if state == "stopped" else 1.3
        _draw_lines(axes, curves, style, width, f"{state} ({len(curves)})")
    if best is not None:
        steps, values = reports.curve(best)
        axes.plot(steps, values, color=RED, linewidth=2.4, label=f"best, trial {best.id}", zorder=3)
        axes.plot(steps[-1:], values[-1:], "o", color=RED, markeredgecolor="white", markersize=7, zorder=3.1)


def _draw_lines(
    axes: "Axes",
    curves: Sequence[tuple[list[int], list[float]]],
    style: LineStyle,
    width: float,
    label: str,
) -> None:
    """Curves as one line with gaps, and their ends; both are one entry of the legend."""
    across = [at for steps, _ in curves for at in (*steps, math.nan)]
    up = [value for _, values in curves for value in (*values, math.nan)]
    fade = max(0.5, min(1.0, 12.0 / len(curves)))
    line: dict[str, Any] = {
        "color": style.color,
        "linestyle": style.dashes,
        "linewidth": width,
        "alpha": fade,
    }
    ends = [(steps[-1], values[-1]) for steps, values in curves]
    axes.plot(across, up, label=label, marker=style.marker, markevery=_ends(curves), markersize=4, **line)
    single = [end for end, (steps, _) in zip(ends, curves, strict=True) if len(steps) == 1]
    if single and not style.marker:  # a line of one point is nothing to see
        axes.plot(*zip(*single, strict=True), "o", color=style.color, markersize=4)


def _ends(curves: Sequence[tuple[list[int], list[float]]]) -> list[int]:
    """Where each curve ends in their concatenation with gaps."""
    return list(np.cumsum([len(steps) + 1 for steps, _ in curves]) - 2)


def _draw_extrapolation(axes: "Axes", reports: Reports, expected: Extrapolation) -> None:
    """All curves in grey, and the reports and the posterior of one."""
    number, style = expected.trial.id, LINES[0]
    others = [reports.curve(one) for one in reports.trials if one.id != number and one.reports]
    if others:
        _draw_lines(axes, others, LineStyle("0.65", "-", ""), 0.9, "other trials")
    band = axes.fill_between(
        expected.steps, expected.low, expected.high, color=style.color, alpha=0.2, linewidth=0
    )
    band.set_label("90% interval")
    axes.plot(expected.steps, expected.mean, color=style.color, linewidth=1.8, label="expected curve")
    axes.plot(
        *reports.curve(expected.trial), "o", color=INK, markersize=4, label=f"reports of trial {number}"
    )
    if reports.best is not None:
        best = reports.curve(reports.best)[1][-1]
        axes.axhline(
            best, color=LINES[1].color, linestyle=LINES[1].dashes, linewidth=1.2, label="best so far"
        )


def _finish(axes: "Axes", reports: Reports, expected: Extrapolation | None) -> None:
    """Scales, rungs, names, title and legend."""
    label_steps(axes, reports)
    axes.set_ylabel("value")
    scale_values(axes, reports, [value for trial in reports.trials for value in reports.curve(trial)[1]])
    axes.set_title(_title(reports, expected), loc="left", fontsize=11)
    axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)


def label_steps(axes: "Axes", reports: Reports) -> None:
    """The axis of steps: logarithmic if they span much, with the rungs and the last step as its ticks."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    first, last, rungs = reports.first, reports.max_step, reports.rungs()
    log = last >= LOG_FROM * first
    axes.set_xlabel("step")
    if log:
        axes.set_xscale("log")
    axes.set_xlim(first / 1.1 if log else first - 0.03 * last, last * 1.08 if log else 1.03 * last)
    if not 0 < len(rungs) <= _MOST_RUNGS:
        if log:
            plain_log_ticks(axes.xaxis)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return
    for rung in rungs:
        axes.axvline(rung, color="0.85", linewidth=1.0, zorder=0.5)
    ticks = [*rungs, last]
    axes.set_xticks(ticks, labels=[str(step) for step in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _title(reports: Reports, expected: Extrapolation | None) -> str:
    """How many steps were spent, or what is expected of a trial at the last step."""
    if expected is not None:
        mean, low, high = (float(one[-1]) for one in (expected.mean, expected.low, expected.high))
        state = expected.trial.state
        return (
            f"trial {expected.trial.id}, {state} at step {expected.trial.step}: "
            f"{mean:.4g} ({low:.4g} to {high:.4g}) expected at step {reports.max_step}"
        )
    count = len(reports.reporting)
    return (
        f"{count} trial{'' if count == 1 else 's'}, {reports.spent:,} of {count * reports.max_step:,} steps"
    )
