"""What figures of one outcome of a run need: its model, the recommended point, and where it is feasible."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.data import Dataset
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.candidates import is_allowed
from bo_suite.space.region import Region
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.belief import Belief
from bo_suite.study.observations import Observations
from bo_suite.study.recommend import recommend
from bo_suite.study.recommend_front import front_rows
from bo_suite.study.summary import outcomes_of
from bo_suite.surrogates.process import ROWS_AT_ONCE


@dataclass(frozen=True, eq=False)
class OutcomeView:
    """The model of one outcome beside what the run as a whole recommends and takes for feasible.

    Attributes:
        belief: the model of the outcome.
        point: the recommended point of the run; with several objectives, of those that no other is predicted
            to dominate, the one with the best prediction of the outcome.
        feasibility: of rows of `belief.searched`; None if there is no constraint, or none was measured yet.
    """

    belief: Belief
    point: Params
    feasibility: Feasibility | None

    @staticmethod
    def of(belief: Belief, trials: Sequence[Trial], goals: Goals, space: Space) -> "OutcomeView":
        """The view of an outcome of a run.

        Args:
            belief: the model of the outcome.
            trials: all trials of the run.
            goals: of the run.
            space: of the run.

        Raises:
            FitError, NumericalError: a model cannot be fitted.
        """
        if not goals.named:
            return OutcomeView(belief, belief.recommended(), None)
        data = Observations(belief.searched, goals, belief.data.x.device).dataset(trials)
        with numerical_environment():
            feasibility = None if data.violation is None else Feasibility.fit(data, belief.seeds)
        return OutcomeView(belief, _recommended(belief, data, trials, goals), feasibility)

    def rows_through(self, values: Sequence[Params]) -> jt.Float64[Tensor, "m d"]:
        """Rows of `belief.searched` that have some values, and the others of the recommended point.

        Where that breaks an equality among parameters, the others move to the nearest values that do not.

        Args:
            values: of the same parameters in each row.
        """
        rows = self.belief.along(self.point, values)
        region = self.belief.searched.unlisted.region
        if not isinstance(region, Region):
            return rows
        held = [column for column, name in enumerate(self.belief.searched.names) if name in values[0]]
        return region.along_equalities(rows, held)

    def outside(self, rows: jt.Float[Tensor, "m d"]) -> jt.Bool[Tensor, " m"]:
        """Which rows break a constraint of the space; rows between candidates do not."""
        return ~is_allowed(self.belief.searched.unlisted, rows)

    def infeasible(self, rows: jt.Float[Tensor, "m d"]) -> jt.Bool[Tensor, " m"]:
        """Which rows are feasible with a probability below one half."""
        if self.feasibility is None:
            return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        with numerical_environment(), torch.no_grad():
            blocks = [
                self.feasibility.log(block.to(self.belief.data.x)) for block in rows.split(ROWS_AT_ONCE)
            ]
            return torch.cat(blocks).cpu() < math.log(0.5)


def _recommended(belief: Belief, data: Dataset, trials: Sequence[Trial], goals: Goals) -> Params:
    """The recommended point of a run with outcomes by name, from its data."""
    contexts = belief.latest_contexts()
    fixed = {name: value for name, value in contexts.items() if name in belief.searched}
    space = belief.searched.with_fixed(fixed) if fixed else belief.searched
    measured = {
        name for trial in trials for name, one in outcomes_of(trial, goals).items() if one is not None
    }
    if not all(objective.name in measured for objective in goals.objectives):
        return belief.recommended()
    if not goals.several:
        return belief.point(recommend(data, space, belief.surrogate, belief.seeds)) | contexts
    rows = front_rows(data, space, belief.surrogate, belief.seeds)
    best = int((belief.sign * belief.at(rows.cpu()).mean).argmin())
    return belief.point(rows[best]) | contexts
