"""Outcomes and their known derivatives as the observations of one Gaussian process."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset
from bo_suite.errors import DataError
from bo_suite.kernels import Functionals, Kernel
from bo_suite.kernels.base import Pullback
from bo_suite.surrogates.noise import observation_noise
from bo_suite.surrogates.noisy_inputs import averaged
from bo_suite.surrogates.observed import (
    Observed,
    as_functionals,
    functionals_cross,
    variances_and_pullback,
)

_SMALLEST_UNIT = 1e-6
"""Smallest mean square of derivatives by a column, relative to the largest: so that zeros have noise too."""

_MOST_NODES = 2000
"""Most nodes of averages over the noise of inputs: a fit takes the square of their number in memory."""


@dataclass(frozen=True, eq=False)
class Observations:
    """All outcomes, then all known derivatives, each with noise.

    A derivative's noise variance is `unit` times a second fitted level: the mean square of the known
    derivatives by its column, since these may be far apart.

    Attributes:
        observed: rows, or functionals: values at the rows, then derivatives.
        y: outcomes, then derivatives.
        one: what they would be of the function 1: ones, then zeros.
        given: noise variances of the outcomes, NaN where unknown; None when all are unknown.
        unit: of each derivative's noise; None without derivatives.
        exact: what would be observed at exact inputs; None if all are exact. Where inputs have noise, what
            is observed is averaged over it. An observation has the variance that it has at its own input,
            wherever that is, and covariances with all else that are averaged over the noise of both.
    """

    observed: Observed
    y: jt.Float[Tensor, "*b q"]
    one: jt.Float[Tensor, "*b q"]
    given: jt.Float[Tensor, "*b n"] | None = None
    unit: jt.Float[Tensor, "*b e"] | None = None
    exact: Observed | None = None

    @staticmethod
    def of(data: Dataset) -> "Observations":
        """Those of the data, averaged over the noise of inputs.

        If the averages have more than 2,000 nodes, all inputs count as exact, and what varies with them is
        noise of outcomes.

        Raises:
            DataError: replicates with different numbers of known derivatives or, if inputs have noise, with
                different ones.
        """
        at_exact = Observations._at_exact_inputs(data)
        std, observed = data.x_std, as_functionals(at_exact.observed)
        if std is None or not bool((std > 0.0).any()):
            return at_exact
        if observed.points.shape != data.x.shape:
            raise DataError("replicates with noisy inputs must know the same derivatives, got different ones")
        over_noise = averaged(observed, std)
        if len(over_noise.owner) > _MOST_NODES:
            return at_exact
        return replace(at_exact, observed=over_noise, exact=at_exact.observed)

    @staticmethod
    def _at_exact_inputs(data: Dataset) -> "Observations":
        """Those of the data as if inputs were exact.

        Raises:
            DataError: replicates with different numbers of known derivatives.
        """
        ones = torch.ones_like(data.y)
        count = known_derivatives(data)
        if data.gradient is None or not count:
            return Observations(data.x, data.y, ones, data.noise)
        d = data.x.shape[-1]
        known = ~data.gradient.isnan()
        # known ones first, in the order of rows and columns, which may differ among replicates
        entries = known.flatten(-2).to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :count]
        row, column = entries // d, entries % d
        derivative = data.gradient.flatten(-2).gather(-1, entries)
        functionals = _functionals(data.x, row, column, known)
        squares = torch.where(known, data.gradient, 0.0).square().sum(-2) / known.sum(-2).clamp(min=1)
        largest = squares.amax(-1, keepdim=True)
        unit = torch.maximum(squares, _SMALLEST_UNIT * torch.where(largest > 0.0, largest, 1.0))
        return Observations(
            functionals,
            torch.cat((data.y, derivative), -1),
            torch.cat((ones, torch.zeros_like(derivative)), -1),
            data.noise,
            unit.gather(-1, column),
        )

    @property
    def noises(self) -> int:
        """Number of fitted noise levels: 1, or 2 with derivatives."""
        return 1 if self.unit is None else 2

    def covariance(self, kernel: Kernel, theta: jt.Float[Tensor, "*b p"]) -> tuple[Tensor, Pullback]:
        """Prior covariance without noise, and the map of a symmetric W to d sum(W * covariance) / d theta.

        Raises:
            DataError: derivatives, and a kernel that is not smooth enough.
        """
        if isinstance(self.observed, Tensor):
            return kernel.gram(theta, self.observed.expand(*theta.shape[:-1], *self.observed.shape[-2:]))
        functionals = self.observed.expanded(theta.shape[:-1])
        k, pullback = functionals_cross(kernel, theta, functionals, functionals)
        if self.exact is None:
            return k, lambda weights: pullback(weights)[0]
        exact = _expanded(self.exact, theta.shape[:-1])
        own, by_own = variances_and_pullback(kernel, theta, exact)

        def by_theta(weights: Tensor) -> Tensor:
            diagonal = weights.diagonal(dim1=-2, dim2=-1)
            return pullback(weights - torch.diag_embed(diagonal))[0] + by_own(diagonal)

        return k + torch.diag_embed(own - k.diagonal(dim1=-2, dim2=-1)), by_theta

    def noise(
        self, levels: jt.Float[Tensor, "*rb k"]
    ) -> tuple[jt.Float[Tensor, "*rb q"], Callable[[Tensor], Tensor]]:
        """Noise variances of the fitted levels, and the map of w (*rb, q) to d (w · variances) / d levels."""
        n = self.y.shape[-1] - (0 if self.unit is None else self.unit.shape[-1])
        diagonal, fitted = observation_noise(levels[..., 0], self.given, n)
        if self.unit is None:
            return diagonal, lambda weights: (weights * fitted).sum(-1, keepdim=True)
        unit = self.unit
        both = torch.cat((diagonal, (unit * levels[..., 1:]).expand(*levels.shape[:-1], -1)), -1)

        def pullback(weights: Tensor) -> Tensor:
            of_values = (weights[..., :n] * fitted).sum(-1)
            return torch.stack((of_values, (weights[..., n:] * unit).sum(-1)), -1)

        return both, pullback


def _expanded(observed: Tensor | Functionals, lead: tuple[int, ...]) -> Tensor | Functionals:
    """The same for more replicates."""
    if isinstance(observed, Functionals):
        return observed.expanded(lead)
    return observed.expand(*lead, *observed.shape[-2:])


def _functionals(x: Tensor, row: Tensor, column: Tensor, known: Tensor) -> Functionals:
    """The values at x and the derivatives of the given rows and columns (*b, e)."""
    d, rows = x.shape[-1], row.reshape(-1, row.shape[-1])
    direction = torch.nn.functional.one_hot(column, d).to(x)
    if bool((rows != rows[0]).any()):
        at = x.gather(-2, row[..., None].expand(*row.shape, d))
        return Functionals.values(x).joined(Functionals.directional(at, direction))
    of_one = known.reshape(-1, *known.shape[-2:])
    whole = of_one[0].any(-1).nonzero()[:, 0]
    columns = tuple(of_one[0].any(0).nonzero()[:, 0].tolist())
    if len(whole) * len(columns) == row.shape[-1] and bool((of_one == of_one[0]).all()):
        return Functionals.values_and_gradients(x, whole, columns)
    return Functionals.values_and_derivatives(x, rows[0], direction)


def known_derivatives(data: Dataset) -> int:
    """Number of derivatives that the data hold, for each replicate.

    Raises:
        DataError: replicates with different numbers.
    """
    if data.gradient is None:
        return 0
    counts = (~data.gradient.isnan()).sum((-2, -1))
    most = int(counts.max()) if counts.numel() else 0
    if counts.numel() and int(counts.min()) != most:
        raise DataError("replicates must have equally many known derivatives")
    return most


def numbers(data: Dataset) -> int:
    """Number of outcomes and known derivatives, for each replicate: what a fit takes time for."""
    return data.x.shape[-2] + known_derivatives(data)


def with_best_derivatives(data: Dataset, most: int) -> Dataset:
    """The data with the derivatives at the best outcomes alone, so that `numbers` is at most `most`.

    Those at the best one stay in any case.
    """
    if data.gradient is None or numbers(data) <= most:
        return data
    order = data.y.argsort(dim=-1, stable=True)
    known = (~data.gradient.isnan()).sum(-1)
    so_far = known.gather(-1, order).cumsum(-1)
    few = torch.zeros_like(known, dtype=torch.bool).scatter(-1, order, so_far <= most - data.x.shape[-2])
    few.scatter_(-1, order[..., :1], True)  # the best one's in any case
    return replace(data, gradient=data.gradient.masked_fill(~few[..., None], torch.nan))
