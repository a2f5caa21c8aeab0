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
"""A factor for all pairs of nodes, and its derivatives along the directions on the left, on the right and on
both sides; None for zero."""


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
        return (
            layout.by_theta(by_theta, by_odds),
            layout.by_columns(by_x, one.parts),
            layout.by_columns(by_z, other.parts),
        )

    return cov, pullback


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The nodes of one side in parts.

    Attributes:
        layout: of the columns.
        side: the functionals.
        parts: their points.
        moving: for each part, the nodes that have a derivative there, and their directions.
    """

    layout: Layout
    side: Functionals
    parts: list[Part]
    moving: list[tuple[Tensor, Tensor] | None]

    @staticmethod
    def of(layout: Layout, side: Functionals) -> "_Nodes":
        """The nodes of functionals; the derivative by a column that is inactive at a node is zero."""
        parts = layout.rows(side.points)
        if side.direction is None:
            return _Nodes(layout, side, parts, [None] * len(parts))
        ordered = side.direction.index_select(-1, layout.order[: side.direction.shape[-1]])
        moving: list[tuple[Tensor, Tensor] | None] = []
        for along, part in zip(ordered.split(layout.sizes[0], -1), parts, strict=True):
            direction = along * _at_nodes(side, part.mask, -2)
            index = direction.any(-1).flatten(0, -2).any(0) if direction.ndim > 2 else direction.any(-1)
            nodes = index.nonzero()[:, 0]
            moving.append((nodes, direction.index_select(-2, nodes)) if len(nodes) else None)
        return _Nodes(layout, side, parts, moving)

    def functionals(self, part: int) -> Functionals:
        """The values of the kernel of a part at all points, then its derivatives at nodes that have one."""
        positions, moving = self.parts[part].positions, self.moving[part]
        if moving is None:
            return Functionals.values(positions)
        nodes, directions = moving
        return Functionals.values_and_derivatives(positions, self.side.point_index[nodes], directions)

    def split(self, matrix: Tensor, part: int, dim: int) -> tuple[Tensor, Tensor | None]:
        """The values at all nodes along a dimension, and the derivatives; None if all of these are zero."""
        count, moving = self.parts[part].positions.shape[-2], self.moving[part]
        values = _at_nodes(self.side, matrix.narrow(dim, 0, count), dim)
        if moving is None:
            return values, None
        derivatives = matrix.narrow(dim, count, len(moving[0]))
        return values, torch.zeros_like(values).index_copy(dim, moving[0], derivatives)

    def active(self, part: int) -> Tensor:
        """Which groups of a layer are active at each node."""
        return _at_nodes(self.side, self.parts[part].active, -2)

    def constant(self, odds: Tensor) -> Tensor:
        """Φ of each node: √v for each group that is active."""
        active = torch.cat([part.active for part in self.parts[1:]], -1)
        return _at_nodes(self.side, torch.exp((active @ (0.5 * logsigmoid(odds))[..., None])[..., 0]), -1)


def _at_nodes(side: Functionals, of_points: Tensor, dim: int) -> Tensor:
    """What its point has, for each node."""
    return of_points if side.at is None else of_points.index_select(dim, side.at)


def _product(layout: Layout, matrices: Sequence[Tensor], odds: Tensor, left: _Nodes, right: _Nodes) -> Tensor:
    """Covariances of all pairs of nodes, given the matrices of the parts and log odds of shares."""
    total, *layers = (_dual(matrix, part, left, right) for part, matrix in enumerate(matrices))
    ratios = torch.exp(-odds)[..., None, :].split(layout.sizes[1], -1)
    for part, (layer, ratio) in enumerate(zip(layers, ratios, strict=True), 1):
        within = left.active(part) @ (right.active(part) * ratio).mT
        of_left, of_right, of_both = (None if each is None else within * each for each in layer[1:])
        total = _times(total, (1.0 + within * layer[0], of_left, of_right, of_both))
    k, by_left, by_right, by_both = total
    alpha, beta = left.side.weight[..., :, None], right.side.weight[..., None, :]
    cov = alpha * beta * k
    cov = cov if by_left is None else cov + beta * by_left
    cov = cov if by_right is None else cov + alpha * by_right
    cov = cov if by_both is None else cov + by_both
    return left.constant(odds)[..., :, None] * right.constant(odds)[..., None, :] * cov


def _dual(matrix: Tensor, part: int, left: _Nodes, right: _Nodes) -> _Dual:
    """The blocks of the matrix of a part."""
    values, along_left = left.split(matrix, part, -2)
    k, by_right = right.split(values, part, -1)
    by_left, by_both = (None, None) if along_left is None else right.split(along_left, part, -1)
    return k, by_left, by_right, by_both


def _times(one: _Dual, other: _Dual) -> _Dual:
    """The product of two factors; a derivative that is None is zero."""
    (k, by_left, by_right, by_both), (m, of_left, of_right, of_both) = one, other
    left = _sum(_pair(k, of_left), _pair(m, by_left))
    right = _sum(_pair(k, of_right), _pair(m, by_right))
    both = _sum(_pair(k, of_both), _pair(m, by_both), _pair(by_left, of_right), _pair(by_right, of_left))
    return k * m, left, right, both


def _pair(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if one is None or other is None else one * other


def _sum(*terms: Tensor | None) -> Tensor | None:
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total
