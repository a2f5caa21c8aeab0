"""What a scheduler is, and what it may look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bo_suite.storage.trial import Trial, Verdict


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
    curves: Callable[[], Any]

    def loss(self, trial: Trial, rung: int) -> float | None:
        """The value at the first reported step of at least `rung`, smaller is better; None before that."""
        value = next((report.value for report in trial.reports if report.step >= rung), None)
        return None if value is None else self.sign * value

    def losses(self, rung: int) -> dict[int, float]:
        """By id, the losses of all trials that have reached a rung and were not withdrawn."""
        losses = ((trial.id, self.loss(trial, rung)) for trial in self.trials if trial.state != "withdrawn")
        return {number: loss for number, loss in losses if loss is not None}


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
