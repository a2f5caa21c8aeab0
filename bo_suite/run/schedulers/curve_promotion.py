"""Halving by the learning curves of all trials: those go on that are expected to gain most per second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bo_suite.run.schedulers.rungs import checked_ladder, ladder
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress


@dataclass(frozen=True)
class CurvePromotion:
    """Pauses each trial at each rung, and continues those of the largest expected improvement per second.

    The rungs are min_step * factor^k below max_step. Of m trials that have reached a rung, m // factor may go
    on. Of the paused trials at rungs where fewer have gone on, the one goes on whose expected improvement at
    the last step on the best finished trial, divided by the seconds that are missing there, is largest. Both
    are predicted: the outcome by the curves of all trials (`LearningCurves`), the time by that of the steps
    so far. So where `PromotionASHA` compares values at a rung, this compares what becomes of them, at what
    cost. Evaluations need checkpoints, or begin again.

    Reference: Swersky, Snoek and Adams, "Freeze-thaw Bayesian optimization" (2014), for the idea.

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
        """The steps at which a trial is paused, ascending; the same for all trials."""
        return ladder(self.max_step, self.min_step, self.factor)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """Always "pause"."""
        return "pause"

    def promoted(self, progress: Progress) -> int | None:
        """The paused trial of the largest value per cost; the earliest of equal ones."""
        rungs = ladder(self.max_step, self.min_step, self.factor)
        candidates: list[Trial] = []
        for rung, following in zip(rungs, (*rungs[1:], self.max_step), strict=True):
            there = [trial for trial in progress.trials if trial.step >= rung and trial.state != "withdrawn"]
            waiting = [trial for trial in there if trial.state == "paused" and trial.step < following]
            if len(there) - len(waiting) < len(there) // self.factor:
                candidates += waiting
        if not candidates:
            return None
        curves = progress.curves()

        def value(trial: Trial) -> float:
            seconds = trial.reports[-1].seconds / trial.step * (self.max_step - trial.step)
            return curves.log_expected_improvement(trial) - math.log(max(seconds, 1e-9))

        return max(candidates, key=lambda trial: (value(trial), -trial.id)).id
