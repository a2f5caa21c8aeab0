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
class Part:
    """Rows as one part sees them: the columns that are always active, or those of a layer.

    Attributes:
        positions: of the columns, 0 where a column is inactive.
        mask: 1 where a column is active, else 0.
        active: 1 where a group of the layer is active, else 0; no columns for those that are always active.
        index: the rows that are here; None for all.
    """

    positions: jt.Float[Tensor, "*b m c"]
    mask: jt.Float[Tensor, "*b m c"]
    active: jt.Float[Tensor, "*b m g"]
    index: jt.Int64[Tensor, " m"] | None = None

    def thinned(self) -> "Part":
        """Without the rows in which no group is active, in any replicate, if these are the larger part."""
        some = self.active.any(-1).flatten(0, -2).any(0) if self.active.ndim > 2 else self.active.any(-1)
        index = some.nonzero()[:, 0]
        if 2 * len(index) > len(some):
            return self
        positions, mask, active = (
            each.index_select(-2, index) for each in (self.positions, self.mask, self.active)
        )
        return Part(positions, mask, active, index)

    def gradient(self, by_positions: jt.Float[Tensor, "*b m c"], count: int) -> jt.Float[Tensor, "*b n c"]:
        """The gradient by the positions of all `count` rows: 0 where a column is inactive."""
        gradient = by_positions * self.mask
        if self.index is None:
            return gradient
        zeros = gradient.new_zeros(*gradient.shape[:-2], count, gradient.shape[-1])
        return zeros.index_copy_(-2, self.index, gradient)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters of a conditional kernel in parts.

    Attributes:
        of_matern: of the Matern kernel of each part; all but the first have an outputscale of one.
        odds: for the groups, layer by layer, log odds of the share of the variance that they do not change.
    """

    of_matern: Sequence[jt.Float[Tensor, "*b _"]]
    odds: jt.Float[Tensor, "*b g"]


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

    def rows(self, x: jt.Float[Tensor, "*b m d"]) -> list[Part]:
        """Rows in parts."""
        sizes, counts = self.sizes
        masks = self.columns.active(x).to(x).index_select(-1, self.order).split([*sizes, *counts], -1)
        always, *layers = x.index_select(-1, self.order[: x.shape[-1]]).split(sizes, -1)
        parts = [Part(always, masks[0], masks[0][..., :0])]
        for positions, mask, active in zip(layers, masks[1 : len(sizes)], masks[len(sizes) :], strict=True):
            parts.append(Part(positions * mask, mask, active))
        return parts

    def parameters(self, theta: jt.Float[Tensor, "*b p"]) -> Parameters:
        """Theta in parts."""
        sizes, counts = self.sizes
        values = theta.index_select(-1, self.order_of_theta)
        always, *layers, odds, scale = values.split([*sizes, sum(counts), 1], -1)
        return Parameters([torch.cat((always, scale), -1), *(pad(layer, (0, 1)) for layer in layers)], odds)

    def by_theta(
        self, of_matern: Sequence[jt.Float[Tensor, "*b _"]], odds: jt.Float[Tensor, "*b g"]
    ) -> jt.Float[Tensor, "*b p"]:
        """Gradients by the parameters of the Matern kernels and by log odds of shares, as one by theta."""
        lengthscales = [each[..., :-1] for each in of_matern]
        joined = torch.cat((*lengthscales, odds, of_matern[0][..., -1:]), -1)
        return torch.empty_like(joined).index_copy_(-1, self.order_of_theta, joined)

    def by_columns(
        self, of_parts: Sequence[jt.Float[Tensor, "*b _ _"]], parts: Sequence[Part]
    ) -> jt.Float[Tensor, "*b m d"]:
        """Gradients by the positions of rows in parts, as one."""
        count = of_parts[0].shape[-2]
        pairs = zip(parts, of_parts, strict=True)
        joined = torch.cat([part.gradient(each, count) for part, each in pairs], -1)
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
