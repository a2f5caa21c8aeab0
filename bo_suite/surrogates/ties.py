"""Observations with equal outcomes, which tell that a function is constant in steps."""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset

_APART = 1e-3
"""Two rows are apart if they differ by more in some column: a converged search repeats an outcome too."""


def tied(data: Dataset) -> jt.Bool[Tensor, "*b n"]:
    """Which observations have exactly the outcome of another one that is apart.

    The largest outcome does not count: it stands for all outcomes above a cap.
    """
    y = data.y
    ordered = y.sort(-1).values
    if not bool((ordered[..., 1:] == ordered[..., :-1]).any()):
        return torch.zeros_like(y, dtype=torch.bool)
    apart = torch.cdist(data.x, data.x, p=torch.inf) > _APART
    equal = y[..., :, None] == y[..., None, :]
    return (equal & apart).any(-1) & (y < y.amax(-1, keepdim=True))
