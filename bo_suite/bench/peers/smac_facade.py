"""SMAC3's facade for hyperparameters."""

import logging
import math
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import Penalty, SeededPeer
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.space.when import Interval, When


@dataclass(frozen=True)
class SmacFacade:
    """SMAC3's HyperparameterOptimizationFacade: a random forest of log costs, and expected improvement.

    The scenario is deterministic if observations are not noisy, and has the budget, which sets the size of
    the Sobol design. Ordered choices are ordinals. A failure is a crashed trial with the worst cost so far:
    SMAC3 gives crashes an infinite cost, with which version 2.4.1 cannot fit its forest. Earlier versions
    cannot be imported with scikit-learn 1.9 or later.

    Lindauer et al. (2022), "SMAC3: A Versatile Bayesian Optimization Package for Hyperparameter
    Optimization".
    """

    name: str = "smac"

    def start(self, task: Task) -> SeededPeer:
        """A facade of the task's seed and budget; its folder of files is deleted with it."""
        return SeededPeer(_Facade, task)


def _hyperparameter(kinds: Any, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        kind = kinds.OrdinalHyperparameter if parameter.ordered else kinds.CategoricalHyperparameter
        return kind(name, list(parameter.options))
    number = kinds.Float if isinstance(parameter, Float) else kinds.Integer
    return number(name, (parameter.low, parameter.high), log=parameter.log)


def configuration_space(space: Space, seed: int) -> Any:
    """The space as ConfigSpace has it."""
    kinds = import_module("ConfigSpace")
    made = kinds.ConfigurationSpace(seed=seed)
    for name, parameter in space:
        made.add(_hyperparameter(kinds, name, parameter))
    for name in space.conditions.order:
        conditions = _conditions(kinds, made, space, name)
        if conditions:
            made.add(kinds.AndConjunction(*conditions) if len(conditions) > 1 else conditions[0])
    return made


def _conditions(kinds: Any, made: Any, space: Space, name: str, child: str | None = None) -> list[Any]:
    """What makes a parameter active; for an interval of all values of a parent, what makes that active."""
    conditions = []
    for parent, accepted in When.of(space[name].when).parents:
        pair, parameter = (made[child or name], made[parent]), space[parent]
        if isinstance(accepted, Interval) and not isinstance(parameter, Choice):
            low, high = _outside(parameter, accepted)
            ends = [kinds.GreaterThanCondition(*pair, low)] if low >= parameter.low else []
            ends += [kinds.LessThanCondition(*pair, high)] if high <= parameter.high else []
            if not ends and parameter.when is not None:
                ends = _conditions(kinds, made, space, parent, child or name)
            conditions += ends
        else:
            conditions.append(kinds.InCondition(*pair, list(accepted)))
    return conditions


def _outside(parameter: Parameter, interval: Interval) -> tuple[float, float]:
    """The numbers next to an interval, since conditions of ConfigSpace leave them out."""
    if isinstance(parameter, Float):
        return math.nextafter(interval.low, -math.inf), math.nextafter(interval.high, math.inf)
    return math.ceil(interval.low) - 1, math.floor(interval.high) + 1


class _Facade:
    def __init__(self, task: Task) -> None:
        facade, scenario, self._runhistory = map(
            import_module, ("smac.facade", "smac.scenario", "smac.runhistory")
        )
        self._configspace = configuration_space(task.space, task.seed)
        logging.getLogger("smac").setLevel(logging.ERROR)
        folder = tempfile.mkdtemp(prefix="smac")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        settings = scenario.Scenario(
            self._configspace,
            deterministic=not task.noisy,
            n_trials=task.budget,
            seed=task.seed,
            output_directory=Path(folder),
        )
        self._smac = facade.HyperparameterOptimizationFacade(
            settings,
            lambda config, seed=0: 0.0,  # never called; versions before 2.4 require it
            logging_level=False,
        )
        self._info: Any = None
        self._states = self._runhistory.StatusType
        self._costs = Penalty(self._observe)

    def ask(self) -> Params:
        self._info = self._smac.ask()
        return dict(self._info.config)

    def _observe(self, trial: tuple[Any, Any], cost: float) -> None:
        info, status = trial
        self._smac.tell(info, self._runhistory.TrialValue(cost=cost, status=status), save=False)

    def tell(self, params: Params, value: float) -> None:
        self._costs.tell((self._info, self._states.SUCCESS), value)

    def fail(self, params: Params) -> None:
        self._costs.fail((self._info, self._states.CRASHED))

    def add(self, params: Params, value: float) -> None:
        config = import_module("ConfigSpace").Configuration(self._configspace, values=dict(params))
        info = self._runhistory.TrialInfo(config, seed=0)
        self._costs.tell((info, self._states.SUCCESS), value)
