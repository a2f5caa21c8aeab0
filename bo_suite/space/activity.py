"""Rows in which some columns are inactive: values of newly active columns, and where rows may move.

Nothing here changes rows or takes time if all columns are always active.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.space.space import Space

_MARGIN = 1e-9
"""Distance of a position that does not meet a condition from one that does, in a search along gradients."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows from which columns that a change activates may take values.

    Attributes:
        rows: points of the space, best first.
        active: which of their columns are active.
    """

    rows: jt.Float[Tensor, "*b n d"]
    active: jt.Bool[Tensor, "*b n d"]

    @staticmethod
    def of(space: Space, data: Dataset) -> "Seen | None":
        """The observed rows, moved into the space; None if all columns are always active."""
        if not data.columns.conditions:
            return None
        order = data.merit.argsort(dim=-1, stable=True)
        rows = data.x.gather(-2, order[..., None].expand(*order.shape, data.x.shape[-1]))
        active = data.columns.active(rows)
        within = space.encoding.round_to_levels(rows.clamp(0.0, 1.0))
        return Seen(torch.where(active, within, 0.0), active) if rows.shape[-2] else None


@dataclass(frozen=True, eq=False)
class Activation:
    """Gives values to columns that a change of other columns activates.

    They are random in their range, or those of the seen row that agrees most: it has values of most of these
    columns, then it is equal in most columns that conditions are on, then it is the best.

    Attributes:
        space: of the rows.
        seen: rows with values; None if there is none.
        seeds: of the random numbers.
    """

    space: Space
    seen: Seen | None
    seeds: Seeds

    def __call__(
        self, rows: jt.Float[Tensor, "*b m d"], held: jt.Bool[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m d"]:
        """The rows with values in all active columns, and 0 in the others; half of them take seen values.

        Args:
            rows: that were changed.
            held: entries that are values of the columns, and no zeros of inactive ones.
        """
        half = self.seeds.split("half").uniform((rows.shape[-2], 1), rows) < 0.5
        fresh, inherited = self.both(rows, held)
        return torch.where(half, fresh, inherited)

    def both(self, rows: Tensor, held: Tensor, copies: int = 1) -> tuple[Tensor, Tensor]:
        """The rows with random values in newly active columns, and with seen ones.

        Args:
            rows: that were changed.
            held: as above.
            copies: number of rows, one after another, that have the same random values.
        """
        columns = self.space.columns
        *_, count, d = rows.shape
        draws = self.seeds.split("fresh").uniform((count // copies, d), rows)
        draws = self.space.encoding.sample_from_unit(draws).repeat_interleave(copies, -2)
        fresh = torch.where(held, rows, draws)
        active = columns.active(fresh)
        if self.seen is None:
            fresh = torch.where(active, fresh, 0.0)
            return fresh, fresh
        wanted = (active & ~held).to(rows) @ self.seen.active.to(rows).mT
        best = _agreement(columns, fresh, self.seen.rows, wanted).argmax(-1)[..., None].expand(rows.shape)
        given = ~held & self.seen.active.gather(-2, best)
        inherited = torch.where(given, self.seen.rows.gather(-2, best), fresh)
        return torch.where(active, fresh, 0.0), columns.canonical(inherited)


def _agreement(columns: Columns, rows: Tensor, seen: Tensor, wanted: Tensor) -> Tensor:
    """By how much each seen row is preferred for each row, (*b, m, n).

    Args:
        columns: kinds of the columns.
        rows: that need values.
        seen: rows, best first.
        wanted: number of columns that need values in one and have values in the other.
    """
    parents = sorted({parent for one in columns.conditions for parent, _ in one.parents})
    equal = (rows[..., :, None, parents] == seen[..., None, :, parents]).sum(-1)
    rank = torch.arange(seen.shape[-2], dtype=rows.dtype, device=rows.device) / seen.shape[-2]
    return wanted * (len(parents) + 1) + equal - rank


def movable(
    columns: Columns, rows: jt.Float[Tensor, "*b m d"], held: Sequence[int]
) -> tuple[jt.Float[Tensor, "*b m d"], jt.Float[Tensor, "*b m d"]]:
    """Bounds of rows in a search along gradients, in which no column becomes active or inactive.

    Args:
        columns: kinds of the columns.
        rows: where the search starts.
        held: columns that do not move; inactive columns do not, either.
    """
    lower, upper = torch.zeros_like(rows), torch.ones_like(rows)
    for condition in columns.conditions:
        for parent, intervals in condition.parents:
            place = rows[..., parent]
            for low, high in intervals:
                below, above = place < low, place > high
                inside = ~below & ~above
                inner, outer = torch.full_like(place, low), torch.full_like(place, high)
                least = torch.where(inside, inner, torch.where(above, outer + _MARGIN, 0.0))
                most = torch.where(inside, outer, torch.where(below, inner - _MARGIN, 1.0))
                lower[..., parent] = torch.maximum(lower[..., parent], least)
                upper[..., parent] = torch.minimum(upper[..., parent], most)
    still = torch.zeros_like(rows, dtype=torch.bool)
    still[..., list(held)] = True
    if columns.conditions:
        still = still | ~columns.active(rows)
        lower, upper = torch.minimum(lower, rows), torch.maximum(upper, rows)
    return torch.where(still, rows, lower), torch.where(still, rows, upper)
