"""Lower Cholesky factors of batches of symmetric positive definite matrices."""

import logging

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import NumericalError

logger = logging.getLogger("bo_suite")

_FIRST_JITTER = 1e-10
_LAST_JITTER = 1e-4


def jittered_cholesky(
    matrix: jt.Float[Tensor, "*b n n"], scale: jt.Float[Tensor, "*b"] | None = None
) -> tuple[jt.Float[Tensor, "*b n n"], jt.Float[Tensor, "*b"]]:
    """Lower factor of A + jI and the jitter j of each batch element.

    j is 0 if A factorises, else the first of 1e-10, 1e-9, ... 1e-4 times the scale with which A + jI does.
    Rounding errors in A are relative to the scale: the mean diagonal, unless A is the small difference of
    larger matrices.

    Raises:
        NumericalError: an element that is not positive definite even with the largest jitter.
    """
    chol, info = torch.linalg.cholesky_ex(matrix)
    jitter = matrix.new_zeros(matrix.shape[:-2])
    if not bool(info.any()):
        return chol, jitter
    if scale is None:
        scale = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
    relative = _FIRST_JITTER
    while relative <= _LAST_JITTER * 1.5:
        failed = info != 0
        jitter = torch.where(failed, relative * scale, jitter)
        chol, info = torch.linalg.cholesky_ex(
            matrix + torch.diag_embed(jitter[..., None].expand(scale.shape + matrix.shape[-1:]))
        )
        if not bool(info.any()):
            logger.info("a covariance was factorised with jitter %g of its scale", relative)
            return chol, jitter
        relative *= 10
    worst = int(info.flatten().argmax())
    name = f"batch element {worst} of {tuple(info.shape)}" if info.ndim else "it"
    if not bool(matrix.isfinite().all()):
        raise NumericalError(f"a covariance must be finite, but {name} has entries that are not")
    raise NumericalError(
        f"a covariance must be positive definite, but {name} failed at row {int(info.flatten()[worst])} "
        f"with jitter {_LAST_JITTER:g} of its scale"
    )


def cholesky_or_identity(
    matrix: jt.Float[Tensor, "*b n n"],
) -> tuple[jt.Float[Tensor, "*b n n"], jt.Bool[Tensor, "*b"]]:
    """Lower factors, the identity in place of those that do not exist; and which exist.

    What torch leaves of a failed factor may have zeros on its diagonal, of which no inverse exists.
    """
    chol, info = torch.linalg.cholesky_ex(matrix)
    exists = info == 0
    if not bool(exists.all()):
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        chol = torch.where(exists[..., None, None], chol, identity)
    return chol, exists


def solve_lower(chol: Tensor, right: Tensor, *, transposed: bool = False) -> Tensor:
    """L⁻¹ B, or L⁻ᵀ B, of a lower factor L (*b, n, n) and B (*b, n, q)."""
    factor = chol.mT if transposed else chol
    solved: Tensor = torch.linalg.solve_triangular(factor, right, upper=transposed)
    return solved


def add_jitter(matrix: jt.Float[Tensor, "*b m m"], jitter: Tensor | float) -> jt.Float[Tensor, "*b m m"]:
    """A + jitter diag(A). The same map takes a gradient by the result to the one by A.

    Args:
        matrix: A.
        jitter: one number for all, or one a replicate.
    """
    share = jitter[..., None] if isinstance(jitter, Tensor) else jitter
    return matrix + torch.diag_embed(share * matrix.diagonal(dim1=-2, dim2=-1))
