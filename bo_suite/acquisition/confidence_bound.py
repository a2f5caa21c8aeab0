"""The confidence bound."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, Process, Surrogate, WarmStart


def confidence_bound(
    mean: jt.Float[Tensor, "*b m"], var: jt.Float[Tensor, "*b m"], beta: float
) -> jt.Float[Tensor, "*b m"]:
    """β √var - mean."""
    return beta * var.clamp(min=1e-20).sqrt() - mean


@dataclass(frozen=True, eq=False)
class ConfidenceBoundScore:
    """β σ(x) - mean(x)."""

    process: Process
    beta: float
    hyperparameters: Hyperparameters
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        mean, var = self.process.mean_and_var(x)
        return confidence_bound(mean, var, self.beta)


@dataclass(frozen=True)
class UpperConfidenceBound:
    """β σ(x) - mean(x): the upper confidence bound of the negated outcome, since smaller is better.

    Srinivas et al. (2010). Pending points count as observed at their posterior mean, so they change σ alone
    (Desautels, Krause and Burdick 2014).

    Attributes:
        beta: number of standard deviations.
        surrogate: fitted to the data.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: beta is negative or not finite.
    """

    beta: float = 2.0
    surrogate: Surrogate = field(default_factory=AutoGP)
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise DataError(f"`0 <= beta < inf` must hold, got {self.beta}")

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates; True if the surrogate does."""
        return bool(getattr(self.surrogate, "batched", False))

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ConfidenceBoundScore:
        """The score given the data."""
        process = self.surrogate.fit(data, seeds, start)
        conditioned = process
        if data.pending.shape[-2]:
            with torch.no_grad():
                conditioned = process.condition(data.pending, process.mean(data.pending))
        return ConfidenceBoundScore(conditioned, self.beta, process.hyperparameters)
