"""Points between which nothing is to choose: those that no other is predicted to dominate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.hypervolume import hypervolume, non_dominated
from bo_suite.acquisition.several import outcome_dataset
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.candidates import perturb_best, project, sample_sobol, within_region
from bo_suite.space.parameters import Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial
from bo_suite.study.recommend import LIKELY, recommended_point, surrogate_of
from bo_suite.study.robust import checked_deviations
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates.process import Surrogate

MOST = 10
"""Most points of a recommended set: a person has to choose among them."""

_ROWS = 1024
"""Rows of each kind among which the set is chosen, beside the observed ones."""


def recommended(
    suggester: Suggester,
    trials: Sequence[Trial],
    fixed: Mapping[str, Value] | None,
    robust: object = None,
) -> Params | list[Params]:
    """The best point according to the model, or with several objectives the `recommended_front`.

    Raises:
        SpaceError: a standard deviation of `robust` breaks a rule.
        TrialError: no trial is finished, or there are several objectives and `robust`.
        FitError, NumericalError: a model cannot be fitted.
    """
    std = None if robust is None else checked_deviations(robust, suggester.space)
    if not suggester.goals.several:
        return recommended_point(suggester, trials, fixed, std)
    if std is not None:
        names = [objective.name for objective in suggester.goals.objectives]
        raise TrialError(f"a robust recommendation is of a run with one objective, got {names}")
    return recommended_front(suggester, trials, fixed)


def recommended_front(
    suggester: Suggester, trials: Sequence[Trial], fixed: Mapping[str, Value] | None = None
) -> list[Params]:
    """At most ten points that no other is predicted to dominate, ordered by the first objective.

    A point counts by its posterior mean plus one standard deviation of each objective, and must be feasible
    with a probability of at least 0.9. Of more points those are chosen, one after another, that add most
    to the hypervolume.

    Args:
        suggester: of the study.
        trials: all trials.
        fixed: values of some parameters.

    Raises:
        TrialError: no trial is finished.
        FitError, NumericalError: a model cannot be fitted.
    """
    if not any(trial.state == "finished" for trial in trials):
        raise TrialError(f"nothing can be recommended before a trial has finished, got {len(trials)} trials")
    values = suggester.space.check_some(fixed or {})
    rows = front_rows(
        suggester.observations.dataset(trials),
        suggester.searched_with(values),
        surrogate_of(suggester.acquisition),
        Seeds.of(suggester.seed, len(trials)),
    )
    return [suggester.point(row) | values for row in rows]


def front_rows(data: Dataset, space: Space, surrogate: Surrogate, seeds: Seeds) -> jt.Float[Tensor, "r d"]:
    """The rows of `recommended_front`."""
    data = replace(data, columns=space.restricted(data.columns))
    outcomes = data.outcomes
    assert outcomes is not None, "data of one objective have no front"
    with numerical_environment(), torch.no_grad():
        process = surrogate.fit(outcome_dataset(data, 0, outcomes.objectives), seeds)
        sampled = sample_sobol(space, _ROWS, data.x, seeds.split("sobol"))
        near = perturb_best(space, data, seeds.split("nearby"), _ROWS)
        observed = within_region(space, data.within_space(outcomes.x), seeds)
        rows: Tensor = project(space, torch.cat((observed, sampled, near)))
        rows = rows.unique(dim=0)
        mean, var = process.mean_and_var(rows.expand(outcomes.objectives, *rows.shape))
        losses = (mean + var.sqrt()).mT
        if data.violation is not None:
            likely = Feasibility.fit(data, seeds).log(rows)
            allowed = likely >= torch.minimum(likely.amax(), likely.new_tensor(LIKELY).log())
            rows, losses = rows[allowed], losses[allowed]
        front = non_dominated(losses.mT)
        chosen: Tensor = rows[front][_spread(losses[front])]
        return chosen


def _spread(losses: Tensor) -> Tensor:
    """At most `MOST` indices, one after another the row that adds most to the hypervolume."""
    reference = losses.amax(0) + 0.1 * (losses.amax(0) - losses.amin(0)).clamp(min=1e-12)
    chosen: list[int] = []
    for _ in range(min(MOST, len(losses))):
        left = [index for index in range(len(losses)) if index not in chosen]
        front = losses[chosen].mT.expand(len(left), -1, -1)
        sets = torch.cat((front, losses[left][..., None]), -1)
        gains = hypervolume(sets, reference.expand(len(left), -1)).tolist()
        chosen.append(left[max(range(len(left)), key=gains.__getitem__)])
    return torch.tensor(sorted(chosen, key=lambda index: float(losses[index, 0])), device=losses.device)
