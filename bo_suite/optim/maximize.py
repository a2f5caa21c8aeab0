"""The best new point of a score over a space: global sampling, local search, and no repeats.

Where the score has gradients, continuous columns follow them and discrete ones move from level to level, in
turns; where it has none, a population of points evolves. Every point that is scored is one that the space can
represent.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.optim.evolve import evolve
from bo_suite.optim.lbfgs import ValueAndGrad, minimize_batch
from bo_suite.optim.sweep import Sweep
from bo_suite.space.fixed import Fixed
from bo_suite.space.space import Space

ScoreFunction = Callable[[Tensor], Tensor]

_ENUMERATE = 1024
"""Finite spaces up to this size are scored whole."""

_SPARE = 8
"""Sampled points kept of each kind, in case that all ends of the local searches are taken."""

_ROWS_CPU, _ROWS_ELSEWHERE = 4096, 2**18
"""Rows of all replicates together that are scored at once: what comes of them stays in a core's cache."""

_PASSES = 4
"""Passes over discrete columns at first, for a score whose rows cost much; later turns take one."""


@dataclass(frozen=True)
class Search:
    """How hard to search.

    Attributes:
        sobol: points spread over the space.
        nearby: points around the best observed ones.
        starts: local searches, half of them from each kind of point.
        evaluations: rounds of joint evaluation of one gradient search.
        turns: alternations between continuous and discrete columns at most.
    """

    sobol: int = 512
    nearby: int = 256
    starts: int = 8
    evaluations: int = 40
    turns: int = 3


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
        spread = space.spread(seeds.split("sobol").sobol(search.sobol, data.x))
        near = nearby(space, data, seeds.split("nearby"), search.nearby)
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


def top(
    rows: jt.Float[Tensor, "*b m d"], value: jt.Float[Tensor, "*b m"], count: int
) -> jt.Float[Tensor, "*b c d"]:
    """The `count` rows of largest value, best first."""
    order = value.topk(min(count, value.shape[-1]), -1).indices
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))


def nearby(space: Space, data: Dataset, seeds: Seeds, count: int) -> jt.Float[Tensor, "*b count d"]:
    """Perturbed copies of the best observed rows: a random subset of columns, at several scales."""
    best = space.snap(top(data.x, -data.y, 4))  # what is fixed in the space may differ in the data
    copies = best.repeat_interleave(-(-count // best.shape[-2]), -2)[..., :count, :]
    uniform = seeds.uniform((3, count, space.dim), data.x)
    scale = torch.logspace(-3.0, -0.5, count, dtype=data.x.dtype, device=data.x.device)
    scale = scale[torch.arange(count, device=scale.device) * 97 % count, None]
    moved = copies + scale * seeds.split("steps").normal((count, space.dim), data.x)
    moved = space.snap(moved.clamp(0.0, 1.0))
    fresh = space.spread(uniform[..., 0, :, :])
    discrete = torch.tensor([levels is not None for levels in space.levels], device=data.x.device)
    anew = discrete & (uniform[..., 1, :, :] < 0.5)
    chance = min(1.0, max(20.0 / space.dim, 0.2)) * (0.5 if space.dim > 1 else 1.0)
    mask = uniform[..., 2, :, :] < chance
    return torch.where(mask, torch.where(anew, fresh, moved), copies)


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
    for rows in _pools(space, found, seeds):
        exact = space.representable(rows)
        new = ~(exact[..., :, None, :] == taken[..., None, :, :]).all(-1).any(-1)
        value = torch.where(new, _in_parts(score, exact), -torch.inf)
        value = torch.where(new & torch.isinf(value), torch.finfo(value.dtype).min, value)
        first = value.argmax(-1, keepdim=True)[..., None]
        best = exact.gather(-2, first.expand(*first.shape[:-1], exact.shape[-1]))[..., 0, :]
        chosen = torch.where(missing, best, chosen)
        missing = missing & ~new.any(-1, keepdim=True)
        if not bool(missing.any()):
            return chosen
    raise exhausted(space)


def _pools(space: Space, found: Tensor, seeds: Seeds) -> Iterator[Tensor]:
    """Rows to choose from: the whole of a small space, or those found, then random ones."""
    if space.cardinality is not None and space.cardinality <= _ENUMERATE:
        yield whole(space).to(found).expand(*found.shape[:-2], -1, -1)
        return
    yield found
    for turn in range(20):
        yield space.spread(seeds.split(f"{turn}").uniform((512, space.dim), found))
    if can_be_listed(space):
        yield whole(space).to(found).expand(*found.shape[:-2], -1, -1)


def check_columns(space: Space) -> None:
    """Raises a SpaceError where a space has more parameters than a search takes.

    The space-filling start and the points that a search begins from are Sobol points.
    """
    if space.dim > SobolEngine.MAXDIM:
        raise SpaceError(
            f"a search takes at most {SobolEngine.MAXDIM:,} parameters, the dimensions of a Sobol sequence, "
            f"got a Space of {space.dim:,}; leave out those that matter least"
        )


def can_be_listed(space: Space) -> bool:
    """Whether a search that has found nothing new may go through the whole space."""
    return space.cardinality is not None and space.cardinality <= 100_000


def exhausted(space: Space) -> SpaceExhausted:
    """The error that says so."""
    count = "representable" if space.cardinality is None else space.cardinality
    fixed = [name for name, parameter in space if isinstance(parameter, Fixed)]
    where = f"the space with {fixed} fixed" if fixed else "the space"
    every = f"all {count} points of {where} have" if count != 1 else f"the only point of {where} has"
    return SpaceExhausted(f"{every} been suggested; there is no new one")


def whole(space: Space) -> jt.Float64[Tensor, "n d"]:
    """Every row of a finite space."""
    columns = [space.positions(column, np.arange(levels or 0)) for column, levels in enumerate(space.levels)]
    return torch.cartesian_prod(*columns).reshape(-1, space.dim)
