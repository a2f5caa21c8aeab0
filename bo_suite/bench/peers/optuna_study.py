"""Optuna's samplers, and others in an Optuna study."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import SeededPeer, from_levels, to_levels
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params


@dataclass(frozen=True)
class OptunaStudy:
    """An Optuna study with a sampler at its defaults; failures are reported as failed trials.

    Options are passed by index: as categories or, if ordered, as integers, since Optuna has no ordered
    categories. CmaEsSampler needs the library cmaes, draws categories at random and ignores failures.

    Attributes:
        name: Identifies the method.
        sampler: A class of `optuna.samplers`, or module:class, made with the seed alone.
    """

    name: str
    sampler: str

    def start(self, task: Task) -> SeededPeer:
        """A study of the task's seed."""
        return SeededPeer(lambda seeded: _Study(seeded, self.sampler), task)


def _distribution(kinds: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        last = parameter.levels - 1
        ordered = kinds.IntDistribution(0, last)
        return ordered if parameter.ordered else kinds.CategoricalDistribution(range(last + 1))
    kind = kinds.FloatDistribution if isinstance(parameter, Float) else kinds.IntDistribution
    return kind(parameter.low, parameter.high, log=parameter.log)


def _sampler(name: str, seed: int) -> Any:
    module, colon, attribute = name.partition(":")
    home, kind = (module, attribute) if colon else ("optuna.samplers", name)
    return getattr(import_module(home), kind)(seed=seed)


class _Study:
    def __init__(self, task: Task, sampler: str) -> None:
        optuna = import_module("optuna")
        self._optuna = optuna
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = task.space
        self._study = optuna.create_study(sampler=_sampler(sampler, task.seed))
        self._distributions = {name: _distribution(optuna.distributions, p) for name, p in task.space}
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask(self._distributions)
        return from_levels(self._space, self._trial.params)

    def tell(self, params: Params, value: float) -> None:
        self._study.tell(self._trial, value)

    def fail(self, params: Params) -> None:
        self._study.tell(self._trial, state=self._optuna.trial.TrialState.FAIL)

    def add(self, params: Params, value: float) -> None:
        levels = to_levels(self._space, params)
        make = self._optuna.trial.create_trial
        self._study.add_trial(make(params=levels, distributions=self._distributions, value=value))
