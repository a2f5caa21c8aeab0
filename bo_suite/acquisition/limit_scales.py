"""The scale on which a Gaussian process predicts each constrained outcome best."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.outcome_scales import MOST, fit_chosen, prefix_length
from bo_suite.acquisition.several import joined, outcome_dataset
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.leave_one_out import leave_one_out
from bo_suite.surrogates.outputs import OutputsChoice
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, WarmStart
from bo_suite.surrogates.subsample import spaced_indices

FITS = 5
"""Number of fits to an outcome: one on each scale, and the last."""

_OFFSET = 0.03
"""Of the one-sided logarithms, in typical distances of outcomes from the boundary."""

_CONSTANT = 1e-9
"""Standard deviation up to which an outcome counts as constant."""

_WORST_NOISE = 1e6
"""Variances of the noise are clipped here; outcomes on a scale have variance 1."""


@dataclass(frozen=True, eq=False)
class FittedLimits:
    """Constrained outcomes on their scales: the processes, and the ends of the intervals.

    Attributes:
        process: fitted to the outcomes, a leading dimension.
        low: lower ends of the intervals.
        high: upper ends.
        hyperparameters: of all fits, one vector a run.
        together: in which runs all outcomes are one process; None if in none.
    """

    process: Process
    low: jt.Float[Tensor, "c *b 1"]
    high: jt.Float[Tensor, "c *b 1"]
    hyperparameters: Hyperparameters
    together: jt.Bool[Tensor, "*b"] | None = None

    @staticmethod
    def of(data: Dataset, limits: Outcomes, seeds: Seeds, start: WarmStart | None) -> "FittedLimits":
        """Each outcome on the scale with the highest evidence.

        All scales are fitted as one batch. The evidence is the sum of the log densities of outcomes given all
        others, as densities on the linear scale. Beyond 200 observations, a part of them is compared. On the
        chosen scales, the outcomes are one process if that predicts them better (see `OutputsChoice`).

        Args:
            data: whose columns the rows have.
            limits: constrained outcomes alone.
            seeds: of the fits.
            start: of an earlier choice.

        Raises:
            FitError, NumericalError: a fit fails.
        """
        surrogate, (count, n) = AutoGP(), limits.y.shape[-2:]
        scales = LimitScales.of(limits)
        candidates, slopes = scales.of_outcomes(limits), scales.log_slopes(limits.y).flatten(-3, -2)
        compared = candidates
        part = spaced_indices(prefix_length(n), MOST, limits.y.device)
        if part is not None:
            compared, slopes = _rows(candidates, part), slopes[..., part]
        observed = outcome_dataset(replace(data, outcomes=compared), 0, compared.y.shape[-2])
        of_scales, of_last, of_all = _parts(start, count, surrogate.exact.start(observed).shape[-1])
        fitted = surrogate.exact.fit(observed, seeds, of_scales)
        mean, var = leave_one_out(fitted, observed.y)
        density = slopes.movedim(-2, 0) - 0.5 * ((observed.y - mean).square() / var + var.log())
        index = density.nansum(-1).unflatten(0, (-1, count)).argmax(0)  # what is missing has no slope
        index = index * count + torch.arange(count, device=index.device).reshape(-1, *[1] * (index.ndim - 1))
        every = fitted.hyperparameters
        chosen = _picked(candidates, index.movedim(0, -1))
        vectors = every.gather(0, index[..., None].expand(*index.shape, every.shape[-1]))
        best = outcome_dataset(replace(data, outcomes=chosen), 0, count)
        process = fit_chosen(surrogate, best, seeds, WarmStart(vectors, observed.x.shape[-2]), of_last)
        hyperparameters = joined(torch.cat((every, process.hyperparameters)))
        low, high = (end.movedim(-1, 0)[..., None] for end in (chosen.low, chosen.high))
        if not isinstance(process, ExactProcess):
            return FittedLimits(process, low, high, hyperparameters)
        choice = OutputsChoice.of(surrogate.exact, best, process, seeds, of_all)
        if choice.hyperparameters is not None:
            hyperparameters = torch.cat((hyperparameters, joined(choice.hyperparameters)), -1)
        return FittedLimits(choice.process, low, high, hyperparameters, choice.together)


@dataclass(frozen=True, eq=False)
class LimitScales:
    """Four increasing scales of each outcome, standardised: (*b, c, n) becomes (*b, 4, c, n).

    They are the linear one, the bilog around the boundary (Eriksson and Poloczek 2021), the logarithm of the
    height above the least of outcomes and ends, and that of the depth below the largest. Stresses and weights
    are products of dimensions, and smooth after a logarithm; margins are linear.
    """

    middle: Tensor
    least: Tensor
    most: Tensor
    location: Tensor
    spread: Tensor
    varies: Tensor

    @staticmethod
    def of(limits: Outcomes) -> "LimitScales":
        """The scales of outcomes, which may be missing, and of their intervals."""
        low, high, y = limits.low[..., None], limits.high[..., None], limits.y
        low, high = torch.where(low.isinf(), high, low), torch.where(high.isinf(), low, high)
        least = torch.where(y.isnan(), torch.inf, y).amin(-1, keepdim=True).minimum(low)
        most = torch.where(y.isnan(), -torch.inf, y).amax(-1, keepdim=True).maximum(high)
        zero, one = torch.zeros_like(low)[..., None, :, :], torch.ones_like(low)[..., None, :, :]
        raw = LimitScales(0.5 * low + 0.5 * high, least, most, zero, one, one > 0.0)
        t = raw(y)
        location = t.nanmean(-1, keepdim=True)
        spread = (t - location).square().nanmean(-1, keepdim=True).sqrt()
        varies = spread > _CONSTANT
        return replace(raw, location=location, spread=torch.where(varies, spread, 1.0), varies=varies)

    def __call__(self, y: Tensor) -> Tensor:
        z, above, below = self._distances(y)
        t = torch.stack((z, z.sign() * torch.log1p(z.abs()), above.log(), -below.log()), -3)
        return (t - self.location) / self.spread

    def log_slopes(self, y: Tensor) -> Tensor:
        """Logarithms of the derivatives, 0 of a constant outcome."""
        z, above, below = self._distances(y)
        slopes = torch.stack((0.0 * z, -torch.log1p(z.abs()), -above.log(), -below.log()), -3)
        return torch.where(self.varies | slopes.isnan(), slopes - self.spread.log(), 0.0)

    def of_outcomes(self, limits: Outcomes) -> Outcomes:
        """All outcomes on all scales: (*b, 4 c, n)."""
        noise = limits.noise
        if noise is not None:
            noise = noise[..., None, :, :] * (2.0 * self.log_slopes(limits.y)).exp()
            noise = noise.clamp(max=_WORST_NOISE).flatten(-3, -2)
        low, high = (self._of_end(end[..., None]).flatten(-3) for end in (limits.low, limits.high))
        return Outcomes(limits.x, self(limits.y).flatten(-3, -2), 0, low, high, noise)

    def _of_end(self, end: Tensor) -> Tensor:
        t = self(torch.where(end.isinf(), self.middle, end))
        return torch.where(end.isinf()[..., None, :, :], end[..., None, :, :], t)

    def _distances(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return y - self.middle, y - self.least + _OFFSET, self.most - y + _OFFSET


def _parts(
    start: WarmStart | None, count: int, size: int
) -> tuple[WarmStart | None, WarmStart | None, WarmStart | None]:
    """The start of the fits on all scales, of the last, and of all outcomes together.

    None for what the stored vector does not have.

    Args:
        start: of an earlier fit.
        count: number of outcomes.
        size: number of hyperparameters of one outcome.
    """
    last = FITS * count * size
    if start is None or start.hyperparameters.shape[-1] < last or start.hyperparameters.shape[-1] % count:
        return None, None, None
    of_fits, of_all = start.hyperparameters[..., :last], start.hyperparameters[..., last:]
    vectors = of_fits.unflatten(-1, (FITS * count, -1)).movedim(-2, 0)
    together = of_all.unflatten(-1, (count, -1)).movedim(-2, 0) if of_all.shape[-1] else None
    return (
        replace(start, hyperparameters=vectors[:-count]),
        replace(start, hyperparameters=vectors[-count:]),
        None if together is None else replace(start, hyperparameters=together),
    )


def _rows(outcomes: Outcomes, index: Tensor) -> Outcomes:
    """The outcomes of some rows."""
    noise = None if outcomes.noise is None else outcomes.noise[..., index]
    return replace(outcomes, x=outcomes.x[..., index, :], y=outcomes.y[..., index], noise=noise)


def _picked(outcomes: Outcomes, index: jt.Int64[Tensor, "*b c"]) -> Outcomes:
    """Some of the outcomes, in each run others."""
    of_rows = index[..., None].expand(*index.shape, outcomes.y.shape[-1])
    y, noise = (None if one is None else one.gather(-2, of_rows) for one in (outcomes.y, outcomes.noise))
    assert y is not None
    low, high = outcomes.low.gather(-1, index), outcomes.high.gather(-1, index)
    return replace(outcomes, y=y, low=low, high=high, noise=noise)
