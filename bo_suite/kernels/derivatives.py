"""Covariances of linear functionals of a process with a radial kernel, with analytic gradients."""

import torch
from torch import Tensor

from bo_suite.kernels.ard import Ard
from bo_suite.kernels.base import JointPullback
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.jets import JetPairs
from bo_suite.kernels.radial import Radial


def functionals_cross(
    radial: Radial, ard: Ard, theta: Tensor, left: Functionals, right: Functionals
) -> tuple[Tensor, JointPullback]:
    """cov(u, v) of functionals u, v, and the map of W to d sum(W * cov) by theta and the points of both.

    With φ(ρ) the correlation at ρ = |Δ|², Δ the difference of two nodes in lengthscales, c the outputscale
    times the Hamming factor, weights α, β and directions g, h in lengthscales, a pair of nodes has

    c (αβ φ + 2 φ' (β gᵀΔ - α hᵀΔ - gᵀh) - 4 φ'' gᵀΔ hᵀΔ),

    since ∇φ = 2 φ' Δ and ∇∇ᵀφ = 2 φ' I + 4 φ'' Δ Δᵀ, with the sign turned by each derivative on the right.
    """
    if (
        left.jets is not None
        and right.jets is not None
        and (left.jets or right.jets) == (right.jets or left.jets)
    ):
        jets = JetPairs(radial, ard, theta, left, right)
        return jets.covariance, jets.pullback
    pairs = _Pairs(radial, ard, theta, left, right)
    cov = right.gathered(left.gathered(pairs.covariance, -2), -1)
    return cov, lambda weights: pairs.pullback(right.spread(left.spread(weights, -2), -1))


class _Side:
    """The nodes of one side in lengthscales: their points, weights α and directions g."""

    def __init__(self, nodes: Functionals, inverse: Tensor) -> None:
        self.points, self.weight, self.at = (nodes.points - 0.5) * inverse, nodes.weight, nodes.at
        self.along = None if nodes.direction is None else nodes.direction * inverse
        self.own = None
        if self.along is not None:
            self.own = (self.along * self.to_nodes(self.points, -2)).sum(-1)

    def to_nodes(self, of_points: Tensor, dim: int) -> Tensor:
        """What its point has, for each node."""
        return of_points if self.at is None else of_points.index_select(dim, self.at)

    def to_points(self, of_nodes: Tensor, dim: int) -> Tensor:
        """The sum of what its nodes have, for each point."""
        if self.at is None:
            return of_nodes
        shape = list(of_nodes.shape)
        shape[dim] = self.points.shape[-2]
        return of_nodes.new_zeros(shape).index_add_(dim, self.at, of_nodes)


class _Pairs:
    """All pairs of a node on the left and one on the right; names as in `functionals_cross`."""

    def __init__(
        self, radial: Radial, ard: Ard, theta: Tensor, left: Functionals, right: Functionals
    ) -> None:
        self._ard, self._theta, self._rows = ard, theta, (left.points, right.points)
        self._inverse = ard.inverse_lengthscales(theta)[..., None, :]
        self._left, self._right = one, other = _Side(left, self._inverse), _Side(right, self._inverse)
        u, v = one.points, other.points
        norms = u.square().sum(-1)[..., :, None] + v.square().sum(-1)[..., None, :]
        self._radial = radial((norms - 2.0 * u @ v.mT).clamp_(min=0.0))
        self._c = ard.amplitude(theta, left.points, right.points)
        self._p = self._q = None
        if one.along is not None and one.own is not None:
            self._p = other.to_nodes(one.along @ v.mT, -1).neg_().add_(one.own[..., :, None])
        if other.along is not None and other.own is not None:
            self._q = one.to_nodes(u @ other.along.mT, -2).sub_(other.own[..., None, :])
        self._first = self._first_order()
        self.covariance = self._of_nodes(self._c * self._radial(0))
        self.covariance.mul_(one.weight[..., :, None]).mul_(other.weight[..., None, :])
        if self._first is not None:
            self.covariance.addcmul_(self._first, self._of_nodes(2.0 * self._c * self._radial(1)))
        if self._p is not None and self._q is not None:
            self._both = self._p * self._q
            self.covariance.addcmul_(self._both, self._of_nodes(-4.0 * self._c * self._radial(2)))

    def pullback(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by theta and the points of both sides, of one by the covariances of all pairs."""
        one, other, first = self._left, self._right, self._first
        u, v, g, h, p, q = one.points, other.points, one.along, other.along, self._p, self._q
        values = (weights * one.weight[..., :, None]).mul_(other.weight[..., None, :])
        by_rho = self._of_points(values) * self._radial(1)
        if first is not None:
            by_rho = by_rho.addcmul_(self._of_points(weights * first), self._radial(2), value=2.0)
        if p is not None and q is not None:
            by_rho = by_rho.addcmul_(self._of_points(weights * self._both), self._radial(3), value=-4.0)
        by_rho = by_rho * self._c
        by_u = 2.0 * (by_rho.sum(-1)[..., None] * u - by_rho @ v)
        by_v = 2.0 * (by_rho.sum(-2)[..., None] * v - by_rho.mT @ u)
        along = torch.zeros_like(u[..., 0, :])
        if first is not None:
            single = self._of_nodes(2.0 * self._c * self._radial(1)).mul_(weights)
        if p is not None and q is not None:
            double = self._of_nodes(-4.0 * self._c * self._radial(2)).mul_(weights)
        if g is not None and p is not None:
            by_p = single * other.weight[..., None, :]
            by_p = other.to_points(by_p if q is None else by_p.addcmul_(double, q), -1)
            sums = by_p.sum(-1)[..., None]
            by_g = sums * one.to_nodes(u, -2) - by_p @ v
            by_g = by_g if h is None else by_g - single @ h
            by_u, by_v = by_u + one.to_points(sums * g, -2), by_v - by_p.mT @ g
            along = along + (by_g * g).sum(-2)
        if h is not None and q is not None:
            by_q = single * -one.weight[..., :, None]
            by_q = one.to_points(by_q if p is None else by_q.addcmul_(double, p), -2)
            sums = by_q.sum(-2)[..., None]
            by_h = by_q.mT @ u - sums * other.to_nodes(v, -2)
            by_h = by_h if g is None else by_h - single.mT @ g
            by_u, by_v = by_u + by_q @ h, by_v - other.to_points(sums * h, -2)
            along = along + (by_h * h).sum(-2)
        by_lengthscale = -((by_u * u).sum(-2) + (by_v * v).sum(-2) + along)
        if self._ard.unordered:
            weighted = self._of_points(weights * self.covariance)
            self._ard.add_categories(by_lengthscale, self._theta, *self._rows, weighted)
        by_scale = torch.linalg.vecdot(weights.flatten(-2), self.covariance.flatten(-2))
        by_theta = torch.cat((by_lengthscale, by_scale[..., None]), -1)
        return by_theta, by_u * self._inverse, by_v * self._inverse

    def _first_order(self) -> Tensor | None:
        """βP - αQ - S with P = gᵀΔ, Q = hᵀΔ, S = gᵀh; None if neither side has directions."""
        one, other, p, q = self._left, self._right, self._p, self._q
        if q is None:
            return None if p is None else p * other.weight[..., None, :]
        first = q * -one.weight[..., :, None]
        if p is None or one.along is None or other.along is None:
            return first
        return first.addcmul_(p, other.weight[..., None, :]).sub_(one.along @ other.along.mT)

    def _of_nodes(self, of_points: Tensor) -> Tensor:
        return self._right.to_nodes(self._left.to_nodes(of_points, -2), -1)

    def _of_points(self, of_nodes: Tensor) -> Tensor:
        return self._right.to_points(self._left.to_points(of_nodes, -2), -1)
