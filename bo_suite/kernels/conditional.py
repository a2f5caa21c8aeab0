"""Matern-5/2 times Hamming over columns of which rows may lack some."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.data import Condition, Seeds
from bo_suite.kernels.base import CrossTo, Features, JointPullback, Pullback
from bo_suite.kernels.conditional_functionals import conditional_cross
from bo_suite.kernels.functionals import Functionals
from bo_suite.kernels.groups import Layout, Parameters, Part, groups_of, layout_of
from bo_suite.kernels.stationary import Matern52

_SPREAD = 1.5
"""Standard deviation of the log odds of a share under its prior, whose median is ½. With a larger median,
predictions from few observations of joint choices of a model and its parameters were too certain."""

_LEAST, _MOST = -5.0, 7.0
"""Bounds of the log odds of a share."""


@dataclass(frozen=True)
class Conditional:
    """A kernel over the columns that are always active, times a factor for each group of conditional ones.

    k(x, z) = s² k_0(x, z) Π_G g(x, z). A group G is all columns with the same condition. With k_0 and k_G the
    `Matern52` of unit variance over the columns that are always active and over the group, and v in (0, 1)
    the share of the variance that the values of the group do not change,

    g(x, z) = 1 if G is inactive in both rows, √v if it is active in one, v + (1 - v) k_G(x, z) if in both.

    It is positive semidefinite, for g(x, z) = φ(x) φ(z) + (1 - v) a(x) a(z) k_G(x, z), where a is 1 if G is
    active and else 0, and φ is √v or 1. With k_G itself if G is active in both rows, and a constant c if in
    one, k_G - c² would have to be positive semidefinite, which it is not for all rows. A column that is
    inactive in a row has no influence there, whatever its position.

    Theta is (log l_1 ... log l_d, log odds of the shares v, log s²), columns in their order and groups in
    that of the conditions. The prior is that of `Matern52`, except that d in it is the number of columns that
    a row can have, not that of all columns; log odds of shares are N(0, 1.5²).

    Groups that exclude each other, as the branches of a choice do, share one matrix: Σ_G a(x) a(z) k_G(x, z)
    is one Matern kernel over all of their columns, where both rows have the same group.

    Attributes:
        matern: with the kinds of the columns, and the prior of s².
        conditions: of the columns that are not always active, parents before their children.
    """

    matern: Matern52
    conditions: tuple[Condition, ...]

    def start(self, dim: int) -> jt.Float[Tensor, " p"]:
        """That of `Matern52` for the number of columns that a row can have, and shares of ½."""
        together = self._layout(dim, torch.device("cpu")).together
        return self._with_shares(self.matern.start(dim, together), 0.0)

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Those of `Matern52`, and log odds of shares in [-5, 7]."""
        lower, upper = self.matern.bounds(dim)
        return self._with_shares(lower, _LEAST), self._with_shares(upper, _MOST)

    def log_prior(
        self, theta: jt.Float[Tensor, "*b p"], dim: int, stepped: jt.Bool[Tensor, "*b"] | None = None
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, log odds of shares, s²), up to a constant, and its gradient by theta."""
        rest = torch.cat((theta[..., :dim], theta[..., -1:]), -1)
        together = self._layout(dim, theta.device).together
        value, gradient = self.matern.log_prior(rest, dim, stepped, together)
        standard = theta[..., dim:-1] / _SPREAD
        by_theta = torch.cat((gradient[..., :dim], -standard / _SPREAD, gradient[..., dim:]), -1)
        return value - 0.5 * standard.square().sum(-1), by_theta

    def gram(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b n n"], Pullback]:
        """k(x, x), and the map of a symmetric matrix W to d sum(W * k) / d theta, in O(n² d)."""
        side = _Side.of(self._layout(x.shape[-1], x.device), theta, x)
        evaluated = [
            matern.gram(parameters, part.positions) for matern, parameters, part in side.with_kernels()
        ]
        product = _Product.of([k for k, _ in evaluated], side, side)

        def pullback(weights: Tensor) -> Tensor:
            of_matrices, by_odds = product.split(weights)
            pulled = [pull(each) for (_, pull), each in zip(evaluated, of_matrices, strict=True)]
            return side.layout.by_theta(pulled, by_odds())

        return product.k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered and inactive columns)."""
        return self.prepared(theta, z)(x)

    def prepared(self, theta: jt.Float[Tensor, "*b p"], z: jt.Float[Tensor, "*b n d"]) -> CrossTo:
        """`cross` as a function of x."""
        return _Side.of(self._layout(z.shape[-1], z.device), theta, z)

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero as for `cross`)."""
        right = _Side.of(self._layout(z.shape[-1], z.device), theta, z)
        left, layout = right.opposite(x), right.layout
        evaluated = [
            matern.joint(parameters, part.positions, other.positions)
            for part, (matern, parameters, other) in zip(left.parts, right.with_kernels(), strict=True)
        ]
        product = _Product.of([k for k, _ in evaluated], left, right)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            of_matrices, by_odds = product.split(weights)
            pulled = (pull(each) for (_, pull), each in zip(evaluated, of_matrices, strict=True))
            by_theta, by_x, by_z = zip(*pulled, strict=True)
            return (
                layout.by_theta(by_theta, by_odds()),
                layout.by_columns(by_x, left.parts),
                layout.by_columns(by_z, right.parts),
            )

        return product.k, pullback

    def functionals_cross(
        self, theta: jt.Float[Tensor, "*b p"], left: Functionals, right: Functionals
    ) -> tuple[jt.Float[Tensor, "*b q r"], JointPullback]:
        """cov(u, v), and the map of W to d sum(W * cov) by theta, left.points and right.points."""
        return conditional_cross(self._layout(left.points.shape[-1], theta.device), theta, left, right)

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[Features, jt.Float[Tensor, "*b count"]]:
        """Random functions of rows, as `FeatureKernel` has them.

        They are Re and Im of ψ(x) = exp(i w_0ᵀ x) Π_layers (φ(x) + √(1 - v) √a exp(i (wᵀ x + τ))), with w and
        a of the layer's columns as in `Matern52.frequencies`, v and τ those of the group that is active in x,
        and τ uniform on [0, 2π). If none is active, the factor is 1. E[ψ(x) ψ*(z)] is the product of all g:
        without τ, products of the two terms, and of the terms of different groups, would remain. The weights
        are those of w_0, times s².
        """
        layout = self._layout(dim, theta.device)
        parameters = layout.parameters(theta)
        frequencies, weights = [], []
        for index, (matern, of_matern) in enumerate(zip(layout.materns, parameters.of_matern, strict=True)):
            of_part, size = seeds.split(f"part {index}"), len(layout.parts[index])
            drawn, share = matern.frequencies(of_matern, count, size, of_part)
            order = of_part.split("order").uniform((count,), theta).argsort(-1)
            frequencies.append(drawn.gather(-2, order[..., None].expand_as(drawn)))
            weights.append(share.gather(-1, order.expand_as(share)))
        phases = [
            2.0 * torch.pi * seeds.split(f"phase {index}").uniform((count, len(layer)), theta)
            for index, layer in enumerate(layout.groups)
        ]
        always, *of_layers = frequencies
        layers = [
            torch.cat((each, phase.expand(*each.shape[:-1], -1)), -1)
            for each, phase in zip(of_layers, phases, strict=True)
        ]
        amplitudes = tuple(weight.sqrt() for weight in weights[1:])
        shares = parameters.odds.sigmoid().split(layout.sizes[1], -1)
        scaled = weights[0] * torch.exp(theta[..., -1:])
        return ConditionalFeatures(layout, shares, (always, *layers), amplitudes), scaled

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return self.matern.diagonal(theta, x)

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by the outputscale; 0 by other theta, and by x."""
        return self.matern.diagonal_gradient(theta, x, weights)

    def _layout(self, dim: int, device: torch.device) -> Layout:
        return layout_of(self.matern.unordered, self.conditions, dim, device)

    def _with_shares(self, theta: Tensor, odds: float) -> Tensor:
        """Theta of `Matern52` with equal log odds of all shares."""
        return torch.cat((theta[:-1], theta.new_full((len(groups_of(self.conditions)),), odds), theta[-1:]))


@dataclass(frozen=True, eq=False)
class ConditionalFeatures:
    """Re and Im of the functions ψ of `Conditional.features`.

    Attributes:
        layout: of the columns.
        shares: v of the groups of each layer.
        frequencies: w_0; then for each layer w, with τ of its groups.
        amplitudes: √a of each layer.
    """

    layout: Layout
    shares: tuple[jt.Float[Tensor, "*b _"], ...]
    frequencies: tuple[jt.Float[Tensor, "*b f _"], ...]
    amplitudes: tuple[jt.Float[Tensor, "*b f"], ...]

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m g"]:
        """Re of all functions at each row, then Im."""
        always, *layers = self.layout.rows(x)
        phase = always.positions @ self.frequencies[0].mT
        real, imaginary = torch.cos(phase), torch.sin(phase)
        of_layers = zip(layers, self.shares, self.frequencies[1:], self.amplitudes, strict=True)
        for part, share, frequencies, amplitude in of_layers:
            phase = torch.cat((part.positions, part.active), -1) @ frequencies.mT
            constant = torch.exp(part.active @ (0.5 * share.log())[..., None])
            size = (part.active @ (1.0 - share)[..., None]).sqrt() * amplitude[..., None, :]
            along, across = constant + size * torch.cos(phase), size * torch.sin(phase)
            real, imaginary = real * along - imaginary * across, real * across + imaginary * along
        return torch.cat((real, imaginary), -1)


@dataclass(frozen=True, eq=False)
class _Side:
    """Rows on one side of a matrix.

    Attributes:
        layout: of the columns.
        parameters: of the kernel.
        parts: the rows in parts.
        active: 1 where a group is active, else 0, layer by layer.
        constant: Π φ of each row.
        weighted: of the groups of each layer, (1 - v) / v where they are active, else 0.
    """

    layout: Layout
    parameters: Parameters
    parts: list[Part]
    active: Tensor
    constant: Tensor
    weighted: list[Tensor]

    @staticmethod
    def of(layout: Layout, theta: Tensor, x: Tensor) -> "_Side":
        """Rows z. If few rows have a group of a layer, the layer holds those alone."""
        parameters, (always, *layers) = layout.parameters(theta), layout.rows(x)
        ratios = torch.exp(-parameters.odds)[..., None, :].split(layout.sizes[1], -1)
        thinned = [layer.thinned() for layer in layers]
        weighted = [layer.active * ratio for layer, ratio in zip(thinned, ratios, strict=True)]
        active = torch.cat([layer.active for layer in layers], -1)
        constant = _constant_part(active, parameters)
        return _Side(layout, parameters, [always, *thinned], active, constant, weighted)

    def opposite(self, x: Tensor) -> "_Side":
        """Rows x, all of them in each layer, with the same parameters."""
        parts = self.layout.rows(x)
        active = torch.cat([layer.active for layer in parts[1:]], -1)
        constant = _constant_part(active, self.parameters)
        return _Side(self.layout, self.parameters, parts, active, constant, [])

    def with_kernels(self) -> Iterator[tuple[Matern52, Tensor, Part]]:
        """The Matern kernel of each part, its parameters, and the rows."""
        return zip(self.layout.materns, self.parameters.of_matern, self.parts, strict=True)

    def __call__(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """k(x, z) for these rows z, and the map of W to d sum(W * k) / d x."""
        left = self.opposite(x)
        evaluated = [
            matern.cross(parameters, part.positions, other.positions)
            for part, (matern, parameters, other) in zip(left.parts, self.with_kernels(), strict=True)
        ]
        product = _Product.of([k for k, _ in evaluated], left, self)

        def pullback(weights: Tensor) -> Tensor:
            of_matrices, _ = product.split(weights)
            by_x = [pull(each) for (_, pull), each in zip(evaluated, of_matrices, strict=True)]
            return self.layout.by_columns(by_x, left.parts)

        return product.k, pullback


def _constant_part(active: Tensor, parameters: Parameters) -> Tensor:
    """Π φ of each row: √v for each group that is active."""
    return torch.exp((active @ (0.5 * logsigmoid(parameters.odds))[..., None])[..., 0])


@dataclass(frozen=True, eq=False)
class _Product:
    """k(x, z) = k_0(x, z) Φ(x) Φ(z) Π G, with Φ = Π φ and a factor G = 1 + M k of each layer.

    M is (1 - v) / v for rows that both have the same group, else 0, and k the Matern matrix of the layer. If
    few rows have a group of the layer, G is computed for those alone.

    Attributes:
        k: the product.
        outside: the product without k_0.
        factors: G of each layer.
        within: M of each layer.
        left: rows x.
        right: rows z.
    """

    k: Tensor
    outside: Tensor
    factors: list[Tensor]
    within: list[Tensor]
    left: _Side
    right: _Side

    @staticmethod
    def of(matrices: list[Tensor], left: _Side, right: _Side) -> "_Product":
        """The product, given the Matern matrices of the parts."""
        outside = left.constant[..., :, None] * right.constant[..., None, :]
        within, factors = [], []
        layers = zip(matrices[1:], left.parts[1:], right.parts[1:], right.weighted, strict=True)
        for k, one, other, weighted in layers:
            within.append(one.active @ weighted.mT)
            factors.append((within[-1] * k).add_(1.0))
            if other.index is None:
                outside *= factors[-1]
            else:
                outside[_block(one, other)] *= factors[-1]
        return _Product(matrices[0] * outside, outside, factors, within, left, right)

    def split(self, weights: Tensor) -> tuple[list[Tensor], Callable[[], Tensor]]:
        """Weights of the Matern matrices, given those of k; and a function to the gradient by log odds."""
        weighted = weights * self.k
        pairs = zip(self.left.parts[1:], self.right.parts[1:], strict=True)
        blocks = [weighted[_block(*pair)] for pair in pairs]
        of_factors = [block / factor for block, factor in zip(blocks, self.factors, strict=True)]
        of_layers = [each * within for each, within in zip(of_factors, self.within, strict=True)]

        def by_odds() -> Tensor:
            constant = _sums(self.left.active, weighted.sum(-1)) + _sums(self.right.active, weighted.sum(-2))
            varying = [
                _sums(part.active, block.sum(-1) - of_factor.sum(-1))
                for part, block, of_factor in zip(self.left.parts[1:], blocks, of_factors, strict=True)
            ]
            return 0.5 * torch.sigmoid(-self.left.parameters.odds) * constant - torch.cat(varying, -1)

        return [weights * self.outside, *of_layers], by_odds


def _block(left: Part, right: Part) -> tuple[Any, ...]:
    """An index of the entries of a matrix that a layer changes."""
    if right.index is None:
        return (...,)
    return (..., slice(None), right.index) if left.index is None else (..., left.index[:, None], right.index)


def _sums(active: Tensor, values: Tensor) -> Tensor:
    """Sum of the values of the rows in which each group is active."""
    return (values[..., None, :] @ active)[..., 0, :]
