"""What kernels with a lengthscale for each column share: priors, the Hamming factor, the outputscale."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds

_UNLIKE = 0.2
"""Distance between two categories. At the mode of the common prior, l = 0.2 √d, they correlate by
exp(-1 / √d), about as two typical points of a real column do, so that untried categories are tried. With a
distance of one, categories hardly correlated, and the search stayed with the first."""

_FIDELITY = 3.0
"""Mode of the prior of a fidelity's lengthscale."""

_STEP = 0.1
"""Rate of the prior of 1 / l² if the function is constant in steps."""

_MANY = 100
"""Number of unordered columns beyond which many are compared at a time."""

_PAIRS = 2**20
"""Number of pairs of codes that are then compared at once."""

_WIDE = 1e5
"""Largest frequency of an unordered column: codes 1 / 100 apart then correlate by less than 1e-3."""


@dataclass(frozen=True)
class Ard:
    """Theta = (log l_1 ... log l_d, log s²), its priors, and s² exp(-sum_u 0.2 [x_u != z_u] / l_u).

    Attributes:
        unordered: columns that hold codes of categories.
        fidelities: columns that hold the fidelity of an evaluation.
        outputscale_spread: standard deviation of log s² under its prior.
    """

    unordered: tuple[int, ...]
    fidelities: tuple[int, ...]
    outputscale_spread: float

    def start(self, dim: int, together: int | None = None) -> jt.Float[Tensor, " p"]:
        """Lengthscales √d / 2, those of fidelities 3, and outputscale one.

        Args:
            dim: number of columns.
            together: the d of the formula, if rows can not have all columns.
        """
        theta = torch.tensor(
            [math.log(0.5 * math.sqrt(together or dim))] * dim + [0.0], dtype=torch.float64, device="cpu"
        )
        theta[list(self.fidelities)] = math.log(_FIDELITY)
        return theta

    def bounds(self, dim: int) -> tuple[jt.Float[Tensor, " p"], jt.Float[Tensor, " p"]]:
        """Lengthscales in [0.01, 1000], outputscale in [0.01, 1000]."""
        lower = torch.tensor([math.log(0.01)] * dim + [math.log(0.01)], dtype=torch.float64, device="cpu")
        return lower, torch.full_like(lower, math.log(1e3))

    def log_prior(
        self,
        theta: jt.Float[Tensor, "*b p"],
        dim: int,
        stepped: jt.Bool[Tensor, "*b"] | None = None,
        together: int | None = None,
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """Log density of (l, s²), not of their logarithms, up to a constant, and its gradient by theta.

        Args:
            theta: hyperparameters.
            dim: number of columns.
            stepped: whether the function is known to be constant in steps; None if it is not.
            together: the d of the formula, if rows can not have all columns.
        """
        location = theta.new_tensor([math.sqrt(2.0) + 0.5 * math.log(together or dim)] * dim + [0.0])
        spread = theta.new_tensor([math.sqrt(3.0)] * dim + [self.outputscale_spread])
        location[list(self.fidelities)] = math.log(_FIDELITY) + 1.0
        spread[list(self.fidelities)] = 1.0
        standard = (theta - location) / spread
        value, gradient = -(0.5 * standard.square() + theta).sum(-1), -(standard / spread + 1.0)
        if stepped is None:
            return value, gradient
        step = _STEP * torch.exp(-2.0 * theta) * stepped[..., None]
        step[..., [*self.unordered, *self.fidelities, dim]] = 0.0
        return value - step.sum(-1), gradient + 2.0 * step

    def inverse_lengthscales(self, theta: Tensor) -> Tensor:
        """1 / l, zero for unordered columns, which are not part of r."""
        inverse = torch.exp(-theta[..., :-1])
        if self.unordered:
            inverse[..., list(self.unordered)] = 0.0
        return inverse

    def amplitude(self, theta: Tensor, x: Tensor, z: Tensor) -> Tensor:
        """s² times the Hamming factor."""
        logarithm = theta[..., -1, None, None]
        if len(self.unordered) > _MANY:
            for columns, differs in self._differences(x, z):
                penalty = _UNLIKE * torch.exp(-theta[..., columns])
                logarithm = logarithm - (differs @ penalty[..., None, :, None])[..., 0]
            return torch.exp(logarithm)
        for column in self.unordered:
            unlike = x[..., :, None, column] != z[..., None, :, column]
            logarithm = logarithm - unlike * (_UNLIKE * torch.exp(-theta[..., column, None, None]))
        return torch.exp(logarithm)

    def add_categories(self, gradient: Tensor, theta: Tensor, x: Tensor, z: Tensor, weighted: Tensor) -> None:
        """Write the derivatives by log lengthscales of unordered columns, given a matrix times k."""
        if len(self.unordered) > _MANY:
            for columns, differs in self._differences(x, z):
                mass = (weighted.flatten(-2)[..., None, :] @ differs.flatten(-3, -2))[..., 0, :]
                gradient[..., columns] = mass * _UNLIKE * torch.exp(-theta[..., columns])
            return
        for column in self.unordered:
            unlike = x[..., :, None, column] != z[..., None, :, column]
            mass = (weighted * unlike).sum((-2, -1))
            gradient[..., column] = mass * _UNLIKE * torch.exp(-theta[..., column])

    def add_frequencies(self, frequencies: Tensor, theta: Tensor, seeds: Seeds) -> None:
        """Write those of unordered columns, (*b, count), each for a part of the Hamming factor.

        exp(-c [x != z]) = ρ + (1 - ρ) [x = z] with ρ = exp(-c): zero with probability ρ, else uniform on a
        range so wide that the cosine of two different codes averages out.
        """
        count = frequencies.shape[-2]
        for column in self.unordered:
            uniform = seeds.split(f"code {column}").uniform((count, 2), theta)
            constant = torch.exp(-_UNLIKE * torch.exp(-theta[..., column, None]))
            wide = (2.0 * uniform[..., 1] - 1.0) * _WIDE
            frequencies[..., column] = torch.where(uniform[..., 0] < constant, 0.0, wide)

    def diagonal(
        self, theta: jt.Float[Tensor, "*b p"], x: jt.Float[Tensor, "*b m d"]
    ) -> jt.Float[Tensor, "*b m"]:
        """The outputscale."""
        return torch.exp(theta[..., -1:]).expand(x.shape[:-1])

    def diagonal_gradient(
        self,
        theta: jt.Float[Tensor, "*b p"],
        x: jt.Float[Tensor, "*b m d"],
        weights: jt.Float[Tensor, "*b m"],
    ) -> tuple[jt.Float[Tensor, "*b p"], jt.Float[Tensor, "*b m d"]]:
        """Gradients of sum_i weights_i k(x_i, x_i): by the outputscale; 0 by other theta, and by x."""
        gradient = torch.zeros_like(theta)
        gradient[..., -1] = torch.exp(theta[..., -1]) * weights.sum(-1)
        return gradient, torch.zeros_like(x)

    def _differences(self, x: Tensor, z: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """1 where codes differ, else 0, for some unordered columns at a time: shape (*b, m, n, columns)."""
        size = max(_PAIRS // (x.shape[:-1].numel() * max(z.shape[-2], 1)), 1)
        for begin in range(0, len(self.unordered), size):
            columns = list(self.unordered[begin : begin + size])
            yield columns, (x[..., :, None, columns] != z[..., None, :, columns]).to(x)
