"""The comparisons of a space as functions of encoded rows, and the nearest rows that meet them."""

import math
from dataclasses import dataclass
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.space.comparison import TOLERANCE, Comparison, number_of_column
from bo_suite.space.encoding import Encoding
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Parameter

_ROUNDS = 60
"""Most Newton steps towards rows that meet all comparisons; few need more than ten."""

_CLOSE = 1e-13
"""Violation from which rows are not moved any more."""


@dataclass(frozen=True, eq=False)
class System:
    """Comparisons of encoded rows: residuals that must be at most 0, or 0 for equalities.

    A residual is Σ a φ(x) - b relative to the scale of its comparison, where φ is the value or its logarithm
    at a position x. All φ are affine in x but values on a log scale, which are exponential. So equalities and
    inequalities are planes and half-spaces, except where a sum has a parameter on a log scale.

    Attributes:
        encoding: of the rows.
        comparisons: at least one.
    """

    encoding: Encoding
    comparisons: tuple[Comparison, ...]

    @cached_property
    def equalities(self) -> jt.Bool[Tensor, " k"]:
        """Which comparisons are equalities."""
        return torch.tensor([one.equality for one in self.comparisons], device="cpu")

    @cached_property
    def curved(self) -> jt.Bool[Tensor, " k"]:
        """Which comparisons are not affine in the rows."""
        return (self._exponential != 0.0).any(-1)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Columns that are in a comparison and have more than one value."""
        moving = (self._affine != 0.0).any(0) | (self._exponential * self._log_widths != 0.0).any(0)
        levels = [parameter.levels != 1 for parameter in self.encoding.columns]
        return tuple(column for column, varies in enumerate(levels) if varies and bool(moving[column]))

    @cached_property
    def continuous(self) -> jt.Bool[Tensor, " d"]:
        """Which columns are continuous."""
        return torch.tensor([parameter.levels is None for parameter in self.encoding.columns], device="cpu")

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Columns with steps that are in a comparison."""
        return tuple(column for column in self.columns if not bool(self.continuous[column]))

    def affine(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Normals and bounds of the chosen comparisons, which are affine: normals x <= bounds."""
        return self._affine[chosen], -self._constant[chosen]

    def residuals(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b k"]:
        """The residual of each comparison."""
        x = rows.to(torch.float64)
        total = x @ self._affine.to(x).mT + self._constant.to(x)
        return total + self._exponents(x) @ self._exponential.to(x).mT if bool(self.curved.any()) else total

    def slopes(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b k d"]:
        """The gradient of each residual."""
        x = rows.to(torch.float64)
        affine = self._affine.to(x).expand(*x.shape[:-1], *self._affine.shape)
        if not bool(self.curved.any()):
            return affine
        inner = self._exponents(x) * self._log_widths.to(x)
        return affine + self._exponential.to(x) * inner[..., None, :]

    def violation(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b k"]:
        """By how much rows violate each comparison, relative to its scale."""
        residuals = self.residuals(rows)
        return torch.where(self.equalities.to(rows.device), residuals.abs(), residuals.clamp(min=0.0))

    def is_met(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b"]:
        """Which rows meet all comparisons up to rounding."""
        tolerance = max(TOLERANCE, 16.0 * torch.finfo(rows.dtype).eps)
        return (self.violation(rows) <= tolerance).all(-1)

    def absorbed(
        self, rows: jt.Float64[Tensor, "n d"], movable: jt.Bool[Tensor, " d"]
    ) -> jt.Float64[Tensor, "n d"]:
        """Nearby rows that meet the comparisons, where only some columns move; not all rows may get there.

        Each step is the shortest one to all planes of equalities and of violated inequalities, without
        columns that are at a bound and would leave it.

        Args:
            rows: in [0, 1]^d.
            movable: columns that may move.
        """
        result = rows.clone()
        open_rows = torch.arange(len(rows), device=rows.device)
        equal = self.equalities.to(rows.device)
        free = movable.to(rows)
        for _ in range(_ROUNDS):
            x = result[open_rows]
            residuals = self.residuals(x)
            excess = torch.where(equal, residuals, residuals.clamp(min=0.0))
            moving = (excess.abs() > _CLOSE).any(-1)
            if not bool(moving.any()):
                break
            x, excess, open_rows = x[moving], excess[moving], open_rows[moving]
            slopes = self.slopes(x) * free * ((excess != 0.0) | equal)[..., None]
            step = _shortest(slopes, excess)
            leaving = ((x <= 0.0) & (step < 0.0)) | ((x >= 1.0) & (step > 0.0))
            step = _shortest(slopes * ~leaving[:, None], excess)
            result[open_rows] = (x + step).clamp(0.0, 1.0)
        return result

    def _exponents(self, x: Tensor) -> Tensor:
        """Values of the columns on a log scale."""
        return (self._log_lows.to(x) + x * self._log_widths.to(x)).exp()

    @cached_property
    def _scales(self) -> Tensor:
        """Low and width of each column, on a linear scale and in logarithms; a row each."""
        scales = [_scale(parameter) for parameter in self.encoding.columns]
        return torch.tensor(scales, **CPU_DOUBLES).T

    @cached_property
    def _log_lows(self) -> Tensor:
        return self._scales[2]

    @cached_property
    def _log_widths(self) -> Tensor:
        return self._scales[3]

    @cached_property
    def _on_log_scale(self) -> list[bool]:
        numbers = map(number_of_column, self.encoding.columns)
        return [not isinstance(number, Choice) and number.log for number in numbers]

    @cached_property
    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients of positions, constants, and coefficients of values on a log scale."""
        d = len(self.encoding.names)
        affine, exponential = torch.zeros(2, len(self.comparisons), d, **CPU_DOUBLES)
        constant = torch.tensor([-one.bound for one in self.comparisons], **CPU_DOUBLES)
        index = {name: column for column, name in enumerate(self.encoding.names)}
        lows, widths, log_lows, log_widths = self._scales
        for row, one in enumerate(self.comparisons):
            for name, coefficient in one.coefficients:
                column = index[name]
                if one.log:
                    affine[row, column] = coefficient * log_widths[column]
                    constant[row] += coefficient * log_lows[column]
                elif self._on_log_scale[column]:
                    exponential[row, column] = coefficient
                else:
                    affine[row, column] = coefficient * widths[column]
                    constant[row] += coefficient * lows[column]
        scale = torch.tensor([one.scale for one in self.comparisons], **CPU_DOUBLES)
        return affine / scale[:, None], constant / scale, exponential / scale[:, None]

    @property
    def _affine(self) -> Tensor:
        return self._coefficients[0]

    @property
    def _constant(self) -> Tensor:
        return self._coefficients[1]

    @property
    def _exponential(self) -> Tensor:
        return self._coefficients[2]


def _shortest(slopes: Tensor, excess: Tensor) -> Tensor:
    """The shortest steps s with slopes s = -excess, as far as there are such."""
    gram = slopes @ slopes.mT
    size = gram.diagonal(dim1=-2, dim2=-1).amax(-1).clamp(min=1e-30)
    gram = gram + 1e-12 * size[..., None, None] * torch.eye(
        gram.shape[-1], dtype=gram.dtype, device=gram.device
    )
    multipliers = torch.linalg.solve(gram, -excess[..., None])
    step: Tensor = (slopes.mT @ multipliers)[..., 0]
    return step


def _scale(parameter: Parameter | Fixed) -> tuple[float, float, float, float]:
    """Low and width of a column, and those of its logarithm; 0 if it has none."""
    number = number_of_column(parameter)
    if isinstance(number, Choice):  # of one number: a Float with low == high
        value = number.options[0]
        if len(number.options) > 1 or isinstance(value, bool) or not isinstance(value, int | float):
            return 0.0, 0.0, 0.0, 0.0
        return float(value), 0.0, math.log(value) if value > 0 else 0.0, 0.0
    low, high = float(number.low), float(number.high)
    if not number.log:
        return low, high - low, 0.0, 0.0
    return low, high - low, math.log(low), math.log(high) - math.log(low)
