"""Updates of Cholesky factors as terms are added and removed, and rows appended and deleted.

Every function takes factors (*b, n, n), lower triangular with a positive diagonal, of float32 or float64 on
any device; batch dimensions broadcast. Arguments are never changed, and the memory layout of results is not
specified. All are differentiable in reverse mode by all tensors, any number of times.
"""

import logging
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bo_suite.errors import DataError, NumericalError
from bo_suite.linalg import blocked, lapack, scan
from bo_suite.linalg.factor import jittered_cholesky, solve_lower
from bo_suite.linalg.memory import fill_lower, new_factor

logger = logging.getLogger("bo_suite")

_FEW_ADDED, _FEW_REMOVED = 20, 40
"""Numbers of vectors up to which compiled rotations are fastest (benchmarks/cholesky.py)."""
_LEAST_MARGIN = {torch.float64: 1e-12, torch.float32: 1e-3}
"""1 - ‖L⁻¹u‖² of a removal below which it is repeated in float64, or refused."""
_LEAST_PIVOT = 1e-8
"""Ratio of the smallest to the largest pivot below which rounding errors in A spoil a refactoring."""


def cholesky_update(
    chol: jt.Float[Tensor, "*b n n"],
    vectors: jt.Float[Tensor, "*b n k"],
    removed: jt.Float[Tensor, "*b n l"] | None = None,
) -> jt.Float[Tensor, "*b n n"]:
    """Factor of A + V Vᵀ, or of A + V Vᵀ - W Wᵀ, from the factor of A, in O(n² (k + l)).

    Plane rotations clear V column by column (Gill, Golub, Murray and Saunders 1974), mixed hyperbolic ones W
    (Bojanczyk, Brent, Van Dooren and de Hoog 1987). Terms are added before others are removed, so that no
    matrix on the way is less definite than the last. The backward error is a few units of rounding; the
    relative error of |A| grows like 1 / (1 - ‖L⁻¹w‖²), and float32 is done in float64 below 1e-3 of that.

    The method is the one that measured fastest (benchmarks/README.md, Low-rank Cholesky updates). On a CPU,
    up to 20 added and 40 removed vectors are rotated by numba. More, or all without numba, use matrix
    products:
    LAPACK's tpqrt adds vectors, and blocks of hyperbolic transformations remove them. With more than 3 n / 4
    added or 2 n / 5 removed vectors the matrix is factorised anew, unless the result is nearly singular. On
    other devices, up to n / 512 vectors (an estimate, not measured) use a scan of running sums; for more, the
    matrix is factorised anew. The backward pass is the adjoint of the decomposition, in O(n³).

    Args:
        chol: L with A = L Lᵀ.
        vectors: V; no columns are allowed.
        removed: W.

    Raises:
        DataError: shapes, types or devices that do not fit, or a chol that is not lower triangular.
        NumericalError: the result is not positive definite, or an input that enters a pivot is not finite;
            the message names the batch element, and 1 - ‖L⁻¹W‖².
    """
    _check(chol, vectors)
    added = vectors.shape[-1]
    if removed is not None:
        _check(chol, removed)
        batch = _batch(vectors, removed)
        vectors = torch.cat((vectors.expand(*batch, -1, -1), removed.expand(*batch, -1, -1)), -1)
    if chol.shape[:-2] != vectors.shape[:-2]:
        batch = _batch(chol, vectors)
        chol, vectors = chol.expand(*batch, -1, -1), vectors.expand(*batch, -1, -1)
    return _modify(chol, vectors, added)


def cholesky_downdate(
    chol: jt.Float[Tensor, "*b n n"], vectors: jt.Float[Tensor, "*b n k"]
) -> jt.Float[Tensor, "*b n n"]:
    """Factor of A - V Vᵀ from the factor of A, in O(n² k).

    Possible if ‖L⁻¹V‖ < 1. See `cholesky_update` for the method and the errors.
    """
    return cholesky_update(chol, vectors[..., :0], vectors)


def cholesky_append(
    chol: jt.Float[Tensor, "*b n n"], cross: jt.Float[Tensor, "*b n q"], corner: jt.Float[Tensor, "*b q q"]
) -> jt.Float[Tensor, "*b n+q n+q"]:
    """Factor of [[A, B], [Bᵀ, C]] from the factor L of A, in O(n² q).

    [[L, 0], [Sᵀ, chol(C - SᵀS)]] with S = L⁻¹B (Golub and Van Loan 2013, section 4.2.9).

    Raises:
        DataError: shapes, types or devices that do not fit, or a chol that is not lower triangular.
        NumericalError: the Schur complement is not positive definite, jitter included (`jittered_cholesky`).
    """
    _check(chol, cross)
    n, q = cross.shape[-2:]
    return _append(_with_room(chol.expand(*_batch(chol, cross, corner), n, n), q), chol, cross, corner)


def cholesky_slide(
    chol: jt.Float[Tensor, "*b n n"], cross: jt.Float[Tensor, "*b n-q q"], corner: jt.Float[Tensor, "*b q q"]
) -> jt.Float[Tensor, "*b n n"]:
    """Factor after the first q rows have been deleted and q appended, in O(n² q).

    `cholesky_append(cholesky_delete(chol, slice(q)), cross, corner)` without the copy in between, and with
    the same errors.
    """
    _check(chol)
    if cross.ndim < 2 or cross.shape[-1] > chol.shape[-1]:
        raise DataError(f"cross must be (*b, n - q, q) for {tuple(chol.shape)}, got {tuple(cross.shape)}")
    n, q = cross.shape[-2:]
    remaining, deleted = chol[..., q:, q:], chol[..., q:, :q]
    if _tracked(chol, cross, corner):
        return cholesky_append(_modify(remaining, deleted, q), cross, corner)
    _check_beside(remaining, cross)
    batch = _batch(chol, cross, corner)
    if batch != chol.shape[:-2]:
        remaining, deleted = remaining.expand(*batch, n, n), deleted.expand(*batch, n, q)
    whole = _modified(remaining, deleted, q, room=q)
    return _append(whole, whole[..., :n, :n], cross, corner)


def cholesky_delete(
    chol: jt.Float[Tensor, "*b n n"], index: int | slice | Tensor
) -> jt.Float[Tensor, "*b n-q n-q"]:
    """Factor of A without some rows and their columns, in O(n² q).

    Rows before the first deleted one do not change. For the others, K, the deleted columns D are an added
    term, A_KK = L_KK L_KKᵀ + L_KD L_KDᵀ: an update, which cannot fail.

    Args:
        chol: L with A = L Lᵀ.
        index: a row, a slice of rows, a tensor of rows (q,) or a mask (n,); the same for the whole batch.

    Raises:
        DataError: no such row, or a chol that is not lower triangular.
        NumericalError: an input is not finite.
    """
    _check(chol)
    n = chol.shape[-1]
    deleted = rows_named(index, n)
    if not deleted:
        return chol.clone()
    first, last = deleted[0], deleted[-1] + 1
    remaining: slice | list[int] = slice(last, None)
    if last - first > len(deleted):
        remaining = sorted(set(range(first, n)).difference(deleted))
    rows = chol[..., remaining, :]
    tail = _modify(rows.mT[..., remaining, :].mT, rows[..., deleted], len(deleted))
    if not first:
        return tail
    return _fill(_with_room(chol[..., :first, :first], tail.shape[-1]), rows[..., :first], tail)


def _batch(*tensors: Tensor) -> torch.Size:
    """The batch that the tensors broadcast to."""
    first = tensors[0].shape[:-2]
    if all(tensor.shape[:-2] == first for tensor in tensors[1:]):
        return first
    try:
        return torch.Size(torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in tensors)))
    except RuntimeError as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise DataError(f"batch dimensions must broadcast, got {shapes}") from error


def rows_named(index: int | slice | Tensor, n: int) -> list[int]:
    """The rows of n that an index names, in order.

    Raises:
        DataError: no such rows, or not an index.
    """
    every = range(n)
    try:
        if isinstance(index, slice):
            return sorted(every[index])
        if isinstance(index, bool):
            raise TypeError("a bool is not a row")
        if not isinstance(index, Tensor):
            return [every[index]]
        if index.dtype == torch.bool:
            if index.shape != (n,):
                raise ValueError("a mask has an entry for every row")
            return [int(row) for row in index.nonzero()[:, 0].tolist()]
        return sorted({every[row] for row in index.tolist()})
    except (IndexError, TypeError, ValueError) as error:
        raise DataError(f"index must name rows of {n}, got {index}") from error


def _with_room(chol: Tensor, room: int) -> Tensor:
    """The factors in memory for more rows and columns, which are not filled."""
    n = chol.shape[-1]
    whole, cleared = new_factor(chol, room)
    fill_lower(whole[..., :n, :n], chol, cleared)
    return whole


def _append(whole: Tensor, chol: Tensor, cross: Tensor, corner: Tensor) -> Tensor:
    """Fill the last rows of the factor of [[A, B], [Bᵀ, C]], whose first rows hold the factor of A."""
    if corner.shape[-2:] != (cross.shape[-1], cross.shape[-1]):
        raise DataError(f"corner must be (*b, q, q) for {cross.shape[-1]} columns, got {tuple(corner.shape)}")
    _check_alike(chol, corner)
    solved = solve_lower(chol, cross).mT
    schur = corner - solved @ solved.mT
    scale = corner.diagonal(dim1=-2, dim2=-1).mean(-1).expand(schur.shape[:-2])
    last = jittered_cholesky(schur, scale)[0]
    if not math.isfinite(float(last.detach().sum())):
        raise NumericalError("chol, cross and corner must be finite")
    return _fill(whole, solved, last)


def _fill(whole: Tensor, left: Tensor, corner: Tensor) -> Tensor:
    """[[·, 0], [left, corner]]."""
    n = left.shape[-1]
    whole[..., n:, :n] = left
    whole[..., :n, n:] = 0
    whole[..., n:, n:] = corner
    return whole


def _check(chol: Tensor, *others: Tensor) -> None:
    """Raise unless two diagonals of chol are those of a lower factor, and the others fit it."""
    if chol.ndim < 2 or chol.shape[-1] != chol.shape[-2]:
        raise DataError(f"chol must be (*b, n, n), got {tuple(chol.shape)}")
    if chol.dtype not in _LEAST_MARGIN:
        raise DataError(f"chol must be float32 or float64, got {chol.dtype}")
    for other in others:
        _check_beside(chol, other)
    above = chol.diagonal(1, -2, -1)
    if bool(above.any()) and not bool(above.isnan().any()):
        raise DataError(
            "chol must be lower triangular, got entries above its diagonal; is it upper? pass chol.mT"
        )
    if chol.numel():
        pivots = chol.detach().diagonal(0, -2, -1)
        least, most = torch.aminmax(pivots)
        if not float(least) > 0 or not float(most) < math.inf:
            bad = ((pivots > 0) & (pivots < math.inf)).all(-1).logical_not().flatten()
            name = _named(int(bad.nonzero()[0]), chol.shape[:-2])
            raise NumericalError(f"chol must have a positive and finite diagonal, but {name} does not")


def _check_beside(chol: Tensor, other: Tensor) -> None:
    """Raise unless the other has the rows, type and device of chol, and a batch that broadcasts with it."""
    if other.ndim < 2 or other.shape[-2] != chol.shape[-1]:
        raise DataError(
            f"vectors must be (*b, n, k) for chol {tuple(chol.shape)}, got {tuple(other.shape)}; "
            "a single vector is (*b, n, 1)"
        )
    _check_alike(chol, other)
    _batch(chol, other)


def _check_alike(left: Tensor, right: Tensor) -> None:
    if left.dtype != right.dtype or left.device != right.device:
        raise DataError(
            f"all must have one type and device, got {left.dtype} on {left.device} "
            f"and {right.dtype} on {right.device}"
        )


def _named(element: int, batch: torch.Size) -> str:
    return f"batch element {element} of {tuple(batch)}" if batch else "it"


def _tracked(*tensors: Tensor) -> bool:
    """Whether derivatives are recorded; `_Modification` refuses forward ones."""
    forward = forward_ad._current_level >= 0
    return forward or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))


def _modify(chol: Tensor, vectors: Tensor, added: int) -> Tensor:
    """Factor (*b, n, n) of A + V Vᵀ - W Wᵀ for vectors (V W), the first `added` of them V."""
    if _tracked(chol, vectors):
        result: Tensor = _Modification.apply(chol, vectors, added)  # type: ignore[no-untyped-call]
        return result.clone()  # unlike the output of a Function, a clone may be changed in place
    return _modified(chol, vectors, added)


class _Modification(torch.autograd.Function):
    """`_modified`, differentiable."""

    @staticmethod
    def forward(ctx: Any, chol: Tensor, vectors: Tensor, added: int) -> Tensor:
        result = _modified(chol, vectors, added)
        ctx.save_for_backward(chol, vectors, result)
        ctx.added = added
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        chol, vectors, result = ctx.saved_tensors
        product = (result.mT @ gradients[0].tril()).tril()
        product = product - 0.5 * torch.diag_embed(product.diagonal(dim1=-2, dim2=-1))
        half = solve_lower(result, product, transposed=True)
        by_matrix = solve_lower(result, half.mT, transposed=True)  # of (A + Aᵀ) / 2 twice
        by_matrix = by_matrix + by_matrix.mT
        sign = torch.ones_like(vectors[..., :1, :])
        sign[..., ctx.added :] = -1.0
        return (by_matrix @ chol).tril(), (by_matrix @ vectors) * sign, None


def _modified(chol: Tensor, vectors: Tensor, added: int, room: int = 0) -> Tensor:
    """The factors (*b, n + room, n + room), also those that rotations can not compute."""
    batch, (n, count) = chol.shape[:-2], vectors.shape[-2:]
    if not chol.numel() or not count:
        return _with_room(chol, room)
    flat, flat_vectors = chol.detach().resolve_neg(), vectors.detach().resolve_neg()
    if len(batch) != 1:
        flat, flat_vectors = flat.mT.reshape(-1, n, n).mT, flat_vectors.reshape(-1, n, count)
    result, margins = _rotated(flat, flat_vectors, added, room)
    least = _LEAST_MARGIN[chol.dtype]
    if not float(margins.min()) >= least:  # NaN included
        for element in (~(margins >= least).all(-1)).nonzero()[:, 0].tolist():
            name = _named(element, batch)
            result[element, :n, :n] = _careful(flat[element], flat_vectors[element], added, name)
    return result if len(batch) == 1 else result.mT.reshape(*batch, n + room, n + room).mT


def _rotated(chol: Tensor, vectors: Tensor, added: int, room: int) -> tuple[Tensor, Tensor]:
    """Factors (b, n + room, n + room) by the fastest method, and margins (b, ·), small or NaN if bad."""
    on_cpu, compiled = chol.device.type == "cpu", _compiled()
    n, count = vectors.shape[-2:]
    removed = count - added
    most_added, most_removed = (max(0.75 * n, 8), max(0.4 * n, 8)) if on_cpu else (n / 512, n / 512)
    if added > most_added or removed > most_removed:
        result, margins = _refactored(chol, vectors, added)
    elif not on_cpu:
        result, margins = scan.rotate(chol, vectors, added)
    elif compiled and added <= _FEW_ADDED and removed <= _FEW_REMOVED:
        return compiled(chol, vectors, added, room)
    elif not added:
        result, margins = blocked.remove(chol, vectors)
    else:
        result, margins = lapack.add(chol, vectors[..., :added])
        if removed:
            result, others = _rotated(result, vectors[..., added:], 0, room)
            return result, margins * others
    return _with_room(result, room) if room else result, margins


def _refactored(chol: Tensor, vectors: Tensor, added: int) -> tuple[Tensor, Tensor]:
    """Factors of the matrix, in float64 if terms are removed; margins (b, 1), 1 or after a failure 0."""
    exact = chol.double() if added < vectors.shape[-1] else chol
    plus, minus = vectors[..., :added].to(exact), vectors[..., added:].to(exact)
    matrix = (exact @ exact.mT).baddbmm_(plus, plus.mT).baddbmm_(minus, minus.mT, alpha=-1.0)
    result, info = torch.linalg.cholesky_ex(matrix)
    pivots = result.diagonal(0, -2, -1).square()
    good = (info == 0) & (pivots.amin(-1) > _LEAST_PIVOT * pivots.amax(-1))
    return result.to(chol), good.to(chol)[..., None]


def _careful(chol: Tensor, vectors: Tensor, added: int, name: str) -> Tensor:
    """One factor (n, n) that is nearly singular, in float64 by updates; or an error."""
    if not bool(chol.isfinite().all()) or not bool(vectors.isfinite().all()):
        raise NumericalError(f"chol and vectors must be finite, but {name} has entries that are not")
    factor, plus, minus = (
        chol.double()[None],
        vectors[None, :, :added].double(),
        vectors[None, :, added:].double(),
    )
    if added:
        factor, _ = (
            lapack.add(factor, plus) if chol.device.type == "cpu" else scan.rotate(factor, plus, added)
        )
    if added == vectors.shape[-1]:
        return factor[0]
    result, margins = blocked.remove(factor, minus)
    distance = 1.0 - float(torch.linalg.matrix_norm(solve_lower(factor, minus), 2)[0]) ** 2
    if distance <= 0 or not float(margins.min()) > 0:
        before = "A + V Vᵀ" if added else "A"
        raise NumericalError(
            f"{before} - W Wᵀ must be positive definite, but {name} is not: "
            f"1 - ‖L⁻¹W‖² = {distance:.3g} for the factor L of {before}"
        )
    return result[0]


@cache
def _compiled() -> Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]] | None:
    """The rotations compiled by numba; None if it is not installed or has no folder for its cache."""
    try:
        from bo_suite.linalg import compiled
    except ImportError:
        return None
    except RuntimeError as error:
        logger.warning("numba is not used for Cholesky factors: %s", error)
        return None
    least = min(_LEAST_MARGIN.values())
    return lambda chol, vectors, added, room: compiled.rotate(chol, vectors, added, least, room)
