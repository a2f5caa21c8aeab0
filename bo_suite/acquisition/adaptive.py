"""The default recipe: expected improvement on a chosen scale of the outcomes, and escapes from stagnation."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.confidence_bound import confidence_bound
from bo_suite.acquisition.descent import DescentScore, descent
from bo_suite.acquisition.forecast import Forecast, forecast_of
from bo_suite.acquisition.improvement import (
    NEGLIGIBLE_NOISE,
    at_least_one,
    evaluations_since_best,
    improvement_on,
    incumbents,
    log_expected_improvement,
)
from bo_suite.acquisition.outcome_scales import CANDIDATES, OutcomeScale, ScaleChoice, fit_chosen
from bo_suite.acquisition.plateaus import LARGEST_CHANCE, Plateaus, Repetition
from bo_suite.data import Dataset, Seeds
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP, ExactProcess, SparseProcess
from bo_suite.surrogates.averaged import averaged_over
from bo_suite.surrogates.process import Hyperparameters, Process, WarmStart
from bo_suite.surrogates.where_good import means_at

_SMALLEST_VAR = 1e-20
"""Sums of variances are clamped here before they divide; outcomes have variance about 1."""

_BETA = 2.0
"""Standard deviations of the confidence bound of an escape."""

_LOG_TRUST = math.log(1e-8)
"""Expected improvements below this, on outcomes of variance about 1, are those of a model that is wrong."""

_SOFTNESS = 0.1
"""What counts as a small change of the outcome where the model believes that nothing improves."""


@dataclass(frozen=True, eq=False)
class AdaptiveScore:
    """Log of the augmented expected improvement or, for replicates that escape, a confidence bound.

    Attributes:
        process: conditioned on the fantasies of pending values, if any.
        scale: of the outcomes that the process is fitted to.
        plateaus: the chance of an outcome that was observed already; None without ties.
        best: the value to improve on, of each fantasy.
        escapes: which replicates take the confidence bound.
        limited: whether there are constraints, whose log probability is added: then the score is a logarithm
            in escapes too, and does not fall to where the probability alone would count.
        hyperparameters: of the fits to all candidate scales, then of the last fit.
        notes: what was chosen, in JSON values, one a replicate.
    """

    process: Process
    scale: OutcomeScale
    plateaus: Plateaus | None
    best: jt.Float[Tensor, "*sb 1"]
    escapes: jt.Bool[Tensor, "*b"]
    limited: bool
    hyperparameters: Hyperparameters
    notes: tuple[dict[str, Any], ...]
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row, up to a constant."""
        mean, var = self.process.mean_and_var(x)
        repetition = None if self.plateaus is None else self.plateaus(x)
        if self.limited or not bool(self.escapes.any()):
            return self._log_improvement(mean, var, repetition)
        bound = _bound(mean.mean(0) if mean.ndim > var.ndim else mean, var, repetition)
        if bool(self.escapes.all()):
            return bound
        return torch.where(self.escapes[..., None], bound, self._log_improvement(mean, var, repetition))

    def forecast(self, row: jt.Float[Tensor, "1 d"]) -> Forecast:
        """What is expected of an evaluation of one run at the row."""
        return forecast_of(self.process, self.best, row, self.scale.inverse)

    def _log_improvement(self, mean: Tensor, var: Tensor, repetition: Repetition | None) -> Tensor:
        """The score of an improvement and, with constraints, of the replicates that escape."""
        score, gain = log_expected_improvement(mean, var, self.best), self.best - mean
        if mean.ndim > var.ndim:
            score, gain = score.logsumexp(0), gain.mean(0)
        score = score + self._log_news(var)
        if self.limited:
            score = torch.logaddexp(score, _LOG_TRUST + _log_softplus(gain / _SOFTNESS))
            hoped = gain + _BETA * var.clamp(min=_SMALLEST_VAR).sqrt()
            score = torch.where(self.escapes[..., None], _log_softplus(hoped / _SOFTNESS), score)
        return score if repetition is None else score + torch.log1p(-repetition.chance)

    def _log_news(self, var: Tensor) -> Tensor:
        """log(1 - τ / √(σ² + τ²)): 0 without noise, and low where the noise exceeds what is unknown."""
        noise = (self.process.noise - NEGLIGIBLE_NOISE).clamp(min=0.0)[..., None]
        inverse = (var + noise).clamp(min=_SMALLEST_VAR).rsqrt()
        share = noise.sqrt() * inverse  # the root of the quotient would have no gradient at 0
        return torch.log1p(-share.clamp(max=LARGEST_CHANCE[var.dtype]))


def _log_softplus(z: Tensor) -> Tensor:
    """log log(1 + exp(z)), which is z for very negative z."""
    return torch.where(z < -20.0, z, torch.nn.functional.softplus(z.clamp(min=-20.0)).log())


def _bound(mean: Tensor, var: Tensor, repetition: Repetition | None) -> Tensor:
    """The confidence bound of N(mean, var), mixed with the outcome that would be repeated."""
    if repetition is not None:
        chance, rest = repetition.chance, 1.0 - repetition.chance
        between = chance * rest * (mean - repetition.outcome).square()
        mean, var = chance * repetition.outcome + rest * mean, rest * var + between
    return confidence_bound(mean, var, _BETA)


@dataclass(frozen=True)
class AdaptiveImprovement:
    """Expected improvement that chooses the scale of the outcomes, and explores while nothing improves.

    A step has these parts.

    1. Scale. Outcomes of one function span five orders of magnitude, and those of another are a bowl. So the
       same Gaussian process is fitted, in one batch, to the outcomes as given and to log(y - y* + c), y* the
       best outcome, for two offsets c. A log scale is chosen if leaving out each of the better half of the
       outcomes in turn, and predicting it from the others, gives strong evidence for it.
    2. Improvement. The score is log E[(y* - f(x))₊] + log(1 - τ / √(σ² + τ²)), the augmented expected
       improvement (Huang et al. 2006), with y* the best observed outcome, σ² the variance of f(x) and τ² that
       of the noise, less 0.001. Without noise it is `LogExpectedImprovement`. With noise it does not return
       to where nothing new is to be learnt.
    3. Steps. If outcomes are equal at points that are apart, the function is constant in steps, and with
       chance P(x) repeats the outcome of the nearest observation: log(1 - P(x)) is added (see `Plateaus`).
       The prior of the surrogate's lengthscales then rules out those that would follow the steps.
    4. Escape. Once `patience` evaluations have not improved on the best outcome, and the outcomes are as
       given, every second step maximises 2 σ(x) - mean(x) instead, mean and variance of the mixture with P.
       With constraints it is log E[(y* - g)₊], g ~ N(mean(x) - 2 σ(x), σ²(x)), as the log probability that
       they are met is added.

    5. Descent. If derivatives are known, steps after improvements, and a few of the others, are those of a
       quasi-Newton method from the best observation, until that has converged: see `descent`. Not so with
       constraints, fixed columns or noise of inputs, nor for several replicates at once.

    If the noise of inputs is known (`Dataset.x_std`), the function is improved on average over it: by the
    posterior of this average, beyond its smallest mean, with the noise of inputs in τ².

    A step depends on the observations in their order, the pending points, and the seeds alone.

    Attributes:
        surrogate: fitted to the outcomes on the chosen scale; its exact part compares the scales.
        fantasies: number of quasi-Monte Carlo samples of the pending values.
        patience: number of evaluations without improvement before the first escape.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: fantasies or patience below 1.
    """

    surrogate: AutoGP = field(default_factory=AutoGP)
    fantasies: int = 32
    patience: int = 5
    search: Search | None = field(default=None, kw_only=True)

    batched: ClassVar[bool] = True
    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)
        at_least_one("patience", self.patience)

    def build(
        self, data: Dataset, seeds: Seeds, start: WarmStart | None = None
    ) -> AdaptiveScore | DescentScore:
        """The score given the data.

        Raises:
            FitError, NumericalError: a model cannot be fitted.
        """
        of_candidates, of_last = _parts(start)
        if (step := descent(data, of_last)) is not None:
            return step
        choice = ScaleChoice.of(self.surrogate.exact, data, seeds, of_candidates)
        waited = evaluations_since_best(data) - self.patience
        escapes = (waited >= 0) & (waited % 2 == 0) & (choice.index == 0)
        scaled = choice.scale.of_data(data)
        scaled = replace(scaled, pending=data.pending, outside=data.outside, violation=data.violation)
        chosen = WarmStart(choice.chosen, choice.observations)
        process = fit_chosen(self.surrogate, scaled, seeds, chosen, of_last)
        improved, targets = _over_noise_of_inputs(process, scaled)
        best = incumbents(improved, targets).amin(-1, keepdim=True)
        improvement = improvement_on(best, improved, targets, seeds, self.fantasies)
        plateaus = Plateaus.of(process.basis, scaled)
        theta = torch.cat((*choice.hyperparameters, process.hyperparameters), -1)
        notes = _notes(choice, escapes, plateaus)
        limited = data.violation is not None
        return AdaptiveScore(
            improvement.process, choice.scale, plateaus, improvement.best, escapes, limited, theta, notes
        )


def _over_noise_of_inputs(process: ExactProcess | SparseProcess, data: Dataset) -> tuple[Process, Dataset]:
    """What is to be improved, and the data with the outcomes to improve on; as given with exact inputs.

    Otherwise the function averaged over the median noise of each column, and its means at the rows: outcomes
    are of other rows, and the best is one that was lucky.
    """
    if data.x_std is None:
        return process, data
    std = data.x_std.median(-2).values
    if not bool((std > 0.0).any()):
        return process, data
    averaged = averaged_over(process, std)
    return averaged, replace(data, y=means_at(averaged, data.x))


def _parts(start: WarmStart | None) -> tuple[WarmStart | None, WarmStart | None]:
    """The start of the fits to the candidates, and of the last fit; None if another recipe stored it."""
    if start is None or start.hyperparameters.shape[-1] % (CANDIDATES + 1):
        return None, None
    *candidates, last = start.hyperparameters.chunk(CANDIDATES + 1, -1)
    return replace(start, hyperparameters=torch.stack(candidates)), replace(start, hyperparameters=last)


def _notes(choice: ScaleChoice, escapes: Tensor, plateaus: Plateaus | None) -> tuple[dict[str, Any], ...]:
    """What was chosen for each replicate."""
    rules = ["confidence bound" if escape else "improvement" for escape in escapes.flatten().tolist()]
    notes = [{"scale": scale, "rule": rule} for scale, rule in zip(choice.names, rules, strict=True)]
    stepped = [False] * len(notes) if plateaus is None else plateaus.found.flatten().tolist()
    return tuple(
        note | {"surface": "steps"} if steps else note for note, steps in zip(notes, stepped, strict=True)
    )
