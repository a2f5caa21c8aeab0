"""Rows as a classifier sees them: codes of categories become indicators."""

from collections.abc import Sequence

import jaxtyping as jt
import torch
from torch import Tensor


def one_hot(
    x: jt.Float[Tensor, "*b m d"], unordered: Sequence[int], levels: Sequence[int | None]
) -> jt.Float[Tensor, "*b m f"]:
    """Ordered columns unchanged, and for each unordered column an indicator of every level.

    The indicator of level l is 1 where x is nearest to l / (levels - 1). Ordered columns keep their gradient.
    """
    if not unordered:
        return x
    blocks = []
    for column in range(x.shape[-1]):
        count = levels[column] if column in unordered else None
        if count is None:
            blocks.append(x[..., column, None])
        else:
            level = torch.round(x[..., column].detach() * (count - 1)).clamp(0, count - 1)
            blocks.append((level[..., None] == torch.arange(count, device=x.device)).to(x))
    return torch.cat(blocks, -1)
