"""Steps of a search by classification in one dimension: labels, class probability, suggestion, threshold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from bo_suite.acquisition import Bore
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.plot.style import GOLD, INK, LINES, RED, draw_name
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial
from bo_suite.study.outcomes import OutcomeTransform

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

_COLUMNS = 3
"""Steps side by side: so a figure is as wide as a page, and its letters are legible."""

_LETTERS = 9
"""Points."""

_Array = npt.NDArray[np.float64]


def plot_bore(
    acquisition: Bore,
    space: Space,
    trials: Sequence[Trial],
    function: Callable[[Params], float],
    steps: int = 6,
) -> "Figure":
    """The last suggestions of a minimisation, each with what was known before it, three steps a row.

    A step has three panels. The large one: the function, the outcomes with their labels, and tau. Beside it
    the distribution of the outcomes, which passes their share of positives at tau. Below, the class
    probability that is fitted to the labels, and the point suggested. Classifiers are fitted anew, without a
    warm start.

    Args:
        acquisition: whose suggestions the trials are.
        space: of one continuous parameter, beside any that have one value.
        trials: finished ones, in order.
        function: drawn, at points of the space.
        steps: number of suggestions.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: a space of other parameters, unfinished trials, or fewer than `steps` + 1 of them.
    """
    from matplotlib.figure import Figure

    if space.varying.levels != (None,):
        raise DataError(f"the space must have one continuous parameter, got {list(space.names)}")
    if any(trial.value is None for trial in trials) or not 1 <= steps < len(trials):
        raise DataError(f"{steps} steps need as many finished trials and one before, got {len(trials)}")
    grid = torch.linspace(0.0, 1.0, 401, dtype=torch.float64, device="cpu")[:, None]
    curve = np.array([function(point) for point in space.decode(space.widened(grid))])
    space = space.varying
    ((_, parameter),) = space
    columns, rows = min(steps, _COLUMNS), -(-steps // _COLUMNS)
    entries = (2, 3, 5)[columns - 1]  # of the legend side by side
    below = 0.52 + 0.24 * -(-5 // entries)
    width, height = 2.6 * columns + 0.5, 2.75 * rows + below - 0.16
    figure = Figure(figsize=(width, height), dpi=110)
    blocks = figure.add_gridspec(
        rows,
        columns,
        left=0.58 / width,
        right=1.0 - 0.16 / width,
        top=1.0 - 0.3 / height,
        bottom=below / height,
        hspace=0.34,
        wspace=0.14,
    )
    for number, first in enumerate(range(len(trials) - steps, len(trials))):
        step = _step(acquisition, space, trials[: first + 1], grid)
        axes = _draw_step(figure, blocks[divmod(number, columns)], step, curve)
        if isinstance(parameter, Float) and parameter.log:
            axes.set_xscale("log")
        axes.set_title(f"{number + 1}. after {first} outcomes", loc="left", fontsize=10)
        if number % columns:
            for one in figure.axes[-3:]:
                one.tick_params(labelleft=False)
                one.set_ylabel("")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=entries, frameon=False, fontsize=_LETTERS)
    return figure


@dataclass(frozen=True, eq=False)
class _Step:
    """What was known at a step, and what was made of it.

    Attributes:
        name: of the parameter.
        at: values of the parameter (m,).
        told: those that were observed (n,).
        y: their outcomes (n,).
        good: which of them are positive (n,).
        tau: between the outcomes of positives and of the others.
        probability: of the class, at each of `at`.
        suggested: value of the parameter.
    """

    name: str
    at: _Array
    told: _Array
    y: _Array
    good: npt.NDArray[np.bool_]
    tau: float
    probability: _Array
    suggested: float


@numerical_environment()
def _step(acquisition: Bore, space: Space, trials: Sequence[Trial], grid: torch.Tensor) -> _Step:
    """The last of the trials is the suggestion, the others are what it came from."""
    (name,) = space.parameters
    places = np.array([trial.params[name] for trial in trials], dtype=np.float64)
    x = space.encode([trial.params for trial in trials])
    y = torch.tensor([trial.value for trial in trials[:-1]], dtype=torch.float64, device="cpu")
    scaled = OutcomeTransform.fit(y)(y)
    with torch.no_grad():
        score = acquisition.build(Dataset(x[:-1], scaled, None, x[:0]), Seeds.of(0, len(y)))
        probability = score.probability(grid)
    good = scaled <= score.threshold
    tau = float(y.max() if good.all() else 0.5 * (y[good].max() + y[~good].min()))
    at = np.array([point[name] for point in space.decode(grid)], dtype=np.float64)
    suggested = float(places[-1])
    return _Step(name, at, places[:-1], y.numpy(), good.numpy(), tau, probability.numpy(), suggested)


def _draw_step(figure: "Figure", block: "SubplotSpec", step: _Step, curve: _Array) -> "Axes":
    """Outcomes, their distribution beside them, and the class probability below; the first is returned."""
    cells = block.subgridspec(
        2, 2, width_ratios=(3.2, 1.0), height_ratios=(1.9, 1.0), wspace=0.1, hspace=0.12
    )
    outcomes = figure.add_subplot(cells[0, 0])
    share = figure.add_subplot(cells[0, 1], sharey=outcomes)
    classes = figure.add_subplot(cells[1, 0], sharex=outcomes)
    _draw_outcomes(outcomes, step, curve)
    _draw_share(share, step)
    _draw_classes(classes, step)
    for axes in (outcomes, share, classes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=_LETTERS)
        axes.xaxis.label.set_fontsize(_LETTERS)
        axes.yaxis.label.set_fontsize(_LETTERS)
    outcomes.tick_params(labelbottom=False)
    share.tick_params(labelleft=False)
    return outcomes


def _draw_outcomes(axes: "Axes", step: _Step, curve: _Array) -> None:
    """The function, what was observed of it, tau, and where to look next."""
    axes.plot(step.at, curve, color=INK, linewidth=1.0, label="function")
    _draw_labelled(axes, step, step.y)
    axes.axhline(step.tau, color=RED, linewidth=1.1, linestyle="--", label="τ")
    _draw_suggestion(axes, step)
    lowest, highest = float(np.nanmin(curve)), float(np.nanmax(curve))
    margin = 0.08 * (highest - lowest or 1.0)
    axes.set(xlim=(step.at[0], step.at[-1]), ylabel="y")
    axes.locator_params(axis="x", nbins=3)
    axes.set_ylim(min(lowest, step.y.min()) - margin, max(highest, step.y.max()) + margin)


def _draw_share(axes: "Axes", step: _Step) -> None:
    """The share of outcomes at or below y, lying on its side, and that of the positives."""
    axes.ecdf(step.y, orientation="horizontal", color=INK, linewidth=1.2)
    axes.axhline(step.tau, color=RED, linewidth=1.1, linestyle="--")
    axes.axvline(float(step.good.mean()), color=RED, linewidth=1.0, linestyle=":")
    axes.set(xlim=(0.0, 1.08), xticks=(0, 1), xlabel="share ≤ y")


def _draw_classes(axes: "Axes", step: _Step) -> None:
    """The class probability, with positives at one and negatives at zero."""
    axes.plot(step.at, step.probability, color=INK, linewidth=1.3)
    _draw_labelled(axes, step, step.good.astype(np.float64))
    _draw_suggestion(axes, step)
    axes.set(ylim=(-0.14, 1.14), yticks=(0, 1), ylabel="π(x)")
    draw_name(axes.xaxis.label, step.name)


def _draw_labelled(axes: "Axes", step: _Step, heights: _Array) -> None:
    """Discs are positives, open circles are negatives: they differ in grey, too."""
    edge = LINES[1].color
    for chosen, face, rim, label in (
        (step.good, RED, RED, "positive"),
        (~step.good, "white", edge, "negative"),
    ):
        places = step.told[chosen], heights[chosen]
        axes.plot(
            *places,
            "o",
            markersize=5,
            markerfacecolor=face,
            markeredgecolor=rim,
            label=label,
            clip_on=False,
            zorder=3,
        )


def _draw_suggestion(axes: "Axes", step: _Step) -> None:
    axes.axvline(step.suggested, color=GOLD, linewidth=2.0, zorder=0, label="suggestion")
