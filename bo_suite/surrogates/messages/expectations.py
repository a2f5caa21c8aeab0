"""Expectations of covariances with inducing variables, for inputs that are known up to normal noise.

With a(x) = L⁻¹ k_u(x) and x_n ~ N(x̄_n, diag(std_n²)), these are Σ_n E[k(x_n, x_n)], E[a(x_n)] and
Σ_n E[a(x_n) a(x_n)ᵀ]: the Ψ₀, L⁻¹ Ψ₁ and L⁻¹ Ψ₂ L⁻ᵀ of Titsias and Lawrence (2010).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import SquaredExponential
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.normal_rule import normal_nodes

_AT_ONCE = 2**21
"""Number of covariances in memory at once."""


@dataclass(frozen=True, eq=False)
class Expectations:
    """What messages need of the inputs of n data, whitened.

    Attributes:
        prior: Σ_n E[k(x_n, x_n)].
        first: E[a(x_n)].
        second: Σ_n E[a(x_n) a(x_n)ᵀ].
        vectors: V with V Vᵀ = second if the inputs are known, so that V has few columns; else None.
    """

    prior: jt.Float[Tensor, "*b"]
    first: jt.Float[Tensor, "*b m n"]
    second: jt.Float[Tensor, "*b m m"]
    vectors: jt.Float[Tensor, "*b m n"] | None


def expectations(
    basis: Basis, x: jt.Float[Tensor, "*b n d"], std: jt.Float[Tensor, "*b n d"] | None
) -> Expectations:
    """The expectations, by the most exact way that there is.

    Known inputs are a special case. A squared exponential kernel has closed forms if the inducing variables
    are values at points and no column is a category; otherwise the rule is that of `normal_rule`.

    Args:
        basis: the inducing variables; L_B is not used.
        x: means of the inputs.
        std: their standard deviations, 0 where exact; None if all inputs are exact.
    """
    if std is None or not bool((std > 0).any()):
        a = basis.whiten(x)
        return Expectations(basis.kernel.diagonal(basis.theta, x).sum(-1), a, a @ a.mT, a)
    kernel = basis.kernel
    if (
        isinstance(kernel, SquaredExponential)
        and isinstance(basis.variables, Points)
        and not kernel.unordered
    ):
        return closed_expectations(basis, x, std)
    return quadrature_expectations(basis, x, std)


def quadrature_expectations(
    basis: Basis, x: jt.Float[Tensor, "*b n d"], std: jt.Float[Tensor, "*b n d"]
) -> Expectations:
    """The expectations of any kernel by `normal_rule`."""
    nodes, weights = normal_nodes(x, std)
    return weighted_expectations(basis, nodes, weights.expand(nodes.shape[:-1]))


def weighted_expectations(
    basis: Basis, nodes: jt.Float[Tensor, "*b n k d"], weights: jt.Float[Tensor, "*b n k"]
) -> Expectations:
    """The expectations over inputs that are at the nodes with these probabilities."""
    n, count = weights.shape[-2:]
    m = basis.variables.count
    prior, second = nodes.new_zeros(nodes.shape[:-3]), nodes.new_zeros(*nodes.shape[:-3], m, m)
    first = []
    for rows in _chunks(n, count * m):
        flat = nodes[..., rows, :, :].flatten(-3, -2)
        shares = weights[..., rows, :].flatten(-2)
        a = basis.whiten(flat)
        weighted = a * shares[..., None, :]
        prior = prior + (basis.kernel.diagonal(basis.theta, flat) * shares).sum(-1)
        first.append(weighted.unflatten(-1, (-1, count)).sum(-1))
        second = second + weighted @ a.mT
    return Expectations(prior, torch.cat(first, -1), second, None)


def closed_expectations(
    basis: Basis, x: jt.Float[Tensor, "*b n d"], std: jt.Float[Tensor, "*b n d"]
) -> Expectations:
    """The expectations of s² exp(-½ Σ_c (x_c - z_c)² / l_c²) with values at points Z as inducing variables.

    With v = std², z̄ = (z_i + z_j) / 2 and products over the columns c:
    E[k(x, z)] = s² Π (1 + v / l²)^(-½) exp(-½ (x̄ - z)² / (l² + v)),
    E[k(x, z_i) k(x, z_j)] = s⁴ Π (1 + 2v / l²)^(-½) exp(-(z_i - z_j)² / 4l² - (x̄ - z̄)² / (l² + 2v))
    (Titsias and Lawrence 2010, section 3).
    """
    z, theta = basis.rows, basis.theta
    scale = torch.exp(-theta[..., :-1])[..., None, :]
    mean, points, share = (x - 0.5) * scale, (z - 0.5) * scale, (std * scale).square()
    amplitude = torch.exp(theta[..., -1])[..., None, None]
    first = amplitude * _averaged(points, mean, 1.0 + share, 0.5)
    half = 0.5 * points
    middle = (half[..., :, None, :] + half[..., None, :, :]).flatten(-3, -2)
    m, sums = z.shape[-2], torch.zeros_like(middle[..., 0])
    for rows in _chunks(x.shape[-2], m * m):
        sums = sums + _averaged(middle, mean[..., rows, :], 1.0 + 2.0 * share[..., rows, :], 1.0).sum(-1)
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    second = amplitude.square() * torch.exp(-0.25 * apart) * sums.unflatten(-1, (m, m))
    half_white = basis.factor.solve(second)
    white = basis.factor.solve(half_white.mT)
    prior = basis.kernel.diagonal(theta, x).sum(-1)
    return Expectations(prior, basis.factor.solve(first), 0.5 * (white + white.mT), None)


def _averaged(z: Tensor, x: Tensor, spread: Tensor, power: float) -> Tensor:
    """Π_c spread_c^(-½) exp(-power (x_c - z_c)² / spread_c), of rows z (*b, k, d) and x (*b, n, d)."""
    inverse = spread.reciprocal()
    squares = (x.square() * inverse).sum(-1)[..., None, :] + z.square() @ inverse.mT
    squares = (squares - 2.0 * z @ (x * inverse).mT).clamp(min=0.0)
    return torch.exp(-power * squares - 0.5 * spread.log().sum(-1)[..., None, :])


def _chunks(n: int, each: int) -> Iterator[slice]:
    size = _AT_ONCE // each + 1
    return (slice(first, first + size) for first in range(0, n, size))
