"""What the trials of an Optuna study report, as reports of ours."""

import math
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from bo_suite.storage.trial import Report


@dataclass(frozen=True)
class Steps:
    """How the steps of a study are counted: its step `first` is our step 1.

    Attributes:
        first: number that the study's functions give to the first step.
        last: the last step of a whole evaluation, from 1 on.
    """

    first: int
    last: int

    def ours(self, step: int) -> int:
        """Our number of a step of the study; below 1 for one before the first."""
        return step - self.first + 1

    def reports(self, trial: FrozenTrial) -> tuple[Report, ...]:
        """The finite values that a trial has reported from the first to the last step, by ascending step."""
        values = {self.ours(step): value for step, value in trial.intermediate_values.items()}
        return tuple(
            Report(step, value, 0.0, 1)
            for step, value in sorted(values.items())
            if 1 <= step <= self.last and math.isfinite(value)
        )

    def stopped(self, trial: FrozenTrial) -> bool:
        """Whether a trial was pruned after a report that counts, and the last one was finite."""
        if trial.state != TrialState.PRUNED or trial.last_step is None:
            return False
        return math.isfinite(trial.intermediate_values[trial.last_step]) and bool(self.reports(trial))
