"""How many trials reached each rung of a run, their values there, and which went on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_suite.errors import TrialError
from bo_suite.plot.reports import Reports, scale_values
from bo_suite.plot.run import Run
from bo_suite.plot.style import INK, MIST, RED, new_figure
from bo_suite.storage.addresses import Location
from bo_suite.storage.trial import Trial

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.figure import Figure

_MOST = 8
"""Most rungs that are drawn, evenly spaced among all of a scheduler."""

_HALF_WIDTH = 0.36
"""Half of the width of the strip of a rung; rungs are 1 apart."""


@dataclass(frozen=True)
class Rung:
    """The trials that reached a rung.

    Attributes:
        step: of the rung.
        trials: in order of id.
        values: of each at its first report at or after the step, in the user's units.
        went_on: which of them have reported after that, or may still.
    """

    step: int
    trials: Sequence[Trial]
    values: Sequence[float]
    went_on: Sequence[bool]


def rungs_of(reports: Reports) -> list[Rung]:
    """The rungs of a run with the last step, which all trials that finished have reached.

    Raises:
        TrialError: no scheduler judges the trials.
    """
    steps = reports.rungs()
    if not steps:
        raise TrialError("the run must have a scheduler for rungs to be drawn, got none")
    chosen = np.linspace(0, len(steps) - 1, min(_MOST, len(steps))).round().astype(int)
    found = []
    for step in [*(steps[index] for index in chosen), reports.max_step]:
        values, trials, went_on = [], [], []
        for trial in reports.trials:
            reached, outcomes = reports.curve(trial)
            later = [index for index, at in enumerate(reached) if at >= step]
            if not trial.reports or not later:
                continue
            trials.append(trial)
            values.append(outcomes[later[0]])
            went_on.append(len(later) > 1 or trial.state in ("running", "finished"))
        found.append(Rung(step, trials, values, went_on))
    return found


def plot_rungs(run: Run | Location) -> "Figure":
    """Draw, for each rung, the values of the trials that reached it, and how many of them went on.

    Within a rung, trials are in order from left to right. Of a scheduler with many rungs, eight are drawn.

    Args:
        run: an Optimizer, a Result, or the file or the address of a run.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: no trial has reported, no scheduler judges the trials, or there are several objectives.
        StorageError: there is no history at the place.
    """
    from matplotlib.ticker import MaxNLocator

    reports = Reports.of(run)
    rungs = rungs_of(reports)
    figure, ((counts,), (axes,)) = new_figure(2, height=5.0, ratios=(1.0, 2.6))
    places = list(range(len(rungs)))
    reached = [len(rung.trials) for rung in rungs]
    going = [sum(rung.went_on) for rung in rungs]
    counts.bar(places, reached, 0.72, color=MIST, label="reached")
    counts.bar(places[:-1], going[:-1], 0.4, color=INK, label="went on")
    for place, rung in zip(places, rungs, strict=True):
        number = len(rung.trials)
        text = f"{number}" if place == places[-1] else f"{going[place]} of {number}"
        counts.annotate(text, (place, number), (0, 2), textcoords="offset points", ha="center", fontsize=9)
    counts.set(ylabel="trials", ylim=(0, 1.18 * max(reached)))
    counts.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    counts.set_xticks([])
    counts.set_xlim(-0.6, len(rungs) - 0.4)
    for kept, style, label in (
        (False, {"marker": "o", "color": MIST, "fillstyle": "none"}, "stopped, paused or failed here"),
        (True, {"marker": "o", "color": INK}, "went on or finished"),
    ):
        dots = [dot for place, rung in zip(places, rungs, strict=True) for dot in _dots(place, rung, kept)]
        if dots:
            axes.plot(*zip(*dots, strict=True), linestyle="", markersize=4, label=label, **style)
    if (best := reports.best) is not None:
        own = [
            dot
            for place, rung in zip(places, rungs, strict=True)
            for dot, trial in zip(_dots(place, rung), rung.trials, strict=True)
            if trial is best
        ]
        axes.plot(
            *zip(*own, strict=True), "-o", color=RED, markersize=6, markeredgecolor="white", label="best"
        )
    axes.set_xlim(*counts.get_xlim())
    axes.set_xticks(places, labels=[*(f"{rung.step}" for rung in rungs[:-1]), f"{rungs[-1].step}\n(last)"])
    axes.set_xlabel("step of the rung")
    axes.set_ylabel("value there")
    scale_values(axes, reports, [value for rung in rungs for value in rung.values])
    axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
    figure.align_ylabels()
    return figure


def _dots(place: int, rung: Rung, kept: bool | None = None) -> list[tuple[float, float]]:
    """Where the trials of a rung are drawn; of `kept`, those alone that went on, or did not."""
    spread = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, len(rung.values)) if len(rung.values) > 1 else np.zeros(1)
    dots = zip(place + spread, rung.values, rung.went_on, strict=False)
    return [(float(at), value) for at, value, on in dots if kept is None or on == kept]
