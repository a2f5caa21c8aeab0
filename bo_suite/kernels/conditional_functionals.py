"""Covariances of linear functionals of a process with a conditional kernel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.kernels.base import JointPullback
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.groups import Layout, Part

_Dual = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]
"""A factor for all pairs of nodes, and its derivatives along directions on the left, the right and both."""


def conditional_cross(
    layout: Layout, theta: Tensor, left: Functionals, right: Functionals
) -> tuple[Tensor, JointPullback]:
    """cov(u, v) of functionals u, v, and the map of W to d sum(W * cov) by theta and the points of both.

    The kernel is a product over parts with columns of their own. So with weights α, β, and the derivatives
    D_g along the direction of a left node, D_h of a right one, a pair of nodes has

    αβ k + β D_g k + α D_h k + D_g D_h k, where k = Φ(x) Φ(z) Π k_p

    is multiplied part by part as numbers k_p + ε D_g k_p + η D_h k_p + εη D_g D_h k_p with ε² = η² = 0. A
    column that is inactive at a node has no derivative there. Autograd goes through the product, and the
    kernels of the parts have analytic gradients.
    """
    parameters = layout.parameters(theta)
    one, other = _Nodes.of(layout, left), _Nodes.of(layout, right)
    pairs = enumerate(zip(layout.materns, parameters.of_matern, strict=True))
    evaluated = [
        matern.functionals_cross(of_matern, one.functionals(part), other.functionals(part))
        for part, (matern, of_matern) in pairs
    ]
    matrices = [k for k, _ in evaluated]
    cov = right.gathered(left.gathered(_product(layout, matrices, parameters.odds, one, other), -2), -1)

    def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        of_pairs = right.spread(left.spread(weights, -2), -1).detach()
        with torch.enable_grad():
            *leaves, odds = (each.detach().requires_grad_() for each in (*matrices, parameters.odds))
            total = (_product(layout, leaves, odds, one, other) * of_pairs).sum()
        *by_matrices, by_odds = torch.autograd.grad(total, [*leaves, odds])
        pulled = [pull(each) for (_, pull), each in zip(evaluated, by_matrices, strict=True)]
        by_theta, by_x, by_z = zip(*pulled, strict=True)
        return layout.by_theta(by_theta, by_odds), one.to_points(by_x), other.to_points(by_z)

    return cov, pullback


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The nodes of one side in parts.

    Attributes:
        layout: of the columns.
        side: the functionals.
        parts: the nodes.
        directions: of the nodes in each part; None if no functional has derivatives.
    """

    layout: Layout
    side: Functionals
    parts: list[Part]
    directions: list[Tensor] | None

    @staticmethod
    def of(layout: Layout, side: Functionals) -> "_Nodes":
        """The nodes of functionals; the derivative by a column that is inactive at a node is zero."""
        parts, directions = layout.rows(side.x), None
        if side.direction is not None:
            ordered = side.direction.index_select(-1, layout.order[: side.direction.shape[-1]])
            pairs = zip(ordered.split(layout.sizes[0], -1), parts, strict=True)
            directions = [direction * part.mask for direction, part in pairs]
        return _Nodes(layout, side, parts, directions)

    def functionals(self, part: int) -> Functionals:
        """The values of the kernel of a part at all nodes, then its derivatives along their directions."""
        positions = self.parts[part].positions
        if self.directions is None:
            return Functionals.values(positions)
        all_nodes = torch.arange(positions.shape[-2], device=positions.device)
        return Functionals.values_and_derivatives(positions, all_nodes, self.directions[part])

    def split(self, matrix: Tensor, dim: int) -> tuple[Tensor, Tensor | None]:
        """What belongs to the values along a dimension, and what to the derivatives."""
        if self.directions is None:
            return matrix, None
        values, derivatives = matrix.split(matrix.shape[dim] // 2, dim)
        return values, derivatives

    def constant(self, odds: Tensor) -> Tensor:
        """Φ of each node: √v for each group that is active."""
        active = torch.cat([part.active for part in self.parts[1:]], -1)
        return torch.exp((active @ (0.5 * logsigmoid(odds))[..., None])[..., 0])

    def to_points(self, of_parts: Sequence[Tensor]) -> Tensor:
        """Gradients by the positions of nodes in parts, as one by the points of the functionals."""
        by_nodes = self.layout.by_columns(of_parts, self.parts)
        if self.side.at is None:
            return by_nodes
        return torch.zeros_like(self.side.points).index_add_(-2, self.side.at, by_nodes)


def _product(layout: Layout, matrices: Sequence[Tensor], odds: Tensor, left: _Nodes, right: _Nodes) -> Tensor:
    """Covariances of all pairs of nodes, given the matrices of the parts and log odds of shares."""
    total, *layers = (_dual(matrix, left, right) for matrix in matrices)
    ratios = torch.exp(-odds)[..., None, :].split(layout.sizes[1], -1)
    for layer, one, other, ratio in zip(layers, left.parts[1:], right.parts[1:], ratios, strict=True):
        within = one.active @ (other.active * ratio).mT
        of_left, of_right, of_both = (None if each is None else within * each for each in layer[1:])
        total = _times(total, (1.0 + within * layer[0], of_left, of_right, of_both))
    k, by_left, by_right, by_both = total
    alpha, beta = left.side.weight[..., :, None], right.side.weight[..., None, :]
    cov = alpha * beta * k
    cov = cov if by_left is None else cov + beta * by_left
    cov = cov if by_right is None else cov + alpha * by_right
    cov = cov if by_both is None else cov + by_both
    return left.constant(odds)[..., :, None] * right.constant(odds)[..., None, :] * cov


def _dual(matrix: Tensor, left: _Nodes, right: _Nodes) -> _Dual:
    """The blocks of the matrix of a part."""
    values, along_left = left.split(matrix, -2)
    k, along_right = right.split(values, -1)
    if along_left is None:
        return k, None, along_right, None
    by_left, by_both = right.split(along_left, -1)
    return k, by_left, along_right, by_both


def _times(one: _Dual, other: _Dual) -> _Dual:
    """The product of two factors."""
    (k, by_left, by_right, by_both), (m, of_left, of_right, of_both) = one, other
    left = None if by_left is None or of_left is None else k * of_left + by_left * m
    right = None if by_right is None or of_right is None else k * of_right + by_right * m
    both = None
    if by_both is not None and of_both is not None:
        assert by_left is not None
        assert of_left is not None
        assert by_right is not None
        assert of_right is not None
        both = k * of_both + by_both * m + by_left * of_right + by_right * of_left
    return k * m, left, right, both
