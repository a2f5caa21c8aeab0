"""The figure of the learning curves of a run, for plotly."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bo_suite.errors import StorageError, TrialError
from bo_suite.pages.drawing import COLORS, new_figure
from bo_suite.plot.convergence import value_axis
from bo_suite.plot.reports import LOG_FROM, Reports
from bo_suite.report.axes import name_text
from bo_suite.report.figures import LEGEND
from bo_suite.storage.goals import VALUE
from bo_suite.storage.serialization import restored
from bo_suite.storage.trial import Header, State, Trial

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

_MOST_RUNGS = 12
"""Most rungs that are drawn."""

_LINES: dict[State, dict[str, Any]] = {
    "stopped": {"color": COLORS[7], "width": 1},
    "paused": {"color": COLORS[2], "width": 1.3, "dash": "dashdot"},
    "failed": {"color": COLORS[4], "width": 1.3, "dash": "dot"},
    "running": {"color": COLORS[3], "width": 1.5, "dash": "dash"},
    "finished": {"color": COLORS[1], "width": 1.3},
}
"""Lines of each fate; later ones are drawn over earlier ones."""


def curves_facts(trials: Sequence[Trial], header: Header) -> dict[str, Any] | None:
    """The figure of the learning curves, and how many steps were spent; None if no trial has reported."""
    try:
        scheduler = None if header.scheduler is None else restored(header.scheduler, "a scheduler")
    except StorageError:  # it is from outside the package: its rungs are not known
        scheduler = None
    try:
        reports = Reports.among(trials, header.space, header.goals, scheduler)
    except TrialError:
        return None
    count = len(reports.reporting)
    return {
        "figure": _figure(reports),
        "trials": count,
        "steps": reports.spent,
        "whole": count * reports.max_step,
        "rungs": 0 < len(reports.rungs()) <= _MOST_RUNGS,
    }


def _figure(reports: Reports) -> "Figure":
    """One line for each fate, with gaps between trials, and the best trial in red."""
    from plotly.graph_objects import Scatter

    figure, best = new_figure(380), reports.best
    for state, line in _LINES.items():
        trials = [one for one in reports.trials if one.state == state and one is not best]
        curves = [(one.id, *reports.curve(one)) for one in trials]
        curves = [curve for curve in curves if curve[1]]
        if curves:
            x = [at for _, steps, _ in curves for at in (*steps, None)]
            y = [value for _, _, values in curves for value in (*values, None)]
            numbers = [number for number, steps, _ in curves for _ in (*steps, None)]
            figure.add_trace(
                Scatter(
                    x=x,
                    y=y,
                    customdata=numbers,
                    mode="lines+markers" if state in ("stopped", "paused") else "lines",
                    marker={"size": 3},
                    line=line,
                    name=f"{state} ({len(curves)})",
                    hovertemplate="trial %{customdata}, step %{x}: %{y:.6g}<extra></extra>",
                )
            )
    if best is not None:
        steps, values = reports.curve(best)
        figure.add_trace(
            Scatter(
                x=steps,
                y=values,
                mode="lines+markers" if len(steps) == 1 else "lines",
                line={"color": COLORS[0], "width": 3},
                name=f"best, trial {best.id}",
                hovertemplate=f"trial {best.id}, step %{{x}}: %{{y:.6g}}<extra></extra>",
            )
        )
    _scale(figure, reports)
    return figure


def _scale(figure: "Figure", reports: Reports) -> None:
    """The axes, with the rungs as ticks that have grid lines."""
    drawn = [value for trial in reports.trials for value in reports.curve(trial)[1]]
    axis = value_axis([reports.sign * value for value in drawn], reports.sign)
    title = "Value" if reports.name == VALUE else name_text(reports.name)
    figure.update_yaxes(title={"text": title, "standoff": 8}, exponentformat="power")
    if axis.log:
        figure.update_yaxes(type="log")
    if axis.limits is not None:
        figure.update_yaxes(range=list(axis.limits))
    figure.update_xaxes(title={"text": "Step", "standoff": 6})
    rungs, last = reports.rungs(), reports.max_step
    if last >= LOG_FROM * reports.first:
        figure.update_xaxes(type="log")
    if 0 < len(rungs) <= _MOST_RUNGS:
        ticks = [*rungs, last]
        figure.update_xaxes(tickvals=ticks, ticktext=[str(step) for step in ticks], showgrid=True)
    figure.update_layout(legend=LEGEND)
