"""Rows as a classifier sees them: codes become indicators or descriptors, and what is active indicators."""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, Columns
from bo_suite.kernels.described import descriptors_at
from bo_suite.kernels.groups import groups_of


def features_of(
    x: jt.Float[Tensor, "*b m d"], columns: Columns, low: float = 0.0
) -> jt.Float[Tensor, "*b m f"]:
    """Ordered columns on [low, 1], an indicator of every level of unordered ones, and of what is active.

    The indicator of level l is 1 where x is nearest to l / (levels - 1); a column of categories that have
    descriptors becomes these, on [low, 1]. For each group of columns with the
    same condition, a last feature is 1 where the group is active; where it is not, its ordered columns are
    in the middle of their range, and its indicators are 0. Ordered columns keep their gradient.
    """
    scaled = x if low == 0.0 else (1.0 - low) * x + low
    if not columns.conditions:
        return torch.cat(_blocks(x, scaled, columns, low), -1) if columns.unordered else scaled
    active = columns.active(x)
    first = [group[0] for group in groups_of(columns.conditions)]
    blocks = _blocks(x, torch.where(active, scaled, 0.5 * (1.0 + low)), columns, low)
    for column in columns.unordered:
        blocks[column] = blocks[column] * active[..., column, None]
    return torch.cat((*blocks, active[..., first].to(x)), -1)


def _blocks(x: Tensor, scaled: Tensor, columns: Columns, low: float) -> list[Tensor]:
    """For each column its scaled positions, or indicators of its levels, or their scaled descriptors."""
    described = {column: (levels, numbers) for column, levels, numbers in columns.descriptors}
    blocks = []
    for column in range(x.shape[-1]):
        count = columns.levels[column] if column in columns.unordered else None
        if column in described:
            levels, numbers = described[column]
            at = descriptors_at(x[..., column], levels, torch.tensor(numbers, **CPU_DOUBLES))
            blocks.append((1.0 - low) * at + low)
        elif count is None:
            blocks.append(scaled[..., column, None])
        else:
            level = torch.round(x[..., column].detach() * (count - 1)).clamp(0, count - 1)
            blocks.append((level[..., None] == torch.arange(count, device=x.device)).to(x))
    return blocks
