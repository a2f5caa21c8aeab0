"""Expected improvement in log space, noiseless and noisy, averaged over fantasies of unknown values."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jaxtyping as jt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bo_suite.acquisition.forecast import Forecast, forecast_of
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.noise import observation_noise
from bo_suite.surrogates.process import (
    ROWS_AT_ONCE,
    Hyperparameters,
    Process,
    Surrogate,
    WarmStart,
    sample_joint,
)
from bo_suite.surrogates.warm_start import MANY
from bo_suite.surrogates.where_good import means_at

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_SMALLEST_VAR = 1e-20
"""Variances are clamped here before their square root is taken; outcomes have variance about 1."""
SAMPLE_NOISE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Noise variance of joint samples that a process is conditioned on, relative to its scale: negligible, but
enough for a Cholesky factorisation in this dtype."""
_IGNORED_NOISE = 1e20
"""Multiple of that variance which switches off a padded sample."""
NEGLIGIBLE_NOISE = 1e-3
"""Noise variance that counts as none: the fit to a smooth function has some, and a search that took it for
real would stop short of the minimum."""
_PROMISING_WIDTH = 2.0
"""Standard deviations of optimism by which observed rows are shortlisted as possibly best."""
_PROMISING_SAMPLES = 128
"""Joint posterior samples whose winners are the promising rows."""


class _LogH(torch.autograd.Function):
    """log h and its derivative Φ / h."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        value, ratio = log_h_and_slope(u)
        ctx.save_for_backward(ratio)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (ratio,) = ctx.saved_tensors
        return gradients[0] * ratio  # type: ignore[no-any-return]


def log_h(u: jt.Float[Tensor, "*b"]) -> jt.Float[Tensor, "*b"]:
    """log(φ(u) + u Φ(u)), accurate far into the tail where h underflows; differentiable once.

    With q = Φ/φ = √(π/2) erfcx(-u/√2): log h = log φ + log(1 + u q) for u < 0; for u < -100, where 1 + u q
    cancels, the series h = φ u⁻² (1 - 3u⁻² + 15u⁻⁴ - 105u⁻⁶). (Ament et al. 2023, equation 9.)
    """
    return _LogH.apply(u)  # type: ignore[no-untyped-call, no-any-return]


def log_h_and_slope(u: jt.Float[Tensor, "*b"]) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b"]]:
    """`log_h` and its derivative Φ(u) / h(u), neither of them differentiable."""
    # q = Φ/φ is finite below 0, where 1 + u q = h/φ is accurate until it cancels
    near = u.clamp(-100.0, 0.0)
    q = math.sqrt(math.pi / 2.0) * torch.special.erfcx(near * -math.sqrt(0.5))
    h_over_phi = 1.0 + near * q
    value: Tensor = h_over_phi.log() - 0.5 * near.square() - _LOG_SQRT_2PI
    ratio = q / h_over_phi
    if bool((u > 0.0).any()):
        up = u.clamp(min=0.0)
        cumulative = torch.special.ndtr(up)
        h = torch.exp(-0.5 * up.square() - _LOG_SQRT_2PI) + up * cumulative
        value, ratio = torch.where(u > 0, h.log(), value), torch.where(u > 0, cumulative / h, ratio)
    if bool((u < -100.0).any()):
        down = u.clamp(max=-100.0)
        inverse = down.reciprocal().square()
        series = 1.0 - inverse * (3.0 - inverse * (15.0 - inverse * 105.0))
        tail = torch.log(inverse * series) - 0.5 * down.square() - _LOG_SQRT_2PI
        slope = -down * (1.0 - inverse * (1.0 - inverse * (3.0 - inverse * 15.0))) / series
        value, ratio = torch.where(u < -100, tail, value), torch.where(u < -100, slope, ratio)
    return value, ratio


def log_expected_improvement(
    mean: jt.Float[Tensor, "*sb m"], var: jt.Float[Tensor, "*b m"], best: jt.Float[Tensor, "*sb #m"]
) -> jt.Float[Tensor, "*sb m"]:
    """log E[(best - f)₊] for f ~ N(mean, var): log σ + log h((best - mean) / σ)."""
    std = var.clamp(min=_SMALLEST_VAR).sqrt()
    return std.log() + log_h((best - mean) / std)


@dataclass(frozen=True, eq=False)
class ImprovementScore:
    """Log of the expected improvement, averaged over fantasies, each with its own mean and best value.

    Attributes:
        process: conditioned on the fantasies, if any.
        best: the value to improve on, of each fantasy.
        hyperparameters: of the fit.
    """

    process: Process
    best: jt.Float[Tensor, "*sb 1"]
    hyperparameters: Hyperparameters
    differentiable: bool = field(default=True, init=False)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log mean_s EI_s(x)."""
        mean, var = self.process.mean_and_var(x)
        value = log_expected_improvement(mean, var, self.best)
        if value.ndim == var.ndim:
            return value
        return torch.logsumexp(value, 0) - math.log(value.shape[0])

    def forecast(self, row: jt.Float[Tensor, "1 d"]) -> Forecast:
        """What is expected of an evaluation of one run at the row."""
        return forecast_of(self.process, self.best, row, lambda values: values)


@dataclass(frozen=True)
class LogExpectedImprovement:
    """log E[(y* - f(x))₊], y* the best observed outcome (Jones et al. 1998; in log space Ament et al. 2023).

    The incumbent is the best observed outcome. With more than 500 observations, those with a noise variance
    above 0.001 count by their posterior mean: the best of very many noisy outcomes is luck, on which nothing
    can improve. Under constraints it is the best feasible one.
    Pending points are fantasised: the expectation is also taken over joint posterior samples of their values,
    which count as observed. If columns of the next point are fixed, the observed points are moved to these
    values, and the incumbent is their smallest posterior mean.

    Attributes:
        surrogate: fitted to the data.
        fantasies: number of quasi-Monte Carlo samples of the pending values.
        search: how hard to search for the maximum of the score; None for the defaults.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    fantasies: int = 32
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates; True if the surrogate does."""
        return bool(getattr(self.surrogate, "batched", False))

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ImprovementScore:
        """The score given the data."""
        process = self.surrogate.fit(data, seeds, start)
        best = incumbents(process, _without_luck(process, data)).amin(-1, keepdim=True)
        return improvement_on(best, process, data, seeds, self.fantasies)


def _without_luck(process: Process, data: Dataset) -> Dataset:
    """The data with posterior means in place of outcomes whose noise is not negligible, if there are many.

    With few observations the luck is small, and to seek more than the best mean is to explore.
    """
    if data.y.shape[-1] <= MANY:
        return data
    noisy = observation_noise(process.noise, data.noise, data.y.shape[-1])[0] > NEGLIGIBLE_NOISE
    if not bool(noisy.any()):
        return data
    return replace(data, y=torch.where(noisy, means_at(process, data.x), data.y))


def incumbents(process: Process, data: Dataset) -> jt.Float[Tensor, "*b n"]:
    """Outcomes to improve on: the observed ones, or posterior means at rows moved to the fixed columns.

    Rows outside of the space have an infinite outcome, as they cannot be suggested; if all are, they are
    moved into it. So have rows that violate a constraint.
    """
    outcomes = data.y
    if data.columns.fixed or (data.outside is not None and bool(data.outside.all(-1).any())):
        outcomes = means_at(process, data.within_space(data.x))
    elif data.outside is not None:
        outcomes = torch.where(data.outside, torch.inf, data.y)
    return outcomes if data.violation is None else torch.where(data.violation > 0.0, torch.inf, outcomes)


def evaluations_since_best(data: Dataset) -> jt.Int64[Tensor, "*b"]:
    """Number of evaluations, pending ones included, after the first with the best feasible outcome."""
    return data.x.shape[-2] + data.pending.shape[-2] - 1 - data.merit.argmin(-1)


def improvement_on(
    best: jt.Float[Tensor, "*b 1"], process: Process, data: Dataset, seeds: Seeds, fantasies: int
) -> ImprovementScore:
    """The score of improvement on a value, averaged over fantasies of the pending points, if any."""
    if data.pending.shape[-2]:
        draws = draws_at(seeds, fantasies, data.pending)
        return fantasise(process, data.pending, best, draws)
    return ImprovementScore(process, best, process.hyperparameters)


@dataclass(frozen=True)
class NoisyExpectedImprovement:
    """log E[(min f(X) - f(x))₊] over the joint posterior of f at the observed points and x.

    Letham et al. (2019), equation 7, with each inner expectation in closed form. Values at the pending points
    and at the observed points that may be best are sampled jointly. The process is conditioned on each sample
    without noise, and the expected improvements on the minima of the samples are averaged. Without noise it
    equals LogExpectedImprovement.

    Attributes:
        surrogate: fitted to the data.
        fantasies: number of quasi-Monte Carlo samples.
        baseline: largest number of observed points that are considered as possibly best.
        search: how hard to search for the maximum of the score; None for the defaults.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    fantasies: int = 32
    baseline: int = 32
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)
        at_least_one("baseline", self.baseline)

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates; True if the surrogate does."""
        return bool(getattr(self.surrogate, "batched", False))

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> ImprovementScore:
        """The score given the data."""
        process = self.surrogate.fit(data, seeds, start)
        feasible = None if data.violation is None else data.violation == 0.0
        promising, won = _promising(process, data.within_space(data.x), feasible, self.baseline, seeds)
        points = torch.cat((data.pending, promising), -2)
        counts = torch.cat((won.new_ones(data.pending.shape[:-1]), won), -1)
        best = data.y.new_full((*data.batch_shape, 1), torch.inf)
        return fantasise(process, points, best, draws_at(seeds, self.fantasies, points), counts)


def at_least_one(name: str, count: int) -> None:
    """Raises a DataError if the count is below 1."""
    if not count >= 1:
        raise DataError(f"`{name} >= 1` must hold, got {count!r}")


def _promising(
    process: Process, x: Tensor, feasible: Tensor | None, most: int, seeds: Seeds
) -> tuple[Tensor, Tensor]:
    """The rows of x that are best in some joint posterior sample, and which of the returned rows are.

    Rows that are not feasible are never best.

    Replicates with fewer such rows than others are padded with rows that are not.
    """
    with torch.no_grad():
        moments = [process.mean_and_var(rows) for rows in x.split(ROWS_AT_ONCE, -2)]
        mean, var = (torch.cat(moment, -1) for moment in zip(*moments, strict=True))
        promise = _PROMISING_WIDTH * var.sqrt() - mean
        if feasible is not None:
            promise = promise.masked_fill(~feasible, -torch.inf)
        shortlist = promise.topk(min(most, x.shape[-2]), -1).indices
        rows = x.gather(-2, shortlist[..., None].expand(*shortlist.shape, x.shape[-1]))
        base = seeds.split("baseline").quasi_normal(_PROMISING_SAMPLES, rows.shape[-2], x)
        samples = sample_joint(process, rows, base)
        if feasible is not None:
            samples = samples.masked_fill(~feasible.gather(-1, shortlist), torch.inf)
        winners = samples.argmin(-1)
        wins = torch.nn.functional.one_hot(winners, rows.shape[-2]).sum(0)
        count = int((wins > 0).sum(-1).max())
        chosen = wins.argsort(dim=-1, descending=True, stable=True)[..., :count]
        won = wins.gather(-1, chosen) > 0
        return rows.gather(-2, chosen[..., None].expand(*chosen.shape, x.shape[-1])), won


def draws_at(seeds: Seeds, count: int, points: jt.Float[Tensor, "*b q d"]) -> jt.Float[Tensor, "*b s q"]:
    """Standard normal numbers for `count` joint samples at the points."""
    return seeds.split("fantasies").quasi_normal(count, points.shape[-2], points)


def fantasise(
    process: Process,
    points: jt.Float[Tensor, "*b q d"],
    best: jt.Float[Tensor, "*b 1"],
    draws: jt.Float[Tensor, "*b s q"],
    counts: jt.Bool[Tensor, "*b q"] | None = None,
) -> ImprovementScore:
    """The score given joint samples of f at the points; points that `counts` excludes are ignored.

    Args:
        process: of f.
        points: where f is sampled.
        best: value to improve on, beside the samples.
        draws: standard normal numbers of the samples.
        counts: which points count; None for all.
    """
    with torch.no_grad():
        samples = sample_joint(process, points, draws, counts)
        noise = (process.scale * SAMPLE_NOISE[points.dtype])[..., None].expand(points.shape[:-1])
        lowest = samples
        if counts is not None:
            noise = torch.where(counts, noise, _IGNORED_NOISE * noise)
            lowest = lowest.masked_fill(~counts, torch.inf)
        conditioned = process.condition(points, samples, noise)
        best = torch.minimum(best, lowest.amin(-1, keepdim=True))
        return ImprovementScore(conditioned, best, process.hyperparameters)
