"""Optuna's pruners on learning curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bo_suite.bench.peers.optuna_study import quiet_optuna, suggested
from bo_suite.bench.peers.seeded_tuner import SeededTuner
from bo_suite.bench.simulation.tuner import CurveTask, Job


def hyperband_pruner(max_step: int) -> Any:
    """HyperbandPruner at its defaults, with the last step as its documentation advises."""
    return quiet_optuna().pruners.HyperbandPruner(max_resource=max_step)


def halving_pruner(max_step: int) -> Any:
    """SuccessiveHalvingPruner at its defaults, Optuna's ASHA; its first rung is at step 1, not estimated."""
    return quiet_optuna().pruners.SuccessiveHalvingPruner(min_resource=1)


def median_pruner(max_step: int) -> Any:
    """MedianPruner at its defaults."""
    return quiet_optuna().pruners.MedianPruner()


@dataclass(frozen=True)
class OptunaPruning:
    """An Optuna study with TPESampler at its defaults and a pruner that is asked after every step.

    Attributes:
        name: identifies the method.
        pruner: makes the pruner of a last step.
    """

    name: str
    pruner: Callable[[int], Any]

    def start_curves(self, task: CurveTask) -> SeededTuner:
        """A study of the task's seed."""
        return SeededTuner(lambda seeded: _Pruned(seeded, self.pruner), task)


class _Pruned:
    def __init__(self, task: CurveTask, pruner: Callable[[int], Any]) -> None:
        optuna = quiet_optuna()
        self._pruned = optuna.trial.TrialState.PRUNED
        self._space = task.space
        self._max_step = task.max_step
        self._study = optuna.create_study(
            study_name=f"seed {task.seed}",  # at random without; HyperbandPruner draws by it
            direction=task.direction,
            sampler=optuna.samplers.TPESampler(seed=task.seed),
            pruner=pruner(task.max_step),
        )
        self._trials: dict[int, Any] = {}

    def ask(self) -> Job:
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return Job(trial.number, suggested(trial, self._space))

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        running = self._trials[trial]
        running.report(value, step)
        if step == self._max_step or not running.should_prune():
            return "continue"
        self._study.tell(self._trials.pop(trial), state=self._pruned)
        return "stop"

    def tell(self, trial: int, value: float) -> None:
        self._study.tell(self._trials.pop(trial), value)
