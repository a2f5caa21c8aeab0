"""Columns as a conditional kernel takes them: those that are always active, then layers of groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import pad

from bo_suite.data import Columns, Condition, Parent
from bo_suite.kernels.stationary import Matern52

_APART = 1e-6
"""Intervals of positions with a smaller gap between them may both hold a position in single precision."""


def groups_of(conditions: tuple[Condition, ...]) -> tuple[tuple[int, ...], ...]:
    """Columns with the same condition, in the order of the conditions."""
    groups: dict[tuple[Parent, ...], list[int]] = {}
    for condition in conditions:
        groups.setdefault(tuple(sorted(condition.parents)), []).append(condition.column)
    return tuple(tuple(sorted(group)) for group in groups.values())


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in parts: the columns that are always active, then those of each layer.

    Attributes:
        parts: positions, 0 where a column is inactive.
        masks: 1 where a column is active, else 0.
        active: 1 where a group is active, else 0, for the groups of each layer.
    """

    parts: Sequence[jt.Float[Tensor, "*b m _"]]
    masks: Sequence[jt.Float[Tensor, "*b m _"]]
    active: Sequence[jt.Float[Tensor, "*b m _"]]


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters of a conditional kernel in parts.

    Attributes:
        of_matern: of the Matern kernel of each part; all but the first have an outputscale of one.
        shares: for the groups of each layer, the share of the variance that their values do not change.
    """

    of_matern: Sequence[jt.Float[Tensor, "*b _"]]
    shares: Sequence[jt.Float[Tensor, "*b _"]]


@dataclass(frozen=True, eq=False)
class Layout:
    """The order of columns in parts. A layer holds groups of which at most one is active in a row.

    Attributes:
        columns: kinds of the columns.
        parts: columns that are always active, then those of each layer.
        groups: indices of the groups of each layer.
        materns: a kernel for each part.
        order: indices of the columns, part by part; followed by a column of each group, layer by layer.
        order_of_theta: indices of the parameters: of lengthscales, shares, and the outputscale.
    """

    columns: Columns
    parts: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    materns: tuple[Matern52, ...]
    order: jt.Int64[Tensor, " o"]
    order_of_theta: jt.Int64[Tensor, " p"]

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Numbers of columns of the parts, and of groups of the layers."""
        return [len(part) for part in self.parts], [len(layer) for layer in self.groups]

    @cached_property
    def together(self) -> int:
        """The most columns that a row can have, or a few more: it counts the largest group of each layer."""
        groups = groups_of(self.columns.conditions)
        largest = (max(len(groups[group]) for group in layer) for layer in self.groups)
        return len(self.parts[0]) + sum(largest)

    def rows(self, x: jt.Float[Tensor, "*b m d"]) -> Rows:
        """Rows in parts."""
        sizes, counts = self.sizes
        masks = self.columns.active(x).to(x).index_select(-1, self.order).split([*sizes, *counts], -1)
        positions = x.index_select(-1, self.order[: x.shape[-1]]).split(sizes, -1)
        parts = [positions[0], *(each * mask for each, mask in zip(positions[1:], masks[1:], strict=False))]
        return Rows(parts, masks[: len(sizes)], masks[len(sizes) :])

    def parameters(self, theta: jt.Float[Tensor, "*b p"]) -> Parameters:
        """Theta in parts."""
        sizes, counts = self.sizes
        values = theta.index_select(-1, self.order_of_theta)
        always, *layers, odds, scale = values.split([*sizes, sum(counts), 1], -1)
        of_layers = [pad(of_layer, (0, 1)) for of_layer in layers]
        return Parameters([torch.cat((always, scale), -1), *of_layers], odds.sigmoid().split(counts, -1))

    def by_theta(
        self, of_matern: list[jt.Float[Tensor, "*b _"]], odds: list[jt.Float[Tensor, "*b _"]]
    ) -> jt.Float[Tensor, "*b p"]:
        """Gradients by the parameters of the Matern kernels and by log odds of shares, as one by theta."""
        lengthscales = [each[..., :-1] for each in of_matern]
        joined = torch.cat((*lengthscales, *odds, of_matern[0][..., -1:]), -1)
        return torch.empty_like(joined).index_copy_(-1, self.order_of_theta, joined)

    def by_columns(
        self, of_parts: list[jt.Float[Tensor, "*b m _"]], rows: Rows
    ) -> jt.Float[Tensor, "*b m d"]:
        """Gradients by the positions of rows in parts as one, 0 where a column is inactive."""
        joined = torch.cat([each * mask for each, mask in zip(of_parts, rows.masks, strict=True)], -1)
        return torch.empty_like(joined).index_copy_(-1, self.order[: joined.shape[-1]], joined)


@lru_cache(maxsize=64)
def layout_of(
    unordered: tuple[int, ...], conditions: tuple[Condition, ...], dim: int, device: torch.device
) -> Layout:
    """The order of `dim` columns of these kinds: each group is in the first layer whose groups exclude it."""
    columns, groups = Columns(unordered, conditions=conditions), groups_of(conditions)
    needs = [columns.requirements[group[0]] for group in groups]
    layers: list[list[int]] = []
    for group, need in enumerate(needs):
        layer = next((each for each in layers if all(_exclude(need, needs[one]) for one in each)), None)
        if layer is None:
            layers.append([group])
        else:
            layer.append(group)
    always = tuple(column for column in range(dim) if column not in columns.requirements)
    parts = (always, *(tuple(chain(*(groups[group] for group in layer))) for layer in layers))
    codes = [tuple(index for index, column in enumerate(part) if column in unordered) for part in parts]
    first = [groups[group][0] for group in chain(*layers)]
    odds = [dim + group for group in chain(*layers)]
    with torch.inference_mode(False):  # indices are saved for gradients, also of later calls
        order = torch.tensor([*chain(*parts), *first], device=device)
        order_of_theta = torch.tensor([*chain(*parts), *odds, dim + len(odds)], device=device)
    kernels = tuple(Matern52(code) for code in codes)
    return Layout(columns, parts, tuple(map(tuple, layers)), kernels, order, order_of_theta)


def _exclude(left: tuple[Parent, ...], right: tuple[Parent, ...]) -> bool:
    """Whether two requirements want some parent in intervals that are apart."""
    return any(
        parent == other
        and all(low > end + _APART or begin > high + _APART for low, high in first for begin, end in second)
        for parent, first in left
        for other, second in right
    )
