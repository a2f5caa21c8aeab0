"""The new point of largest score in a space, by global sampling and local search.

If the score has gradients, continuous columns follow them and discrete columns move from level to level, in
turns. Otherwise a population of points evolves. Every point that the search returns is a point of the space.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.evolve import evolve
from bo_suite.optim.lbfgs import ValueAndGrad, minimize_batch
from bo_suite.optim.listed import best_listed
from bo_suite.optim.sweep import Sweep
from bo_suite.optim.within import minimize_within
from bo_suite.space.activity import Seen, movable
from bo_suite.space.candidates import (
    is_allowed,
    is_new,
    perturb_best,
    pools,
    project,
    sample_sobol,
    top,
)
from bo_suite.space.listing import exhausted
from bo_suite.space.region import Region
from bo_suite.space.space import Space
from bo_suite.space.system import System
from bo_suite.space.table_rows import TableRows

ScoreFunction = Callable[[Tensor], Tensor]

_SPARE = 8
"""Best sampled points of each kind that are candidates too: all maxima that were found may be taken."""

_ROWS_CPU, _ROWS_ELSEWHERE = 4096, 2**18
"""Rows of all replicates that are scored at once; on a CPU few enough for the cache of a core."""

_HALVINGS = 8
"""Halvings of the way back from a maximum that a constraint function refuses."""

_PASSES = 4
"""Passes over discrete columns in the first turn, for a costly score; later turns take one."""


@dataclass(frozen=True)
class Search:
    """How hard to search for the maximum of a score.

    Attributes:
        sobol: points spread over the space.
        nearby: points around the best observed ones.
        starts: local searches, half of them from each kind of point.
        evaluations: rounds of joint evaluation in one gradient search.
        turns: most alternations between discrete and continuous columns.

    Raises:
        DataError: a number is below 1.
    """

    sobol: int = 512
    nearby: int = 256
    starts: int = 8
    evaluations: int = 40
    turns: int = 3

    def __post_init__(self) -> None:
        for field in fields(self):
            count = getattr(self, field.name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise DataError(f"`{field.name} >= 1` must hold, got {count!r}")


def maximize(
    score: ScoreFunction,
    space: Space,
    data: Dataset,
    seeds: Seeds,
    *,
    differentiable: bool = True,
    search: Search | None = None,
    taken: Tensor | None = None,
) -> jt.Float[Tensor, "*b d"]:
    """The row of largest score that is not taken, of each replicate; an approximate maximum.

    Args:
        score: larger is better. A true attribute `costly` means that a row takes many times the time of a
            mean and a variance: then fewer rows are scored in the search over discrete columns.
        space: where to search.
        data: observed, pending and failed rows.
        seeds: of the random numbers.
        differentiable: whether the score has gradients.
        search: how hard to search; None for the defaults.
        taken: rows that must not be returned; None for `data.taken`: observed, pending or failed.

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    search = search or Search()
    taken = data.taken if taken is None else taken

    def comparable(x: Tensor) -> Tensor:
        return torch.nan_to_num(score(x), nan=-torch.inf, neginf=-torch.inf)

    costly = bool(getattr(score, "costly", False))
    if isinstance(space.region, TableRows):
        with torch.no_grad():
            blocks = partial(_score_in_blocks, comparable)
            listed = best_listed(blocks, space.region, data, taken, seeds, costly=costly)
        if listed is None:
            raise exhausted(space)
        return listed
    with torch.no_grad():
        spread = sample_sobol(space, search.sobol, data.x, seeds.split("sobol"))
        near = perturb_best(space, data, seeds.split("nearby"), search.nearby)
        values = _score_in_blocks(comparable, torch.cat((spread, near), -2))
        of_spread, of_near = values.split((spread.shape[-2], near.shape[-2]), -1)
        half = max(search.starts // 2, 1)
        starts = torch.cat((top(spread, of_spread, half), top(near, of_near, half)), -2)
    if differentiable:
        past = _Past(data.taken.shape[-2], Seen.of(space, data))
        local_search = _LocalSearch(comparable, space, search, costly, past)
        maxima = local_search(starts, seeds.split("local"))
    else:
        maxima = evolve(comparable, space, taken, torch.cat((spread, near), -2), seeds.split("evolve"))
    with torch.no_grad():
        spare = torch.cat((top(spread, of_spread, _SPARE), top(near, of_near, _SPARE)), -2)
        return _best_new(comparable, space, taken, torch.cat((maxima, spare), -2), seeds.split("new"))


def _score_in_blocks(score: ScoreFunction, rows: Tensor) -> Tensor:
    """The score of many rows, a block of every replicate at a time."""
    most = _ROWS_CPU if rows.device.type == "cpu" else _ROWS_ELSEWHERE
    size = max(most // max(rows.shape[:-2].numel(), 1), 1)
    return torch.cat([score(block) for block in rows.split(size, -2)], -1)


@dataclass(frozen=True, eq=False)
class _Past:
    """What was suggested before.

    Attributes:
        asked: number of points.
        seen: observed rows, if columns may be inactive.
    """

    asked: int
    seen: Seen | None


@dataclass(frozen=True, eq=False)
class _LocalSearch:
    """Local searches that alternate between sweeps over discrete columns and ascent of continuous ones.

    Attributes:
        score: larger is better.
        space: of the rows.
        search: how hard to search.
        costly: whether a row takes many times the time of a mean and a variance.
        past: what was suggested before.
    """

    score: ScoreFunction
    space: Space
    search: Search
    costly: bool
    past: _Past

    def __call__(self, rows: Tensor, seeds: Seeds) -> Tensor:
        """The local maxima that searches from the rows end at."""
        discrete = [column for column, levels in enumerate(self.space.levels) if levels is not None]
        continuous = len(discrete) < self.space.dim
        settled = torch.zeros(rows.shape[:-2], dtype=torch.bool, device=rows.device)[..., None, None]
        for turn in range(self.search.turns if discrete and continuous else 1):
            before = rows
            if discrete:
                passes = (1 if turn else _PASSES) if self.costly else None
                sweep = Sweep(passes, self.past.asked * self.search.turns + turn, self.past.seen)
                rows = sweep(self.score, self.space, rows, seeds.split(f"sweep {turn}"))
            if turn:
                settled = settled | (before == rows).all(-1).all(-1)[..., None, None]
                if bool(settled.all()):
                    break
            if continuous:
                maxima = self._ascended(rows, discrete)
                rows = torch.where(settled, before, maxima)
        return rows

    def _ascended(self, rows: Tensor, held: Sequence[int]) -> Tensor:
        """Local maxima of the continuous columns, where the constraints are met."""
        bounds, region = movable(self.space.columns, rows, held), self.space.region
        if not isinstance(region, Region):
            return ascend(self.score, rows, bounds, self.search.evaluations)
        maxima = ascend(self.score, rows, bounds, self.search.evaluations, region.system)
        return region.towards(maxima, rows, _HALVINGS) if region.has_functions else maxima


def ascend(
    score: ScoreFunction,
    rows: jt.Float[Tensor, "*b m d"],
    bounds: tuple[Tensor, Tensor],
    evaluations: int,
    system: System | None = None,
) -> jt.Float[Tensor, "*b m d"]:
    """Local maxima within bounds, by gradient ascent of all rows at once.

    Args:
        score: larger is better.
        rows: where to begin.
        bounds: of the columns of each row.
        evaluations: rounds of joint evaluation.
        system: comparisons that rows meet, and maxima have to; None if there are none.
    """

    def negated(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            value = score(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return -value.detach(), -gradient

    if system is not None:
        return minimize_within(
            negated,
            rows,
            system,
            bounds,
            max_evaluations=evaluations,
            gradient_tolerance=1e-2,
            value_tolerance=1e-4,
        ).x
    return minimize_batch(
        negated,
        rows,
        bounds=bounds,
        max_evaluations=evaluations,
        gradient_tolerance=1e-2,
        value_tolerance=1e-4,
        narrow=(lambda indices: _of_some(negated, rows, indices)) if rows.ndim > 2 else None,
    ).x


def _of_some(function: ValueAndGrad, rows: Tensor, indices: Tensor) -> ValueAndGrad:
    """The function of the rows of some sorted indices into the flattened rows.

    Replicates with fewer of these rows than others are padded; values of padding are dropped.
    """
    *lead, m, d = rows.shape
    replicate = indices // m
    counts = torch.bincount(replicate, minlength=max(math.prod(lead), 1))
    most = int(counts.max())
    begin = counts.cumsum(0) - counts
    slots = replicate * most + torch.arange(len(indices), device=indices.device) - begin[replicate]

    def narrowed(x: Tensor) -> tuple[Tensor, Tensor]:
        padded = rows.new_full((len(counts) * most, d), 0.5).index_copy(0, slots, x)
        value, gradient = function(padded.reshape(*lead, most, d))
        return value.flatten()[slots], gradient.reshape(-1, d)[slots]

    return narrowed


def _best_new(score: ScoreFunction, space: Space, taken: Tensor, candidates: Tensor, seeds: Seeds) -> Tensor:
    """The point of largest score that is not taken: of the candidates or, if all are taken, of other rows."""
    chosen, missing = candidates[..., 0, :], torch.ones_like(candidates[..., 0, :1], dtype=torch.bool)
    for rows in pools(space, candidates, seeds):
        exact = project(space, rows)
        new = is_new(exact, taken) & is_allowed(space, exact)
        value = torch.where(new, _score_in_blocks(score, exact), -torch.inf)
        value = torch.where(new & torch.isinf(value), torch.finfo(value.dtype).min, value)
        first = value.argmax(-1, keepdim=True)[..., None]
        best = exact.gather(-2, first.expand(*first.shape[:-1], exact.shape[-1]))[..., 0, :]
        chosen = torch.where(missing, best, chosen)
        missing = missing & ~new.any(-1, keepdim=True)
        if not bool(missing.any()):
            return chosen
    raise exhausted(space)
