"""Real spherical harmonics in any dimension, with their gradient."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import DataError
from bo_suite.kernels.sphere import harmonics_count

_BLOCK = 2**20
"""Numbers that are computed at once, so that they stay in the cache of a processor."""


def harmonics(
    directions: jt.Float[Tensor, "*b n D"], degrees: int | tuple[int, ...], orders: int | None = None
) -> jt.Float[Tensor, "*b n M"]:
    """Real harmonics Y_lm of directions, degree by degree, orthonormal under the uniform probability measure.

    sum_m Y_lm(x) Y_lm(z) = Z_l(xᵀ z), as in `bo_suite.kernels.sphere`. They are polynomials that are built up
    from one dimension to the next: on R² they are the real and the imaginary part of √2 (x_1 + i x_2)^l, and
    on R^k, with ρ² = x_1² + ... + x_k²,

    H_lji(x_1 ... x_k) = c_kj ρ^(l-j) p_(l-j)(x_k / ρ) H_ji(x_1 ... x_(k-1)) for j = l ... 0,

    where p are the orthonormal Gegenbauer polynomials of order (k - 2) / 2 + j, and
    c_kj² = Γ((k-1)/2) Γ(k/2 + j) / (Γ(k/2) Γ((k-1)/2 + j)) (Vilenkin 1968, chapter IX). The last axis is the
    pole. For j = l a harmonic is that of R^(k-1) but for a constant, so each takes one product a row.

    Differentiable once by autograd; the part of the gradient along a direction has no meaning.

    Args:
        directions: unit vectors.
        degrees: the largest degree, or the degrees themselves, in the order of the result.
        orders: if given, of the largest degree only the harmonics with j up to this one: those that hardly
            vanish near the pole. For D = 2 there are no orders, and it is ignored.

    Raises:
        DataError: D < 2, no degrees, or a negative one.
    """
    chosen = tuple(range(degrees + 1)) if isinstance(degrees, int) else degrees
    dim = directions.shape[-1]
    if dim < 2 or not chosen or min(chosen) < 0:
        raise DataError(f"harmonics need D >= 2 and degrees >= 0, got D={dim} and degrees {degrees}")
    largest = _orders(dim, chosen, orders)
    values: Tensor = _Harmonics.apply(directions, chosen, largest)  # type: ignore[no-untyped-call]
    return values


def harmonics_up_to(dim: int, degree: int, orders: int) -> int:
    """Number of the harmonics of one degree with j up to `orders`; all of them for D = 2.

    Args:
        dim: D.
        degree: l.
        orders: largest j.
    """
    if dim == 2 or orders >= degree:
        return harmonics_count(dim, degree)
    return sum(harmonics_count(dim - 1, order) for order in range(orders + 1))


class _Harmonics(torch.autograd.Function):
    """`harmonics`, some rows at a time; a gradient computes them again."""

    @staticmethod
    def forward(ctx: Any, directions: Tensor, degrees: tuple[int, ...], orders: int) -> Tensor:
        ctx.save_for_backward(directions)
        ctx.degrees, ctx.orders = degrees, orders
        rows = directions.reshape(-1, directions.shape[-1])
        scales = torch.cat(_scales(rows.shape[-1], degrees, orders)).to(rows)[:, None]
        values = rows.new_empty(len(scales), len(rows))
        for block in _blocks(rows, len(scales)):
            made = _Rows.of(rows[block], degrees, orders)
            torch.mul(torch.cat([made.values[degree] for degree in degrees]), scales, out=values[:, block])
        return values.view(len(scales), *directions.shape[:-1]).movedim(0, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (directions,) = ctx.saved_tensors
        return harmonics_gradient(directions, gradients[0], ctx.degrees, ctx.orders), None, None


def harmonics_gradient(
    directions: jt.Float[Tensor, "*b n D"],
    weights: jt.Float[Tensor, "*b n M"],
    degrees: tuple[int, ...],
    orders: int,
) -> jt.Float[Tensor, "*b n D"]:
    """d sum(weights * `harmonics`) / d directions; its part along a direction has no meaning."""
    rows = directions.reshape(-1, directions.shape[-1])
    orders = _orders(rows.shape[-1], degrees, orders)
    scales = [each.to(rows)[:, None] for each in _scales(rows.shape[-1], degrees, orders)]
    by_values = weights.movedim(-1, 0).reshape(-1, len(rows))
    by_rows = torch.empty_like(rows)
    for block in _blocks(rows, len(by_values)):
        parts = by_values[:, block].split([len(each) for each in scales])
        scaled = [part * scale for part, scale in zip(parts, scales, strict=True)]
        by_rows[block] = _Rows.of(rows[block], degrees, orders).pull(scaled).mT
    return by_rows.view(directions.shape)


def _orders(dim: int, degrees: tuple[int, ...], orders: int | None) -> int:
    """The largest j of the largest degree."""
    largest = max(degrees)
    return largest if orders is None or dim == 2 else min(orders, largest)


def _raised(degrees: tuple[int, ...], orders: int) -> int:
    """Number of degrees whose harmonics of R² and on are needed: those below L, and those of its orders."""
    return max(orders, *(degree for degree in degrees if degree < max(degrees)), 0) + 1


def _blocks(rows: Tensor, count: int) -> Iterator[slice]:
    size = max(_BLOCK // count, 1)
    return (slice(first, first + size) for first in range(0, len(rows), size))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Harmonics of rows but for their constants.

    Those of R^k are the first among those of R^(k+1) of the same degree.

    Attributes:
        coordinates: x, (D, n).
        degrees: those that are returned.
        orders: largest j of the largest degree L.
        squares: ρ² of k = 3 ... D, which is 1 for D.
        polynomials: ρ^q p_q(x_k / ρ) of k = 3 ... D, each a list over q of (j, n) for j = 0 ... L - q.
        values: of degrees 0 ... L, (harmonics, n).
    """

    coordinates: Tensor
    degrees: tuple[int, ...]
    orders: int
    squares: list[Tensor]
    polynomials: list[list[Tensor]]
    values: list[Tensor]

    @staticmethod
    def of(rows: Tensor, degrees: tuple[int, ...], orders: int) -> "_Rows":
        coordinates = rows.mT.contiguous()
        dim, largest = len(coordinates), max(degrees)
        sums = coordinates.square().cumsum(0)
        squares = [torch.ones_like(sums[k - 1]) if k == dim else sums[k - 1] for k in range(3, dim + 1)]
        polynomials = [
            _polynomials(coordinates[k - 1], square, k, largest) for k, square in enumerate(squares, 3)
        ]
        counts = [harmonics_count(max(dim - 1, 2), degree) for degree in range(_raised(degrees, orders))]
        counts += [0] * (largest + 1 - len(counts))
        for degree in degrees:
            counts[degree] = harmonics_up_to(dim, degree, orders if degree == largest else degree)
        values = [rows.new_empty(count, len(rows)) for count in counts]
        made = _Rows(coordinates, degrees, orders, squares, polynomials, values)
        made._fill()
        return made

    def _fill(self) -> None:
        first, second = self.coordinates[:2]
        real, imaginary = torch.ones_like(first), torch.zeros_like(first)
        self.values[0][0] = 1.0
        for block in self.values[1 : _raised(self.degrees, self.orders)]:
            real, imaginary = first * real - second * imaginary, first * imaginary + second * real
            block[0], block[1] = real, imaginary
        for polynomials, products in zip(self.polynomials, self._products(), strict=True):
            for upper, lower, begin, count in products:
                torch.mul(
                    self.values[lower][:count],
                    polynomials[upper - lower][lower],
                    out=self.values[upper][begin : begin + count],
                )

    def pull(self, by_chosen: list[Tensor]) -> Tensor:
        """Gradient by the coordinates (D, n), given those by the values of the degrees that are returned."""
        by_values = [torch.zeros_like(each) for each in self.values]
        for degree, gradient in zip(self.degrees, by_chosen, strict=True):
            by_values[degree] += gradient
        by_coordinates, by_square = torch.zeros_like(self.coordinates), torch.zeros_like(self.coordinates[0])
        dim = len(self.coordinates)
        for k, products in zip(range(dim, 2, -1), reversed([*self._products()]), strict=True):
            polynomials, square = self.polynomials[k - 3], self.squares[k - 3]
            by_polynomials = [torch.zeros_like(each) for each in polynomials]
            for upper, lower, begin, count in products:
                gradient = by_values[upper][begin : begin + count]
                by_polynomials[upper - lower][lower] = (gradient * self.values[lower][:count]).sum(0)
                by_values[lower][:count].addcmul_(gradient, polynomials[upper - lower][lower])
            x = self.coordinates[k - 1]
            by_x, by_own = _pull_polynomials(by_polynomials, polynomials, x, square, k)
            if k < dim:
                by_square += by_own
            by_coordinates[k - 1] = by_x + 2.0 * x * by_square
        return self._pull_circle(by_coordinates, by_values, by_square)

    def _pull_circle(self, by_coordinates: Tensor, by_values: list[Tensor], by_square: Tensor) -> Tensor:
        by_coordinates[:2] = 2.0 * self.coordinates[:2] * by_square
        for degree in range(1, _raised(self.degrees, self.orders)):
            by_real, by_imaginary = degree * by_values[degree][:2]
            real = self.values[degree - 1][0]
            by_coordinates[0] += by_real * real
            by_coordinates[1] += by_imaginary * real
            if degree > 1:
                imaginary = self.values[degree - 1][1]
                by_coordinates[0] += by_imaginary * imaginary
                by_coordinates[1] -= by_real * imaginary
        return by_coordinates

    def _products(self) -> Iterator[list[tuple[int, int, int, int]]]:
        dim, below = len(self.coordinates), tuple(range(_raised(self.degrees, self.orders)))
        yield from (_products(k, below, len(below)) for k in range(3, dim))
        if dim > 2:
            yield _products(dim, self.degrees, self.orders)


def _products(dim: int, degrees: tuple[int, ...], orders: int) -> list[tuple[int, int, int, int]]:
    """For harmonics of R^k that are not those of R^(k-1): l, j < l, the first of them, and their number."""
    products, largest = [], max(degrees)
    for upper in dict.fromkeys(degrees):
        cut = upper == largest and orders < upper
        begin = 0 if cut else harmonics_count(dim - 1, upper)
        for lower in range(orders if cut else upper - 1, -1, -1):
            count = harmonics_count(dim - 1, lower)
            products.append((upper, lower, begin, count))
            begin += count
    return products


def _polynomials(x: Tensor, square: Tensor, dim: int, largest: int) -> list[Tensor]:
    """ρ^q p_q(x_k / ρ) for j = 0 ... L - q, by β_(q+1) p_(q+1) = t p_q - β_q p_(q-1), with p_0 = 1."""
    betas = _betas(dim, largest)
    values = [torch.ones_like(x).expand(largest + 1, -1)]
    for q in range(largest):
        beta = betas[: largest - q, :, q : q + 2].to(x)
        following = x * values[-1][:-1]
        if q:
            following.addcmul_(square * values[-2][:-2], beta[..., 0], value=-1.0)
        values.append(following.div_(beta[..., 1]))
    return values


def _pull_polynomials(
    by_values: list[Tensor], values: list[Tensor], x: Tensor, square: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """Gradients by x_k and by ρ², given those by `_polynomials`, which are overwritten."""
    largest = len(values) - 1
    betas = _betas(dim, largest)
    by_x, by_square = torch.zeros_like(x), torch.zeros_like(x)
    for q in range(largest - 1, -1, -1):
        beta = betas[: largest - q, :, q : q + 2].to(x)
        gradient = by_values[q + 1] / beta[..., 1]
        by_x += (gradient * values[q][:-1]).sum(0)
        by_values[q][:-1].addcmul_(gradient, x)
        if q:
            gradient = gradient * beta[..., 0]
            by_square -= (gradient * values[q - 1][:-2]).sum(0)
            by_values[q - 1][:-2].addcmul_(gradient, square, value=-1.0)
    return by_x, by_square


@lru_cache(maxsize=256)
def _betas(dim: int, largest: int) -> Tensor:
    """β_q as (j, 1, q): β_q² = q (q + 2α - 1) / (4 (q + α) (q + α - 1)), of order α = (k - 2) / 2 + j."""
    order = 0.5 * (dim - 2) + torch.arange(largest + 1, **CPU_DOUBLES)[:, None, None]
    q = torch.arange(1, largest + 1, **CPU_DOUBLES)
    betas = (q * (q + 2.0 * order - 1.0) / (4.0 * (q + order) * (q + order - 1.0))).sqrt()
    return torch.nn.functional.pad(betas, (1, 0))


@lru_cache(maxsize=64)
def _scales(dim: int, degrees: tuple[int, ...], orders: int) -> list[Tensor]:
    """The constants of the harmonics of each degree."""
    root = math.sqrt(2.0)
    scales = [[1.0] if degree == 0 else [root, root] for degree in range(max(degrees) + 1)]
    for k in range(3, dim + 1):
        constants = [
            math.exp(
                0.5
                * (
                    math.lgamma(0.5 * (k - 1))
                    + math.lgamma(0.5 * k + j)
                    - math.lgamma(0.5 * k)
                    - math.lgamma(0.5 * (k - 1) + j)
                )
            )
            for j in range(len(scales))
        ]
        scaled = [[c * each for each in block] for c, block in zip(constants, scales, strict=True)]
        for upper in range(_raised(degrees, orders)) if k < dim else degrees:
            most = min(orders, upper) if k == dim and upper == max(degrees) else upper
            scales[upper] = [each for lower in range(most, -1, -1) for each in scaled[lower]]
    return [torch.tensor(scales[degree], **CPU_DOUBLES) for degree in degrees]
