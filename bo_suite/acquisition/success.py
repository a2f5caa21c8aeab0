"""How likely an evaluation is to succeed, over the space: a failed trial is no outcome, but it tells this."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.base import Acquisition, Score, require_support
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.process import ExactProcess, Hyperparameters, Process, WarmStart
from bo_suite.surrogates.warm_start import has_grown

_BY_CHANCE, _FOR_CERTAIN = 0.5, 0.9
"""Share of the success at successes that counts as success, where all failures are noise, and where none."""

_MOST = 300
"""Rows that the model is fitted to."""

_PROBES = 256
"""Points of the space at which the probability is looked at."""

_EVEN = 0.1
"""Log probability down to which everything counts as likely to succeed."""

_SMALLEST_VAR = 1e-12


@dataclass(frozen=True, eq=False)
class SuccessProbability:
    """Probability that evaluations at x succeed about as often as they do where trials have succeeded.

    The share of evaluations that succeed is a Gaussian process regression g on 1 for each success and 0 for
    each failure; the probability is P(g(x) > t), t being a share of the mean of g at the successes: 0.9 where
    there is no noise, down to 0.5 where it is all there is. Failures at random are noise of that regression:
    g hardly varies, and the probability is near 1 everywhere. Where trials fail for certain there is no
    noise, and it vanishes within a few failures; so it does in such a region of a flaky cluster, once its
    failures are more than chance explains.

    Attributes:
        process: g, standardised.
        level: t, standardised.
        rows: number of successes and failures.
        even: whether the probability hardly varies, over the data and the space.
    """

    process: Process
    level: jt.Float[Tensor, "*b 1"]
    rows: int
    even: bool = False

    @staticmethod
    def fit(data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> "SuccessProbability":
        """The probability given observations and failures, at least one of each.

        Raises:
            FitError, NumericalError: the regression cannot be fitted.
        """
        assert data.failures is not None, "there must be failures"
        rows = data.x.shape[-2] + data.failures.shape[-2]
        succeeded, failed = _fitted_to(data.x, data.failures)
        x = torch.cat((succeeded, failed), -2)
        label = torch.cat((torch.ones_like(succeeded[..., 0]), torch.zeros_like(failed[..., 0])), -1)
        mean = label.mean(-1, keepdim=True)
        scale = (mean * (1.0 - mean)).sqrt()
        seen = Dataset(
            x, (label - mean) / scale, None, x[..., :0, :], data.unordered, data.levels, data.fidelities
        )
        process = _fitted(seen, rows, seeds.split("success"), start)
        success = mean + scale * process.mean(succeeded).mean(-1, keepdim=True)
        certain = (1.0 - process.noise).clamp(min=0.0)[..., None]
        share = _BY_CHANCE + (_FOR_CERTAIN - _BY_CHANCE) * certain
        level = (share * success.clamp(0.0, 1.0) - mean) / scale
        found = SuccessProbability(process, level, rows)
        with torch.no_grad():
            log = found.log(torch.cat((x, seeds.split("even").sobol(_PROBES, x)), -2))
        return replace(found, even=bool((log > -_EVEN).all()))

    @property
    def found(self) -> WarmStart:
        """What the next fit may start from."""
        return WarmStart(self.process.hyperparameters, self.rows)

    def log(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log P(g(x) > t) = log Φ((mean(x) - t) / σ(x))."""
        mean, var = self.process.mean_and_var(x)
        value: Tensor = torch.special.log_ndtr((mean - self.level) / var.clamp(min=_SMALLEST_VAR).sqrt())
        return value


@dataclass(frozen=True, eq=False)
class LikelyScore:
    """A score plus the log probability that an evaluation succeeds.

    Attributes:
        score: of an evaluation that succeeds.
        success: its probability.
    """

    score: Score
    success: SuccessProbability

    @property
    def differentiable(self) -> bool:
        """Whether the score is."""
        return self.score.differentiable

    @property
    def costly(self) -> bool:
        """Whether rows of the score are."""
        return bool(getattr(self.score, "costly", False))

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The score's."""
        return self.score.hyperparameters

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """score(x) + log P(x succeeds); the score alone where failures are at random."""
        return self.score(x) if self.success.even else self.score(x) + self.success.log(x)


def build_score(
    acquisition: Acquisition, data: Dataset, seeds: Seeds, start: WarmStart | None = None
) -> Score:
    """The acquisition's score given the data, and the probability of success where trials have failed.

    Raises:
        DataError: data with an aspect that the acquisition does not support.
        FitError, NumericalError: a model that cannot be fitted.
    """
    require_support(acquisition, data.aspects)
    score = acquisition.build(data, seeds, start)
    if data.failures is None:
        return score
    return LikelyScore(score, SuccessProbability.fit(data, seeds, None if start is None else start.success))


def _fitted_to(succeeded: Tensor, failed: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that the model is fitted to: all, or of the kind with more rows fewer, the latest among them."""
    few = _MOST // 2
    successes = min(succeeded.shape[-2], max(_MOST - failed.shape[-2], few))
    failures = min(failed.shape[-2], max(_MOST - succeeded.shape[-2], few))
    return _spaced(succeeded, successes), _spaced(failed, failures)


def _spaced(rows: Tensor, count: int) -> Tensor:
    """So many of the rows, evenly spaced, the last of them included."""
    places = torch.arange(1, count + 1, device=rows.device) * rows.shape[-2] // count - 1
    return rows[..., places, :]


def _fitted(seen: Dataset, rows: int, seeds: Seeds, start: WarmStart | None) -> ExactProcess:
    """The regression; hyperparameters are searched anew when the rows have grown by a fifth."""
    surrogate = ExactGP()
    size = surrogate.start(seen).shape[-1]
    if start is None or start.hyperparameters.shape[-1] != size or has_grown(start.observations, rows):
        return surrogate.fit(seen, seeds, start)
    return surrogate.process(seen, start.hyperparameters.to(seen.x))
