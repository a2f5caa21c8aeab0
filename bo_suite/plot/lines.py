"""The knowledge gradient over finitely many alternatives, as straight lines."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bo_suite.acquisition.lines import discrete_knowledge_gradient, upper_envelope
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.plot.style import INK, MIST, RED, new_figure
from bo_suite.surrogates.process import Process

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REACH = 3.0
"""Standard deviations of the outcome drawn, each way."""

_NAMED = 0.55
"""Width of a piece of the envelope, in standard deviations, that has room for a label."""


def plot_lines(
    process: Process,
    candidate: Tensor,
    alternatives: Tensor,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> "Figure":
    """The knowledge gradient over finitely many alternatives, as a picture of straight lines.

    Above: the mean at each alternative x after an observation at the candidate, a line mean(x) + slope(x) z
    in the standardised outcome z. The lowest line at each z is the envelope, which changes lines at the
    breakpoints. Below: how far the envelope is below tau_n, the smallest mean before, times the density of z;
    the area, less what lies below zero, is the knowledge gradient.

    Args:
        process: of one replicate and one input.
        candidate: where the next observation would be made (1,).
        alternatives: rows (j, 1) among which the smallest mean is sought, encoded.
        bounds: what 0 and 1 stand for in labels.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: inputs of several columns, or replicates.
    """
    if candidate.shape != (1,) or alternatives.shape[1:] != (1,) or process.noise.ndim:
        raise DataError(
            "candidate must be (1,), alternatives (j, 1) and the noise (), of one replicate, got "
            f"{tuple(candidate.shape)}, {tuple(alternatives.shape)} and {tuple(process.noise.shape)}"
        )
    with numerical_environment(), torch.no_grad():
        row = candidate[None]
        means = process.mean(alternatives)
        slopes = process.cov(alternatives, row)[:, 0] / (process.var(row)[0] + process.noise).sqrt()
        value = float(discrete_knowledge_gradient(-means, -slopes))
        chain = upper_envelope(-means, -slopes)
    chain = chain.cpu()
    breaks = (means[chain].diff() / -slopes[chain].diff()).cpu()
    z = torch.linspace(-_REACH, _REACH, 801, dtype=means.dtype, device="cpu")
    lines = (means[:, None] + slopes[:, None] * z.to(means)).cpu()
    envelope = lines.amin(0)
    places = bounds[0] + (bounds[1] - bounds[0]) * alternatives[chain, 0].cpu()
    figure, ((top,), (bottom,)) = new_figure(2, 1, height=5.8, ratios=(2.4, 1.0))
    top.tick_params(labelbottom=False)
    _draw_lines(top, z, lines, breaks)
    _name_pieces(top, z, envelope, breaks, places.tolist())
    gain = (means.min().cpu() - envelope) * torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    bottom.fill_between(z, gain, color=RED, alpha=0.24, linewidth=0)
    bottom.plot(z, gain, color=RED, linewidth=1.4)
    for place in breaks.tolist():
        if abs(place) < _REACH:
            bottom.axvline(place, color="0.7", linewidth=0.8, linestyle=":", zorder=1)
    bottom.set(
        xlabel="standardised outcome z at the candidate", ylabel="gain × density", xlim=(-_REACH, _REACH)
    )
    bottom.axhline(0.0, color=INK, linewidth=1.2, linestyle="--")
    bottom.set_title(
        f"the area, less what is below zero, is the knowledge gradient: {value:.4g}", loc="left", fontsize=10
    )
    return figure


def _draw_lines(axes: "Axes", z: Tensor, lines: Tensor, breaks: Tensor) -> None:
    """All lines thin, the envelope thick, its breakpoints as dots, and the smallest mean before."""
    envelope, before = lines.amin(0), lines[:, len(z) // 2]
    for place, line in enumerate(lines):
        label = "mean at an alternative" if place == 0 else None
        axes.plot(z, line, color=MIST, linewidth=0.8, zorder=1, label=label)
    axes.fill_between(z, envelope, float(before.min()), color=RED, alpha=0.14, linewidth=0)
    axes.plot(z, envelope, color=RED, linewidth=2.4, label="the lowest: envelope")
    axes.axhline(float(before.min()), color=INK, linewidth=1.2, linestyle="--", label=r"$\tau_n$")
    seen = breaks[breaks.abs() < _REACH]
    heights = torch.stack([envelope[(z - place).abs().argmin()] for place in seen]) if len(seen) else seen
    axes.plot(seen, heights, "o", color=INK, markersize=4.5, zorder=4, label="breakpoint")
    span = float(before.min() - envelope.min()) or 1.0
    axes.set_xlim(-_REACH, _REACH)
    axes.set_ylim(float(envelope.min()) - 0.25 * span, float(before.min()) + 1.5 * span)
    axes.set_ylabel("mean after the observation")
    axes.set_title(
        f"{len(lines)} alternatives, of which {len(seen) + 1} have the lowest mean at some of these z",
        loc="left",
        fontsize=10,
    )
    axes.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)


def _name_pieces(axes: "Axes", z: Tensor, envelope: Tensor, breaks: Tensor, places: list[float]) -> None:
    """Under each piece of the envelope that is wide enough, the alternative whose line it is."""
    ends = [-_REACH, *breaks.clamp(-_REACH, _REACH).tolist(), _REACH]
    for left, right, place in zip(ends[:-1], ends[1:], places, strict=True):
        if right - left >= _NAMED:
            middle = 0.5 * (left + right)
            height = float(envelope[(z - middle).abs() <= 0.5 * _NAMED].min())
            axes.annotate(
                f"x = {place:.2f}".replace("-", "\N{MINUS SIGN}"),
                (middle, height),
                xytext=(0.0, -4.0),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=9,
            )
