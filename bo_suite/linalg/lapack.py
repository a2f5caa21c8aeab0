"""Adding many vectors to a Cholesky factor at once, by LAPACK's blocked orthogonal transformations."""

import numpy as np
import torch
from scipy.linalg import lapack
from torch import Tensor

from bo_suite.linalg.memory import fill_lower, new_factor


def add(chol: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Factor of A + V Vᵀ by a QR decomposition of (L V)ᵀ that keeps the triangle (LAPACK's tpqrt).

    Shapes: chol (b, n, n), vectors (b, n, k), k > 0. Also returns margins (b, 1): 1, or NaN if an entry is
    not finite. The result is row-major, since tpqrt works on Lᵀ.
    """
    triangular_qr = lapack.stpqrt if chol.dtype == torch.float32 else lapack.dtpqrt
    block = min(16 if vectors.shape[-1] <= 64 else 32, chol.shape[-1])
    target, cleared = new_factor(chol)
    result = target.mT
    fill_lower(result, chol, cleared, sign=-1)  # tpqrt flips the sign of the diagonal
    for factor, vector in zip(result.numpy(), vectors.numpy(), strict=True):
        r, *_ = triangular_qr(0, block, factor.T, vector.T, overwrite_a=1)
        if not np.shares_memory(r, factor):
            factor[:] = r.T
    diagonal = result.diagonal(0, -2, -1)
    if bool((diagonal < 0).any()):  # of rows that a vector does not change
        result *= torch.where(diagonal < 0, -1.0, 1.0)[..., None, :]
    return result, 1.0 + 0.0 * diagonal.sum(-1, keepdim=True)
