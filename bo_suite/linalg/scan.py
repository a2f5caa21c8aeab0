"""Rank-one changes of Cholesky factors as a few whole-tensor operations, on any device."""

import torch
from torch import Tensor

from bo_suite.linalg.factor import solve_lower


def rotate(chol: Tensor, vectors: Tensor, added: int) -> tuple[Tensor, Tensor]:
    """Factor of A + V Vᵀ - W Wᵀ for (V W) = vectors, V the first `added` columns, and margins.

    With p = L⁻¹u the rotations are known in closed form, since t_j = 1 ± Σ_{i<=j} p_i² is what they leave of
    the vector's weight. They apply to all rows at once, where the vector as rotation j finds it is
    x_ij = (u_i - Σ_{m<j} L_im p_m) / √t_{j-1}, a running sum along rows. Summed from the left it stays
    consistent with u, and the error is that of rotations one by one; from the right, as the product's closed
    form has it (Gill, Golub, Murray and Saunders 1974, method C), it reaches 1e-9.

    Shapes: chol (b, n, n), vectors (b, n, k), margins (b, k): 1 - ‖L⁻¹u‖² of a removed vector, 1 of an added
    one, NaN where something is not finite. Elements with one that is not positive are meaningless.
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
