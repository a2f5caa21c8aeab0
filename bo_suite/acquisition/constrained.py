"""Expected improvement under constraints whose values are observed at evaluated points."""

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
"""Values of a constraint are clipped at so many times their median size: outliers would hide the boundary."""

_SMALLEST_VAR = 1e-12
"""Variances are clamped here before their square root is taken; outcomes have variance about 1."""


@dataclass(frozen=True, eq=False)
class ConstrainedScore:
    """Log of the expected improvement times the probability that all constraints are met.

    Attributes:
        improvement: log of the expected improvement; None unless every replicate has a feasible point.
        limits: processes of the constraints.
        bounds: upper bound of each constraint, on the scale of its process.
        hyperparameters: of all fits, concatenated.
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

    Objective and constraints are independent processes (Gardner et al. 2014, equation 7). Until a feasible
    point is observed, the score is the sum alone. The values of each constraint are clipped and standardised
    first. At pending points the objective is fantasised, and constraints have their posterior mean.

    Attributes:
        surrogate: fitted to the outcomes and to each constraint.
        fantasies: number of quasi-Monte Carlo samples of the pending values.
        search: how hard to search for the maximum of the score; None for the defaults.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    fantasies: int = 32
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ConstrainedScore:
        """The score given the data; that of LogExpectedImprovement for data without constraints.

        Raises:
            DataError: data of replicates with NaN among the constraint values.
        """
        values = () if data.constraints is None else data.constraints.unbind(-1)
        values = tuple(value for value in values if not bool(value.isnan().all()))
        feasible, data = data.feasible, replace(data, constraints=None)
        has_incumbent = bool(feasible.any(-1).all())
        starts = _split_start(start, has_incumbent + len(values))
        improvement = None
        hyperparameters: list[Hyperparameters] = []
        if has_incumbent:
            process = self.surrogate.fit(data, seeds, starts[0])
            best = torch.where(feasible, incumbents(process, data), torch.inf).amin(-1, keepdim=True)
            improvement = improvement_on(best, process, data, seeds, self.fantasies)
            hyperparameters.append(process.hyperparameters)
        limits, bounds = [], []
        for index, value in enumerate(values):
            observations, bound = _constraint(data, value)
            start = starts[has_incumbent + index]
            process = self.surrogate.fit(observations, seeds.split(f"constraint {index}"), start)
            hyperparameters.append(process.hyperparameters)
            with torch.no_grad():
                limits.append(process.condition(data.pending, process.mean(data.pending)))
            bounds.append(bound)
        return ConstrainedScore(improvement, tuple(limits), tuple(bounds), torch.cat(hyperparameters, -1))


def _constraint(data: Dataset, value: Tensor) -> tuple[Dataset, Tensor]:
    """The standardised observations of a constraint, and the bound 0 on that scale."""
    x, observed = data.x, ~value.isnan()
    if not bool(observed.all()):
        if data.batch_shape:
            raise DataError("constraint values of replicates must not be NaN")
        x, value = x[observed], value[observed]
    size = value.abs().median(-1, keepdim=True).values
    limit = torch.where(size > 0, _FARTHEST * size, torch.inf)
    value = torch.minimum(torch.maximum(value, -limit), limit)
    mean = value.mean(-1, keepdim=True)
    spread = (value - mean).square().mean(-1, keepdim=True).sqrt()
    scale = torch.where(spread > 0, spread, 1.0)
    return replace(data, x=x, y=(value - mean) / scale, noise=None, outside=None), -mean / scale


def _split_start(start: WarmStart | None, count: int) -> list[WarmStart | None]:
    """The start of each of `count` fits; None if the last step stored another number of fits."""
    if start is None or start.hyperparameters.shape[-1] % count:
        return [None] * count
    vectors = start.hyperparameters.chunk(count, -1)
    return [replace(start, hyperparameters=vector) for vector in vectors]
