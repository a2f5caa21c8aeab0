"""Thompson sampling: the minimum of a function drawn from the posterior."""

from dataclasses import dataclass, field
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.chebyshev import Chebyshev, uniform_weights
from bo_suite.acquisition.fronts import observed_front, several_objectives
from bo_suite.acquisition.several import joined, outcome_dataset, split_start
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.paths import Paths, draw_paths
from bo_suite.surrogates.process import Hyperparameters, Process, Surrogate, WarmStart

_RHO = 0.05
"""Weight of the sum of the objectives in their scalarisation (Knowles 2006)."""


@dataclass(frozen=True, eq=False)
class PathScore:
    """-f(x), f a path drawn from the posterior."""

    path: Paths
    hyperparameters: Hyperparameters
    differentiable: bool = field(default=True, init=False)
    costly: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        return -self.path(x)[0]


@dataclass(frozen=True, eq=False)
class ScalarisedPathScore:
    """-c(f_1(x), ..., f_k(x)), f_j a path drawn from the posterior of objective j, c a scalarisation.

    Attributes:
        paths: of the objectives, a leading dimension.
        scalarisation: of their values.
        hyperparameters: of the fit, one vector.
    """

    paths: Paths
    scalarisation: Chebyshev
    hyperparameters: Hyperparameters
    differentiable: bool = field(default=True, init=False)
    costly: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "m d"]) -> jt.Float[Tensor, " m"]:
        """The score of each row."""
        return -self.scalarisation(self.paths(x.expand(len(self.scalarisation.weights), *x.shape))[0])


@dataclass(frozen=True)
class ThompsonSampling:
    """-f(x) for one f drawn from the posterior (Thompson 1933); each suggestion draws its own f.

    The draw is a function of x (Wilson et al. 2020): gradients find its minimum anywhere in the space.
    Pending points count as observed one standard deviation above their mean, which keeps the minima of draws
    away from them.

    Of several objectives one path each is drawn, and their augmented Chebyshev scalarisation is minimised,
    with weights drawn uniformly from the simplex in each step (Paria, Kandasamy and Póczos 2020).

    Attributes:
        surrogate: fitted to the data.
        features: number of random frequencies in the draw from the prior.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: features < 1.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    features: int = 1024
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints", "objectives"})

    def __post_init__(self) -> None:
        if not self.features >= 1:
            raise DataError(f"`features >= 1` must hold, got {self.features}")

    def build(
        self, data: Dataset, seeds: Seeds, start: WarmStart | None = None
    ) -> PathScore | ScalarisedPathScore:
        """The score given the data."""
        if data.outcomes is not None and data.outcomes.objectives:
            return self._of_several(data, seeds, start)
        process = self.surrogate.fit(data, seeds, start)
        path = self._path(process, data.pending, seeds.split("path"))
        return PathScore(path, process.hyperparameters)

    def _of_several(self, data: Dataset, seeds: Seeds, start: WarmStart | None) -> ScalarisedPathScore:
        """The score of several objectives."""
        outcomes = several_objectives(data, self)
        k = outcomes.objectives
        batch = outcome_dataset(data, 0, k)
        process = self.surrogate.fit(batch, seeds, split_start(start, data, k))
        independent = Seeds(tuple(seeds.split(f"path {j}").keys[0] for j in range(k)), (k,))
        paths = self._path(process, data.pending.expand(k, *data.pending.shape), independent)
        weights = uniform_weights(k, seeds, batch.y)
        scalarisation = Chebyshev.of(outcomes.y[:k], observed_front(data, outcomes), weights, _RHO)
        return ScalarisedPathScore(paths, scalarisation, joined(process.hyperparameters))

    def _path(self, process: Process, pending: Tensor, seeds: Seeds) -> Paths:
        """A path of the process, given that pending points are one standard deviation above their mean."""
        with torch.no_grad():
            if pending.shape[-2]:
                mean, var = process.mean_and_var(pending)
                process = process.condition(pending, mean + var.sqrt())
            return draw_paths(process, 1, seeds, features=self.features)
