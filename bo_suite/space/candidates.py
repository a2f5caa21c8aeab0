"""Rows of a space to choose from: the only place that samples, perturbs, lists and projects them.

Searches, batches, the initial design and the fallback take their rows from here, and ask here whether a row
is new. So a rule that rows must obey is written in this file alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceExhausted
from bo_suite.space.fixed import Fixed
from bo_suite.space.space import Space

_LISTED_AT_ONCE = 1024
"""Points of a finite space up to which all of them are scored."""

_LISTED_AT_LAST = 100_000
"""Points of a finite space up to which all of them are looked at where random ones are not new."""

_RANDOM_ROWS, _RANDOM_TURNS = 512, 20
"""Random rows drawn at a time, and how often, where no row that a search ended at is new."""

_RANDOM_TRIES = 1000
"""Random rows tried one by one in the place of a row that is not new."""

_PERTURBED_PARENTS = 4
"""Best observed rows that are perturbed."""

_PERTURBED_COLUMNS, _LEAST_SHARE = 20.0, 0.2
"""A column of a perturbed row changes with half the probability min(1, max(20 / d, 0.2))."""

_SCALES = 97
"""Step through the scales of perturbations: a prime, so that each parent gets small and large ones."""


# Sampling.


def sample(space: Space, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
    """Rows of uniform draws in [0, 1]^d, each value of a discrete parameter with its own probability."""
    return space.encoding.sample_from_unit(uniform)


def sample_sobol(
    space: Space, count: int, like: jt.Float[Tensor, "*b n d"], seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Rows that are spread over the space: randomly shifted Sobol points.

    Args:
        space: where.
        count: of rows, for each replicate.
        like: a tensor of the replicates' shape, dtype and device.
        seeds: of the shift.
    """
    return sample(space, seeds.sobol(count, like))


def sample_random(
    space: Space, count: int, like: jt.Float[Tensor, "*b n d"], seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Rows that are drawn independently."""
    return sample(space, seeds.uniform((count, space.dim), like))


def initial_row(space: Space, seed: int, index: int) -> jt.Float64[Tensor, " d"]:
    """Row `index` of a space-filling design: the centre, then scrambled Sobol points.

    Args:
        space: where.
        seed: of the scrambling.
        index: 0, 1, 2, ...
    """
    if index == 0:
        row = torch.full((space.dim,), 0.5, dtype=torch.float64, device="cpu")
    else:
        (key,) = Seeds.of(seed, 0).split("design").keys
        with torch.device("cpu"):
            engine = SobolEngine(space.dim, scramble=True, seed=key)
            row = engine.fast_forward(index - 1).draw(1, dtype=torch.float64)[0]
        if index == 1:  # the engine rounds the first point to the default dtype, float32 in a fresh process
            row = (engine.quasi.to(torch.float64) / 2.0**engine.MAXBIT).to(torch.float32).to(torch.float64)
    return sample(space, row)


# Perturbing.


def perturb_best(space: Space, data: Dataset, seeds: Seeds, count: int) -> jt.Float[Tensor, "*b {count} d"]:
    """Perturbed copies of the best observed rows: a random subset of columns, at scales 1e-3 to 0.3."""
    best = space.encoding.round_to_levels(top(data.x, -data.y, _PERTURBED_PARENTS))  # with what is fixed
    copies = best.repeat_interleave(-(-count // best.shape[-2]), -2)[..., :count, :]
    uniform = seeds.uniform((3, count, space.dim), data.x)
    scale = torch.logspace(-3.0, -0.5, count, dtype=data.x.dtype, device=data.x.device)
    scale = scale[torch.arange(count, device=scale.device) * _SCALES % count, None]
    moved = copies + scale * seeds.split("steps").normal((count, space.dim), data.x)
    share = min(1.0, max(_PERTURBED_COLUMNS / space.dim, _LEAST_SHARE)) * (0.5 if space.dim > 1 else 1.0)
    anew = uniform[..., 1, :, :] < 0.5
    return _mixed(space, copies, moved, uniform[..., 0, :, :], anew, uniform[..., 2, :, :] < share)


def mutate(space: Space, rows: jt.Float[Tensor, "*b m d"], seeds: Seeds) -> jt.Float[Tensor, "*b m d"]:
    """The rows, each with a step of one column or more, at scales 1e-3 to 0.5.

    A discrete column moves to a level about so far away or, as often, to any other; a step may end on the
    level where it began.
    """
    shape = tuple(rows.shape[-2:])
    count, d = shape
    exponent = seeds.split("scale").uniform((count, 1), rows)
    scale = 1e-3 * 500.0**exponent
    gaps = [0.0 if levels is None else 1.0 / max(levels - 1, 1) for levels in space.levels]
    least = torch.tensor(gaps, dtype=torch.float32, device=rows.device)
    moved = rows + seeds.split("steps").normal(shape, rows) * torch.maximum(scale, least.to(rows))
    anew = seeds.split("anew").uniform(shape, rows) < 0.5
    draws = seeds.split("mask").uniform(shape, rows)
    changed = (draws < 1.0 / d) | (draws == draws.amin(-1, keepdim=True))
    return _mixed(space, rows, moved, seeds.split("fresh").uniform(shape, rows), anew, changed)


def _mixed(
    space: Space, rows: Tensor, moved: Tensor, uniform: Tensor, anew: Tensor, changed: Tensor
) -> Tensor:
    """The rows with the changed columns moved; discrete ones drawn anew where that is said."""
    moved = space.encoding.round_to_levels(moved.clamp(0.0, 1.0))
    discrete = torch.tensor([levels is not None for levels in space.levels], device=rows.device)
    return torch.where(changed, torch.where(discrete & anew, sample(space, uniform), moved), rows)


def sample_observed(
    data: Dataset, best: jt.Float[Tensor, "*b k d"], held: Sequence[int], count: int, seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Rows for searches that know no space, half spread and half near some rows; those spread first.

    The columns `held` have observed values, but for fidelities, which may have any.

    Args:
        data: what is observed.
        best: rows to be near to.
        held: columns that no gradient moves.
        count: an even number.
        seeds: of the rows.
    """
    half, d = count // 2, data.x.shape[-1]
    spread = seeds.split("spread").sobol(half, data.x)
    columns = [column for column in held if column not in data.fidelities]
    draws = seeds.split("levels").uniform((half, d), data.x)
    observed = data.x.gather(-2, (draws * data.x.shape[-2]).long())
    spread[..., columns] = observed[..., columns]

    near = best.repeat_interleave(-(-half // best.shape[-2]), -2)[..., :half, :]
    scale = torch.logspace(-3.0, -0.5, 16, dtype=data.x.dtype, device=data.x.device)
    scale = scale[torch.arange(half, device=scale.device) % 16, None]
    steps = scale * seeds.split("near").normal((half, d), data.x)
    steps[..., columns] = 0.0
    return data.with_fixed(torch.cat((spread, (near + steps).clamp(0.0, 1.0)), -2))


@dataclass(frozen=True)
class Moves:
    """Which changes of a discrete column are tried.

    Attributes:
        levels: up to so many all of them are; beyond, so many random ones and some steps.
        steps: lengths of these, evenly spaced among 1, 2, 4, ...; None for each of them.
    """

    levels: int
    steps: int | None = None

    def count(self, levels: int) -> int:
        """Number of changes of a column of so many levels."""
        return levels if levels <= ALL_LEVELS else self.levels + 2 * len(self.lengths(levels))

    def lengths(self, levels: int) -> np.ndarray:
        """Lengths of steps."""
        exponents = np.arange(int(np.log2(levels)))
        if self.steps is not None and self.steps < len(exponents):
            exponents = exponents[np.arange(self.steps) * len(exponents) // self.steps]
        return np.asarray(2.0**exponents)


ALL_LEVELS = 32
"""Levels of a column up to which each of them is a neighbour."""


def neighbours(
    space: Space, rows: jt.Float[Tensor, "*b m d"], column: int, seeds: Seeds, moves: Moves
) -> jt.Float[Tensor, "*b m t d"]:
    """Copies of each row with other levels in one discrete column."""
    levels = space.levels[column]
    assert levels is not None, "only discrete columns have neighbours"
    if levels <= ALL_LEVELS:
        positions = space.encoding.positions(column, np.arange(levels)).to(rows)
        positions = positions.expand(*rows.shape[:-1], levels)
    else:
        current = space.encoding.nearest_levels(column, rows[..., column])
        lengths = moves.lengths(levels)
        steps = np.clip(current[..., None] + np.concatenate((-lengths, lengths)), 0, levels - 1)
        draws = seeds.uniform((rows.shape[-2], moves.levels), rows).cpu().numpy()
        chosen = np.concatenate((steps, np.floor(draws * levels)), -1)
        positions = space.encoding.positions(column, chosen).to(rows)
    copies = rows[..., None, :].expand(*positions.shape, rows.shape[-1]).clone()
    copies[..., column] = positions
    return copies


# Listing.


def every_row(space: Space) -> jt.Float64[Tensor, "n d"]:
    """Every row of a finite space."""
    columns = [
        space.encoding.positions(column, np.arange(levels or 0)) for column, levels in enumerate(space.levels)
    ]
    return torch.cartesian_prod(*columns).reshape(-1, space.dim)


def can_be_listed(space: Space) -> bool:
    """Whether a search that has found nothing new may go through the whole space."""
    return space.cardinality is not None and space.cardinality <= _LISTED_AT_LAST


# Admissible rows.


def project(space: Space, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
    """The nearest rows that are points of the space."""
    return space.encoding.project(rows)


def is_new(rows: jt.Float[Tensor, "*b m d"], taken: jt.Float[Tensor, "*b t d"]) -> jt.Bool[Tensor, "*b m"]:
    """Which rows are none of those that are taken."""
    return ~(rows[..., :, None, :] == taken[..., None, :, :]).all(-1).any(-1)


def is_copy(rows: jt.Float[Tensor, "*b m d"]) -> jt.Bool[Tensor, "*b m"]:
    """Which rows equal an earlier one."""
    return (rows[..., :, None, :] == rows[..., None, :, :]).all(-1).tril(-1).any(-1)


def first_new(rows: jt.Float[Tensor, "m d"], taken: jt.Float[Tensor, "t d"], count: int) -> list[Tensor]:
    """The first rows that are neither taken nor copies, `count` at most."""
    seen = {tuple(row) for row in taken.tolist()}
    chosen: list[Tensor] = []
    for row in rows:
        key = tuple(row.tolist())
        if len(chosen) < count and key not in seen:
            seen.add(key)
            chosen.append(row)
    return chosen


def new_row(
    space: Space, row: jt.Float[Tensor, " d"], taken: jt.Float[Tensor, "t d"], seeds: Seeds
) -> jt.Float[Tensor, " d"]:
    """The row as a point of the space or, where that is taken, a random row that is not.

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    seen = {tuple(one) for one in taken.tolist()}
    exact = project(space, row[None])[0]
    for turn in range(_RANDOM_TRIES):
        if tuple(exact.tolist()) not in seen:
            return exact
        exact = project(space, sample_random(space, 1, row[None], seeds.split(f"unseen {turn}")))[0]
    for candidate in every_row(space) if can_be_listed(space) else ():
        if tuple(candidate.tolist()) not in seen:
            new: Tensor = candidate.to(row)
            return new
    raise exhausted(space)


def pools(space: Space, rows: jt.Float[Tensor, "*b m d"], seeds: Seeds) -> Iterator[Tensor]:
    """Pools of rows to look for a new one in, in turn: all of a small space, or those given, then others."""
    if space.cardinality is not None and space.cardinality <= _LISTED_AT_ONCE:
        yield every_row(space).to(rows).expand(*rows.shape[:-2], -1, -1)
        return
    yield rows
    for turn in range(_RANDOM_TURNS):
        yield sample_random(space, _RANDOM_ROWS, rows, seeds.split(f"{turn}"))
    if can_be_listed(space):
        yield every_row(space).to(rows).expand(*rows.shape[:-2], -1, -1)


def is_exhausted(space: Space, taken: jt.Float[Tensor, "t d"]) -> bool:
    """Whether every point of a finite space is taken."""
    if space.cardinality is None:
        return False
    columns = dict(space.fixed)
    rows = torch.unique(taken, dim=0)
    matching = (rows[:, list(columns)] == rows.new_tensor(list(columns.values()))).all(-1)
    return int(matching.sum()) >= space.cardinality


def exhausted(space: Space) -> SpaceExhausted:
    """The error that says that every point is taken."""
    count = "representable" if space.cardinality is None else space.cardinality
    fixed = [name for name, parameter in space if isinstance(parameter, Fixed)]
    where = f"the space with {fixed} fixed" if fixed else "the space"
    every = f"all {count} points of {where} have" if count != 1 else f"the only point of {where} has"
    return SpaceExhausted(f"{every} been suggested; there is no new one")


# Ranking.


def top(
    rows: jt.Float[Tensor, "*b m d"], value: jt.Float[Tensor, "*b m"], count: int
) -> jt.Float[Tensor, "*b c d"]:
    """The `count` rows of largest value, best first."""
    order = value.topk(min(count, value.shape[-1]), -1).indices
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))
