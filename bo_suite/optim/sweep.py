"""Search over the levels of discrete columns: changes of one column at a time, scored and taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.space.candidates import ALL_LEVELS, Moves, neighbours
from bo_suite.space.space import Space

_ROUNDS = 8

_MANY = 10_000
"""Discrete columns times all columns beyond which no round scores the changes of every column."""

_ENTRIES = 2**22
"""Numbers in all rows of a replicate that are scored in a pass over so many columns."""

_PARTS = 32
"""Parts of its columns that a pass goes through one after another, at most."""


_EACH, _FEW = Moves(ALL_LEVELS), Moves(8, 4)
"""What is tried of a column, and where there are many of them."""


@dataclass(frozen=True)
class Sweep:
    """How to search over levels.

    Rounds score the changes of every column and take the best one. A pass goes through the columns in parts
    and takes the best change of each part: it costs as much as a round, and changes up to 32 columns. Where
    there are very many columns it goes through some of them, and the next one through those that follow.

    Attributes:
        passes: their number at most, for a score whose rows cost much; None for rounds.
        turn: number of the sweep, of all in a run: which columns it is the turn of.
    """

    passes: int | None
    turn: int

    def __call__(
        self,
        score: Callable[[Tensor], Tensor],
        space: Space,
        rows: jt.Float[Tensor, "*b m d"],
        seeds: Seeds,
    ) -> jt.Float[Tensor, "*b m d"]:
        """The rows, changed in discrete columns where that raises their score."""
        columns = [column for column, levels in enumerate(space.levels) if levels is not None and levels > 1]
        if not columns:
            return rows
        with torch.no_grad():
            if len(columns) * space.dim > _MANY:
                some = self._some(space, columns, rows.shape[-2] * space.dim)
                return _ascend(score, space, rows, some, seeds, _FEW, 1, _PARTS)
            if self.passes is not None:
                return _ascend(score, space, rows, columns, seeds, _EACH, self.passes, _PARTS)
            return _ascend(score, space, rows, columns, seeds, _EACH, _ROUNDS, 1)

    def _some(self, space: Space, columns: list[int], entries: int) -> list[int]:
        """As many of the columns as a pass can go through, given how many numbers a change of all rows is."""
        changes = sum(_FEW.count(space.levels[column] or 1) for column in columns)
        count = min(max(_ENTRIES * len(columns) // (entries * changes), 1), len(columns))
        begin = self.turn * count % len(columns)
        return (columns + columns)[begin : begin + count]


def _ascend(
    score: Callable[[Tensor], Tensor],
    space: Space,
    rows: Tensor,
    columns: Sequence[int],
    seeds: Seeds,
    moves: Moves,
    passes: int,
    parts: int,
) -> Tensor:
    """Coordinate ascent, the best change of each part of the columns in turn; a round has one part."""
    value = score(rows)
    moving = torch.ones_like(value[..., :1], dtype=torch.bool)
    size = -(-len(columns) // parts)
    for turn in range(passes):
        moved, higher = rows, value
        for begin in range(0, len(columns), size):
            part = columns[begin : begin + size]
            moved, higher = _changed(score, space, moved, higher, part, seeds, turn, moves)
        moving = moving & (higher != value).any(-1, keepdim=True)
        if not bool(moving.any()):
            break
        rows, value = torch.where(moving[..., None], moved, rows), torch.where(moving, higher, value)
    return rows


def _changed(
    score: Callable[[Tensor], Tensor],
    space: Space,
    rows: Tensor,
    value: Tensor,
    columns: Sequence[int],
    seeds: Seeds,
    turn: int,
    moves: Moves,
) -> tuple[Tensor, Tensor]:
    """Each row and its value, or the best of its changes of one of the columns where that is better."""
    blocks = [neighbours(space, rows, column, seeds.split(f"{turn} {column}"), moves) for column in columns]
    trials = torch.cat(blocks, -2)
    scores = score(trials.flatten(-3, -2)).reshape(trials.shape[:-1])
    best, place = scores.max(-1)
    index = place[..., None, None].expand(*place.shape, 1, rows.shape[-1])
    winner = trials.gather(-2, index)[..., 0, :]
    better = best > value
    return torch.where(better[..., None], winner, rows), torch.where(better, best, value)
