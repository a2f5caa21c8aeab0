"""Columns as a conditional kernel takes them: those that are always active, then layers of groups."""

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

    parts: tuple[jt.Float[Tensor, "*b m _"], ...]
    masks: tuple[jt.Float[Tensor, "*b m _"], ...]
    active: tuple[jt.Float[Tensor, "*b m _"], ...]

    def joined(self, by_parts: list[jt.Float[Tensor, "*b m _"]]) -> jt.Float[Tensor, "*b m d"]:
        """Gradients by the positions, 0 where a column is inactive, part by part."""
        return torch.cat([each * mask for each, mask in zip(by_parts, self.masks, strict=True)], -1)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters of a conditional kernel in parts.

    Attributes:
        of_matern: of the Matern kernel of each part; all but the first have an outputscale of one.
        shares: for the groups of each layer, the share of the variance that their values do not change.
    """

    of_matern: list[jt.Float[Tensor, "*b _"]]
    shares: tuple[jt.Float[Tensor, "*b _"], ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """The order of columns in parts. A layer holds groups of which at most one is active in a row.

    Attributes:
        columns: kinds of the columns.
        parts: columns that are always active, then those of each layer.
        groups: indices of the groups of each layer.
        first: a column of each group, layer by layer.
    """

    columns: Columns
    parts: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]

    @cached_property
    def materns(self) -> tuple[Matern52, ...]:
        """A kernel for each part."""
        unordered = self.columns.unordered
        return tuple(
            Matern52(tuple(index for index, column in enumerate(part) if column in unordered))
            for part in self.parts
        )

    @cached_property
    def order(self) -> list[int]:
        """The columns, part by part."""
        return list(chain(*self.parts))

    @cached_property
    def inverse(self) -> list[int]:
        """Where each column is in this order."""
        return _inverse(self.order)

    @cached_property
    def sizes(self) -> tuple[list[int], list[int]]:
        """Numbers of columns of the parts, and of groups of the layers."""
        return [len(part) for part in self.parts], [len(layer) for layer in self.groups]

    @cached_property
    def _order_of_theta(self) -> list[int]:
        d = len(self.order)
        return [*self.order, *(d + group for group in chain(*self.groups)), d + len(self.first)]

    @cached_property
    def _inverse_of_theta(self) -> list[int]:
        return _inverse(self._order_of_theta)

    def rows(self, x: jt.Float[Tensor, "*b m d"]) -> Rows:
        """Rows in parts."""
        active = self.columns.active(x).to(x)
        mask, groups = active[..., self.order], active[..., self.first]
        sizes, counts = self.sizes
        parts = (x[..., self.order] * mask).split(sizes, -1)
        return Rows(parts, mask.split(sizes, -1), groups.split(counts, -1))

    def parameters(self, theta: jt.Float[Tensor, "*b p"]) -> Parameters:
        """Theta in parts."""
        sizes, counts = self.sizes
        lengthscales, odds, scale = theta[..., self._order_of_theta].split([sum(sizes), sum(counts), 1], -1)
        always, *layers = lengthscales.split(sizes, -1)
        of_layers = [pad(of_layer, (0, 1)) for of_layer in layers]
        return Parameters([torch.cat((always, scale), -1), *of_layers], odds.sigmoid().split(counts, -1))

    def joined(
        self, of_matern: list[jt.Float[Tensor, "*b _"]], odds: list[jt.Float[Tensor, "*b _"]]
    ) -> jt.Float[Tensor, "*b p"]:
        """Gradients by the parameters of the Matern kernels and by log odds of shares, as one by theta."""
        lengthscales = [each[..., :-1] for each in of_matern]
        return torch.cat((*lengthscales, *odds, of_matern[0][..., -1:]), -1)[..., self._inverse_of_theta]


@lru_cache(maxsize=64)
def layout_of(unordered: tuple[int, ...], conditions: tuple[Condition, ...], dim: int) -> Layout:
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
    of_layers = [tuple(chain(*(groups[group] for group in layer))) for layer in layers]
    always = tuple(column for column in range(dim) if column not in columns.requirements)
    first = tuple(groups[group][0] for group in chain(*layers))
    return Layout(columns, (always, *of_layers), tuple(map(tuple, layers)), first)


def _exclude(left: tuple[Parent, ...], right: tuple[Parent, ...]) -> bool:
    """Whether two requirements want some parent in intervals that are apart."""
    return any(
        parent == other
        and all(low > end + _APART or begin > high + _APART for low, high in first for begin, end in second)
        for parent, first in left
        for other, second in right
    )


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
