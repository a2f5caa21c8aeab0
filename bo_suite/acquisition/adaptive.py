"""The default recipe: expected improvement on a chosen scale of the outcomes, and escapes from stagnation."""

from dataclasses import dataclass, field, replace
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import ImprovementScore, at_least_one, improvement_on, incumbents
from bo_suite.acquisition.outcome_scales import CANDIDATES, ScaleChoice
from bo_suite.data import Dataset, Seeds
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, WarmStart

_SMALLEST_VAR = 1e-20


@dataclass(frozen=True, eq=False)
class AdaptiveScore:
    """Log of the expected improvement or, for replicates that escape, the confidence bound.

    Attributes:
        improvement: the former.
        escapes: which replicates take the latter.
        beta: number of standard deviations of the latter.
        hyperparameters: of the fits to all candidate scales, then of the last fit.
        notes: what was chosen, in JSON values, one a replicate.
    """

    improvement: ImprovementScore
    escapes: jt.Bool[Tensor, "*b"]
    beta: float
    hyperparameters: Hyperparameters
    notes: tuple[dict[str, Any], ...]
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        if not bool(self.escapes.any()):
            return self.improvement(x)
        mean, var = self.improvement.process.mean_and_var(x)
        if mean.ndim > var.ndim:
            mean = mean.mean(0)
        bound = self.beta * var.clamp(min=_SMALLEST_VAR).sqrt() - mean
        if bool(self.escapes.all()):
            return bound
        return torch.where(self.escapes[..., None], bound, self.improvement(x))


@dataclass(frozen=True)
class AdaptiveImprovement:
    """Expected improvement that chooses the scale of the outcomes, and explores while nothing improves.

    A step has three parts.

    1. Scale. Outcomes of one function may span five orders of magnitude or have a flat floor, and those of
       another be a bowl. So the same Gaussian process is fitted, in one batch, to the outcomes as given and
       to log(y - y* + c), y* the best outcome, for two offsets c. The scale of the highest leave-one-out
       density of the better half of the outcomes is chosen.
    2. Improvement. The score is log E[(y* - f(x))₊] on that scale, as `LogExpectedImprovement` has it.
    3. Escape. Once `patience` evaluations have not improved on the best outcome, every second step maximises
       β σ(x) - mean(x) instead. Where outcomes are constant in steps, or a basin is exhausted, the
       improvement that the model expects beside the best point does not come, and the search would stay.

    A step depends on the observations in their order, pending points, and the seeds alone.

    Attributes:
        surrogate: fitted to the outcomes on the chosen scale; its exact part compares the scales.
        fantasies: number of quasi-Monte Carlo samples of the pending values.
        patience: number of evaluations without improvement before the first escape.
        beta: number of standard deviations of the confidence bound.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: fantasies or patience below 1, or beta negative.
    """

    surrogate: AutoGP = field(default_factory=AutoGP)
    fantasies: int = 32
    patience: int = 5
    beta: float = 2.0
    search: Search | None = field(default=None, kw_only=True)

    batched = True

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)
        at_least_one("patience", self.patience)

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> AdaptiveScore:
        """The score given the data."""
        of_candidates, of_last = _parts(start)
        choice = ScaleChoice.of(self.surrogate.exact, data, seeds, of_candidates)
        scaled = replace(choice.scale.of_data(data), pending=data.pending)
        if choice.observations == data.x.shape[-2]:
            of_last = WarmStart(choice.chosen, choice.observations, settled=True)
        process = self.surrogate.fit(scaled, seeds, of_last)
        best = incumbents(process, scaled).amin(-1, keepdim=True)
        improvement = improvement_on(best, process, scaled, seeds, self.fantasies)
        waited = evaluations_since_best(data)
        escapes = (waited >= self.patience) & ((waited - self.patience) % 2 == 0)
        theta = torch.cat((*choice.hyperparameters, process.hyperparameters), -1)
        return AdaptiveScore(improvement, escapes, self.beta, theta, _notes(choice, escapes))


def evaluations_since_best(data: Dataset) -> jt.Int64[Tensor, "*b"]:
    """Number of evaluations, pending ones included, after the first that had the best outcome."""
    return data.x.shape[-2] + data.pending.shape[-2] - 1 - data.y.argmin(-1)


def _parts(start: WarmStart | None) -> tuple[WarmStart | None, WarmStart | None]:
    """The start of the fits to the candidate scales, and of the last fit; None if another recipe stored it."""
    if start is None or start.hyperparameters.shape[-1] % (CANDIDATES + 1):
        return None, None
    *candidates, last = start.hyperparameters.chunk(CANDIDATES + 1, -1)
    return replace(start, hyperparameters=torch.stack(candidates)), replace(start, hyperparameters=last)


def _notes(choice: ScaleChoice, escapes: Tensor) -> tuple[dict[str, Any], ...]:
    """What was chosen for each replicate."""
    rules = ["confidence bound" if escape else "improvement" for escape in escapes.flatten().tolist()]
    return tuple({"scale": scale, "rule": rule} for scale, rule in zip(choice.names, rules, strict=True))
