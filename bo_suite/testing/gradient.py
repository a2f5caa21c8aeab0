"""The check of the gradient of a score."""

import torch

from bo_suite.acquisition import Score
from bo_suite.testing.data import DIM, rows
from bo_suite.testing.require import require


def check_gradient(score: Score) -> None:
    """Checks that autograd agrees with central differences, if the score is differentiable."""
    if not score.differentiable:
        return
    point = rows(8, seed=4)
    leaf = point.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    for column in range(DIM - 1):
        step = point.new_zeros(DIM)
        step[column] = 1e-6
        with torch.no_grad():
            slope = (score(point + step) - score(point - step)) / 2e-6
        gap = float(((gradient[:, column] - slope).abs() / (1.0 + slope.abs())).max())
        require(gap < 1e-3, f"the gradient must agree with finite differences, off by {gap:.2g} (relative)")
