"""Rank-one changes of Cholesky factors as a few whole-tensor operations, on any device."""

import torch
from torch import Tensor

from bo_suite.linalg.factor import solve_lower

_CPU_PANEL = 64


def rotate(chol: Tensor, vectors: Tensor, added: int) -> tuple[Tensor, Tensor]:
    """Factor of A + V Vᵀ - W Wᵀ for (V W) = vectors, V the first `added` columns, and margins.

    With p = L⁻¹u the rotations are known in closed form, since t_j = 1 ± Σ_{i<=j} p_i² is what they leave
    of the vector's weight. They apply to all rows at once, where the vector as rotation j finds it is x_ij
    = (u_i - Σ_{m<j} L_im p_m) / √t_{j-1}, a running sum along rows. Summed from the left it stays
    consistent with u, and the error is that of rotations one by one; from the right, as the product's
    closed form has it (Gill, Golub, Murray and Saunders 1974, method C), it reaches 1e-9. On a CPU this
    goes by panels of columns that stay in the cache, each of which leaves a vector to the next.

    Shapes: chol (b, n, n), vectors (b, n, k), margins (b, k): 1 - ‖L⁻¹u‖² of a removed vector, 1 of an added
    one, NaN where something is not finite. Elements with one that is not positive are meaningless.
    """
    n = chol.shape[-1]
    width = _CPU_PANEL if chol.device.type == "cpu" else n
    result = chol.clone()
    margins = torch.ones_like(vectors[..., 0, :])
    for m in range(vectors.shape[-1]):
        sign = 1.0 if m < added else -1.0
        rest = vectors[..., m : m + 1]
        for start in range(0, n, width):
            panel = result[..., start:, start : start + width]
            count = panel.shape[-1]
            p = solve_lower(panel[..., :count, :], rest[..., :count, :]).mT
            weight = 1.0 + sign * p.square().cumsum(-1)
            after = weight.sqrt()
            before = torch.cat((torch.ones_like(after[..., :1]), after[..., :-1]), -1)
            passed = panel * p
            sums = passed.cumsum(-1)
            x = (rest - (sums - passed)) / before
            rest = ((rest - sums[..., -1:]) / after[..., -1:])[..., count:, :]
            if m < added:
                panel.copy_((before / after * panel + p / after * x).tril())
                margins[..., m] += 0.0 * weight[..., 0, -1]
            else:
                panel.copy_(((panel - p / before * x) * (before / after)).tril())
                margins[..., m] *= weight[..., 0, -1]
    return result, margins
