"""The figure of trials as lines over parameters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bo_suite.pages.drawing import COLORS, new_figure
from bo_suite.plot.run import ParameterAxis, axis_of
from bo_suite.report.axes import name_text, value_text
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import ranked

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

MOST_LINES = 200
"""Most trials that are lines over parameters."""

_BINS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#d3c52b")
"""Colours of lines from the best to the worst: those of the contour, dark enough for a white page."""


def parallel_figure(trials: Sequence[Trial], direction: str, space: Space, names: Sequence[str]) -> "Figure":
    """The best trials as lines over parameters, each on its own scale, dark if they are good."""
    from plotly.graph_objects import Scatter

    shown = ranked(trials, direction, space)[:MOST_LINES][::-1]
    axes = [axis_of(space, name) for name in names]
    heights = [[float(axis.parameter.encode(trial.params[axis.name])) for axis in axes] for trial in shown]
    figure = new_figure(380)
    bins = np.linspace(len(_BINS) - 1e-9, 0.0, len(shown)).astype(int) if len(shown) != 1 else [0]
    for group in range(len(_BINS) - 1, -1, -1):
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for trial, row, its in zip(shown, heights, bins, strict=True):
            if its == group:
                x += [*range(len(axes)), None]
                y += [*row, None]
                said = f"trial {trial.id}: {trial.value:.6g}"
                texts += [
                    *(
                        f"{said}, {name_text(axis.name)} = {value_text(trial.params[axis.name])}"
                        for axis in axes
                    ),
                    "",
                ]
        if x:
            figure.add_trace(
                Scatter(
                    x=x,
                    y=y,
                    text=texts,
                    mode="lines+markers",
                    line={"color": _BINS[group], "width": 2.2 - 0.25 * group},
                    marker={"size": 4},
                    opacity=1.0 - 0.12 * group,
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


def _ticks(axis: ParameterAxis) -> list[tuple[float, str]]:
    """Positions and texts of the ends and the middle of a parameter, or of its options."""
    parameter = axis.parameter
    if isinstance(parameter, Choice):
        options = parameter.options[:: -(-parameter.levels // 8)]
        return [(parameter.encode(option), value_text(option)) for option in options]
    values = list(dict.fromkeys(parameter.decode(position) for position in (0.0, 0.5, 1.0)))
    return [(float(parameter.encode(value)), value_text(value)) for value in values]  # type: ignore[arg-type]
