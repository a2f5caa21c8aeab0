"""Optuna's samplers, and others in an Optuna study."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import OutcomeTask, Task
from bo_suite.bench.peers.outcome_rows import rows_of
from bo_suite.bench.peers.seeded import SeededOutcomes, SeededPeer, from_levels, to_levels
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class OptunaStudy:
    """An Optuna study with a sampler at its defaults; failures are reported as failed trials.

    Options are passed by index: as categories or, if ordered, as integers, since Optuna has no ordered
    categories. CmaEsSampler needs the library cmaes, draws categories at random and ignores failures.
    Constraints are set by `trial.set_constraint`, one for each end of an interval.

    Attributes:
        name: Identifies the method.
        sampler: A class of `optuna.samplers`, or module:class, made with the seed alone.
    """

    name: str
    sampler: str

    def start(self, task: Task) -> SeededPeer:
        """A study of the task's seed."""
        return SeededPeer(lambda seeded: _Study(seeded, self.sampler), task)

    def accepts(self, goals: Goals) -> bool:
        """Any goals, but for CmaEsSampler, which has one objective and ignores constraints."""
        return self.sampler != "CmaEsSampler"

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """A study of the task's seed with its directions."""
        return SeededOutcomes(lambda seeded: _OutcomeStudy(seeded, self.sampler), task)


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


def _optuna() -> Any:
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Study:
    def __init__(self, task: Task, sampler: str) -> None:
        optuna = _optuna()
        self._optuna = optuna
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


class _OutcomeStudy:
    def __init__(self, task: OutcomeTask, sampler: str) -> None:
        self._optuna = _optuna()
        self._space = task.space
        self._goals = task.goals
        directions = [one.direction for one in task.goals.objectives]
        self._study = self._optuna.create_study(directions=directions, sampler=_sampler(sampler, task.seed))
        self._distributions = {name: _distribution(self._optuna.distributions, p) for name, p in task.space}
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask(self._distributions)
        return from_levels(self._space, self._trial.params)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        _, violations = rows_of(self._goals, outcomes)
        for index, violation in enumerate(violations):
            self._trial.set_constraint(f"c{index}", violation)
        self._study.tell(self._trial, [outcomes[one.name] for one in self._goals.objectives])

    def fail(self, params: Params) -> None:
        self._study.tell(self._trial, state=self._optuna.trial.TrialState.FAIL)
