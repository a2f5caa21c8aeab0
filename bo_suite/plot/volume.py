"""The figure of a run with several objectives: the hypervolume of its front over evaluations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bo_suite.errors import TrialError
from bo_suite.plot.style import INK, MIST, RED, draw_name, new_figure, short_name
from bo_suite.space.space import Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.fronts import FrontTrials, HypervolumeCourse
from bo_suite.values.describe import visible

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LONGEST = 44
"""Most letters of a line of the label of the axis."""


def hypervolume_figure(
    trials: Sequence[Trial], goals: Goals, space: Space | None, reference: object
) -> "Figure":
    """Draw the hypervolume of the feasible front after each feasible trial, as `plot_convergence` says.

    Raises:
        TrialError: trials without a space.
        ArgumentError: the reference point has not a finite number for each objective.
    """
    from matplotlib.ticker import MaxNLocator

    if space is None:
        raise TrialError("trials with several objectives need `space`, got none")
    sorted_trials = FrontTrials.of(trials, goals, space)
    course = HypervolumeCourse.of(sorted_trials, reference)
    figure, ((axes,),) = new_figure(height=4.2)
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_title(_title(sorted_trials, course), loc="left", fontsize=11)
    if course is not None and course.ids:
        first, second = volume_label(course)
        draw_name(axes.yaxis.label, first)
        axes.yaxis.label.set_text(f"{first}\n{visible(second)}")  # draw_name would escape the break
        axes.step(course.ids, course.volumes, where="post", color=RED, linewidth=1.8, label="hypervolume")
        axes.plot(
            course.ids, course.volumes, "o", color=MIST, markersize=5, markeredgewidth=0, label="feasible"
        )
        axes.set_ylim(bottom=-0.07 * max(course.volumes[-1], 1e-300))
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no trial is feasible yet", transform=axes.transAxes, ha="center", color="0.4")
    _draw_others(axes, sorted_trials)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
    return figure


def volume_label(course: HypervolumeCourse) -> tuple[str, str]:
    """What the axis of a hypervolume is, up to which reference point, in two lines."""
    point = ", ".join(f"{short_name(name, 16)} {value:.4g}" for name, value in course.reference.items())
    if len(point) > _LONGEST:
        point = "value of each objective" if course.inferred else "the given reference point"
    return f"hypervolume up to{' the worst feasible' if course.inferred else ''}", point


def _title(sorted_trials: FrontTrials, course: HypervolumeCourse | None) -> str:
    feasible, failed = len(sorted_trials.feasible), len(sorted_trials.failed)
    finished = feasible + len(sorted_trials.excluded) + len(sorted_trials.incomplete)
    counts = f"{f'{feasible} feasible of ' * (feasible < finished)}{finished} evaluated"
    volume = "" if course is None or not course.volumes else f"hypervolume {course.volumes[-1]:.4g}, "
    front = f"{volume}{len(sorted_trials.front)} in the Pareto front"
    return f"{front}  ({counts}{f', {failed} failed' * bool(failed)})"


def _draw_others(axes: "Axes", sorted_trials: FrontTrials) -> None:
    """Draw trials that add nothing on the lower edge."""
    across = axes.get_xaxis_transform()
    for trials, marker, color, label in (
        (sorted_trials.excluded, "o", "0.72", "infeasible or outside"),
        (sorted_trials.incomplete, "s", "0.72", "not fully measured"),
        (sorted_trials.failed, "x", INK, "failed"),
    ):
        if trials:
            ids = [trial.id for trial in trials]
            axes.plot(
                ids,
                [0.025] * len(ids),
                marker,
                color=color,
                fillstyle="none",
                markersize=6,
                transform=across,
                label=label,
            )
