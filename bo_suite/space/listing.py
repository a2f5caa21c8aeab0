"""All rows of a finite space, and the error when all are taken."""

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import SpaceExhausted
from bo_suite.space.fixed import Fixed
from bo_suite.space.space import Space

_LISTED_AT_LAST = 100_000
"""Most points of a finite space that are all tested when random rows are not new."""


def every_row(space: Space) -> jt.Float64[Tensor, "n d"]:
    """Every row of a finite space; with constraints, of those that meet them."""
    if space.region is not None:
        assert space.region.listed is not None, "the points of such a space cannot be listed"
        return space.region.listed
    if space.columns.conditions:
        return _every_conditional_row(space)
    columns = [
        space.encoding.positions(column, np.arange(levels or 0)) for column, levels in enumerate(space.levels)
    ]
    return torch.cartesian_prod(*columns).reshape(-1, space.dim)


def _every_conditional_row(space: Space) -> Tensor:
    """Every row, by giving each column its levels in the rows in which it is active, parents first."""
    conditional = [condition.column for condition in space.columns.conditions]
    always = [column for column in range(space.dim) if column not in conditional]
    rows = torch.zeros(1, space.dim, dtype=torch.float64, device="cpu")
    for column in (*always, *conditional):
        active = space.columns.active(rows)[:, column]
        if bool(active.any()):
            positions = space.encoding.positions(column, np.arange(space.levels[column] or 0))
            longer = rows[active].repeat_interleave(len(positions), 0)
            longer[:, column] = positions.repeat(int(active.sum()))
            rows = torch.cat((rows[~active], longer))
    return rows


def can_be_listed(space: Space) -> bool:
    """Whether the space is finite and small enough to test every point."""
    if space.region is not None:
        return space.region.listed is not None
    return space.cardinality is not None and space.cardinality <= _LISTED_AT_LAST


def exhausted(space: Space) -> SpaceExhausted:
    """The error for a space whose points are all taken."""
    count = "representable" if space.cardinality is None else space.cardinality
    fixed = [name for name, parameter in space if isinstance(parameter, Fixed)]
    where = f"the space with {fixed} fixed" if fixed else "the space"
    every = f"all {count} points of {where} have" if count != 1 else f"the only point of {where} has"
    return SpaceExhausted(f"{every} been suggested; there is no new one")
