"""One step as a pure function: data, space, acquisition and seeds in, the next points out."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import jaxtyping as jt
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.acquisition.alternatives import at_target
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.confidence_bound import ConfidenceBoundScore
from bo_suite.acquisition.stein import SteinBatch
from bo_suite.acquisition.success import LikelyScore, SuccessProbability, score_of
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError, NumericalError, SpaceExhausted
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim.maximize import Search, can_be_listed, exhausted, maximize, whole
from bo_suite.space.space import Space
from bo_suite.study.repeats import worth_repeating
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, WarmStart

_ROWS = 4096
"""Rows whose covariances with what a process knows are held in memory at once."""

_WEIGHTED = Search(evaluations=20)
"""Where failures weigh on a score: more rounds than are common without them find nothing better."""

_CROWDED = Search(starts=4, evaluations=4, turns=1)
"""Deep in a batch: where so many points wait for their outcomes, a summit need not be found to the digit."""

_CROWD = 8
"""Pending points from which a search is one of these, for points that follow another without an outcome."""

logger = logging.getLogger("bo_suite")


@dataclass(frozen=True)
class Suggestion:
    """The next point of each replicate, and how it came about.

    Attributes:
        rows: encoded points.
        source: "design" for the space-filling start, "acquisition", or "fallback".
        hyperparameters: of the fit, for the next one to start from.
        fit_seconds: time to build the score.
        search_seconds: time to maximise it.
        reason: why a fallback was taken.
        success: what the model of failures has found, if there were any.
        repeat: whether the point was evaluated before, as a finite noisy space has no new one.
    """

    rows: jt.Float[Tensor, "*b d"]
    source: str
    hyperparameters: Hyperparameters | None = None
    fit_seconds: float = 0.0
    search_seconds: float = 0.0
    reason: str | None = None
    success: WarmStart | None = None
    repeat: bool = False


@numerical_environment()
def suggest(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    start: WarmStart | None = None,
) -> Suggestion:
    """Maximise the acquisition given the data of one run: a new point, neither told nor pending.

    Where a finite space has no new point and outcomes are noisy, it is the best one to evaluate again. Where
    the surrogate cannot be fitted, a uniformly random new point is suggested instead; that is said
    in the suggestion and logged.

    Raises:
        SpaceExhausted: every point of a finite space is in the data, and outcomes are not noisy.
    """
    try:
        return attempt(data, space, acquisition, seeds, start)
    except (FitError, NumericalError) as error:
        return _random(data, space, seeds, error)


def attempt(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    start: WarmStart | None = None,
) -> Suggestion:
    """Maximise the acquisition given the data of all replicates: new points, neither told nor pending.

    Raises:
        FitError, NumericalError: the surrogate of some replicate cannot be fitted.
        SpaceExhausted: every point of a finite space is in the data.
    """
    (found,) = _chosen(data, space, acquisition, seeds, start, lambda score: [])
    return found


@numerical_environment()
def suggest_batch(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    start: WarmStart | None,
    batch: SteinBatch,
    count: int,
) -> list[Suggestion]:
    """Points chosen jointly from one fit, distinct, and none of them told or pending; at most `count`.

    Where the model cannot be fitted, the list is one random point, as of `suggest`.

    Raises:
        SpaceExhausted: every point of a finite space is in the data.
    """

    def jointly(score: Score) -> list[Tensor]:
        return _first_new(batch.choose(score, space, data, seeds, count), data, count)

    try:
        return _chosen(data, space, acquisition, seeds, start, jointly)
    except (FitError, NumericalError) as error:
        return [_random(data, space, seeds, error)]


def _chosen(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    start: WarmStart | None,
    choose: Callable[[Score], list[Tensor]],
) -> list[Suggestion]:
    """The points chosen by a score, its maximum where there are none."""
    with numerical_environment():
        data = replace(data, fixed=space.fixed)
        began = time.perf_counter()
        score = score_of(acquisition, data, seeds, start)
        fitted = time.perf_counter()
        chosen, repeat = choose(score), False
        if not chosen:
            row, repeat = _best(score, space, data, seeds, _effort(score, data, start))
            chosen = [row]
    took = time.perf_counter() - fitted
    found = score.success.found if isinstance(score, LikelyScore) else None
    return [
        Suggestion(row, "acquisition", score.hyperparameters, fitted - began, took, None, found, repeat)
        for row in chosen
    ]


def _best(
    score: Score, space: Space, data: Dataset, seeds: Seeds, search: Search | None
) -> tuple[Tensor, bool]:
    """The new row of largest score or, where there is none and outcomes are noisy, one to evaluate again."""
    found = partial(maximize, score, space, data, seeds, differentiable=score.differentiable, search=search)
    try:
        return found(), False
    except SpaceExhausted:
        if not worth_repeating(data, seeds):
            raise
    failed = data.x[..., :0, :] if data.failures is None else data.failures
    try:
        return found(taken=torch.cat((failed, data.pending), -2)), True
    except SpaceExhausted:
        return found(taken=failed), True


def _effort(score: Score, data: Dataset, start: WarmStart | None) -> Search | None:
    """How hard to search for the maximum of a score; None for what is common."""
    if start is not None and start.settled and data.pending.shape[-2] >= _CROWD:
        return _CROWDED
    return _WEIGHTED if isinstance(score, LikelyScore) and not score.success.even else None


def _first_new(rows: Tensor, data: Dataset, count: int) -> list[Tensor]:
    """The first rows that are neither in the data nor copies, `count` at most."""
    taken = {tuple(row) for row in data.taken.tolist()}
    chosen: list[Tensor] = []
    for row in rows:
        key = tuple(row.tolist())
        if len(chosen) < count and key not in taken:
            taken.add(key)
            chosen.append(row)
    return chosen


def _random(data: Dataset, space: Space, seeds: Seeds, error: Exception) -> Suggestion:
    """A uniformly random new point, because of an error that is logged."""
    logger.warning("a random point is suggested, since the model failed: %s", error)
    uniform = seeds.split("fallback").uniform((space.dim,), data.x)
    return Suggestion(unseen(space, data, space.spread(uniform), seeds), "fallback", reason=str(error))


def recommend(data: Dataset, space: Space, seeds: Seeds) -> jt.Float[Tensor, " d"]:
    """The row of smallest mean + standard deviation of an AutoGP, its fidelities at the target.

    Args:
        data: observations; one that is likelier to fail than not is worse by minus log 2 P(success).
        space: where to look, beside the rows of the data.
        seeds: of the fit and of the search.
    """
    with numerical_environment(), torch.no_grad():
        process = AutoGP().fit(data, seeds)
        score = _at_target(ConfidenceBoundScore(process, -1.0, process.hyperparameters), data, seeds)
        rows = data.x
        with suppress(SpaceExhausted):
            rows = torch.cat((rows, maximize(score, space, data, seeds.split("recommend"))[None]))
        best = torch.cat([score(part) for part in rows.split(_ROWS)]).argmax()
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
        place: index of the row of the smallest upper bound.
        mean: posterior mean of that row.
        noise: variance of an observation of that row about it.
    """

    upper: jt.Float[Tensor, ""]
    lower: jt.Float[Tensor, ""]
    place: int
    mean: jt.Float[Tensor, ""]
    noise: jt.Float[Tensor, ""]


def bounds(data: Dataset, space: Space, seeds: Seeds, width: float) -> Bounds:
    """Confidence bounds of the minimum by an AutoGP: mean ± width standard deviations of f without noise.

    upper = min over observed rows of mean + width σ, lower = min over the space of mean - width σ, all
    fidelities at the target (Makarova et al. 2022, equation 3). Where evaluations are likelier to fail than
    not, minus log 2 P(success) is added to the lower bound.

    Args:
        data: observations.
        space: where to look.
        seeds: of the fit and of the search.
        width: standard deviations.
    """
    with numerical_environment(), torch.no_grad():
        process = AutoGP().fit(data, seeds)
        score = _at_target(ConfidenceBoundScore(process, width, process.hyperparameters), data, seeds)
        rows = at_target(data.x, data.fidelities)
        parts = [process.mean_and_var(part) for part in rows.split(_ROWS)]
        mean, var = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        deviation = width * var.clamp(min=1e-20).sqrt()
        place = int((mean + deviation).argmin())
        lowest = (mean - deviation).min()
        with suppress(SpaceExhausted):
            found = maximize(score, space, data, seeds.split("bounds"))
            lowest = torch.minimum(lowest, -score(found[None])[0])
        return Bounds((mean + deviation)[place], lowest, place, mean[place], process.noise)


@numerical_environment()
def design(space: Space, data: Dataset, seed: int, trial: int) -> Suggestion:
    """Point `trial` of the space-filling start: the centre, then scrambled Sobol points, none twice.

    Fidelities are at their lowest, where points are cheap.

    Raises:
        SpaceExhausted: every point of a finite space is in the data.
    """
    if trial == 0:
        row = torch.full((space.dim,), 0.5, dtype=torch.float64, device="cpu")
    else:
        (key,) = Seeds.of(seed, 0).split("design").keys
        with torch.device("cpu"):
            engine = SobolEngine(space.dim, scramble=True, seed=key)
            row = engine.fast_forward(trial - 1).draw(1, dtype=torch.float64)[0]
        if trial == 1:  # the engine rounds the first point to the default dtype, float32 in a fresh process
            row = (engine.quasi.to(torch.float64) / 2.0**engine.MAXBIT).to(torch.float32).to(torch.float64)
    row = space.spread(row)
    row[list(space.fidelities)] = 0.0
    return Suggestion(unseen(space, data, row.to(data.x), Seeds.of(seed, trial)), "design")


def unseen(space: Space, data: Dataset, row: Tensor, seeds: Seeds) -> Tensor:
    """The row as the space represents it or, where that is in the data, a random row that is not."""
    taken = data.taken
    seen = {tuple(one) for one in taken.tolist()}
    exact = space.representable(row[None])[0]
    for turn in range(1000):
        if tuple(exact.tolist()) not in seen:
            return exact
        uniform = seeds.split(f"unseen {turn}").uniform((1, space.dim), row)
        exact = space.representable(space.spread(uniform))[0]
    for candidate in whole(space) if can_be_listed(space) else ():
        if tuple(candidate.tolist()) not in seen:
            found: Tensor = candidate.to(row)
            return found
    raise exhausted(space)
