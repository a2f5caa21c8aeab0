"""Optuna: a pruner that decides as a scheduler of this package does."""

import logging
import math
from bisect import bisect_right
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from bo_suite.integrations.ending import check_ending
from bo_suite.integrations.optuna_curves import Steps
from bo_suite.storage.attempts import checked_verdict
from bo_suite.storage.content import check, is_whole
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import VERDICTS, State, Trial, Verdict
from bo_suite.study.curves import LearningCurves, curve_belief
from bo_suite.study.scheduling import Progress, Scheduler
from bo_suite.values.numbers import require_int

logger = logging.getLogger("bo_suite")

_ENDS = "a scheduler of an Optuna study must end trials, since Optuna cannot continue a paused one"

_JUDGED = "bo_suite:judged"
"""System attribute of a trial: its number, the last step at which it was judged, and the verdict."""

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


class BoSuitePruner(optuna.pruners.BasePruner):
    """An Optuna pruner: `trial.should_prune()` answers as a scheduler of this package decides.

    A trial is judged once at each rung, by the first `should_prune` after it has reported a step of at least
    the rung; later calls repeat the answer up to the next rung. What it is compared with are the intermediate
    values that the study holds, so all processes of a study decide alike. A trial whose last value is NaN or
    infinite is pruned. At the last step, and above, none is.

    A BoSuiteSampler in a study with this pruner learns from curves as an `Optimizer` with the scheduler does:
    what pruned and running trials have reported counts, by what the curves of the other trials say about
    their outcome at the last step. Constraints have no part in the decisions; with them, the sampler learns
    of pruned trials as it does beside any other pruner.

    Args:
        scheduler: one that ends trials, such as ASHA, Hyperband, MedianRule or CurveStopping.
        first_step: step that functions report first: 0 as in `for step in range(max_step)`, or another one
            such as 1. It is the scheduler's step 1.
        seed: of the scheduler's random numbers, which Hyperband draws; the same in all processes of a study.

    Raises:
        ValueError: the scheduler is none, or pauses trials, which Optuna cannot continue; or another argument
            breaks a rule.
    """

    def __init__(self, scheduler: Scheduler, first_step: int = 0, seed: int = 0) -> None:
        check_ending(scheduler, _ENDS)
        self.scheduler = scheduler
        self.steps = Steps(require_int("first_step", first_step, at_least=0), scheduler.max_step)
        self._seed = require_int("seed", seed)
        self._ended: dict[tuple[Any, ...], Trial] = {}
        self._warned = False

    def __reduce__(self) -> tuple[Any, ...]:
        return BoSuitePruner, (self.scheduler, self.steps.first, self._seed)

    def prune(self, study: "optuna.Study", trial: FrozenTrial) -> bool:
        """Whether a trial is to end now.

        Raises:
            ValueError: the scheduler pauses the trial.
            StorageError: what is stored with the trial is damaged.
        """
        last = trial.last_step
        if last is None:
            return False
        if not math.isfinite(trial.intermediate_values[last]):
            return True
        step = self.steps.ours(last)
        if step >= self.steps.last:
            self._warn_above(last)
            return False
        own, progress = self._progress(study, trial)
        judged, verdict = _judgement(trial)
        rungs = self.scheduler.rungs(own, progress)
        reached = bisect_right(rungs, step)
        if reached and rungs[reached - 1] > judged:
            verdict = checked_verdict(self.scheduler.verdict(own, progress))
            if verdict == "pause":
                raise ValueError(f"{_ENDS}, got the verdict 'pause'")
            fields: Any = [trial.number, step, verdict]
            study._storage.set_trial_system_attr(trial._trial_id, _JUDGED, fields)
        return verdict == "stop"

    def _progress(self, study: "optuna.Study", trial: FrozenTrial) -> tuple[Trial, Progress]:
        """A trial of a study as ours, and what the scheduler may look at."""
        known, ended = self._ended, dict[tuple[Any, ...], Trial]()
        own = _ours(trial, self.steps)
        trials = {own.id: own}
        for other in study.get_trials(deepcopy=False):
            if other.number == own.id:
                continue
            stamp = (other.number, other._trial_id, other.datetime_start, other.datetime_complete)
            one = known.get(stamp) or _ours(other, self.steps)
            trials[other.number] = one
            if other.state.is_finished():
                ended[stamp] = one
        self._ended = ended  # in one assignment, as other threads read it
        ordered = [one for _, one in sorted(trials.items())]
        sign = 1.0 if study.direction.name == "MINIMIZE" else -1.0

        def curves() -> LearningCurves:
            return curve_belief(ordered, sign, self.steps.last)

        return own, Progress(ordered, self._seed, sign, curves)

    def _warn_above(self, step: int) -> None:
        """Log once that steps are above the last one."""
        if self.steps.ours(step) > self.steps.last and not self._warned:
            self._warned = True
            last = self.steps.first + self.steps.last - 1
            logger.warning(
                "steps above %d, the last one by first_step = %d and max_step = %d, decide nothing and are "
                "not learnt from, got step %d",
                *(last, self.steps.first, self.steps.last, step),
            )


def steps_of(study: "optuna.Study", goals: Goals) -> Steps | None:
    """How the steps of a study are counted, if its trials are learnt from by their curves.

    That is so if the pruner is a BoSuitePruner, and there is one objective without constraints.
    """
    pruner = study.pruner
    return pruner.steps if isinstance(pruner, BoSuitePruner) and not goals.named else None


def _ours(trial: FrozenTrial, steps: Steps) -> Trial:
    """A trial with its state, its outcome and what it has reported, but without its point."""
    reports, state = steps.reports(trial), _STATES[trial.state]
    value: float | None = None
    if state == "finished":
        assert trial.value is not None
        value, state = (trial.value, state) if math.isfinite(trial.value) else (None, "failed")
    elif state == "stopped" and not steps.stopped(trial):
        state = "failed"
    elif state == "stopped":
        value = reports[-1].value
    return Trial(trial.number, {}, state, value, None, None, 1, True, {}, 0.0, None, reports=reports)


def _judgement(trial: FrozenTrial) -> tuple[int, Verdict]:
    """The last step at which a trial was judged, 0 if at none, and the verdict.

    A trial that repeats another one, with its attributes, was not judged.

    Raises:
        StorageError: the attribute is damaged.
    """
    fields = trial.system_attrs.get(_JUDGED, [trial.number, 0, "continue"])
    fits = isinstance(fields, list) and len(fields) == 3 and is_whole(fields[1], 0) and fields[2] in VERDICTS
    check(fits, f"trial {trial.number}, {_JUDGED}", "a number, a step and a verdict", fields)
    number, step, verdict = fields
    return (step, verdict) if number == trial.number else (0, "continue")
