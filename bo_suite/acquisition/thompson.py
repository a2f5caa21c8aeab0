"""Thompson sampling: the minimum of a function drawn from the posterior."""

from dataclasses import dataclass, field

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.paths import Paths, draw_paths
from bo_suite.surrogates.process import Hyperparameters, Surrogate, WarmStart


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


@dataclass(frozen=True)
class ThompsonSampling:
    """-f(x) for one f drawn from the posterior (Thompson 1933); each suggestion draws its own f.

    The draw is a function of x (Wilson et al. 2020): gradients find its minimum anywhere in the space.
    Pending points count as observed one standard deviation above their mean, which keeps the minima of draws
    away from them.

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

    def __post_init__(self) -> None:
        if not self.features >= 1:
            raise DataError(f"`features >= 1` must hold, got {self.features}")

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> PathScore:
        """The score given the data."""
        process = self.surrogate.fit(data, seeds, start)
        conditioned = process
        with torch.no_grad():
            if data.pending.shape[-2]:
                mean, var = process.mean_and_var(data.pending)
                conditioned = process.condition(data.pending, mean + var.sqrt())
            path = draw_paths(conditioned, 1, seeds.split("path"), features=self.features)
        return PathScore(path, process.hyperparameters)
