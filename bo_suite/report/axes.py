"""What figures of a run share: the texts of names and values, and the axis of a parameter."""

from typing import TYPE_CHECKING, Any

from bo_suite.pages.drawing import literal
from bo_suite.plot.run import ParameterAxis, option_text
from bo_suite.plot.style import short_name
from bo_suite.space.parameters import Choice, Float, Int, Value

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

MOST_PARAMETERS = 12
"""Most parameters that slices and lines over parameters show."""

_LONGEST_NAME, _MOST_OPTIONS = 30, 12
"""Most letters of a name, and most options that are named beside an axis."""


def name_text(name: object) -> str:
    """The name of a parameter as text for plotly."""
    return literal(short_name(str(name), _LONGEST_NAME))


def value_text(value: Value) -> str:
    """A value as text for plotly."""
    return f"{value:.4g}" if isinstance(value, float) else literal(option_text(value))


def label_axis(figure: "Figure", axis: ParameterAxis, side: str) -> None:
    """Scale, ticks and name of one side of a figure, "x" or "y"."""
    settings: dict[str, Any] = {"title": {"text": name_text(axis.name), "standoff": 6}}
    parameter = axis.parameter
    if isinstance(parameter, Choice):
        shown = range(0, parameter.levels, -(-parameter.levels // _MOST_OPTIONS))
        settings |= {
            "tickvals": list(shown),
            "ticktext": [value_text(parameter.options[place]) for place in shown],
        }
        settings["range"] = [-0.6, parameter.levels - 0.4]
    elif isinstance(parameter, Float | Int) and parameter.log:
        settings |= {"type": "log", "exponentformat": "power"}
    figure.update_layout({f"{side}axis": settings})
