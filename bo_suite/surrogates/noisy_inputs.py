"""Observations at inputs that are known up to normal noise."""

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Functionals
from bo_suite.surrogates.normal_rule import normal_rule

_NODES = 4
"""Nodes of an average over the noise, if that is of one column; twice the columns, of more. The covariance of
two observations is averaged over the nodes of both. For a deviation of half a lengthscale in each column, the
error relative to what averaging changes is then below 1e-2, or 8e-2 of more columns."""


def averaged(functionals: Functionals, std: jt.Float[Tensor, "*b p d"]) -> Functionals:
    """The expectation of functionals whose points have independent normal noise in each column.

    Each node becomes the nodes of `normal_rule` about it. Exact points, in all replicates, stay one node.

    Args:
        functionals: of the points without noise.
        std: standard deviations of the noise of the points.
    """
    d = std.shape[-1]
    noisy = (std > 0.0).reshape(-1, *std.shape[-2:]).any(0)
    columns = noisy.any(0).nonzero()[:, 0]
    z, weights = normal_rule(len(columns), _NODES)
    offset = std.new_zeros(len(z), d).index_copy(1, columns, z.to(std))
    count = torch.where(noisy.any(-1), len(z), 1)
    first = count.cumsum(0) - count
    point = torch.arange(len(count), device=std.device).repeat_interleave(count)
    which = torch.arange(len(point), device=std.device) - first[point]
    points = functionals.points.index_select(-2, point) + std.index_select(-2, point) * offset[which]

    index = functionals.point_index
    node = torch.arange(len(index), device=std.device).repeat_interleave(count[index])
    of_point = index[node]
    within = torch.arange(len(node), device=std.device) - (count[index].cumsum(0) - count[index])[node]
    share = torch.where(count[of_point] > 1, weights.to(std)[within], 1.0)
    direction = functionals.direction
    if direction is not None:
        direction = direction.index_select(-2, node) * share[:, None]
    return Functionals(
        points,
        functionals.weight.index_select(-1, node) * share,
        direction,
        functionals.owner[node],
        functionals.count,
        first[of_point] + within,
    )
