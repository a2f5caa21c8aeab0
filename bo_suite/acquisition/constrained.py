"""Expected improvement where constraints are met, which are known by their values at evaluated points."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import ImprovementScore, at_least_one, improvement_on, incumbents
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, Process, Surrogate, WarmStart

_FARTHEST = 10.0
"""Median sizes of a constraint's values beyond which these are cut: what is farther says no more."""

_SMALLEST_VAR = 1e-12


@dataclass(frozen=True, eq=False)
class ConstrainedScore:
    """Log of the expected improvement times the probability that all constraints are met.

    Attributes:
        improvement: its logarithm; None before a feasible point is known in every replicate.
        limits: processes of the constraints.
        bounds: what each of them is to be below, on its scale.
        hyperparameters: of all fits, one after the other.
    """

    improvement: ImprovementScore | None
    limits: tuple[Process, ...]
    bounds: tuple[jt.Float[Tensor, "*b 1"], ...]
    hyperparameters: Hyperparameters
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log EI(x) + Σ_j log Φ((b_j - μ_j(x)) / σ_j(x))."""
        value = x.new_zeros(x.shape[:-1]) if self.improvement is None else self.improvement(x)
        for process, bound in zip(self.limits, self.bounds, strict=True):
            mean, var = process.mean_and_var(x)
            value = value + torch.special.log_ndtr((bound - mean) / var.clamp(min=_SMALLEST_VAR).sqrt())
        return value


@dataclass(frozen=True)
class ConstrainedExpectedImprovement:
    """log E[(y* - f(x))₊] + Σ_j log P(c_j(x) <= 0), y* the best feasible outcome.

    Objective and constraints are independent processes (Gardner et al. 2014, equation 7). Before a feasible
    point is known, the sum alone. Values of each constraint are cut and standardised first. At pending points
    the objective is fantasised, and constraints are taken to be what they are expected to be.

    Attributes:
        surrogate: what is fitted to the outcomes and to each constraint.
        fantasies: number of quasi-Monte Carlo samples of the pending values.
        search: how hard to search for the maximum of the score; None for what is common.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    fantasies: int = 32
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ConstrainedScore:
        """The score given the data; that of LogExpectedImprovement where there are no constraints.

        Raises:
            DataError: data with fidelities, or replicates with values that are not known.
        """
        values = () if data.constraints is None else data.constraints.unbind(-1)
        values = tuple(value for value in values if not bool(value.isnan().all()))
        feasible, data = data.feasible, replace(data, constraints=None)
        known = bool(feasible.any(-1).all())
        starts = _parts(start, known + len(values))
        improvement = None
        found: list[Hyperparameters] = []
        if known:
            process = self.surrogate.fit(data, seeds, starts[0])
            best = torch.where(feasible, incumbents(process, data), torch.inf).amin(-1, keepdim=True)
            improvement = improvement_on(best, process, data, seeds, self.fantasies)
            found.append(process.hyperparameters)
        limits, bounds = [], []
        for place, value in enumerate(values):
            seen, bound = _constraint(data, value)
            process = self.surrogate.fit(seen, seeds.split(f"constraint {place}"), starts[known + place])
            found.append(process.hyperparameters)
            with torch.no_grad():
                limits.append(process.condition(data.pending, process.mean(data.pending)))
            bounds.append(bound)
        return ConstrainedScore(improvement, tuple(limits), tuple(bounds), torch.cat(found, -1))


def _constraint(data: Dataset, value: Tensor) -> tuple[Dataset, Tensor]:
    """The observations of a constraint, standardised, and what 0 is on that scale."""
    x, seen = data.x, ~value.isnan()
    if not bool(seen.all()):
        if data.batch_shape:
            raise DataError("constraints of replicates must be known of all observations, got NaN")
        x, value = x[seen], value[seen]
    size = value.abs().median(-1, keepdim=True).values
    cut = torch.where(size > 0, _FARTHEST * size, torch.inf)
    value = torch.minimum(torch.maximum(value, -cut), cut)
    mean = value.mean(-1, keepdim=True)
    spread = (value - mean).square().mean(-1, keepdim=True).sqrt()
    scale = torch.where(spread > 0, spread, 1.0)
    return replace(data, x=x, y=(value - mean) / scale, noise=None), -mean / scale


def _parts(start: WarmStart | None, count: int) -> list[WarmStart | None]:
    """What each of `count` fits starts from, of as many that were kept; None where they were others."""
    if start is None or start.hyperparameters.shape[-1] % count:
        return [None] * count
    parts = start.hyperparameters.chunk(count, -1)
    return [replace(start, hyperparameters=part) for part in parts]
