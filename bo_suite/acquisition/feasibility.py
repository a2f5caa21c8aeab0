"""The probability that outcomes lie in their intervals, modelled from their values."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.limit_scales import FITS, FittedLimits
from bo_suite.classifiers import GPClassifier, WeightedExamples
from bo_suite.classifiers.gp import GPLogOdds
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, Process, WarmStart

_SMALLEST_VAR = 1e-12
"""Variances are clamped here before their square root is taken; outcomes have variance about 1."""

_FARTHEST = 1e7
"""Ends are clamped to so many standard deviations: beyond, the gradient of `log_ndtr` cancels to infinity."""

_OPEN = 1e4
"""Stands for an infinite end of outcomes of variance 1, as the gradient of an infinite end is NaN."""

_NARROW = 1e-3
"""Relative change of the density over an interval below which it counts as that at the middle."""


def log_probability_between(
    low: jt.Float[Tensor, "*b"], high: jt.Float[Tensor, "*b"]
) -> jt.Float[Tensor, "*b"]:
    """log(Φ(high) - Φ(low)) for low < high, which may be infinite; accurate in both tails.

    By symmetry it is computed in the lower tail: with a <= b there, log Φ(b) + log(1 - Φ(a) / Φ(b)). Where
    that cancels, since the interval is narrow, it is log φ((a + b) / 2) + log(b - a).
    """
    low, high = (end.clamp(-_FARTHEST, _FARTHEST) for end in (low, high))
    upper = low + high > 0.0
    a, b = torch.where(upper, -high, low), torch.where(upper, -low, high)
    width = b - a
    narrow = width * (1.0 - 0.5 * (a + b)) < _NARROW
    far = torch.where(narrow, -1.0, b), torch.where(narrow, -2.0, a)
    of_b, of_a = (torch.special.log_ndtr(end) for end in far)
    wide = of_b + torch.log1p(-torch.exp((of_a - of_b).clamp(max=-1e-12)))
    middle = torch.where(narrow, 0.5 * (a + b), 0.0)
    density = -0.5 * middle.square() - 0.9189385332046727
    return torch.where(narrow, density + torch.where(narrow, width, 1.0).log(), wide)


_CERTAINTY = 3.0
"""Number of equal labels that one counts as: with 1 or 100, searches ended farther from the optimum."""


@dataclass(frozen=True, eq=False)
class _Intervals:
    """Numeric outcomes, the first dimension of a process, and the finite ends of their intervals."""

    process: Process
    low: jt.Float[Tensor, "c *b 1"]
    high: jt.Float[Tensor, "c *b 1"]

    def log(self, x: Tensor) -> Tensor:
        mean, var = self.process.mean_and_var(x.expand(self.low.shape[0], *x.shape))
        std = var.clamp(min=_SMALLEST_VAR).sqrt()
        return log_probability_between((self.low - mean) / std, (self.high - mean) / std).sum(0)


@dataclass(frozen=True, eq=False)
class Feasibility:
    """The probability that all constraints are met.

    Numeric outcomes are Gaussian processes, fitted as one batch, each on the scale that suits it, and one
    process where that predicts them better (see `FittedLimits`). Each is in its interval with probability
    Φ((high - μ) / σ) - Φ((low - μ) / σ) (Gardner et al. 2014, equation 7), as if independent of the others.
    Pending points count as observed at their posterior mean. Labels are classified by Gaussian processes with
    a logistic likelihood (`GPClassifier`): a row has a label for certain, not by chance, so the probability
    is that of positive log odds, Φ(μ / σ), and a label counts as three. While all labels of a constraint are
    equal, they count as numbers that must exceed one half, which leads away from rows that do not meet it.

    Attributes:
        intervals: of numeric outcomes; None if there are none.
        log_odds: processes of the log odds of labels.
        hyperparameters: of the fits to the numeric outcomes, then of those to labels.
        rows: number of rows that were fitted.
        together: in which runs all numeric outcomes are one process; None if in none.
    """

    intervals: _Intervals | None
    log_odds: tuple[Process, ...]
    hyperparameters: Hyperparameters
    rows: int
    together: jt.Bool[Tensor, "*b"] | None = None

    @staticmethod
    def fit(data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> "Feasibility":
        """The probability given the constrained outcomes.

        Raises:
            FitError, NumericalError: a model cannot be fitted.
        """
        outcomes = data.outcomes
        assert outcomes is not None, "data without outcomes have no constraints"
        seeds = seeds.split("feasibility")
        first, last = outcomes.objectives, outcomes.y.shape[-2]
        labels = [index for index in range(last - outcomes.labels, last) if not _all_equal(outcomes, index)]
        numeric = [index for index in range(first, last) if index not in labels]
        of_numbers, of_labels = _split_start(data, start, len(numeric), len(labels))
        intervals, hyperparameters = None, data.x.new_zeros(*data.batch_shape, 0)
        together = None
        if numeric:
            fitted = _fitted(data, numeric, seeds, of_numbers)
            hyperparameters, together = fitted.hyperparameters, fitted.together
            intervals = _intervals(data, fitted)
        log_odds = [
            _log_odds(data, index, seeds.split(f"label {index}"), one)
            for index, one in zip(labels, of_labels, strict=True)
        ]
        hyperparameters = torch.cat((hyperparameters, *(one.hyperparameters for one in log_odds)), -1)
        processes = tuple(one.process for one in log_odds)
        return Feasibility(intervals, processes, hyperparameters, outcomes.x.shape[-2], together)

    @property
    def warm_start(self) -> WarmStart:
        """Start of the next fit."""
        return WarmStart(self.hyperparameters, self.rows)

    def log(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The sum of the log probabilities of all constraints."""
        total = x.new_zeros(x.shape[:-1]) if self.intervals is None else self.intervals.log(x)
        for process in self.log_odds:
            mean, var = process.mean_and_var(x)
            total = total + torch.special.log_ndtr(mean / var.clamp(min=_SMALLEST_VAR).sqrt())
        return total


def _fitted(data: Dataset, numeric: list[int], seeds: Seeds, start: WarmStart | None) -> FittedLimits:
    """Some constrained outcomes as numbers."""
    outcomes = data.outcomes
    assert outcomes is not None, "data without outcomes have no constraints"
    noise = None if outcomes.noise is None else outcomes.noise[..., numeric, :]
    low, high = outcomes.low[..., numeric], outcomes.high[..., numeric]
    limits = Outcomes(outcomes.x, outcomes.y[..., numeric, :], 0, low, high, noise)
    return FittedLimits.of(data, limits, seeds, start)


def _intervals(data: Dataset, fitted: FittedLimits) -> _Intervals:
    """Fitted outcomes in their intervals, given pending points."""
    process = fitted.process
    if data.pending.shape[-2]:
        with torch.no_grad():
            pending = data.pending.expand(len(fitted.low), *data.pending.shape)
            process = process.condition(pending, process.mean(pending))
    low, high = (torch.where(end.isinf(), end.sign() * _OPEN, end) for end in (fitted.low, fitted.high))
    return _Intervals(process, low, high)


def _split_start(
    data: Dataset, start: WarmStart | None, numbers: int, labels: int
) -> tuple[WarmStart | None, list[WarmStart | None]]:
    """The start of the fit to numeric outcomes, and of that to each label; none if the sizes differ."""
    size = AutoGP().exact.start(replace(data, gradient=None)).shape[-1]  # derivatives are of the objective
    of_all_labels = labels * (size - 1)  # a label has no noise
    first = 0 if start is None else start.hyperparameters.shape[-1] - of_all_labels
    if start is None or first < numbers * FITS * size or (first and not numbers):
        return None, [None] * labels
    sizes = [first, *[size - 1] * labels]
    of_numbers, *of_labels = start.hyperparameters.split(sizes, -1)
    rest: list[WarmStart | None] = [replace(start, hyperparameters=one) for one in of_labels]
    return (replace(start, hyperparameters=of_numbers) if numbers else None), rest


def _all_equal(outcomes: Outcomes, index: int) -> bool:
    """Whether all labels of an outcome are equal."""
    label = outcomes.y[..., index, :]
    label = label[~label.isnan()]
    return bool((label == label[:1]).all())


def _log_odds(data: Dataset, index: int, seeds: Seeds, start: WarmStart | None) -> GPLogOdds:
    """The log odds that an outcome's label is 1."""
    outcomes = data.outcomes
    assert outcomes is not None, "data without outcomes have no labels"
    label = outcomes.y[..., index, :]
    measured = ~label.isnan()
    label, x = label[measured], outcomes.x[measured]
    weights = _CERTAINTY * label, _CERTAINTY * (1.0 - label)
    kinds = data.columns
    examples = WeightedExamples(
        x, *weights, kinds.unordered, kinds.levels, kinds.conditions, kinds.descriptors
    )
    return GPClassifier().fit(examples, seeds, start)
