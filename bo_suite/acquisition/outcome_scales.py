"""Scales of outcomes that a Gaussian process may fit better than the given one, and the choice among them."""

import math
from dataclasses import dataclass, fields, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.observations import numbers, with_best_derivatives
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, WarmStart
from bo_suite.surrogates.sparse import SparseProcess
from bo_suite.surrogates.subsample import best_and_evenly_spaced, observations_at
from bo_suite.surrogates.ties import tied
from bo_suite.surrogates.warm_start import has_grown

QUANTILES = (0.5, 0.1)
"""A log scale magnifies the distances between the best outcome and one of these quantiles of the outcomes."""

CANDIDATES = 1 + len(QUANTILES)
"""Number of scales that are compared."""

_SMALLEST_OFFSET = 1e-3
"""Smallest offset, in distances from the best outcome to the median: below it, a log scale is all spike."""

_STRONG = 3.0
"""A log scale needs a log density higher by this, a factor of 20: strong evidence (Kass and Raftery 1995).
With less of it, as under noise, log scales measured worse."""

MOST = 200
"""Most observations that scales are compared on: each has a fit of its own."""


@dataclass(frozen=True, eq=False)
class OutcomeScale:
    """t(y) = (log(y - best + c) - location) / spread, or y itself where `given`.

    Attributes:
        given: replicates whose outcomes stay as they are.
        best: smallest outcome.
        offset: c > 0.
        location: mean of the logarithms.
        spread: their standard deviation.
    """

    given: jt.Bool[Tensor, "*b 1"]
    best: jt.Float[Tensor, "*b 1"]
    offset: jt.Float[Tensor, "*b 1"]
    location: jt.Float[Tensor, "*b 1"]
    spread: jt.Float[Tensor, "*b 1"]

    @staticmethod
    def candidates(y: jt.Float[Tensor, "*b n"], best: jt.Float[Tensor, "*b 1"]) -> "OutcomeScale":
        """The given scale and one log scale for each of QUANTILES of y, as a leading dimension."""
        median, *others = (y.quantile(share, dim=-1, keepdim=True) - best for share in (0.5, *QUANTILES))
        smallest = _SMALLEST_OFFSET * torch.where(median > 0, median, 1.0)
        offset = torch.stack([torch.ones_like(best), *(torch.maximum(other, smallest) for other in others)])
        given = torch.zeros_like(offset, dtype=torch.bool)
        given[0] = True
        logs = torch.log(y - best + offset)
        location = logs.mean(-1, keepdim=True)
        spread = (logs - location).square().mean(-1, keepdim=True).sqrt()
        spread = torch.where(spread > 1e-9, spread, 1.0)
        return OutcomeScale(given, best.expand_as(offset), offset, location, spread)

    def __call__(self, y: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*sb n"]:
        """Outcomes on the scale."""
        return torch.where(self.given, y, (self._logs(y) - self.location) / self.spread)

    def inverse(self, t: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*b n"]:
        """The outcomes of values on the scale, those below the best outcome too."""
        logs = torch.where(self.given, 0.0, self.location + self.spread * t)
        return torch.where(self.given, t, self.best + logs.exp() - self.offset)

    def log_slope(self, y: jt.Float[Tensor, "*b n"]) -> jt.Float[Tensor, "*sb n"]:
        """log dt/dy."""
        return torch.where(self.given, 0.0, -self._logs(y) - self.spread.log())

    def of_data(self, data: Dataset) -> Dataset:
        """The observations on the scale, without pending points; candidates add a leading dimension."""
        y = self(data.y)
        x = data.x.expand(*y.shape, data.x.shape[-1])
        log_slope = self.log_slope(data.y)
        noise = None if data.noise is None else data.noise * (2.0 * log_slope).exp()
        gradient = None if data.gradient is None else data.gradient * log_slope.exp()[..., None]
        x_std = None if data.x_std is None else data.x_std.expand_as(x)
        return Dataset(x, y, noise, columns=data.columns, gradient=gradient, x_std=x_std)

    def chosen(self, index: jt.Int64[Tensor, "*b"]) -> "OutcomeScale":
        """One of the candidates for each replicate."""
        values = (getattr(self, field.name) for field in fields(self))
        return OutcomeScale(*(value.gather(0, index[None, ..., None])[0] for value in values))

    def _logs(self, y: Tensor) -> Tensor:
        return torch.log((y - self.best).clamp(min=0.0) + self.offset)


@dataclass(frozen=True, eq=False)
class ScaleChoice:
    """The scale of each replicate on which a Gaussian process predicts the best observations best.

    Attributes:
        scale: the chosen one.
        index: of it among the candidates.
        hyperparameters: of the fits to all candidates.
        observations: number of observations of these fits.
    """

    scale: OutcomeScale
    index: jt.Int64[Tensor, "*b"]
    hyperparameters: jt.Float[Tensor, "c *b p"]
    observations: int

    @staticmethod
    def of(surrogate: ExactGP, data: Dataset, seeds: Seeds, start: WarmStart | None) -> "ScaleChoice":
        """Fits all candidates as one batch and compares them by leave-one-out density.

        A log scale has to be better by a factor of 20. Only the better half of the outcomes counts, and so
        each density is conditional on an outcome of that half: otherwise a scale would win by mass alone
        (the conditional likelihood score of Diks, Panchenko and van Dijk 2011). Nor do tied outcomes count: a
        scale that magnifies the distance of a plateau to the rest would win by predicting it exactly.

        Args:
            surrogate: the model.
            data: observations.
            seeds: of the fits.
            start: hyperparameters of an earlier choice.

        Raises:
            FitError, NumericalError: a fit fails.
        """
        compared = best_and_evenly_spaced(_prefix(data), MOST)
        compared = with_best_derivatives(compared, _most_numbers(compared))
        scales = OutcomeScale.candidates(compared.y, data.y.amin(-1, keepdim=True))
        fitted = surrogate.fit(scales.of_data(compared), seeds, start)
        evidence = _evidence(fitted, scales, compared)
        evidence[0] += _STRONG
        index = evidence.argmax(0)
        observations = compared.x.shape[-2]
        return ScaleChoice(scales.chosen(index), index, fitted.hyperparameters, observations)

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen scale of each replicate, in words."""
        words = ("as given", *(f"log, offset at the {share:.0%} quantile" for share in QUANTILES))
        return tuple(words[index] for index in self.index.flatten().tolist())

    @property
    def chosen(self) -> Hyperparameters:
        """The hyperparameters of the fit to the chosen scale."""
        pick = self.index[None, ..., None].expand(1, *self.hyperparameters.shape[1:])
        return self.hyperparameters.gather(0, pick)[0]


def _evidence(fitted: ExactProcess, scales: OutcomeScale, data: Dataset) -> Tensor:
    """Sum over the better half of y of log p(y_i | the others, y_i <= median), the density of y as given."""
    y = data.y
    mean, var = leave_one_out(fitted, scales(y))
    median = y.quantile(0.5, dim=-1, keepdim=True)
    std = var.sqrt()
    standard, limit = (scales(y) - mean) / std, (scales(median) - mean) / std
    density = -0.5 * standard.square() - std.log() + scales.log_slope(y) - torch.special.log_ndtr(limit)
    return torch.where((y <= median) & ~tied(data), density, 0.0).sum(-1)


def _most_numbers(data: Dataset) -> int:
    """Most outcomes and derivatives that scales are compared on: as many derivatives as outcomes, or more."""
    return max(MOST // 2, 2 * data.x.shape[-2])


def _prefix(data: Dataset) -> Dataset:
    """The first observations, as many as `prefix_length`."""
    n = data.x.shape[-2]
    count = prefix_length(n)
    if n == count:
        return data
    return observations_at(data, torch.arange(count, device=data.x.device).expand(*data.batch_shape, count))


def prefix_length(n: int) -> int:
    """Beyond 200 of n observations, a power of 1.2 below n: so a choice by the first ones seldom changes."""
    return n if n <= MOST else min(n, math.ceil(1.2 ** math.floor(math.log(n, 1.2))))


def fit_chosen(
    surrogate: AutoGP, data: Dataset, seeds: Seeds, chosen: WarmStart, start: WarmStart | None
) -> ExactProcess | SparseProcess:
    """The process of all observations on a chosen scale.

    If all of them were compared, with all derivatives, the hyperparameters are those of the comparison. A
    search from afresh starts there.

    Args:
        surrogate: whose exact part scales were compared by.
        data: on the chosen scale.
        seeds: of the fit.
        chosen: the hyperparameters of the comparison.
        start: of an earlier fit on a chosen scale.

    Raises:
        FitError, NumericalError: the fit fails.
    """
    n = data.x.shape[-2]
    if chosen.observations == n and numbers(data) <= max(_most_numbers(data), n):
        return surrogate.fit(data, seeds, replace(chosen, settled=True))
    one_search = replace(surrogate, exact=replace(surrogate.exact, restarts=1))
    grown = start is None or has_grown(start.observations, n)
    return one_search.fit(data, seeds, chosen if grown else start)
