"""Covariances of values and whole gradients, block by block."""

import torch
from torch import Tensor

from bo_suite.kernels.ard import Ard
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.radial import Radial


class JetPairs:
    """What `derivatives.functionals_cross` computes, if both sides are values, then gradients at some rows.

    With Δ the difference of two rows in lengthscales l, and D = Δ / l, the blocks for derivatives by columns
    a on the left and b on the right are c φ, 2 c φ' D_a, -2 c φ' D_b and -4 c φ'' D_a D_b - 2 c φ' δ_ab / l²:
    one product an entry, where a general pair of functionals takes ten.
    """

    def __init__(
        self, radial: Radial, ard: Ard, theta: Tensor, left: Functionals, right: Functionals
    ) -> None:
        self._ard, self._theta, self._rows = ard, theta, (left.points, right.points)
        self._inverse = ard.inverse_lengthscales(theta)[..., None, :]
        self._u, self._v = ((each.points - 0.5) * self._inverse for each in (left, right))
        self._columns = list(left.jets or right.jets or ())
        self._scale = self._inverse[..., self._columns]
        self._i, self._j = left.rows_with_gradients, right.rows_with_gradients
        norms = self._u.square().sum(-1)[..., :, None] + self._v.square().sum(-1)[..., None, :]
        self._radial = radial((norms - 2.0 * self._u @ self._v.mT).clamp_(min=0.0))
        self._c = ard.amplitude(theta, left.points, right.points)
        self._slope = 2.0 * self._c * self._radial(1)
        self._n, self._p = self._u.shape[-2], self._v.shape[-2]
        self._d = self._differences()
        self.covariance = self._assembled()

    def _differences(self) -> Tensor:
        """D of all pairs of rows: (*b, n, p, a)."""
        u, v = (side[..., self._columns] * self._scale for side in (self._u, self._v))
        return u[..., :, None, :] - v[..., None, :, :]

    def _assembled(self) -> Tensor:
        n, p, a = self._n, self._p, len(self._columns)
        lead = self._theta.shape[:-1]
        rows, columns = n + a * self._count(self._i), p + a * self._count(self._j)
        whole = self._u.new_empty(*lead, rows, columns)
        whole[..., :n, :p] = self._c * self._radial(0)
        by_left, by_right, both = self._blocks(whole)
        if self._i is not None:
            slope, d = self._slope[..., self._i, :], self._d[..., self._i, :, :]
            by_left.copy_((slope[..., None] * d).movedim(-1, -2))
        if self._j is not None:
            slope, d = self._slope[..., :, self._j], self._d[..., :, self._j, :]
            torch.mul(-slope[..., None], d, out=by_right)
        if self._i is not None and self._j is not None:
            slope, d = self._at(self._slope), self._at(self._d)
            curved = self._at(-4.0 * self._c * self._radial(2))[..., None] * d
            torch.mul(curved.movedim(-1, -2)[..., None], d[..., :, None, :, :], out=both)
            diagonal = both.diagonal(dim1=-3, dim2=-1)
            diagonal.sub_(slope[..., None] * self._scale.square()[..., None, :])
        return whole

    def pullback(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by theta and the points of both sides, of one by the covariances."""
        u, v, c, n, p = self._u, self._v, self._c, self._n, self._p
        by_left, by_right, both = self._blocks(weights)
        first, second = torch.zeros_like(weights[..., :n, :p]), None
        by_d, twice = torch.zeros_like(self._d), torch.zeros_like(self._scale[..., 0, :])
        if self._i is not None:
            d, slope = self._d[..., self._i, :, :], self._slope[..., self._i, :]
            of_left = by_left.movedim(-2, -1)
            first.index_add_(-2, self._i, (of_left * d).sum(-1))
            by_d.index_add_(-3, self._i, slope[..., None] * of_left)
        if self._j is not None:
            d, slope = self._d[..., :, self._j, :], self._slope[..., :, self._j]
            first.index_add_(-1, self._j, (by_right * d).sum(-1).neg_())
            by_d.index_add_(-2, self._j, slope[..., None] * by_right.neg())
        if self._i is not None and self._j is not None:
            d = self._at(self._d)
            curvature = self._at(-4.0 * c * self._radial(2))[..., None]
            of_pairs = both.movedim(-3, -2).contiguous()  # (*b, i, j, a, b)
            along = (of_pairs @ d[..., None])[..., 0]
            total = along + (d[..., None, :] @ of_pairs)[..., 0, :]
            second = (along * d).sum(-1)
            trace = of_pairs.diagonal(dim1=-2, dim2=-1) * self._scale.square()[..., None, :]
            self._add(first, trace.sum(-1).neg_())
            self._add(by_d, curvature * total)
            twice = 2.0 * (self._at(self._slope)[..., None] * trace).sum((-3, -2))
        by_rho = weights[..., :n, :p] * self._radial(1)
        by_rho = by_rho.addcmul_(first, self._radial(2), value=2.0)
        if second is not None:
            self._add(by_rho, second * self._at(self._radial(3)) * -4.0)
        by_rho = by_rho * c
        by_u = 2.0 * (by_rho.sum(-1)[..., None] * u - by_rho @ v)
        by_v = 2.0 * (by_rho.sum(-2)[..., None] * v - by_rho.mT @ u)
        by_u[..., self._columns] += by_d.sum(-2) * self._scale
        by_v[..., self._columns] -= by_d.sum(-3) * self._scale
        by_lengthscale = -((by_u * u).sum(-2) + (by_v * v).sum(-2))
        by_lengthscale[..., self._columns] += twice - (by_d * self._d).sum((-3, -2))
        if self._ard.unordered:
            self._ard.add_categories(by_lengthscale, self._theta, *self._rows, self._of_rows(weights))
        by_scale = torch.linalg.vecdot(weights.flatten(-2), self.covariance.flatten(-2))
        by_theta = torch.cat((by_lengthscale, by_scale[..., None]), -1)
        return by_theta, by_u * self._inverse, by_v * self._inverse

    def _blocks(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of derivatives on the left (*b, i, a, p), on the right (*b, n, j, b) and on both."""
        n, p, a = self._n, self._p, len(self._columns)
        i, j = (self._count(index) for index in (self._i, self._j))
        by_left = whole[..., n:, :p].unflatten(-2, (i, a))
        by_right = whole[..., :n, p:].unflatten(-1, (j, a))
        return by_left, by_right, whole[..., n:, p:].unflatten(-1, (j, a)).unflatten(-3, (i, a))

    def _of_rows(self, weights: Tensor) -> Tensor:
        """weights * covariance, summed over all that belongs to a pair of rows."""
        weighted, n, p = weights * self.covariance, self._n, self._p
        by_left, by_right, both = self._blocks(weighted)
        sums = weighted[..., :n, :p].clone()
        if self._i is not None:
            sums.index_add_(-2, self._i, by_left.sum(-2))
        if self._j is not None:
            sums.index_add_(-1, self._j, by_right.sum(-1))
        if self._i is not None and self._j is not None:
            self._add(sums, both.sum((-3, -1)))
        return sums

    def _at(self, of_rows: Tensor) -> Tensor:
        """Of a matrix (*b, n, p) or (*b, n, p, a), the pairs of rows that both have gradients."""
        extra = of_rows.ndim - self._slope.ndim
        assert self._i is not None
        assert self._j is not None
        return of_rows.index_select(-2 - extra, self._i).index_select(-1 - extra, self._j)

    def _add(self, of_rows: Tensor, added: Tensor) -> None:
        """Adds to the pairs of rows that both have gradients."""
        extra = of_rows.ndim - self._slope.ndim
        assert self._i is not None
        assert self._j is not None
        shape = list(added.shape)
        shape[-1 - extra] = self._p
        wider = added.new_zeros(shape).index_add_(-1 - extra, self._j, added)
        of_rows.index_add_(-2 - extra, self._i, wider)

    @staticmethod
    def _count(index: Tensor | None) -> int:
        return 0 if index is None else len(index)
