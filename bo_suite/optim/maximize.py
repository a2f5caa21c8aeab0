"""The best new point of a score over a space: global sampling, local search, and no repeats.

Where the score has gradients, continuous columns follow them and discrete ones move from level to level, in
turns; where it has none, a population of points evolves. Every point that is scored is one that the space can
represent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.evolve import evolve
from bo_suite.optim.lbfgs import ValueAndGrad, minimize_batch
from bo_suite.optim.sweep import Sweep
from bo_suite.space.candidates import exhausted, is_new, perturb_best, pools, project, sample_sobol, top
from bo_suite.space.space import Space

ScoreFunction = Callable[[Tensor], Tensor]

_SPARE = 8
"""Sampled points kept of each kind, in case that all ends of the local searches are taken."""

_ROWS_CPU, _ROWS_ELSEWHERE = 4096, 2**18
"""Rows of all replicates together that are scored at once: what comes of them stays in a core's cache."""

_PASSES = 4
"""Passes over discrete columns at first, for a score whose rows cost much; later turns take one."""


@dataclass(frozen=True)
class Search:
    """How hard to search for the maximum of a score.

    Attributes:
        sobol: points spread over the space.
        nearby: points around the best observed ones.
        starts: local searches, half of them from each kind of point.
        evaluations: rounds of joint evaluation of one gradient search.
        turns: alternations between continuous and discrete columns at most.

    Raises:
        DataError: a number below 1.
    """

    sobol: int = 512
    nearby: int = 256
    starts: int = 8
    evaluations: int = 40
    turns: int = 3

    def __post_init__(self) -> None:
        for one in fields(self):
            count = getattr(self, one.name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise DataError(f"`{one.name} >= 1` must hold, got {count!r}")


def maximize(
    given: ScoreFunction,
    space: Space,
    data: Dataset,
    seeds: Seeds,
    *,
    differentiable: bool = True,
    search: Search | None = None,
    taken: Tensor | None = None,
) -> jt.Float[Tensor, "*b d"]:
    """Rows of largest score found that are not taken: by default not told, pending or failed (`data.taken`).

    Args:
        given: the score; one with a true attribute `costly` has rows that cost many times what a mean and a
            variance do, and is searched with fewer of them over discrete columns.
        space: where to search.
        data: what is told and pending.
        seeds: of the random numbers.
        differentiable: whether the score has gradients.
        search: how hard to search.

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    search = search or Search()
    taken = data.taken if taken is None else taken

    def score(x: Tensor) -> Tensor:
        return torch.nan_to_num(given(x), nan=-torch.inf, neginf=-torch.inf)

    with torch.no_grad():
        spread = sample_sobol(space, search.sobol, data.x, seeds.split("sobol"))
        near = perturb_best(space, data, seeds.split("nearby"), search.nearby)
        first, second = _in_parts(score, torch.cat((spread, near), -2)).split(
            (spread.shape[-2], near.shape[-2]), -1
        )
        half = max(search.starts // 2, 1)
        starts = torch.cat((top(spread, first, half), top(near, second, half)), -2)
    if differentiable:
        costly = bool(getattr(given, "costly", False))
        asked = data.taken.shape[-2]
        ends = _local_search(score, space, starts, seeds.split("local"), search, costly, asked)
    else:
        ends = evolve(score, space, taken, torch.cat((spread, near), -2), seeds.split("evolve"))
    with torch.no_grad():
        spare = torch.cat((top(spread, first, _SPARE), top(near, second, _SPARE)), -2)
        return _best_new(score, space, taken, torch.cat((ends, spare), -2), seeds.split("new"))


def _in_parts(score: ScoreFunction, rows: Tensor) -> Tensor:
    """The score of many rows, a few of every replicate at a time."""
    most = _ROWS_CPU if rows.device.type == "cpu" else _ROWS_ELSEWHERE
    part = max(most // max(rows.shape[:-2].numel(), 1), 1)
    return torch.cat([score(few) for few in rows.split(part, -2)], -1)


def _local_search(
    score: ScoreFunction,
    space: Space,
    rows: Tensor,
    seeds: Seeds,
    search: Search,
    costly: bool,
    asked: int,
) -> Tensor:
    """Ends of the local searches from the given rows; `asked` is the number of points suggested before."""
    discrete = [column for column, levels in enumerate(space.levels) if levels is not None]
    continuous = len(discrete) < space.dim
    settled = torch.zeros(rows.shape[:-2], dtype=torch.bool, device=rows.device)[..., None, None]
    for turn in range(search.turns if discrete and continuous else 1):
        before = rows
        if discrete:
            passes = (1 if turn else _PASSES) if costly else None
            swept = Sweep(passes, asked * search.turns + turn)
            rows = swept(score, space, rows, seeds.split(f"sweep {turn}"))
        if turn:
            settled = settled | (before == rows).all(-1).all(-1)[..., None, None]
            if bool(settled.all()):
                break
        if continuous:
            rows = torch.where(settled, before, ascend(score, rows, discrete, search.evaluations))
    return rows


def ascend(
    score: ScoreFunction, rows: jt.Float[Tensor, "*b m d"], held: Sequence[int], evaluations: int
) -> jt.Float[Tensor, "*b m d"]:
    """Gradient ascent of all rows at once, the columns `held` as they are."""
    lower, upper = torch.zeros_like(rows), torch.ones_like(rows)
    columns = list(held)
    lower[..., columns] = upper[..., columns] = rows[..., columns]

    def negated(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            value = score(leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return -value.detach(), -gradient

    return minimize_batch(
        negated,
        rows,
        bounds=(lower, upper),
        max_evaluations=evaluations,
        gradient_tolerance=1e-2,
        value_tolerance=1e-4,
        narrow=(lambda places: _of_some(negated, rows, places)) if rows.ndim > 2 else None,
    ).x


def _of_some(function: ValueAndGrad, rows: Tensor, places: Tensor) -> ValueAndGrad:
    """The function of some of the rows, given their places in order: as many of every replicate as of any.

    Replicates with fewer of them are filled up with points that nobody looks at.
    """
    *lead, m, d = rows.shape
    replicate = places // m
    counts = torch.bincount(replicate, minlength=max(math.prod(lead), 1))
    most = int(counts.max())
    begin = counts.cumsum(0) - counts
    slots = replicate * most + torch.arange(len(places), device=places.device) - begin[replicate]

    def some(x: Tensor) -> tuple[Tensor, Tensor]:
        filled = rows.new_full((len(counts) * most, d), 0.5).index_copy(0, slots, x)
        value, gradient = function(filled.reshape(*lead, most, d))
        return value.flatten()[slots], gradient.reshape(-1, d)[slots]

    return some


def _best_new(score: ScoreFunction, space: Space, taken: Tensor, found: Tensor, seeds: Seeds) -> Tensor:
    """The representable row of largest score that is not taken: of those found, else of any."""
    chosen, missing = found[..., 0, :], torch.ones_like(found[..., 0, :1], dtype=torch.bool)
    for rows in pools(space, found, seeds):
        exact = project(space, rows)
        new = is_new(exact, taken)
        value = torch.where(new, _in_parts(score, exact), -torch.inf)
        value = torch.where(new & torch.isinf(value), torch.finfo(value.dtype).min, value)
        first = value.argmax(-1, keepdim=True)[..., None]
        best = exact.gather(-2, first.expand(*first.shape[:-1], exact.shape[-1]))[..., 0, :]
        chosen = torch.where(missing, best, chosen)
        missing = missing & ~new.any(-1, keepdim=True)
        if not bool(missing.any()):
            return chosen
    raise exhausted(space)
