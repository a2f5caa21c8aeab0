"""Search over the levels of discrete columns: changes of one column at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.space.activity import Seen
from bo_suite.space.candidates import ALL_LEVELS, Moves, neighbours
from bo_suite.space.space import Space

_ROUNDS = 8
"""Most rounds, each of which changes at most one column of a row."""

_MANY = 10_000
"""Largest product of the numbers of discrete and of all columns for which a round scores every column."""

_ENTRIES = 2**22
"""Numbers in all rows of a replicate that a pass over more columns than that scores: 32 MB."""

_GROUPS = 32
"""Most groups of columns that a pass visits one after another."""

_EACH, _FEW = Moves(ALL_LEVELS), Moves(8, 4)
"""Changes of a column that are tried: in general, and if there are many columns."""


@dataclass(frozen=True)
class Sweep:
    """A search over levels.

    A round scores the changes of every column and makes the best one. A pass visits the columns in groups and
    makes the best change of each group: it costs as much as a round and changes up to 32 columns. If there
    are very many columns, a pass visits some of them, and the pass of the next turn those that follow.

    Attributes:
        passes: most passes, for a score that is costly; None for rounds.
        turn: number of this sweep among all sweeps of a run; determines which of very many columns it visits.
        seen: rows from which columns that a change activates may take values; None for none.
    """

    passes: int | None
    turn: int
    seen: Seen | None = None

    def __call__(
        self,
        score: Callable[[Tensor], Tensor],
        space: Space,
        rows: jt.Float[Tensor, "*b m d"],
        seeds: Seeds,
    ) -> jt.Float[Tensor, "*b m d"]:
        """The rows, with discrete columns changed if that raises their score."""
        columns = [column for column in space.open_columns if (space.levels[column] or 1) > 1]
        if not columns:
            return rows
        each, few = replace(_EACH, seen=self.seen), replace(_FEW, seen=self.seen)
        with torch.no_grad():
            if len(columns) * space.dim > _MANY:
                visited = self._visited(space, columns, rows.shape[-2] * space.dim)
                return _Ascent(score, space, visited, few, _GROUPS)(rows, 1, seeds)
            if self.passes is not None:
                return _Ascent(score, space, columns, each, _GROUPS)(rows, self.passes, seeds)
            return _Ascent(score, space, columns, each, 1)(rows, _ROUNDS, seeds)

    def _visited(self, space: Space, columns: list[int], entries: int) -> list[int]:
        """The columns of this turn: as many as a pass can score; `entries` is the size of all rows."""
        changes = sum(_FEW.count(space.levels[column] or 1) for column in columns)
        count = min(max(_ENTRIES * len(columns) // (entries * changes), 1), len(columns))
        begin = self.turn * count % len(columns)
        return (columns + columns)[begin : begin + count]


@dataclass(frozen=True, eq=False)
class _Ascent:
    """Coordinate ascent: the best change of each group of columns in turn.

    Attributes:
        score: larger is better.
        space: of the rows.
        columns: discrete columns that may change.
        moves: changes of a column that are tried.
        groups: most groups that the columns are divided into; a round has one.
    """

    score: Callable[[Tensor], Tensor]
    space: Space
    columns: Sequence[int]
    moves: Moves
    groups: int

    def __call__(self, rows: Tensor, passes: int, seeds: Seeds) -> Tensor:
        """The rows after at most so many passes; a replicate without a better change stays as it is."""
        value = self.score(rows)
        moving = torch.ones_like(value[..., :1], dtype=torch.bool)
        size = -(-len(self.columns) // self.groups)
        for turn in range(passes):
            moved, higher = rows, value
            for begin in range(0, len(self.columns), size):
                group = {
                    column: seeds.split(f"{turn} {column}") for column in self.columns[begin : begin + size]
                }
                moved, higher = self._changed(moved, higher, group)
            moving = moving & (higher != value).any(-1, keepdim=True)
            if not bool(moving.any()):
                break
            rows, value = torch.where(moving[..., None], moved, rows), torch.where(moving, higher, value)
        return rows

    def _changed(self, rows: Tensor, value: Tensor, group: dict[int, Seeds]) -> tuple[Tensor, Tensor]:
        """Each row with its best change of one column of the group, if that is better; and their values."""
        active = self._active_in(rows)
        blocks = [
            neighbours(self.space, rows, column, seeds, self.moves)
            for column, seeds in group.items()
            if column in active
        ]
        if not blocks:
            return rows, value
        trials = torch.cat(blocks, -2)
        scores = self._scores(trials, rows, value)
        best, choice = scores.max(-1)
        index = choice[..., None, None].expand(*choice.shape, 1, rows.shape[-1])
        winner = trials.gather(-2, index)[..., 0, :]
        better = best > value
        return torch.where(better[..., None], winner, rows), torch.where(better, best, value)

    def _active_in(self, rows: Tensor) -> Sequence[int]:
        """The columns that are active in some row."""
        if not self.space.columns.conditions:
            return self.columns
        active = self.space.columns.active(rows).flatten(0, -2).any(0).tolist()
        return [column for column in self.columns if active[column]]

    def _scores(self, trials: Tensor, rows: Tensor, value: Tensor) -> Tensor:
        """The scores of changed rows; those in which an inactive column was changed are equal to the row."""
        if not self.space.columns.conditions or rows.ndim > 2:
            return self.score(trials.flatten(-3, -2)).reshape(trials.shape[:-1])
        scores = value[:, None].expand(trials.shape[:-1]).clone()
        changed = (trials != rows[:, None]).any(-1)
        if bool(changed.any()):
            scores[changed] = self.score(trials[changed])
        return scores
