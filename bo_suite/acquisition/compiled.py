"""The walk along an upper envelope, compiled by numba.

Importing this module needs numba, the extra `bo-suite[numba]`.
"""

import numba
import numpy as np
import torch
from torch import Tensor

_jit = numba.njit(error_model="numpy", nogil=True, cache=True)


def upper_envelope(intercepts: Tensor, slopes: Tensor) -> Tensor:
    """Lines of max_i (a_i + b_i z) from left to right, the last one repeated to equal lengths.

    Shapes: intercepts and slopes (b, j) on the CPU, result (b, k).
    """
    a, b = (part.detach().contiguous().numpy() for part in (intercepts, slopes))
    chain = np.empty(a.shape, np.int64)
    most = _walk(a, b, chain)
    return torch.from_numpy(chain[:, :most])


@_jit
def _walk(a, b, chain):
    rows, lines = a.shape
    left = np.empty(lines, np.int64)
    most = 1
    for row in range(rows):
        current = 0
        for line in range(1, lines):
            if b[row, line] < b[row, current] or (
                b[row, line] == b[row, current] and a[row, line] > a[row, current]
            ):
                current = line
        for line in range(lines):
            left[line] = line
        remaining, edges = lines, 0
        chain[row, 0] = current
        while True:
            kept, following, first, steepest = 0, -1, np.inf, 0.0
            for place in range(remaining):
                line = left[place]
                rise = b[row, line] - b[row, current]
                if rise > 0:
                    left[kept] = line  # lines that are less steep are behind
                    kept += 1
                    crossing = (a[row, current] - a[row, line]) / rise
                    if following < 0 or crossing < first or (crossing == first and rise > steepest):
                        following, first, steepest = line, crossing, rise
            if following < 0:
                break
            edges += 1
            current, remaining = following, kept
            chain[row, edges] = current
        chain[row, edges + 1 :] = current
        most = max(most, edges + 1)
    return most
