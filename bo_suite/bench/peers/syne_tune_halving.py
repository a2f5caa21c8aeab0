"""Syne Tune's model-based asynchronous halving: ASHABORE, ASHACQR, BOHB."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, Literal

from bo_suite.bench.peers.seeded_tuner import SeededTuner
from bo_suite.bench.peers.syne_tune_bore import syne_tune_domain
from bo_suite.bench.simulation.tuner import CurveTask, Job


@dataclass(frozen=True)
class SyneTuneHalving:
    """A scheduler of Syne Tune at its defaults, with the problem's last step.

    It comes with `pip install syne-tune`; BORE also needs XGBoost.

    Attributes:
        name: identifies the method.
        scheduler: a class of `syne_tune.optimizer.baselines`, such as "ASHA", "ASHABORE", "ASHACQR" or
            "BOHB", which is Syne Tune's BOHB with asynchronous halving.
    """

    name: str
    scheduler: str

    def start_curves(self, task: CurveTask) -> SeededTuner:
        """A scheduler of the task's seed."""
        return SeededTuner(lambda seeded: _Halving(seeded, self.scheduler), task)


class _Halving:
    def __init__(self, task: CurveTask, scheduler: str) -> None:
        spaces = import_module("syne_tune.config_space")
        baselines = import_module("syne_tune.optimizer.baselines")
        self._status = import_module("syne_tune.backend.trial_status")
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        self._scheduler = getattr(baselines, scheduler)(
            {name: syne_tune_domain(spaces, parameter) for name, parameter in task.space},
            metric="value",
            time_attr="step",
            max_t=task.max_step,
            do_minimize=task.direction == "minimize",
            random_seed=task.seed,
        )
        self._running: dict[int, Any] = {}
        self._count = 0

    def ask(self) -> Job | None:
        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        number, self._count = self._count, self._count + 1
        trial = self._status.Trial(number, dict(suggestion.config), datetime.now(UTC))
        self._running[number] = trial
        self._scheduler.on_trial_add(trial)
        return Job(number, dict(suggestion.config))

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        running = self._running[trial]
        # At the last step it always answers STOP, as its own loop expects.
        decision = self._scheduler.on_trial_result(running, {"value": value, "step": step})
        if decision == "CONTINUE":
            return "continue"
        self._scheduler.on_trial_remove(self._running.pop(trial))
        return "stop"

    def tell(self, trial: int, value: float) -> None:
        assert trial not in self._running, "it was removed at its last step"
