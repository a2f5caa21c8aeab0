"""The figure of a run: its evaluations, and the best so far."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from bo_suite.errors import TrialError
from bo_suite.plot.run import Run, is_run
from bo_suite.plot.style import INK, MIST, RED, draw_name, new_figure
from bo_suite.plot.volume import hypervolume_figure
from bo_suite.space.space import Space
from bo_suite.storage.goals import VALUE, Direction, Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import outcomes_of, trials_at_target
from bo_suite.values.describe import described

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LARGEST, _LOG_SMALLEST, _LOG_LARGEST = 1e300, 1e-200, 1e200
"""Magnitudes are clipped to these, so that an axis, its margins and its ticks stay finite."""


@dataclass(frozen=True)
class Course:
    """What a figure of convergence shows.

    Attributes:
        finished: id and value of the finished trials, in order of id.
        inside: ids of those in the space that are feasible, which alone may be the best.
        infeasible: ids of finished trials that are not feasible.
        failed: ids of the failed trials, in order.
    """

    finished: Sequence[tuple[int, float]]
    inside: Set[int]
    infeasible: Set[int]
    failed: Sequence[int]

    @staticmethod
    def of(trials: Sequence[Trial], goals: Goals, space: Space | None) -> "Course":
        """The course of trials; with a space of those at its target fidelity."""
        shown = trials if space is None else trials_at_target(trials, space)
        finished = [trial for trial in shown if trial.measured]
        feasible = {trial.id for trial in finished if goals.is_feasible(outcomes_of(trial, goals))}
        return Course(
            sorted((trial.id, trial.value) for trial in finished if trial.value is not None),
            {trial.id for trial in shown if space is None or space.contains(trial.params)} & feasible,
            {trial.id for trial in finished} - feasible,
            sorted(trial.id for trial in shown if trial.state == "failed"),
        )

    @property
    def counted(self) -> list[tuple[int, float]]:
        """The finished trials in the space that are feasible."""
        return [pair for pair in self.finished if pair[0] in self.inside]


def plot_convergence(
    run: Run | Sequence[Trial],
    direction: Direction | None = None,
    *,
    minimum: float | None = None,
    space: Space | None = None,
    reference: Mapping[str, float] | None = None,
) -> "Figure":
    """Draw evaluations as dots, the best so far as a step line, failed trials as crosses on the lower edge.

    Trials that were left outside when the space was narrowed are evaluations, but none of them is the best.
    Nor is any that is infeasible, which are grey.

    With several objectives the step line is the hypervolume of the front of feasible trials: the volume, in
    the product of the user's units, of what they dominate up to a reference point.

    With `minimum` the axis is the distance to it (the simple regret), on a log scale; values at the minimum,
    or beyond it by noise or rounding, are drawn at half of the smallest positive distance. Without `minimum`
    the axis is the value: on a log scale if positive values span decades, or else on a linear scale, cut off
    (with a triangle for each value beyond) if a few bad values would squash all others.

    Args:
        run: an Optimizer or a Result, of which the trials at the target fidelity are drawn; or trials of one
            run, in any order. Running trials are ignored.
        direction: "minimize" or "maximize", of trials, or these by name of each objective; None for the goals
            of the run.
        minimum: the best possible value (the maximum if the direction is "maximize").
        space: of trials; None for that of the run, or to count all trials as inside and at the target.
        reference: of several objectives, a point that bounds the volume, as values by name. None for the
            worst feasible value of each objective over all trials, which moves as the run goes on.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: trials without a direction; several objectives with `minimum`, or one with `reference`.
        ArgumentError: the reference point has not a finite number for each objective.
    """
    from matplotlib.ticker import MaxNLocator

    if is_run(run):
        trials, space = run.trials, space or run.space
        goals = run.goals if direction is None else Goals.of(direction)
    else:
        trials, goals = list(run), Goals.of(direction)  # type: ignore[arg-type]
    if minimum is not None and goals.several:
        raise TrialError(f"`minimum` needs one objective, got {minimum} of {goals}")
    if reference is not None and not goals.several:
        raise TrialError(f"`reference` needs several objectives, got {described(reference)} of {goals}")
    if goals.several:
        return hypervolume_figure(trials, goals, space, reference)
    sign = goals.objectives[0].sign
    course = Course.of(trials, goals, space)

    figure, ((axes,),) = new_figure(height=4.2)
    axes.set_title(_title(course, sign), loc="left", fontsize=11)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    if course.finished:
        _draw_evaluations(axes, course, sign, minimum)
        if minimum is None and goals.objectives[0].name != VALUE:
            draw_name(axes.yaxis.label, goals.objectives[0].name)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no trial has a value yet", transform=axes.transAxes, ha="center", color="0.4")
    if course.failed:
        lower_edge = [0.025] * len(course.failed)
        across = axes.get_xaxis_transform()
        axes.plot(course.failed, lower_edge, "x", color=INK, markersize=6, transform=across, label="failed")
    if ids := [number for number, _ in course.finished] + list(course.failed):
        axes.set_xlim(min(ids) - 0.8, max(ids) + 0.8)
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
    return figure


def _title(course: Course, sign: float) -> str:
    """Name the best value inside and its trial, and count the trials."""
    others = ((len(course.infeasible), "infeasible"), (len(course.failed), "failed"))
    counts = f"{len(course.finished)} evaluated" + "".join(f", {n} {what}" for n, what in others if n)
    if not course.counted:
        return counts
    number, best = min(course.counted, key=lambda pair: sign * pair[1])
    return f"best {best:.6g} at trial {number}  ({counts})"


def _draw_evaluations(axes: "Axes", course: Course, sign: float, minimum: float | None) -> None:
    """Draw dots, and the step line of those inside, on a suitable axis; `sign` is -1 if larger is better."""
    ids = [number for number, _ in course.finished]
    losses = [min(max(sign * value, -_LARGEST), _LARGEST) for _, value in course.finished]
    if minimum is None:
        heights = [sign * loss for loss in losses]
        axes.set_ylabel("value")
        _choose_scale(axes, ids, losses, sign)
    else:
        heights = _regrets(losses, sign * minimum)
        axes.set_ylabel(f"distance to the {'maximum' if sign < 0 else 'minimum'} {minimum:.6g}")
        axes.set_yscale("log")
    dots = list(zip(ids, heights, strict=True))
    feasible = [dot for dot in dots if dot[0] not in course.infeasible]
    infeasible = [dot for dot in dots if dot[0] in course.infeasible]
    if feasible:
        pairs = zip(*feasible, strict=True)
        axes.plot(*pairs, "o", color=MIST, markersize=5, markeredgewidth=0, label="evaluation")
    if infeasible:
        pairs = zip(*infeasible, strict=True)
        axes.plot(*pairs, "o", color="0.72", fillstyle="none", markersize=5, label="infeasible")
    counted = [(number, height) for number, height in dots if number in course.inside]
    if not counted:
        return
    steps = [number for number, _ in counted]
    best = list(accumulate((height for _, height in counted), max if sign < 0 and minimum is None else min))
    axes.step(steps, best, where="post", color=RED, linewidth=1.8, label="best so far", zorder=1.9)
    axes.plot(steps[best.index(best[-1])], best[-1], "o", color=RED, markersize=7, markeredgecolor="white")


def _regrets(losses: list[float], minimum: float) -> list[float]:
    """Return distances to the minimum; those <= 0 become half of the smallest positive distance."""
    distances = [loss - minimum for loss in losses]
    positive = [distance for distance in distances if distance > 0]
    floor = max(min(positive) / 2 if positive else 1e-16 * max(abs(minimum), 1.0), _LOG_SMALLEST)
    return [min(max(distance, floor), _LOG_LARGEST) for distance in distances]


@dataclass(frozen=True)
class ValueAxis:
    """The axis that shows values of a run best.

    Attributes:
        log: whether it is logarithmic.
        limits: lower and upper end that leave out outliers; None if there are none.
    """

    log: bool
    limits: tuple[float, float] | None


def value_axis(losses: Sequence[float], sign: float) -> ValueAxis:
    """A log axis for decades of positive values, or else a linear one that excludes outliers.

    Args:
        losses: the values times `sign`, so that smaller is better; not empty.
        sign: -1 if larger values are better, or else 1.
    """
    best, worst = min(losses), max(losses)
    usual = sorted(losses)[int(0.85 * len(losses))]
    if sign > 0 and best > _LOG_SMALLEST and worst < _LOG_LARGEST and usual > 10 * best:
        return ValueAxis(True, None)
    if worst - best > 10 * (usual - best) > 0:
        end = best + 1.5 * (usual - best)
        low, high = sorted((sign * (best - 0.1 * (end - best)), sign * end))
        return ValueAxis(False, (low, high))
    return ValueAxis(False, None)


def _choose_scale(axes: "Axes", ids: list[int], losses: list[float], sign: float) -> None:
    """Set the axis of `value_axis`, and mark the values beyond it."""
    axis = value_axis(losses, sign)
    if axis.log:
        axes.set_yscale("log")
    if axis.limits is not None:
        axes.set_ylim(*axis.limits)
        end = max(sign * limit for limit in axis.limits)
        beyond = [number for number, loss in zip(ids, losses, strict=True) if loss > end]
        edge = [0.975 if sign > 0 else 0.025] * len(beyond)
        style = "^" if sign > 0 else "v"
        across = axes.get_xaxis_transform()
        axes.plot(beyond, edge, style, color=MIST, transform=across, label="evaluation off the axis")
