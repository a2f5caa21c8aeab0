"""Bayesian optimisation by density-ratio estimation: a classifier's log odds as the acquisition."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.classifiers.base import Classifier, WeightedExamples
from bo_suite.classifiers.density_ratio import DensityRatio, ratio_of
from bo_suite.classifiers.mlp import MLPClassifier
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError, FitError, NumericalError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.values.describe import described


@dataclass(frozen=True)
class RootGamma:
    """γ = min(largest, scale / √n): the number of positives grows as √n, as in hyperopt's TPE."""

    scale: float = 1.0
    largest: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf or not 0 < self.largest < 1:
            raise DataError(
                f"`0 < scale` and `0 < largest < 1` must hold, got {self.scale} and {self.largest}"
            )

    def __call__(self, n: int) -> float:
        """The share of n observations."""
        return min(self.largest, self.scale / math.sqrt(n))


@dataclass(frozen=True, eq=False)
class BoreScore:
    """The logit of the class probability, which never saturates; optimistic if the classifier is.

    Attributes:
        ratio: of the density of good rows to that of others.
        threshold: tau, between the outcomes of positives and those of others.
    """

    ratio: DensityRatio
    threshold: jt.Float[Tensor, "*b"]

    @property
    def differentiable(self) -> bool:
        """Whether the classifier is."""
        return self.ratio.log_odds.differentiable

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The classifier's."""
        return self.ratio.log_odds.hyperparameters

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log π(x) - log(1 - π(x)).

        Raises:
            NumericalError: log odds that are not finite.
        """
        value = self.ratio.log_odds(x)
        if not bool(torch.isfinite(value).all()):
            raise NumericalError(f"log odds must be finite, got {float(value[~torch.isfinite(value)][0])}")
        return value

    def probability(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """π(x)."""
        return torch.sigmoid(self(x))


@dataclass(frozen=True)
class Bore:
    """Any probabilistic classifier as the acquisition (Tiao et al. 2021; Song et al. 2022).

    The best ⌈gamma n⌉ outcomes, at least one, are positive. With weighting "probability" (BORE) the others
    are negative, and π estimates P(y ≤ tau | x). With "improvement" (LFBO) positives weigh tau - y and every
    observation is also negative, both classes of equal total weight before pending points are added, so that
    the odds π / (1 - π) estimate expected improvement up to a factor.

    Where equal outcomes straddle the ⌈gamma n⌉-th, all of them are positive or none, whichever is nearer to
    that number and leaves an observation in each class. Where all outcomes are equal, every observation is as
    much positive as negative. Pending points are negative, in both weightings.

    Attributes:
        classifier: of any kind.
        gamma: share of outcomes that count as good, in (0, 1), or a function of their number n.
        weighting: "improvement" or "probability".
        search: how hard to search for the maximum of the score; None for what is common.
    """

    classifier: Classifier = field(default_factory=MLPClassifier)
    gamma: float | Callable[[int], float] = 0.25
    weighting: str = "improvement"
    search: Search | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        foreign = isinstance(self.classifier, type) or hasattr(self.classifier, "predict")
        if foreign or not isinstance(self.classifier, Classifier):
            raise DataError(
                "a classifier must be an object with `fit(data, seeds, start)`; one of scikit-learn is "
                f"given as SklearnClassifier(estimator), got {described(self.classifier)}"
            )
        if self.weighting not in ("improvement", "probability"):
            raise DataError(f"weighting must be 'improvement' or 'probability', got {self.weighting!r}")
        if isinstance(self.gamma, type) or not callable(self.gamma):
            _check_gamma(self.gamma)

    @property
    def batched(self) -> bool:
        """Whether `build` takes replicates: as its classifier does."""
        return bool(getattr(self.classifier, "batched", False))

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> BoreScore:
        """The log odds of a row being good.

        Raises:
            DataError: a gamma outside (0, 1), or data with fidelities.
            FitError: no observation, or a classifier that can not be fitted.
        """
        n = data.y.shape[-1]
        if n == 0:
            raise FitError("a classifier needs at least one observation, got none")
        gamma = self.gamma(n) if callable(self.gamma) else self.gamma
        _check_gamma(gamma)
        good, threshold = split(data.y, max(1, math.ceil(gamma * n - 1e-9)))
        positive, negative = self._weights(data.y, good, threshold)
        waiting = torch.zeros_like(data.pending[..., 0])
        labelled = WeightedExamples(
            torch.cat((data.x, data.pending), -2),
            torch.cat((positive, waiting), -1),
            torch.cat((negative, waiting + negative.amax(-1, keepdim=True)), -1),
            data.unordered,
            data.levels,
        )
        if start is not None:  # a fit sees the pending rows, too
            start = replace(start, observations=start.observations + data.pending.shape[-2])
        return BoreScore(ratio_of(self.classifier, labelled, seeds, start), threshold)

    def _weights(self, y: Tensor, good: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Of the observations as positives and as negatives; they add to n."""
        half = 0.5 * torch.ones_like(y)
        everything = good.all(-1, keepdim=True)
        if self.weighting == "probability":
            return torch.where(everything, half, good.to(y)), torch.where(everything, half, (~good).to(y))
        improvement = torch.where(good & ~everything, (threshold[..., None] - y).clamp(min=0.0), 0.0)
        largest = improvement.amax(-1, keepdim=True)
        improvement = torch.where(largest > 0, improvement / largest, good.to(y))
        return improvement * (half.sum(-1, keepdim=True) / improvement.sum(-1, keepdim=True)), half


def split(y: jt.Float[Tensor, "*b n"], count: int) -> tuple[jt.Bool[Tensor, "*b n"], jt.Float[Tensor, "*b"]]:
    """Which outcomes are the `count` best, equal ones together, and a value between them and the others.

    Where all are equal, all of them are, and the value is theirs.
    """
    last = y.sort(-1).values[..., count - 1, None]
    closed, opened = y <= last, y < last
    more, fewer = closed.sum(-1, keepdim=True), opened.sum(-1, keepdim=True)
    whole = (fewer == 0) | ((more < y.shape[-1]) & (more - count <= count - fewer))
    good = torch.where(whole, closed, opened)
    worst_good = torch.where(good, y, -torch.inf).amax(-1)
    best_other = torch.where(good, torch.inf, y).amin(-1)
    middle = worst_good + 0.5 * (best_other - worst_good)
    return good, torch.where(good.all(-1), worst_good, middle)


def _check_gamma(gamma: object) -> None:
    if not isinstance(gamma, Real) or not 0 < float(gamma) < 1:
        raise DataError(f"`0 < gamma < 1` must hold, got {gamma!r}")
