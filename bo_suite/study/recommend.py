"""The best point according to a model, and confidence bounds of the minimum."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.alternatives import at_target
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.confidence_bound import ConfidenceBoundScore
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted, TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim.maximize import maximize
from bo_suite.space.candidates import within_region
from bo_suite.space.parameters import Value
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Finished, Trial
from bo_suite.study.robust import Robustness
from bo_suite.study.suggest import Suggester
from bo_suite.study.summary import RegretBound
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import ROWS_AT_ONCE, Process, Surrogate

LIKELY = 0.9
"""Probability to meet the constraints from which a recommended point counts as feasible."""


def surrogate_of(acquisition: Acquisition) -> Surrogate:
    """The surrogate of an acquisition; an AutoGP if it has none, such as one with a classifier."""
    surrogate = getattr(acquisition, "surrogate", None)
    return surrogate if isinstance(surrogate, Surrogate) else AutoGP()


def recommend(
    data: Dataset, space: Space, surrogate: Surrogate, seeds: Seeds, robustness: Robustness | None = None
) -> jt.Float[Tensor, " d"]:
    """The row of smallest posterior mean + standard deviation, with fidelities at the target.

    They are those of the function or, with `robustness`, of its mean over what may be set. If trials have
    failed, rows that fail with probability above 1/2 are worse by -log(2 P(success)). Rows that meet the
    constraints with a probability below 0.9 are worse by -log(P / 0.9).

    Args:
        data: observations.
        space: searched beside the rows of the data.
        surrogate: fitted to the data.
        seeds: of the fit and of the search.
        robustness: what may be set about a row; None for the row itself.
    """
    data = replace(data, columns=space.restricted(data.columns))
    with numerical_environment(), torch.no_grad():
        return recommended_row(surrogate.fit(data, seeds), data, space, seeds, robustness)


def recommended_row(
    process: Process, data: Dataset, space: Space, seeds: Seeds, robustness: Robustness | None = None
) -> jt.Float[Tensor, " d"]:
    """The row of `recommend`, by a process that was fitted to the data."""
    with numerical_environment(), torch.no_grad():
        if robustness is None:
            bound: Score = ConfidenceBoundScore(process, -1.0, process.hyperparameters)
        else:
            bound = robustness.score(process, data.x)
        score = _at_target(bound, data, seeds)
        rows = within_region(space, data.within_space(data.x), seeds)
        with suppress(SpaceExhausted):
            rows = torch.cat((rows, maximize(score, space, data, seeds.split("recommend"))[None]))
        best = torch.cat([score(block) for block in rows.split(ROWS_AT_ONCE)]).argmax()
        return at_target(rows[best][None], data.fidelities)[0]


def _at_target(score: Score, data: Dataset, seeds: Seeds) -> Callable[[Tensor], Tensor]:
    """The score of rows with fidelities at the target; lower if they are likely to fail or infeasible."""
    success = None if data.failures is None else SuccessProbability.fit(data, seeds)
    feasibility = None if data.violation is None else Feasibility.fit(data, seeds)
    chances = [(part, level) for part, level in ((success, 0.5), (feasibility, LIKELY)) if part is not None]

    def penalised(x: Tensor) -> Tensor:
        rows = at_target(x, data.fidelities)
        value = score(rows)
        for chance, level in chances:
            value = value + (chance.log(rows) - math.log(level)).clamp(max=0.0)
        return value

    return penalised


@dataclass(frozen=True)
class Bounds:
    """Confidence bounds of the minimum, on the surrogate's scale.

    Attributes:
        upper: smallest upper confidence bound of the observed rows.
        lower: smallest lower confidence bound over the space.
        index: index of the row with the smallest upper bound.
        mean: posterior mean of that row.
        noise: variance of an observation of that row.
    """

    upper: jt.Float[Tensor, ""]
    lower: jt.Float[Tensor, ""]
    index: int
    mean: jt.Float[Tensor, ""]
    noise: jt.Float[Tensor, ""]


def default_width(observations: int, dim: int) -> float:
    """w, w² = 2 log(d n² π² / (6 · 0.1)) for n observations: Srinivas et al. (2010), lemma 5.1."""
    return math.sqrt(2.0 * math.log(dim * observations**2 * math.pi**2 / 0.6))


def bounds(data: Dataset, space: Space, surrogate: Surrogate, seeds: Seeds, width: float) -> Bounds:
    """Confidence bounds of the minimum: mean ± width standard deviations of f without noise.

    upper = min over observed rows of mean + width σ, lower = min over the space of mean - width σ, with
    fidelities at the target (Makarova et al. 2022, equation 3). For rows that fail with probability above
    1/2, -log(2 P(success)) is added to the lower bound.

    Args:
        data: observations.
        space: space to search.
        surrogate: fitted to the data.
        seeds: of the fit and of the search.
        width: number of standard deviations.
    """
    with numerical_environment(), torch.no_grad():
        process = surrogate.fit(data, seeds)
        score = _at_target(ConfidenceBoundScore(process, width, process.hyperparameters), data, seeds)
        rows = at_target(data.x, data.fidelities)
        moments = [process.mean_and_var(block) for block in rows.split(ROWS_AT_ONCE)]
        mean, var = (torch.cat(moment) for moment in zip(*moments, strict=True))
        deviation = width * var.clamp(min=1e-20).sqrt()
        index = int(torch.where(data.reachable, mean + deviation, torch.inf).argmin())
        lowest = (mean - deviation)[data.reachable].min()
        with suppress(SpaceExhausted):
            row = maximize(score, space, data, seeds.split("bounds"))
            lowest = torch.minimum(lowest, -score(row[None])[0])
        return Bounds((mean + deviation)[index], lowest, index, mean[index], process.noise)


def recommended_point(
    suggester: Suggester,
    trials: Sequence[Trial],
    fixed: Mapping[str, Value] | None = None,
    robust: Mapping[str, float] | None = None,
) -> Params:
    """The point of `recommend` for a study, by the acquisition's surrogate.

    Args:
        suggester: of the study.
        trials: all trials.
        fixed: values of some parameters.
        robust: standard deviations of what is set, by name of a Float or an Int; None for none.

    Raises:
        TrialError: no trial is finished or, with a scheduler, has reported enough.
        FitError, NumericalError: the model cannot be fitted.
    """
    if not suggester.observations.observed(trials):
        raise TrialError(f"nothing can be recommended before a trial has finished, got {len(trials)} trials")
    values = suggester.space.check_some(fixed or {})
    robustness = None if robust is None else Robustness.of(robust, suggester, trials)
    data = suggester.observations.dataset(trials)
    row = recommend(
        data if robustness is None else robustness.data(data),
        suggester.searched_with(values),
        surrogate_of(suggester.acquisition),
        Seeds.of(suggester.seed, len(trials)),
        robustness,
    )
    return suggester.point(row) | values


def regret_bound(suggester: Suggester, trials: Sequence[Trial], width: float | int | None) -> RegretBound:
    """The difference of the `bounds` of a study, in the user's units; see `Optimizer.regret_bound`.

    Raises:
        TrialError: no trial is finished, none is in the space, the space has contexts, there are constraints
            or several objectives, or the width is not above 0.
        FitError, NumericalError: the model cannot be fitted.
    """
    if width is not None and not 0 < width < math.inf:
        raise TrialError(f"`0 < width < inf` must hold, got {width!r}")
    if aspects := sorted(suggester.goals.aspects):
        raise TrialError(f"a regret bound is of a run with one objective and no constraint, got {aspects}")
    finished = finished_trials(trials, "there is no regret bound")
    if not any(suggester.space.contains(trial.params) for trial in finished):
        raise TrialError(
            "there is no regret bound before a trial inside the space has finished, "
            f"got {len(finished)} outside"
        )
    if contexts := list(suggester.space.contexts):
        raise TrialError(f"a regret bound is of a space without contexts, got {contexts}")
    observed, data = suggester.observations.observed(trials), suggester.observations.dataset(trials)
    unfinished = torch.tensor([not trial.measured for trial in observed], device=data.x.device)
    if bool(unfinished.any()):  # the bound is not of these, as it is not of trials outside of the space
        data = replace(data, outside=unfinished if data.outside is None else data.outside | unfinished)
    minimum = bounds(
        data,
        suggester.searched,
        surrogate_of(suggester.acquisition),
        Seeds.of(suggester.seed, len(trials)),
        default_width(len(finished), suggester.searched.dim) if width is None else width,
    )
    one_below = minimum.mean - minimum.noise.sqrt()
    ends = torch.stack((minimum.upper, minimum.mean, minimum.lower, one_below)).cpu()
    transform = suggester.observations.transform(trials)
    upper, mean, lower, below = transform.inverse(ends).tolist()
    trial = observed[minimum.index]
    return RegretBound(upper - lower, mean - below if trial.std is None else trial.std, trial)


def finished_trials(trials: Sequence[Trial], what: str) -> list[Finished]:
    """The finished trials that have a value, or objectives by name.

    Args:
        trials: of a run.
        what: what cannot be said without any, for the error message.

    Raises:
        TrialError: no trial is finished.
    """
    finished = [cast(Finished, trial) for trial in trials if trial.measured]
    if not finished:
        raise TrialError(f"{what} before a trial has finished, got {len(trials)} trials")
    return finished
