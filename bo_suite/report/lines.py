"""The figure of trials as lines over parameters."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bo_suite.pages.drawing import COLORS, new_figure
from bo_suite.plot.run import ParameterAxis, axis_of
from bo_suite.report.axes import name_text, value_text
from bo_suite.report.fronts import hover_text
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import ranked

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

MOST_LINES = 200
"""Most trials that are lines over parameters."""

_OPACITIES = (1.0, 0.85, 0.6, 0.45, 0.3, 0.2)
"""Opacities of lines from the best trial to the worst, legible on white and on black."""


def parallel_figure(trials: Sequence[Trial], goals: Goals, space: Space, names: Sequence[str]) -> "Figure":
    """The best trials as lines over parameters, each on its own scale; the best is red."""
    from plotly.graph_objects import Scatter

    shown = ranked(trials, goals, space)[:MOST_LINES]
    axes = [axis_of(space, name) for name in names]
    figure = new_figure(380)
    edges = np.linspace(1, max(len(shown), 1), len(_OPACITIES)).astype(int)
    groups = [shown[:1], *(shown[first:end] for first, end in pairwise(edges))]
    for group, opacity in reversed(list(zip(groups, _OPACITIES, strict=True))):
        x, y, texts = _polylines(group, axes)
        color = COLORS[0] if opacity == 1.0 else COLORS[1]
        figure.add_trace(
            Scatter(
                x=x,
                y=y,
                text=texts,
                mode="lines+markers",
                line={"color": color, "width": 1.0 + 1.5 * opacity},
                marker={"size": 4},
                opacity=opacity,
                hovertemplate="%{text}<extra></extra>",
            )
        )
    for column, axis in enumerate(axes):
        figure.add_vline(x=column, line={"color": COLORS[7], "width": 1}, layer="below")
        for position, text in _ticks(axis):
            figure.add_annotation(
                x=column, y=position, text=text, showarrow=False, xanchor="left", xshift=4, font={"size": 11}
            )
    figure.update_xaxes(
        tickvals=list(range(len(axes))),
        ticktext=[name_text(name) for name in names],
        range=[-0.2, len(axes) - 0.5],
        showline=False,
        ticks="",
    )
    figure.update_yaxes(visible=False, range=[-0.06, 1.06])
    figure.update_layout(showlegend=False)
    return figure


def _polylines(
    trials: Iterable[Trial], axes: Sequence[ParameterAxis]
) -> tuple[list[float | None], list[float | None], list[str]]:
    """Positions and texts of the points of all lines, with a gap after each and at inactive parameters."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        point = trial.params
        x += [*range(len(axes)), None]
        y += [*(_position(axis, point) for axis in axes), None]
        named = (f"{name_text(axis.name)} = {value_text(point.get(axis.name))}" for axis in axes)
        outcome = f"trial {trial.id}: {trial.value:.6g}" if trial.outcomes is None else hover_text(trial)
        texts += [*(f"{outcome}, {text}" for text in named), ""]
    return x, y, texts


def _position(axis: ParameterAxis, point: Params) -> float | None:
    """Where a point is on an axis; None if the parameter is inactive."""
    return float(axis.parameter.encode(point[axis.name])) if axis.name in point else None


def _ticks(axis: ParameterAxis) -> list[tuple[float, str]]:
    """Positions and texts of the ends and the middle of a parameter, or of its options."""
    parameter = axis.parameter
    if isinstance(parameter, Choice):
        options = parameter.options[:: -(-parameter.levels // 8)]
        return [(parameter.encode(option), value_text(option)) for option in options]
    values = list(dict.fromkeys(parameter.decode(position) for position in (0.0, 0.5, 1.0)))
    return [(float(parameter.encode(value)), value_text(value)) for value in values]  # type: ignore[arg-type]
