"""A sparse process of one input, and how it was fitted."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.errors import DataError
from bo_suite.surrogates.sparse import SparseProcess

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EVALUATION, _BEST, _FAILED = "#9fb1c4", "#c8324a", "#303030"


def plot_fit(process: SparseProcess, x: Tensor, y: Tensor) -> "Figure":
    """A sparse process of one input: mean and two standard deviations, inducing inputs, and the fit's losses.

    The dark band is of the latent function, the light one of observations. Ticks below are the inducing
    inputs as they were chosen, and as fitted.

    Args:
        process: of one replicate; its trace, if it has one, shows how it was fitted.
        x: observed inputs (n, 1).
        y: outcomes (n,), on the process's scale.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: inputs of several columns, or replicates.
    """
    from matplotlib.figure import Figure

    if x.ndim != 2 or x.shape[-1] != 1 or process.inducing.ndim != 2:
        raise DataError(f"x must be (n, 1), of one replicate, got {tuple(x.shape)}")
    x, y = x.cpu(), y.cpu()
    margin = 0.08 * float(x.max() - x.min())
    low, high = float(x.min()) - margin, float(x.max()) + margin
    grid = torch.linspace(low, high, 400, dtype=process.inducing.dtype, device=process.inducing.device)
    with torch.no_grad():
        mean, var = (part.cpu() for part in process.mean_and_var(grid[:, None]))
    at = grid.cpu()
    figure = Figure(figsize=(8.4, 5.2), dpi=110, layout="constrained")
    traced = process.trace is not None
    axes, rows, *rest = figure.subplots(
        3 if traced else 2, 1, height_ratios=(5, 0.8, 2) if traced else (5, 0.8)
    )
    latent, outer = 2.0 * var.sqrt(), 2.0 * (var + process.noise.cpu()).sqrt()
    axes.plot(x[:, 0], y, ".", color=_EVALUATION, markersize=3, label="observation", zorder=1)
    axes.fill_between(at, mean - outer, mean + outer, color=_BEST, alpha=0.12, linewidth=0)
    axes.fill_between(at, mean - latent, mean + latent, color=_BEST, alpha=0.28, linewidth=0)
    axes.plot(at, mean, color=_BEST, linewidth=1.6, label="mean, and two standard deviations")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=9)
    axes.set_ylabel("y")
    axes.set_title(
        f"{len(y)} observations, {process.inducing.shape[0]} inducing inputs", loc="left", fontsize=10
    )
    _draw_inducing(rows, process)
    for part in (axes, rows):
        part.set_xlim(low, high)
    axes.tick_params(labelbottom=False)
    rows.set_xlabel("x")
    for part in rest:
        _draw_losses(part, process)
    for part in (axes, rows, *rest):
        part.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_inducing(axes: "Axes", process: SparseProcess) -> None:
    """Inducing inputs as ticks, those before the fit above those after it."""
    sets = [("fitted", process.inducing, _BEST)]
    if process.trace is not None:
        sets.append(("chosen", process.trace.initial, _FAILED))
    for height, (_, inputs, color) in enumerate(sets):
        axes.plot(inputs[:, 0].cpu(), [height] * len(inputs), "|", color=color, markersize=11, mew=1.5)
    axes.set_yticks(range(len(sets)), [f"inducing, {name}" for name, _, _ in sets], fontsize=8)
    axes.set_ylim(-0.7, len(sets) - 0.3)


def _draw_losses(axes: "Axes", process: SparseProcess) -> None:
    """Negative bounds, those of the first steps cut off where they would squash the others."""
    from matplotlib.ticker import MaxNLocator

    assert process.trace is not None, "only what was traced is drawn"
    losses = process.trace.losses.cpu()
    axes.plot(range(1, len(losses) + 1), losses, color=_FAILED, linewidth=1.2)
    settled = losses[len(losses) // 10 :]
    span = float(settled.max() - settled.min()) or 1.0
    axes.set_ylim(float(settled.min()) - 0.08 * span, float(settled.max()) + 0.3 * span)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="evaluation", ylabel="-bound")
    axes.grid(axis="y", color="0.92", linewidth=0.8)
