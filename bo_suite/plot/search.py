"""Steps of a search with a surrogate in one dimension: what was known, what it scored, what was suggested."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition, Score
from bo_suite.acquisition.success import build_score
from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.plot.style import GOLD, INK, LINES, MIST, draw_name, draw_process, legend_below, new_figure
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.provenance import start_in
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates.process import Process, Surrogate
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 3
"""Steps side by side."""

_CUT = 0.25
"""Share of the places whose scores, the lowest ones, may lie below a panel: logarithms fall very deep."""


@runtime_checkable
class Modelled(Acquisition, Protocol):
    """An acquisition with a surrogate."""

    @property
    def surrogate(self) -> Surrogate:
        """What is fitted to the data."""


def plot_search(
    acquisition: Modelled,
    space: Space,
    trials: Sequence[Trial],
    function: Callable[[Params], float],
    steps: int = 6,
) -> "Figure":
    """The last suggestions of a minimisation, each with what was known before it, three side by side.

    Above: the function, the outcomes (of failed trials a cross on the lower edge), and the surrogate fitted
    to them; the dark band is of the function, the light one of an observation. The surrogate sees transformed
    outcomes: its mean and two standard deviations are mapped back to the user's scale, where they are the
    median and a central interval, perhaps a lopsided one. Below: the score, and the suggestion; up to a
    quarter of the scores, the lowest, are cut off. Fits start from what that of the suggestion has found.

    Args:
        acquisition: whose suggestions the trials are, made one at a time by an Optimizer with seed 0; with
            another seed, scores that draw random numbers differ from those that were maximised.
        space: of one continuous parameter, beside any that have one value.
        trials: ended ones, all of the run, in order.
        function: drawn, at points of the space; without noise.
        steps: number of suggestions.

    Returns:
        A figure, at most 8.4 inches wide; `figure.savefig(path)` writes it.

    Raises:
        DataError: an acquisition without a surrogate, a space of other parameters, running trials, fewer than
            `steps` + 1 of them, or none that has finished before the first of the steps.
    """
    _check(acquisition, space, trials, steps)
    grid = torch.linspace(0.0, 1.0, 401, dtype=torch.float64, device="cpu")[:, None]
    curve = np.array([function(point) for point in space.decode(space.widened(grid))])
    space = space.varying
    drawn = np.append(curve, [trial.value for trial in trials if trial.value is not None])
    drawn = drawn[np.isfinite(drawn)]
    margin = 0.08 * (float(np.ptp(drawn)) or 1.0)
    limits = (float(drawn.min()) - margin, float(drawn.max()) + margin)
    columns = 2 if steps == 4 else min(steps, _ROW)
    rows = -(-steps // columns)
    figure, panels = new_figure(
        2 * rows,
        columns,
        width=(5.4, 7.2, 8.4)[columns - 1],
        height=0.7 + 3.0 * rows,
        ratios=(2.2, 1.0) * rows,
    )
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        panes = panels[2 * row : 2 * row + 2, column]
        if place >= steps:
            for pane in panes:
                pane.set_axis_off()
            continue
        panes[0].plot(_at(space, grid), curve, "--", color=INK, linewidth=1.0, label="function")
        panes[0].set_ylim(limits)
        _draw_step(panes, acquisition, space, trials[: len(trials) - steps + place + 1], grid)
        _label(panes, space, first=column == 0)
    legend_below(figure, 3 if columns > 1 else 2)
    return figure


def _check(acquisition: Modelled, space: Space, trials: Sequence[Trial], steps: int) -> None:
    """Raises a DataError unless the last steps of the trials can be drawn."""
    if not isinstance(acquisition, Modelled):
        raise DataError(f"the acquisition must have a surrogate, got {described(acquisition)}")
    if space.varying.levels != (None,):
        raise DataError(f"the space must have one continuous parameter, got {list(space.names)}")
    running = sum(trial.state == "running" for trial in trials)
    if running or not 1 <= steps < len(trials):
        raise DataError(
            f"{steps} steps need as many ended trials and one before, got {len(trials)}, {running} running"
        )
    if not any(trial.state == "finished" for trial in trials[:-steps]):
        raise DataError(f"a trial must have finished before the first of the {steps} steps, got none")


@numerical_environment()
def _draw_step(
    panes: "npt.NDArray[np.object_]",
    acquisition: Modelled,
    space: Space,
    trials: Sequence[Trial],
    grid: Tensor,
) -> None:
    """One step: the last of the trials is the suggestion, the others are what it came from."""
    known, suggestion = trials[:-1], trials[-1]
    top, bottom = panes
    observations = Suggester(space, acquisition).observations
    data, seeds = observations.dataset(known), Seeds.of(0, len(known))
    start = start_in(suggestion.provenance, data.x.device)
    process = acquisition.surrogate.fit(data, seeds, start)
    _draw_model(top, process, observations.transform(known), space, grid)
    _draw_outcomes(top, space, known)
    chosen = space.encode([suggestion.params])
    _draw_score(bottom, build_score(acquisition, data, seeds, start), space, grid, chosen)
    for pane in panes:
        place = float(_at(space, chosen)[0])
        pane.axvline(place, color=GOLD, linewidth=2.0, zorder=0, clip_on=False, label="suggestion")
    top.set_title(f"trial {suggestion.id}", fontsize=10, loc="left")


def _draw_outcomes(axes: "Axes", space: Space, trials: Sequence[Trial]) -> None:
    """Outcomes as dots, failed trials as crosses on the lower edge."""
    trials = [trial for trial in trials if trial.state in ("finished", "failed")]
    told = [trial.value for trial in trials if trial.value is not None]
    at = _at(space, space.encode([trial.params for trial in trials]))
    failed = np.array([trial.value is None for trial in trials])
    axes.plot(at[~failed], told, "o", color=MIST, markeredgecolor=INK, markersize=5, label="observation")
    if failed.any():
        edge = axes.get_xaxis_transform()
        axes.plot(
            at[failed], [0.04] * sum(failed), "x", color=INK, markersize=6, transform=edge, label="failed"
        )


def _draw_score(axes: "Axes", score: Score, space: Space, grid: Tensor, chosen: Tensor) -> None:
    """The score with a marker at the row that was chosen."""
    rows = torch.cat((grid, chosen)).sort(0).values
    with torch.no_grad():
        values, top = score(rows).cpu().numpy(), score(chosen).cpu().numpy()
    axes.plot(_at(space, rows), values, color=LINES[1].color, linewidth=1.4, label="score")
    marker = axes.plot(_at(space, chosen), top, "v", color=GOLD, markersize=7, clip_on=False, zorder=3)
    marker[0].set_markeredgecolor(INK)
    low, high = float(np.quantile(values, _CUT)), float(values.max())
    span = high - low or 1.0
    axes.set_ylim(low - 0.05 * span, high + 0.15 * span)


def _draw_model(
    axes: "Axes", process: Process, transform: OutcomeTransform, space: Space, rows: Tensor
) -> None:
    """Mean and bands of two standard deviations, of the function and of an observation, mapped back."""
    low, high = axes.get_ylim()
    span = high - low

    def back(value: Tensor) -> Tensor:  # infinite where the transform ends
        return transform.inverse(value).clamp(low - span, high + span)

    at, label = space.encoding.values(rows)[:, 0], "model, and two standard deviations"
    draw_process(axes, process, rows, at=at, label=label, inverse=back)


def _label(panes: "npt.NDArray[np.object_]", space: Space, *, first: bool) -> None:
    """Axes of one step; heights of the upper panels are the same in all of them."""
    from matplotlib.ticker import MaxNLocator

    ((name, parameter),) = space
    top, bottom = panes
    for pane in panes:
        if isinstance(parameter, Float):  # which it is, being continuous
            pane.set_xscale("log" if parameter.log else "linear")
            pane.set_xlim(parameter.low, parameter.high)
        pane.tick_params(labelsize=9)
    top.tick_params(labelbottom=False, labelleft=first)
    bottom.yaxis.set_major_locator(MaxNLocator(3))
    draw_name(bottom.xaxis.label, name)
    if first:
        top.set_ylabel("outcome")
    bottom.set_ylabel("score")


def _at(space: Space, rows: Tensor) -> "npt.NDArray[np.float64]":
    """Where encoded rows lie on the axis of the one parameter."""
    return cast("npt.NDArray[np.float64]", space.encoding.values(rows)[:, 0].numpy())
