"""Lower factors L of covariances K = L Lᵀ whose structure saves work: dense, diagonal and bordered ones."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.linalg.cholesky import cholesky_append
from bo_suite.linalg.factor import jittered_cholesky, solve_lower


@runtime_checkable
class Factor(Protocol):
    """L with K = L Lᵀ, of m variables."""

    @property
    def count(self) -> int:
        """m."""

    @property
    def variances(self) -> jt.Float[Tensor, "*b m"]:
        """The diagonal of L Lᵀ."""

    @property
    def dense(self) -> jt.Float[Tensor, "*b m m"]:
        """L as a matrix."""

    def solve(self, right: Tensor, *, transposed: bool = False) -> Tensor:
        """L⁻¹ B, or L⁻ᵀ B, for B (*b, m, q)."""

    def appended(self, cross: jt.Float[Tensor, "*b m q"], corner: jt.Float[Tensor, "*b q q"]) -> "Factor":
        """The factor of [[K, cross], [crossᵀ, corner]].

        Raises:
            NumericalError: the Schur complement is not positive definite, jitter included.
        """


@dataclass(frozen=True, eq=False)
class Lower:
    """A triangular matrix: solving costs O(m²) a column.

    Attributes:
        dense: L.
    """

    dense: jt.Float[Tensor, "*b m m"]

    @property
    def count(self) -> int:
        """m."""
        return self.dense.shape[-1]

    @property
    def variances(self) -> jt.Float[Tensor, "*b m"]:
        """The diagonal of L Lᵀ."""
        return self.dense.square().sum(-1)

    def solve(self, right: Tensor, *, transposed: bool = False) -> Tensor:
        """L⁻¹ B, or L⁻ᵀ B."""
        return solve_lower(self.dense, right, transposed=transposed)

    def appended(self, cross: jt.Float[Tensor, "*b m q"], corner: jt.Float[Tensor, "*b q q"]) -> "Lower":
        """The factor of [[K, cross], [crossᵀ, corner]], by `cholesky_append`."""
        return Lower(cholesky_append(self.dense, cross, corner))


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Independent variables: solving costs O(m) a column, and nothing needs jitter.

    Attributes:
        root: their standard deviations, positive.
    """

    root: jt.Float[Tensor, "*b m"]

    @property
    def count(self) -> int:
        """m."""
        return self.root.shape[-1]

    @property
    def variances(self) -> jt.Float[Tensor, "*b m"]:
        """The diagonal of L Lᵀ."""
        return self.root.square()

    @property
    def dense(self) -> jt.Float[Tensor, "*b m m"]:
        """L as a matrix."""
        return torch.diag_embed(self.root)

    def solve(self, right: Tensor, *, transposed: bool = False) -> Tensor:
        """L⁻¹ B, which is L⁻ᵀ B."""
        return right / self.root[..., None]

    def appended(self, cross: jt.Float[Tensor, "*b m q"], corner: jt.Float[Tensor, "*b q q"]) -> "Bordered":
        """The factor of [[K, cross], [crossᵀ, corner]]."""
        top = self.solve(cross)
        scale = corner.diagonal(dim1=-2, dim2=-1).mean(-1)
        return Bordered(self, top, jittered_cholesky(corner - top.mT @ top, scale)[0])


@dataclass(frozen=True, eq=False)
class Bordered:
    """[[L, 0], [Cᵀ, R]]: the factor L of some variables, and of others orthogonal to them.

    Of K = [[A, B], [Bᵀ, D]]: L Lᵀ = A, C = L⁻¹ B, R Rᵀ = D - Cᵀ C. What L saves is saved.

    Attributes:
        first: L, of m variables.
        cross: C.
        corner: R.
    """

    first: Factor
    cross: jt.Float[Tensor, "*b m q"]
    corner: jt.Float[Tensor, "*b q q"]

    @property
    def count(self) -> int:
        """m + q."""
        return self.first.count + self.corner.shape[-1]

    @property
    def variances(self) -> jt.Float[Tensor, "*b k"]:
        """The diagonal of the covariance."""
        return torch.cat(
            (self.first.variances, self.cross.square().sum(-2) + self.corner.square().sum(-1)), -1
        )

    @property
    def dense(self) -> jt.Float[Tensor, "*b k k"]:
        """The factor as a matrix."""
        top = torch.cat((self.first.dense, torch.zeros_like(self.cross)), -1)
        return torch.cat((top, torch.cat((self.cross.mT, self.corner), -1)), -2)

    def solve(self, right: Tensor, *, transposed: bool = False) -> Tensor:
        """The inverse, or that of the transpose, times B."""
        m = self.first.count
        top, bottom = right[..., :m, :], right[..., m:, :]
        if transposed:
            bottom = solve_lower(self.corner, bottom, transposed=True)
            top = self.first.solve(top - self.cross @ bottom, transposed=True)
        else:
            top = self.first.solve(top)
            bottom = solve_lower(self.corner, bottom - self.cross.mT @ top)
        return torch.cat((top, bottom), -2)

    def appended(self, cross: jt.Float[Tensor, "*b n q"], corner: jt.Float[Tensor, "*b q q"]) -> "Bordered":
        """The factor of [[K, cross], [crossᵀ, corner]], n = m + q."""
        m, q = self.first.count, cross.shape[-1]
        top = self.first.solve(cross[..., :m, :])
        below = solve_lower(self.corner, cross[..., m:, :] - self.cross.mT @ top)
        scale = corner.diagonal(dim1=-2, dim2=-1).mean(-1)
        last = jittered_cholesky(corner - top.mT @ top - below.mT @ below, scale)[0]
        right = torch.nn.functional.pad(self.corner, (0, q))
        wider = torch.cat((right, torch.cat((below.mT, last), -1)), -2)
        return Bordered(self.first, torch.cat((self.cross, top), -1), wider)
