"""Several objectives by random scalarisations, each for an acquisition of one objective."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.adaptive import AdaptiveImprovement
from bo_suite.acquisition.base import Acquisition, Score
from bo_suite.acquisition.chebyshev import Chebyshev, uniform_weights
from bo_suite.acquisition.fronts import among, observed_front, several_objectives
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates.process import Hyperparameters, WarmStart


@dataclass(frozen=True, eq=False)
class ScalarisedScore:
    """The score of an acquisition of one objective.

    Attributes:
        score: given the scalarised observations.
        notes: of the acquisition, with the weights of the objectives.
    """

    score: Score
    notes: tuple[dict[str, Any], ...]

    @property
    def differentiable(self) -> bool:
        """Whether the score is differentiable."""
        return self.score.differentiable

    @property
    def costly(self) -> bool:
        """Whether the score takes many times the time of a mean and a variance."""
        return bool(getattr(self.score, "costly", False))

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """The hyperparameters of the score."""
        return self.score.hyperparameters

    def __call__(self, x: jt.Float[Tensor, "m d"]) -> jt.Float[Tensor, " m"]:
        """The score of each row."""
        return self.score(x)


@dataclass(frozen=True)
class Scalarised:
    """An acquisition of one objective on a scalarisation of several, drawn anew in each step (ParEGO).

    The objectives are scaled to [0, 1] over the front of the feasible observations. Their augmented Chebyshev
    scalarisation max_j w_j z_j + rho Σ_j w_j z_j (Knowles 2006) is standardised, and observations that lack
    an objective are left out. While all lack one, a missing objective counts as average.

    Attributes:
        acquisition: of one objective; it must handle what else the data hold.
        weights: w, one for each objective, in any unit; None to draw them uniformly from the simplex in each
            step.
        rho: weight of the sum.
        search: how hard to search for the maximum of the score; None becomes that of the acquisition.

    Raises:
        DataError: a weight is negative or infinite, or all are 0; or rho is negative.
    """

    acquisition: Acquisition = field(default_factory=AdaptiveImprovement)
    weights: tuple[float, ...] | None = None
    rho: float = 0.05
    search: Search | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.search is None:
            object.__setattr__(self, "search", getattr(self.acquisition, "search", None))
        if not 0.0 <= self.rho < float("inf"):
            raise DataError(f"`0 <= rho` must hold, got {self.rho}")
        if self.weights is not None:
            weights = tuple(float(weight) for weight in self.weights)
            if not (all(0.0 <= weight < float("inf") for weight in weights) and sum(weights) > 0.0):
                raise DataError(f"weights must be finite and at least 0, and not all 0, got {self.weights}")
            object.__setattr__(self, "weights", weights)

    @property
    def supports(self) -> frozenset[str]:
        """Several objectives, and what the acquisition supports."""
        supported: frozenset[str] = getattr(self.acquisition, "supports", frozenset())
        return supported | {"objectives"}

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ScalarisedScore:
        """The score given the data.

        Raises:
            DataError: data with one objective, or weights for another number of objectives.
            FitError: no observation has an objective, or the acquisition cannot be fitted.
            NumericalError: the acquisition cannot be fitted.
        """
        outcomes = several_objectives(data, self)
        weights = self._weights(outcomes, seeds)
        scalarised = scalarised_dataset(data, outcomes, weights, self.rho)
        if start is not None and self.weights is None:
            # the last step had other weights: its fit is a starting point among others
            start = replace(start, observations=1, settled=False)
        score = self.acquisition.build(scalarised, seeds, start)
        inner: Sequence[dict[str, Any]] = getattr(score, "notes", ({},))
        rounded = [float(f"{weight:.7g}") for weight in weights.tolist()]
        return ScalarisedScore(score, tuple({**note, "weights": rounded} for note in inner))

    def _weights(self, outcomes: Outcomes, seeds: Seeds) -> Tensor:
        """The weights of the step, which sum to 1."""
        if self.weights is None:
            return uniform_weights(outcomes.objectives, seeds, outcomes.y)
        if len(self.weights) != outcomes.objectives:
            raise DataError(
                f"weights must have a value for each of {outcomes.objectives} objectives, got {self.weights}"
            )
        weights = outcomes.y.new_tensor(self.weights)
        return weights / weights.sum()


def scalarised_dataset(
    data: Dataset, outcomes: Outcomes, weights: jt.Float[Tensor, " k"], rho: float
) -> Dataset:
    """The observations with all objectives as a Dataset of one, of mean 0 and variance 1.

    If none has all, those with some: the others count as average, 0.

    Raises:
        FitError: no observation has an objective.
    """
    y = outcomes.y[: outcomes.objectives]
    complete = ~y.isnan().any(0)
    if not bool(complete.any()):
        complete, y = ~y.isnan().all(0), y.nan_to_num(0.0)
    if not bool(complete.any()):
        raise FitError("a scalarisation needs an observation of an objective, got none")
    chebyshev = Chebyshev.of(y, observed_front(data, outcomes), weights, rho)
    x, y = outcomes.x[complete], y[:, complete]
    value = chebyshev(y)
    mean, spread = value.mean(), value.std(correction=0)
    spread = spread if bool(spread > 0.0) else torch.ones_like(spread)
    noise = None
    if outcomes.noise is not None:
        noise = chebyshev.variance(y, outcomes.noise[: outcomes.objectives, complete]) / spread.square()
    outside = None if data.outside is None else among(x, data.x[data.outside])
    violation = None if outcomes.violation is None else outcomes.violation[complete]
    return replace(
        data,
        x=x,
        y=(value - mean) / spread,
        noise=noise,
        outcomes=None,
        violation=violation,
        outside=outside,
    )
