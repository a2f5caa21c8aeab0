"""Columns with steps moved until comparisons can be met: units are exchanged along an equality."""

from itertools import combinations

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.space.system import System

_MOST_PAIRS = 64
"""Most pairs of columns that are moved by a step each, where no single move helps."""

_SPARE = 8
"""Moves beside one for each column."""

_MET = 1e-10
"""Violation, relative to the scale, that counts as none."""


def with_moved_steps(
    system: System, rows: jt.Float64[Tensor, "n d"], movable: jt.Bool[Tensor, " d"]
) -> jt.Float64[Tensor, "n d"]:
    """Rows whose columns with steps allow the comparisons to be met by continuous columns.

    As long as that is impossible, the move of one column, or of a pair of columns by a step each, is made
    that lowers the violation most; of equal ones a short one. Rows without such a move are left.

    Args:
        system: the comparisons.
        rows: with columns with steps at levels.
        movable: columns that may move.
    """
    columns = [column for column in system.steps if bool(movable[column])]
    if not columns:
        return rows
    slack = _Slack(system, movable)
    result, left = rows.clone(), torch.arange(len(rows), device=rows.device)
    for _ in range(len(columns) + _SPARE):
        excess = slack.excess(result[left])
        wrong = (excess.abs() > _MET).any(-1)
        if not bool(wrong.any()):
            break
        left, x, excess = left[wrong], result[left[wrong]], excess[wrong]
        before = excess.abs().sum(-1)
        best, after = _best(slack, x, _single_moves(system, x, columns, excess))
        stuck = after >= before * (1.0 - 1e-9)
        if bool(stuck.any()) and len(columns) > 1:
            pairs, of_pairs = _best(slack, x[stuck], _pair_moves(system, x[stuck], columns))
            best[stuck], after[stuck] = pairs, of_pairs
        lower = after < before * (1.0 - 1e-9)
        left = left[lower]
        result[left] = best[lower]
    return result


class _Slack:
    """What continuous columns cannot make up for.

    Args:
        system: the comparisons.
        movable: columns that may move.
    """

    def __init__(self, system: System, movable: Tensor) -> None:
        self._system, self._equal = system, system.equalities
        self._free = system.continuous & movable
        self._ends = torch.zeros(2, len(system.comparisons), **CPU_DOUBLES)
        low = torch.zeros(len(self._free), **CPU_DOUBLES)
        origin = system.residuals(low)
        for column in self._free.nonzero()[:, 0].tolist():
            high = low.clone()
            high[column] = 1.0
            change = system.residuals(high) - origin
            self._ends += torch.stack((change.clamp(max=0.0), change.clamp(min=0.0)))

    def excess(self, rows: Tensor) -> Tensor:
        """By how much each residual is too large, or, for equalities, too small, whatever they are at."""
        at_zero = torch.where(self._free.to(rows.device), 0.0, rows)
        residuals = self._system.residuals(at_zero)
        least, most = self._ends.to(rows)
        over = (residuals + least).clamp(min=0.0)
        under = (residuals + most).clamp(max=0.0)
        excess: Tensor = over + torch.where(self._equal.to(rows.device), under, 0.0)
        return excess


def _single_moves(system: System, x: Tensor, columns: list[int], excess: Tensor) -> Tensor:
    """Rows (n, c, d) with one column moved to where it makes up for the largest excess, or beside that."""
    worst = excess.abs().argmax(-1)
    rows = torch.arange(len(x), device=x.device)
    slopes = system.slopes(x)[rows, worst]
    need = excess[rows, worst]
    blocks = []
    for column in columns:
        slope = slopes[:, column]
        shift = torch.where(slope != 0.0, -need / torch.where(slope != 0.0, slope, 1.0), 0.0)
        target = (x[:, column] + shift).clamp(-1.0, 2.0)
        levels = system.encoding.nearest_levels(column, target)[:, None] + np.array([-1.0, 0.0, 1.0])
        blocks.append(_at_levels(system, x, column, levels))
    return torch.cat(blocks, 1)


def _at_levels(system: System, x: Tensor, column: int, levels: np.ndarray) -> Tensor:
    """Copies (n, t, d) of rows with a column at t levels each, moved into its range."""
    last = (system.encoding.columns[column].levels or 1) - 1
    positions = system.encoding.positions(column, levels.clip(0, last)).to(x)
    copies = x[:, None].repeat(1, levels.shape[1], 1)
    copies[..., column] = positions
    return copies


def _pair_moves(system: System, x: Tensor, columns: list[int]) -> Tensor:
    """Rows (n, c, d) with two columns moved by one step each."""
    blocks = []
    for first, second in list(combinations(columns, 2))[:_MOST_PAIRS]:
        levels = system.encoding.nearest_levels(first, x[:, first])[:, None] + np.array([-1.0, 1.0])
        for copies in _at_levels(system, x, first, levels).unbind(1):
            levels = system.encoding.nearest_levels(second, x[:, second])[:, None] + np.array([-1.0, 1.0])
            blocks.append(_at_levels(system, copies, second, levels))
    return torch.cat(blocks, 1)


def _best(slack: _Slack, x: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Of the moved rows (n, c, d) those of smallest violation, and that.

    Of equal ones a short move is taken, and of equally short ones any: a number that looks random decides.
    """
    violation = slack.excess(moved).abs().sum(-1)
    distance = (moved - x[:, None]).square().sum(-1)
    weights = torch.arange(1.0, x.shape[-1] + 1.0, dtype=x.dtype, device=x.device).sqrt()
    tie = torch.remainder(torch.sin(moved @ weights * 12.9898) * 43758.5453, 1.0)
    order = violation + 1e-6 * distance + 1e-9 * tie
    choice = order.argmin(-1)
    rows = torch.arange(len(x), device=x.device)
    return moved[rows, choice], violation[rows, choice]
