"""Steps of a search by classification in one dimension: labels, class probability, suggestion, threshold."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bo_suite.acquisition import Bore
from bo_suite.data import Dataset, OutcomeTransform, Seeds
from bo_suite.errors import DataError
from bo_suite.space import Params, Space
from bo_suite.trials import Trial

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.figure import Figure

_GOOD, _OTHER, _CURVE, _NEXT = "#c8324a", "#5b7c99", "#303030", "#d9a441"


def plot_bore(
    acquisition: Bore,
    space: Space,
    trials: Sequence[Trial],
    function: Callable[[Params], float],
    steps: int = 6,
) -> "Figure":
    """The last suggestions of a minimisation, each with what was known before it, one column a step.

    From above: the function, the outcomes with their labels, and tau; the class probability that is fitted to
    them, and the point suggested; the distribution of the outcomes, with tau where it passes their share of
    positives. Classifiers are fitted anew, without a warm start.

    Args:
        acquisition: whose suggestions the trials are.
        space: of one continuous parameter.
        trials: finished ones, in order.
        function: drawn, at points of the space.
        steps: number of suggestions.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        DataError: a space of other parameters, unfinished trials, or fewer than `steps` + 1 of them.
    """
    from matplotlib.figure import Figure

    if space.levels != (None,):
        raise DataError(f"the space must have one continuous parameter, got {list(space.parameters)}")
    if any(trial.value is None for trial in trials) or not 1 <= steps < len(trials):
        raise DataError(f"{steps} steps need as many finished trials and one before, got {len(trials)}")
    grid = torch.linspace(0.0, 1.0, 401, dtype=torch.float64)[:, None]
    curve = np.array([function(point) for point in space.decode(grid)])
    figure = Figure(figsize=(2.5 * steps, 5.6), dpi=110, layout="constrained")
    panes = figure.subplots(3, steps, sharey="row", squeeze=False, height_ratios=(2.2, 1.3, 1.5))
    for column, first in enumerate(range(len(trials) - steps, len(trials))):
        _draw_step(panes[:, column], acquisition, space, trials[: first + 1], grid, curve)
        panes[0, column].set_title(f"suggestion {column + 1}", fontsize=10)
    for pane, label in zip(panes[:, 0], ("y", "π(x)", "share ≤ y"), strict=True):
        pane.set_ylabel(label)
    figure.legend(
        *panes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    return figure


def _draw_step(
    panes: "np.ndarray",
    acquisition: Bore,
    space: Space,
    trials: Sequence[Trial],
    grid: torch.Tensor,
    curve: np.ndarray,
) -> None:
    """One column: the last of the trials is the suggestion, the others are what it came from."""
    (name,) = space.parameters
    at = np.array([point[name] for point in space.decode(grid)])
    told = np.array([trial.params[name] for trial in trials])
    x = space.encode([trial.params for trial in trials])
    y = torch.tensor([trial.value for trial in trials[:-1]], dtype=torch.float64)
    scaled = OutcomeTransform.fit(y)(y)
    with torch.no_grad():
        score = acquisition.build(Dataset(x[:-1], scaled, None, x[:0]), Seeds.of(0, len(y)))
        probability = score.probability(grid)
    good = scaled <= score.threshold
    tau = float(y.max() if good.all() else 0.5 * (y[good].max() + y[~good].min()))
    top, middle, bottom = panes
    top.plot(at, curve, color=_CURVE, linewidth=1.0, label="function")
    for chosen, color, label in ((good, _GOOD, "positive"), (~good, _OTHER, "negative")):
        top.plot(told[:-1][chosen.numpy()], y[chosen], "o", color=color, markersize=5, label=label)
    top.axhline(tau, color=_GOOD, linewidth=0.9, linestyle="--", label="tau")
    middle.plot(at, probability, color=_CURVE, linewidth=1.2)
    middle.set_ylim(-0.03, 1.03)
    for pane in (top, middle):
        pane.axvline(told[-1], color=_NEXT, linewidth=1.8, zorder=0, label="suggestion")
        pane.set_xlim(at[0], at[-1])
    bottom.ecdf(y.numpy(), color=_CURVE, linewidth=1.2)
    bottom.axvline(tau, color=_GOOD, linewidth=0.9, linestyle="--")
    bottom.axhline(float(good.double().mean()), color=_GOOD, linewidth=0.6, linestyle=":")
    bottom.set_xlim(float(curve.min()) - 1.0, float(curve.max()) + 1.0)
    middle.set_xlabel(name)
    bottom.set_xlabel("y")
    for pane in panes:
        pane.spines[["top", "right"]].set_visible(False)
        pane.tick_params(labelsize=7)
