"""The figure of several objectives: the Pareto front, what it dominates, and how sure the model is of it."""

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bo_suite.errors import ArgumentError, FitError, NumericalError, TrialError
from bo_suite.plot.convergence import value_axis
from bo_suite.plot.run import Run, require_run
from bo_suite.plot.style import GOLD, INK, MIST, RED, draw_name, legend_below, new_figure, short_name
from bo_suite.storage.goals import Goals, Objective
from bo_suite.storage.trial import Trial
from bo_suite.study.fronts import FrontTrials, reference_used
from bo_suite.study.summary import outcomes_of
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 3
"""Objectives that are drawn, two and two, unless some are named."""

_LARGEST = 1e300
"""Magnitudes are clipped here, so that axes stay finite."""


def plot_pareto(run: Run, outcomes: Sequence[str] | None = None) -> "Figure":
    """Draw the Pareto front over two objectives, or over each two of several.

    The step line bounds what has been attained in two objectives: for every point on its worse side some
    feasible trial is as good in both. Large dots are the trials of the front of all objectives, small ones
    those that they dominate; infeasible trials are grey, as are those outside of the space. Crosses are what
    the model believes at the points of the front: the posterior mean of each objective, and one standard
    deviation. The reference point is that of the latest suggestion that had one, unless it is far away.

    Args:
        run: an Optimizer or a Result with several objectives.
        outcomes: names of the objectives to draw; None for all, or for the first three.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: there is one objective.
        ArgumentError: the names are not at least two different objectives.
    """
    run = require_run(run)
    objectives = _chosen(run.goals, outcomes)
    sorted_trials = FrontTrials.of(run.trials, run.goals, run.space)
    beliefs = _beliefs(run, objectives, sorted_trials.front)
    reference = reference_used(run.trials, run.goals)
    pairs = list(combinations(objectives, 2))
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure, panels = new_figure(rows, columns, width=max(6.0, 3.4 * columns), height=3.3 * rows + 1.3)
    drawn: list[Axes] = panels.flatten().tolist()
    for unused in drawn[len(pairs) :]:
        unused.set_visible(False)
    for axes, pair in zip(drawn, pairs, strict=False):
        at = None if reference is None else [reference[objective.name] for objective in pair]
        _draw(axes, sorted_trials, pair, at)
        if all(objective.name in beliefs for objective in pair):
            _draw_beliefs(axes, *(beliefs[objective.name] for objective in pair))
    _note(drawn[0], sorted_trials)
    figure.suptitle(_title(sorted_trials, objectives), fontsize=11)
    legend_below(figure, columns=3)
    return figure


def _chosen(goals: Goals, outcomes: Sequence[str] | None) -> tuple[Objective, ...]:
    """The objectives to draw."""
    if not goals.several:
        raise TrialError(f"a Pareto front needs several objectives, got {goals}: see plot_convergence")
    if outcomes is None:
        return goals.objectives[:MOST]
    named = {objective.name: objective for objective in goals.objectives}
    names = [] if isinstance(outcomes, str) else list(outcomes)
    if len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(named):
        law = f"outcomes must be at least two different ones of {list(named)}"
        raise ArgumentError(f"{law}, got {described(outcomes)}")
    return tuple(named[name] for name in names)


def _title(sorted_trials: FrontTrials, objectives: Sequence[Objective]) -> str:
    count, total = len(sorted_trials.front), len(sorted_trials.goals.objectives)
    drawn = f", {len(objectives)} of {total} objectives" if len(objectives) < total else ""
    return f"{count} trial{'' if count == 1 else 's'} in the Pareto front{drawn}"


def _beliefs(run: Run, objectives: Sequence[Objective], front: Sequence[Trial]) -> "dict[str, pd.DataFrame]":
    """What the model predicts of each objective at the points of the front, where it can be fitted."""
    predicted = {}
    for objective in objectives if front else ():
        try:
            predicted[objective.name] = run.belief(objective.name).predict([one.params for one in front])
        except (FitError, NumericalError, TrialError):
            continue
    return predicted


def coordinates(trials: Sequence[Trial], goals: Goals, pair: Sequence[Objective]) -> npt.NDArray[np.float64]:
    """The two objectives of trials (2, n), in the user's units."""
    values = [[outcomes_of(trial, goals)[objective.name] for trial in trials] for objective in pair]
    coordinates: npt.NDArray[np.float64] = np.array(values, dtype=float).reshape(2, len(trials))
    return coordinates.clip(-_LARGEST, _LARGEST)


def _draw(
    axes: "Axes", sorted_trials: FrontTrials, pair: Sequence[Objective], reference: Sequence[float] | None
) -> None:
    """Draw the trials in one panel, the line of what they attain, and the reference point if there is one."""
    goals = sorted_trials.goals
    front, dominated, excluded = (
        coordinates(trials, goals, pair)
        for trials in (sorted_trials.front, sorted_trials.dominated, sorted_trials.excluded)
    )
    for objective, axis in zip(pair, (axes.xaxis, axes.yaxis), strict=True):
        draw_name(axis.label, f"{short_name(objective.name)} ({objective.direction})")
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    everything = np.concatenate((front, dominated, excluded), axis=1)
    if not everything.shape[1]:
        axes.text(
            0.5, 0.5, "no trial has all objectives yet", transform=axes.transAxes, ha="center", color="0.4"
        )
        axes.set_xticks([])
        axes.set_yticks([])
        return
    signs = [objective.sign for objective in pair]
    limits = [axis_ends(everything[side], front[side], signs[side]) for side in (0, 1)]
    if reference is not None and all(map(_is_near, reference, limits)):
        held = np.column_stack((front, reference))
        limits = [axis_ends(everything[side], held[side], signs[side]) for side in (0, 1)]
    else:
        reference = None
    for side, (log, ends) in zip("xy", limits, strict=True):
        axes.set(**{f"{side}scale": "log" if log else "linear", f"{side}lim": ends})
    if excluded.shape[1]:
        label = excluded_label(sorted_trials)
        axes.plot(*excluded, "o", color="0.72", fillstyle="none", markersize=4.5, label=label)
    if dominated.shape[1]:
        axes.plot(*dominated, "o", color=MIST, markersize=4.5, markeredgewidth=0, label="dominated")
    if front.shape[1]:
        steps = attained(front, signs, [ends for _, ends in limits])
        axes.plot(*steps, color=RED, linewidth=1.6, label="attained", zorder=1.9)
        axes.plot(*front, "o", color=RED, markersize=7, markeredgecolor="white", label="front", zorder=3.0)
    if reference is not None:
        axes.plot(*[[value] for value in reference], "P", color=GOLD, markersize=8, label="reference point")
    low, high = np.array([ends for _, ends in limits]).T[:, :, None]
    beyond = int(((everything < low) | (everything > high)).any(0).sum())
    if beyond:
        axes.set_title(f"{beyond} beyond the axes", loc="right", fontsize=9, color="0.35")


def _is_near(value: float, limit: tuple[bool, tuple[float, float]]) -> bool:
    """Whether a value is at most one length of the axis beyond its ends."""
    log, (low, high) = limit
    if log:
        return low / high * low <= value <= high / low * high
    return low - (high - low) <= value <= high + (high - low)


def excluded_label(sorted_trials: FrontTrials) -> str:
    goals = sorted_trials.goals
    feasible = [goals.is_feasible(outcomes_of(trial, goals)) for trial in sorted_trials.excluded]
    texts = ["infeasible"] * (not all(feasible)) + ["outside of the space"] * any(feasible)
    return " or ".join(texts)


def axis_ends(
    values: npt.NDArray[np.float64], held: npt.NDArray[np.float64], sign: float
) -> tuple[bool, tuple[float, float]]:
    """Whether an axis is logarithmic, and its ends.

    Args:
        values: on the axis, of which bad outliers may lie beyond the ends.
        held: values that the ends hold.
        sign: -1 if larger values are better, or else 1.
    """
    axis = value_axis((sign * values).tolist(), sign)
    if axis.log:
        positive = np.concatenate((values, held[held > 0.0]))
        low, high = float(positive.min()), float(positive.max())
        margin = (high / low) ** 0.06
        return True, (low / margin, high * margin)
    if axis.limits is not None:
        values = values[(values >= axis.limits[0]) & (values <= axis.limits[1])]
    within = np.concatenate((values, held))
    low, high = float(within.min()), float(within.max())
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return False, (low - margin, high + margin)


def attained(
    front: npt.NDArray[np.float64], signs: Sequence[float], limits: Sequence[tuple[float, float]]
) -> npt.NDArray[np.float64]:
    """The corners (2, c) of the line beyond which two objectives are attained, to the ends of the panel."""
    first, second = (sign * values for sign, values in zip(signs, front, strict=True))
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    better = second < np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
    first, second = first[better], second[better]
    worst = [max(sign * end for end in ends) for sign, ends in zip(signs, limits, strict=True)]
    across = np.concatenate((np.repeat(first, 2), [worst[0]]))
    up = np.concatenate(([worst[1]], np.repeat(second, 2)))
    return np.stack((signs[0] * across, signs[1] * up))


def _draw_beliefs(axes: "Axes", across: "pd.DataFrame", up: "pd.DataFrame") -> None:
    """Crosses at posterior means, one standard deviation long to each side."""
    axes.errorbar(
        across["mean"],
        up["mean"],
        xerr=across["std"],
        yerr=up["std"],
        fmt="none",
        ecolor=INK,
        elinewidth=1.1,
        alpha=0.7,
        label="model: mean ± std",
        zorder=2.5,
    )


def _note(axes: "Axes", sorted_trials: FrontTrials) -> None:
    """Legend entries of trials that have no dot."""
    for trials, what in ((sorted_trials.incomplete, "not fully measured"), (sorted_trials.failed, "failed")):
        if trials:
            axes.plot([], [], "x", color=INK, markersize=6, label=f"{len(trials)} {what}")
