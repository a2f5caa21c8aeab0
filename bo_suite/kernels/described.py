"""A kernel that sees descriptors of categories in place of their codes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import pad

from bo_suite.data import CPU_DOUBLES, Columns, Condition, Seeds
from bo_suite.kernels.base import CrossTo, Features, JointPullback, Pullback
from bo_suite.kernels.conditional import Conditional
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.stationary import Matern52


@dataclass(frozen=True)
class Described:
    """k(s(x), s(z)), where s(x) is the row x with the descriptors of a category in place of its code.

    The columns without descriptors come first in s(x), then the descriptors, which are numbers in [0, 1] and
    have a lengthscale each, as other real columns do. Theta is that of k. Gradients by a code are 0.

    Attributes:
        kernel: k, over the columns of s(x).
        descriptors: of categories, as in `Columns`.
    """

    kernel: Matern52 | Conditional
    descriptors: tuple[tuple[int, int, tuple[tuple[float, ...], ...]], ...]

    @staticmethod
    def of(matern: Matern52, columns: Columns) -> "Described":
        """The kernel for data with these columns, some of which have descriptors.

        Args:
            matern: with the kinds of the columns as they are in the data.
            columns: neither those with descriptors nor others that depend on these are conditional.
        """
        described = {column for column, _, _ in columns.descriptors}

        def moved(column: int) -> int:
            return column - sum(other < column for other in described)

        def kept(some: Sequence[int]) -> tuple[int, ...]:
            return tuple(moved(column) for column in some if column not in described)

        own = replace(matern, unordered=kept(matern.unordered), fidelities=kept(matern.fidelities))
        conditions = tuple(
            Condition(moved(one.column), tuple((moved(parent), where) for parent, where in one.parents))
            for one in columns.conditions
        )
        return Described(Conditional(own, conditions) if conditions else own, columns.descriptors)

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """That of k."""
        return self.kernel.start(self._seen_dim(dim))

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Those of k."""
        return self.kernel.bounds(self._seen_dim(dim))

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """That of k."""
        return self.kernel.log_prior(theta, self._seen_dim(dim), stepped)

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(s(x), s(x)), and the map of a symmetric matrix W to d sum(W * k) / d theta."""
        return self.kernel.gram(theta, self.seen(x))

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(s(x), s(z)), and the map of W to d sum(W * k) / d x."""
        return self.prepared(theta, z)(x)

    def prepared(self, theta: jt.Float[Tensor, "*b p"], z: jt.Float[Tensor, "*b n d"]) -> CrossTo:
        """`cross` as a function of x."""
        rows = self.seen(z)
        inner = self.kernel.prepared(theta, rows) if isinstance(self.kernel, Conditional) else None

        def cross(x: Tensor) -> tuple[Tensor, Pullback]:
            seen = self.seen(x)
            k, pullback = self.kernel.cross(theta, seen, rows) if inner is None else inner(seen)
            return k, lambda weights: self._by_columns(pullback(weights), x)

        return cross

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(s(x), s(z)), and the map of W to d sum(W * k) by theta, x and z."""
        k, pullback = self.kernel.joint(theta, self.seen(x), self.seen(z))

        def by_columns(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_x, by_z = pullback(weights)
            return by_theta, self._by_columns(by_x, x), self._by_columns(by_z, z)

        return k, by_columns

    def functionals_cross(
        self, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
    ) -> tuple[jt.Float[Tensor, "*b q r"], JointPullback]:
        """cov(u, v), and the map of W to d sum(W * cov) by theta, left.points and right.points."""
        cov, pullback = self.kernel.functionals_cross(theta, self._seen_by(left), self._seen_by(right))

        def by_columns(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            by_theta, by_x, by_z = pullback(weights)
            return by_theta, self._by_columns(by_x, left.points), self._by_columns(by_z, right.points)

        return cov, by_columns

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[Features, jt.Float[Tensor, "*b count"]]:
        """Random functions of s(x), as `FeatureKernel` has them."""
        if isinstance(self.kernel, Conditional):
            functions, weights = self.kernel.features(theta, count, self._seen_dim(dim), seeds)
            return lambda x: functions(self.seen(x)), weights
        frequencies, weights = self.kernel.frequencies(theta, count, self._seen_dim(dim), seeds)

        def waves(x: Tensor) -> Tensor:
            phase = self.seen(x) @ frequencies.mT
            return torch.cat((torch.cos(phase), torch.sin(phase)), -1)

        return waves, weights * torch.exp(theta[..., -1:])

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return self.kernel.diagonal(theta, x)

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by the outputscale; 0 by other theta, and by x."""
        return self.kernel.diagonal_gradient(theta, x, weights)

    def seen(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m s"]:
        """The rows s(x)."""
        blocks = [x[..., self._undescribed(x.shape[-1])]]
        for (column, levels, _), numbers in zip(self.descriptors, self._numbers, strict=True):
            blocks.append(descriptors_at(x[..., column], levels, numbers))
        return torch.cat(blocks, -1)

    @cached_property
    def _numbers(self) -> list[Tensor]:
        return [torch.tensor(numbers, **CPU_DOUBLES) for _, _, numbers in self.descriptors]

    def _undescribed(self, dim: int) -> list[int]:
        described = {column for column, _, _ in self.descriptors}
        return [column for column in range(dim) if column not in described]

    def _seen_by(self, side: Functionals) -> Functionals:
        """The same functionals of functions of s(x); the derivative by a code is zero."""
        direction, jets, dim = side.direction, side.jets, side.points.shape[-1]
        columns = self._undescribed(dim)
        if direction is not None:
            direction = pad(direction[..., columns], (0, self._seen_dim(dim) - len(columns)))
        if jets is not None:
            jets = tuple(columns.index(column) for column in jets)
        return replace(side, points=self.seen(side.points), direction=direction, jets=jets)

    def _seen_dim(self, dim: int) -> int:
        return dim - len(self.descriptors) + sum(len(numbers[0]) for _, _, numbers in self.descriptors)

    def _by_columns(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The gradient by x of one by s(x)."""
        columns, by_x = self._undescribed(x.shape[-1]), torch.zeros_like(x)
        by_x[..., columns] = gradient[..., : len(columns)]
        return by_x


def descriptors_at(
    codes: jt.Float[Tensor, "*b m"], levels: int, numbers: jt.Float64[Tensor, "l k"]
) -> jt.Float[Tensor, "*b m k"]:
    """The descriptors of the levels that are nearest to codes.

    Args:
        codes: level / (levels - 1).
        levels: how many there are; options of past trials follow them.
        numbers: descriptors of each level.
    """
    index = (codes.detach() * max(levels - 1, 1)).round().long()
    return numbers.to(codes)[index.clamp(0, len(numbers) - 1)]
