"""Layout and memory of factors.

Factors are column-major, as `torch.linalg.cholesky` returns them. Allocating memory takes longer than the
update of a large factor, since the system hands it out page by page. So one block that is no longer used is
kept for the next factor.
"""

import math
import weakref

import numpy as np
import torch
from torch import Tensor

_LARGE = 1 << 18
"""Smallest size of a kept block in bytes; malloc reuses smaller ones itself."""
_KEPT = 256 << 20
"""Largest size of a kept block in bytes."""
_TILE = 128

_spare: list[np.ndarray] = []


def new_factor(like: Tensor, extra: int = 0) -> tuple[Tensor, bool]:
    """Column-major memory for factors with `extra` more rows, and whether it is filled with zeros."""
    *batch, n, _ = like.shape
    shape = (*batch, n + extra, n + extra)
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < _LARGE:
        return like.new_empty(shape).mT, False
    block = _spare.pop() if _spare else None
    if block is not None and block.nbytes > 2 * size:  # too large for this factor
        _keep(block)
        block = None
    cleared = block is None or block.nbytes < size
    if block is None or cleared:
        step = 1 << (size.bit_length() - 4)  # so that it also fits a few more rows
        block = np.zeros(-(-size // step) * step, np.uint8)
    factors: np.ndarray = np.ndarray(shape, np.float32 if like.dtype == torch.float32 else np.float64, block)
    if size <= _KEPT:
        weakref.finalize(factors, _keep, block).atexit = False
    return torch.from_numpy(factors).mT, cleared


def _keep(block: np.ndarray) -> None:
    _spare[:] = [block]


def column_major(chol: Tensor) -> Tensor:
    """The factors with contiguous columns; a copy if they have others."""
    if chol.stride(-2) == 1 or chol.shape[-1] <= 1:
        return chol
    copy, cleared = new_factor(chol)
    fill_lower(copy, chol, cleared)
    return copy


def fill_lower(target: Tensor, chol: Tensor, cleared: bool, sign: int = 1) -> None:
    """Copy the factors, or their negatives, with zeros above the diagonal unless the target is `cleared`."""
    n = chol.shape[-1]
    if n <= 2 * _TILE or chol.device.type != "cpu":
        target.copy_(chol if sign > 0 else 0 - chol)
        return
    # a transposed copy of the whole matrix would miss the cache at every entry
    height = n if target.stride(-2) == chol.stride(-2) == 1 else _TILE
    for j in range(0, n, _TILE):
        columns = slice(j, j + _TILE)
        if not cleared:
            target[..., :j, columns] = 0
        for i in range(j, n, height):
            rows = slice(i, i + height)
            target[..., rows, columns] = (
                chol[..., rows, columns] if sign > 0 else 0 - chol[..., rows, columns]
            )
