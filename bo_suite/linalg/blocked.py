"""Removing many vectors from Cholesky factors at once, by matrix products."""

import torch
from torch import Tensor

from bo_suite.linalg.factor import solve_lower

_COLUMNS = 64
_VECTORS = 64


def remove(chol: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Factor of A - U Uᵀ by block hyperbolic transformations of panels of columns, and margins.

    With W = L_jj⁻¹ U_j of a panel j, G Gᵀ = I - W Wᵀ and R Rᵀ = I - Wᵀ W, the panel's own block becomes L_jj
    G, the rows below L' = (L - U Wᵀ) G⁻ᵀ, and the remaining rows of the vectors (U - L' G⁻¹ W) R. As in a
    mixed hyperbolic rotation, these are computed from the new L', so that they never grow (Pas and Patrinos
    2025 block Householder reflections instead).

    Shapes: chol (b, n, n), vectors (b, n, k), margins (b, k): 1 - ‖L⁻¹u‖² of each vector at its removal. The
    result of an element with a margin that is NaN or not positive is meaningless.
    """
    result = chol.clone()
    margins = []
    for chunk in vectors.split(_VECTORS, -1):
        remaining, margin = chunk, torch.ones_like(chunk[..., 0, :])
        for start in range(0, chol.shape[-1], _COLUMNS):
            panel = result[..., start:, start : start + _COLUMNS]
            count = panel.shape[-1]
            top, below = panel[..., :count, :], panel[..., count:, :]
            white, remaining = solve_lower(top, remaining[..., :count, :]), remaining[..., count:, :]
            left, failed = torch.linalg.cholesky_ex(_minus_from_one(white @ white.mT))
            right, _ = torch.linalg.cholesky_ex(_minus_from_one(white.mT @ white))
            margin = margin * right.diagonal(0, -2, -1).square() * (failed == 0)[..., None]
            top.copy_(top @ left)
            below.copy_(solve_lower(left, (below - remaining @ white.mT).mT).mT)
            remaining = (remaining - below @ solve_lower(left, white)) @ right
        margins.append(margin)
    infinite = 0.0 * result.diagonal(0, -2, -1).sum(-1, keepdim=True)
    return result, torch.cat(margins, -1) + infinite


def _minus_from_one(matrix: Tensor) -> Tensor:
    """I - M."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - matrix
