"""The steps of the knowledge gradient, for one candidate of one input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.acquisition.simulation import Simulation
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Process

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST, _INK = "#c8324a", "#303030"

_DRAWN = 8
"""Simulated outcomes drawn at most: more curves can not be told apart."""


def plot_simulation(
    simulation: Simulation,
    x: Tensor,
    y: Tensor,
    *,
    before: Process | None = None,
    truth: Callable[[Tensor], Tensor] | None = None,
) -> "Figure":
    """The Monte Carlo knowledge gradient step by step, a panel each.

    The predictive mean, with two standard deviations of an observation; its minimum tau_n; outcomes simulated
    at the candidate, and the mean given each of them; the minima tau^(m) of these, enlarged, and the average
    of tau_n - tau^(m). The first eight outcomes are drawn, the darker the lower; the average is of all.

    Args:
        simulation: of one replicate and one input.
        x: observed inputs (n, 1).
        y: outcomes (n,), on the process's scale.
        before: the process before hyperparameters were estimated, for a panel in front.
        truth: from rows (m, 1) to the values (m,) of what was observed, on the process's scale.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: inputs of several columns, or replicates.
    """
    from matplotlib.figure import Figure

    if y.ndim != 1 or x.shape != (len(y), 1) or simulation.candidate.shape != (1,):
        raise DataError(
            "x must be (n, 1), y (n,) and the candidate (1,), of one replicate, got "
            f"{tuple(x.shape)}, {tuple(y.shape)} and {tuple(simulation.candidate.shape)}"
        )
    scene = _scene(simulation, x, y, truth)
    columns = 2 if before is None else 3
    figure = Figure(figsize=(4.2 * columns, 6.8), dpi=110, layout="constrained")
    panels = list(figure.subplots(2, columns).flat)
    spare = None if before is None else panels.pop()
    for axes in panels:
        axes.set(xlim=(0.0, 1.0), ylim=_limits(scene), xlabel="x", ylabel="y")
        axes.spines[["top", "right"]].set_visible(False)
        _draw_data(axes, scene)
    if before is not None:
        _draw_band(panels[0], scene.at, _moments(before, scene.at))
        _entitle(panels[0], "before hyperparameters are estimated")
    fit, minimum, outcomes, minima = panels[-4:]
    _draw_fit(fit, scene)
    _draw_minimum(minimum, scene)
    _draw_outcomes(outcomes, scene)
    _draw_minima(minima, scene)
    _draw_legend(figure, panels, spare)
    return figure


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is drawn, on the CPU; of the first outcomes, in ascending order, each with its colour."""

    at: Tensor
    x: Tensor
    y: Tensor
    truth: Tensor | None
    fitted: tuple[Tensor, Tensor]
    simulation: Simulation
    outcomes: Tensor
    means: Tensor
    minima: Tensor
    minimizers: Tensor
    colors: list[tuple[float, ...]]


def _scene(simulation: Simulation, x: Tensor, y: Tensor, truth: Callable[[Tensor], Tensor] | None) -> _Scene:
    """Everything that is evaluated, on a grid over the box."""
    from matplotlib import colormaps

    row = simulation.candidate[None]
    at = torch.linspace(0.0, 1.0, 400, dtype=row.dtype, device=row.device)
    shown = simulation.outcomes[:_DRAWN].argsort()
    outcomes = simulation.outcomes[shown]
    with torch.no_grad():
        means = simulation.process.condition(row, outcomes[:, None]).mean(at[:, None])
        values = None if truth is None else truth(at[:, None]).cpu()
    shades = torch.linspace(0.0, 0.85, len(shown)).tolist()
    return _Scene(
        at.cpu(),
        x[:, 0].cpu(),
        y.cpu(),
        values,
        _moments(simulation.process, at),
        simulation,
        outcomes.cpu(),
        means.cpu(),
        simulation.minima[shown].cpu(),
        simulation.minimizers[shown, 0].cpu(),
        [colormaps["cividis"](shade) for shade in shades],
    )


def _moments(process: Process, at: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and standard deviation of an observation."""
    with torch.no_grad():
        mean, var = process.mean_and_var(at.to(process.noise)[:, None])
        return mean.cpu(), (var + process.noise).sqrt().cpu()


def _limits(scene: _Scene) -> tuple[float, float]:
    """The axis of y, by what belongs to the fitted process."""
    mean, std = scene.fitted
    ends = torch.cat((scene.y, scene.outcomes, mean - 2.0 * std, mean + 2.0 * std))
    margin = 0.04 * float(ends.max() - ends.min())
    return float(ends.min()) - margin, float(ends.max()) + margin


def _draw_data(axes: "Axes", scene: _Scene) -> None:
    """Observations, and the truth behind them."""
    axes.plot(scene.x, scene.y, "o", color=_INK, markersize=4, label="observation", zorder=3)
    if scene.truth is not None:
        axes.plot(scene.at, scene.truth, ":", color=_INK, linewidth=0.9, label="truth")


def _draw_band(axes: "Axes", at: Tensor, moments: tuple[Tensor, Tensor]) -> None:
    """Mean, and two standard deviations of an observation."""
    mean, std = moments
    label = "two standard deviations"
    axes.fill_between(
        at, mean - 2.0 * std, mean + 2.0 * std, color=_BEST, alpha=0.16, linewidth=0, label=label
    )
    axes.plot(at, mean, color=_BEST, linewidth=1.8, label="predictive mean")


def _draw_fit(axes: "Axes", scene: _Scene) -> None:
    """The process that the simulation began with."""
    _draw_band(axes, scene.at, scene.fitted)
    _entitle(axes, f"predictive of {len(scene.y)} observations")


def _draw_minimum(axes: "Axes", scene: _Scene) -> None:
    """Its mean, with the minimum tau_n."""
    axes.plot(scene.at, scene.fitted[0], color=_BEST, linewidth=1.8)
    _mark(axes, float(scene.simulation.minimizer[0]), float(scene.simulation.minimum), _BEST)
    _entitle(axes, rf"predictive minimum $\tau_n = {float(scene.simulation.minimum):.4g}$")


def _draw_outcomes(axes: "Axes", scene: _Scene) -> None:
    """Outcomes at the candidate, and the means given them."""
    candidate = float(scene.simulation.candidate[0])
    shown, count = len(scene.outcomes), len(scene.simulation.outcomes)
    _draw_means(axes, scene)
    for outcome, color in zip(scene.outcomes.tolist(), scene.colors, strict=True):
        axes.plot(candidate, outcome, "o", color=color, markersize=6, zorder=4, label="simulated outcome")
    _entitle(axes, f"{shown} of {count} outcomes simulated at x = {candidate:.3g}")


def _draw_minima(axes: "Axes", scene: _Scene) -> None:
    """The minima of these means, enlarged, and the estimate."""
    simulation = scene.simulation
    _draw_means(axes, scene)
    for place, minimum, color in zip(
        scene.minimizers.tolist(), scene.minima.tolist(), scene.colors, strict=True
    ):
        _mark(axes, place, minimum, color)
    _mark(axes, float(simulation.minimizer[0]), float(simulation.minimum), _BEST)
    _enlarge(axes, scene)
    count = len(simulation.minima)
    error = f" ± {float(simulation.standard_error):.2g}" if count > 1 else ""
    _entitle(axes, f"knowledge gradient {float(simulation.value):.3g}{error}")


def _enlarge(axes: "Axes", scene: _Scene) -> None:
    """Leaves of the panel what is about the minima and the candidate."""
    simulation = scene.simulation
    levels = torch.cat((scene.minima, simulation.minimum.cpu()[None]))
    span = max(float(levels.max() - levels.min()), 0.05 * float(scene.y.max() - scene.y.min()))
    axes.set_ylim(float(levels.min()) - 0.4 * span, float(levels.max()) + 1.4 * span)
    places = torch.cat((scene.minimizers, simulation.minimizer.cpu(), simulation.candidate.cpu()))
    axes.set_xlim(max(float(places.min()) - 0.1, 0.0), min(float(places.max()) + 0.1, 1.0))


def _draw_means(axes: "Axes", scene: _Scene) -> None:
    """The candidate, the mean before, and the means given the outcomes."""
    axes.axvline(
        float(scene.simulation.candidate[0]), color="0.6", linewidth=1.2, label="candidate", zorder=1
    )
    axes.plot(scene.at, scene.fitted[0], color=_BEST, linewidth=1.8, zorder=2.5)
    for mean, color in zip(scene.means, scene.colors, strict=True):
        axes.plot(scene.at, mean, color=color, linewidth=1.1, label="mean given an outcome")


def _mark(axes: "Axes", place: float, level: float, color: str | tuple[float, ...]) -> None:
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


def _draw_legend(figure: "Figure", panels: list["Axes"], spare: "Axes | None") -> None:
    """One entry a label, in the spare panel or else below all."""
    pairs = [pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in reversed(pairs)}
    labels = list(dict.fromkeys(label for _, label in pairs))
    handles = [entries[label] for label in labels]
    if spare is None:
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    else:
        spare.axis("off")
        spare.legend(handles, labels, loc="center", frameon=False, labelspacing=0.9)
