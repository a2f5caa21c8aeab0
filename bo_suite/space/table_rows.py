"""The candidates of a space as rows: the region of a space that has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.space.constraints import Constraints
from bo_suite.space.encoding import Encoding
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Parameter
from bo_suite.space.region import Region
from bo_suite.space.table import Table


def region_of(encoding: Encoding, constraints: Constraints) -> "Region | TableRows":
    """Where constraints are met: at candidates alone, if there are any."""
    if constraints.table is None:
        return Region(encoding, constraints)
    return TableRows(encoding, constraints.table)


@dataclass(frozen=True, eq=False)
class TableRows:
    """The rows of candidates that have the fixed values; the nearest of these stands for any other row.

    It has what a `Region` has, as far as that is used of a space with candidates.

    Attributes:
        encoding: of the rows.
        table: the candidates.
    """

    encoding: Encoding
    table: Table

    system: ClassVar[None] = None
    has_functions: ClassVar[bool] = False
    is_reached: ClassVar[bool] = True

    @property
    def samples(self) -> "TableRows":
        """Draws rows: these rows themselves."""
        return self

    @cached_property
    def listed(self) -> jt.Float64[Tensor, "p d"]:
        """All rows, in the order of the table."""
        return _rows(self.table, self.encoding.names, tuple(map(_original, self.encoding.columns)))[
            self._chosen
        ]

    @property
    def cardinality(self) -> int:
        """Number of rows."""
        return len(self.listed)

    def wanted(self, count: int) -> int:
        """Number of uniform draws that `count` samples need."""
        return count

    def draw(
        self, uniform: jt.Float[Tensor, "*b n d"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b {count} d"]:
        """Rows at even places of the table, for evenly spread draws of the first column."""
        index = (uniform[..., :count, 0] * len(self.listed)).long()
        return self.at(index.clamp(max=len(self.listed) - 1), uniform)

    def at(self, index: jt.Int64[Tensor, "*b m"], like: Tensor) -> jt.Float[Tensor, "*b m d"]:
        """Rows by index, with the dtype and on the device of a tensor."""
        return self.listed[index.cpu()].to(like)

    def nearest(self, rows: jt.Float[Tensor, "*b d"], count: int = 1) -> jt.Int64[Tensor, "*b {count}"]:
        """Indices of the nearest rows, in encoded columns; the nearest first."""
        points = rows.detach().cpu().double().reshape(-1, rows.shape[-1]).numpy()
        index = self._tree.query(points, k=np.arange(1, count + 1))[1]
        return torch.from_numpy(np.asarray(index, dtype=np.int64)).reshape(*rows.shape[:-1], count)

    def places(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Int64[Tensor, "*b"]:
        """The index of each row, -1 of others."""
        index = self.nearest(rows)[..., 0]
        same = (self.at(index, rows) == rows).all(-1).cpu()
        return torch.where(same, index, -1)

    def is_allowed(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b"]:
        """Which rows are those of candidates."""
        return (self.places(rows) >= 0).to(rows.device)

    def approached(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The nearest rows of candidates."""
        return self.at(self.nearest(rows)[..., 0], rows)

    exact = approached

    def settled(
        self, rows: jt.Float[Tensor, "*b d"], otherwise: jt.Float[Tensor, "*b d"], held: Sequence[int] = ()
    ) -> jt.Float[Tensor, "*b d"]:
        """The nearest rows of candidates, or others where a column that must not move would.

        Args:
            rows: in [0, 1]^d.
            otherwise: rows of candidates.
            held: columns that do not move.
        """
        near, columns = self.approached(rows), list(held)
        stays = (near[..., columns] == rows[..., columns]).all(-1, keepdim=True)
        return torch.where(stays, near, otherwise)

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[dict[str, Any]]:
        """Points of rows; of rows of candidates exactly as these were given."""
        points = self.encoding.decode(rows)
        columns, chosen = self.table.columns, self._chosen
        for number, place in enumerate(self.places(rows).tolist()):
            if place >= 0:
                points[number] = {name: columns[name][int(chosen[place])] for name in self.encoding.names}
        return points

    @cached_property
    def _chosen(self) -> jt.Int64[Tensor, " p"]:
        """Indices in the table of the candidates that have the fixed values."""
        chosen = np.ones(len(self.table), dtype=bool)
        for name, parameter in zip(self.encoding.names, self.encoding.columns, strict=True):
            if isinstance(parameter, Fixed):
                chosen &= np.array([value == parameter.value for value in self.table.columns[name]])
        return torch.from_numpy(np.flatnonzero(chosen))

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree  # takes a fifth of a second to import

        return cKDTree(self.listed.numpy(), balanced_tree=False)


def _original(parameter: Parameter | Fixed) -> Parameter:
    return parameter.parameter if isinstance(parameter, Fixed) else parameter


@lru_cache(maxsize=4)
def _rows(table: Table, names: tuple[str, ...], parameters: tuple[Parameter, ...]) -> Tensor:
    """The rows of a table; spaces with other fixed values share them."""
    columns = []
    for name, parameter in zip(names, parameters, strict=True):
        values = table.columns[name]
        positions = {value: parameter.encode(value) for value in set(values)}  # type: ignore[arg-type]
        columns.append([positions[value] for value in values])
    return torch.tensor(columns, dtype=torch.float64, device="cpu").T.contiguous()
