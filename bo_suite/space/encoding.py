"""The encoding of points as rows of numbers in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import Columns
from bo_suite.errors import SpaceError
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Float, Parameter


@dataclass(frozen=True, eq=False)
class Encoding:
    """Maps between points and rows: column i holds the position of parameter i in its range.

    Attributes:
        names: of the parameters, in order.
        columns: the parameter that each column encodes.
        kinds: of the columns; an inactive one is at 0.
    """

    names: tuple[str, ...]
    columns: tuple[Parameter | Fixed, ...]
    kinds: Columns

    def encode(self, points: Sequence[dict[str, Any]]) -> jt.Float64[Tensor, "n d"]:
        """Rows of points in canonical form."""
        columns = []
        for name, parameter in zip(self.names, self.columns, strict=True):
            if parameter.when is not None:
                columns.append([parameter.encode(point[name]) if name in point else 0.0 for point in points])
                continue
            values: list[Any] = [point[name] for point in points]
            if parameter.levels is None:
                columns.append([parameter.encode(value) for value in values])
            else:  # encodes each distinct value once
                positions = {value: parameter.encode(value) for value in set(values)}
                columns.append([positions[value] for value in values])
        shape = len(self.names), len(points)
        return torch.tensor(columns, dtype=torch.float64, device="cpu").reshape(shape).T.contiguous()

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[dict[str, Any]]:
        """Points of rows, which have the active parameters alone."""
        values = rows.detach().cpu().tolist()
        pairs = list(zip(self.names, self.columns, strict=True))
        points = [
            {name: p.decode(unit) for (name, p), unit in zip(pairs, row, strict=True)} for row in values
        ]
        return self.with_active(points, rows)

    def with_active(
        self, points: list[dict[str, Any]], rows: jt.Float[Tensor, "n d"]
    ) -> list[dict[str, Any]]:
        """The points with the parameters alone that are active in their rows."""
        if not self.kinds.conditions:
            return points
        active = self.kinds.active(self.project(rows.detach().to(torch.float64))).tolist()
        return [
            {name: value for (name, value), shown in zip(point.items(), present, strict=True) if shown}
            for point, present in zip(points, active, strict=True)
        ]

    def project(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The nearest rows that encode points: `encode(decode(rows))`, for rows of any shape.

        A row halfway between two of these may move to either.
        """
        low, high, _ = (bound.to(rows.device) for bound in self._grid)
        unit = ((self._on_grid(rows.to(torch.float64)) - low) / (high - low)).clamp(0.0, 1.0)
        for column, parameter in enumerate(self.columns):
            if not isinstance(parameter, Float) or parameter.power is None:
                different, which = rows[..., column].unique(return_inverse=True)  # each once: it is slow
                values = map(parameter.decode, different.tolist())
                positions = [parameter.encode(value) for value in values]  # type: ignore[arg-type]
                unit[..., column] = unit.new_tensor(positions)[which]
        return self.kinds.canonical(unit).to(rows)

    def values(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b d"]:
        """The decoded values as a tensor, for a space of Floats alone that are always active.

        Raises:
            SpaceError: a parameter is not a Float, or may be inactive.
        """
        if self.kinds.conditions:
            inactive = self.names[self.kinds.conditions[0].column]
            raise SpaceError(
                f"only a space without conditions has values as a tensor, got one of {inactive!r}"
            )
        values = self._on_grid(rows.to(torch.float64))
        for column, (name, parameter) in enumerate(zip(self.names, self.columns, strict=True)):
            if not isinstance(parameter, Float) and not isinstance(parameter.decode(0.0), float):
                raise SpaceError(
                    f"only a space of Floats has values as a tensor, got {name!r}: {parameter!r}"
                )
            if not isinstance(parameter, Float) or parameter.power is None:
                decoded = [parameter.decode(unit) for unit in rows[..., column].flatten().tolist()]
                values[..., column] = values.new_tensor(decoded).reshape(rows.shape[:-1])
        return values

    def sample_from_unit(self, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The rows that uniform draws in [0, 1]^d stand for; discrete columns move to levels by quantiles."""
        rows = uniform.clone()
        for column, parameter in enumerate(self.columns):
            if parameter.levels is not None:
                draws = uniform[..., column].cpu().numpy()
                rows[..., column] = torch.from_numpy(parameter.position(parameter.quantile(draws))).to(rows)
        return rows

    def round_to_levels(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The rows with each discrete column rounded to its nearest level."""
        rounded = rows.clone()
        for column, parameter in enumerate(self.columns):
            if parameter.levels is not None:
                units = rows[..., column].cpu().numpy()
                rounded[..., column] = torch.from_numpy(parameter.position(parameter.level(units))).to(rows)
        return rounded

    def nearest_levels(self, column: int, positions: jt.Float[Tensor, "*b"]) -> np.ndarray:
        """The levels of a discrete column nearest to positions."""
        parameter = self.columns[column]
        assert parameter.levels is not None, "a continuous column has no levels"
        return parameter.level(positions.detach().cpu().numpy())

    def positions(self, column: int, levels: np.ndarray) -> jt.Float64[Tensor, "*n"]:
        """Positions of the levels of a discrete column."""
        parameter = self.columns[column]
        assert parameter.levels is not None, "a continuous column has no levels"
        return torch.from_numpy(parameter.position(np.asarray(levels, dtype=np.float64)))

    def _on_grid(self, rows: Tensor) -> Tensor:
        """Values of the columns that decode to multiples of a power of ten; meaningless in other columns."""
        low, high, power = (bound.to(rows.device) for bound in self._grid)
        value = torch.round((low + rows * (high - low)) * power) / power
        value = torch.minimum(torch.maximum(value, low), high)
        return torch.where(rows <= 0.0, low, torch.where(rows >= 1.0, high, value))

    @cached_property
    def _grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Low, high and power of ten of each column; (0, 1, 1) for columns without a power."""
        grids = [
            (parameter.low, parameter.high, parameter.power)
            if isinstance(parameter, Float) and parameter.power is not None
            else (0.0, 1.0, 1.0)
            for parameter in self.columns
        ]
        low, high, power = torch.tensor(grids, dtype=torch.float64, device="cpu").unbind(-1)
        return low, high, power
