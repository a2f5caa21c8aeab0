"""Mean and covariance of learning curves, learnt from past runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, Curves
from bo_suite.errors import DataError
from bo_suite.kernels import Decay
from bo_suite.kernels.base import Pullback
from bo_suite.linalg import jittered_cholesky, solve_lower

_SMALLEST = 1e-10
"""Smallest eigenvalue of the covariance, in units of the variance of the outcomes."""

_ROUGH = 0.01
"""Variance of the noise in the covariance to which one is shrunk, where that of a level is 1."""

_SPREAD = 0.5
"""Standard deviation of the logarithm of the factor by which a fit scales the covariance, under its prior."""


@dataclass(frozen=True, eq=False)
class EmpiricalPrior:
    """The normal distribution of past curves on a grid of steps, as the prior of further curves.

    Between the steps of the grid, a curve is interpolated linearly; beyond its ends it is constant. As
    the `steps` of a `FreezeThaw`, it replaces the kernel of the deviations by v times `covariance`, and the
    mean by `values`. Theta is log √v, with prior N(0, ½²) and bounds ±3.

    Attributes:
        grid: steps divided by the largest step, ascending.
        values: mean of a curve at these steps.
        covariance: of a curve at these steps.
        log_densities: what `fit` has maximised, before each of its iterations.
    """

    grid: jt.Float[Tensor, " t"] = field(repr=False)
    values: jt.Float[Tensor, " t"] = field(repr=False)
    covariance: jt.Float[Tensor, "t t"] = field(repr=False)
    log_densities: tuple[float, ...] = field(default=(), repr=False)

    @staticmethod
    def fit(
        runs: Tensor | Curves | Sequence[Tensor | Curves],
        weight: float | None = None,
        iterations: int = 16,
        tolerance: float = 1e-6,
    ) -> "EmpiricalPrior":
        """The most probable mean and covariance of curves with missing outcomes, by expectation maximisation.

        The expected mean and covariance of each curve given its outcomes are averaged (Dempster, Laird and
        Rubin 1977). With M steps and K curves, the average covariance S is shrunk to (w S_0 + K S) / (w + K),
        the maximum under an inverse Wishart prior with M + 2 degrees of freedom if w = 2M + 3. S_0 is that of
        a level plus a decay (`Decay` at its start) plus a little noise, with the average variance of the
        outcomes at a step.

        Args:
            runs: curves, one a row (k, t), NaN where an outcome is missing, at evenly spaced steps; or
                `Curves`; or several of these, at whose steps taken together the prior is learnt. Outcomes are
                used as they are: bring past runs to the scale of `Dataset.y` first.
            weight: w, the number of curves that S_0 counts for; 2M + 3 when None, 0 for no shrinkage.
            iterations: number of iterations at most.
            tolerance: it ends when the log density grows by less than this, relative to its size.

        Raises:
            DataError: no outcome, an infinite one, or an argument out of range.
        """
        grid, y = _stacked([runs] if isinstance(runs, Tensor | Curves) else list(runs))
        shrinkage = 2.0 * len(grid) + 3.0 if weight is None else float(weight)
        if not 0.0 <= shrinkage < math.inf or iterations < 1 or not tolerance >= 0.0:
            raise DataError(
                "`weight >= 0`, `iterations >= 1` and `tolerance >= 0` must hold, "
                f"got {weight}, {iterations} and {tolerance}"
            )
        problem = _Problem.of(grid, y, shrinkage)
        mean, covariance = problem.start()
        trace: list[float] = []
        for _ in range(iterations):
            value, updated, shrunk = problem.iterated(mean, covariance)
            if trace and value - trace[-1] < tolerance * abs(trace[-1]):
                break
            trace.append(value)
            mean, covariance = updated, shrunk
        return EmpiricalPrior(grid, mean, covariance, tuple(trace))

    def mean(self, steps: jt.Float[Tensor, " m"]) -> jt.Float[Tensor, " m"]:
        """Mean of a curve at any steps."""
        return _interpolation(self.grid, steps) @ self.values.to(steps)

    def cov(self, first: jt.Float[Tensor, " m"], second: jt.Float[Tensor, " k"]) -> jt.Float[Tensor, "m k"]:
        """Covariance of a curve between any steps."""
        left, right = _interpolation(self.grid, first), _interpolation(self.grid, second)
        return left @ self.covariance.to(first) @ right.mT

    def start(self) -> jt.Float[Tensor, "1"]:
        """v = 1."""
        return torch.zeros(1, **CPU_DOUBLES)

    def bounds(self) -> tuple[jt.Float[Tensor, "1"], jt.Float[Tensor, "1"]]:
        """±3."""
        return torch.full((1,), -3.0, **CPU_DOUBLES), torch.full((1,), 3.0, **CPU_DOUBLES)

    def log_prior(
        self, theta: jt.Float[Tensor, "*b 1"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b 1"]]:
        """Log density of theta, up to a constant, and its gradient."""
        standard = theta / _SPREAD
        return -0.5 * standard.square().sum(-1), -standard / _SPREAD

    def gram(
        self, theta: jt.Float[Tensor, "*b 1"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t t"], Pullback]:
        """v times the covariance between the steps, and the map of W to d sum(W * k) / d theta."""
        k = torch.exp(2.0 * theta[..., None]) * self.cov(steps, steps)
        return k, lambda weights: 2.0 * (weights * k).sum((-2, -1))[..., None]

    def prior_mean(
        self, theta: jt.Float[Tensor, "*b 1"], steps: jt.Float[Tensor, " t"]
    ) -> tuple[jt.Float[Tensor, "*b t"], Pullback]:
        """`mean` at the steps, which does not depend on theta, and the map of w to zero."""
        mean = self.mean(steps).expand(*theta.shape[:-1], -1)
        return mean, lambda _: torch.zeros_like(theta)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Curves with missing outcomes, and what their covariance is shrunk to.

    Attributes:
        patterns: steps that some curves are observed at, and the outcomes of these curves.
        first_mean: a mean to start with.
        target: S_0.
        weight: w.
        smallest: least eigenvalue of a covariance.
    """

    patterns: tuple[tuple[Tensor, Tensor], ...]
    first_mean: Tensor
    target: Tensor
    weight: float
    smallest: float

    @staticmethod
    def of(grid: Tensor, y: Tensor, weight: float) -> "_Problem":
        seen = ~y.isnan()
        counts = seen.sum(0)
        mean = torch.where(seen, y, 0.0).sum(0) / counts.clamp(min=1)
        squares = torch.where(seen, (y - mean).square(), 0.0).sum(0) / counts.clamp(min=1)
        scale = float(squares[counts > 1].mean()) if bool((counts > 1).any()) else 0.0
        scale = scale or float(y[seen].var(correction=0)) or 1.0
        decay, _ = Decay().gram(Decay().start(), grid)
        target = decay + 1.0 + _ROUGH * torch.eye(len(grid), **CPU_DOUBLES)
        target = target * (scale * len(grid) / target.trace())
        kinds, kind_of = torch.unique(seen, dim=0, return_inverse=True)
        patterns = [(kind.nonzero()[:, 0], y[kind_of == index][:, kind]) for index, kind in enumerate(kinds)]
        observed = (counts > 0).nonzero()[:, 0]
        first_mean = _interpolation(grid[observed], grid) @ mean[observed]
        return _Problem(tuple(patterns), first_mean, target, weight, _SMALLEST * scale)

    def start(self) -> tuple[Tensor, Tensor]:
        """A mean and a covariance to start with."""
        return self.first_mean, self._clipped(self.target)

    def iterated(self, mean: Tensor, covariance: Tensor) -> tuple[float, Tensor, Tensor]:
        """The log density of a mean and a covariance, and the mean and covariance of the next iteration."""
        size, total = len(mean), 0.0
        completed, missing = [], torch.zeros_like(covariance)
        for steps, y in self.patterns:
            cross = covariance[steps]
            chol, _ = jittered_cholesky(cross[:, steps])
            residual = y - mean[steps]
            white = solve_lower(chol, torch.cat((cross, residual.mT), -1))
            explained, whitened = white[:, :size], white[:, size:]
            log_det = float(chol.diagonal().log().sum())
            total -= 0.5 * float(whitened.square().sum())
            total -= len(y) * (log_det + 0.5 * len(steps) * math.log(2.0 * math.pi))
            complete = mean + whitened.mT @ explained
            complete[:, steps] = y
            rest = covariance - explained.mT @ explained
            rest[steps] = 0.0
            rest[:, steps] = 0.0
            completed.append(complete)
            missing = missing + len(y) * rest
        if self.weight:
            chol, _ = jittered_cholesky(covariance)
            trace = float(solve_lower(chol, jittered_cholesky(self.target)[0]).square().sum())
            total -= 0.5 * self.weight * (2.0 * float(chol.diagonal().log().sum()) + trace)
        all_rows = torch.cat(completed)
        updated = all_rows.mean(0)
        centred = all_rows - updated
        scatter = missing + centred.mT @ centred + self.weight * self.target
        return total, updated, self._clipped(scatter / (len(all_rows) + self.weight))

    def _clipped(self, covariance: Tensor) -> Tensor:
        """The covariance with eigenvalues of at least the smallest: the most probable one of these."""
        values, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
        if float(values[0]) >= self.smallest:
            return covariance
        clipped: Tensor = (vectors * values.clamp(min=self.smallest)) @ vectors.mT
        return clipped


def _interpolation(grid: jt.Float[Tensor, " t"], steps: jt.Float[Tensor, " m"]) -> jt.Float[Tensor, "m t"]:
    """Weights of the values on a grid in those at any steps, linear between and constant beyond."""
    grid = grid.to(steps)
    if len(grid) == 1:
        return torch.ones_like(steps)[:, None]
    inside = steps.clamp(grid[0], grid[-1])
    right = torch.searchsorted(grid, inside.contiguous()).clamp(1, len(grid) - 1)
    share = ((inside - grid[right - 1]) / (grid[right] - grid[right - 1]))[:, None]
    eye = torch.eye(len(grid), dtype=steps.dtype, device=steps.device)
    return (1.0 - share) * eye[right - 1] + share * eye[right]


def _stacked(runs: list[Tensor | Curves]) -> tuple[Tensor, Tensor]:
    """The steps of all runs, and all curves with an outcome on them."""
    all_curves = [_as_rows(run) for run in runs]
    if not all_curves:
        raise DataError("an EmpiricalPrior needs at least one run, got none")
    grid = torch.cat([steps for steps, _ in all_curves]).unique()
    rows = []
    for steps, y in all_curves:
        wide = torch.full((len(y), len(grid)), torch.nan, **CPU_DOUBLES)
        wide[:, torch.searchsorted(grid, steps)] = y
        rows.append(wide)
    y = torch.cat(rows)
    if bool(y.isinf().any()):
        raise DataError("outcomes of runs must be finite, or NaN where one is missing")
    y = y[~y.isnan().all(-1)]
    if not len(y):
        raise DataError("an EmpiricalPrior needs at least one outcome, got none")
    return grid, y


def _as_rows(run: Tensor | Curves) -> tuple[Tensor, Tensor]:
    """Steps, and outcomes of one curve a row."""
    if isinstance(run, Curves):
        steps, y = run.steps, run.y.flatten(0, -2)
    elif isinstance(run, Tensor) and run.ndim == 2 and run.shape[-1]:
        steps, y = torch.arange(1, run.shape[-1] + 1, **CPU_DOUBLES) / run.shape[-1], run
    else:
        shown = tuple(run.shape) if isinstance(run, Tensor) else type(run).__name__
        raise DataError(f"runs must be tensors of curves (k, t) or Curves, got {shown}")
    return steps.to(**CPU_DOUBLES), y.detach().to(**CPU_DOUBLES)
