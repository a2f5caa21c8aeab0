"""Linear functionals of a function: values, derivatives, integrals and differences."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.errors import DataError


@dataclass(frozen=True, eq=False)
class Functionals:
    """q linear functionals u_i = Σ_k (weight_k f(x_k) + direction_kᵀ ∇f(x_k)), k over the nodes of i.

    A value of f has one node, and so has a derivative; a difference has two, and an integral those of a
    quadrature rule. If f is a Gaussian process, all are jointly Gaussian with it.

    Attributes:
        points: inputs of the nodes.
        weight: of the value of f at each node.
        direction: of the gradient of f at each node; None if no functional has derivatives.
        owner: index of the functional that each node belongs to, the same for all replicates.
        count: q.
        at: index of the point of each node, since all derivatives at a point share it; None if each node has
            its own.
        jets: columns by which functionals are derivatives, if they are the values at all points, and then
            whole gradients by these columns at some points; () if they are values alone; None for any other.

    Raises:
        DataError: the shapes do not fit together.
    """

    points: jt.Float[Tensor, "*b p d"]
    weight: jt.Float[Tensor, "*b k"]
    direction: jt.Float[Tensor, "*b k d"] | None
    owner: jt.Int64[Tensor, " k"]
    count: int
    at: jt.Int64[Tensor, " k"] | None = None
    jets: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        points, k = self.points.shape, self.owner.shape[-1]
        wanted = (*points[:-2], k, points[-1])
        fits = self.weight.shape == wanted[:-1] and (
            k == points[-2] if self.at is None else len(self.at) == k
        )
        if not fits or not (self.direction is None or self.direction.shape == wanted):
            direction = None if self.direction is None else tuple(self.direction.shape)
            raise DataError(
                f"weight must be (*b, k) and direction (*b, k, d) for points (*b, p, d) = {tuple(points)} "
                f"and k = {k} nodes, got {tuple(self.weight.shape)} and {direction}"
            )

    @staticmethod
    def values(x: jt.Float[Tensor, "*b q d"]) -> "Functionals":
        """f at rows."""
        return replace(_one_node_each(x, x.new_ones(x.shape[:-1]), None), jets=())

    @staticmethod
    def partials(x: jt.Float[Tensor, "*b q d"], column: int) -> "Functionals":
        """The partial derivative of f by a column, at rows."""
        direction = torch.zeros_like(x)
        direction[..., column] = 1.0
        return Functionals.directional(x, direction)

    @staticmethod
    def directional(x: jt.Float[Tensor, "*b q d"], direction: jt.Float[Tensor, "*b q d"]) -> "Functionals":
        """directionᵀ ∇f(x), at rows each with its direction, of any length."""
        return _one_node_each(x, x.new_zeros(x.shape[:-1]), direction)

    @staticmethod
    def differences(x: jt.Float[Tensor, "*b q d"], z: jt.Float[Tensor, "*b q d"]) -> "Functionals":
        """f(x) - f(z), at pairs of rows."""
        return _of_nodes(torch.stack((x, z), -2), x.new_tensor([1.0, -1.0]))

    @staticmethod
    def integrals(
        x: jt.Float[Tensor, "*b q d"], column: int, low: float = 0.0, high: float = 1.0, nodes: int = 16
    ) -> "Functionals":
        """∫ f du over a column from low to high, the other columns as in the rows, by Gauss-Legendre.

        Exact where f is a polynomial of degree 2 nodes - 1 of the column.
        """
        points, weights = np.polynomial.legendre.leggauss(nodes)
        half = 0.5 * (high - low)
        at = x[..., None, :].repeat(*(1,) * (x.ndim - 1), nodes, 1)
        at[..., column] = x.new_tensor(low + half * (points + 1.0))
        return _of_nodes(at, x.new_tensor(half * weights))

    @staticmethod
    def averages(
        x: jt.Float[Tensor, "*b q d"], offsets: jt.Float[Tensor, "*o k d"], weights: jt.Float[Tensor, " k"]
    ) -> "Functionals":
        """Σ_k weights_k f(x + offset_k), at rows.

        Args:
            x: rows.
            offsets: (k, d), the same for all rows, or (*b, q, k, d).
            weights: of the offsets.
        """
        return _of_nodes(x[..., None, :] + offsets, weights)

    @staticmethod
    def values_and_derivatives(
        x: jt.Float[Tensor, "*b n d"], at: jt.Int64[Tensor, " e"], direction: jt.Float[Tensor, "*b e d"]
    ) -> "Functionals":
        """f at all rows, then directionᵀ ∇f at some, which are given by index and may repeat."""
        n, e = x.shape[-2], len(at)
        of_values = torch.arange(n, device=x.device)
        weight = torch.cat((x.new_ones(x.shape[:-1]), x.new_zeros(*x.shape[:-2], e)), -1)
        both = torch.cat((torch.zeros_like(x), direction), -2)
        owner = torch.arange(n + e, device=x.device)
        return Functionals(x, weight, both, owner, n + e, torch.cat((of_values, at)))

    @staticmethod
    def values_and_gradients(
        x: jt.Float[Tensor, "*b n d"], rows: jt.Int64[Tensor, " m"], columns: tuple[int, ...]
    ) -> "Functionals":
        """f at all rows x, then the derivatives by some columns at some rows, row by row."""
        direction = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)[list(columns)]
        direction = direction.repeat(len(rows), 1).expand(*x.shape[:-2], -1, -1)
        at = rows.repeat_interleave(len(columns))
        return replace(Functionals.values_and_derivatives(x, at, direction), jets=columns)

    @property
    def rows_with_gradients(self) -> jt.Int64[Tensor, " m"] | None:
        """Index of the points with gradients, if there are `jets`; None if they have no columns."""
        if not self.jets or self.at is None:
            return None
        return self.at[self.points.shape[-2] :: len(self.jets)]

    @property
    def x(self) -> jt.Float[Tensor, "*b k d"]:
        """The nodes."""
        return self.points if self.at is None else self.points.index_select(-2, self.at)

    @property
    def single(self) -> bool:
        """Whether each functional has one node."""
        return self.count == len(self.owner)

    @property
    def are_values(self) -> bool:
        """Whether no functional has derivatives."""
        return self.direction is None

    def joined(self, other: "Functionals") -> "Functionals":
        """These, then the other ones."""
        direction = None
        if self.direction is not None or other.direction is not None:
            direction = torch.cat([_dense(each) for each in (self, other)], -2)
        at = None
        if self.at is not None or other.at is not None:
            at = torch.cat((self.point_index, other.point_index + self.points.shape[-2]))
        return Functionals(
            torch.cat((self.points, other.points), -2),
            torch.cat((self.weight, other.weight), -1),
            direction,
            torch.cat((self.owner, other.owner + self.count)),
            self.count + other.count,
            at,
        )

    @property
    def point_index(self) -> jt.Int64[Tensor, " k"]:
        """Index of the point of each node."""
        return torch.arange(len(self.owner), device=self.owner.device) if self.at is None else self.at

    def selected(self, index: jt.Int64[Tensor, " s"]) -> "Functionals":
        """Some functionals, by increasing index."""
        order = self.owner.new_full((self.count,), -1)
        order[index] = torch.arange(len(index), device=index.device)
        nodes = (order[self.owner] >= 0).nonzero()[:, 0]
        return Functionals(
            self.x.index_select(-2, nodes),
            self.weight.index_select(-1, nodes),
            None if self.direction is None else self.direction.index_select(-2, nodes),
            order[self.owner[nodes]],
            len(index),
        )

    def expanded(self, lead: tuple[int, ...]) -> "Functionals":
        """The same for more replicates."""
        points, weight = self.points.expand(*lead, *self.points.shape[-2:]), self.weight
        direction = self.direction
        if direction is not None:
            direction = direction.expand(*lead, *direction.shape[-2:])
        return replace(self, points=points, weight=weight.expand(*lead, -1), direction=direction)

    @property
    def alone(self) -> "Functionals":
        """Each functional as a replicate of its own (*b, q), with nodes of weight 0 up to the most nodes."""
        if self.single:
            most, index = 1, self.owner[:, None]
        else:
            nodes = torch.bincount(self.owner, minlength=self.count)
            most = int(nodes.max())
            within = torch.arange(most, device=nodes.device)
            index = (nodes.cumsum(0) - nodes)[:, None] + torch.minimum(within, nodes[:, None] - 1)
        flat = index.flatten()
        shape = (self.count, most)
        weight = self.weight.index_select(-1, flat).unflatten(-1, shape)
        x = self.x.index_select(-2, flat).unflatten(-2, shape)
        direction = self.direction
        if direction is not None:
            direction = direction.index_select(-2, flat).unflatten(-2, shape)
        if not self.single:
            padded = within >= nodes[:, None]
            weight = weight.masked_fill(padded, 0.0)
            direction = None if direction is None else direction.masked_fill(padded[..., None], 0.0)
        return Functionals(x, weight, direction, torch.zeros_like(self.owner[:most]), 1)

    def gathered(self, of_nodes: Tensor, dim: int) -> Tensor:
        """The sum of what its nodes have, for each functional, along a dimension."""
        if self.single:
            return of_nodes
        shape = list(of_nodes.shape)
        shape[dim] = self.count
        return of_nodes.new_zeros(shape).index_add(dim, self.owner, of_nodes)

    def spread(self, of_functionals: Tensor, dim: int) -> Tensor:
        """What its functional has, for each node, along a dimension."""
        return of_functionals if self.single else of_functionals.index_select(dim, self.owner)

    def of(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The functionals of functions of rows (*b, k, d) to (*b, k, g): shape (*b, q, g).

        Derivatives are by autograd.
        """
        if self.direction is None:
            return self.gathered(self.weight[..., None] * function(self.x), -2)
        with torch.enable_grad():
            x = self.x.detach().requires_grad_()
            values = function(x)
            slopes = _along(values, x, self.direction)
        return self.gathered(self.weight[..., None] * values.detach() + slopes, -2)


def _one_node_each(x: Tensor, weight: Tensor, direction: Tensor | None) -> Functionals:
    owner = torch.arange(x.shape[-2], device=x.device)
    return Functionals(x, weight, direction, owner, x.shape[-2])


def _of_nodes(nodes: Tensor, weights: Tensor) -> Functionals:
    """Weighted sums of f at nodes (*b, q, k, d), with the same weights (k,) for all."""
    q, k = nodes.shape[-3:-1]
    owner = torch.arange(q, device=nodes.device).repeat_interleave(k)
    weight = weights.repeat(q).expand(*nodes.shape[:-3], q * k)
    return Functionals(nodes.flatten(-3, -2), weight, None, owner, q)


def _dense(functionals: Functionals) -> Tensor:
    return torch.zeros_like(functionals.x) if functionals.direction is None else functionals.direction


def _along(values: Tensor, x: Tensor, direction: Tensor) -> Tensor:
    """directionᵀ ∇ of each value (*b, k, g), each a function of its row of x, by differentiating twice.

    The gradient by x of the values weighted by u is linear in u, and its derivative by u is the answer.
    """
    if not values.requires_grad:
        return torch.zeros_like(values)
    u = torch.ones_like(values, requires_grad=True)
    (by_x,) = torch.autograd.grad(values, x, u, create_graph=True)
    if not by_x.requires_grad:
        return torch.zeros_like(values)
    (slopes,) = torch.autograd.grad(by_x, u, direction.expand_as(by_x))
    return slopes
