"""Polytopes {x in [0, 1]^d: A x <= b, E x = e}: their interior, and uniform samples by hit-and-run."""

from dataclasses import dataclass

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES

_FLAT = 1e-9
"""Radius of the largest inscribed ball below which an inequality counts as an equality."""

_RANK = 1e-9
"""Singular values below this share of the largest count as 0."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """A non-empty polytope, with its inequalities that are equalities in disguise found.

    Attributes:
        normals: A of the inequalities that are not, the bounds 0 and 1 of each column included.
        bounds: b of these.
        centre: of the largest inscribed ball, in the affine hull.
        basis: orthonormal directions of the affine hull, as columns; none if the polytope is one point.
    """

    normals: jt.Float64[Tensor, "m d"]
    bounds: jt.Float64[Tensor, " m"]
    centre: jt.Float64[Tensor, " d"]
    basis: jt.Float64[Tensor, "d r"]

    @staticmethod
    def of(
        normals: jt.Float64[Tensor, "m d"],
        bounds: jt.Float64[Tensor, " m"],
        equal: jt.Float64[Tensor, "k d"],
        values: jt.Float64[Tensor, " k"],
    ) -> "Polytope | None":
        """The polytope {x in [0, 1]^d: normals x <= bounds, equal x = values}; None if it is empty."""
        d = normals.shape[-1]
        rows = np.concatenate((normals.numpy(), np.eye(d), -np.eye(d)))
        limits = np.concatenate((bounds.numpy(), np.ones(d), np.zeros(d)))
        fixed, at = equal.numpy(), values.numpy()
        size = np.linalg.norm(rows, axis=1)
        rows, limits = rows[size > 0] / size[size > 0, None], limits[size > 0] / size[size > 0]
        while True:
            basis = _null_space(fixed, d)
            found = _inscribed_ball(rows, limits, fixed, at, basis)
            if found is None:
                return None
            centre, radius = found
            if radius > _FLAT or basis.shape[1] == 0:
                break
            flat = _flat(rows, limits, fixed, at)
            if not flat.any():
                break
            fixed, at = np.concatenate((fixed, rows[flat])), np.concatenate((at, limits[flat]))
            rows, limits = rows[~flat], limits[~flat]
        if len(fixed):  # a linear programme meets equalities up to 1e-7 alone
            centre = centre - np.linalg.lstsq(fixed, fixed @ centre - at, rcond=_RANK)[0]
        moving = np.linalg.norm(rows @ basis, axis=1) > 1e-12
        tensors = (rows[moving], limits[moving], centre.clip(0.0, 1.0), basis)
        return Polytope(*(torch.tensor(one, **CPU_DOUBLES) for one in tensors))

    def walk(
        self,
        start: jt.Float64[Tensor, "*b n d"],
        directions: jt.Float64[Tensor, "*b s n r"],
        shares: jt.Float64[Tensor, "*b s n"],
    ) -> jt.Float64[Tensor, "*b n d"]:
        """Points after steps of hit-and-run: each to a uniform point of the chord in a random direction.

        The uniform distribution over the polytope is stationary (Smith 1984).

        Args:
            start: points of the polytope.
            directions: standard normal draws for each step and point, in the basis.
            shares: uniform draws: where on the chord.
        """
        x = start
        for step in range(shares.shape[-2]):
            x = self.step(x, directions[..., step, :, :], shares[..., step, :])
        return x

    def step(
        self,
        x: jt.Float64[Tensor, "*b n d"],
        directions: jt.Float64[Tensor, "*b n r"],
        shares: jt.Float64[Tensor, "*b n"],
    ) -> jt.Float64[Tensor, "*b n d"]:
        """One step of `walk`."""
        if not self.basis.shape[-1]:
            return x
        normals, bounds = self.normals.to(x), self.bounds.to(x)
        line = directions @ self.basis.to(x).mT
        line = line / line.norm(dim=-1, keepdim=True).clamp(min=1e-300)
        slope, slack = line @ normals.mT, (bounds - x @ normals.mT).clamp(min=0.0)
        ratio = slack / slope.abs().clamp(min=1e-300)
        forth = torch.where(slope > 1e-14, ratio, torch.inf).amin(-1)
        back = torch.where(slope < -1e-14, ratio, torch.inf).amin(-1)
        length = shares * (forth + back) - back
        moved: Tensor = x + torch.where(length.isfinite(), length, 0.0)[..., None] * line
        return moved.clamp(0.0, 1.0)


def _null_space(equal: np.ndarray, d: int) -> np.ndarray:
    """An orthonormal basis of the directions that equalities allow, as columns."""
    if not len(equal):
        return np.eye(d)
    _, sizes, rows = np.linalg.svd(equal, full_matrices=True)
    rank = int((sizes > _RANK * max(float(sizes.max()), 1e-300)).sum())
    return np.asarray(rows[rank:].T)


def _inscribed_ball(
    rows: np.ndarray, limits: np.ndarray, equal: np.ndarray, values: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """Centre and radius of the largest ball in the polytope, within its affine hull; None if it is empty."""
    from scipy.optimize import linprog  # takes a third of a second to import

    d = rows.shape[1]
    sizes = np.linalg.norm(rows @ basis, axis=1)
    solution = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.column_stack((rows, sizes)),
        b_ub=limits,
        A_eq=np.column_stack((equal, np.zeros(len(equal)))) if len(equal) else None,
        b_eq=values if len(equal) else None,
        bounds=[(None, None)] * d + [(0.0, 1.0)],
        method="highs",
    )
    return (solution.x[:d], float(solution.x[d])) if solution.status == 0 else None


def _flat(rows: np.ndarray, limits: np.ndarray, equal: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which inequalities hold with equality at every point."""
    from scipy.optimize import linprog

    flat = np.zeros(len(rows), dtype=bool)
    for index, row in enumerate(rows):
        solution = linprog(
            row,
            A_ub=rows,
            b_ub=limits,
            A_eq=equal if len(equal) else None,
            b_eq=values if len(equal) else None,
            bounds=(None, None),
            method="highs",
        )
        flat[index] = solution.status == 0 and limits[index] - solution.fun <= _FLAT
    return flat
