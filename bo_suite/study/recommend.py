"""The best point by a model, and how much better any other can be."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.alternatives import at_target
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.confidence_bound import ConfidenceBoundScore
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim.maximize import maximize
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial
from bo_suite.study.suggest import Suggester
from bo_suite.study.summary import RegretBound
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import ROWS_AT_ONCE, Surrogate


def surrogate_of(acquisition: Acquisition) -> Surrogate:
    """The surrogate of an acquisition; an AutoGP where it has none, as one with a classifier."""
    surrogate = getattr(acquisition, "surrogate", None)
    return surrogate if isinstance(surrogate, Surrogate) else AutoGP()


def recommend(data: Dataset, space: Space, surrogate: Surrogate, seeds: Seeds) -> jt.Float[Tensor, " d"]:
    """The row of smallest mean + standard deviation, its fidelities at the target.

    Args:
        data: observations; one that is likelier to fail than not is worse by minus log 2 P(success).
        space: where to look, beside the rows of the data.
        surrogate: what is fitted to the data.
        seeds: of the fit and of the search.
    """
    with numerical_environment(), torch.no_grad():
        process = surrogate.fit(data, seeds)
        score = _at_target(ConfidenceBoundScore(process, -1.0, process.hyperparameters), data, seeds)
        rows = data.x
        with suppress(SpaceExhausted):
            rows = torch.cat((rows, maximize(score, space, data, seeds.split("recommend"))[None]))
        best = torch.cat([score(few) for few in rows.split(ROWS_AT_ONCE)]).argmax()
        return at_target(rows[best][None], data.fidelities)[0]


def _at_target(score: Score, data: Dataset, seeds: Seeds) -> Callable[[Tensor], Tensor]:
    """The score of rows with their fidelities at the target, less where they are likely to fail."""
    if data.failures is None:
        return lambda x: score(at_target(x, data.fidelities))
    success = SuccessProbability.fit(data, seeds)

    def likely(x: Tensor) -> Tensor:
        rows = at_target(x, data.fidelities)
        return score(rows) + (success.log(rows) + math.log(2.0)).clamp(max=0.0)

    return likely


@dataclass(frozen=True)
class Bounds:
    """What is known of the minimum, on the surrogate's scale.

    Attributes:
        upper: smallest upper confidence bound of the observed rows.
        lower: smallest lower confidence bound over the space.
        index: of the row of the smallest upper bound.
        mean: posterior mean of that row.
        noise: variance of an observation of that row about it.
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

    upper = min over observed rows of mean + width σ, lower = min over the space of mean - width σ, all
    fidelities at the target (Makarova et al. 2022, equation 3). Where evaluations are likelier to fail than
    not, minus log 2 P(success) is added to the lower bound.

    Args:
        data: observations.
        space: where to look.
        surrogate: what is fitted to the data.
        seeds: of the fit and of the search.
        width: standard deviations.
    """
    with numerical_environment(), torch.no_grad():
        process = surrogate.fit(data, seeds)
        score = _at_target(ConfidenceBoundScore(process, width, process.hyperparameters), data, seeds)
        rows = at_target(data.x, data.fidelities)
        moments = [process.mean_and_var(few) for few in rows.split(ROWS_AT_ONCE)]
        mean, var = (torch.cat(pieces) for pieces in zip(*moments, strict=True))
        deviation = width * var.clamp(min=1e-20).sqrt()
        index = int((mean + deviation).argmin())
        lowest = (mean - deviation).min()
        with suppress(SpaceExhausted):
            row = maximize(score, space, data, seeds.split("bounds"))
            lowest = torch.minimum(lowest, -score(row[None])[0])
        return Bounds((mean + deviation)[index], lowest, index, mean[index], process.noise)


def recommended_point(suggester: Suggester, trials: Sequence[Trial]) -> Params:
    """The point of smallest posterior mean plus one standard deviation, in the user's values.

    Args:
        suggester: of the trials; its acquisition has the surrogate.
        trials: at least one is finished.
    """
    row = recommend(
        suggester.observations.dataset(trials),
        suggester.searched,
        surrogate_of(suggester.acquisition),
        Seeds.of(suggester.seed, len(trials)),
    )
    return suggester.point(row)


def regret_bound(suggester: Suggester, trials: Sequence[Trial], width: float | None) -> RegretBound:
    """The difference of the `bounds` of the minimum, in the user's units.

    Args:
        suggester: of the trials; its acquisition has the surrogate.
        trials: at least one is finished.
        width: standard deviations; the default width when None.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    known = bounds(
        suggester.observations.dataset(trials),
        suggester.searched,
        surrogate_of(suggester.acquisition),
        Seeds.of(suggester.seed, len(trials)),
        default_width(len(finished), suggester.searched.dim) if width is None else width,
    )
    ends = torch.stack((known.upper, known.mean, known.lower, known.mean - known.noise.sqrt())).cpu()
    upper, mean, lower, below = suggester.observations.transform(trials).inverse(ends).tolist()
    trial = finished[known.index]
    return RegretBound(upper - lower, mean - below if trial.std is None else trial.std, trial)
