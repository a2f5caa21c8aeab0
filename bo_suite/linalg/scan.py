"""Rank-one changes of Cholesky factors as a few whole-tensor operations, on any device."""

import torch
from torch import Tensor

from bo_suite.linalg.factor import solve_lower


def rotate(chol: Tensor, vectors: Tensor, added: int) -> tuple[Tensor, Tensor]:
    """Factor of A + V Vᵀ - W Wᵀ for (V W) = vectors, V the first `added` columns, and margins.

    With p = L⁻¹u the rotations have a closed form, since they leave t_j = 1 ± Σ_{i<=j} p_i² of the vector's
    weight. They apply to all rows at once: before rotation j, the vector is
    x_ij = (u_i - Σ_{m<j} L_im p_m) / √t_{j-1}, a running sum along rows. Summed from the left it stays
    consistent with u, and the error is that of successive rotations. Summed from the right, as in the closed
    form of the product (Gill, Golub, Murray and Saunders 1974, method C), the error reaches 1e-9.

    Shapes: chol (b, n, n), vectors (b, n, k), margins (b, k): 1 - ‖L⁻¹u‖² of a removed vector, 1 of an added
    one, NaN if an entry is not finite. The result of an element with a margin that is not positive is
    meaningless.
    """
    margins = torch.ones_like(vectors[..., 0, :])
    for m in range(vectors.shape[-1]):
        u = vectors[..., m : m + 1]
        p = solve_lower(chol, u).mT
        weight = 1.0 + (1.0 if m < added else -1.0) * p.square().cumsum(-1)
        after = weight.sqrt()
        before = torch.cat((torch.ones_like(after[..., :1]), after[..., :-1]), -1)
        passed = chol * p
        x = (u - (passed.cumsum(-1) - passed)) / before
        if m < added:
            chol = (before / after * chol + p / after * x).tril()
            margins[..., m] += 0.0 * weight[..., 0, -1]
        else:
            chol = ((chol - p / before * x) * (before / after)).tril()
            margins[..., m] = weight[..., 0, -1]
    return chol, margins
