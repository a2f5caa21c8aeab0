"""The steps of the knowledge gradient, for one candidate of one input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.acquisition.simulation import Simulation
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.plot.style import INK, LINES, RED, LineStyle, draw_process, legend_entries, new_figure
from bo_suite.surrogates.process import Process

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DRAWN = 8
"""Simulated outcomes drawn at most: more curves can not be told apart."""


def plot_simulation(
    simulation: Simulation,
    x: Tensor,
    y: Tensor,
    *,
    before: Process | None = None,
    truth: Callable[[Tensor], Tensor] | None = None,
    panels: Sequence[str] = (),
    bounds: tuple[float, float] = (0.0, 1.0),
) -> "Figure":
    """The Monte Carlo knowledge gradient step by step, a panel each.

    "before": the process before hyperparameters were estimated. "fit": the predictive mean, with two
    standard deviations of the function and of an observation. "minimum": its minimum tau_n. "outcomes":
    those simulated at the candidate, and the mean given each of them. "minima": the minima tau^(m) of these,
    enlarged, and the average of tau_n - tau^(m). The first eight outcomes are drawn, the darker the lower;
    the average is of all.

    Args:
        simulation: of one replicate and one input.
        x: observed inputs (n, 1), encoded.
        y: outcomes (n,), on the process's scale.
        before: for the panel of that name.
        truth: from rows (m, 1), encoded, to the values (m,) of what was observed, on the process's scale.
        panels: which of them, in their order; when empty, all, "before" only where it is given.
        bounds: what 0 and 1 stand for on the axis of x.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: inputs of several columns, replicates, or panels that cannot be drawn.
    """
    if y.ndim != 1 or x.shape != (len(y), 1) or simulation.candidate.shape != (1,):
        raise DataError(
            "x must be (n, 1), y (n,) and the candidate (1,), of one replicate, got "
            f"{tuple(x.shape)}, {tuple(y.shape)} and {tuple(simulation.candidate.shape)}"
        )
    known = tuple(name for name in _DRAW if before is not None or name != "before")
    names = tuple(panels) or known
    if not set(names) <= set(known):
        raise DataError(f"panels must be among {known}, got {names}")
    scene = _scene(simulation, x, y, before, truth, bounds)
    figure, axes = _grid(len(names))
    for name, pane in zip(names, axes, strict=False):
        pane.set(xlim=bounds, ylim=scene.limits, xlabel="x", ylabel="y")
        _draw_data(pane, scene)
        _DRAW[name](pane, scene)
    _draw_legend(figure, 3 if len(names) > 1 else 4, axes[-1] if len(axes) > len(names) else None)
    return figure


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is drawn, on the CPU; of the first outcomes, in ascending order, each with its colour."""

    rows: Tensor
    at: Tensor
    x: Tensor
    y: Tensor
    truth: Tensor | None
    before: Process | None
    limits: tuple[float, float]
    mean: Tensor
    simulation: Simulation
    candidate: float
    minimizer: float
    outcomes: Tensor
    means: Tensor
    minima: Tensor
    minimizers: Tensor
    styles: list[LineStyle]
    bounds: tuple[float, float]


def _scene(
    simulation: Simulation,
    x: Tensor,
    y: Tensor,
    before: Process | None,
    truth: Callable[[Tensor], Tensor] | None,
    bounds: tuple[float, float],
) -> _Scene:
    """Everything that is evaluated, on a grid over the box."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    process, row = simulation.process, simulation.candidate[None]
    rows = torch.linspace(0.0, 1.0, 400, dtype=row.dtype, device=row.device)[:, None]
    shown = simulation.outcomes[:_DRAWN].argsort()
    outcomes = simulation.outcomes[shown]
    with torch.no_grad():
        values = None if truth is None else truth(rows).cpu()
    with numerical_environment(), torch.no_grad():
        means = process.condition(row, outcomes[:, None]).mean(rows)
        mean, var = process.mean_and_var(rows)
        reach = 2.0 * (var + process.noise).sqrt()
    ends = torch.cat((y.to(mean), outcomes, mean - reach, mean + reach))
    margin = 0.04 * float(ends.max() - ends.min())
    shades = torch.linspace(0.0, 0.85, len(shown), dtype=torch.float32, device="cpu").tolist()
    return _Scene(
        rows,
        _user(rows[:, 0], bounds),
        _user(x[:, 0], bounds),
        y.cpu(),
        values,
        before,
        (float(ends.min()) - margin, float(ends.max()) + margin),
        mean.cpu(),
        simulation,
        float(_user(simulation.candidate[0], bounds)),
        float(_user(simulation.minimizer[0], bounds)),
        outcomes.cpu(),
        means.cpu(),
        simulation.minima[shown].cpu(),
        _user(simulation.minimizers[shown, 0], bounds),
        [
            LineStyle(to_hex(colormaps["cividis"](shade)), line.dashes, "o")
            for shade, line in zip(shades, (*LINES, *LINES), strict=False)
        ],
        bounds,
    )


def _user(places: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Encoded places on the axis of x."""
    return bounds[0] + (bounds[1] - bounds[0]) * places.detach().cpu()


def _draw_data(axes: "Axes", scene: _Scene) -> None:
    """Observations, and the truth behind them."""
    axes.plot(scene.x, scene.y, "o", color=INK, markersize=4, label="observation", zorder=3)
    if scene.truth is not None:
        axes.plot(scene.at, scene.truth, ":", color=INK, linewidth=1.1, label="truth")


def _draw_before(axes: "Axes", scene: _Scene) -> None:
    """The process of other hyperparameters."""
    assert scene.before is not None, "checked before"
    draw_process(axes, scene.before, scene.rows, at=scene.at)
    _entitle(axes, "before hyperparameters are estimated")


def _draw_fit(axes: "Axes", scene: _Scene) -> None:
    """The process that the simulation began with."""
    draw_process(axes, scene.simulation.process, scene.rows, at=scene.at)
    _entitle(axes, f"predictive of {len(scene.y)} observations")


def _draw_minimum(axes: "Axes", scene: _Scene) -> None:
    """Its mean, with the minimum tau_n."""
    axes.plot(scene.at, scene.mean, color=RED, linewidth=1.8, label="predictive mean")
    _mark(axes, scene.minimizer, float(scene.simulation.minimum), RED)
    _entitle(axes, rf"predictive minimum $\tau_n = {float(scene.simulation.minimum):.4g}$")


def _draw_outcomes(axes: "Axes", scene: _Scene) -> None:
    """Outcomes at the candidate, and the means given them."""
    shown, count = len(scene.outcomes), len(scene.simulation.outcomes)
    _draw_means(axes, scene)
    for outcome, style in zip(scene.outcomes.tolist(), scene.styles, strict=True):
        axes.plot(
            scene.candidate,
            outcome,
            "o",
            color=style.color,
            markersize=6,
            zorder=4,
            label="simulated outcome",
        )
    _entitle(axes, f"{_of(shown, count)} simulated at x = {scene.candidate:.3g}")


def _of(shown: int, count: int) -> str:
    """How many outcomes are drawn."""
    if shown < count:
        return f"{shown} of {count} outcomes"
    return "1 outcome" if count == 1 else f"{count} outcomes"


def _draw_minima(axes: "Axes", scene: _Scene) -> None:
    """The minima of these means, enlarged, and the estimate."""
    simulation = scene.simulation
    _draw_means(axes, scene)
    for place, minimum, style in zip(
        scene.minimizers.tolist(), scene.minima.tolist(), scene.styles, strict=True
    ):
        _mark(axes, place, minimum, style.color)
    _mark(axes, scene.minimizer, float(simulation.minimum), RED)
    _enlarge(axes, scene)
    count = len(simulation.minima)
    error = f" ± {float(simulation.standard_error):.2g}" if count > 1 else ""
    _entitle(axes, f"knowledge gradient {float(simulation.value):.3g}{error}")


_DRAW = {
    "before": _draw_before,
    "fit": _draw_fit,
    "minimum": _draw_minimum,
    "outcomes": _draw_outcomes,
    "minima": _draw_minima,
}


def _enlarge(axes: "Axes", scene: _Scene) -> None:
    """Leaves of the panel what is about the minima and the candidate."""
    simulation, (low, high) = scene.simulation, scene.bounds
    levels = torch.cat((scene.minima, simulation.minimum.cpu()[None]))
    span = max(float(levels.max() - levels.min()), 0.05 * float(scene.y.max() - scene.y.min()))
    axes.set_ylim(float(levels.min()) - 0.4 * span, float(levels.max()) + 1.4 * span)
    places = [*scene.minimizers.tolist(), scene.minimizer, scene.candidate]
    margin = 0.1 * (high - low)
    axes.set_xlim(max(min(places) - margin, low), min(max(places) + margin, high))


def _draw_means(axes: "Axes", scene: _Scene) -> None:
    """The candidate, the mean before, and the means given the outcomes."""
    axes.axvline(scene.candidate, color="0.6", linewidth=1.2, label="candidate", zorder=1)
    axes.plot(scene.at, scene.mean, color=RED, linewidth=1.8, zorder=2.5, label="predictive mean")
    for mean, style in zip(scene.means, scene.styles, strict=True):
        axes.plot(
            scene.at,
            mean,
            color=style.color,
            linestyle=style.dashes,
            linewidth=1.3,
            label="mean given an outcome",
        )


def _mark(axes: "Axes", place: float, level: float, color: str) -> None:
    """A minimum: a dashed line at its level, a star at its place, and a triangle below on the axis."""
    axes.axhline(level, color=color, linewidth=1.0, linestyle="--", zorder=1.5)
    across = axes.get_xaxis_transform()
    (star,) = axes.plot(place, level, "*", color=color, markersize=12, zorder=5, label="minimum")
    (below,) = axes.plot(
        place, 0.0, "^", color=color, markersize=8, zorder=5, transform=across, clip_on=False
    )
    for marker in (star, below):
        marker.set(markeredgecolor="white", markeredgewidth=0.6)


def _entitle(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)


def _grid(count: int) -> tuple["Figure", list["Axes"]]:
    """A figure of one panel or of rows of two."""
    if count == 1:
        figure, panels = new_figure(height=3.8)
    else:
        rows = (count + 1) // 2
        figure, panels = new_figure(rows, 2, width=8.4, height=3.3 * rows + 0.4)
    return figure, list(panels.ravel())


def _draw_legend(figure: "Figure", columns: int, spare: "Axes | None") -> None:
    """One entry a label, in the spare panel or else in columns below all."""
    handles, labels = legend_entries(figure)
    if spare is None:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    else:
        spare.axis("off")
        spare.legend(handles, labels, loc="center", frameon=False, labelspacing=0.9)
