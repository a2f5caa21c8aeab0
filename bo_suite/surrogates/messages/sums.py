"""What messages to a sparse process add up to: sums over the data that no noise precision enters.

Inducing values are whitened, with prior N(0, I). So the optimal q of them follows for every precision W, and
data that have been added once stay counted once, however often q is computed.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.linalg import solve_lower


@dataclass(frozen=True, eq=False)
class Optimum:
    """What the bound and the message to W need of the optimal q of the inducing values at a precision.

    Attributes:
        scatter: G = Σ_n E[(y_n - f̃_n)(y_n - f̃_n)ᵀ], with what the inducing values leave of the variance.
        divergence: Kullback-Leibler divergence of q from the prior.
    """

    scatter: jt.Float[Tensor, "*b p p"]
    divergence: jt.Float[Tensor, "*b"]


@runtime_checkable
class Sums(Protocol):
    """Sums over n data of P outputs each.

    q consists of r independent Gaussians over m whitened values, in natural form: `precision_chol` L_B, and
    the linear parameter L_B L_Bᵀ w.
    """

    @property
    def count(self) -> int:
        """n."""

    @property
    def divergence(self) -> jt.Float[Tensor, "*b"]:
        """Kullback-Leibler divergence of the q of uncertain inputs from their prior, summed."""

    def plus(self, other: "Sums") -> "Sums":
        """Sums over both."""

    def optimum(self, precision: jt.Float[Tensor, "*b p p"]) -> Optimum:
        """The optimal q at a precision, summarised."""

    def precision_chol(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m m"]:
        """L_B of the optimal q, by factorising: O(r m³)."""

    def linear(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m"]:
        """The linear natural parameter of the optimal q."""

    def terms(
        self, vectors: jt.Float[Tensor, "*b m k"], precision: jt.Float[Tensor, "*b p p"]
    ) -> jt.Float[Tensor, "r *b m k"]:
        """What data with such vectors add to L_B L_Bᵀ, as V with V Vᵀ."""


@dataclass(frozen=True, eq=False)
class SeparableSums:
    """Sums for y_n = R g(x_n) + noise, with r independent processes g of the same kernel and a root R (P, r).

    R Rᵀ is the coregionalisation matrix. With W the precision of the noise and Rᵀ W R = V diag(δ) Vᵀ, the
    precision of the whitened values is I + Rᵀ W R ⊗ S. It is never formed: rotated by V, it consists of
    I + δ_j S. And with S = U diag(λ) Uᵀ, computed once, moments at any W cost O(r m).

    Attributes:
        root: R.
        outer: S = Σ_n E[a(x_n) a(x_n)ᵀ].
        cross: Σ_n y_n E[a(x_n)]ᵀ.
        squares: Σ_n y_n y_nᵀ.
        residual: Σ_n E[k(x_n, x_n) - a(x_n)ᵀ a(x_n)], at least 0.
        divergence: Σ_n KL(q(x_n) ‖ p(x_n)), 0 unless `locate_inputs` has found where inputs are.
        count: n.
    """

    root: jt.Float[Tensor, "*b p r"]
    outer: jt.Float[Tensor, "*b m m"]
    cross: jt.Float[Tensor, "*b p m"]
    squares: jt.Float[Tensor, "*b p p"]
    residual: jt.Float[Tensor, "*b"]
    divergence: jt.Float[Tensor, "*b"]
    count: int

    def plus(self, other: Sums) -> "SeparableSums":
        """Sums over both."""
        assert isinstance(other, SeparableSums), "sums of the same kind"
        return replace(
            self,
            outer=self.outer + other.outer,
            cross=self.cross + other.cross,
            squares=self.squares + other.squares,
            residual=self.residual + other.residual,
            divergence=self.divergence + other.divergence,
            count=self.count + other.count,
        )

    def optimum(self, precision: jt.Float[Tensor, "*b p p"]) -> Optimum:
        """The optimal q at a precision, summarised: O(r m) once S is decomposed."""
        gains, mixing = self.rotation(precision)
        eigenvalues, cross = self._spectrum
        var = (1.0 + gains[..., :, None] * eigenvalues[..., None, :]).reciprocal()
        mean = mixing.mT @ precision @ cross * var
        explained = cross @ mean.mT @ mixing.mT
        spread = torch.diag_embed((var * eigenvalues[..., None, :]).sum(-1))
        second = (mean * eigenvalues[..., None, :]) @ mean.mT + spread
        scatter = self.squares - explained - explained.mT + mixing @ second @ mixing.mT
        scatter = scatter + self.residual[..., None, None] * (self.root @ self.root.mT)
        divergence = 0.5 * (var + mean.square() - 1.0 - var.log()).sum((-2, -1))
        return Optimum(scatter, divergence)

    def precision_chol(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m m"]:
        """The factors of I + δ_j S."""
        gains = self.rotation(precision)[0].movedim(-1, 0)
        return _factor(gains[..., None, None] * self.outer)

    def linear(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m"]:
        """Vᵀ Rᵀ W Σ_n y_n E[a(x_n)]ᵀ."""
        _, mixing = self.rotation(precision)
        return (mixing.mT @ precision @ self.cross).movedim(-2, 0)

    def terms(
        self, vectors: jt.Float[Tensor, "*b m k"], precision: jt.Float[Tensor, "*b p p"]
    ) -> jt.Float[Tensor, "r *b m k"]:
        """√δ_j a."""
        gains = self.rotation(precision)[0].movedim(-1, 0)
        return gains.sqrt()[..., None, None] * vectors

    def rotation(
        self, precision: jt.Float[Tensor, "*b p p"]
    ) -> tuple[jt.Float[Tensor, "*b r"], jt.Float[Tensor, "*b p r"]]:
        """δ, at least 0, and R V: y = R V h with processes h that are independent after the data, too."""
        inner = self.root.mT @ precision @ self.root
        if inner.shape[-1] == 1:
            return inner[..., 0], self.root.expand(*inner.shape[:-2], *self.root.shape[-2:])
        gains, vectors = torch.linalg.eigh(inner)
        return gains.clamp(min=0.0), self.root @ vectors

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """λ, at least 0, and Σ_n y_n E[a(x_n)]ᵀ U."""
        eigenvalues, vectors = torch.linalg.eigh(self.outer)
        return eigenvalues.clamp(min=0.0), self.cross @ vectors


@dataclass(frozen=True, eq=False)
class OperatorSums:
    """Sums for y_n = (𝓛 f)(x_n) + noise, with P linear functionals 𝓛 of one process f.

    With a_p(x) = L⁻¹ cov(u, (𝓛 f)_p(x)), the precision of the whitened values is I + Σ_pq W_pq S_pq. The
    m x m matrices S_pq have no common eigenvectors, so each W takes one factorisation.

    Attributes:
        outer: S_pq = Σ_n E[a_p(x_n) a_q(x_n)ᵀ].
        cross: Σ_n y_np E[a_q(x_n)], for each (p, q).
        squares: Σ_n y_n y_nᵀ.
        residual: Σ_n E[cov((𝓛 f)(x_n)) - a(x_n)ᵀ a(x_n)].
        count: n.
    """

    outer: jt.Float[Tensor, "*b p p m m"]
    cross: jt.Float[Tensor, "*b p p m"]
    squares: jt.Float[Tensor, "*b p p"]
    residual: jt.Float[Tensor, "*b p p"]
    count: int

    @property
    def divergence(self) -> jt.Float[Tensor, "*b"]:
        """Zero: the q of inputs are their priors."""
        return self.squares.new_zeros(self.squares.shape[:-2])

    def plus(self, other: Sums) -> "OperatorSums":
        """Sums over both."""
        assert isinstance(other, OperatorSums), "sums of the same kind"
        return OperatorSums(
            self.outer + other.outer,
            self.cross + other.cross,
            self.squares + other.squares,
            self.residual + other.residual,
            self.count + other.count,
        )

    def optimum(self, precision: jt.Float[Tensor, "*b p p"]) -> Optimum:
        """The optimal q at a precision, summarised: O(m³ + P² m²)."""
        chol = self.precision_chol(precision)[0]
        white = solve_lower(chol, self.linear(precision)[0][..., None])
        mean = solve_lower(chol, white, transposed=True)[..., 0]
        cov = torch.cholesky_inverse(chol)
        second = cov + mean[..., :, None] * mean[..., None, :]
        explained = (self.cross @ mean[..., None, :, None])[..., 0]
        scatter = self.squares - explained - explained.mT + self.residual
        scatter = scatter + (self.outer * second[..., None, None, :, :]).sum((-2, -1))
        traces = cov.diagonal(dim1=-2, dim2=-1) + mean.square() - 1.0
        determinant = 2.0 * chol.diagonal(dim1=-2, dim2=-1).log()
        return Optimum(0.5 * (scatter + scatter.mT), 0.5 * (traces + determinant).sum(-1))

    def precision_chol(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m m"]:
        """The factor of I + Σ_pq W_pq S_pq."""
        weighted = (precision[..., None, None] * self.outer).sum((-4, -3))
        return _factor(weighted)[None]

    def linear(self, precision: jt.Float[Tensor, "*b p p"]) -> jt.Float[Tensor, "r *b m"]:
        """Σ_pq W_pq Σ_n y_np E[a_q(x_n)]."""
        return (precision[..., None] * self.cross).sum((-3, -2))[None]

    def terms(
        self, vectors: jt.Float[Tensor, "*b m k"], precision: jt.Float[Tensor, "*b p p"]
    ) -> jt.Float[Tensor, "r *b m k"]:
        """a(x_n) chol(W), with the P columns of a datum side by side."""
        outputs = precision.shape[-1]
        each: Tensor = vectors.unflatten(-1, (-1, outputs))
        weighted = each @ torch.linalg.cholesky(precision)[..., None, :, :]
        flat: Tensor = weighted.flatten(-2)
        return flat[None]


def _factor(matrix: Tensor) -> Tensor:
    """L with L Lᵀ = I + A."""
    precision = matrix.clone()
    precision.diagonal(dim1=-2, dim2=-1).add_(1.0)
    chol: Tensor = torch.linalg.cholesky(precision)
    return chol
