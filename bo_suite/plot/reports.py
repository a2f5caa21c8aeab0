"""What figures of learning curves need of a run that reports."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bo_suite.errors import TrialError
from bo_suite.plot.convergence import value_axis
from bo_suite.plot.run import Run, require_run
from bo_suite.plot.style import draw_name, plain_log_ticks, short_name
from bo_suite.space.space import Space
from bo_suite.storage.addresses import Location
from bo_suite.storage.goals import VALUE, Goals
from bo_suite.storage.history import History
from bo_suite.storage.serialization import restored
from bo_suite.storage.trial import Trial
from bo_suite.study.curves import is_measured
from bo_suite.study.scheduling import CurveModel, Progress, Scheduler
from bo_suite.study.summary import trials_at_target

if TYPE_CHECKING:  # matplotlib is slow to import, and most runs draw nothing
    from matplotlib.axes import Axes

LOG_FROM = 20.0
"""Ratio of the last step and the first reported one from which an axis of steps is logarithmic."""

_PLAIN = 1e-3, 1e4
"""Outcomes between these are plain numbers beside a logarithmic axis."""


@dataclass(frozen=True, eq=False)
class Reports:
    """The trials of a run with their learning curves.

    Attributes:
        trials: all but the withdrawn ones, ordered by id.
        space: of the run.
        goals: with one objective.
        scheduler: judges the trials; None if none does.
    """

    trials: Sequence[Trial]
    space: Space
    goals: Goals
    scheduler: Scheduler | None

    @staticmethod
    def of(run: Run | Location) -> "Reports":
        """The reports of an Optimizer or a Result, or of the history at a path or an address.

        Raises:
            TrialError: the run has several objectives, no trial has reported, or it is no run.
            StorageError: there is no history, or its scheduler cannot be restored.
        """
        if isinstance(run, Location):
            with closing(History.open(run, None)) as history:
                header, trials = history.header, history.trials()
            scheduler = None if header.scheduler is None else restored(header.scheduler, "a scheduler")
            return Reports.among(trials, header.space, header.goals, scheduler)
        run = require_run(run)
        return Reports.among(run.trials, run.space, run.goals, run.scheduler)

    @staticmethod
    def among(trials: Sequence[Trial], space: Space, goals: Goals, scheduler: Scheduler | None) -> "Reports":
        """The reports of trials; raises a TrialError as `of`."""
        if goals.several:
            raise TrialError(f"learning curves need one objective, got {goals}")
        kept = [trial for trial in trials if trial.state != "withdrawn"]
        if not any(trial.reports for trial in kept):
            raise TrialError(
                f"no trial has reported, so there are no learning curves, got {len(kept)} trials"
            )
        return Reports(kept, space, goals, scheduler)

    @property
    def sign(self) -> float:
        """1 if smaller outcomes are better, -1 if larger ones are."""
        return self.goals.objectives[0].sign

    @property
    def name(self) -> str:
        """Of the objective."""
        return self.goals.objectives[0].name

    @property
    def max_step(self) -> int:
        """The last step of a whole evaluation; without a scheduler, the largest one that was reported."""
        return max(trial.step for trial in self.trials) if self.scheduler is None else self.scheduler.max_step

    @property
    def first(self) -> int:
        """The first step that any trial has reported."""
        return min(trial.reports[0].step for trial in self.trials if trial.reports)

    @property
    def progress(self) -> Progress:
        """The trials as a scheduler sees them, but for the seed."""
        return Progress(self.trials, 0, self.sign, _no_model)

    def rungs(self) -> list[int]:
        """The steps below the last one at which some trial is judged, ascending."""
        if self.scheduler is None:
            return []
        progress = self.progress
        judged = (self.scheduler.rungs(trial, progress) for trial in self.trials if trial.reports)
        return sorted({rung for rungs in judged for rung in rungs})

    def curve(self, trial: Trial) -> tuple[list[int], list[float]]:
        """Steps and values of a trial: its reports, and the outcome of a finished one at the last step."""
        steps = [report.step for report in trial.reports]
        values = [report.value for report in trial.reports]
        if is_measured(trial) and trial.step < self.max_step and trial.value is not None:
            return [*steps, self.max_step], [*values, trial.value]
        return steps, values

    @property
    def reporting(self) -> Sequence[Trial]:
        """The trials that have reported."""
        return [trial for trial in self.trials if trial.reports]

    @property
    def spent(self) -> int:
        """How many steps these have taken; those of a finished one are all."""
        return sum(self.curve(trial)[0][-1] for trial in self.reporting)

    @property
    def best(self) -> Trial | None:
        """The best finished trial that is in the space; None if there is none."""
        finished = [trial for trial in trials_at_target(self.trials, self.space) if is_measured(trial)]
        inside = [trial for trial in finished if self.space.contains(trial.params)]
        return min(inside, key=lambda trial: self.sign * (trial.value or 0.0), default=None)


def scale_values(axes: "Axes", reports: Reports, values: Sequence[float]) -> None:
    """The axis of outcomes: logarithmic if positive ones span decades, without a few bad ones, and named."""
    axis = value_axis([reports.sign * value for value in values], reports.sign)
    if axis.log:
        axes.set_yscale("log")
        if min(values) > _PLAIN[0] and max(values) < _PLAIN[1]:
            plain_log_ticks(axes.yaxis)
    if axis.limits is not None:
        axes.set_ylim(*axis.limits)
    if reports.name != VALUE:
        draw_name(axes.yaxis.label, short_name(reports.name))
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _no_model() -> CurveModel:
    raise AssertionError("rungs do not depend on a model of the curves")
