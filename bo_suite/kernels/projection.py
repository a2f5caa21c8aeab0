"""Rows as directions on a sphere and amplitudes, with the gradients by theta and by the rows."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

_INDICATOR = 1.0 / math.sqrt(12.0)
"""Coordinate of the level of a category: two levels are as far apart as typical values of a real column."""


@dataclass(frozen=True, eq=False)
class Projection:
    """Directions u = x' / |x'| and amplitudes a = s |x'|^p, where x' = (y, 1) with y = (x - 1/2) / l.

    Attributes:
        positions: y.
        inverse: 1 / l of each coordinate of y.
        length: |x'|.
        directions: u; the coordinate of the constant 1 is the last.
        offsets: u less the pole (0, ..., 0, 1), precise where the two are nearly equal.
        amplitude: a.
        layout: of the coordinates.
    """

    positions: jt.Float[Tensor, "*b n c"]
    inverse: jt.Float[Tensor, "*b 1 c"]
    length: jt.Float[Tensor, "*b n 1"]
    directions: jt.Float[Tensor, "*b n D"]
    offsets: jt.Float[Tensor, "*b n D"]
    amplitude: jt.Float[Tensor, "*b n"]
    layout: "_Layout"

    @staticmethod
    def of(
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b n d"],
        categories: tuple[tuple[int, int], ...],
        homogeneity: int,
    ) -> "Projection":
        """The rows x.

        Args:
            theta: (log l_1 ... log l_d, ..., log s²).
            x: rows.
            categories: unordered columns, with their numbers of levels.
            homogeneity: p.
        """
        layout = _Layout.of(x.shape[-1], theta.shape[-1], categories, homogeneity)
        inverse = torch.exp(-theta[..., None, layout.owners])
        positions = layout.coordinates(x) * inverse
        square = torch.linalg.vecdot(positions, positions)[..., None]
        length = (1.0 + square).sqrt()
        pole = 1.0 / length
        flat = positions * pole
        amplitude = torch.exp(0.5 * theta[..., -1:]) * length[..., 0] ** homogeneity
        directions = torch.cat((flat, pole), -1)
        offsets = torch.cat((flat, -square / (length * (1.0 + length))), -1)
        return Projection(positions, inverse, length, directions, offsets, amplitude, layout)

    def squares(self, other: "Projection") -> jt.Float[Tensor, "*b n m"]:
        """|u - v|² between these directions and others, in [0, 4]."""
        left, right = self.offsets, other.offsets
        norms = (
            torch.linalg.vecdot(left, left)[..., :, None] + torch.linalg.vecdot(right, right)[..., None, :]
        )
        squares: Tensor = norms.sub_(left @ right.mT, alpha=2.0).clamp_(0.0, 4.0)
        return squares

    def pull(
        self, by_directions: jt.Float[Tensor, "*b n D"], by_log_amplitude: jt.Float[Tensor, "*b n"]
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b n d"]]:
        """Gradients by theta and by the rows, 0 by unordered columns and by what is between l and s².

        Args:
            by_directions: gradient by u; its part along u has no influence.
            by_log_amplitude: gradient by a, times a.
        """
        along = torch.linalg.vecdot(by_directions, self.directions)[..., None]
        radial = self.layout.homogeneity * by_log_amplitude[..., None] - along
        by_positions = (by_directions[..., :-1] + radial * self.directions[..., :-1]) / self.length
        return self.layout.gathered(
            -(by_positions * self.positions).sum(-2),
            by_positions * self.inverse,
            0.5 * by_log_amplitude.sum(-1),
        )


@dataclass(frozen=True)
class _Layout:
    """Where columns are among the coordinates: the ordered ones in their order, then the categories.

    Attributes:
        ordered: columns that are coordinates.
        categories: columns of categories, with their numbers of levels.
        owners: the column of each coordinate.
        size: number of parameters.
        homogeneity: p.
    """

    ordered: list[int]
    categories: tuple[tuple[int, int], ...]
    owners: list[int]
    size: int
    homogeneity: int

    @staticmethod
    def of(dim: int, size: int, categories: tuple[tuple[int, int], ...], homogeneity: int) -> "_Layout":
        unordered = {column for column, _ in categories}
        ordered = [column for column in range(dim) if column not in unordered]
        owners = [*ordered, *(column for column, levels in categories for _ in range(levels))]
        return _Layout(ordered, categories, owners, size, homogeneity)

    def coordinates(self, x: Tensor) -> Tensor:
        """Ordered columns less ½, and an indicator of the level of each category."""
        if not self.categories:
            return x - 0.5
        blocks = [x[..., self.ordered] - 0.5]
        for column, levels in self.categories:
            level = (x[..., column, None].detach() * max(levels - 1, 1)).round()
            blocks.append((level == torch.arange(levels, device=x.device)).to(x) * _INDICATOR)
        return torch.cat(blocks, -1)

    def gathered(
        self, by_log_l: Tensor, by_coordinates: Tensor, by_log_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients by theta and by the columns."""
        dim = len(self.ordered) + len(self.categories)
        by_theta = by_log_l.new_zeros(*by_log_l.shape[:-1], self.size)
        by_theta[..., -1] = by_log_scale
        if not self.categories:
            by_theta[..., :dim] = by_log_l
            return by_theta, by_coordinates
        by_theta.index_add_(-1, torch.tensor(self.owners, device=by_theta.device), by_log_l)
        by_x = by_coordinates.new_zeros(*by_coordinates.shape[:-1], dim)
        by_x[..., self.ordered] = by_coordinates[..., : len(self.ordered)]
        return by_theta, by_x
