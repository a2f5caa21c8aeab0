"""The median stopping rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from bo_suite.errors import ArgumentError
from bo_suite.run.schedulers.rungs import highest_rung
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress
from bo_suite.values.numbers import require_int

_UNIT = 2.0**20  # of losses, whose sum would overflow if they are as large as 1e307


@dataclass(frozen=True)
class MedianRule:
    """Stops a trial whose best value so far is worse than the median of what the others had on average.

    At a rung, the trial's smallest loss up to now is compared with the median, over all other trials that
    have reached the rung, of the mean of their losses up to there. (The article compares with finished
    trials alone; where trials are stopped these would be the best ones.) The trial of smallest loss at the
    rung always goes on, and so does every trial until `min_trials` others have reached the rung.

    Reference: Golovin et al., "Google Vizier: a service for black-box optimization" (2017), section 3.2.2.

    Attributes:
        max_step: the last step of a whole evaluation.
        min_step: the first rung; None for a tenth of max_step, rounded up. A trial that starts slowly needs
            so many steps to be ahead of the median.
        every: number of steps from a rung to the next one.
        min_trials: number of other trials at a rung before one is stopped there.

    Raises:
        ArgumentError: an attribute is no integer or below 1, or the first rung is not below max_step.
    """

    max_step: int
    min_step: int | None = None
    every: int = 1
    min_trials: int = 5

    def __post_init__(self) -> None:
        for name in ("max_step", "every", "min_trials"):
            value = require_int(name, getattr(self, name), at_least=1, error=ArgumentError)
            object.__setattr__(self, name, value)
        if self.min_step is not None:
            first = require_int("min_step", self.min_step, at_least=1, error=ArgumentError)
            object.__setattr__(self, "min_step", first)
        if self.max_step <= self._first:
            raise ArgumentError(
                "max_step must be above min_step, the first rung, "
                f"got max_step = {self.max_step} and min_step = {self._first}"
            )

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps at which a trial is judged, ascending; the same for all trials."""
        return range(self._first, self.max_step, self.every)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """ "stop" if the trial is worse than the median at the highest rung that it has reached."""
        rung = highest_rung(self.rungs(trial, progress), trial.step)
        losses = progress.losses(rung)
        own = losses.pop(trial.id)
        if len(losses) < self.min_trials or own <= min(losses.values()):
            return "continue"
        means = [_mean_loss(other, rung, progress) for other in progress.trials if other.id in losses]
        best = min(progress.sign * report.value for report in trial.reports)
        return "stop" if best > median(means) else "continue"

    def promoted(self, progress: Progress) -> int | None:
        """None: no trial is paused."""
        return None

    @property
    def _first(self) -> int:
        return -(-self.max_step // 10) if self.min_step is None else self.min_step


def _mean_loss(trial: Trial, rung: int, progress: Progress) -> float:
    """The mean of a trial's losses up to the report that crosses a rung."""
    losses = []
    for report in trial.reports:
        losses.append(progress.sign * report.value)
        if report.step >= rung:
            break
    return _UNIT * fmean(loss / _UNIT for loss in losses)
