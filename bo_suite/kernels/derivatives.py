"""Covariances of linear functionals of a process with a radial kernel, with analytic gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

from bo_suite.kernels.ard import Ard
from bo_suite.kernels.base import JointPullback
from bo_suite.kernels.functionals import Functionals

Radial = Callable[[Tensor, int], Tensor]
"""Squared distances, and an order up to 3, to that derivative by them of a correlation."""


def functionals_cross(
    radial: Radial, ard: Ard, theta: Tensor, left: Functionals, right: Functionals
) -> tuple[Tensor, JointPullback]:
    """cov(u, v) of functionals u, v, and the map of W to d sum(W * cov) by theta, left.x and right.x.

    With φ(ρ) the correlation at ρ = |Δ|², Δ the difference of two nodes in lengthscales, c the outputscale
    times the Hamming factor, weights α, β and directions g, h in lengthscales, a pair of nodes has

    c (αβ φ + 2 φ' (β gᵀΔ - α hᵀΔ - gᵀh) - 4 φ'' gᵀΔ hᵀΔ),

    since ∇φ = 2 φ' Δ and ∇∇ᵀφ = 2 φ' I + 4 φ'' Δ Δᵀ, with the sign turned by each derivative on the right.
    """
    pairs = _Pairs(radial, ard, theta, left, right)
    cov = right.gathered(left.gathered(pairs.covariance(), -2), -1)
    return cov, lambda weights: pairs.pullback(right.spread(left.spread(weights, -2), -1))


class _Pairs:
    """All pairs of a node on the left and one on the right; names as in `functionals_cross`."""

    def __init__(
        self, radial: Radial, ard: Ard, theta: Tensor, left: Functionals, right: Functionals
    ) -> None:
        self._radial, self._ard, self._theta, self._left, self._right = radial, ard, theta, left, right
        self._inverse = ard.inverse_lengthscales(theta)[..., None, :]
        self._u, self._v = ((each.x - 0.5) * self._inverse for each in (left, right))
        self._g, self._h = (
            None if each.direction is None else each.direction * self._inverse for each in (left, right)
        )
        norms = self._u.square().sum(-1)[..., :, None] + self._v.square().sum(-1)[..., None, :]
        self._rho = (norms - 2.0 * self._u @ self._v.mT).clamp_(min=0.0)
        self._c = ard.amplitude(theta, left.x, right.x)
        self._p = None if self._g is None else _dot(self._g, self._u)[..., None] - self._g @ self._v.mT
        self._q = None if self._h is None else self._u @ self._h.mT - _dot(self._h, self._v)[..., None, :]
        self._alpha, self._beta = left.weight[..., :, None], right.weight[..., None, :]

    def covariance(self) -> Tensor:
        """The covariances of all pairs."""
        self._cov = self._of_derivatives(0) * self._c
        return self._cov

    def _of_derivatives(self, order: int) -> Tensor:
        """αβ φ + 2 φ' (βP - αQ - S) - 4 φ'' P Q with φ and its derivatives those of `order` higher."""
        value = self._alpha * self._beta * self._radial(self._rho, order)
        if (first := self._first) is not None:
            value = value.addcmul_(first, self._radial(self._rho, order + 1), value=2.0)
        if self._p is not None and self._q is not None:
            value = value.addcmul_(self._p * self._q, self._radial(self._rho, order + 2), value=-4.0)
        return value

    @property
    def _first(self) -> Tensor | None:
        """βP - αQ - S."""
        if self._p is None:
            return None if self._q is None else -self._alpha * self._q
        if self._q is None or self._g is None or self._h is None:
            return self._beta * self._p
        return self._beta * self._p - self._alpha * self._q - self._g @ self._h.mT

    def pullback(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by theta and the nodes of both sides, of one by the covariances of all pairs."""
        scaled = weights * self._c
        by_rho = scaled * self._of_derivatives(1)
        u, v, g, h, p, q = self._u, self._v, self._g, self._h, self._p, self._q
        by_u = 2.0 * (by_rho.sum(-1)[..., None] * u - by_rho @ v)
        by_v = 2.0 * (by_rho.sum(-2)[..., None] * v - by_rho.mT @ u)
        along = torch.zeros_like(u[..., 0, :])
        if p is not None or q is not None:
            one = scaled * self._radial(self._rho, 1) * 2.0
        if p is not None and q is not None:
            two = scaled * self._radial(self._rho, 2) * -4.0
        if g is not None and p is not None:
            by_p = one * self._beta if q is None else (one * self._beta).addcmul_(two, q)
            rows = by_p.sum(-1)[..., None]
            by_g = rows * u - by_p @ v if h is None else rows * u - by_p @ v - one @ h
            by_u, by_v = by_u + rows * g, by_v - by_p.mT @ g
            along = along + (by_g * g).sum(-2)
        if h is not None and q is not None:
            by_q = one * -self._alpha if p is None else (one * -self._alpha).addcmul_(two, p)
            columns = by_q.sum(-2)[..., None]
            by_h = by_q.mT @ u - columns * v if g is None else by_q.mT @ u - columns * v - one.mT @ g
            by_u, by_v = by_u + by_q @ h, by_v - columns * h
            along = along + (by_h * h).sum(-2)
        by_lengthscale = -((by_u * u).sum(-2) + (by_v * v).sum(-2) + along)
        weighted = weights * self._cov
        self._ard.add_categories(by_lengthscale, self._theta, self._left.x, self._right.x, weighted)
        by_theta = torch.cat((by_lengthscale, weighted.sum((-2, -1))[..., None]), -1)
        return by_theta, by_u * self._inverse, by_v * self._inverse


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1)
