"""Syne Tune's BORE."""

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import SeededPeer
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params


@dataclass(frozen=True)
class SyneTuneBore:
    """Syne Tune's BORE, one trial at a time: gradient boosting, and the best of 500 uniform draws.

    A failure is a trial error. It comes with `pip install syne-tune`, which also installs XGBoost and its GPU
    library; therefore the extra `peers` does not contain it.

    Tiao et al. (2021), "BORE: Bayesian Optimization by Density-Ratio Estimation".
    """

    name: str = "syne_tune_bore"

    def start(self, task: Task) -> SeededPeer:
        """A scheduler of the task's seed."""
        return SeededPeer(_Scheduler, task)


def syne_tune_domain(spaces: Any, parameter: Parameter) -> Any:
    """The domain of a parameter, of the module `syne_tune.config_space`."""
    if isinstance(parameter, Choice):
        kind = spaces.ordinal if parameter.ordered else spaces.choice
        return kind(list(parameter.options))
    number = "uniform" if isinstance(parameter, Float) else "randint"
    return getattr(spaces, f"log{number}" if parameter.log else number)(parameter.low, parameter.high)


class _Scheduler:
    def __init__(self, task: Task) -> None:
        spaces = import_module("syne_tune.config_space")
        baselines = import_module("syne_tune.optimizer.baselines")
        ask_tell = import_module("syne_tune.optimizer.schedulers.ask_tell_scheduler")
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        config = {name: syne_tune_domain(spaces, parameter) for name, parameter in task.space}
        self._loop = ask_tell.AskTellScheduler(baselines.BORE(config, "loss", random_seed=task.seed))
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._loop.ask()
        return dict(self._trial.config)

    def tell(self, params: Params, value: float) -> None:
        self._loop.tell(self._trial, {"loss": value})

    def fail(self, params: Params) -> None:
        self._loop.base_scheduler.on_trial_error(self._trial)

    def add(self, params: Params, value: float) -> None:
        self._loop.base_scheduler.searcher.on_trial_complete(-1, dict(params), value)
