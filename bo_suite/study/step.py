"""One step as a pure function of data, space, acquisition and seeds: the next row of each run."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.forecast import Forecast, Forecaster
from bo_suite.acquisition.likely import LikelyScore, build_score
from bo_suite.acquisition.per_cost import PerCostScore
from bo_suite.acquisition.stein import SteinBatch
from bo_suite.acquisition.success import SuccessProbability
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError, NumericalError, SpaceExhausted
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim.maximize import Search, maximize
from bo_suite.space.branches import Due, due
from bo_suite.space.candidates import first_new, new_row, sample_random
from bo_suite.space.space import Space
from bo_suite.study.repeats import worth_repeating
from bo_suite.surrogates import WarmStart
from bo_suite.surrogates.process import Hyperparameters

_WITH_FAILURES = 20
"""Rounds of a gradient search if failures lower the score: more rounds found nothing better."""

_IN_A_BATCH = Search(starts=4, evaluations=4, turns=1)
"""Search deep in a batch: with so many pending points, the exact maximum of the score does not matter."""

_DEEP = 8
"""Pending points from which a search counts as deep in a batch, if no outcome has come since the last fit."""

logger = logging.getLogger("bo_suite")


@dataclass(frozen=True)
class Step:
    """The next row of a run, and how it was chosen.

    Attributes:
        row: encoded point.
        source: "design" for an initial point, "acquisition", "fallback", or "queue" for a queued point.
        start: start of the next fit, rounded as a history stores it.
        success: the part of it for the probability of success, recorded even if the score has no `start`.
        feasibility: the part of it for the probability of feasibility.
        fit_seconds: time to build the score.
        search_seconds: time to maximise it.
        reason: error that led to a fallback.
        repeat: whether the point was evaluated before: a finite space with noisy outcomes has no new point.
        notes: what the acquisition chose, such as a model, in JSON values.
        forecast: what the score expected of the row; None if it cannot say, and for replicates.
        chance: probability that the row meets all constraints; None without constraints, and for replicates.
    """

    row: jt.Float[Tensor, " d"]
    source: str
    start: WarmStart | None = None
    success: WarmStart | None = None
    feasibility: WarmStart | None = None
    fit_seconds: float = 0.0
    search_seconds: float = 0.0
    reason: str | None = None
    repeat: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    forecast: Forecast | None = None
    chance: float | None = None

    @property
    def settled_start(self) -> WarmStart | None:
        """Start of a fit to the same observations, which searches no hyperparameters."""
        return None if self.start is None else replace(self.start, settled=True)


def next_steps(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    starts: Sequence[WarmStart | None],
) -> list[Step]:
    """The next row of each run: a maximum of its score that is neither observed, failed nor pending.

    All runs are one tensor program. If the model of a run cannot be fitted, every run takes the step alone,
    and that run gets a random new row, which is logged. If a finite space has no new row and outcomes are
    noisy, the row is the best one to evaluate again. If a branch of a conditional space has had too few
    rows, every run takes the step alone, and the row of that run is of the branch.

    Args:
        data: of one run without a replicate dimension, or of several runs with one.
        space: space to search.
        acquisition: its score is maximised.
        seeds: of the step.
        starts: start of the fit of each run.

    Raises:
        DataError: the acquisition does not support an aspect of the data.
        SpaceExhausted: every point of a finite space is in the data, and outcomes are not noisy.
    """
    waiting = _branches_due(data, space, seeds)
    if waiting and not data.batch_shape:
        return [_branch_step(data, waiting[0], acquisition, seeds, starts[0])]
    try:
        if not waiting:
            return _joint_steps(data, space, acquisition, seeds, starts)
    except (FitError, NumericalError) as error:
        if not data.batch_shape:
            return [_random_step(data, space, seeds, error)]
        logger.warning("replicates take a step one by one, since the model of one failed: %s", error)
    steps = []
    for index, (key, start) in enumerate(zip(seeds.keys, starts, strict=True)):
        steps += next_steps(data.replicates(index), space, acquisition, Seeds((key,)), [start])
    return steps


def _branches_due(data: Dataset, space: Space, seeds: Seeds) -> list[Due]:
    """The branches of a conditional space that the next rows of some runs must be of."""
    if not space.columns.conditions:
        return []
    runs = [data.replicates(index) for index in range(len(seeds.keys))] if data.batch_shape else [data]
    found = [due(space, run.taken, Seeds((key,))) for run, key in zip(runs, seeds.keys, strict=True)]
    return [one for one in found if one is not None]


def _branch_step(
    data: Dataset, waiting: Due, acquisition: Acquisition, seeds: Seeds, start: WarmStart | None
) -> Step:
    """The next row of one run, in the branch that is due."""
    try:
        (step,) = _joint_steps(data, waiting.space, acquisition, seeds, [start])
    except (FitError, NumericalError) as error:
        return _random_step(data, waiting.space, seeds, error)
    return replace(step, notes={**step.notes, "branch": waiting.branch})


def _joint_steps(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    starts: Sequence[WarmStart | None],
) -> list[Step]:
    """The next row of each run, from one joint fit and search.

    Raises:
        FitError, NumericalError: the surrogate of some run cannot be fitted.
        SpaceExhausted: as `next_steps`.
    """
    start = _stacked(starts) if data.batch_shape else starts[0]
    data = replace(data, columns=space.restricted(data.columns))
    with numerical_environment():
        began = time.perf_counter()
        score = build_score(acquisition, data, seeds, start)
        fitted = time.perf_counter()
        rows, repeat = _best_rows(score, space, data, seeds, _effort(acquisition, score, data, start))
        seconds = fitted - began, time.perf_counter() - fitted
    parts = _part_starts(score, data)
    starts = _next_starts(score, data, *parts)
    rows = rows if data.batch_shape else rows[None]
    notes = _notes(score, len(starts))
    views = [(None, None) if data.batch_shape else _views(score, row) for row in rows]
    return [
        Step(row, "acquisition", next_start, *parts, *seconds, None, repeat, note, *view)
        for row, next_start, note, view in zip(rows, starts, notes, views, strict=True)
    ]


def batch_steps(
    data: Dataset,
    space: Space,
    acquisition: Acquisition,
    seeds: Seeds,
    start: WarmStart | None,
    batch: SteinBatch,
    count: int,
) -> list[Step]:
    """Rows of one run, chosen jointly from one fit; distinct, new, and at most `count`.

    If the model cannot be fitted, the list is one random new row.

    Raises:
        DataError, SpaceExhausted: as `next_steps`.
    """
    data = replace(data, columns=space.restricted(data.columns))
    try:
        with numerical_environment():
            began = time.perf_counter()
            score = build_score(acquisition, data, seeds, start)
            fitted = time.perf_counter()
            rows, repeat = first_new(batch.choose(score, space, data, seeds, count), data.taken, count), False
            if not rows:
                effort = _effort(acquisition, score, data, start)
                row, repeat = _best_rows(score, space, data, seeds, effort)
                rows = [row]
            seconds = fitted - began, time.perf_counter() - fitted
    except (FitError, NumericalError) as error:
        return [_random_step(data, space, seeds, error)]
    parts = _part_starts(score, data)
    (next_start,) = _next_starts(score, data, *parts)
    (notes,) = _notes(score, 1)
    return [
        Step(row, "acquisition", next_start, *parts, *seconds, None, repeat, notes, *_views(score, row))
        for row in rows
    ]


def _best_rows(
    score: Score, space: Space, data: Dataset, seeds: Seeds, search: Search | None
) -> tuple[Tensor, bool]:
    """New rows of largest score or, if there are none and outcomes are noisy, rows to evaluate again."""
    best = partial(maximize, score, space, data, seeds, differentiable=score.differentiable, search=search)
    try:
        return best(), False
    except SpaceExhausted:
        if not worth_repeating(data, seeds):
            raise
    failed = data.x[..., :0, :] if data.failures is None else data.failures
    try:
        return best(taken=torch.cat((failed, data.pending), -2)), True
    except SpaceExhausted:
        return best(taken=failed), True


def _effort(acquisition: Acquisition, score: Score, data: Dataset, start: WarmStart | None) -> Search | None:
    """How hard to search for the maximum: the acquisition's `search`, if any; None for the defaults."""
    search: Search | None = getattr(acquisition, "search", None)
    if search is not None:
        return search
    if start is not None and start.settled and data.pending.shape[-2] >= _DEEP:
        return _IN_A_BATCH
    weighted = isinstance(score, LikelyScore) and score.weighs_success
    return Search(evaluations=_WITH_FAILURES) if weighted else None


def round_hyperparameters(hyperparameters: Hyperparameters) -> Hyperparameters:
    """Round to seven significant digits, as stored in a history and used to start the next fit."""
    rounded = [float(f"{number:.7g}") for number in hyperparameters.flatten().tolist()]
    return torch.tensor(rounded, dtype=torch.float64, device=hyperparameters.device).reshape(
        hyperparameters.shape
    )


def _part_starts(score: Score, data: Dataset) -> tuple[WarmStart | None, WarmStart | None]:
    """Starts of the next fits of the probabilities of success and of feasibility; None for replicates."""
    if data.batch_shape or not isinstance(score, LikelyScore):
        return None, None
    return _rounded(score.success), _rounded(score.feasibility)


def _rounded(part: "SuccessProbability | Feasibility | None") -> WarmStart | None:
    """The start of the next fit of a probability, as a history stores it."""
    if part is None:
        return None
    start = part.warm_start
    return WarmStart(round_hyperparameters(start.hyperparameters), start.observations)


def _next_starts(
    score: Score, data: Dataset, success: WarmStart | None, feasibility: WarmStart | None
) -> list[WarmStart | None]:
    """Start of the next fit of each run."""
    if score.hyperparameters is None:
        return [None] * data.batch_shape.numel()
    rounded = round_hyperparameters(score.hyperparameters)
    rounded = rounded if data.batch_shape else rounded[None]
    return [WarmStart(row, data.x.shape[-2], success, feasibility) for row in rounded]


def _notes(score: Score, runs: int) -> Sequence[Mapping[str, Any]]:
    """What the acquisition chose for each run; nothing if it does not say."""
    notes: Sequence[Mapping[str, Any]] = getattr(score, "notes", ({},) * runs)
    return notes


def _views(score: Score, row: Tensor) -> tuple[Forecast | None, float | None]:
    """What the score expects of a row of one run, if it can say, and the probability that it is feasible."""
    inner: object = score.score if isinstance(score, LikelyScore) else score
    inner = inner.score if isinstance(inner, PerCostScore) else inner
    feasibility = score.feasibility if isinstance(score, LikelyScore) else None
    with torch.no_grad():
        forecast = inner.forecast(row[None]) if isinstance(inner, Forecaster) else None
        chance = None if feasibility is None else float(feasibility.log(row[None]).exp()[0])
        return forecast, chance


def _stacked(starts: Sequence[WarmStart | None]) -> WarmStart | None:
    """The starts of all runs as one.

    Raises:
        FitError: the starts have different numbers of observations, because a fit has failed.
    """
    fitted = [start for start in starts if start is not None]
    if not fitted:
        return None
    if len(fitted) < len(starts) or len({start.observations for start in fitted}) > 1:
        raise FitError("the last fit of a replicate failed, so the replicates have different starts")
    return WarmStart(torch.stack([start.hyperparameters for start in fitted]), fitted[0].observations)


def _random_step(data: Dataset, space: Space, seeds: Seeds, error: Exception) -> Step:
    """A uniformly random new row, chosen because of an error, which is logged."""
    logger.warning("a random point is suggested, since the model failed: %s", error)
    with torch.no_grad():
        row = sample_random(space, 1, data.x, seeds.split("fallback"))[0]
        return Step(new_row(space, row, data.taken, seeds), "fallback", reason=str(error))
