"""The style of all figures: no pyplot, lines that differ in grey too, and a process of one input.

Colour-blind readers can tell the colours apart, which differ in lightness. Colours that meet in one panel
have different dashes or markers. Letters have ten points in figures about seven inches wide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bo_suite.linalg.environment import numerical_environment
from bo_suite.surrogates.process import Process
from bo_suite.values.describe import visible

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

RED, INK, MIST, GOLD = "#c8324a", "#303030", "#9fb1c4", "#d9a441"
"""Best or fitted; true or fixed; observed; suggested."""


@dataclass(frozen=True)
class LineStyle:
    """Colour, dashes and marker of one of several lines in a panel."""

    color: str
    dashes: str | tuple[int, tuple[float, ...]]
    marker: str


LINES = (
    LineStyle(RED, "-", "o"),
    LineStyle("#0b3c5d", (0, (6, 2)), "s"),
    LineStyle("#e69f00", (0, (5, 1.5, 1, 1.5)), "^"),
    LineStyle("#3d8fc4", (0, (1, 1.2)), "D"),
    LineStyle("#00775a", (0, (9, 3)), "v"),
    LineStyle("#9467bd", (0, (3, 1, 1, 1, 1, 1)), "P"),
    LineStyle("#8c8c8c", (0, (2, 2)), "X"),
)
"""Styles of lines in one panel; the first is for the subject of the figure."""


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 7.2,
    height: float = 4.0,
    ratios: tuple[float, ...] | None = None,
) -> tuple["Figure", npt.NDArray[np.object_]]:
    """Make a figure and its axes (rows, columns), without boxes around them.

    Args:
        rows: number of rows of axes.
        columns: number of columns of axes.
        width: in inches; up to 8, letters are legible at half the size.
        height: in inches.
        ratios: of the heights of the rows; equal by default.

    Returns:
        The figure, which a notebook shows after `%matplotlib inline`, and an array of axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=ratios)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def draw_process(
    axes: "Axes",
    process: Process,
    x: Tensor,
    *,
    at: Tensor | None = None,
    style: LineStyle = LINES[0],
    label: str = "mean, and two standard deviations",
    inverse: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Draw the mean of a process of one input, with bands of two standard deviations.

    The dark band is for the function, the light one for an observation: 2 sqrt(var(x) + noise).

    Args:
        axes: the panel.
        process: of one replicate and one input.
        x: encoded rows (m, 1) in ascending order.
        at: their values on the axis (m,); the rows themselves by default.
        style: colour and dashes.
        label: of the mean, in the legend.
        inverse: increasing function from the process's scale to that of the axis, if they differ.
    """

    def height(value: Tensor) -> Tensor:
        return value.cpu() if inverse is None else inverse(value.cpu())

    with numerical_environment(), torch.no_grad():
        mean, var = process.mean_and_var(x.to(process.noise))
        latent, outer = 2.0 * var.sqrt(), 2.0 * (var + process.noise).sqrt()
    values = (x[:, 0] if at is None else at).cpu()
    for width, alpha in ((outer, 0.12), (latent, 0.24)):
        low, high = height(mean - width), height(mean + width)
        axes.fill_between(values, low, high, color=style.color, alpha=alpha, linewidth=0)
    axes.plot(values, height(mean), color=style.color, linestyle=style.dashes, linewidth=1.8, label=label)


def short_name(name: str, most: int = 26) -> str:
    """The name as a person sees it, without its middle if it has more than `most` letters."""
    shown = visible(name)
    return shown if len(shown) <= most else f"{shown[: most - 8]}…{shown[-7:]}"


def draw_name(text: "Text", name: str) -> None:
    """Show a user's name literally, whatever it means in mathtext, TeX or a terminal.

    matplotlib parses text between two dollar signs as mathematics, and with `text.usetex` all text as TeX.

    Args:
        text: a label, a title, an annotation or a legend entry.
        name: of a parameter, a method or a problem.
    """
    text.set_text(visible(name))
    text.set_parse_math(False)
    text.set_usetex(False)


def name_ticks(axis: "Axis", positions: Sequence[float], names: Sequence[str]) -> None:
    """Put ticks with users' names on an axis, literally as `draw_name` does."""
    axis.set_ticks(list(positions), labels=[visible(name) for name in names])
    for tick, name in zip(axis.get_ticklabels(), names, strict=True):
        draw_name(tick, name)


def plain_log_ticks(axis: "Axis") -> None:
    """Ticks at 1, 2, 5, 10, ... of a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def legend_entries(figure: "Figure") -> "tuple[list[Artist], list[str]]":
    """Return handles and labels of all panels, one for each label, in the order of drawing."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)


def legend_below(figure: "Figure", columns: int) -> None:
    """Draw one legend for all panels, below them."""
    figure.legend(*legend_entries(figure), loc="outside lower center", ncols=columns, frameon=False)
