"""An acquisition's score per expected cost, learnt from the time that evaluations have taken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import Hyperparameters, Process, WarmStart

_COSTS = ExactGP(restarts=1)
"""Model of log costs, standardised."""

_MOST = 200
"""Largest number of configurations, the latest ones, that costs are learnt from."""


@dataclass(frozen=True, eq=False)
class PerCostScore:
    """score(x) - exponent * (expected log cost of x, less the mean over configurations).

    Attributes:
        score: of the acquisition.
        costs: process of the log costs; None while too few are known.
        weight: exponent times the standard deviation of the log costs.
    """

    score: Score
    costs: Process | None
    weight: float

    @property
    def differentiable(self) -> bool:
        """Whether the score is differentiable."""
        return self.score.differentiable

    @property
    def costly(self) -> bool:
        """Whether the score takes many times the time of a mean and a variance."""
        return bool(getattr(self.score, "costly", False))

    @property
    def notes(self) -> Sequence[Mapping[str, Any]]:
        """What the acquisition chose, a mapping for each replicate."""
        empty: Sequence[Mapping[str, Any]] = ({},)
        return getattr(self.score, "notes", empty)

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """Those of the score, then those of the costs if these are known."""
        inner = self.score.hyperparameters
        if self.costs is None:
            return inner
        own = self.costs.hyperparameters
        return own if inner is None else torch.cat((inner, own), -1)

    def __call__(self, x: jt.Float[Tensor, "m d"]) -> jt.Float[Tensor, " m"]:
        """The score of each row."""
        score = self.score(x)
        return score if self.costs is None else score - self.weight * self.costs.mean(x)


@dataclass(frozen=True)
class PerCost:
    """An acquisition that prefers evaluations that take less time.

    The log of the seconds that a step takes is a Gaussian process, fitted to the configurations that have
    reported. The score is that of the acquisition, a logarithm, less `exponent` times the expected log
    cost. With `LogExpectedImprovement` and exponent 1, it is expected improvement per second (Snoek,
    Larochelle and Adams 2012, section 3.2).

    Attributes:
        acquisition: its score is a logarithm.
        exponent: 0 ignores costs.
        search: how hard to search for the maximum of the score; None becomes that of the acquisition.

    Raises:
        DataError: the exponent is below 0.
    """

    acquisition: Acquisition = field(default_factory=AdaptiveImprovement)
    exponent: float = 1.0
    search: Search | None = field(default=None, kw_only=True)

    batched: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.search is None:
            object.__setattr__(self, "search", getattr(self.acquisition, "search", None))
        if not 0.0 <= self.exponent < float("inf"):
            raise DataError(f"`exponent >= 0` must hold, got {self.exponent}")

    @property
    def supports(self) -> frozenset[str]:
        """What the acquisition supports."""
        supported: frozenset[str] = getattr(self.acquisition, "supports", frozenset())
        return supported

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> PerCostScore:
        """The score given the data of one run.

        Raises:
            FitError, NumericalError: a model cannot be fitted.
        """
        costs = _log_costs(data)
        if costs is None:
            return PerCostScore(self.acquisition.build(data, seeds, start), None, 0.0)
        inner, own = _parts(start, _COSTS.start(costs).numel())
        spread = costs.y.std(correction=0)
        standard = replace(costs, y=(costs.y - costs.y.mean()) / spread)
        process = _COSTS.fit(standard, seeds.split("costs"), own)
        score = self.acquisition.build(data, seeds, inner)
        return PerCostScore(score, process, self.exponent * float(spread))


def _log_costs(data: Dataset) -> Dataset | None:
    """Configurations with the log of the seconds of a step; None if these say nothing."""
    curves = data.curves
    if curves is None or curves.seconds is None:
        return None
    known = ~curves.seconds.isnan()
    x, seconds = curves.x[known][-_MOST:], curves.seconds[known][-_MOST:]
    if len(seconds) < 2 or not float(seconds.max()) > 1.001 * float(seconds.min()):
        return None
    return Dataset(x, seconds.log(), columns=data.columns)


def _parts(start: WarmStart | None, count: int) -> tuple[WarmStart | None, WarmStart | None]:
    """The starts of the acquisition's fit and of that of the costs."""
    if start is None or start.hyperparameters.shape[-1] < count:
        return None, None
    inner, own = start.hyperparameters[..., :-count], start.hyperparameters[..., -count:]
    of_costs = replace(start, hyperparameters=own, settled=False)
    return (replace(start, hyperparameters=inner) if inner.numel() else None), of_costs
