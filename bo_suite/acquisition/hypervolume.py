"""Hypervolume of a front, the region that it leaves as disjoint boxes, and a reference point for it."""

from dataclasses import dataclass

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

_NONE = -1
"""Index of the level -inf."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Disjoint boxes, whose ends in each objective are among few levels.

    Box b is the product over objectives j of (levels[j, lower[j, b]], levels[j, upper[j, b]]]. Boxes that
    only fill up a tensor are empty: both ends are equal.

    Attributes:
        levels: finite ends of the boxes in each objective.
        lower: indices of the lower ends; -1 for -inf.
        upper: indices of the upper ends.
    """

    levels: jt.Float[Tensor, "*b k l"]
    lower: jt.Int64[Tensor, "*b k c"]
    upper: jt.Int64[Tensor, "*b k c"]

    @property
    def lower_ends(self) -> jt.Float[Tensor, "*b k c"]:
        """Lower ends of the boxes, some of them -inf."""
        ends = self.levels.gather(-1, self.lower.clamp(min=0))
        return torch.where(self.lower == _NONE, -torch.inf, ends)

    @property
    def upper_ends(self) -> jt.Float[Tensor, "*b k c"]:
        """Upper ends of the boxes."""
        return self.levels.gather(-1, self.upper)

    def volume_above(self, corner: jt.Float[Tensor, "*b k"]) -> jt.Float[Tensor, "*b"]:
        """Volume of what the boxes have above a corner, in all objectives."""
        corner = corner[..., None]
        sides = self.upper_ends - torch.maximum(self.lower_ends, corner)
        return sides.clamp(min=0.0).prod(-2).sum(-1)


def non_dominated(points: jt.Float[Tensor, "*b k n"]) -> jt.Bool[Tensor, "*b n"]:
    """Which finite points no other point dominates: smaller or equal in all objectives, smaller in some."""
    first, other = points[..., :, None], points[..., None, :]
    dominated = (other <= first).all(-3) & (other < first).any(-3)
    return points.isfinite().all(-2) & ~dominated.any(-1)


def non_dominated_boxes(points: jt.Float[Tensor, "*b k n"], reference: jt.Float[Tensor, "*b k"]) -> Boxes:
    """The region below the reference point that no point dominates, as disjoint boxes.

    With two objectives the boxes are the strips between neighbours of the sorted front. With another number
    each box belongs to one local upper bound u of the front: it reaches from -inf to u in the first
    objective, and in objective j from the largest value of the points that define u in objectives before j
    (Lacour, Klamroth and Fonseca 2017, section 3). With three objectives, n points leave 2n + 1 boxes at
    most.

    Args:
        points: smaller is better; dominated ones, and those not below the reference point, such as infinite
            ones, do not matter.
        reference: finite.
    """
    outside = ~(points < reference[..., None]).all(-2, keepdim=True)
    points = torch.where(outside, reference[..., None], points)
    return _strips(points, reference) if points.shape[-2] == 2 else _boxes_of_bounds(points, reference)


def hypervolume(
    points: jt.Float[Tensor, "*b k n"], reference: jt.Float[Tensor, "*b k"]
) -> jt.Float[Tensor, "*b"]:
    """Volume of the region below the reference point that some point dominates.

    Args:
        points: smaller is better, finite.
        reference: finite.
    """
    corner = torch.minimum(torch.cat((points, reference[..., None]), -1).amin(-1), reference)
    left = non_dominated_boxes(points, reference).volume_above(corner)
    return ((reference - corner).prod(-1) - left).clamp(min=0.0)


def inferred_reference(
    y: jt.Float[Tensor, "*b k n"], front: jt.Bool[Tensor, "*b n"], margin: float
) -> jt.Float[Tensor, "*b k"]:
    """The worst of the front plus a share of its range, in each objective (Ishibuchi et al. 2018).

    Where all of the front is equal, as if it is one point, it says nothing about how far a front may reach:
    then it is the worst of all observations plus a share of their range.

    Args:
        y: outcomes, smaller is better, NaN where one was not measured.
        front: which observations are on the front, all complete.
        margin: the share.
    """
    least, most, width = front_range(y, front)
    worst = _range(y, ~y.isnan())[1]
    return torch.where(least == most, torch.maximum(most, worst), most) + margin * width


def front_range(
    y: jt.Float[Tensor, "*b k n"], front: jt.Bool[Tensor, "*b n"]
) -> tuple[jt.Float[Tensor, "*b k"], jt.Float[Tensor, "*b k"], jt.Float[Tensor, "*b k"]]:
    """Smallest and largest value of each objective on the front, and their distance.

    Without a front these are of all observations. The distance is positive: if it is 0, as on a front of one
    point, it is that of all observations and, if they are equal too, 1: outcomes have variance one.

    Args:
        y: outcomes, NaN where one was not measured.
        front: which observations are on the front, all complete.
    """
    on_front = torch.where(front.any(-1, keepdim=True), front, True)[..., None, :] & ~y.isnan()
    least, most = _range(y, on_front)
    least_of_all, most_of_all = _range(y, ~y.isnan())
    width, width_of_all = most - least, most_of_all - least_of_all
    return least, most, torch.where(width > 0.0, width, torch.where(width_of_all > 0.0, width_of_all, 1.0))


def _range(y: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest of the counted outcomes; 0 if there are none."""
    some = counted.any(-1)
    least = torch.where(counted, y, torch.inf).amin(-1)
    most = torch.where(counted, y, -torch.inf).amax(-1)
    return torch.where(some, least, 0.0), torch.where(some, most, 0.0)


def _strips(points: Tensor, reference: Tensor) -> Boxes:
    """The boxes of two objectives: strips between neighbours in the first, below the best of the second."""
    first, order = points[..., 0, :].sort(dim=-1, stable=True)
    second = points[..., 1, :].gather(-1, order)
    best_before = torch.cat((reference[..., 1:], second[..., :-1]), -1).cummin(-1).values
    better = second < best_before
    count = int(better.sum(-1).max())
    chosen = better.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    levels = torch.stack((first, second), -2).gather(
        -1, chosen[..., None, :].expand(*points.shape[:-1], count)
    )
    padding = ~better.gather(-1, chosen)[..., None, :]
    levels = torch.where(padding, reference[..., None], levels)
    levels = torch.cat((levels, reference[..., None]), -1)
    index = torch.arange(count + 1, device=points.device)
    lower = torch.stack((index - 1, torch.full_like(index, _NONE)))
    upper = torch.stack((index, torch.where(index > 0, index - 1, count)))
    return Boxes(levels, lower.expand(levels.shape), upper.expand(levels.shape))


def _boxes_of_bounds(points: Tensor, reference: Tensor) -> Boxes:
    """The boxes of any number of objectives.

    Points are replaced by their ranks in each objective, which all differ: equal values give empty boxes.
    """
    *_, k, n = points.shape
    levels, order = points.sort(dim=-1, stable=True)
    inside = (points < reference[..., None]).all(-2, keepdim=True)
    runs = points.shape[:-2].numel()
    ranks = torch.where(inside, order.argsort(-1), n).reshape(runs, k, n).movedim(-1, 0)
    run, lower, upper = _local_upper_bounds(ranks.to(torch.int32).cpu().numpy(), n)
    levels = torch.cat((levels, reference[..., None]), -1)
    ends = levels.reshape(runs, k, n + 1).cpu().numpy()[run[:, None], np.arange(k)]
    lower_end = np.take_along_axis(ends, np.maximum(lower, 0)[..., None], -1)[..., 0]
    upper_end = np.take_along_axis(ends, upper[..., None], -1)[..., 0]
    full = ((lower_end < upper_end) | (lower == _NONE)).all(-1)
    return Boxes(levels, *_padded(run[full], lower[full], upper[full], levels))


def _local_upper_bounds(ranks: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The run of each box, and the ranks of its ends (boxes, k), of points with ranks (n, runs, k).

    Each point replaces the bounds u that it is below by those with one coordinate of its own, unless another
    bound makes these redundant (Lacour, Klamroth and Fonseca 2017, algorithm 1). All runs advance together.
    """
    _, runs, k = ranks.shape
    run, upper = np.arange(runs), np.full((runs, k), n, dtype=ranks.dtype)
    defining = np.full((runs, k, k), _NONE, dtype=ranks.dtype)  # row i: the point that u has coordinate i of
    defining[:, np.arange(k), np.arange(k)] = n
    for point in ranks:
        replaced = (point[run] < upper).all(-1)
        if not replaced.any():
            continue
        remaining = ~replaced
        parts = [(run[remaining], upper[remaining], defining[remaining])]
        run, upper, defining = run[replaced], upper[replaced], defining[replaced]
        own = point[run]
        for j in range(k):
            others = np.delete(defining[:, :, j], j, axis=1).max(-1, initial=_NONE)
            valid = own[:, j] > others
            upper_j, defining_j = upper[valid], defining[valid]
            upper_j[:, j], defining_j[:, j] = own[valid, j], own[valid]
            parts.append((run[valid], upper_j, defining_j))
        run, upper, defining = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    earlier = np.tri(k, k=-1, dtype=bool).T[None]  # [i, j]: i < j
    return run, np.where(earlier, defining, _NONE).max(1), upper


def _padded(run: np.ndarray, lower: np.ndarray, upper: np.ndarray, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Ends of boxes (boxes, k) as tensors (*b, k, c), filled up with empty boxes."""
    *lead, k, _ = levels.shape
    runs = levels.shape[:-2].numel()
    order = np.argsort(run, kind="stable")
    counts = np.bincount(run, minlength=runs)
    slot = np.arange(len(run)) - (np.cumsum(counts) - counts)[run[order]]
    indices = np.zeros((2, runs, counts.max(), k), dtype=np.int64)
    indices[:, run[order], slot] = np.stack((lower, upper))[:, order]
    tensors = torch.from_numpy(indices).to(levels.device).movedim(-1, -2).reshape(2, *lead, k, -1)
    return tensors[0].contiguous(), tensors[1].contiguous()
