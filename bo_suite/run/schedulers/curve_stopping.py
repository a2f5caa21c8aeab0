"""Stopping by the learning curves of all trials: what is hardly going to be the best does not go on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bo_suite.errors import ArgumentError
from bo_suite.run.schedulers.rungs import checked_ladder
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress
from bo_suite.values.describe import described
from bo_suite.values.numbers import number_of, require_int

_RATIO = 1.5
"""Ratio of a step at which trials are judged and the one before."""


@dataclass(frozen=True)
class CurveStopping:
    """Stops a trial when it will hardly be better at the last step than the best finished trial.

    At steps in geometric progression from `min_step` on, the outcome of the trial at the last step is
    predicted from its reports and the curves of all trials (`LearningCurves`), as N(m, v). It is stopped if
    Φ((best - m) / √v) < threshold. Before `finished` trials have reached the last step, all go on. A trial
    that learns slowly goes on for as long as curves like its own have been seen to become good, or too few
    curves have been seen; and the best trial at a step goes on, whatever the model says.

    References: Domhan, Springenberg and Hutter (2015); Swersky, Snoek and Adams (2014).

    Attributes:
        max_step: the last step of a whole evaluation.
        min_step: the first step at which trials are judged; a tenth of the last one when None.
        threshold: probability of improvement below which a trial is stopped.
        finished: number of trials at the last step before which none is stopped.

    Raises:
        ArgumentError: an attribute breaks a rule, or min_step is not below max_step.
    """

    max_step: int
    min_step: int | None = None
    threshold: float = 0.05
    finished: int = 7

    def __post_init__(self) -> None:
        last = require_int("max_step", self.max_step, at_least=2, error=ArgumentError)
        first = max(1, last // 10) if self.min_step is None else self.min_step
        last, first, _ = checked_ladder(last, first, 2)
        threshold = number_of(self.threshold)
        if threshold is None or not 0.0 < threshold < 1.0:
            raise ArgumentError(f"`0 < threshold < 1` must hold, got {described(self.threshold)}")
        finished = require_int("finished", self.finished, at_least=1, error=ArgumentError)
        values = {"max_step": last, "min_step": first, "threshold": threshold, "finished": finished}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        """The steps at which a trial is judged, ascending; the same for all trials."""
        assert self.min_step is not None
        count = math.ceil(math.log(self.max_step / self.min_step, _RATIO) - 1e-9)
        steps = {round(self.min_step * _RATIO**index) for index in range(count)}
        return sorted(step for step in steps if step < self.max_step)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        """ "stop" if the trial has a small probability of improvement, by the curves of all trials."""
        if sum(one.state == "finished" for one in progress.trials) < self.finished:
            return "continue"
        losses = progress.losses(trial.step)
        if losses[trial.id] <= min(losses.values()):
            return "continue"
        probability = progress.curves().probability_of_improvement(trial)
        return "continue" if probability >= self.threshold else "stop"

    def promoted(self, progress: Progress) -> int | None:
        """None: no trial is paused."""
        return None
