"""Asynchronous successive halving that pauses trials, and continues the best ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from bo_suite.run.schedulers.rungs import checked_ladder, ladder, promotable
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress


@dataclass(frozen=True)
class PromotionASHA:
    """Pauses each trial at each rung, and continues it once it is among the best 1/factor of those there.

    The rungs are min_step * factor^k below max_step. Before a new trial is started, the rungs are searched
    from the highest down: of m trials at one, the m // factor of smallest loss may go on, and the best of
    these that is still paused there does. No trial is given up for good, so one whose curve starts slowly is
    continued when enough trials have reached its rung. Evaluations need checkpoints, or begin again.

    Reference: Li et al., "A system for massively parallel hyperparameter tuning" (2020), algorithm 2.

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
        return self._rungs

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """Always "pause"."""
        return "pause"

    def promoted(self, progress: Progress) -> int | None:
        """The best trial that may go on, at the highest rung that has one; the earliest of equal ones."""
        return promotable(progress, self._rungs, self.factor, self.max_step)

    @property
    def _rungs(self) -> tuple[int, ...]:
        return ladder(self.max_step, self.min_step, self.factor)
