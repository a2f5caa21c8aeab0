"""pymoo's NSGA-II."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch

from bo_suite.bench.method import OutcomeTask
from bo_suite.bench.peers.outcome_rows import OutcomePenalty
from bo_suite.bench.peers.seeded import SeededOutcomes
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals


@dataclass(frozen=True)
class PymooNsga2:
    """NSGA-II as pymoo's guide "Getting Started" sets it: a population of 40 with 10 offspring.

    Uniform first points, simulated binary crossover (0.9, 15) and polynomial mutation (20) on the unit cube,
    duplicates eliminated; the default population of 100 would be random search at these budgets. Discrete
    columns are relaxed and rounded. A failure counts as the worst of each outcome.

    Deb et al. (2002), "A fast and elitist multiobjective genetic algorithm: NSGA-II"; Blank and Deb (2020),
    "pymoo: Multi-objective Optimization in Python".
    """

    name: str = "pymoo_nsga2"

    def accepts(self, goals: Goals) -> bool:
        """Any goals."""
        return True

    def start_outcomes(self, task: OutcomeTask) -> SeededOutcomes:
        """The algorithm before its first population."""
        return SeededOutcomes(_Population, task)


class _Population:
    def __init__(self, task: OutcomeTask) -> None:
        problems, algorithms = (
            import_module("pymoo.core.problem"),
            import_module("pymoo.algorithms.moo.nsga2"),
        )
        crossover, mutation = (
            import_module(f"pymoo.operators.{name}") for name in ("crossover.sbx", "mutation.pm")
        )
        sampling = import_module("pymoo.operators.sampling.rnd").FloatRandomSampling()
        self._space = task.space
        ends = [end for one in task.goals.constraints for end in (one.low, one.high) if np.isfinite(end)]
        self._problem = problems.Problem(
            n_var=task.space.dim, n_obj=len(task.goals.objectives), n_ieq_constr=len(ends), xl=0.0, xu=1.0
        )
        self._algorithm = algorithms.NSGA2(
            pop_size=40,
            n_offsprings=10,
            sampling=sampling,
            crossover=crossover.SBX(prob=0.9, eta=15),
            mutation=mutation.PM(eta=20),
            eliminate_duplicates=True,
        )
        never = import_module("pymoo.termination").get_termination("n_gen", 10**9)
        self._algorithm.setup(self._problem, termination=never, seed=task.seed, verbose=False)
        self._waiting: Any = None
        self._asked = 0
        self._observed: dict[int, tuple[list[float], list[float]]] = {}
        self._penalty = OutcomePenalty(task.goals, self._observe)

    def ask(self) -> Params:
        if self._waiting is None:
            self._waiting, self._asked = self._algorithm.ask(), 0
        unit = torch.from_numpy(np.asarray(self._waiting[self._asked].X, dtype=np.float64)[None])
        return self._space.decode(unit)[0]

    def _observe(self, index: int, losses: list[float], violations: list[float]) -> None:
        self._observed[index] = losses, violations

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._penalty.tell(self._asked, outcomes)
        self._next()

    def fail(self, params: Params) -> None:
        self._penalty.fail(self._asked)
        self._next()

    def _next(self) -> None:
        """Passes on the generation once all of it is evaluated."""
        self._asked += 1
        if self._asked < len(self._waiting):
            return
        rows = [self._observed.get(index) for index in range(len(self._waiting))]
        known = [row for row in rows if row is not None]
        if known:
            # A failure before any outcome has none yet: it takes that of the last point.
            full = [known[-1] if row is None else row for row in rows]
            evaluated = {"F": np.array([row[0] for row in full]), "G": np.array([row[1] for row in full])}
            static = import_module("pymoo.problems.static").StaticProblem(self._problem, **evaluated)
            import_module("pymoo.core.evaluator").Evaluator().eval(static, self._waiting)
            self._algorithm.tell(infills=self._waiting)
        self._waiting, self._observed = None, {}
