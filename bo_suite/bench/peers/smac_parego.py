"""SMAC3's ParEGO."""

import logging
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from bo_suite.bench.method import OutcomeTask
from bo_suite.bench.peers.outcome_rows import OutcomePenalty
from bo_suite.bench.peers.seeded import SeededOutcomes
from bo_suite.bench.peers.smac_facade import configuration_space
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class SmacParego:
    """SMAC3's HyperparameterOptimizationFacade with ParEGO, as its documentation "Multi-Objective" has it.

    The scenario is deterministic and has the budget, which sets the size of the Sobol design. SMAC3 has no
    constraints on outcomes. A failure is a crashed trial with the worst of each outcome so far.

    Knowles (2006), "ParEGO: a hybrid algorithm with on-line landscape approximation for expensive
    multiobjective optimization problems".
    """

    name: str = "smac_parego"

    def accepts(self, goals: Goals) -> bool:
        """Several objectives without constraints."""
        return goals.several and not goals.constraints

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """A facade of the task's seed and budget; its folder of files is deleted with it."""
        return SeededOutcomes(_Parego, task)


class _Parego:
    def __init__(self, task: OutcomeTask) -> None:
        facade, scenario, self._runhistory, parego = map(
            import_module,
            ("smac.facade", "smac.scenario", "smac.runhistory", "smac.multi_objective.parego"),
        )
        logging.getLogger("smac").setLevel(logging.ERROR)
        folder = tempfile.mkdtemp(prefix="smac")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        settings = scenario.Scenario(
            configuration_space(task.space, task.seed),
            objectives=[one.name for one in task.goals.objectives],
            deterministic=True,
            n_trials=task.budget,
            seed=task.seed,
            output_directory=Path(folder),
        )
        self._smac = facade.HyperparameterOptimizationFacade(
            settings,
            lambda config, seed=0: {},  # never called
            multi_objective_algorithm=parego.ParEGO(settings),
            logging_level=False,
        )
        self._info: Any = None
        self._states = self._runhistory.StatusType
        self._penalty = OutcomePenalty(task.goals, self._observe)

    def ask(self) -> Params:
        self._info = self._smac.ask()
        return dict(self._info.config)

    def _observe(self, trial: tuple[Any, Any], losses: list[float], violations: list[float]) -> None:
        info, status = trial
        self._smac.tell(info, self._runhistory.TrialValue(cost=losses, status=status), save=False)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._penalty.tell((self._info, self._states.SUCCESS), outcomes)

    def fail(self, params: Params) -> None:
        self._penalty.fail((self._info, self._states.CRASHED))
