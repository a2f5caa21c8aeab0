"""The probability that an evaluation succeeds, modelled from successes and failures."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.process import ExactProcess, Process, WarmStart
from bo_suite.surrogates.warm_start import has_grown

_BY_CHANCE, _FOR_CERTAIN = 0.5, 0.9
"""Threshold as a share of the mean success at successes: if all failures are noise, and if none is."""

_MOST = 300
"""Most rows that the model is fitted to: an exact GP on more would dominate the time of a suggestion."""

_PROBES = 256
"""Points of the space at which the probability is tested for evenness."""

_EVEN = 0.1
"""The probability counts as even if minus its log is below this everywhere."""

_SMALLEST_VAR = 1e-12
"""Variances are clamped here before their square root is taken; labels have variance 1."""


@dataclass(frozen=True, eq=False)
class SuccessProbability:
    """Probability that evaluations at x succeed about as often as evaluations at the successes do.

    The success rate is a Gaussian process regression g on labels: 1 for a success, 0 for a failure. The
    probability is P(g(x) > t). The threshold t is a share of the mean of g at the successes: 0.9 if the
    regression finds no noise, down to 0.5 if it finds nothing but noise. Random failures are noise of the
    regression: g hardly varies, and the probability is near 1 everywhere. In a region where every trial fails
    there is no noise, and the probability vanishes after a few failures. The same holds if trials fail at
    random elsewhere, once the region has more failures than chance explains.

    Attributes:
        process: g, standardised.
        level: t, standardised.
        rows: number of successes and failures.
        even: whether the probability hardly varies over the data and the space.
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
        assert data.failures is not None, "data without failures have no probability of success"
        rows = data.x.shape[-2] + data.failures.shape[-2]
        succeeded = data.x
        if data.outcomes is not None:  # a trial in which the measurement of an outcome failed is in both
            broken = torch.cdist(succeeded, data.failures, p=torch.inf).amin(-1) == 0.0
            succeeded = succeeded if bool(broken.all()) else succeeded[~broken]
        succeeded, failed = _thinned(succeeded, data.failures)
        x = torch.cat((succeeded, failed), -2)
        label = torch.cat((torch.ones_like(succeeded[..., 0]), torch.zeros_like(failed[..., 0])), -1)
        mean = label.mean(-1, keepdim=True)
        scale = (mean * (1.0 - mean)).sqrt()
        labelled = Dataset(x, (label - mean) / scale, columns=replace(data.columns, fixed=()))
        process = _fitted(labelled, rows, seeds.split("success"), start)
        success = mean + scale * process.mean(succeeded).mean(-1, keepdim=True)
        explained = (1.0 - process.noise).clamp(min=0.0)[..., None]
        share = _BY_CHANCE + (_FOR_CERTAIN - _BY_CHANCE) * explained
        level = (share * success.clamp(0.0, 1.0) - mean) / scale
        probability = SuccessProbability(process, level, rows)
        with torch.no_grad():
            log = probability.log(torch.cat((x, seeds.split("even").sobol(_PROBES, x)), -2))
        return replace(probability, even=bool((log > -_EVEN).all()))

    @property
    def warm_start(self) -> WarmStart:
        """Start of the next fit."""
        return WarmStart(self.process.hyperparameters, self.rows)

    def log(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log P(g(x) > t) = log Φ((mean(x) - t) / σ(x))."""
        mean, var = self.process.mean_and_var(x)
        value: Tensor = torch.special.log_ndtr((mean - self.level) / var.clamp(min=_SMALLEST_VAR).sqrt())
        return value


def _thinned(succeeded: Tensor, failed: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that the model is fitted to: all of them, or at most `_MOST`, fewer of the larger group."""
    half = _MOST // 2
    successes = min(succeeded.shape[-2], max(_MOST - failed.shape[-2], half))
    failures = min(failed.shape[-2], max(_MOST - succeeded.shape[-2], half))
    return _spaced(succeeded, successes), _spaced(failed, failures)


def _spaced(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows, evenly spaced; the last row is included."""
    indices = torch.arange(1, count + 1, device=rows.device) * rows.shape[-2] // count - 1
    return rows[..., indices, :]


def _fitted(labelled: Dataset, rows: int, seeds: Seeds, start: WarmStart | None) -> ExactProcess:
    """The regression; hyperparameters are searched again once `has_grown`."""
    surrogate = ExactGP()
    size = surrogate.start(labelled).shape[-1]
    if start is None or start.hyperparameters.shape[-1] != size or has_grown(start.observations, rows):
        return surrogate.fit(labelled, seeds, start)
    return surrogate.process(labelled, start.hyperparameters.to(labelled.x))
