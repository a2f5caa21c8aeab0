"""The knowledge gradient: how much one more observation is expected to lower the smallest posterior mean."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.alternatives import OneStepMeans, StartingPoints, at_target, distinct
from bo_suite.acquisition.feasibility import Feasibility
from bo_suite.acquisition.lines import log_discrete_knowledge_gradient
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg import jittered_cholesky
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.maximize import Search, ascend
from bo_suite.space.activity import movable
from bo_suite.space.candidates import top
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.process import (
    ROWS_AT_ONCE,
    Hyperparameters,
    Process,
    SupportsLookahead,
    Surrogate,
    WarmStart,
)
from bo_suite.values.describe import described

_POOL = 512
"""Rows that searches start from."""
_MINIMA = 8
"""Searches for local minima of the posterior mean near the best observations; as many start anywhere."""
_EVALUATIONS = 20
"""Rounds of joint evaluation in a search for a minimum of a one-step mean; twice as many without outcomes."""
_STEPS = 10
"""Rounds of joint evaluation in a search for candidates; they need not be exact maxima."""
_LIKELY = 32
"""Alternatives that are likely to be feasible and good, under constraints."""
_SPREAD = 128
"""Alternatives spread over the space, divided by the number of columns: more would add little there."""
_REFRESHES = 2
"""Rounds of searching for candidates and replacing the alternatives that depend on them."""


@runtime_checkable
class Cost(Protocol):
    """The cost of an evaluation."""

    def __call__(
        self, x: jt.Float[Tensor, "*b m d"], fidelities: tuple[int, ...]
    ) -> jt.Float[Tensor, "*b m"]:
        """Positive costs of encoded rows, differentiable; the columns `fidelities` are 1 at the target."""


@dataclass(frozen=True)
class AffineCost:
    """fixed + slope · mean of the fidelity columns, encoded in [0, 1] with the target at 1.

    Attributes:
        fixed: cost of an evaluation at the lowest fidelities.
        slope: additional cost at the target fidelity.

    Raises:
        DataError: fixed <= 0, slope < 0, or one of them is not finite.
    """

    fixed: float = 0.1
    slope: float = 0.9

    def __post_init__(self) -> None:
        if not (0 < self.fixed < math.inf and 0 <= self.slope < math.inf):
            raise DataError(
                f"`0 < fixed` and `0 <= slope` must hold and be finite, got {self.fixed} and {self.slope}"
            )

    def __call__(
        self, x: jt.Float[Tensor, "*b m d"], fidelities: tuple[int, ...]
    ) -> jt.Float[Tensor, "*b m"]:
        """The cost of each row."""
        if not fidelities:
            return x.new_full(x.shape[:-1], self.fixed + self.slope)
        return self.fixed + self.slope * x[..., list(fidelities)].mean(-1)


@dataclass(frozen=True, eq=False)
class Penalty:
    """What an alternative counts for under constraints: P f + (1 - P) worst, P its chance to be feasible.

    Attributes:
        feasibility: of P, which the next observation is taken not to change.
        chances: P of the alternatives.
        worst: the worst observed outcome.
    """

    feasibility: Feasibility
    chances: jt.Float[Tensor, "*b j"]
    worst: jt.Float[Tensor, "*b 1"]

    @staticmethod
    def of(feasibility: Feasibility, data: Dataset, alternatives: Tensor) -> "Penalty":
        """The penalty at the alternatives."""
        return Penalty(feasibility, feasibility.log(alternatives).exp(), data.y.amax(-1, keepdim=True))

    def applied(self, target: Tensor, intercepts: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """The lines of the alternatives and of rows at the target, of expected outcomes with the penalty."""
        own = self.feasibility.log(target).exp()[..., None]
        chances = torch.cat((self.chances[..., None, :].expand(*own.shape[:-1], -1), own), -1)
        return chances * intercepts + (1.0 - chances) * self.worst[..., None], chances * slopes


@dataclass(frozen=True, eq=False)
class KnowledgeGradientScore:
    """Log of the knowledge gradient per cost, over finitely many alternatives and the candidate itself.

    log mean_s E[min_A mean_s - min_A (mean_s + cov(A, x) Z / √(var(x) + noise))] - log cost(x), where A holds
    the alternatives and x at the target fidelity, and s runs over fantasies of pending observations.

    Attributes:
        lookahead: of the process, at the alternatives.
        means: posterior means at the alternatives.
        noise: variance of the next observation.
        fidelities: columns that are 1 at the target.
        cost: of an evaluation; None if it is constant.
        hyperparameters: of the fit.
        penalty: of alternatives that may be infeasible; None without constraints.
    """

    lookahead: Lookahead
    means: jt.Float[Tensor, "*sb j"]
    noise: jt.Float[Tensor, "*b"]
    fidelities: tuple[int, ...]
    cost: Cost | None
    hyperparameters: Hyperparameters
    penalty: Penalty | None = None
    differentiable: bool = field(default=True, init=False)

    @property
    def costly(self) -> bool:
        """Whether a row takes many times the time of a mean and a variance: with fantasies or fidelities."""
        return bool(self.lookahead.fantasies or self.fidelities)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        mean, var, cov = self.lookahead.moments(x)
        own, target = var, x
        if self.fidelities:
            target = at_target(x, self.fidelities)
            mean, own = self.lookahead.mean_and_cov(target)[0], self.lookahead.pair_cov(x, target)
        slopes = torch.cat((cov, own[..., None]), -1) / (var + self.noise[..., None]).sqrt()[..., None]
        means = self.means[..., None, :].expand(*mean.shape, -1)
        intercepts = torch.cat((means, mean[..., None]), -1)
        if self.penalty is not None:
            intercepts, slopes = self.penalty.applied(target, intercepts, slopes)
        value = log_discrete_knowledge_gradient(-intercepts, slopes.expand_as(intercepts))
        if value.ndim > var.ndim:
            value = torch.logsumexp(value, 0) - math.log(value.shape[0])
        return value if self.cost is None else value - self.cost(x, self.fidelities).log()


@dataclass(frozen=True)
class KnowledgeGradient:
    """log E[min mean_n - min mean_{n+1}]: how much one more observation lowers the smallest posterior mean.

    After an observation at x, the posterior mean at any point is linear in a standard normal Z. So the
    expectation over finitely many alternatives has a closed form (Frazier, Powell and Dayanik 2009). The
    alternatives are: minima of the posterior mean; its minima after several outcomes at each of the most
    promising candidates (Pearce, Klaise and Groves 2020); a few rows spread over the space; and x itself. The
    score is a lower bound of the exact one, up to the error in locating the minimum of the posterior mean.

    The noise of the observation lowers the score. Pending points are fantasised: the gradient is averaged
    over joint quasi-Monte Carlo samples of their observations, in closed form given each sample. In a space
    with fidelities the posterior mean is taken at the target, and the gradient is divided by the cost of the
    observation (Wu, Toscano-Palmerin, Frazier and Wilson 2020). Under constraints an alternative counts for
    its expected outcome, where an infeasible one is as bad as the worst (after Ungredda and Branke 2024), and
    the best observed and sampled rows in that sense are alternatives too.

    Attributes:
        surrogate: fitted to the data.
        cost: of an evaluation; if None, `AffineCost()` in a space with fidelities and constant elsewhere.
        quantiles: number of outcomes at each candidate whose minima are alternatives.
        candidates: number of promising candidates.
        fantasies: number of quasi-Monte Carlo samples of pending observations.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: a number is below 1, or the cost is not callable.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    cost: Cost | None = None
    quantiles: int = 7
    candidates: int = 8
    fantasies: int = 16
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints", "fidelities"})

    def __post_init__(self) -> None:
        for name in ("quantiles", "candidates", "fantasies"):
            if not getattr(self, name) >= 1:
                raise DataError(f"`{name} >= 1` must hold, got {getattr(self, name)!r}")
        if self.cost is not None and not callable(self.cost):
            raise DataError(
                f"a cost must be a function of rows and fidelity columns, got {described(self.cost)}"
            )

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates; True if the surrogate does."""
        return bool(getattr(self.surrogate, "batched", False))

    @outside_inference_mode
    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> KnowledgeGradientScore:
        """The score given the data.

        Raises:
            DataError: the process of the surrogate has no `lookahead`.
        """
        process = self.surrogate.fit(data, seeds, start)
        if not isinstance(process, SupportsLookahead):
            raise DataError(
                "a KnowledgeGradient needs a surrogate whose process has a method `lookahead`, such as "
                f"ExactGP or SGPR, got a {type(process).__name__} of {described(self.surrogate, 200)}"
            )
        with torch.no_grad():
            mean = torch.cat([process.mean(rows) for rows in data.x.split(ROWS_AT_ONCE, -2)], -1)
            pool = StartingPoints.of(data, mean, _POOL, seeds.split("pool"))
            expected = _given_pending(process, data.pending, seeds.split("fantasies"), self.fantasies)
            minima = _minima(expected, pool)
            spread = _SPREAD // pool.x.shape[-1]
            alternatives = torch.cat((minima, at_target(pool.x[..., :spread, :], pool.fidelities)), -2)
            feasibility = None if data.violation is None else Feasibility.fit(data, seeds)
            if feasibility is not None:
                alternatives = torch.cat((alternatives, _likely_best(expected, feasibility, data, pool)), -2)
            score = self._score(process, expected, alternatives, data, feasibility)
            for _ in range(_REFRESHES):
                candidates = _climb(score, pool, spread, self.candidates)
                after = self._after(process, expected, pool, minima, candidates)
                rows = torch.cat((alternatives, after), -2)
                score = self._score(process, expected, rows, data, feasibility)
        return score

    def _score(
        self,
        process: Process,
        expected: SupportsLookahead,
        alternatives: Tensor,
        data: Dataset,
        feasibility: Feasibility | None,
    ) -> KnowledgeGradientScore:
        cost = AffineCost() if self.cost is None and data.fidelities else self.cost
        alternatives = distinct(data.within_region(alternatives))
        return KnowledgeGradientScore(
            expected.lookahead(alternatives),
            expected.mean(alternatives),
            process.noise,
            data.fidelities,
            cost,
            process.hyperparameters,
            None if feasibility is None else Penalty.of(feasibility, data, alternatives),
        )

    def _after(
        self,
        process: Process,
        expected: SupportsLookahead,
        pool: StartingPoints,
        minima: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        """Minima of the posterior mean after each quantile of the outcome at each candidate."""
        lookahead = expected.lookahead(candidates)
        count, levels = candidates.shape[-2], self.quantiles
        z = torch.special.ndtri(
            (torch.arange(levels, device=candidates.device).to(candidates) + 0.5) / levels
        )
        deviation = (expected.var(candidates) + process.noise[..., None]).sqrt()
        own = torch.eye(count, dtype=candidates.dtype, device=candidates.device).repeat_interleave(levels, 0)
        shifts = own * z.repeat(count)[:, None] / deviation[..., None, :]
        fantasies = math.prod(lookahead.fantasies)
        turns = torch.arange(count * levels, device=z.device) % fantasies
        weights = torch.nn.functional.one_hot(turns, fantasies).to(candidates).mT
        one_step_means = OneStepMeans(lookahead, shifts, weights)
        rows = torch.cat((pool.x, minima, candidates), -2)
        starts = one_step_means.best_of(at_target(rows, pool.fidelities))
        return one_step_means.minimize(pool, starts, evaluations=_EVALUATIONS)


def _given_pending(
    process: SupportsLookahead, pending: Tensor, seeds: Seeds, count: int
) -> SupportsLookahead:
    """The process given joint samples of the observations at pending points, if any."""
    if not pending.shape[-2]:
        return process
    noise = process.noise[..., None].expand(pending.shape[:-1])
    covariance = process.cov(pending, pending) + torch.diag_embed(noise)
    chol, _ = jittered_cholesky(covariance, process.scale)
    base = seeds.quasi_normal(count, pending.shape[-2], pending)
    return process.condition(pending, (base @ chol.mT).movedim(-2, 0) + process.mean(pending))


def _likely_best(
    process: SupportsLookahead, feasibility: Feasibility, data: Dataset, pool: StartingPoints
) -> Tensor:
    """Observed and sampled rows of smallest mean, where an infeasible one is as bad as the worst."""
    rows = at_target(torch.cat((data.within_space(data.x), pool.x), -2), pool.fidelities)
    mean = process.mean(rows)
    mean = mean.mean(0) if mean.ndim > data.y.ndim else mean
    worst = data.y.amax(-1, keepdim=True)
    return top(rows, feasibility.log(rows).exp() * (worst - mean), _LIKELY)


def _minima(process: SupportsLookahead, pool: StartingPoints) -> Tensor:
    """Local minima of the posterior mean averaged over fantasies, and of the means of a few fantasies."""
    target = at_target(pool.x, pool.fidelities)
    mean = process.mean(target)
    lookahead = process.lookahead(target[..., :1, :])
    count = math.prod(lookahead.fantasies)
    average = mean.mean(0) if lookahead.fantasies else mean
    starts = at_target(pool.leaders(-average, 2 * _MINIMA), pool.fidelities)
    weights = mean.new_full((count, starts.shape[-2]), 1.0 / count)
    if lookahead.fantasies:
        few = torch.eye(count, dtype=mean.dtype, device=mean.device)[:, :_MINIMA]
        each = OneStepMeans(lookahead, mean.new_zeros(*starts.shape[:-2], few.shape[-1], 1), few)
        starts = torch.cat((starts, each.best_of(target)), -2)
        weights = torch.cat((weights, few), -1)
    present = OneStepMeans(lookahead, mean.new_zeros(*starts.shape[:-1], 1), weights)
    return present.minimize(pool, starts, evaluations=2 * _EVALUATIONS)


def _climb(score: KnowledgeGradientScore, pool: StartingPoints, alternatives: int, count: int) -> Tensor:
    """Candidates of large score, by a few gradient steps from rows that are not alternatives.

    A candidate that is an alternative has the same line twice: rounding errors would choose the gradient.
    """
    value = score(pool.x)
    value[..., :alternatives] = -torch.inf
    starts = pool.leaders(value, count)
    held = [column for column in pool.held if column not in pool.fidelities]
    if len(held) == starts.shape[-1]:
        return starts
    return ascend(score, starts, movable(pool.columns, starts, held), _STEPS)
