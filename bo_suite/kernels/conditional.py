"""Matern-5/2 times Hamming over columns of which rows may lack some."""

from collections.abc import Callable
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Condition, Seeds
from bo_suite.kernels.base import Features, JointPullback, Pullback
from bo_suite.kernels.groups import Layout, Parameters, Rows, groups_of, layout_of
from bo_suite.kernels.stationary import Matern52

_SPREAD = 1.5
"""Standard deviation of the log odds of a share under its prior, whose median is ½. With more in common, in
samples of joint choices of a model and its parameters, predictions from few observations were too certain."""

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
        layout = self._layout(x.shape[-1], x.device)
        rows, parameters = layout.rows(x), layout.parameters(theta)
        parts = zip(layout.materns, parameters.of_matern, rows.parts, strict=True)
        matrices, pulls = zip(*(matern.gram(*part) for matern, *part in parts), strict=True)
        factors = _Factors.of(matrices, parameters, rows, rows)

        def pullback(weights: Tensor) -> Tensor:
            of_parts, by_odds = factors.split(weights)
            by_theta = [pull(each) for pull, each in zip(pulls, of_parts, strict=True)]
            return layout.by_theta(by_theta, by_odds())

        return factors.k, pullback

    def cross(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], Pullback]:
        """k(x, z), and the map of W to d sum(W * k) / d x (zero for unordered and inactive columns)."""
        layout = self._layout(x.shape[-1], x.device)
        left, right, parameters = layout.rows(x), layout.rows(z), layout.parameters(theta)
        parts = zip(layout.materns, parameters.of_matern, left.parts, right.parts, strict=True)
        matrices, pulls = zip(*(matern.cross(*part) for matern, *part in parts), strict=True)
        factors = _Factors.of(matrices, parameters, left, right)

        def pullback(weights: Tensor) -> Tensor:
            of_parts, _ = factors.split(weights)
            by_x = [pull(each) for pull, each in zip(pulls, of_parts, strict=True)]
            return layout.by_columns(by_x, left)

        return factors.k, pullback

    def joint(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"], z: jt.Float[Tensor, "*b n d"]
    ) -> tuple[jt.Float[Tensor, "*b m n"], JointPullback]:
        """k(x, z), and the map of W to d sum(W * k) by theta, x and z (zero as for `cross`)."""
        layout = self._layout(x.shape[-1], x.device)
        left, right, parameters = layout.rows(x), layout.rows(z), layout.parameters(theta)
        parts = zip(layout.materns, parameters.of_matern, left.parts, right.parts, strict=True)
        matrices, pulls = zip(*(matern.joint(*part) for matern, *part in parts), strict=True)
        factors = _Factors.of(matrices, parameters, left, right)

        def pullback(weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            of_parts, by_odds = factors.split(weights)
            pulled = (pull(each) for pull, each in zip(pulls, of_parts, strict=True))
            by_theta, by_x, by_z = (list(each) for each in zip(*pulled, strict=True))
            return (
                layout.by_theta(by_theta, by_odds()),
                layout.by_columns(by_x, left),
                layout.by_columns(by_z, right),
            )

        return factors.k, pullback

    def features(
        self, theta: jt.Float[Tensor, "*b p"], count: int, dim: int, seeds: Seeds
    ) -> tuple[Features, jt.Float[Tensor, "*b count"]]:
        """Random functions of rows, as `FeatureKernel` has them.

        They are Re and Im of ψ(x) = exp(i w_0ᵀ x) Π_layers (φ(x) + √(1 - v) √a exp(i (wᵀ x + τ))), with w and
        a of the layer's columns as in `Matern52.frequencies`, v and τ those of the group that is active in x,
        and τ uniform on [0, 2π). If none is active, the factor is 1. E[ψ(x) ψ*(z)] is the product of all g:
        without τ, products of the two terms, and of the terms of different groups, would remain.
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
        return ConditionalFeatures(layout, parameters, (always, *layers), amplitudes), weights[0]

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
        parameters: of the kernel.
        frequencies: w_0; then for each layer w, with τ of its groups.
        amplitudes: √a of each layer.
    """

    layout: Layout
    parameters: Parameters
    frequencies: tuple[jt.Float[Tensor, "*b f _"], ...]
    amplitudes: tuple[jt.Float[Tensor, "*b f"], ...]

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m g"]:
        """Re of all functions at each row, then Im."""
        rows = self.layout.rows(x)
        phase = rows.parts[0] @ self.frequencies[0].mT
        real, imaginary = torch.cos(phase), torch.sin(phase)
        layers = zip(
            rows.parts[1:],
            rows.active,
            self.parameters.shares,
            self.frequencies[1:],
            self.amplitudes,
            strict=True,
        )
        for positions, active, share, frequencies, amplitude in layers:
            phase = torch.cat((positions, active), -1) @ frequencies.mT
            size = (active @ (1.0 - share)[..., None]).sqrt() * amplitude[..., None, :]
            along = _constant_part(active, share)[..., None] + size * torch.cos(phase)
            across = size * torch.sin(phase)
            real, imaginary = real * along - imaginary * across, real * across + imaginary * along
        return torch.cat((real, imaginary), -1)


@dataclass(frozen=True, eq=False)
class _Factor:
    """Π g over the groups of a layer, F = φ(x) φ(z)ᵀ + M k, where M is 1 - v for rows that both have a group.

    Attributes:
        value: F.
        within: M.
        share: v of the groups.
        left: for x, whether groups are active, and φ.
        right: for z.
    """

    value: Tensor
    within: Tensor
    share: Tensor
    left: tuple[Tensor, Tensor]
    right: tuple[Tensor, Tensor]

    @staticmethod
    def of(k: Tensor, share: Tensor, left: Tensor, right: Tensor) -> "_Factor":
        within = (left * (1.0 - share)[..., None, :]) @ right.mT
        phi, psi = _constant_part(left, share), _constant_part(right, share)
        value = (within * k).addcmul_(phi[..., :, None], psi[..., None, :])
        return _Factor(value, within, share, (left, phi), (right, psi))

    def by_odds(self, weights: Tensor, total: Tensor) -> Tensor:
        """d sum(W * F) by the log odds of the shares, given W, and W F summed over the rows of z."""
        (active, phi), (others, psi) = self.left, self.right
        constant = phi * (weights @ psi[..., None])[..., 0]
        counterpart = psi * (weights.mT @ phi[..., None])[..., 0]
        by_constant = _sums(active, constant) + _sums(others, counterpart)
        return 0.5 * (1.0 - self.share) * by_constant - self.share * _sums(active, total - constant)


@dataclass(frozen=True, eq=False)
class _Factors:
    """k = k_0 Π F, and how weights of k become those of its factors.

    Attributes:
        k: product of all factors.
        outside: product of the factors of layers.
        layers: these factors.
    """

    k: Tensor
    outside: Tensor
    layers: list[_Factor]

    @staticmethod
    def of(matrices: tuple[Tensor, ...], parameters: Parameters, left: Rows, right: Rows) -> "_Factors":
        always, *others = matrices
        parts = zip(others, parameters.shares, left.active, right.active, strict=True)
        layers = [_Factor.of(*part) for part in parts]
        outside = layers[0].value
        for layer in layers[1:]:
            outside = outside * layer.value
        return _Factors(always * outside, outside, layers)

    def split(self, weights: Tensor) -> tuple[list[Tensor], Callable[[], list[Tensor]]]:
        """Weights of the matrices of all parts; and a function to the gradients by the log odds of shares."""
        weighted = weights * self.k
        of_layers = [weighted / layer.value for layer in self.layers]  # F is at least φ(x) φ(z)ᵀ, positive
        within = [each * layer.within for each, layer in zip(of_layers, self.layers, strict=True)]

        def by_odds() -> list[Tensor]:
            total = weighted.sum(-1)
            return [layer.by_odds(each, total) for each, layer in zip(of_layers, self.layers, strict=True)]

        return [weights * self.outside, *within], by_odds


def _sums(active: Tensor, values: Tensor) -> Tensor:
    """Sum of the values of the rows in which each group is active."""
    return (values[..., None, :] @ active)[..., 0, :]


def _constant_part(active: Tensor, share: Tensor) -> Tensor:
    """φ of each row: √v of the group that is active, 1 if none is."""
    return torch.exp(0.5 * (active @ share.log()[..., None])[..., 0])
