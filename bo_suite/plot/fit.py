"""A sparse process of one input, and how it was fitted."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.plot.style import INK, MIST, RED, draw_process, new_figure
from bo_suite.surrogates.sparse import SparseProcess

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_fit(
    process: SparseProcess, x: Tensor, y: Tensor, *, truth: Callable[[Tensor], Tensor] | None = None
) -> "Figure":
    """A sparse process of one input: mean and two standard deviations, inducing inputs, and the fit's losses.

    The dark band is of the latent function, the light one of observations. Ticks below are the inducing
    inputs as they were chosen, and as fitted, each with a line from where it was to where it went.

    Args:
        process: of one replicate and one input; its trace, if it has one, shows how it was fitted.
        x: observed inputs (n, 1).
        y: outcomes (n,), on the process's scale.
        truth: from rows (m, 1) to values (m,), on the process's device and scale; drawn where given.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: inputs of several columns, outcomes that do not match, replicates or fantasies.
    """
    if x.shape[1:] != (1,) or y.shape != x.shape[:1] or process.linear.ndim != 1:
        raise DataError(
            "x must be (n, 1), y (n,) and the inducing values (m,), of one replicate, got "
            f"{tuple(x.shape)}, {tuple(y.shape)} and {tuple(process.linear.shape)}"
        )
    x, y = x.cpu(), y.cpu()
    margin = 0.08 * (float(x.max() - x.min()) or 1.0)
    low, high = float(x.min()) - margin, float(x.max()) + margin
    dtype, device = process.inducing.dtype, process.inducing.device
    at = torch.linspace(low, high, 400, dtype=dtype, device=device)[:, None]
    ratios = (5.0, 1.2) if process.trace is None else (5.0, 1.2, 2.0)
    figure, panels = new_figure(len(ratios), width=8.0, height=0.7 * sum(ratios), ratios=ratios)
    axes, rows, *rest = panels[:, 0]
    axes.plot(x[:, 0], y, ".", color=MIST, markersize=4, label="observation", zorder=1)
    if truth is not None:
        axes.plot(at[:, 0].cpu(), truth(at).cpu(), color=INK, linestyle="--", linewidth=1.2, label="truth")
    draw_process(axes, process, at)
    handles = axes.get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    axes.set_ylabel("y")
    title = f"{len(y)} observations, {process.inducing.shape[0]} inducing inputs"
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelbottom=False)
    _draw_inducing(rows, process)
    for part in (axes, rows):
        part.set_xlim(low, high)
    for part in rest:
        _draw_losses(part, process)
    figure.align_ylabels()
    return figure


def _draw_inducing(axes: "Axes", process: SparseProcess) -> None:
    """Inducing inputs as ticks, those before the fit above those after it, and the ways between."""
    fitted = process.inducing[:, 0].cpu()
    sets = [("fitted", fitted, RED)]
    if process.trace is not None:
        initial = process.trace.initial[:, 0].cpu()
        sets.append(("chosen", initial, INK))
        _draw_ways(axes, initial, fitted)
    for height, (_, inputs, color) in enumerate(sets):
        axes.plot(inputs, [height] * len(inputs), "|", color=color, markersize=12, mew=1.8)
    axes.set_yticks(range(len(sets)), [name for name, _, _ in sets], fontsize=9)
    axes.set_ylim(-0.5, len(sets) - 0.5)
    axes.set(xlabel="x", ylabel="inducing")


def _draw_ways(axes: "Axes", initial: Tensor, fitted: Tensor) -> None:
    """A line from each inducing input as chosen to the same as fitted."""
    from matplotlib.collections import LineCollection

    ways = [((start, 1.0), (end, 0.0)) for start, end in zip(initial.tolist(), fitted.tolist(), strict=True)]
    axes.add_collection(LineCollection(ways, colors=MIST, linewidths=1.0, zorder=1))


def _draw_losses(axes: "Axes", process: SparseProcess) -> None:
    """Negative bounds, those of the first steps cut off where they would squash the others."""
    from matplotlib.ticker import MaxNLocator

    assert process.trace is not None, "only what was traced is drawn"
    losses = process.trace.losses.cpu()
    axes.plot(range(1, len(losses) + 1), losses, color=INK, linewidth=1.2)
    settled = losses[len(losses) // 10 :]
    span = float(settled.max() - settled.min()) or 1.0
    axes.set_ylim(float(settled.min()) - 0.08 * span, float(settled.max()) + 0.3 * span)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step of the fit", ylabel="- bound")
    axes.grid(axis="y", color="0.92", linewidth=0.8)
