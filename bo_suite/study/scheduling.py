"""What a scheduler is, and what it may look at."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol, runtime_checkable

from bo_suite.storage.trial import Report, Trial, Verdict


class CurveModel(Protocol):
    """What the learning curves of a run say about outcomes at the last step."""

    def probability_of_improvement(self, trial: Trial) -> float:
        """Probability that a trial will be better at the last step than all finished ones; 1 if none is."""

    def log_expected_improvement(self, trial: Trial) -> float:
        """Log of the expected improvement of a trial at the last step on all finished ones.

        While none is finished, what a trial is expected to reach there, negated.
        """


@dataclass(frozen=True)
class Progress:
    """What the trials of a run have reported so far: all that a verdict may depend on.

    Attributes:
        trials: all trials, ordered by id.
        seed: of the run.
        sign: 1 if a smaller value is better, -1 if a larger one is.
        curves: returns the model of the learning curves; it is fitted then.
    """

    trials: Sequence[Trial]
    seed: int
    sign: float
    curves: Callable[[], CurveModel]

    def loss(self, trial: Trial, rung: int) -> float | None:
        """The value at the first reported step of at least `rung`, smaller is better; None before that."""
        return self.sign * _first(trial.reports, rung).value if trial.step >= rung else None

    def losses(self, rung: int) -> dict[int, float]:
        """By id, the losses of all trials that have reached a rung and were not withdrawn."""
        losses = {}
        for trial in self.trials:  # many end below most rungs: look at the last report first
            reports = trial.reports
            if reports and reports[-1].step >= rung and trial.state != "withdrawn":
                losses[trial.id] = self.sign * _first(reports, rung).value
        return losses


def _first(reports: Sequence[Report], rung: int) -> Report:
    """The first report at or above a rung that the last one has reached."""
    return reports[bisect_left(reports, rung, key=attrgetter("step"))]


@runtime_checkable
class Scheduler(Protocol):
    """Decides which trials go on at a step; a frozen value, whose answers depend on `Progress` alone."""

    @property
    def max_step(self) -> int:
        """The last step of a whole evaluation."""

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps below `max_step` at which a trial is judged, ascending."""

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """Whether a trial goes on that has just crossed a rung: its last report has at least the rung's step.

        Args:
            trial: the trial, as it is in `progress`.
            progress: of the run, this report included.
        """

    def promoted(self, progress: Progress) -> int | None:
        """The id of the paused trial that is continued next; None if a new one is to be started."""
