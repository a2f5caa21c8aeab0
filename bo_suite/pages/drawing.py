"""Figures of pages, for plotly: they can be zoomed, and show the values under the pointer."""

import html
from typing import TYPE_CHECKING

from bo_suite.values.describe import visible

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

COLORS = ("#d0333f", "#1f77b4", "#c06a0a", "#2a8f3c", "#8d66c0", "#8a6a3a", "#cc4f9c", "#7b7f86")
"""Legible as lines on white and on black."""


def new_figure(height: int) -> "Figure":
    """A figure without traces, legible on white and on black."""
    from plotly.graph_objects import Figure

    axis = {
        "automargin": True,
        "gridcolor": "#e4e6ea",
        "linecolor": "#8b8f97",
        "zeroline": False,
        "nticks": 7,
    }
    return Figure(
        layout={
            "template": {},
            "height": height,
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 12},
            "hovermode": "closest",
            "xaxis": axis | {"showgrid": False, "showline": True, "ticks": "outside"},
            "yaxis": axis,
        }
    )


def literal(text: str) -> str:
    """The text for plotly, which reads a subset of HTML."""
    return html.escape(visible(text), quote=False)


def plotly_script() -> str:
    """The script that draws figures.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("a report needs plotly: pip install 'bo-suite[report]'") from error
    return str(get_plotlyjs())
