"""Plane and hyperbolic rotations of Cholesky factors, compiled by numba.

Columns are taken four at a time. Their rotations come from the four diagonal rows, and are applied to the
rows below in tiles that stay in the first cache until all vectors have passed: the factor is read once and
the result written once, whatever the number of vectors.

A rotation takes the entries a of column j and x of a vector to y = p a + q x and c x - s a - h y. For an
added vector it is a plane rotation, (p, q, c, s, h) = (c, s, c, s, 0) with c = L_jj / r, s = x_j / r and r²
= L_jj² + x_j². For a removed one it is a mixed hyperbolic one, (1 / c, -h / c, c, 0, h) with h = x_j / L_jj
and c² = 1 - h²; it is stable because the vector is updated from the new y (Bojanczyk, Brent, Van Dooren and
de Hoog 1987).

Importing this module needs numba, the extra `bo-suite[numba]`.
"""

import numba
import numpy as np
import torch
from torch import Tensor

from bo_suite.linalg.memory import column_major, new_factor

_COLUMNS = 4
_TILE = 256

_jit = numba.njit(fastmath={"contract"}, error_model="numpy", nogil=True, cache=True)


def rotate(chol: Tensor, vectors: Tensor, added: int, least: float, room: int = 0) -> tuple[Tensor, Tensor]:
    """Factor of A + V Vᵀ - W Wᵀ for (V W) = vectors, V the first `added` columns, and margins.

    Shapes: chol (b, n, n), vectors (b, n, k), margins (b, k). The margin of a removed vector u is
    1 - ‖L⁻¹u‖², L the factor before its removal; elements with a margin below `least` are left unfinished.
    The margin of an added vector is 1. A margin is NaN if an entry is not finite. The last rows and columns
    of the factor (b, n + room, n + room) are not filled.
    """
    source = column_major(chol)
    whole, cleared = new_factor(chol, room)
    work = vectors.mT.numpy().copy(order="C")
    margins = np.empty(work.shape[:2], work.dtype)
    _rotate(_flat(whole), room, _flat(source), source.stride(), not cleared, work, added, least, margins)
    return whole, torch.from_numpy(margins)


def _flat(factors: Tensor) -> np.ndarray:
    """The memory from the first to the last entry."""
    batch, n = factors.shape[:2]
    step, _, column = factors.stride()
    return factors.as_strided(((batch - 1) * step + (n - 1) * (column + 1) + 1,), (1,)).numpy()


@_jit
def _rotate(target, room, source, strides, clear, vectors, added, least, margins):
    batch, count, n = vectors.shape
    height = n + room
    step, _, column = strides
    tile = n if count == 1 else _TILE
    turns = np.empty((count, _COLUMNS, 5), vectors.dtype)
    margins[:] = 1
    for b in range(batch):
        into, out_of = b * height * height, b * step
        for start in range(0, n, _COLUMNS):
            stop = min(start + _COLUMNS, n)
            for j in range(start, stop):
                if clear:
                    target[into + j * height : into + j * height + j] = 0
                for i in range(j, stop):
                    target[into + j * height + i] = source[out_of + j * column + i]
            for m in range(count):
                for j in range(start, stop):
                    a, x = target[into + j * height + j], vectors[b, m, j]
                    if m < added:
                        norm = np.hypot(a, x)
                        p, q = a / norm, x / norm
                        c, s, h = p, q, q - q
                        margins[b, m] += (norm - norm) / norm  # 0, or NaN where there is no rotation
                        target[into + j * height + j] = norm
                    else:
                        h = x / a
                        square = (1 - h) * (1 + h)
                        c, s = np.sqrt(square), h - h
                        p, q = 1 / c, -h / c
                        margins[b, m] = margins[b, m] * square + (a - a)
                        target[into + j * height + j] = c * a
                    f = j - start
                    turns[m, f, 0], turns[m, f, 1], turns[m, f, 2], turns[m, f, 3], turns[m, f, 4] = (
                        p,
                        q,
                        c,
                        s,
                        h,
                    )
                    for i in range(j + 1, stop):
                        a, x = target[into + j * height + i], vectors[b, m, i]
                        y = p * a + q * x
                        target[into + j * height + i] = y
                        vectors[b, m, i] = c * x - s * a - h * y
            if not margins[b].min() >= least:
                break
            t, o = into + start * height, out_of + start * column
            for i in range(stop, n, tile):
                e = min(i + tile, n)
                columns = (
                    target[t + i : t + e],
                    target[t + height + i : t + height + e],
                    target[t + 2 * height + i : t + 2 * height + e],
                    target[t + 3 * height + i : t + 3 * height + e],
                )
                originals = (
                    source[o + i : o + e],
                    source[o + column + i : o + column + e],
                    source[o + 2 * column + i : o + 2 * column + e],
                    source[o + 3 * column + i : o + 3 * column + e],
                )
                _turn(originals, columns, vectors[b, 0, i:e], turns[0])
                for m in range(1, count):
                    _turn_in_place(columns, vectors[b, m, i:e], turns[m])


@_jit
def _turn(originals, columns, vector, turns):
    """Rotate rows of four columns with those of a vector, reading `originals` and writing `columns`."""
    o0, o1, o2, o3 = originals
    y0, y1, y2, y3 = columns
    p0, q0, c0, s0, h0 = turns[0, 0], turns[0, 1], turns[0, 2], turns[0, 3], turns[0, 4]
    p1, q1, c1, s1, h1 = turns[1, 0], turns[1, 1], turns[1, 2], turns[1, 3], turns[1, 4]
    p2, q2, c2, s2, h2 = turns[2, 0], turns[2, 1], turns[2, 2], turns[2, 3], turns[2, 4]
    p3, q3, c3, s3, h3 = turns[3, 0], turns[3, 1], turns[3, 2], turns[3, 3], turns[3, 4]
    for i in range(vector.shape[0]):
        x = vector[i]
        a = o0[i]
        y = p0 * a + q0 * x
        y0[i] = y
        x = c0 * x - s0 * a - h0 * y
        a = o1[i]
        y = p1 * a + q1 * x
        y1[i] = y
        x = c1 * x - s1 * a - h1 * y
        a = o2[i]
        y = p2 * a + q2 * x
        y2[i] = y
        x = c2 * x - s2 * a - h2 * y
        a = o3[i]
        y = p3 * a + q3 * x
        y3[i] = y
        vector[i] = c3 * x - s3 * a - h3 * y


@_jit
def _turn_in_place(columns, vector, turns):
    """The same in place: a separate function, since arrays that may overlap prevent vectorisation."""
    y0, y1, y2, y3 = columns
    p0, q0, c0, s0, h0 = turns[0, 0], turns[0, 1], turns[0, 2], turns[0, 3], turns[0, 4]
    p1, q1, c1, s1, h1 = turns[1, 0], turns[1, 1], turns[1, 2], turns[1, 3], turns[1, 4]
    p2, q2, c2, s2, h2 = turns[2, 0], turns[2, 1], turns[2, 2], turns[2, 3], turns[2, 4]
    p3, q3, c3, s3, h3 = turns[3, 0], turns[3, 1], turns[3, 2], turns[3, 3], turns[3, 4]
    for i in range(vector.shape[0]):
        x = vector[i]
        a = y0[i]
        y = p0 * a + q0 * x
        y0[i] = y
        x = c0 * x - s0 * a - h0 * y
        a = y1[i]
        y = p1 * a + q1 * x
        y1[i] = y
        x = c1 * x - s1 * a - h1 * y
        a = y2[i]
        y = p2 * a + q2 * x
        y2[i] = y
        x = c2 * x - s2 * a - h2 * y
        a = y3[i]
        y = p3 * a + q3 * x
        y3[i] = y
        vector[i] = c3 * x - s3 * a - h3 * y
