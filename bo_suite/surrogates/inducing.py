"""Rules that choose the inducing inputs of a sparse Gaussian process."""

import math
import warnings
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.kernels import Kernel
from bo_suite.surrogates.subsample import rows_at

_MANY = 10_000
"""Number of rows beyond which k-means uses random batches of them."""

_ROUNDING = 100.0
"""Residual variance that is rounding error alone, in machine epsilons of the prior variance."""

_URGENT = 1e12
"""Factor of the weight of a row that is chosen before all others, as long as it adds variance."""

_TAKEN = -3.0
"""Score of a row that cannot be chosen; others are above -2."""


@runtime_checkable
class InducingSelection(Protocol):
    """A rule for the inducing inputs."""

    def select(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b m d"]:
        """At least one and at most count rows, all different within a replicate.

        m is common to the replicates. The same data, theta and seeds give the same rows.
        """


def inducing_count(n: int) -> int:
    """Number of inducing inputs for n observations: min(n, 512, 64 + ⌈4 √n⌉)."""
    return min(n, 512, 64 + math.ceil(4.0 * math.sqrt(n)))


def check_sparse(inducing: object, jitter: float | None) -> None:
    """Raise DataError unless the number of inducing inputs and the jitter are None or in range."""
    if inducing is not None:
        check_whole("inducing", inducing, 1)
    if jitter is not None and not 0 <= jitter < math.inf:
        raise DataError(f"`0 <= jitter < inf` must hold, got {jitter}")


def check_whole(name: str, value: object, least: int) -> None:
    """Raise DataError unless the value is a whole number of at least `least`; True and False are none."""
    if isinstance(value, bool) or not (isinstance(value, int) and value >= least):
        raise DataError(f"`{name} >= {least}` must hold, a whole number, got {value!r}")


@dataclass(frozen=True)
class GreedyVariance:
    """Rows of the data, each the one of largest weighted variance given those before it.

    z_{j+1} = argmax_i w_i² k(x_i, x_i | z_1 ... z_j): a pivoted Cholesky factorisation of k over the
    candidates, in O(pool m²). The weight 0 < w_i = 1 - quality + quality 2^(-rank_i / (0.1 n)) <= 1 falls
    with the number rank_i of outcomes that are strictly better, so that with quality > 0 more rows go
    where the outcomes are good. Rows of residual variance below rounding come last, the heaviest first.

    Greedy conditional variance is from Burt, Rasmussen and van der Wilk (2020); diversity times quality is
    in the spirit of Moss, Ober and Picheny (2023), but needs no earlier model.

    Attributes:
        quality: how much the weight depends on the outcome, from zero (not at all) to below one.
        best: share of the inducing inputs that are rows of the best outcomes, chosen before all others; a row
            that adds nothing to those before it is left out.
        pool: number of candidates, unless there are fewer distinct rows or more are asked for: the rows of
            the best pool // 8 outcomes, and random ones.
    """

    quality: float = 0.0
    best: float = 0.0
    pool: int = 2048

    def __post_init__(self) -> None:
        if not 0.0 <= self.quality < 1.0:
            raise DataError(f"`0 <= quality < 1` must hold, got {self.quality!r}")
        if not 0.0 <= self.best <= 1.0:
            raise DataError(f"`0 <= best <= 1` must hold, got {self.best!r}")
        if not self.pool >= 1:
            raise DataError(f"`pool >= 1` must hold, got {self.pool!r}")

    def select(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b m d"]:
        """The chosen rows, in the order of choice; of equal rows, only the one of best outcome is used.

        Raises:
            DataError: no observation, or count < 1.
        """
        with torch.no_grad():
            distinct, count = _distinct_and_count(data, count)
            candidates = self._candidates(data, distinct, count, seeds)
            rows = rows_at(data.x, candidates)
            weights = self._weights(data.y).gather(-1, candidates).square()
            eligible = distinct.gather(-1, candidates)
            outcomes = torch.where(eligible, data.y.gather(-1, candidates), torch.inf)
            first = outcomes.argsort(dim=-1, stable=True)[..., : int(self.best * count)]
            urgent = torch.ones_like(weights).scatter(-1, first, _URGENT)
            chosen = _pivots(kernel, theta, rows, weights, urgent, eligible, count)
            return rows_at(rows, chosen)

    def _candidates(self, data: Dataset, distinct: Tensor, count: int, seeds: Seeds) -> Tensor:
        """Indices of the candidates, ascending; all distinct rows if the pool is large enough."""
        size = min(max(self.pool, count), int(distinct.sum(-1).max()))
        best = torch.where(distinct, data.y, torch.inf).argsort(dim=-1, stable=True)[..., : self.pool // 8]
        key = _random_key(data, seeds).scatter(-1, best, -1.0)
        order = torch.where(distinct, key, 2.0).argsort(dim=-1, stable=True)
        return order[..., :size].sort(-1).values

    def _weights(self, y: Tensor) -> Tensor:
        better = torch.searchsorted(y.sort(-1).values, y.contiguous())
        return 1.0 - self.quality + self.quality * torch.exp2(better.to(y) / (-0.1 * y.shape[-1]))


@dataclass(frozen=True)
class KMeans:
    """Centres of k-means on the distinct rows of the data (MacQueen 1967), all columns in [0, 1].

    Beyond 10 000 rows, by mini-batches (Sculley 2010). In unordered and conditional columns, and in those
    that decide what is active, a centre takes the positions of its nearest row. If centres coincide or
    clusters stay empty, the rows farthest from all centres are added. If all distinct rows are asked for,
    they are returned.
    """

    def select(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b m d"]:
        """The centres; the kernel is not used.

        Raises:
            DataError: no observation, or count < 1.
        """
        distinct, count = _distinct_and_count(data, count)
        n, d = data.x.shape[-2:]
        keys = seeds.split("inducing").keys
        keys *= data.batch_shape.numel() // len(keys)  # those of a run are of each of its outcomes
        replicates = zip(data.x.detach().reshape(-1, n, d), distinct.reshape(-1, n), keys, strict=True)
        taken = _taken_from_rows(data.columns)
        centres = [_centres(x[keep], count, key, taken) for x, keep, key in replicates]
        return torch.stack(centres).reshape(*data.batch_shape, count, d)


@dataclass(frozen=True)
class Subset:
    """Random distinct rows of the data."""

    def select(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b m d"]:
        """The rows; the kernel is not used.

        Raises:
            DataError: no observation, or count < 1.
        """
        distinct, count = _distinct_and_count(data, count)
        order = torch.where(distinct, _random_key(data, seeds), 2.0).argsort(dim=-1, stable=True)
        return rows_at(data.x.detach(), order[..., :count])


@dataclass(frozen=True, eq=False)
class Given:
    """The same inputs for all data.

    Attributes:
        x: rows, (m, d), or (*b, m, d) for rows of each replicate.

    Raises:
        DataError: no row, rows that are equal, or values that are not finite.
    """

    x: Tensor

    def __post_init__(self) -> None:
        if self.x.ndim < 2 or self.x.numel() == 0:
            raise DataError(f"inducing inputs must be (*b, m, d), none of it zero, got {tuple(self.x.shape)}")
        if not bool(torch.isfinite(self.x).all()):
            raise DataError("inducing inputs must be finite")
        _require_distinct(self.x)

    def select(
        self, data: Dataset, kernel: Kernel, theta: jt.Float[Tensor, "*b p"], count: int, seeds: Seeds
    ) -> jt.Float[Tensor, "*b m d"]:
        """The given rows, with the batch, dtype and device of the data; nothing else is used.

        Raises:
            DataError: the columns or replicates differ from those of the data, or rows become equal in the
                data's dtype.
        """
        shape = (*data.batch_shape, self.x.shape[-2], data.x.shape[-1])
        batch = self.x.shape[:-2]
        fits = batch == data.batch_shape[len(data.batch_shape) - len(batch) :]
        if self.x.shape[-1] != shape[-1] or not fits:
            raise DataError(
                "inducing inputs must have the columns and replicates of the data, "
                f"got {tuple(self.x.shape)} for {tuple(data.x.shape)}"
            )
        rows = self.x.to(data.x)
        _require_distinct(rows)
        return rows.expand(shape)


def _require_distinct(x: Tensor) -> None:
    if not bool(_distinct(x, x.new_zeros(x.shape[:-1])).all()):
        raise DataError("inducing inputs must be distinct, got equal rows")


def _random_key(data: Dataset, seeds: Seeds) -> Tensor:
    """A number in [0, 1) for each row, whose order is random."""
    return seeds.split("inducing").uniform((data.y.shape[-1],), data.y).expand(data.y.shape)


def _distinct_and_count(data: Dataset, count: int) -> tuple[Tensor, int]:
    """A mask (*b, n) of one copy of each distinct row, and the number of rows that each replicate has."""
    if data.x.shape[-2] == 0:
        raise DataError("inducing inputs need at least one observation, got none")
    if not count >= 1:
        raise DataError(f"`count >= 1` must hold, got {count!r}")
    distinct = _distinct(data.x.detach(), data.y)
    return distinct, min(count, int(distinct.sum(-1).min()))


def _distinct(x: Tensor, y: Tensor) -> Tensor:
    """Mask (*b, n): of equal rows, the one of least y, or the first of these; O(d n log n)."""
    order = y.argsort(dim=-1, stable=True)
    for column in x.unbind(-1):
        order = order.gather(-1, column.gather(-1, order).argsort(dim=-1, stable=True))
    rows = rows_at(x, order)
    repeats = (rows[..., 1:, :] == rows[..., :-1, :]).all(-1)
    first = torch.cat((torch.ones_like(order[..., :1], dtype=torch.bool), ~repeats), -1)
    return torch.empty_like(first).scatter(-1, order, first)


def _pivots(
    kernel: Kernel,
    theta: Tensor,
    x: Tensor,
    weights: Tensor,
    urgent: Tensor,
    eligible: Tensor,
    count: int,
) -> Tensor:
    """Pivots (*b, count) of the Cholesky factorisation of k(x, x), by residual variance times both weights.

    No step reads a value on the host, so that a device does not wait. Residuals only fall, and any above
    rounding is chosen before all below: once a pivot is below rounding, the factor no longer matters.
    """
    batch, (n, d) = x.shape[:-2], x.shape[-2:]
    total = math.prod(batch)
    theta, x = theta.reshape(total, theta.shape[-1]), x.reshape(total, n, d)
    weights, eligible = weights.reshape(total, n), eligible.reshape(total, n)
    residual = kernel.diagonal(theta, x)
    floor = residual * (_ROUNDING * torch.finfo(x.dtype).eps)
    spent = torch.where(eligible, weights - 2.0, _TAKEN)
    residual = torch.where(eligible, residual, 0.0)
    weights = weights * urgent.reshape(total, n)
    factor = x.new_empty(total, count, n)
    chosen = torch.empty(total, count, dtype=torch.long, device=x.device)
    for step in range(count):
        pivot = torch.where(residual > floor, residual * weights, spent).argmax(-1, keepdim=True)
        chosen[:, step] = pivot[:, 0]
        column = kernel.cross(theta, rows_at(x, pivot), x)[0]
        before = factor[:, :step]
        pivot_column = before.gather(-1, pivot[:, None].expand(total, step, 1))
        column = torch.baddbmm(column, pivot_column.mT, before, alpha=-1.0)[:, 0]
        column = torch.mul(column, residual.gather(-1, pivot).rsqrt(), out=factor[:, step])
        residual.addcmul_(column, column, value=-1.0).scatter_(-1, pivot, 0.0)
        spent.scatter_(-1, pivot, _TAKEN)
    return chosen.reshape(*batch, count)


def _taken_from_rows(columns: Columns) -> list[int]:
    """Columns whose positions are not averaged."""
    parents = {parent for condition in columns.conditions for parent, _ in condition.parents}
    return sorted({*columns.unordered, *columns.requirements, *parents})


def _centres(rows: Tensor, count: int, key: int, taken: list[int]) -> Tensor:
    """Distinct k-means centres (count, d) of distinct rows (n, d), n >= count."""
    if count >= rows.shape[0]:
        return rows
    from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

    points = rows.cpu().double().numpy()
    with threadpool_limits(1):  # a sum by several threads depends on their order
        fitted = _cluster(points, count, key)
        centres = torch.from_numpy(fitted).clamp(*(rows.cpu().double().aminmax(dim=0)))
        if taken:
            nearest = points[pairwise_distances_argmin(fitted, points)]
            centres[:, taken] = torch.from_numpy(nearest)[:, taken]
        centres = centres.to(rows)
        centres = centres[_distinct(centres, centres.new_zeros(count))]
        if centres.shape[0] == count:
            return centres
        distances = pairwise_distances_argmin_min(points, centres.cpu().double().numpy())[1]
    farthest = torch.from_numpy(distances).argsort(stable=True, descending=True)
    both = torch.cat((centres, rows[farthest.to(rows.device)]))
    return both[_distinct(both, both.new_zeros(both.shape[0]))][:count]


def _cluster(points: NDArray[np.float64], count: int, key: int) -> NDArray[np.float64]:
    """Centres (count, d) of points (n, d); they may coincide."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    method = MiniBatchKMeans if points.shape[0] > _MANY else KMeans
    clusters = method(count, n_init=1, random_state=key % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of empty clusters, which the caller fills
        centres: NDArray[np.float64] = clusters.fit(points).cluster_centers_
    return centres
