"""Rows that meet constraints, spread over their region: from points of the space, or by random walks."""

import math
from dataclasses import dataclass
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, Seeds
from bo_suite.space.region import Region

_POOL, _TRIED, _TURNS = 512, 1024, 64
"""Rows that walks start from, rows that are tried at once to find these, and most times of trying."""

_ENOUGH = 8
"""Rows of the pool with which the trying ends early: walks from few rows reach others."""

_BURN_IN, _STEPS = 20, 8
"""Steps of hit-and-run: for each direction of the region until the pool is uniform, and for each sample."""

_LEAST_ACCEPTED = 0.125
"""Share of the points of the space from which samples are chosen among such."""

_MARGIN = 1.5
"""Points of the space that are drawn for each one that is expected to be needed."""

_HALVINGS = 8
"""Halvings of the way back to an allowed row where a constraint function refuses the end of a walk."""


@dataclass(frozen=True, eq=False)
class RegionSamples:
    """Draws rows from a region; stores what all draws share."""

    region: Region

    @property
    def spreads(self) -> bool:
        """Whether so many points of the space meet the constraints that samples are chosen among such."""
        return self._accepted >= _LEAST_ACCEPTED

    def wanted(self, count: int) -> int:
        """Number of uniform draws that `count` samples need."""
        return math.ceil(_MARGIN * count / self._accepted) if self.spreads else count

    def draw(
        self, uniform: jt.Float[Tensor, "*b n d"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b {count} d"]:
        """Rows that meet the constraints, spread evenly over the region.

        They are the first of the rows for uniform draws that do or, where these are too few, the ends of
        random walks that start at a stored set of such rows.

        Args:
            uniform: draws, of which `wanted(count)` are needed.
            count: number of rows.
            seeds: of the walks.

        Raises:
            SpaceError: no row that meets the constraints was found, or a constraint function fails.
        """
        rows = self.region.encoding.sample_from_unit(uniform)
        if not self.spreads:
            return self._walked(rows[..., :count, :], seeds)
        allowed, canonical = self.region.is_allowed(rows), self.region.encoding.kinds.canonical
        order = (~allowed).to(torch.int8).argsort(dim=-1, stable=True)[..., :count]
        first = canonical(rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1])))
        enough = allowed.gather(-1, order)[..., None]
        return first if bool(enough.all()) else torch.where(enough, first, self._walked(first, seeds))

    @cached_property
    def is_reached(self) -> bool:
        """Whether one of a thousand points spread over the space has a row nearby that is allowed."""
        return bool(self.region.is_allowed(self.region.approached(self._spread(0))).any())

    @cached_property
    def _accepted(self) -> float:
        """Share of the points spread over the space that meet the constraints."""
        return float(self.region.is_allowed(self._spread(0)).double().mean())

    def _spread(self, turn: int) -> Tensor:
        """Points spread over the space, others at each turn."""
        like = torch.empty(0, len(self.region.encoding.names), **CPU_DOUBLES)
        return self.region.encoding.sample_from_unit(Seeds.of(0, turn).sobol(_TRIED, like))

    @cached_property
    def _pool(self) -> Tensor:
        """Rows that meet the constraints.

        Raises:
            SpaceError: none was found.
        """
        found: list[Tensor] = []
        for turn in range(_TURNS):
            rows = self._spread(turn)
            rows = rows if self.spreads else self.region.approached(rows)
            found.append(rows[self.region.is_allowed(rows)])
            count = sum(map(len, found))
            if count >= _POOL or (count >= _ENOUGH and turn >= _TURNS // 8):
                break
        rows = torch.cat(found)
        if not len(rows) and self.region.listed is not None:
            rows = self.region.listed
        if not len(rows):
            raise self.region.empty(f"among {_TURNS * _TRIED:,} samples")
        rows = rows[torch.arange(_POOL, device="cpu") % len(rows)]
        if self.spreads or self.region.system is None:
            return rows
        return self._walk(rows, Seeds((0,)), _BURN_IN * max(len(self.region.system.columns), 5))

    def _walked(self, spread: Tensor, seeds: Seeds) -> Tensor:
        """Ends of walks from rows of the pool; columns that are in no comparison are those of `spread`."""
        pool = self._pool.to(spread)
        chosen = (seeds.split("from").uniform((spread.shape[-2],), spread) * len(pool)).long()
        start = pool[chosen]
        rows = self._walk(start, seeds, _STEPS)
        if self.region.system is None:
            return rows
        mixed, columns = spread.clone(), list(self.region.system.columns)
        mixed[..., columns] = rows[..., columns]
        return self.region.settled(mixed, rows)

    def _walk(self, start: Tensor, seeds: Seeds, steps: int) -> Tensor:
        """Allowed rows after steps of hit-and-run from allowed rows, with steps of columns ignored."""
        polytope, system = self.region.polytope, self.region.system
        x, count, r = start.to(torch.float64), start.shape[-2], polytope.basis.shape[-1]
        directions = seeds.split("directions").normal((steps, count, r), x)
        shares = seeds.split("shares").uniform((steps, count), x)
        bent = None if system is None else system.curved & ~system.equalities
        for step in range(steps):
            moved = polytope.step(x, directions[..., step, :, :], shares[..., step, :])
            if system is not None and bent is not None and bool(bent.any()):
                outside = (system.residuals(moved)[..., bent] > 0.0).any(-1, keepdim=True)
                moved = torch.where(outside, x, moved)
            x = moved
        ends = x.to(start)
        if self.region.has_functions:
            return self.region.towards(self.region.approached(ends), start, _HALVINGS)
        return self.region.settled(ends, start)


def representative(rows: jt.Float64[Tensor, "p d"], index: int) -> jt.Float64[Tensor, " d"]:
    """Row `index` of an order of the rows in which the first ones represent all.

    Each minimises the energy distance of those so far to all rows (Chen, Welling and Smola 2010, with the
    kernel -|x - y|). The first is in the middle.

    Args:
        rows: to order.
        index: 0, 1, 2, ...
    """
    distance = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    mean, sums = distance.mean(-1), torch.zeros_like(distance[0])
    taken = torch.zeros_like(sums)
    for turn in range(index % len(rows) + 1):
        best = int((mean - sums / (turn + 1) + taken).argmin())
        sums, taken[best] = sums + distance[best], torch.inf
    return rows[best]
