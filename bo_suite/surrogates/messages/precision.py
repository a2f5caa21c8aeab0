"""The precision of the noise, W = covariance⁻¹: fixed, or with a Gamma or a Wishart distribution.

A datum of P outputs sends the message |W|^(1/2) exp(-½ tr(W G_n)), where G_n is the expectation of its
squared residuals. All messages together change a prior by their number and by G = Σ_n G_n alone.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import ArgumentError


@runtime_checkable
class NoisePrecision(Protocol):
    """A distribution of the precision W of P outputs; equal arguments as prior and as posterior."""

    @property
    def outputs(self) -> int:
        """P."""

    @property
    def mean(self) -> jt.Float[Tensor, "*b p p"]:
        """E[W]."""

    @property
    def log_determinant(self) -> jt.Float[Tensor, "*b"]:
        """E[log |W|]."""

    def updated(self, count: int, scatter: jt.Float[Tensor, "*b p p"]) -> "NoisePrecision":
        """This one times the messages of some data.

        Args:
            count: number of data.
            scatter: G, the expectation of the sum of their squared residuals.
        """

    def divergence(self, prior: "NoisePrecision") -> jt.Float[Tensor, "*b"]:
        """Kullback-Leibler divergence from a prior of the same kind."""

    def where(self, mask: jt.Bool[Tensor, "*b"], other: "NoisePrecision") -> "NoisePrecision":
        """This one where the mask is true, another of the same kind elsewhere."""


@dataclass(frozen=True, eq=False)
class FixedPrecision:
    """A known W.

    Attributes:
        matrix: W, positive definite.

    Raises:
        ArgumentError: a matrix that is not symmetric and positive definite.
    """

    matrix: jt.Float[Tensor, "*b p p"]

    def __post_init__(self) -> None:
        _check_definite("a precision", self.matrix)

    @property
    def outputs(self) -> int:
        """P."""
        return self.matrix.shape[-1]

    @property
    def mean(self) -> jt.Float[Tensor, "*b p p"]:
        """W."""
        return self.matrix

    @property
    def log_determinant(self) -> jt.Float[Tensor, "*b"]:
        """log |W|."""
        return torch.logdet(self.matrix)

    def updated(self, count: int, scatter: jt.Float[Tensor, "*b p p"]) -> "FixedPrecision":
        """The same, for the replicates of the data."""
        return FixedPrecision(self.matrix.expand_as(scatter))

    def divergence(self, prior: NoisePrecision) -> jt.Float[Tensor, "*b"]:
        """Zero."""
        return self.matrix.new_zeros(self.matrix.shape[:-2])

    def where(self, mask: jt.Bool[Tensor, "*b"], other: NoisePrecision) -> "FixedPrecision":
        """The same."""
        return self


@dataclass(frozen=True, eq=False)
class GammaPrecision:
    """W = w I, w ~ Gamma(shape, rate): noise of the same variance in P outputs, independently.

    A datum adds P / 2 to the shape and tr(G_n) / 2 to the rate: its message is Gamma(P / 2 + 1, tr(G_n) / 2).

    Attributes:
        shape: α.
        rate: β.
        outputs: P.

    Raises:
        ArgumentError: a shape or a rate that is not positive.
    """

    shape: jt.Float[Tensor, "*b"]
    rate: jt.Float[Tensor, "*b"]
    outputs: int = 1

    def __post_init__(self) -> None:
        if not bool(((self.shape > 0) & (self.rate > 0) & self.rate.isfinite()).all()):
            raise ArgumentError("the shape and the rate of a GammaPrecision must be positive and finite")

    @property
    def mean(self) -> jt.Float[Tensor, "*b p p"]:
        """α / β I."""
        eye = torch.eye(self.outputs, dtype=self.rate.dtype, device=self.rate.device)
        return (self.shape / self.rate)[..., None, None] * eye

    @property
    def log_determinant(self) -> jt.Float[Tensor, "*b"]:
        """P (ψ(α) - log β)."""
        return self.outputs * (torch.digamma(self.shape) - self.rate.log())

    def updated(self, count: int, scatter: jt.Float[Tensor, "*b p p"]) -> "GammaPrecision":
        """Gamma(α + n P / 2, β + tr(G) / 2)."""
        shape = self.shape + 0.5 * count * self.outputs
        rate = self.rate + 0.5 * scatter.diagonal(dim1=-2, dim2=-1).sum(-1)
        return GammaPrecision(shape.expand(rate.shape), rate, self.outputs)

    def divergence(self, prior: NoisePrecision) -> jt.Float[Tensor, "*b"]:
        """(α - α₀) ψ(α) - log Γ(α) + log Γ(α₀) + α₀ log(β / β₀) + α (β₀ - β) / β."""
        assert isinstance(prior, GammaPrecision), "a prior of the same kind"
        change = (self.shape - prior.shape) * torch.digamma(self.shape)
        change = change - torch.lgamma(self.shape) + torch.lgamma(prior.shape)
        change = change + prior.shape * (self.rate / prior.rate).log()
        return change + self.shape * (prior.rate - self.rate) / self.rate

    def where(self, mask: jt.Bool[Tensor, "*b"], other: NoisePrecision) -> "GammaPrecision":
        """This one where the mask is true, the other elsewhere."""
        assert isinstance(other, GammaPrecision), "one of the same kind"
        shape, rate = (
            torch.where(mask, own, its) for own, its in ((self.shape, other.shape), (self.rate, other.rate))
        )
        return GammaPrecision(shape, rate, self.outputs)


@dataclass(frozen=True, eq=False)
class WishartPrecision:
    """W ~ Wishart(ν, A⁻¹), with density proportional to |W|^((ν - P - 1) / 2) exp(-½ tr(A W)).

    A datum adds 1 to ν and G_n to A: its message is Wishart(P + 2, G_n⁻¹). With P = 1 this is
    Gamma(ν / 2, A / 2).

    Attributes:
        freedom: ν, above P - 1.
        inverse_scale: A, positive definite.

    Raises:
        ArgumentError: too few degrees of freedom, or an A that is not symmetric and positive definite.
    """

    freedom: jt.Float[Tensor, "*b"]
    inverse_scale: jt.Float[Tensor, "*b p p"]

    def __post_init__(self) -> None:
        if not bool((self.freedom > self.outputs - 1).all()):
            raise ArgumentError(
                f"a WishartPrecision of {self.outputs} outputs must have more than {self.outputs - 1} "
                "degrees of freedom"
            )
        _check_definite("the inverse scale of a WishartPrecision", self.inverse_scale)

    @property
    def outputs(self) -> int:
        """P."""
        return self.inverse_scale.shape[-1]

    @property
    def mean(self) -> jt.Float[Tensor, "*b p p"]:
        """ν A⁻¹."""
        chol = torch.linalg.cholesky(self.inverse_scale)
        return self.freedom[..., None, None] * torch.cholesky_inverse(chol)

    @property
    def log_determinant(self) -> jt.Float[Tensor, "*b"]:
        """Σ_i ψ((ν - i) / 2) + P log 2 - log |A|, i from 0 to P - 1."""
        index = torch.arange(self.outputs, dtype=self.freedom.dtype, device=self.freedom.device)
        digamma = torch.digamma(0.5 * (self.freedom[..., None] - index)).sum(-1)
        return digamma + self.outputs * math.log(2.0) - torch.logdet(self.inverse_scale)

    def updated(self, count: int, scatter: jt.Float[Tensor, "*b p p"]) -> "WishartPrecision":
        """Wishart(ν + n, (A + G)⁻¹)."""
        inverse_scale = self.inverse_scale + scatter
        return WishartPrecision((self.freedom + count).expand(inverse_scale.shape[:-2]), inverse_scale)

    def divergence(self, prior: NoisePrecision) -> jt.Float[Tensor, "*b"]:
        """E[log q(W) - log p(W)], from the means of W and log |W| and the normalising constants."""
        assert isinstance(prior, WishartPrecision), "a prior of the same kind"
        difference = (self.inverse_scale - prior.inverse_scale) * self.mean
        powers = 0.5 * (self.freedom - prior.freedom) * self.log_determinant
        return powers - 0.5 * difference.sum((-2, -1)) + self._log_constant() - prior._log_constant()

    def where(self, mask: jt.Bool[Tensor, "*b"], other: NoisePrecision) -> "WishartPrecision":
        """This one where the mask is true, the other elsewhere."""
        assert isinstance(other, WishartPrecision), "one of the same kind"
        inverse_scale = torch.where(mask[..., None, None], self.inverse_scale, other.inverse_scale)
        return WishartPrecision(torch.where(mask, self.freedom, other.freedom), inverse_scale)

    def _log_constant(self) -> Tensor:
        """½ ν log |A| - ½ ν P log 2 - log Γ_P(ν / 2)."""
        half, outputs = 0.5 * self.freedom, self.outputs
        logarithm = torch.logdet(self.inverse_scale) - outputs * math.log(2.0)
        return half * logarithm - torch.mvlgamma(half, outputs)


def _check_definite(name: str, matrix: Tensor) -> None:
    info = torch.linalg.cholesky_ex(matrix)[1]
    if not bool((info == 0).all()) or not torch.allclose(matrix, matrix.mT):
        raise ArgumentError(f"{name} must be symmetric and positive definite")
