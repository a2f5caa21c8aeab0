"""Curves in groups that share the factor of one covariance over steps."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Curves, Dataset


@dataclass(frozen=True, eq=False)
class Group:
    """Curves that are observed at the first few of some steps, without a gap.

    Attributes:
        steps: indices of these steps on the grid, ascending.
        members: indices of the curves in each replicate; n, where a replicate has fewer.
        observed: which of the steps each curve is observed at: a first few, none for index n.
        y: outcomes, 0 where not observed.
    """

    steps: jt.Int64[Tensor, " k"]
    members: jt.Int64[Tensor, "*b c"]
    observed: jt.Bool[Tensor, "*b c k"]
    y: jt.Float[Tensor, "*b c k"]


def curves_of(data: Dataset) -> Curves:
    """The curves of the data; without any, the observations as curves of one step."""
    if data.curves is not None:
        return data.curves
    return Curves(data.x, torch.ones_like(data.y[..., :1].flatten()[:1]), data.y[..., None])


def groups_of(observed: jt.Bool[Tensor, "*b n t"], y: jt.Float[Tensor, "*b n t"]) -> tuple[Group, ...]:
    """Groups that contain each curve with an observation once.

    Curves that stop at different steps of one grid are one group. A curve with a gap joins the curves that
    have the same gaps and go on for longer. Each group needs one Cholesky factor of k x k.
    """
    lead, (n, t) = observed.shape[:-2], observed.shape[-2:]
    flat = observed.reshape(-1, n, t)
    patterns, pattern_of = torch.unique(flat.reshape(-1, t), dim=0, return_inverse=True)
    covers = _covers(patterns)
    cover_of = covers[pattern_of].reshape(-1, n)
    groups = []
    for cover in covers.unique().tolist():
        if not bool(patterns[cover].any()):
            continue
        is_member = cover_of == cover
        members = is_member.byte().argsort(dim=-1, descending=True, stable=True)[
            :, : int(is_member.sum(-1).max())
        ]
        steps, valid = patterns[cover].nonzero()[:, 0], is_member.gather(-1, members)
        index = members[..., None].expand(*members.shape, t)
        seen = (flat.gather(-2, index) & valid[..., None])[..., steps]
        values = y.reshape(-1, n, t).gather(-2, index)[..., steps]
        groups.append(
            Group(
                steps,
                torch.where(valid, members, n).reshape(*lead, -1),
                seen.reshape(*lead, *seen.shape[1:]),
                torch.where(seen, values, 0.0).reshape(*lead, *seen.shape[1:]),
            )
        )
    return tuple(groups)


def _covers(patterns: Tensor) -> Tensor:
    """For each pattern of observed steps (p, t), the index of the longest one that begins with it."""
    steps = torch.arange(1, patterns.shape[-1] + 1, device=patterns.device)
    ends = (patterns * steps).amax(-1)
    covers = torch.arange(len(patterns), device=patterns.device)
    unassigned = ends > 0
    for index in ends.argsort(descending=True, stable=True).tolist():
        if bool(unassigned[index]):
            begun = patterns[index] & (steps <= ends[:, None])
            covered = (begun == patterns).all(-1) & unassigned
            covers[covered] = index
            unassigned &= ~covered
    return covers
