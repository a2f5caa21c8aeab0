"""Points as rows of numbers in [0, 1], and rows as points."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import SpaceError
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Float, Parameter


@dataclass(frozen=True, eq=False)
class Encoding:
    """The rows of a space: column i holds the position of parameter i in its range.

    Attributes:
        names: of the parameters, in order.
        columns: what each column encodes.
    """

    names: tuple[str, ...]
    columns: tuple[Parameter | Fixed, ...]

    def encode(self, points: Sequence[dict[str, Any]]) -> jt.Float64[Tensor, "n d"]:
        """Rows of points in canonical form."""
        columns = []
        for name, parameter in zip(self.names, self.columns, strict=True):
            values: list[Any] = [point[name] for point in points]
            if isinstance(parameter, Float):
                columns.append([parameter.encode(value) for value in values])
            else:  # each level once
                positions = {value: parameter.encode(value) for value in set(values)}
                columns.append([positions[value] for value in values])
        shape = len(self.names), len(points)
        return torch.tensor(columns, dtype=torch.float64, device="cpu").reshape(shape).T.contiguous()

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[dict[str, Any]]:
        """Points of rows."""
        values = rows.detach().cpu().tolist()
        pairs = list(zip(self.names, self.columns, strict=True))
        return [{name: p.decode(unit) for (name, p), unit in zip(pairs, row, strict=True)} for row in values]

    def project(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The nearest rows that points encode to: `encode(decode(rows))`, of any shape.

        A row halfway between two of them may move to the other one.
        """
        low, high, _ = (end.to(rows.device) for end in self._grid)
        unit = ((self._on_grid(rows.to(torch.float64)) - low) / (high - low)).clamp(0.0, 1.0)
        for column, parameter in enumerate(self.columns):
            if not isinstance(parameter, Float) or parameter.power is None:
                values = map(parameter.decode, rows[..., column].flatten().tolist())
                positions = [parameter.encode(value) for value in values]  # type: ignore[arg-type]
                unit[..., column] = unit.new_tensor(positions).reshape(rows.shape[:-1])
        return unit.to(rows)

    def values(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float64[Tensor, "*b d"]:
        """What the rows decode to, as numbers, of a space of Floats alone.

        Raises:
            SpaceError: a parameter of another type.
        """
        values = self._on_grid(rows.to(torch.float64))
        for column, (name, parameter) in enumerate(zip(self.names, self.columns, strict=True)):
            if not isinstance(parameter, Float) and not isinstance(parameter.decode(0.0), float):
                raise SpaceError(
                    f"only Floats have values that are real numbers, got {name!r}: {parameter!r}"
                )
            if not isinstance(parameter, Float) or parameter.power is None:
                decoded = [parameter.decode(one) for one in rows[..., column].flatten().tolist()]
                values[..., column] = values.new_tensor(decoded).reshape(rows.shape[:-1])
        return values

    def sample_from_unit(self, uniform: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows of uniform draws in [0, 1]^d: discrete columns move to levels, each with its own mass."""
        rows = uniform.clone()
        for column, parameter in enumerate(self.columns):
            if not isinstance(parameter, Float):
                draws = uniform[..., column].cpu().numpy()
                rows[..., column] = torch.from_numpy(parameter.position(parameter.quantile(draws))).to(rows)
        return rows

    def round_to_levels(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """Rows with each discrete column at its nearest level."""
        rounded = rows.clone()
        for column, parameter in enumerate(self.columns):
            if not isinstance(parameter, Float):
                units = rows[..., column].cpu().numpy()
                rounded[..., column] = torch.from_numpy(parameter.position(parameter.level(units))).to(rows)
        return rounded

    def nearest_levels(self, column: int, positions: jt.Float[Tensor, "*b"]) -> np.ndarray:
        """Levels of a discrete column that are nearest to positions."""
        parameter = self.columns[column]
        assert not isinstance(parameter, Float), "a continuous column has no levels"
        return parameter.level(positions.detach().cpu().numpy())

    def positions(self, column: int, levels: np.ndarray) -> jt.Float64[Tensor, "*n"]:
        """Positions of levels of a discrete column."""
        parameter = self.columns[column]
        assert not isinstance(parameter, Float), "a continuous column has no levels"
        return torch.from_numpy(parameter.position(np.asarray(levels, dtype=np.float64)))

    def _on_grid(self, rows: Tensor) -> Tensor:
        """Values of those columns that decode to multiples of a power of ten; of others, anything."""
        low, high, power = (end.to(rows.device) for end in self._grid)
        value = torch.round((low + rows * (high - low)) * power) / power
        value = torch.minimum(torch.maximum(value, low), high)
        return torch.where(rows <= 0.0, low, torch.where(rows >= 1.0, high, value))

    @cached_property
    def _grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ends of the range of each column and what makes its values integers; of some Floats alone."""
        grids = [
            (parameter.low, parameter.high, parameter.power)
            if isinstance(parameter, Float) and parameter.power is not None
            else (0.0, 1.0, 1.0)
            for parameter in self.columns
        ]
        low, high, power = torch.tensor(grids, dtype=torch.float64, device="cpu").unbind(-1)
        return low, high, power
