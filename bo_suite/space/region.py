"""Where the constraints of a space are met, in encoded rows: judged, approached and listed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import SpaceError
from bo_suite.space.constraints import Constraints
from bo_suite.space.encoding import Encoding
from bo_suite.space.polytope import Polytope
from bo_suite.space.representable import to_representable
from bo_suite.space.step_moves import with_moved_steps
from bo_suite.space.system import System

if TYPE_CHECKING:
    from bo_suite.space.region_samples import RegionSamples

_LISTED, _TABLED = 100_000, 2**15
"""Most combinations of levels that are all tested, and whose answers by functions are stored."""


@dataclass(frozen=True, eq=False)
class Region:
    """The rows that meet the constraints of a space.

    Attributes:
        encoding: of the rows.
        constraints: at least one.
    """

    encoding: Encoding
    constraints: Constraints

    @cached_property
    def system(self) -> System | None:
        """The comparisons; None if the constraints are functions alone."""
        inner = self.constraints.inner
        return System(self.encoding, inner) if inner else None

    @cached_property
    def continuous(self) -> jt.Bool[Tensor, " d"]:
        """Which columns are continuous."""
        return torch.tensor([one.levels is None for one in self.encoding.columns], device="cpu")

    @property
    def has_functions(self) -> bool:
        """Whether a constraint is a function of a point."""
        return bool(self.constraints.predicates)

    @cached_property
    def polytope(self) -> Polytope:
        """The rows that meet the affine comparisons, between the levels of columns too.

        Raises:
            SpaceError: there is none.
        """
        d = len(self.encoding.names)
        normals, bounds = torch.zeros(0, d, **CPU_DOUBLES), torch.zeros(0, **CPU_DOUBLES)
        equal, values = self._single_positions
        if self.system is not None:
            straight, equalities = ~self.system.curved, self.system.equalities
            normals, bounds = self.system.affine(straight & ~equalities)
            more = self.system.affine(straight & equalities)
            equal, values = torch.cat((equal, more[0])), torch.cat((values, more[1]))
        found = Polytope.of(normals, bounds, equal, values)
        if found is None:
            raise self.empty("in a linear programme")
        return found

    @cached_property
    def samples(self) -> "RegionSamples":
        """Draws rows from the region."""
        from bo_suite.space.region_samples import RegionSamples  # which needs this module

        return RegionSamples(self)

    def is_allowed(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b"]:
        """Which rows, with discrete columns at levels, meet all constraints.

        Raises:
            SpaceError: a constraint function fails, or has to be given again.
        """
        if not self.has_functions:
            return self._meets_comparisons(rows)
        if self._table is None:
            return self._is_allowed_by_functions(rows)
        levels = [
            self.encoding.nearest_levels(column, rows[..., column]).astype(np.int64)
            for column in range(rows.shape[-1])
        ]
        return self._table.to(rows.device)[tuple(torch.from_numpy(one) for one in levels)]

    def settled(
        self,
        rows: jt.Float[Tensor, "*b d"],
        otherwise: jt.Float[Tensor, "*b d"],
        held: Sequence[int] = (),
    ) -> jt.Float[Tensor, "*b d"]:
        """Rows near the given ones that meet the constraints; those that have none nearby are replaced.

        Args:
            rows: in [0, 1]^d.
            otherwise: rows that meet the constraints.
            held: columns that do not move.
        """
        moved = self.approached(rows, held)
        return torch.where(self.is_allowed(moved)[..., None], moved, otherwise)

    def approached(
        self, rows: jt.Float[Tensor, "*b d"], held: Sequence[int] = ()
    ) -> jt.Float[Tensor, "*b d"]:
        """Rows near the given ones, of which most meet the comparisons; inactive columns are at 0.

        Columns with steps exchange steps, then continuous columns move.

        Args:
            rows: in [0, 1]^d.
            held: columns that do not move.
        """
        canonical = self.encoding.kinds.canonical
        rows = canonical(self.encoding.round_to_levels(rows))
        if self.system is None:
            return rows
        flat = rows.reshape(-1, rows.shape[-1]).to(torch.float64)
        wrong = (~self.system.is_met(flat)).nonzero()[:, 0]
        if len(wrong):
            movable = torch.ones_like(self.continuous)
            movable[list(held)] = False
            moved = with_moved_steps(self.system, flat[wrong], movable)
            flat = flat.index_copy(0, wrong, self.system.absorbed(moved, movable & self.continuous))
        return canonical(flat.reshape(rows.shape).to(rows))

    def along_equalities(
        self, rows: jt.Float[Tensor, "*b d"], held: Sequence[int]
    ) -> jt.Float[Tensor, "*b d"]:
        """The rows, where an equality is broken moved to where it holds, if there is such a row nearby.

        Args:
            rows: in [0, 1]^d.
            held: columns that do not move.
        """
        if self.system is None or not bool(self.system.equalities.any()):
            return rows
        equalities = tuple(one for one in self.system.comparisons if one.equality)
        met = System(self.encoding, equalities).is_met(rows)
        return torch.where(met[..., None], rows, self.approached(rows, held))

    def towards(
        self, rows: jt.Float[Tensor, "*b d"], allowed: jt.Float[Tensor, "*b d"], halvings: int
    ) -> jt.Float[Tensor, "*b d"]:
        """Allowed rows on the way from allowed rows to given ones, found by bisection.

        Args:
            rows: where to go.
            allowed: where to begin.
            halvings: of the way.
        """
        flat, start = rows.reshape(-1, rows.shape[-1]), allowed.reshape(-1, rows.shape[-1])
        refused = (~self.is_allowed(flat)).nonzero()[:, 0]
        if not len(refused):
            return rows
        begin, way = start[refused], flat[refused] - start[refused]
        low, high = torch.zeros_like(way[:, :1]), torch.ones_like(way[:, :1])
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            inside = self.is_allowed(self.approached(begin + middle * way))[:, None]
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
        ends = self.settled(begin + low * way, begin)
        return flat.index_copy(0, refused, ends).reshape(rows.shape)

    def decode(self, rows: jt.Float[Tensor, "n d"]) -> list[dict[str, Any]]:
        """Points of rows."""
        return self.encoding.decode(rows)

    def exact(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The nearest rows that encode points, where rounding has broken no comparison."""
        if self.system is None:
            return self.encoding.project(rows)
        return self.encoding.kinds.canonical(to_representable(self.system, rows, self.polytope.centre))

    @cached_property
    def listed(self) -> jt.Float64[Tensor, "p d"] | None:
        """All allowed rows; None if a column moves continuously, or there are too many to test.

        None too if a constraint function has to be given again.
        """
        if math.prod(self._levels) > _LISTED or self.constraints.missing or bool(self._free.any()):
            return None
        rows = self._combinations
        if bool(self.continuous.any()) and self.system is not None:
            rows = self.exact(self.system.absorbed(rows, self.continuous))
        if self.encoding.kinds.conditions:
            rows = torch.unique(self.encoding.kinds.canonical(rows), dim=0)
        return rows[self.is_allowed(rows)]

    @property
    def cardinality(self) -> int | None:
        """Number of allowed points, or a bound of it; None if a column moves continuously."""
        if bool(self._free.any()):
            return None
        return math.prod(self._levels) if self.listed is None else len(self.listed)

    def empty(self, where: str) -> SpaceError:
        """The error for constraints that no point meets, with how that was found."""
        return SpaceError(
            f"a point that meets the constraints must exist, got none {where} for {self.constraints!r}"
        )

    @property
    def _levels(self) -> list[int]:
        return [parameter.levels or 1 for parameter in self.encoding.columns]

    @cached_property
    def _combinations(self) -> Tensor:
        """All combinations of levels, with continuous columns at the middle of the polytope."""
        values = [
            self.polytope.centre[column : column + 1]
            if parameter.levels is None
            else self.encoding.positions(column, np.arange(parameter.levels))
            for column, parameter in enumerate(self.encoding.columns)
        ]
        return torch.cartesian_prod(*values).reshape(-1, len(values))

    @cached_property
    def _table(self) -> Tensor | None:
        """The answer for each combination of levels, whose functions are called once."""
        if bool(self.continuous.any()) or math.prod(self._levels) > _TABLED:
            return None
        return self._is_allowed_by_functions(self._combinations).reshape(self._levels)

    @property
    def _single_positions(self) -> tuple[Tensor, Tensor]:
        """Equalities of the columns that have a single position."""
        single = [column for column, parameter in enumerate(self.encoding.columns) if parameter.levels == 1]
        positions = [float(self.encoding.positions(column, np.zeros(1))[0]) for column in single]
        return torch.eye(len(self._levels), **CPU_DOUBLES)[single], torch.tensor(positions, **CPU_DOUBLES)

    @cached_property
    def _free(self) -> Tensor:
        """Which columns move continuously while all columns with levels are held."""
        basis = self.polytope.basis
        held = basis[~self.continuous]
        if held.shape[0] and basis.shape[1]:
            sizes, kernel = torch.linalg.svd(held, full_matrices=True)[1:]
            basis = basis @ kernel[int((sizes > 1e-9).sum()) :].mT
        return self.continuous & (basis.abs() > 1e-9).any(-1)

    def _meets_comparisons(self, rows: Tensor) -> Tensor:
        if self.system is None:
            return torch.ones(rows.shape[:-1], dtype=torch.bool, device=rows.device)
        return self.system.is_met(rows)

    def _is_allowed_by_functions(self, rows: Tensor) -> Tensor:
        """Which rows meet the comparisons and the functions, which are called for each that meets those."""
        if missing := self.constraints.missing:
            raise SpaceError(
                "the constraint functions of a stored space must be given again, as in "
                f"Optimizer.resume(path, functions=[{missing[0]}]), got none for {list(missing)}"
            )
        allowed = self._meets_comparisons(rows).flatten()
        left = allowed.nonzero()[:, 0]
        points = self._points(rows.reshape(-1, rows.shape[-1])[left])
        outside, functions = self.constraints.outside, self.constraints.predicates
        met = [all(one.is_met({**outside, **point}) for one in functions) for point in points]
        allowed[left] = torch.tensor(met, dtype=torch.bool, device=rows.device)
        return allowed.reshape(rows.shape[:-1])

    def _points(self, rows: Tensor) -> list[dict[str, Any]]:
        """The points of many rows, with the active parameters alone; each level is decoded once."""
        values: list[list[Any]] = []
        for parameter, units in zip(self.encoding.columns, rows.detach().cpu().T.tolist(), strict=True):
            if parameter.levels is None:
                values.append([parameter.decode(unit) for unit in units])
            else:
                decoded = {unit: parameter.decode(unit) for unit in set(units)}
                values.append([decoded[unit] for unit in units])
        points = [dict(zip(self.encoding.names, one, strict=True)) for one in zip(*values, strict=True)]
        return self.encoding.with_active(points, rows)
