"""Kinds of the columns of encoded rows, and when a column is active."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data.doubles import CPU_DOUBLES

Parent = tuple[int, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Condition:
    """When a column is active: all its parents are, and each has a position in one of its intervals.

    Attributes:
        column: the column.
        parents: columns, each with closed intervals of positions; a single position is an interval too.
    """

    column: int
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Columns:
    """What kinds of columns rows have; by default all are continuous and always active.

    Attributes:
        unordered: columns of categories, whose codes are only equal or different.
        levels: number of values of each column, None for a continuous one; () if all are continuous.
        fidelities: columns of fidelities; 1 is the target.
        fixed: columns that are fixed in the next row, each with its position.
        between: columns with evenly spaced levels between which observed rows may lie: options were retired.
        narrowed: whether observed rows may lie outside of the space, which was larger before.
        conditions: of columns that are not always active, parents first; an inactive column is at 0.
        region: moves rows to where the constraints of the space are met, mostly; None without constraints.
        descriptors: of categories: the column, its number of levels, and numbers in [0, 1] of each level.
    """

    unordered: tuple[int, ...] = ()
    levels: tuple[int | None, ...] = ()
    fidelities: tuple[int, ...] = ()
    fixed: tuple[tuple[int, float], ...] = ()
    between: tuple[int, ...] = ()
    narrowed: bool = False
    conditions: tuple[Condition, ...] = ()
    region: Callable[[Tensor], Tensor] | None = None
    descriptors: tuple[tuple[int, int, tuple[tuple[float, ...], ...]], ...] = ()

    def active(self, x: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b d"]:
        """Which columns of rows are active, by the positions of their parents."""
        active = torch.ones_like(x, dtype=torch.bool)
        if self.conditions:
            parents, columns, low, high, tests, required = (each.to(x.device) for each in self._tests)
            position = x.detach().index_select(-1, parents)
            failed = ((low.to(x) <= position) & (position <= high.to(x))).to(x) @ tests.to(x) == 0.0
            active.index_copy_(-1, columns, failed.to(x) @ required.to(x) == 0.0)
        return active

    def canonical(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The rows with inactive columns at 0."""
        return torch.where(self.active(rows), rows, 0.0) if self.conditions else rows

    @cached_property
    def requirements(self) -> dict[int, tuple[Parent, ...]]:
        """What each conditional column requires of its parents and of theirs."""
        required: dict[int, tuple[Parent, ...]] = {}
        for condition in self.conditions:
            above = (required.get(parent, ()) for parent, _ in condition.parents)
            required[condition.column] = tuple(dict.fromkeys(chain(condition.parents, *above)))
        return required

    @cached_property
    def _tests(self) -> tuple[Tensor, ...]:
        """Parents of intervals, conditional columns, ends of intervals, their tests, the tests of columns."""
        tests = dict.fromkeys(chain(*self.requirements.values()))
        rows = [(test[0], *ends, [float(test == one) for one in tests]) for test in tests for ends in test[1]]
        needed = [[float(test in one) for one in self.requirements.values()] for test in tests]
        parents, *rest = (torch.tensor(each, **CPU_DOUBLES) for each in (*zip(*rows, strict=True), needed))
        return parents.long(), torch.tensor([*self.requirements], device="cpu"), *rest

    @property
    def discrete(self) -> tuple[int, ...]:
        """Columns that have levels."""
        return tuple(column for column, levels in enumerate(self.levels) if levels is not None)
