"""The figure of a run: its evaluations, and the best so far."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from bo_suite.errors import TrialError
from bo_suite.plot.run import Run, is_run
from bo_suite.plot.style import INK, MIST, RED, new_figure
from bo_suite.space.space import Space
from bo_suite.storage.goals import Direction
from bo_suite.storage.trial import Trial
from bo_suite.study.summary import trials_at_target
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
        inside: ids of those in the space, which alone may be the best.
        failed: ids of the failed trials, in order.
    """

    finished: Sequence[tuple[int, float]]
    inside: Set[int]
    failed: Sequence[int]

    @staticmethod
    def of(trials: Sequence[Trial], space: Space | None) -> "Course":
        """The course of trials; with a space of those at its target fidelity."""
        shown = trials if space is None else trials_at_target(trials, space)
        return Course(
            sorted((trial.id, trial.value) for trial in shown if trial.value is not None),
            {trial.id for trial in shown if space is None or space.contains(trial.params)},
            sorted(trial.id for trial in shown if trial.state == "failed"),
        )

    @property
    def counted(self) -> list[tuple[int, float]]:
        """The finished trials in the space."""
        return [pair for pair in self.finished if pair[0] in self.inside]


def plot_convergence(
    run: Run | Sequence[Trial],
    direction: Direction | None = None,
    *,
    minimum: float | None = None,
    space: Space | None = None,
) -> "Figure":
    """Draw evaluations as dots, the best so far as a step line, failed trials as crosses on the lower edge.

    Trials that were left outside when the space was narrowed are evaluations, but none of them is the best.

    With `minimum` the axis is the distance to it (the simple regret), on a log scale; values at the minimum,
    or beyond it by noise or rounding, are drawn at half of the smallest positive distance. Without `minimum`
    the axis is the value: on a log scale if positive values span decades, or else on a linear scale, cut off
    (with a triangle for each value beyond) if a few bad values would squash all others.

    Args:
        run: an Optimizer or a Result, of which the trials at the target fidelity are drawn; or trials of one
            run, in any order. Running trials are ignored.
        direction: "minimize" or "maximize", of trials; None for that of the run.
        minimum: the best possible value (the maximum if the direction is "maximize").
        space: of trials; None for that of the run, or to count all trials as inside and at the target.

    Returns:
        A figure; `figure.savefig(path)` writes it.

    Raises:
        TrialError: trials without a direction.
    """
    from matplotlib.ticker import MaxNLocator

    if is_run(run):
        trials, direction, space = run.trials, direction or run.direction, space or run.space
    else:
        trials = list(run)  # type: ignore[arg-type]
    if direction not in ("minimize", "maximize"):
        raise TrialError(f"direction must be 'minimize' or 'maximize', got {described(direction)}")
    sign = -1.0 if direction == "maximize" else 1.0
    course = Course.of(trials, space)

    figure, ((axes,),) = new_figure(height=4.2)
    axes.set_title(_title(course, sign), loc="left", fontsize=11)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    if course.finished:
        _draw_evaluations(axes, course, sign, minimum)
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
    failures = len(course.failed)
    counts = f"{len(course.finished)} evaluated" + (f", {failures} failed" if failures else "")
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
    axes.plot(ids, heights, "o", color=MIST, markersize=5, markeredgewidth=0, label="evaluation")
    counted = [
        (number, height) for number, height in zip(ids, heights, strict=True) if number in course.inside
    ]
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
