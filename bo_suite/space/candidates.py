"""Candidate rows of a space: the only module that samples, perturbs and projects them.

Searches, batches, the initial design and the fallback take their rows from here, and test here whether a row
is new. So rows obey the conditions and the constraints of the space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.data import Dataset, Seeds
from bo_suite.space.activity import Activation, Seen
from bo_suite.space.listing import can_be_listed, every_row, exhausted
from bo_suite.space.region_samples import representative
from bo_suite.space.space import Space

_LISTED_AT_ONCE = 1024
"""Most points of a finite space that are all scored."""

_RANDOM_ROWS, _RANDOM_TURNS = 512, 20
"""Random rows drawn at a time, and number of draws, when no result of a search is new."""

_RANDOM_TRIES, _FEW_TRIES = 1000, 32
"""Random rows that are tried one by one to replace a row that is not new; fewer where all rows are listed."""

_DESIGN_ROWS = 256
"""Rows among which the design is chosen in a space with constraints."""

_PERTURBED_PARENTS, _OF_SEVERAL = 4, 16
"""Best observed rows that are perturbed; more with several objectives, whose best rows are a front."""

_PERTURBED_COLUMNS, _LEAST_SHARE = 20.0, 0.2
"""A column of a perturbed row changes with probability min(1, max(20 / d, 0.2)) / 2, or always if d = 1."""

_SCALES = 97
"""Stride through the scales of perturbations: a prime, so that each parent gets small and large ones."""

_SMALLEST_SCALE, _LARGEST_SCALE = 1e-3, 0.5
"""Range of the scale of a mutation, log-uniform, in units of a column's range."""


# Sampling.


def sample(space: Space, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
    """The rows of uniform draws in [0, 1]^d: discrete columns are at levels, and inactive ones at 0.

    Constraints are ignored: `sample_sobol` and `sample_random` meet them.
    """
    return space.columns.canonical(space.encoding.sample_from_unit(uniform))


def sample_sobol(
    space: Space, count: int, like: jt.Float[Tensor, "*b n d"], seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Randomly shifted Sobol points as rows of the space.

    Args:
        space: of the rows.
        count: number of rows of each replicate.
        like: a tensor with the shape of the replicates, the dtype and the device.
        seeds: of the shift.

    Raises:
        SpaceError: no row that meets the constraints was found.
    """
    if space.region is not None:
        return space.region.samples.draw(
            seeds.sobol(space.region.samples.wanted(count), like), count, seeds.split("walk")
        )
    return sample(space, seeds.sobol(count, like))


def sample_random(
    space: Space, count: int, like: jt.Float[Tensor, "*b n d"], seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Independent random rows of the space; raises SpaceError as `sample_sobol`."""
    if space.region is not None:
        draws = seeds.uniform((space.region.samples.wanted(count), space.dim), like)
        return space.region.samples.draw(draws, count, seeds.split("walk"))
    return sample(space, seeds.uniform((count, space.dim), like))


def initial_row(space: Space, seed: int, index: int) -> jt.Float64[Tensor, " d"]:
    """Row `index` of a space-filling design: the centre, then scrambled Sobol points.

    With constraints it is a sample of rows that meet them, in an order whose first ones represent all.

    Args:
        space: of the row.
        seed: of the scrambling.
        index: 0, 1, 2, ...
    """
    if space.region is not None:
        like = torch.empty(0, space.dim, dtype=torch.float64, device="cpu")
        rows = sample_sobol(space, _DESIGN_ROWS, like, Seeds.of(seed, 0).split("design"))
        return representative(rows, index)
    if index == 0:
        row = torch.full((space.dim,), 0.5, dtype=torch.float64, device="cpu")
    else:
        (key,) = Seeds.of(seed, 0).split("design").keys
        with torch.device("cpu"):
            engine = SobolEngine(space.dim, scramble=True, seed=key)
            row = engine.fast_forward(index - 1).draw(1, dtype=torch.float64)[0]
        if index == 1:  # the engine rounds its first point to the default dtype, float32 in a fresh process
            row = (engine.quasi.to(torch.float64) / 2.0**engine.MAXBIT).to(torch.float32).to(torch.float64)
    return sample(space, row)


# Perturbing.


def perturb_best(space: Space, data: Dataset, seeds: Seeds, count: int) -> jt.Float[Tensor, "*b {count} d"]:
    """Copies of the best observed rows with random columns perturbed, at scales 1e-3 to 0.3.

    Half of the rows in which columns become active take values of these that were seen, and half random ones.
    """
    several = data.outcomes is not None and data.outcomes.objectives > 0
    parents = _OF_SEVERAL if several else _PERTURBED_PARENTS
    observed = top(data.x, -data.merit, parents)
    best = space.encoding.round_to_levels(data.within_space(observed))  # rounds to fixed values
    best = within_region(space, best, seeds)
    repeats = -(-count // best.shape[-2])
    copies = best.repeat_interleave(repeats, -2)[..., :count, :]
    uniform = seeds.uniform((3, count, space.dim), data.x)
    scale = torch.logspace(-3.0, -0.5, count, dtype=data.x.dtype, device=data.x.device)
    scale = scale[torch.arange(count, device=scale.device) * _SCALES % count, None]
    moved = copies + scale * seeds.split("steps").normal((count, space.dim), data.x)
    share = min(1.0, max(_PERTURBED_COLUMNS / space.dim, _LEAST_SHARE)) * (0.5 if space.dim > 1 else 1.0)
    moved = _with_levels(space, moved, uniform[..., 0, :, :], uniform[..., 1, :, :] < 0.5)
    perturbed = torch.where(uniform[..., 2, :, :] < share, moved, copies)
    if space.columns.conditions:
        held = space.columns.active(observed)
        held[..., [column for column, _ in space.fixed]] = True
        held = held.repeat_interleave(repeats, -2)[..., :count, :]
        perturbed = Activation(space, Seen.of(space, data), seeds.split("active"))(perturbed, held)
    return settled(space, perturbed, copies)


def mutate(
    space: Space, rows: jt.Float[Tensor, "*b m d"], seeds: Seeds, seen: Seen | None = None
) -> jt.Float[Tensor, "*b m d"]:
    """The rows, each with a random step in one column or more, at scales 1e-3 to 0.5.

    With constraints, other columns move too where that is needed; a row that cannot move stays.

    A discrete column moves to a level about as far away or, with equal probability, to a random level. The
    level may be the one it had.

    Args:
        space: of the rows.
        rows: points of the space.
        seeds: of the random numbers.
        seen: rows from which newly active columns may take values; None for none.
    """
    shape = tuple(rows.shape[-2:])
    count, d = shape
    exponent = seeds.split("scale").uniform((count, 1), rows)
    scale = _SMALLEST_SCALE * (_LARGEST_SCALE / _SMALLEST_SCALE) ** exponent
    gaps = [0.0 if levels is None else 1.0 / max(levels - 1, 1) for levels in space.levels]
    smallest_step = torch.tensor(gaps, dtype=torch.float32, device=rows.device)
    moved = rows + seeds.split("steps").normal(shape, rows) * torch.maximum(scale, smallest_step.to(rows))
    anew = seeds.split("anew").uniform(shape, rows) < 0.5
    draws = seeds.split("mask").uniform(shape, rows)
    moved = _with_levels(space, moved, seeds.split("fresh").uniform(shape, rows), anew)
    if not space.columns.conditions:
        changed = (draws < 1.0 / d) | (draws == draws.amin(-1, keepdim=True))
        return settled(space, torch.where(changed, moved, rows), rows)
    active = space.columns.active(rows)
    draws = torch.where(active, draws, 1.0)
    changed = (draws < 1.0 / active.sum(-1, keepdim=True)) | (draws == draws.amin(-1, keepdim=True))
    mutated = Activation(space, seen, seeds.split("active"))(torch.where(changed, moved, rows), active)
    return settled(space, mutated, rows)


def _with_levels(space: Space, moved: Tensor, uniform: Tensor, anew: Tensor) -> Tensor:
    """The rows with discrete columns rounded to levels or, where `anew`, drawn from the uniform numbers."""
    moved = space.encoding.round_to_levels(moved.clamp(0.0, 1.0))
    discrete = torch.tensor([levels is not None for levels in space.levels], device=moved.device)
    return torch.where(discrete & anew, space.encoding.sample_from_unit(uniform), moved)


def sample_observed(
    data: Dataset, best: jt.Float[Tensor, "*b k d"], held: Sequence[int], count: int, seeds: Seeds
) -> jt.Float[Tensor, "*b {count} d"]:
    """Rows for searches that have no Space: half spread over [0, 1]^d, then half near some rows.

    The columns `held` take observed values; fidelity columns among them may take any value.

    Args:
        data: observations.
        best: rows that the second half is near to.
        held: columns that gradient searches do not move.
        count: number of rows, even.
        seeds: of the rows.
    """
    half, d = count // 2, data.x.shape[-1]
    spread = seeds.split("spread").sobol(half, data.x)
    columns = [column for column in held if column not in data.fidelities]
    draws = seeds.split("levels").uniform((half, d), data.x)
    if data.columns.conditions:  # all of one row, so that columns are active together
        draws = draws[..., :1].expand(draws.shape)
    observed = data.x.gather(-2, (draws * data.x.shape[-2]).long())
    spread[..., columns] = observed[..., columns]

    near = best.repeat_interleave(-(-half // best.shape[-2]), -2)[..., :half, :]
    scale = torch.logspace(-3.0, -0.5, 16, dtype=data.x.dtype, device=data.x.device)
    scale = scale[torch.arange(half, device=scale.device) % 16, None]
    steps = scale * seeds.split("near").normal((half, d), data.x)
    steps[..., columns] = 0.0
    return data.within_space(torch.cat((spread, (near + steps).clamp(0.0, 1.0)), -2))


@dataclass(frozen=True)
class Moves:
    """The changes of a discrete column that are tried.

    All levels of a column with at most ALL_LEVELS; of others, random levels, and steps up and down.

    Attributes:
        levels: number of random levels.
        steps: number of lengths of steps, evenly spaced among 1, 2, 4, ...; None for all of these.
        seen: rows from which newly active columns may take values; None for none.
    """

    levels: int
    steps: int | None = None
    seen: Seen | None = None

    def count(self, levels: int) -> int:
        """Number of changes of a column with so many levels."""
        return levels if levels <= ALL_LEVELS else self.levels + 2 * len(self.lengths(levels))

    def lengths(self, levels: int) -> np.ndarray:
        """Lengths of the steps in a column with so many levels."""
        exponents = np.arange(int(np.log2(levels)))
        if self.steps is not None and self.steps < len(exponents):
            exponents = exponents[np.arange(self.steps) * len(exponents) // self.steps]
        return np.asarray(2.0**exponents)


ALL_LEVELS = 32
"""Most levels of a column that are all neighbours."""


def neighbours(
    space: Space, rows: jt.Float[Tensor, "*b m d"], column: int, seeds: Seeds, moves: Moves
) -> jt.Float[Tensor, "*b m t d"]:
    """Copies of each row with other levels in one discrete column.

    If other columns depend on it, there are two copies for each level: one in which newly active columns have
    random values, and one in which they have values that were seen. With constraints, other columns move too
    where that is needed, such as along an equality; a copy that cannot is the row itself.
    """
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
    if column in space.parent_columns:
        shape, count = copies.shape, copies.shape[-2]
        held = space.columns.active(rows).repeat_interleave(count, -2)
        activation = Activation(space, moves.seen, seeds.split("active"))
        changed = activation.both(copies.flatten(-3, -2), held, count)
        copies = torch.cat([one.reshape(shape) for one in changed], -2)
    elif space[space.names[column]].when is not None:
        active = space.columns.active(rows)[..., None, column]
        copies[..., column] = torch.where(active, copies[..., column], 0.0)
    return settled(space, copies, rows[..., None, :].expand_as(copies), (column,))


# Admissible rows.


def project(space: Space, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
    """The nearest rows that encode points; of rows that meet the constraints such that do."""
    return space.encoding.project(rows) if space.region is None else space.region.exact(rows)


def is_allowed(space: Space, rows: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b"]:
    """Which rows meet the constraints, all if there are none: the only judge of rows."""
    if space.region is None:
        return torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
    return space.region.is_allowed(rows)


def settled(
    space: Space,
    rows: jt.Float[Tensor, "*b d"],
    otherwise: jt.Float[Tensor, "*b d"],
    held: Sequence[int] = (),
) -> jt.Float[Tensor, "*b d"]:
    """The rows moved to where the constraints are met; those that cannot be are replaced.

    Args:
        space: without constraints the rows are returned.
        rows: in [0, 1]^d.
        otherwise: rows that meet the constraints.
        held: columns that do not move.
    """
    return rows if space.region is None else space.region.settled(rows, otherwise, held)


def within_region(space: Space, rows: jt.Float[Tensor, "*b m d"], seeds: Seeds) -> jt.Float[Tensor, "*b m d"]:
    """The rows moved to where the constraints are met, or random rows in place of those that cannot be."""
    if space.region is None or bool((allowed := space.region.is_allowed(rows)).all()):
        return rows
    others = sample_random(space, rows.shape[-2], rows, seeds.split("region"))
    return torch.where(allowed[..., None], rows, space.region.settled(rows, others))


def is_new(rows: jt.Float[Tensor, "*b m d"], taken: jt.Float[Tensor, "*b t d"]) -> jt.Bool[Tensor, "*b m"]:
    """Which rows are not taken."""
    return ~(rows[..., :, None, :] == taken[..., None, :, :]).all(-1).any(-1)


def is_copy(rows: jt.Float[Tensor, "*b m d"]) -> jt.Bool[Tensor, "*b m"]:
    """Which rows equal an earlier one."""
    return (rows[..., :, None, :] == rows[..., None, :, :]).all(-1).tril(-1).any(-1)


def first_new(rows: jt.Float[Tensor, "m d"], taken: jt.Float[Tensor, "t d"], count: int) -> list[Tensor]:
    """The first rows that are neither taken nor copies; at most `count`."""
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
    """The row projected onto the space or, if that is taken, a random row that is not.

    Raises:
        SpaceExhausted: every point of a finite space is taken.
    """
    seen = {tuple(taken_row) for taken_row in taken.tolist()}
    exact = project(space, row[None])[0]
    listed = space.region is not None and space.region.listed is not None
    for turn in range(_FEW_TRIES if listed else _RANDOM_TRIES):
        if tuple(exact.tolist()) not in seen and bool(is_allowed(space, exact)):
            return exact
        exact = project(space, sample_random(space, 1, row[None], seeds.split(f"unseen {turn}")))[0]
    for candidate in every_row(space) if can_be_listed(space) else ():
        if tuple(candidate.tolist()) not in seen:
            new: Tensor = candidate.to(row)
            return new
    raise exhausted(space)


def pools(space: Space, rows: jt.Float[Tensor, "*b m d"], seeds: Seeds) -> Iterator[Tensor]:
    """Pools of rows to search for a new one, in order: a small space at once; or the rows, then others."""
    if space.cardinality is not None and space.cardinality <= _LISTED_AT_ONCE and can_be_listed(space):
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
    rows = torch.unique(taken, dim=0)
    inside = (project(space, rows) == rows).all(-1) & is_allowed(space, rows)
    return int(inside.sum()) >= space.cardinality


# Ranking.


def top(
    rows: jt.Float[Tensor, "*b m d"], value: jt.Float[Tensor, "*b m"], count: int
) -> jt.Float[Tensor, "*b c d"]:
    """The `count` rows of largest value, best first."""
    order = value.topk(min(count, value.shape[-1]), -1).indices
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))
