"""Figures of a run with several objectives, for plotly: its Pareto front, and the hypervolume over trials."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_suite.pages.drawing import COLORS, literal, new_figure
from bo_suite.plot.pareto import MOST, attained, axis_ends, coordinates, excluded_label
from bo_suite.plot.style import short_name
from bo_suite.plot.volume import volume_label
from bo_suite.report.axes import name_text
from bo_suite.report.figures import LEGEND, add_failures
from bo_suite.storage.goals import Objective
from bo_suite.storage.trial import Trial
from bo_suite.study.fronts import FrontTrials, HypervolumeCourse
from bo_suite.values.display import shown_value

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

_RED, _BLUE, _GREY = COLORS[0], COLORS[1], COLORS[7]


def front_figures(sorted_trials: FrontTrials) -> list[tuple[str, "Figure"]]:
    """Titles and figures of the front over each two of the first three objectives."""
    objectives = sorted_trials.goals.objectives[:MOST]
    return [
        (f"{across.name} and {up.name}", _front_figure(sorted_trials, (across, up)))
        for across, up in combinations(objectives, 2)
    ]


def _front_figure(sorted_trials: FrontTrials, pair: Sequence[Objective]) -> "Figure":
    from plotly.graph_objects import Scatter

    goals = sorted_trials.goals
    groups = (sorted_trials.excluded, sorted_trials.dominated, sorted_trials.front)
    points = [coordinates(trials, goals, pair) for trials in groups]
    figure = new_figure(380)
    everything, front = np.concatenate(points, axis=1), points[-1]
    if everything.shape[1]:
        signs = [objective.sign for objective in pair]
        axes = [axis_ends(everything[side], front[side], signs[side]) for side in (0, 1)]
        for side, (log, ends) in zip("xy", axes, strict=True):
            span = np.log10(ends).tolist() if log else list(ends)
            figure.update_layout({f"{side}axis": {"type": "log" if log else "linear", "range": span}})
        if front.shape[1]:
            x, y = attained(front, signs, [ends for _, ends in axes])
            line = {"color": _RED, "width": 2}
            figure.add_trace(Scatter(x=x, y=y, mode="lines", line=line, name="attained", hoverinfo="skip"))
    markers: tuple[dict[str, Any], ...] = (
        {"color": _GREY, "size": 7, "symbol": "circle-open"},
        {"color": _BLUE, "size": 7},
        {"color": _RED, "size": 10, "line": {"color": "white", "width": 1}},
    )
    labels = (excluded_label(sorted_trials), "dominated", "front")
    for trials, at, marker, label in zip(groups, points, markers, labels, strict=True):
        if trials:
            figure.add_trace(
                Scatter(
                    x=at[0],
                    y=at[1],
                    text=[hover_text(trial) for trial in trials],
                    mode="markers",
                    marker=marker,
                    name=label,
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    for side, objective in zip("xy", pair, strict=True):
        title = {"text": f"{name_text(objective.name)} ({objective.direction})", "standoff": 6}
        figure.update_layout({f"{side}axis": {"title": title, "exponentformat": "power"}})
    figure.update_layout(legend=LEGEND)
    return figure


def hover_text(trial: Trial) -> str:
    """The id and the outcomes of a trial as text for plotly."""
    outcomes = (trial.outcomes or {"value": trial.value}).items()
    shown = (f"{short_name(name)} {'nan' if one is None else shown_value(one)}" for name, one in outcomes)
    return literal(f"trial {trial.id}: {', '.join(shown)}")


def hypervolume_figure(sorted_trials: FrontTrials) -> "Figure":
    """The hypervolume of the feasible front after each feasible trial, others on the lower edge."""
    from plotly.graph_objects import Scatter

    course = HypervolumeCourse.of(sorted_trials)
    figure = new_figure(330)
    if course is not None:
        figure.add_trace(
            Scatter(
                x=list(course.ids),
                y=list(course.volumes),
                text=[hover_text(trial) for trial in sorted_trials.feasible],
                mode="lines+markers",
                line={"color": _RED, "width": 2, "shape": "hv"},
                marker={"color": _BLUE, "size": 7},
                name="hypervolume after a feasible trial",
                hovertemplate="%{text}<br>hypervolume %{y:.6g}<extra></extra>",
            )
        )
        title = "<br>".join(map(literal, volume_label(course)))
        figure.update_yaxes(title={"text": title.capitalize(), "standoff": 8}, exponentformat="power")
    add_failures(figure, [trial.id for trial in sorted_trials.failed])
    figure.update_xaxes(title={"text": "Trial", "standoff": 6})
    figure.update_layout(legend=LEGEND)
    return figure
