"""Zonal functions on the sphere S^(D-1) in R^D: functions of the cosine t between two directions.

The measure of the sphere is the uniform probability. With C_l the Gegenbauer polynomial of order (D - 2) / 2
(Chebyshev for D = 2) and N(D, l) the number of orthonormal harmonics of degree l,

Z_l(t) = N(D, l) C_l(t) / C_l(1) = sum_m Y_lm(x) Y_lm(z) for directions x and z with t = xᵀ z

(addition theorem), and a function of t is the series sum_l c_l Z_l(t) (Müller 1966).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import DataError

_NODES = 256
"""Nodes of a quadrature on [0, π/2], and as many on [π/2, π], besides one for each degree. They are dense at
the ends: exp(-θ² / (2 · 0.01²)) is integrated to rounding."""

_BLOCK = 2**16
"""Entries of a matrix whose series are summed at once, so that they stay in the cache of a processor."""


def harmonics_count(dim: int, degree: int) -> int:
    """N(D, l), the number of orthonormal harmonics of one degree: C(l + D - 1, l) - C(l + D - 3, l - 2).

    Args:
        dim: D.
        degree: l.

    Raises:
        DataError: D < 2 or l < 0.
    """
    _check(dim, degree)
    below = math.comb(degree + dim - 3, degree - 2) if degree >= 2 else 0
    return math.comb(degree + dim - 1, degree) - below


def legendre(t: jt.Float[Tensor, "*t"], dim: int, degree: int) -> jt.Float[Tensor, "*t degrees"]:
    """P_l(t) = C_l(t) / C_l(1) for l = 0 ... degree, each with P_l(1) = 1 and |P_l| <= 1.

    P_0 = 1, P_1 = t, and (l + D - 2) P_(l+1) = (2 l + D - 2) t P_l - l P_(l-1); differentiable by autograd.

    Args:
        t: cosines in [-1, 1].
        dim: D.
        degree: largest l.

    Raises:
        DataError: D < 2 or degree < 0.
    """
    _check(dim, degree)
    polynomials = [torch.ones_like(t), t]
    for lower in range(1, degree):
        forth, back = _recurrence(dim, lower)
        polynomials.append(forth * t * polynomials[-1] - back * polynomials[-2])
    return torch.stack(polynomials[: degree + 1], -1)


def zonal_sum(
    t: jt.Float[Tensor, "*b m n"], coefficients: jt.Float[Tensor, "*b degrees"], dim: int
) -> tuple[jt.Float[Tensor, "*b m n"], jt.Float[Tensor, "*b m n"]]:
    """sum_l c_l Z_l(t) and its derivative by t, by Clenshaw's recurrence; no functions for autograd.

    b_l = c_l N_l + α_l t b_(l+1) - β_(l+1) b_(l+2), where P_(l+1) = α_l t P_l - β_l P_(l-1); the sum is b_0,
    and its derivative follows from that of the recurrence (Clenshaw 1955).

    Args:
        t: cosines in [-1, 1].
        coefficients: c_l for l = 0 ... degree.
        dim: D.

    Raises:
        DataError: D < 2 or no coefficients.
    """
    degree = coefficients.shape[-1] - 1
    _check(dim, degree)
    counts = [float(harmonics_count(dim, each)) for each in range(degree + 1)]
    scaled = (coefficients * coefficients.new_tensor(counts)).detach()
    batch = torch.broadcast_shapes(t.shape[:-2], scaled.shape[:-1])
    cosines = t.detach().expand(*batch, *t.shape[-2:])
    scaled = scaled.expand(*batch, degree + 1)
    values, slopes = cosines.new_empty(cosines.shape), cosines.new_empty(cosines.shape)
    rows = max(_BLOCK // max(cosines[..., :1, :].numel(), 1), 1)
    for first in range(0, cosines.shape[-2], rows):
        block = slice(first, first + rows)
        value, slope = _clenshaw(cosines[..., block, :], scaled[..., None, None, :], dim)
        values[..., block, :], slopes[..., block, :] = value, slope
    return values, slopes


def zonal_products(
    weights: jt.Float[Tensor, "*b m n"], t: jt.Float[Tensor, "*b m n"], dim: int, degree: int
) -> jt.Float[Tensor, "*b degrees"]:
    """sum_ij W_ij Z_l(t_ij) for l = 0 ... degree: the gradient of sum(W * `zonal_sum`) by its coefficients.

    Args:
        weights: W.
        t: cosines in [-1, 1].
        dim: D.
        degree: largest l.

    Raises:
        DataError: D < 2 or degree < 0.
    """
    _check(dim, degree)
    flat, cosines = weights.detach().flatten(-2), t.detach().flatten(-2)
    before, now, sums = torch.zeros_like(cosines), torch.ones_like(cosines), []
    for lower in range(degree + 1):
        sums.append(torch.linalg.vecdot(flat, now) * harmonics_count(dim, lower))
        forth, back = _recurrence(dim, lower)
        before.mul_(-back).addcmul_(cosines, now, value=forth)
        before, now = now, before
    return torch.stack(sums, -1)


def funk_hecke(
    shape: Callable[[Tensor], Tensor], dim: int, degree: int, device: torch.device | None = None
) -> jt.Float[Tensor, "*b degrees"]:
    """c_l = E_t[g(t) P_l(t)] for l = 0 ... degree, so that g(t) = sum_l c_l Z_l(t) (Funk and Hecke).

    t is the cosine between a fixed direction and a uniform one: t = cos θ with a density proportional to
    sin^(D-2) θ. The integral is by Fejér's quadrature (1933) in the angle on [0, π/2] and on [π/2, π], exact
    to rounding for g that are smooth in the angle but for one kink at t = 0, and that vary over more than
    about 0.01 there.

    Args:
        shape: g, of cosines (q,) in float64, with values (*b, q) of any dtype, which is that of the result.
        dim: D.
        degree: largest l.
        device: of the cosines; the CPU by default.

    Raises:
        DataError: D < 2 or degree < 0.
    """
    _check(dim, degree)
    cosines, projection = (each.to(device or "cpu") for each in _quadrature(dim, degree))
    values = shape(cosines)
    return (values.double() @ projection).to(values)


def _recurrence(dim: int, lower: int) -> tuple[float, float]:
    """α_l and β_l of P_(l+1) = α_l t P_l - β_l P_(l-1), for l = lower."""
    if lower == 0:
        return 1.0, 0.0
    return (2 * lower + dim - 2) / (lower + dim - 2), lower / (lower + dim - 2)


def _clenshaw(t: Tensor, scaled: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """sum_l scaled_l P_l(t), and its derivative."""
    degree = scaled.shape[-1] - 1
    t = t.contiguous()
    value = scaled[..., degree].expand_as(t).clone()
    above, slope, slope_above = torch.zeros_like(t), torch.zeros_like(t), torch.zeros_like(t)
    for lower in range(degree - 1, -1, -1):
        forth, back = _recurrence(dim, lower)[0], _recurrence(dim, lower + 1)[1]
        slope_above.mul_(-back).addcmul_(t, slope, value=forth).add_(value, alpha=forth)
        above.mul_(-back).addcmul_(t, value, value=forth).add_(scaled[..., lower])
        value, above, slope, slope_above = above, value, slope_above, slope
    return value, slope


@lru_cache(maxsize=64)
def _quadrature(dim: int, degree: int) -> tuple[Tensor, Tensor]:
    """Cosines at nodes, and the matrix from values there to coefficients."""
    nodes, weights = _fejer(_NODES + degree)
    half = (nodes + 1.0) * (math.pi / 4.0)
    # the cosine of π - θ is that of θ but for its sign, and so is exact near π/2, too
    cosines = torch.cat((half.cos(), -half.cos()))
    density = (weights * half.sin() ** (dim - 2)).repeat(2)
    return cosines, legendre(cosines, dim, degree) * (density / density.sum())[:, None]


def _fejer(count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1]: cos φ_k, and 4 sin φ_k / (n + 1) sum_j sin((2j - 1) φ_k) / (2j - 1).

    They are known to rounding; those of Gauss by eigenvalues are off by 1e-14.
    """
    angles = torch.arange(1, count + 1, **CPU_DOUBLES) * (math.pi / (count + 1))
    odd = torch.arange(1, count + 2, 2, **CPU_DOUBLES)
    weights = 4.0 / (count + 1) * angles.sin() * (torch.sin(angles[:, None] * odd) / odd).sum(-1)
    return angles.cos(), weights


def _check(dim: int, degree: int) -> None:
    if dim < 2 or degree < 0:
        raise DataError(
            f"a sphere needs at least 2 dimensions and a degree >= 0, got dim={dim}, degree={degree}"
        )
