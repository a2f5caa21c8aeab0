"""What is observed at an input: the function, linear functionals of it, or several outputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import ArgumentError, DataError
from bo_suite.kernels import Functionals
from bo_suite.surrogates.basis import Basis
from bo_suite.surrogates.messages.expectations import Expectations, expectations
from bo_suite.surrogates.messages.sums import OperatorSums, SeparableSums, Sums
from bo_suite.surrogates.normal_rule import normal_nodes
from bo_suite.surrogates.observed import differentiable
from bo_suite.surrogates.prior_mean import PriorMean

Operator = Callable[[Tensor], Functionals]
"""Rows (*b, n, d) to n P functionals, the P of a row side by side."""


@dataclass(frozen=True, eq=False)
class Message:
    """What a batch of data adds.

    Attributes:
        sums: over the data.
        vectors: columns whose `Sums.terms` are what the data add to the precision; None if they are many.
    """

    sums: Sums
    vectors: jt.Float[Tensor, "*b m k"] | None


@runtime_checkable
class Outputs(Protocol):
    """A likelihood of P outputs, Gaussian given the function."""

    def stacked(self, y: Tensor) -> Tensor:
        """Outputs as observed, (*b, n) or (*b, n, P), as (*b, n, P)."""

    def prior_mean(self, like: jt.Float[Tensor, "*b"]) -> PriorMean:
        """Constant prior mean of the latent process."""

    def message(
        self,
        basis: Basis,
        x: jt.Float[Tensor, "*b n d"],
        y: jt.Float[Tensor, "*b n p"],
        x_std: jt.Float[Tensor, "*b n d"] | None,
    ) -> Message:
        """What data add: O(n m²).

        Args:
            basis: the inducing variables.
            x: means of the inputs.
            y: outputs.
            x_std: standard deviations of the inputs, or None if they are exact.

        Raises:
            DataError: numbers that are not finite, or negative deviations.
        """


@dataclass(frozen=True)
class ScalarOutputs:
    """y_n = f(x_n) + noise (the node UniSGP of RxGP).

    Attributes:
        mean: constant prior mean of f.
    """

    mean: float = 0.0

    @property
    def root(self) -> jt.Float64[Tensor, "1 1"]:
        """One process, as it is."""
        return torch.ones(1, 1, **CPU_DOUBLES)

    def stacked(self, y: Tensor) -> Tensor:
        """(*b, n) as (*b, n, 1)."""
        return y[..., None]

    def residuals(self, y: jt.Float[Tensor, "*b n p"]) -> jt.Float[Tensor, "*b n p"]:
        """Outputs less their prior mean."""
        return y - self.mean

    def prior_mean(self, like: jt.Float[Tensor, "*b"]) -> PriorMean:
        """The constant."""
        return PriorMean(torch.full_like(like, self.mean))

    def message(
        self,
        basis: Basis,
        x: jt.Float[Tensor, "*b n d"],
        y: jt.Float[Tensor, "*b n p"],
        x_std: jt.Float[Tensor, "*b n d"] | None,
    ) -> Message:
        """What data add."""
        expected = expectations(basis, x, x_std)
        return Message(separable_sums(expected, self.residuals(y), self.root), expected.vectors)


@dataclass(frozen=True, eq=False)
class VectorOutputs:
    """y_n = R g(x_n) + noise, R Rᵀ = C, g independent processes (MultiSGP; there C = I).

    This is the intrinsic coregionalisation model, with covariance C ⊗ k.

    Attributes:
        coregionalisation: C (P, P), symmetric and positive semidefinite.
        mean: constant prior mean of each output (P,); None for zero.

    Raises:
        ArgumentError: C is not symmetric and positive semidefinite.
    """

    coregionalisation: jt.Float[Tensor, "p p"]
    mean: jt.Float[Tensor, " p"] | None = None

    def __post_init__(self) -> None:
        matrix = self.coregionalisation
        eigenvalues = torch.linalg.eigvalsh(matrix)
        least = -8.0 * torch.finfo(matrix.dtype).eps * eigenvalues.abs().max()
        if not torch.allclose(matrix, matrix.mT) or not bool((eigenvalues >= least).all()):
            raise ArgumentError("a coregionalisation matrix must be symmetric and positive semidefinite")

    @property
    def root(self) -> jt.Float[Tensor, "p r"]:
        """R, with as many columns as C has eigenvalues that are not zero."""
        eigenvalues, vectors = torch.linalg.eigh(self.coregionalisation)
        counts = eigenvalues > 8.0 * torch.finfo(eigenvalues.dtype).eps * eigenvalues.max()
        root: Tensor = vectors[:, counts] * eigenvalues[counts].sqrt()
        return root

    def stacked(self, y: Tensor) -> Tensor:
        """The same."""
        return y

    def residuals(self, y: jt.Float[Tensor, "*b n p"]) -> jt.Float[Tensor, "*b n p"]:
        """Outputs less their prior means."""
        return y if self.mean is None else y - self.mean.to(y)

    def prior_mean(self, like: jt.Float[Tensor, "*b"]) -> PriorMean:
        """Zero: means are those of outputs."""
        return PriorMean(torch.zeros_like(like))

    def message(
        self,
        basis: Basis,
        x: jt.Float[Tensor, "*b n d"],
        y: jt.Float[Tensor, "*b n p"],
        x_std: jt.Float[Tensor, "*b n d"] | None,
    ) -> Message:
        """What data add. Every output is observed at every input."""
        expected = expectations(basis, x, x_std)
        return Message(separable_sums(expected, self.residuals(y), self.root), expected.vectors)


@dataclass(frozen=True, eq=False)
class OperatorOutputs:
    """y_n = (𝓛 f)(x_n) + noise, with P linear functionals 𝓛 (UniSGP_dID). The kernel must be differentiable.

    Attributes:
        operator: `gradients`, `values_and_gradients`, or any function of rows to P functionals a row.
        mean: constant prior mean of f.
    """

    operator: Operator
    mean: float = 0.0

    def stacked(self, y: Tensor) -> Tensor:
        """The same."""
        return y

    def prior_mean(self, like: jt.Float[Tensor, "*b"]) -> PriorMean:
        """The constant."""
        return PriorMean(torch.full_like(like, self.mean))

    def message(
        self,
        basis: Basis,
        x: jt.Float[Tensor, "*b n d"],
        y: jt.Float[Tensor, "*b n p"],
        x_std: jt.Float[Tensor, "*b n d"] | None,
    ) -> Message:
        """What data add. Uncertain inputs are averaged by `normal_rule`.

        Raises:
            DataError: also if the kernel has no derivatives, or the operator another number of functionals.
        """
        nodes, weights = normal_nodes(x, torch.zeros_like(x) if x_std is None else x_std)
        rows = nodes.flatten(-3, -2)
        functionals = self.operator(rows)
        sizes = (x.shape[-2], len(weights), y.shape[-1])
        if functionals.count != math.prod(sizes):
            count = functionals.count // max(rows.shape[-2], 1)
            raise DataError(f"the operator has {count} functionals a row, but y has {y.shape[-1]} outputs")
        constant = functionals.gathered(functionals.weight, -1).unflatten(-1, sizes)
        residuals = y - self.mean * (weights[:, None] * constant).sum(-2)
        white = basis.whiten(functionals)
        a = white.unflatten(-1, sizes)
        shares = a * weights[:, None]
        left, right = (each.flatten(-3, -2).movedim(-1, -3) for each in (shares, a))
        outer = left[..., :, None, :, :] @ right[..., None, :, :, :].mT
        first = shares.sum(-2).movedim(-1, -3)
        cross = (first @ residuals[..., None, :, :]).mT.movedim(-2, -3)
        prior = (weights[:, None, None] * _own_covariances(basis, self.operator, nodes)).sum((-4, -3))
        unexplained = prior - outer.diagonal(dim1=-2, dim2=-1).sum(-1)
        sums = OperatorSums(outer, cross, residuals.mT @ residuals, unexplained, x.shape[-2])
        return Message(sums, white if len(weights) == 1 else None)


def gradients(x: jt.Float[Tensor, "*b n d"]) -> Functionals:
    """The gradient of f at rows: d functionals a row."""
    d = x.shape[-1]
    eye = torch.eye(d, dtype=x.dtype, device=x.device)
    direction = eye.expand(*x.shape[:-1], d, d).flatten(-3, -2)
    return Functionals.directional(x.repeat_interleave(d, -2), direction)


def values_and_gradients(x: jt.Float[Tensor, "*b n d"]) -> Functionals:
    """The value of f, then its gradient, at rows: 1 + d functionals a row."""
    n, d = x.shape[-2:]
    rows = x.repeat_interleave(d + 1, -2)
    direction = torch.eye(d + 1, dtype=x.dtype, device=x.device)[:, 1:]
    weight = torch.eye(d + 1, dtype=x.dtype, device=x.device)[:, 0]
    return Functionals(
        rows,
        weight.expand(*x.shape[:-1], d + 1).flatten(-2),
        direction.expand(*x.shape[:-1], d + 1, d).flatten(-3, -2),
        torch.arange(n * (d + 1), device=x.device),
        n * (d + 1),
    )


def separable_sums(
    expected: Expectations, residuals: jt.Float[Tensor, "*b n p"], root: jt.Float[Tensor, "p r"]
) -> SeparableSums:
    """The sums over data with these expectations, outputs less their means, and root of C."""
    unexplained = expected.prior - expected.second.diagonal(dim1=-2, dim2=-1).sum(-1)
    return SeparableSums(
        root=root.to(residuals).expand(*residuals.shape[:-2], *root.shape),
        outer=expected.second,
        cross=residuals.mT @ expected.first.mT,
        squares=residuals.mT @ residuals,
        residual=unexplained.clamp(min=0.0),
        divergence=torch.zeros_like(unexplained),
        count=residuals.shape[-2],
    )


def _own_covariances(basis: Basis, operator: Operator, x: Tensor) -> Tensor:
    """Prior covariances of the functionals of each row (*b, n, k, d): shape (*b, n, k, P, P)."""
    functionals = operator(x[..., None, :])
    theta = basis.theta[..., None, None, :].expand(*x.shape[:-1], -1)
    return differentiable(basis.kernel).functionals_cross(theta, functionals, functionals)[0]
