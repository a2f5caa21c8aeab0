"""What the scheduler of a run decides: which trials stop at a report, and which paused one is continued."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Literal, SupportsFloat

from bo_suite.errors import TrialError
from bo_suite.space.space import Params
from bo_suite.storage.attempts import checked_step, checked_verdict
from bo_suite.storage.protocol import Storage
from bo_suite.storage.serialization import restored
from bo_suite.storage.trial import Trial
from bo_suite.study.arguments import check_judgeable, check_scheduler
from bo_suite.study.asking import logged
from bo_suite.study.scheduling import CurveModel, Progress, Scheduler
from bo_suite.values.numbers import number_of

Answer = Literal["continue", "stop"]
"""What a report is answered."""


class Judge:
    """Stores reports and answers them as the scheduler of a history says; without one, all trials go on.

    Attributes:
        scheduler: decides; None if there is none.

    Args:
        history: stores the trials.
        scheduler: None for that of the history.

    Raises:
        StorageError: the scheduler of the history must be given again.
        TrialError: it is no scheduler, or does not fit the space or the goals.
    """

    def __init__(self, history: Storage, scheduler: Scheduler | None) -> None:
        self._history = history
        if scheduler is None and history.header.scheduler is not None:
            scheduler = restored(history.header.scheduler, "a scheduler")
        if scheduler is not None:
            check_scheduler(scheduler)
            check_judgeable(history.header.space, history.header.goals)
        self.scheduler = scheduler

    @property
    def max_step(self) -> int | None:
        """The last step of a whole evaluation; None without a scheduler."""
        return None if self.scheduler is None else self.scheduler.max_step

    def report(
        self,
        number: int,
        attempt: int | None,
        step: object,
        value: SupportsFloat,
        seconds: SupportsFloat | None,
    ) -> Answer:
        """Stores a report, then decides; arguments and errors as `Optimizer.report`.

        The report is stored before anything is decided. It is judged if a rung is between the last step with
        a verdict and its own step, so also if a process died before it could judge an earlier report.
        """
        history, at = self._history, checked_step(step)
        if self.scheduler is not None and at > self.scheduler.max_step:
            raise TrialError(f"a step must be at most max_step = {self.scheduler.max_step}, got {at}")
        reported = number_of(value)
        if reported is not None and not math.isfinite(reported):
            logged(history.fail(number, f"reported {reported} at step {at}", attempt), history)
            return "stop"
        judged = self._is_judged(number, at)
        trial = history.report(number, at, value, seconds, attempt, None if judged else "continue")
        if not judged or next(one.verdict for one in trial.reports if one.step == at) is not None:
            return "continue"
        trial = history.decide(number, at, self._verdict(trial), trial.attempt)
        if trial.state == "running":
            return "continue"
        logged(trial, history)
        return "stop"

    def promoted(self, fixed: Params | None, trials: Sequence[Trial]) -> Trial | None:
        """The paused trial that is continued next; None if a new one is to be started.

        Args:
            fixed: values of some parameters that it must have.
            trials: all trials, ordered by id.

        Raises:
            TrialError: the scheduler names a trial that is not paused.
        """
        if self.scheduler is None or not any(trial.state == "paused" for trial in trials):
            return None
        number = self.scheduler.promoted(self._progress(trials))
        if number is None:
            return None
        trial = next((trial for trial in trials if trial.id == number), None)
        if trial is None or trial.state != "paused":
            state = "unknown" if trial is None else trial.state
            raise TrialError(f"a scheduler must promote a paused trial, got {number!r:.50}, which is {state}")
        params, values = trial.params, self._history.header.space.check_some(fixed or {})
        return trial if all(params.get(name, value) == value for name, value in values.items()) else None

    def _is_judged(self, number: int, step: int) -> bool:
        """Whether a report crosses a rung."""
        trials = self._history.trials()
        trial = self._history.trial(number)
        if self.scheduler is None or trial is None or step >= self.scheduler.max_step:
            return False
        decided = max((one.step for one in trial.reports if one.verdict is not None), default=0)
        rungs = self.scheduler.rungs(trial, self._progress(trials))
        reached = bisect_right(rungs, step)
        return reached > 0 and rungs[reached - 1] > decided

    def _verdict(self, trial: Trial) -> Any:
        """What the scheduler says of a running trial, in view of all that is stored."""
        assert self.scheduler is not None
        trials = self._history.trials()
        latest = next((one for one in trials if one.id == trial.id), trial)
        if latest.state != "running":
            return "continue"  # another process has ended it: this is refused
        return checked_verdict(self.scheduler.verdict(latest, self._progress(trials)))

    def _progress(self, trials: Sequence[Trial]) -> Progress:
        header, last = self._history.header, self.max_step
        sign = header.goals.objectives[0].sign

        def curves() -> CurveModel:
            from bo_suite.study.curves import curve_belief

            return curve_belief(trials, sign, last)

        return Progress(trials, header.seed, sign, curves)
