"""Asynchronous successive halving that stops trials."""

from collections.abc import Sequence
from dataclasses import dataclass

from bo_suite.run.schedulers.rungs import checked_ladder, highest_rung, ladder, verdict_among
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress


@dataclass(frozen=True)
class ASHA:
    """Stops a trial at a rung unless it is among the best 1/factor of those that have reached it so far.

    The rungs are min_step * factor^k below max_step. Of m trials at a rung, this one included, the
    max(1, m // factor) of smallest loss go on, and those of equal loss; the first `factor` - 1 of a rung all
    go on. So the best of a rung is never stopped there, and no trial waits for another one.

    Reference: Li et al., "A system for massively parallel hyperparameter tuning" (2020).

    Attributes:
        max_step: the last step of a whole evaluation.
        min_step: the first rung.
        factor: ratio of a rung and the one before; an integer of at least 2.

    Raises:
        ArgumentError: an attribute breaks a rule, or the first rung is not below max_step.
    """

    max_step: int
    min_step: int = 1
    factor: int = 3

    def __post_init__(self) -> None:
        values = checked_ladder(self.max_step, self.min_step, self.factor)
        for name, value in zip(("max_step", "min_step", "factor"), values, strict=True):
            object.__setattr__(self, name, value)

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps at which a trial is judged, ascending; the same for all trials."""
        return ladder(self.max_step, self.min_step, self.factor)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """ "stop" unless the trial is among the best at the highest rung that it has reached."""
        rung = highest_rung(self.rungs(trial, progress), trial.step)
        return verdict_among(progress.losses(rung), trial.id, self.factor)

    def promoted(self, progress: Progress) -> int | None:
        """None: no trial is paused."""
        return None
