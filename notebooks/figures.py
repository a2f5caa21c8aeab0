"""Figures of the notebooks: searches step by step, a sparse fit, the knowledge gradient; all of one input."""

import math

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bo_suite.acquisition import discrete_knowledge_gradient
from bo_suite.acquisition.lines import upper_envelope
from bo_suite.data import Dataset, Seeds
from bo_suite.plot.style import (
    GOLD,
    INK,
    LINES,
    MIST,
    RED,
    LineStyle,
    draw_process,
    legend_below,
    legend_entries,
    new_figure,
)
from bo_suite.study.outcomes import OutcomeTransform

GRID = torch.linspace(0.0, 1.0, 401, dtype=torch.float64)[:, None]


def steps_of(space, trials, steps):
    """For each of the last suggestions: the trials before it, their inputs, the outcomes, and its input."""
    x = space.encode([trial.params for trial in trials])
    y = torch.tensor([trial.value for trial in trials], dtype=torch.float64)
    return [(trials[:count], x[:count], y[:count], x[count:][:1]) for count in range(len(y) - steps, len(y))]


def on_axis(space, rows):
    """Encoded rows as values of the one parameter."""
    return space.encoding.values(rows)[:, 0].numpy()


def plot_search(acquisition, space, trials, function, steps=6):
    """Draw the last suggestions of a search with a surrogate, each with the model and the score before it.

    Above: the function, the outcomes and the surrogate, mapped back to the scale of the outcomes. Below: the
    score. Its lowest quarter is cut off, because logarithms fall very deep.
    """
    columns = min(steps, 3)
    rows = -(-steps // columns)
    figure, panels = new_figure(
        2 * rows, columns, width=(5.4, 7.2, 8.4)[columns - 1], height=0.7 + 3.0 * rows, ratios=(2.2, 1) * rows
    )
    curve = np.array([function(point) for point in space.decode(GRID)])
    drawn = np.append(curve, [trial.value for trial in trials])
    margin = 0.08 * np.ptp(drawn)
    for index, (before, x, y, suggestion) in enumerate(steps_of(space, trials, steps)):
        row, column = divmod(index, columns)
        top, bottom = panels[2 * row : 2 * row + 2, column]
        top.set_ylim(drawn.min() - margin, drawn.max() + margin)
        top.set_title(f"trial {len(before)}", fontsize=10, loc="left")
        top.plot(on_axis(space, GRID), curve, "--", color=INK, linewidth=1.0, label="function")
        _draw_model(top, acquisition.surrogate, space, x, y)
        top.plot(
            on_axis(space, x), y, "o", color=MIST, markeredgecolor=INK, markersize=5, label="observation"
        )
        _draw_score(bottom, acquisition, space, Dataset(x, OutcomeTransform.fit(y)(y)), suggestion)
        for axes in (top, bottom):
            axes.axvline(on_axis(space, suggestion), color=GOLD, linewidth=2.0, zorder=0, label="suggestion")
            axes.set_xlim(*on_axis(space, GRID[[0, -1]]))
            axes.tick_params(labelsize=9)
        top.tick_params(labelbottom=False, labelleft=column == 0)
        bottom.set(xlabel=space.names[0], ylabel="score")
        if column == 0:
            top.set_ylabel("outcome")
    legend_below(figure, 3 if columns > 1 else 2)
    return figure


def _draw_model(axes, surrogate, space, x, y):
    """Draw mean and bands on the scale of the outcomes, where the inverse transform may be infinite."""
    transform = OutcomeTransform.fit(y)
    process = surrogate.fit(Dataset(x, transform(y)), Seeds.of(0, len(y)))
    low, high = axes.get_ylim()
    draw_process(
        axes,
        process,
        GRID,
        at=torch.from_numpy(on_axis(space, GRID)),
        label="model, and two standard deviations",
        inverse=lambda value: transform.inverse(value).clamp(2 * low - high, 2 * high - low),
    )


def _draw_score(axes, acquisition, space, data, suggestion):
    """Draw the score with a marker at the suggestion."""
    score = acquisition.build(data, Seeds.of(0, len(data.y)))
    rows = torch.cat((GRID, suggestion)).sort(0).values
    with torch.no_grad():
        values, top = score(rows).numpy(), score(suggestion).numpy()
    axes.plot(on_axis(space, rows), values, color=LINES[1].color, linewidth=1.4, label="score")
    (marker,) = axes.plot(
        on_axis(space, suggestion), top, "v", color=GOLD, markersize=7, clip_on=False, zorder=3
    )
    marker.set_markeredgecolor(INK)
    low, high = np.quantile(values, 0.25), values.max()
    axes.set_ylim(low - 0.05 * (high - low), high + 0.15 * (high - low))
    axes.yaxis.set_major_locator(MaxNLocator(3))


def plot_bore(acquisition, space, trials, function, steps=6):
    """Draw the last suggestions of a search by classification, three in a row, each with three panels.

    The large panel has the function, the outcomes with their labels, and the threshold tau. Beside it is the
    distribution of the outcomes, which passes the share of positives at tau. Below is the class probability.
    """
    columns, rows = min(steps, 3), -(-steps // 3)
    entries = (2, 3, 5)[columns - 1]  # of the legend side by side
    below = 0.52 + 0.24 * -(-5 // entries)
    width, height = 2.6 * columns + 0.5, 2.75 * rows + below - 0.16
    figure = Figure(figsize=(width, height), dpi=110)
    edges = {
        "left": 0.58 / width,
        "right": 1 - 0.16 / width,
        "top": 1 - 0.3 / height,
        "bottom": below / height,
    }
    blocks = figure.add_gridspec(rows, columns, **edges, hspace=0.34, wspace=0.14)
    curve = np.array([function(point) for point in space.decode(GRID)])
    for index, (before, x, y, suggestion) in enumerate(steps_of(space, trials, steps)):
        cells = blocks[divmod(index, columns)].subgridspec(
            2, 2, width_ratios=(3.2, 1.0), height_ratios=(1.9, 1.0), wspace=0.1, hspace=0.12
        )
        top = figure.add_subplot(cells[0, 0])
        panels = top, figure.add_subplot(cells[0, 1], sharey=top), figure.add_subplot(cells[1, 0], sharex=top)
        _draw_labels(panels, acquisition, space, (x, y), curve)
        for axes in (top, panels[2]):
            axes.axvline(on_axis(space, suggestion), color=GOLD, linewidth=2.0, zorder=0, label="suggestion")
        top.set_title(f"{index + 1}. after {len(before)} outcomes", loc="left", fontsize=10)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9)
            axes.xaxis.label.set_fontsize(9)
            axes.yaxis.label.set_fontsize(9)
            if index % columns:
                axes.tick_params(labelleft=False)
                axes.set_ylabel("")
        top.tick_params(labelbottom=False)
        panels[1].tick_params(labelleft=False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=entries, frameon=False, fontsize=9)
    return figure


def _draw_labels(panels, acquisition, space, data, curve):
    """Draw outcomes with their labels, their distribution, and the class probability."""
    (top, share, classes), (x, y), at = panels, data, on_axis(space, GRID)
    scaled = OutcomeTransform.fit(y)(y)
    with torch.no_grad():
        score = acquisition.build(Dataset(x, scaled), Seeds.of(0, len(y)))
        probability = score.probability(GRID)
    positive = scaled <= score.threshold
    tau = float(y.max() if positive.all() else 0.5 * (y[positive].max() + y[~positive].min()))
    top.plot(at, curve, color=INK, linewidth=1.0, label="function")
    classes.plot(at, probability, color=INK, linewidth=1.3)
    for chosen, face, edge, label in (
        (positive, RED, RED, "positive"),
        (~positive, "white", LINES[1].color, "negative"),
    ):
        style = {
            "markersize": 5,
            "markerfacecolor": face,
            "markeredgecolor": edge,
            "clip_on": False,
            "zorder": 3,
        }
        places = on_axis(space, x[chosen])
        top.plot(places, y[chosen], "o", label=label, **style)
        classes.plot(places, positive[chosen].double(), "o", **style)
    top.axhline(tau, color=RED, linewidth=1.1, linestyle="--", label="τ")
    margin = 0.08 * float(np.ptp(curve))
    limits = min(curve.min(), float(y.min())) - margin, max(curve.max(), float(y.max())) + margin
    top.set(xlim=(at[0], at[-1]), ylim=limits, ylabel="y")
    top.locator_params(axis="x", nbins=3)
    share.ecdf(y.numpy(), orientation="horizontal", color=INK, linewidth=1.2)
    share.axhline(tau, color=RED, linewidth=1.1, linestyle="--")
    share.axvline(float(positive.double().mean()), color=RED, linewidth=1.0, linestyle=":")
    share.set(xlim=(0.0, 1.08), xticks=(0, 1), xlabel="share ≤ y")
    classes.set(ylim=(-0.14, 1.14), yticks=(0, 1), ylabel="π(x)", xlabel=space.names[0])


def plot_fit(process, x, y, truth=None):
    """Draw a sparse process with its data, its inducing inputs before and after the fit, and the losses."""
    margin = 0.08 * float(x.max() - x.min())
    low, high = float(x.min()) - margin, float(x.max()) + margin
    at = torch.linspace(low, high, 400, dtype=torch.float64)[:, None]
    figure, ((axes,), (inducing,), (losses,)) = new_figure(3, width=8.0, height=5.74, ratios=(5.0, 1.2, 2.0))
    axes.plot(x[:, 0], y, ".", color=MIST, markersize=4, label="observation", zorder=1)
    if truth is not None:
        axes.plot(at[:, 0], truth(at), color=INK, linestyle="--", linewidth=1.2, label="truth")
    draw_process(axes, process, at)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    title = f"{len(y)} observations, {len(process.inducing)} inducing inputs"
    axes.set_title(title, loc="left", fontsize=10)
    axes.set(ylabel="y", xlim=(low, high))
    axes.tick_params(labelbottom=False)
    ends = process.inducing[:, 0].tolist(), process.trace.initial[:, 0].tolist()
    lines = [((before, 1.0), (after, 0.0)) for after, before in zip(*ends, strict=True)]
    inducing.add_collection(LineCollection(lines, colors=MIST, linewidths=1.0, zorder=1))
    for level, color in enumerate((RED, INK)):
        inducing.plot(ends[level], [level] * len(lines), "|", color=color, markersize=12, mew=1.8)
    inducing.set_yticks((0, 1), ("fitted", "chosen"), fontsize=9)
    inducing.set(xlabel="x", ylabel="inducing", xlim=(low, high), ylim=(-0.5, 1.5))
    values = process.trace.losses
    losses.plot(range(1, len(values) + 1), values, color=INK, linewidth=1.2)
    settled = values[len(values) // 10 :]  # the first losses would squash the others
    span = float(settled.max() - settled.min()) or 1.0
    losses.set_ylim(float(settled.min()) - 0.08 * span, float(settled.max()) + 0.3 * span)
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.set(xlabel="step of the fit", ylabel="- bound")
    losses.grid(axis="y", color="0.92", linewidth=0.8)
    figure.align_ylabels()
    return figure


def plot_lines(process, candidate, alternatives, bounds=(0.0, 1.0)):
    """Draw the knowledge gradient over finitely many alternatives as straight lines.

    Above: the mean at each alternative after an observation at the candidate, mean(x) + slope(x) z, as a line
    in the standardised outcome z. Below: the distance from the lowest line to the smallest mean before, times
    the density of z. Its area is the knowledge gradient.
    """
    row = candidate[None]
    means = process.mean(alternatives)
    slopes = process.cov(alternatives, row)[:, 0] / (process.var(row)[0] + process.noise).sqrt()
    value = float(discrete_knowledge_gradient(-means, -slopes))
    lowest = upper_envelope(-means, -slopes)
    breaks = means[lowest].diff() / -slopes[lowest].diff()
    z = torch.linspace(-3.0, 3.0, 801, dtype=torch.float64)
    lines = means[:, None] + slopes[:, None] * z
    envelope, before = lines.amin(0), float(means.min())
    figure, ((top,), (bottom,)) = new_figure(2, 1, height=5.8, ratios=(2.4, 1.0))
    top.plot(z, lines[0], color=MIST, linewidth=0.8, zorder=1, label="mean at an alternative")
    top.plot(z, lines[1:].mT, color=MIST, linewidth=0.8, zorder=1)
    top.fill_between(z, envelope, before, color=RED, alpha=0.14, linewidth=0)
    top.plot(z, envelope, color=RED, linewidth=2.4, label="the lowest: envelope")
    top.axhline(before, color=INK, linewidth=1.2, linestyle="--", label=r"$\tau_n$")
    shown = breaks[breaks.abs() < 3.0]
    heights = [float(envelope[(z - at).abs().argmin()]) for at in shown]
    top.plot(shown, heights, "o", color=INK, markersize=4.5, zorder=4, label="breakpoint")
    x = bounds[0] + (bounds[1] - bounds[0]) * alternatives[lowest, 0]
    _name_pieces(top, z, envelope, breaks, x.tolist())
    span = before - float(envelope.min())
    top.set(
        ylim=(float(envelope.min()) - 0.25 * span, before + 1.5 * span), ylabel="mean after the observation"
    )
    count = f"{len(lines)} alternatives, of which {len(shown) + 1} have the lowest mean at some of these z"
    top.set_title(count, loc="left", fontsize=10)
    top.legend(loc="upper right", ncols=2, frameon=True, framealpha=0.9, edgecolor="none", fontsize=9)
    top.tick_params(labelbottom=False)
    gain = (before - envelope) * torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    bottom.fill_between(z, gain, color=RED, alpha=0.24, linewidth=0)
    bottom.plot(z, gain, color=RED, linewidth=1.4)
    for at in shown.tolist():
        bottom.axvline(at, color="0.7", linewidth=0.8, linestyle=":", zorder=1)
    bottom.axhline(0.0, color=INK, linewidth=1.2, linestyle="--")
    bottom.set(xlabel="standardised outcome z at the candidate", ylabel="gain × density")
    title = f"the area, less what is below zero, is the knowledge gradient: {value:.4g}"
    bottom.set_title(title, loc="left", fontsize=10)
    for axes in (top, bottom):
        axes.set_xlim(-3.0, 3.0)
    return figure


def _name_pieces(axes, z, envelope, breaks, x):
    """Write the alternative under each piece of the envelope that is wide enough."""
    ends = [-3.0, *breaks.clamp(-3.0, 3.0).tolist(), 3.0]
    for left, right, alternative in zip(ends[:-1], ends[1:], x, strict=True):
        if right - left >= 0.55:
            middle = 0.5 * (left + right)
            height = float(envelope[(z - middle).abs() <= 0.275].min())
            name = f"x = {alternative:.2f}".replace("-", "\N{MINUS SIGN}")
            style = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 9}
            axes.annotate(name, (middle, height), xytext=(0.0, -4.0), **style)


def plot_simulation(simulation, x, y, *, truth, panels, before=None, bounds=(0.0, 1.0)):
    """Draw steps of the simulated knowledge gradient, a panel each; at most eight outcomes.

    Panels: "before" (the process `before` with other hyperparameters), "fit" (the process), "minimum" (its
    mean and the minimum tau_n), "outcomes" (simulated at the candidate, with the mean given each of them),
    "minima" (of these means, enlarged, and the estimate).
    """
    if len(panels) == 1:
        figure, axes = new_figure(height=3.8)
    else:
        figure, axes = new_figure(1, len(panels), width=8.4, height=3.7)
    process = simulation.process
    with torch.no_grad():
        mean, var = process.mean_and_var(GRID)
    reach = 2.0 * (var + process.noise).sqrt()
    drawn = torch.cat((y, simulation.outcomes[:8], mean - reach, mean + reach))
    margin = 0.04 * float(drawn.max() - drawn.min())
    limits = float(drawn.min()) - margin, float(drawn.max()) + margin

    def user(rows):
        return bounds[0] + (bounds[1] - bounds[0]) * rows[..., 0]

    for name, pane in zip(panels, axes.flat, strict=True):
        pane.set(xlim=bounds, ylim=limits, xlabel="x", ylabel="y")
        pane.plot(user(x), y, "o", color=INK, markersize=4, label="observation", zorder=3)
        pane.plot(user(GRID), truth(GRID), ":", color=INK, linewidth=1.1, label="truth")
        if name in ("before", "fit"):
            draw_process(pane, before if name == "before" else process, GRID, at=user(GRID))
            fitted = f"predictive of {len(y)} observations"
            title = fitted if name == "fit" else "before hyperparameters are estimated"
        else:
            if name != "minimum":
                at = float(user(simulation.candidate))
                pane.axvline(at, color="0.6", linewidth=1.2, label="candidate", zorder=1)
            pane.plot(user(GRID), mean, color=RED, linewidth=1.8, zorder=2.5, label="predictive mean")
            title = _DRAW[name](pane, simulation, user)
        pane.set_title(title, loc="left", fontsize=10)
    handles, labels = legend_entries(figure)
    columns = 3 if len(panels) > 1 else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def _draw_minimum(axes, simulation, user):
    """Mark the minimum of the mean; return a title."""
    _mark(axes, float(user(simulation.minimizer)), float(simulation.minimum), RED)
    return rf"predictive minimum $\tau_n = {float(simulation.minimum):.4g}$"


def _draw_outcomes(axes, simulation, user):
    """Draw the first outcomes and the mean given each of them; return a title."""
    _draw_means(axes, simulation, user)
    x = float(user(simulation.candidate))
    for index, style in _shown(simulation):
        outcome = float(simulation.outcomes[index])
        axes.plot(x, outcome, "o", color=style.color, markersize=6, zorder=4, label="simulated outcome")
    shown, count = len(simulation.outcomes[:8]), len(simulation.outcomes)
    outcomes = f"{shown} of {count} outcomes" if shown < count else f"{count} outcome{'s' * (count > 1)}"
    return f"{outcomes} simulated at x = {x:.3g}"


def _draw_minima(axes, simulation, user):
    """Mark the minimum of the mean given each outcome, and enlarge the panel; return a title."""
    _draw_means(axes, simulation, user)
    shown = _shown(simulation)
    for index, style in shown:
        _mark(axes, float(user(simulation.minimizers[index])), float(simulation.minima[index]), style.color)
    _draw_minimum(axes, simulation, user)
    indices = [index for index, _ in shown]
    levels = torch.cat((simulation.minima[indices], simulation.minimum[None]))
    others = torch.stack((simulation.minimizer, simulation.candidate))
    places = user(torch.cat((simulation.minimizers[indices], others)))
    low, high = axes.get_xlim()
    margin, height = 0.1 * (high - low), axes.get_ylim()[1] - axes.get_ylim()[0]
    span = max(float(levels.max() - levels.min()), 0.03 * height)
    axes.set_ylim(float(levels.min()) - 0.4 * span, float(levels.max()) + 1.4 * span)
    axes.set_xlim(max(float(places.min()) - margin, low), min(float(places.max()) + margin, high))
    error = f" ± {float(simulation.standard_error):.2g}" if len(simulation.minima) > 1 else ""
    return f"knowledge gradient {float(simulation.value):.3g}{error}"


_DRAW = {"minimum": _draw_minimum, "outcomes": _draw_outcomes, "minima": _draw_minima}


def _shown(simulation):
    """Indices of the first eight outcomes in ascending order, each with a style, the lower the darker."""
    order = simulation.outcomes[:8].argsort().tolist()
    shades = np.linspace(0.0, 0.85, len(order))
    styles = zip(shades, (*LINES, *LINES), strict=False)
    colors = [LineStyle(to_hex(colormaps["cividis"](shade)), line.dashes, "o") for shade, line in styles]
    return list(zip(order, colors, strict=True))


def _draw_means(axes, simulation, user):
    """Draw the mean given each of the first outcomes."""
    for index, style in _shown(simulation):
        given = simulation.process.condition(simulation.candidate[None], simulation.outcomes[index][None])
        mean = given.mean(GRID).detach()
        line = {"color": style.color, "linestyle": style.dashes, "linewidth": 1.3}
        axes.plot(user(GRID), mean, **line, label="mean given an outcome")


def _mark(axes, x, level, color):
    """Mark a minimum: a dashed line at its level, a star, and a triangle on the axis of x."""
    axes.axhline(level, color=color, linewidth=1.0, linestyle="--", zorder=1.5)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6, "color": color, "zorder": 5}
    axes.plot(x, level, "*", markersize=12, label="minimum", **edge)
    axes.plot(x, 0.0, "^", markersize=8, transform=axes.get_xaxis_transform(), clip_on=False, **edge)
