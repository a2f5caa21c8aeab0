"""A curve as one observation of its level, and the density that this leaves out."""

import math
from dataclasses import dataclass
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.linalg import solve_lower
from bo_suite.surrogates.curves.groups import Group

UNKNOWN = 1e14
"""Variance of the level of a curve without any observation."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """Curves y_i ~ N(m + a_i 1, C_i), where C_i are the rows and columns of C at the steps observed.

    With y short for y - m, the density is, as a function of the level a_i, that of one observation b_i / s_i
    with variance 1 / s_i, times exp(-rest), where s = 1ᵀ C⁻¹ 1, b = 1ᵀ C⁻¹ y and q = yᵀ C⁻¹ y. Curves that
    stop at different steps share one factor, because the factor of a leading block is the leading block of
    the factor: all n curves of T steps take O(T³ + n T²).

    Attributes:
        factors: each group, with W = L⁻¹ of L Lᵀ = C at its steps.
        precision: s; 0 of a curve without any observation.
        linear: b.
        rest: minus the log of the factor that does not depend on the level, which is
            ½ (q - b²/s + log det C + log s + (l - 1) log 2π) for l observations.
        failed: replicates in which a C did not factorise.
    """

    factors: tuple["_Factor", ...]
    precision: jt.Float[Tensor, "*b n"]
    linear: jt.Float[Tensor, "*b n"]
    rest: jt.Float[Tensor, "*b n"]
    failed: jt.Bool[Tensor, "*b"]

    @staticmethod
    def of(
        groups: tuple[Group, ...],
        n: int,
        mean: jt.Float[Tensor, "*b t"],
        covariance: jt.Float[Tensor, "*b t t"],
    ) -> "Reduction":
        """The reduction of n curves in groups, with m = `mean` and C = `covariance`."""
        statistics = covariance.new_zeros(4, *covariance.shape[:-2], n + 1)
        failed = torch.zeros(covariance.shape[:-2], dtype=torch.bool, device=covariance.device)
        factors = []
        for group in groups:
            factor, info = _Factor.of(group, mean, covariance)
            factors.append(factor)
            failed = failed | (info != 0)
            index = factor.members.expand(4, *factor.statistics.shape[1:])
            statistics = statistics.scatter(-1, index, factor.statistics)
        s, b, squares, count = statistics[..., :n]
        positive = torch.where(count > 0, s, 1.0)
        rest = 0.5 * (
            squares - b.square() / positive + positive.log() + (count - 1.0) * math.log(2.0 * math.pi)
        )
        return Reduction(tuple(factors), s, b, torch.where(count > 0, rest, 0.0), failed)

    @cached_property
    def level(self) -> tuple[jt.Float[Tensor, "*b n"], jt.Float[Tensor, "*b n"]]:
        """Each curve as an observation of its level: value b / s and variance 1 / s."""
        known = self.precision > 0
        positive = torch.where(known, self.precision, 1.0)
        return self.linear / positive, torch.where(known, 1.0 / positive, UNKNOWN)

    def gradients(
        self, by_value: jt.Float[Tensor, "*b n"], by_variance: jt.Float[Tensor, "*b n"], size: int
    ) -> tuple[jt.Float[Tensor, "*b t"], jt.Float[Tensor, "*b t t"]]:
        """Gradients by m and by C of sum(rest) plus a function of the levels.

        Args:
            by_value: gradient of the function by the value of each level.
            by_variance: gradient by its variance.
            size: number of steps.
        """
        value, variance = self.level
        known = self.precision > 0
        by_linear = torch.where(known, by_value * variance - value, 0.0)
        by_precision = -by_value * value * variance - by_variance * variance.square()
        by_precision = torch.where(known, by_precision + 0.5 * value.square() + 0.5 * variance, 0.0)
        by_mean = by_linear.new_zeros(*by_linear.shape[:-1], size)
        by_covariance = by_linear.new_zeros(*by_mean.shape, size)
        for factor in self.factors:
            steps = factor.group.steps
            by_own_mean, by_own_covariance = factor.gradients(by_linear, by_precision)
            by_mean[..., steps] += by_own_mean
            by_covariance[..., steps[:, None], steps] += by_own_covariance
        return by_mean, by_covariance

    def solved(self, n: int, size: int) -> tuple[jt.Float[Tensor, "*b n t"], jt.Float[Tensor, "*b n t"]]:
        """C⁻¹ 1 and C⁻¹ (y - m) of each curve, 0 at the steps that were not observed."""
        both = self.precision.new_zeros(2, *self.precision.shape[:-1], n + 1, size)
        for factor in self.factors:
            values = torch.stack((factor.ones_solved, factor.y_solved))
            wide = values.new_zeros(*values.shape[:-1], size)
            wide[..., factor.group.steps] = values
            both = both.scatter(-2, factor.members[..., None].expand(wide.shape), wide)
        return both[0, ..., :n, :], both[1, ..., :n, :]

    def explained(self, n: int, covariance: jt.Float[Tensor, "*b t t"]) -> jt.Float[Tensor, "*b n t"]:
        """Diagonal of K_tT C⁻¹ K_Tt of each curve, for the covariance K of the steps without noise."""
        total = covariance.new_zeros(*covariance.shape[:-2], n + 1, covariance.shape[-1])
        for factor in self.factors:
            squares = (factor.inverse @ covariance[..., factor.group.steps, :]).square()
            explained = factor.group.observed.to(squares) @ squares
            total = total.scatter(-2, factor.members[..., None].expand(explained.shape), explained)
        return total[..., :n, :]


@dataclass(frozen=True, eq=False)
class _Factor:
    """W = L⁻¹ of a group, and what follows for its curves.

    Attributes:
        group: curves.
        inverse: W.
        ones: L⁻¹ 1 of each curve, 0 at the steps that were not observed.
        y: likewise, L⁻¹ (y - m).
        log_pivots: 2 log diag L.
    """

    group: Group
    inverse: Tensor
    ones: Tensor
    y: Tensor
    log_pivots: Tensor

    @staticmethod
    def of(group: Group, mean: Tensor, covariance: Tensor) -> tuple["_Factor", Tensor]:
        """With the status of the Cholesky factor, 0 of a success."""
        own = covariance[..., group.steps[:, None], group.steps]
        chol, info = torch.linalg.cholesky_ex(own)
        inverse = solve_lower(chol, torch.eye(len(group.steps), dtype=own.dtype, device=own.device))
        seen = group.observed.to(own)
        ones = seen * inverse.sum(-1)[..., None, :]
        log_pivots = 2.0 * chol.diagonal(dim1=-2, dim2=-1).log()
        residuals = torch.where(group.observed, group.y - mean[..., None, group.steps], 0.0)
        return _Factor(group, inverse, ones, seen * (residuals @ inverse.mT), log_pivots), info

    @property
    def members(self) -> Tensor:
        """Indices of the curves, for each replicate and hyperparameter."""
        return self.group.members.expand(self.ones.shape[:-1])

    @cached_property
    def statistics(self) -> Tensor:
        """s, b, q + log det C, and the number of observations of each curve."""
        seen = self.group.observed.to(self.ones)
        rest = self.y.square() + seen * self.log_pivots[..., None, :]
        each = (self.ones.square(), self.ones * self.y, rest, seen.expand_as(rest))
        return torch.stack([one.sum(-1) for one in each])

    @cached_property
    def ones_solved(self) -> Tensor:
        """C⁻¹ 1 of each curve."""
        return self.ones @ self.inverse

    @cached_property
    def y_solved(self) -> Tensor:
        """C⁻¹ (y - m) of each curve."""
        return self.y @ self.inverse

    def gradients(self, by_linear: Tensor, by_precision: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients by m and C at the group's steps, given those by b and s of all curves."""
        inside = self.members.clamp(max=by_linear.shape[-1] - 1)
        linear, precision = (each.gather(-1, inside)[..., None] for each in (by_linear, by_precision))
        u, r = self.ones_solved, self.y_solved
        half = (0.5 * precision * u + 0.5 * linear * r).mT @ u
        counts = self.group.observed.to(u).sum(-2)[..., None]
        by_covariance = 0.5 * (self.inverse.mT @ (counts * self.inverse) - r.mT @ r) - half - half.mT
        return -(linear * u + r).sum(-2), by_covariance
