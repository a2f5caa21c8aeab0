"""The walk along an upper envelope, compiled by numba.

Importing this module needs numba, the extra `bo-suite[numba]`.
"""

import numba
import numpy as np
import torch
from torch import Tensor

_jit = numba.njit(error_model="numpy", nogil=True, cache=True)


def upper_envelope(intercepts: Tensor, slopes: Tensor) -> Tensor:
    """Indices of the lines of max_i (a_i + b_i z) from left to right; the last is repeated to equal lengths.

    Shapes: intercepts and slopes (b, j) on the CPU, result (b, k).
    """
    a, b = (tensor.detach().contiguous().numpy() for tensor in (intercepts, slopes))
    chain = np.empty(a.shape, np.int64)
    longest = _walk(a, b, chain)
    return torch.from_numpy(chain[:, :longest])


@_jit
def _walk(a, b, chain):
    rows, lines = a.shape
    steeper = np.empty(lines, np.int64)
    longest = 1
    for row in range(rows):
        current = 0
        for line in range(1, lines):
            if b[row, line] < b[row, current] or (
                b[row, line] == b[row, current] and a[row, line] > a[row, current]
            ):
                current = line
        for line in range(lines):
            steeper[line] = line
        remaining, edges = lines, 0
        chain[row, 0] = current
        while True:
            count, following, first, steepest = 0, -1, np.inf, 0.0
            for index in range(remaining):
                line = steeper[index]
                rise = b[row, line] - b[row, current]
                if rise > 0:
                    steeper[count] = line  # lines that are less steep cannot follow
                    count += 1
                    crossing = (a[row, current] - a[row, line]) / rise
                    if following < 0 or crossing < first or (crossing == first and rise > steepest):
                        following, first, steepest = line, crossing, rise
            if following < 0:
                break
            edges += 1
            current, remaining = following, count
            chain[row, edges] = current
        chain[row, edges + 1 :] = current
        longest = max(longest, edges + 1)
    return longest
