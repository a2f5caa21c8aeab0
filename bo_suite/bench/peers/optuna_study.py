"""Optuna's samplers, and others in an Optuna study."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from bo_suite.bench.method import OutcomeTask, Task
from bo_suite.bench.peers.outcome_rows import rows_of
from bo_suite.bench.peers.seeded import SeededOutcomes, SeededPeer, from_levels, to_levels
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class OptunaStudy:
    """An Optuna study with a sampler at its defaults; failures are reported as failed trials.

    Options are passed by index: as categories or, if ordered, as integers, since Optuna has no ordered
    categories. A conditional parameter is suggested after its parents, if it is active, as a user's objective
    would. CmaEsSampler needs the library cmaes, draws categories at random and ignores failures.
    Constraints are set by `trial.set_constraint`, one for each end of an interval.

    Attributes:
        name: Identifies the method.
        sampler: A class of `optuna.samplers`, or module:callable, made with the seed alone.
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


def suggested(trial: Any, space: Space) -> Params:
    """The point that a trial suggests: each parameter after its parents, if it is active."""
    point: Params = {}
    always = [name for name, parameter in space if parameter.when is None]
    for name in (*always, *space.conditions.order):
        if name in always or space.conditions.is_met(name, point):
            level = _suggest(trial, name, space[name])
            point |= from_levels(space, {name: level})
    return point


def _suggest(trial: Any, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        last = parameter.levels - 1
        if parameter.ordered:
            return trial.suggest_int(name, 0, last)
        return trial.suggest_categorical(name, range(last + 1))
    suggest = trial.suggest_float if isinstance(parameter, Float) else trial.suggest_int
    return suggest(name, parameter.low, parameter.high, log=parameter.log)


def grouped_tpe(seed: int) -> Any:
    """TPESampler as its documentation advises for conditional spaces: a joint model of each group."""
    return quiet_optuna().samplers.TPESampler(multivariate=True, group=True, seed=seed)


def _sampler(name: str, seed: int) -> Any:
    module, colon, attribute = name.partition(":")
    home, kind = (module, attribute) if colon else ("optuna.samplers", name)
    return getattr(import_module(home), kind)(seed=seed)


def quiet_optuna() -> Any:
    """Optuna, which logs errors only."""
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Study:
    def __init__(self, task: Task, sampler: str) -> None:
        self._optuna = quiet_optuna()
        self._space = task.space
        self._study = self._optuna.create_study(sampler=_sampler(sampler, task.seed))
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask()
        return suggested(self._trial, self._space)

    def tell(self, params: Params, value: float) -> None:
        self._study.tell(self._trial, value)

    def fail(self, params: Params) -> None:
        self._study.tell(self._trial, state=self._optuna.trial.TrialState.FAIL)

    def add(self, params: Params, value: float) -> None:
        told = self._optuna.trial.FixedTrial(to_levels(self._space, params))
        suggested(told, self._space)
        make = self._optuna.trial.create_trial
        self._study.add_trial(make(params=told.params, distributions=told.distributions, value=value))


class _OutcomeStudy:
    def __init__(self, task: OutcomeTask, sampler: str) -> None:
        self._optuna = quiet_optuna()
        self._space = task.space
        self._goals = task.goals
        directions = [one.direction for one in task.goals.objectives]
        self._study = self._optuna.create_study(directions=directions, sampler=_sampler(sampler, task.seed))
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask()
        return suggested(self._trial, self._space)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        _, violations = rows_of(self._goals, outcomes)
        for index, violation in enumerate(violations):
            self._trial.set_constraint(f"c{index}", violation)
        self._study.tell(self._trial, [outcomes[one.name] for one in self._goals.objectives])

    def fail(self, params: Params) -> None:
        self._study.tell(self._trial, state=self._optuna.trial.TrialState.FAIL)
