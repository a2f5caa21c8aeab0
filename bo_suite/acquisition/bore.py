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
    """The logit of the class probability, which does not saturate; optimistic if the classifier is.

    Attributes:
        ratio: density of good rows divided by density of the others.
        threshold: tau, which separates the outcomes of positives from the others.
    """

    ratio: DensityRatio
    threshold: jt.Float[Tensor, "*b"]

    @property
    def differentiable(self) -> bool:
        """Whether the classifier is differentiable."""
        return self.ratio.log_odds.differentiable

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The hyperparameters of the classifier."""
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
    are negative, and π estimates P(y ≤ tau | x). With "improvement" (LFBO) a positive has the weight tau - y,
    and every observation is also a negative. The classes have equal total weight before pending points are
    added, so the odds π / (1 - π) estimate expected improvement up to a factor.

    If several outcomes equal the ⌈gamma n⌉-th, all or none of them are positive: the number of positives is
    then as near to ⌈gamma n⌉ as it can be with an observation in each class. If all outcomes are equal, every
    observation has equal weight in both classes. Pending points are negative in both weightings.

    Attributes:
        classifier: any Classifier.
        gamma: share of outcomes that count as good, in (0, 1), or a function of the number n of outcomes.
        weighting: "improvement" or "probability".
        search: how hard to search for the maximum of the score; None for the defaults.
    """

    classifier: Classifier = field(default_factory=MLPClassifier)
    gamma: float | Callable[[int], float] = 0.25
    weighting: str = "improvement"
    search: Search | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        foreign = isinstance(self.classifier, type) or hasattr(self.classifier, "predict")
        if foreign or not isinstance(self.classifier, Classifier):
            raise DataError(
                "a classifier must be an object with `fit(data, seeds, start)`; wrap one of scikit-learn: "
                f"SklearnClassifier(estimator); got {described(self.classifier)}"
            )
        if self.weighting not in ("improvement", "probability"):
            raise DataError(f"weighting must be 'improvement' or 'probability', got {self.weighting!r}")
        if isinstance(self.gamma, type) or not callable(self.gamma):
            _check_gamma(self.gamma)

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates; True if the classifier does."""
        return bool(getattr(self.classifier, "batched", False))

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> BoreScore:
        """The score given the data: the log odds that a row is good.

        Raises:
            DataError: gamma is outside (0, 1).
            FitError: there is no observation, or the classifier cannot be fitted.
        """
        n = data.y.shape[-1]
        if n == 0:
            raise FitError("a classifier needs at least one observation, got none")
        gamma = self.gamma(n) if callable(self.gamma) else self.gamma
        _check_gamma(gamma)
        # 1e-9: a rounding error in gamma n must not add a positive
        good, threshold = split(data.y, max(1, math.ceil(gamma * n - 1e-9)))
        positive, negative = self._weights(data.y, good, threshold)
        unweighted = torch.zeros_like(data.pending[..., 0])
        labelled = WeightedExamples(
            torch.cat((data.x, data.pending), -2),
            torch.cat((positive, unweighted), -1),
            torch.cat((negative, unweighted + negative.amax(-1, keepdim=True)), -1),
            data.unordered,
            data.levels,
            data.columns.conditions,
            data.columns.descriptors,
        )
        if start is not None:  # pending rows are fitted, too
            start = replace(start, observations=start.observations + data.pending.shape[-2])
        return BoreScore(ratio_of(self.classifier, labelled, seeds, start), threshold)

    def _weights(self, y: Tensor, good: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the observations as positives and as negatives; they add up to n."""
        half = 0.5 * torch.ones_like(y)
        all_equal = good.all(-1, keepdim=True)
        if self.weighting == "probability":
            return torch.where(all_equal, half, good.to(y)), torch.where(all_equal, half, (~good).to(y))
        improvement = torch.where(good & ~all_equal, (threshold[..., None] - y).clamp(min=0.0), 0.0)
        largest = improvement.amax(-1, keepdim=True)
        improvement = torch.where(largest > 0, improvement / largest, good.to(y))
        return improvement * (half.sum(-1, keepdim=True) / improvement.sum(-1, keepdim=True)), half


def split(y: jt.Float[Tensor, "*b n"], count: int) -> tuple[jt.Bool[Tensor, "*b n"], jt.Float[Tensor, "*b"]]:
    """Which outcomes are about the `count` best, and a threshold between them and the others.

    Equal outcomes are all good or all not. If all outcomes are equal, all are good, and the threshold is
    their value.
    """
    last = y.sort(-1).values[..., count - 1, None]
    with_ties, without_ties = y <= last, y < last
    more, fewer = with_ties.sum(-1, keepdim=True), without_ties.sum(-1, keepdim=True)
    ties_are_good = (fewer == 0) | ((more < y.shape[-1]) & (more - count <= count - fewer))
    good = torch.where(ties_are_good, with_ties, without_ties)
    worst_good = torch.where(good, y, -torch.inf).amax(-1)
    best_other = torch.where(good, torch.inf, y).amin(-1)
    middle = worst_good + 0.5 * (best_other - worst_good)
    return good, torch.where(good.all(-1), worst_good, middle)


def _check_gamma(gamma: object) -> None:
    if not isinstance(gamma, Real) or not 0 < float(gamma) < 1:
        raise DataError(f"`0 < gamma < 1` must hold, got {gamma!r}")
