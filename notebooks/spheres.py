"""Figures of rows that are projected to a circle or a sphere, and of harmonics there."""

import math

import torch
from matplotlib.patches import Patch

from bo_suite.plot.style import INK, LINES, MIST, RED, new_figure
from bo_suite.surrogates.features.harmonics import harmonics

TILT = math.radians(52.0)
"""How high above the plane of the equator the viewer is."""

PIXELS = 240
"""Of the side of the picture of a sphere."""


def plot_circle(kernel, theta, rows, degrees):
    """Draw how rows of one column are projected to the circle, and harmonics, one of each degree.

    Left: the line of rows, its projection, and the harmonic of the largest degree as a wave around the
    circle. Right: harmonics as functions of x.
    """
    figure, [[left, right]] = new_figure(1, 2, width=8.0, height=3.5)
    reach = 0.5 * torch.exp(-theta[0])
    angle = torch.linspace(0.0, 2.0 * math.pi, 721, dtype=rows.dtype)
    circle = torch.stack((angle.cos(), angle.sin()), -1)
    seen = circle[:, 1] >= circle[:, 0].abs() / reach
    wave = circle * (1.0 + 0.1 * harmonics(circle, (max(degrees),))[:, 1:])
    places = torch.stack(((rows[:, 0] - 0.5) * 2.0 * reach, torch.ones_like(rows[:, 0])), -1)
    directions = kernel.project(theta, rows)[0]
    for place in places:
        left.plot(*torch.stack((torch.zeros(2), place)).T, color=MIST, linewidth=0.7, zorder=1)
    left.plot(*circle.T, color=INK, linewidth=1.0)
    left.plot(*circle[seen].T, color=RED, linewidth=3.0, label="seen by the data")
    left.plot(*wave.T, color=LINES[3].color, linestyle=LINES[3].dashes, label=f"degree {max(degrees)}")
    left.plot([-reach, reach], [1.0, 1.0], color=INK, linewidth=1.4)
    left.plot(*places.T, "o", color=INK, markersize=4, label="row")
    left.plot(*directions.T, "o", color=RED, markersize=4, label="its direction")
    left.set(aspect="equal", xlim=(-1.45, 1.45), ylim=(-1.25, 1.25))
    left.set_axis_off()
    left.set_title("A line becomes part of a circle", loc="left", fontsize=10)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2, frameon=False, fontsize=9)
    x = torch.linspace(0.0, 1.0, 301, dtype=rows.dtype)[:, None]
    on_arc = kernel.project(theta, x)[0]
    for degree, line in zip(degrees, LINES, strict=False):
        values = harmonics(on_arc, (degree,))[:, -1]
        style = {"color": line.color, "linestyle": line.dashes, "linewidth": 1.6}
        right.plot(x[:, 0], values, label=f"degree {degree}", **style)
    right.set(xlabel="x, scaled to [0, 1]", ylabel="harmonic")
    right.set_title("Harmonics as functions of x", loc="left", fontsize=10)
    right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False, fontsize=9)
    return figure


def plot_harmonics(kernel, theta, chosen):
    """Draw harmonics (degree, order) on the sphere of two columns, seen from above its equator.

    The square of all rows is outlined, and the half that no row reaches is pale.
    """
    figure, [panels] = new_figure(1, len(chosen), width=8.0, height=2.7)
    steps = torch.linspace(-1.0, 1.0, PIXELS, dtype=theta.dtype)
    u, v = torch.meshgrid(steps, steps, indexing="xy")
    depth = (1.0 - u.square() - v.square()).clamp(min=0.0).sqrt()
    directions = _turned(u, v, depth)
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    outside = u.square() + v.square() > 1.0
    never = (directions[..., 2] < 0.0) & ~outside
    side = torch.linspace(0.0, 1.0, 60, dtype=theta.dtype)
    edges = [torch.stack((side, 0.0 * side), -1), torch.stack((1.0 + 0.0 * side, side), -1)]
    border = torch.cat((*edges, 1.0 - edges[0], 1.0 - edges[1]))
    square = _on_screen(kernel.project(theta, border)[0])
    angle = torch.linspace(math.pi, 2.0 * math.pi, 181, dtype=theta.dtype)
    equator = _on_screen(torch.stack((angle.cos(), angle.sin(), 0.0 * angle), -1))
    for axes, (degree, order) in zip(panels, chosen, strict=True):
        values = harmonics(directions, (degree,))[..., order]
        shown = torch.where(outside, torch.nan, values)
        most = float(values[~outside].abs().max())
        extent = {"extent": (-1, 1, -1, 1), "origin": "lower"}
        axes.imshow(shown.numpy(), cmap="cividis", vmin=-most, vmax=most, **extent)
        pale = torch.ones(*never.shape, 4)
        pale[..., 3] = 0.7 * never
        axes.imshow(pale.numpy(), **extent)
        axes.plot(*square, color="white", linewidth=3.0)
        axes.plot(*square, color=RED, linewidth=1.6, label="border of [0, 1]²")
        axes.plot(*equator, color=INK, linewidth=1.2, linestyle="--", label="equator")
        axes.set(aspect="equal", xlim=(-1.03, 1.03), ylim=(-1.03, 1.03))
        axes.set_axis_off()
        axes.set_title(f"degree {degree}", fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    handles.append(Patch(facecolor="0.85"))
    entries = handles, [*labels, "half that no row reaches"]
    figure.legend(*entries, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _turned(u, v, depth):
    """Points of space from coordinates on the screen, and towards the viewer."""
    return torch.stack(
        (u, math.sin(TILT) * v - math.cos(TILT) * depth, math.cos(TILT) * v + math.sin(TILT) * depth), -1
    )


def _on_screen(points):
    """The two coordinates on the screen."""
    return points[..., 0], math.sin(TILT) * points[..., 1] + math.cos(TILT) * points[..., 2]
