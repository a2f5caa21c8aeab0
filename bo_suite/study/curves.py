"""Learning curves of trials, and what they say about outcomes at the last step."""

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import jaxtyping as jt
import numpy as np
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import log_expected_improvement
from bo_suite.data import CPU_DOUBLES, Curves
from bo_suite.linalg import jittered_cholesky, solve_lower
from bo_suite.storage.trial import Trial
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.surrogates import EmpiricalPrior

_STEPS = 12
"""Number of steps at which curves are compared, at most, beside those at which trials have ended."""

_ENDS = 6
"""Number of such steps, those with the most trials."""

_MOST_CURVES = 500
"""Largest number of curves, the latest ones, that the prior of all is learnt from."""

_MOST_UNFINISHED = 200
"""Largest number of unfinished trials that a surrogate is fitted to: more take seconds and change little."""

_TOLERANCE = 1e-4
"""Relative growth of the log density below which the prior is not improved any more."""

_WEIGHT = 6.0
"""Number of curves that the shape of the prior counts for, beside those of the run."""

_TEMPER = 3.5
"""Factor of the variance of an expected outcome. Curves differ more than those of one normal distribution: on
17 development tasks of lcbench, squared errors were 3 to 4 times the variance that it gives."""

_INFORMATIVE = 0.5
"""Share of the prior variance below which what a running trial has reported counts as an observation."""

_LARGEST_NOISE = 1e4
"""Variance of an observation that says nothing, where outcomes have variance 1."""


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """The curves of the trials of one run, and their outcomes at the last step, observed or expected.

    A normal distribution of curves is learnt from all of them (`EmpiricalPrior.fit`). That trials were
    stopped because of what they had reported does no harm, since these reports are among the data (Rubin
    1976). Given the reports of a trial, its outcome at the last step is N(m, v). As an observation of the
    function at its point, it is what the reports add to N(m_0, v_0), the prior of all curves: the value
    (m / v - m_0 / v_0) w with noise variance w, where 1 / w = 1 / v - 1 / v_0. Both variances, v and w, are
    multiplied by 3.5, which makes the errors of expected outcomes as large as their variance says.

    Attributes:
        trials: with a report or an outcome, in the order given.
        steps: at which curves are compared, divided by the last step; ascending, the last one is 1.
        y: outcomes on the scale of a surrogate, NaN where none was reported.
        transform: of losses to that scale.
        value: of each trial as an observation.
        noise: its variance, NaN for an outcome at the last step.
        mean: m.
        variance: v, 0 for an outcome at the last step.
    """

    trials: tuple[Trial, ...]
    steps: jt.Float[Tensor, " t"]
    y: jt.Float[Tensor, "n t"]
    transform: OutcomeTransform
    value: jt.Float[Tensor, " n"]
    noise: jt.Float[Tensor, " n"]
    mean: jt.Float[Tensor, " n"]
    variance: jt.Float[Tensor, " n"]

    @staticmethod
    def of(trials: Sequence[Trial], sign: float, max_step: int) -> "LearningCurves | None":
        """The curves of trials up to the last step; None if no unfinished one has reported.

        Args:
            trials: of one run, with one objective.
            sign: 1 if a smaller outcome is better, -1 if a larger one is.
            max_step: the last step of a whole evaluation.
        """
        with_curve = tuple(
            trial
            for trial in trials
            if is_measured(trial) or (is_partial(trial) and trial.reports[0].step <= max_step)
        )
        if not any(map(is_partial, with_curve)):
            return None
        steps = _grid(with_curve, max_step)
        losses = sign * torch.tensor([_on_grid(trial, steps) for trial in with_curve], **CPU_DOUBLES)
        seen = ~losses.isnan()
        last = (seen * torch.arange(1, len(steps) + 1)).argmax(-1, keepdim=True)
        transform = OutcomeTransform.fit(losses.gather(-1, last)[:, 0])
        y = transform(losses.nan_to_num(nan=1.0).flatten()).reshape(losses.shape)
        y = torch.where(seen, y, torch.nan)
        grid = torch.tensor(steps, **CPU_DOUBLES) / max_step
        recent = y[-_MOST_CURVES:]
        prior = EmpiricalPrior.fit(Curves(recent[:, :0], grid, recent), weight=_WEIGHT, tolerance=_TOLERANCE)
        mean, variance = _at_the_end(prior, y)
        value, noise = _added(prior, mean, variance)
        noise, variance = _TEMPER * noise, _TEMPER * variance
        return LearningCurves(with_curve, grid, y, transform, value, noise, mean, variance)._standardised()

    @property
    def observed(self) -> jt.Bool[Tensor, " n"]:
        """Which trials count as observations: all finished ones, and unfinished ones that say something.

        These are not the running ones that have said little so far and, of very many, half are the best and
        the others are evenly spaced over the rest.
        """
        finished = self.noise.isnan()
        running = torch.tensor([trial.state == "running" for trial in self.trials], device="cpu")
        vague = running & (self.variance < (1.0 - _INFORMATIVE) * self.noise)  # as 1 - v / w = v / v_0
        unfinished = (~finished & ~vague).nonzero()[:, 0]
        if len(unfinished) > _MOST_UNFINISHED:
            ordered = unfinished[self.mean[unfinished].argsort(stable=True)]
            half = _MOST_UNFINISHED // 2
            others = torch.linspace(half, len(ordered) - 1, half, **CPU_DOUBLES).long()
            unfinished = torch.cat((ordered[:half], ordered[others]))
        observed = finished.clone()
        observed[unfinished] = True
        return observed

    def probability_of_improvement(self, trial: Trial) -> float:
        """Probability that a trial will be better at the last step than all finished ones; 1 if none is."""
        mean, variance, best = self._expected(trial)
        return 1.0 if best is None else float(torch.special.ndtr((best - mean) / variance.sqrt()))

    def log_expected_improvement(self, trial: Trial) -> float:
        """Log of the expected improvement of a trial at the last step on all finished ones.

        While none is finished, what a trial is expected to reach there, negated.
        """
        mean, variance, best = self._expected(trial)
        return (
            -float(mean)
            if best is None
            else float(log_expected_improvement(mean[None], variance[None], best[None]))
        )

    def _expected(self, trial: Trial) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean and variance of a trial at the last step, and the best finished one, if there is any."""
        index = next(number for number, one in enumerate(self.trials) if one.id == trial.id)
        finished = self.noise.isnan()
        best = self.mean[finished].min() if bool(finished.any()) else None
        return self.mean[index], self.variance[index].clamp(min=1e-12), best

    def _standardised(self) -> "LearningCurves":
        """The same with values of mean 0 and variance 1."""
        location, spread = self.value.mean(), self.value.std(correction=0)
        spread = spread if float(spread) > 1e-9 else torch.ones_like(spread)
        moved = {name: (getattr(self, name) - location) / spread for name in ("y", "value", "mean")}
        scaled = {name: getattr(self, name) / spread.square() for name in ("noise", "variance")}
        old = self.transform
        transform = replace(old, shift=old.shift + old.spread * location, spread=old.spread * spread)
        return replace(self, transform=transform, **moved, **scaled)


def is_partial(trial: Trial) -> bool:
    """Whether a trial has reported, and has no outcome at the last step."""
    return trial.state in ("running", "stopped", "paused") and trial.step > 0


def is_measured(trial: Trial) -> bool:
    """Whether a trial has an outcome at the last step."""
    return trial.state == "finished" and trial.value is not None


def seconds_per_step(trial: Trial) -> float:
    """The seconds that a step of the trial takes, by its last report; NaN if that is not known."""
    seconds = trial.reports[-1].seconds / trial.step if trial.reports else 0.0
    return seconds if seconds > 0.0 else math.nan


def curve_belief(trials: Sequence[Trial], sign: float, max_step: int | None) -> LearningCurves:
    """The curves of a run in which a trial has reported to a scheduler."""
    assert max_step is not None
    curves = LearningCurves.of(trials, sign, max_step)
    assert curves is not None
    return curves


def _grid(trials: Sequence[Trial], max_step: int) -> list[int]:
    """Some reported steps about in geometric progression, where trials have ended, and the last step.

    There is a step between the first and the last report of each trial.
    """
    all_steps = {report.step for trial in trials for report in trial.reports} | {max_step}
    reported = sorted(step for step in all_steps if step <= max_step)
    ratio = (max_step / reported[0]) ** (1.0 / (_STEPS - 1))
    wanted = [reported[0] * ratio**index for index in range(_STEPS)]
    nearest = {min(reported, key=lambda step: abs(math.log(step / one))) for one in wanted}
    ends = Counter(trial.step for trial in trials if trial.state in ("stopped", "paused"))
    judged = {
        trial.step for trial in trials if trial.state == "running" and trial.reports[-1].verdict is None
    }
    chosen = nearest | {step for step, _ in ends.most_common(_ENDS)} | judged
    grid = sorted({step for step in chosen if step < max_step} | {max_step})
    for trial in sorted(filter(is_partial, trials), key=attrgetter("step")):
        last = min(trial.step, max_step)
        if grid[bisect_right(grid, last) - 1] < trial.reports[0].step:
            insort(grid, last)
    return grid


def _on_grid(trial: Trial, steps: Sequence[int]) -> list[float]:
    """The curve of a trial at the steps of a grid: linear between reports, NaN outside of these."""
    points = {report.step: report.value for report in trial.reports}
    if is_measured(trial) and trial.value is not None:
        points[steps[-1]] = trial.value
    values: list[float] = np.interp(
        steps, sorted(points), [points[step] for step in sorted(points)], math.nan, math.nan
    ).tolist()
    return values


def _at_the_end(prior: EmpiricalPrior, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of curves at the last step, given their outcomes."""
    mean, variance = torch.empty_like(y[:, 0]), torch.empty_like(y[:, 0])
    kinds, kind_of = torch.unique(~y.isnan(), dim=0, return_inverse=True)
    for index, kind in enumerate(kinds):
        rows, at = kind_of == index, kind.nonzero()[:, 0]
        chol, _ = jittered_cholesky(prior.covariance[at][:, at])
        residual = (y[rows][:, at] - prior.values[at]).mT
        white = solve_lower(chol, torch.cat((prior.covariance[at, -1:], residual), -1))
        mean[rows] = prior.values[-1] + white[:, 1:].mT @ white[:, 0]
        variance[rows] = prior.covariance[-1, -1] - white[:, 0].square().sum()
    ended = ~y[:, -1].isnan()
    return torch.where(ended, y[:, -1], mean), torch.where(ended, 0.0, variance.clamp(min=1e-9))


def _added(prior: EmpiricalPrior, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """What curves add to the prior, as observations and their noise; the noise of an outcome is NaN."""
    ended, before = variance == 0.0, prior.covariance[-1, -1]
    safe = torch.where(ended, 0.5 * before, variance)
    noise = 1.0 / (1.0 / safe - 1.0 / before).clamp(min=1.0 / (_LARGEST_NOISE * float(before)))
    value = prior.values[-1] + (mean - prior.values[-1]) * noise / safe
    return torch.where(ended, mean, value), torch.where(ended, torch.nan, noise)
