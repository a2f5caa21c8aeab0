"""Batches by Stein variational gradient descent: particles distributed as a classifier's probability."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.acquisition.base import Score
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.space.activity import Seen
from bo_suite.space.candidates import mutate, perturb_best, project, sample_sobol, settled, top
from bo_suite.space.space import Space

_SPREAD, _NEAR = 1024, 256
"""Points spread over the space, and points near the best observations, that particles are drawn from."""

_TRIALS = 16
"""Random moves tried for each particle in each turn."""

_OLD, _NEW = 0.9, 0.1
"""Weights of the running mean square of steps and of the latest one, as usual for RMSProp."""

_FINAL_RATE = 0.1
"""Length of the last step relative to the first."""


@dataclass(frozen=True)
class SteinBatch:
    """Points of one batch, distributed as p(x | y ≤ tau) ∝ π(x), π = σ(score).

    Stein variational gradient descent moves each particle along
    φ(x) = 1/q Σ_j k(x_j, x) ∇log π(x_j) + ∇_{x_j} k(x_j, x), with an RBF kernel whose squared width is the
    median squared distance of two particles over 2 log(q + 1), and RMS-scaled steps (Liu and Wang 2016;
    Oliveira, Tiao and Ramos 2022). Gradient steps alternate with random moves; scores without gradient have
    random moves alone. A particle takes the best of some random moves if it raises
    log π(x) - log Σ_j k(x_j, x), the particle's term in the negative divergence of a kernel density estimate
    from π. Particles start as draws from π among many points.

    Attributes:
        steps: total number of gradient steps; at least one a turn.
        rate: length of the first step of a column; the last is a tenth of it.
        turns: alternations between gradient steps and random moves.
    """

    steps: int = 100
    rate: float = 0.02
    turns: int = 5

    def __post_init__(self) -> None:
        whole = all(isinstance(count, int) and count >= 1 for count in (self.steps, self.turns))
        if not whole or not 0 < self.rate < math.inf:
            raise DataError(
                f"steps, turns >= 1 and rate > 0 must hold, got {self.steps}, {self.turns} and {self.rate}"
            )

    def choose(
        self, score: Score, space: Space, data: Dataset, seeds: Seeds, count: int
    ) -> jt.Float[Tensor, "*b c d"]:
        """Candidates in order of preference: the particles, then the points they were drawn from, best first.

        All are points of the space. Observed and pending points are still among them.

        Args:
            score: the logit of π.
            space: where to search.
            data: observed and pending rows.
            seeds: of the random numbers.
            count: number q of particles; at most the number of points to draw from.
        """
        with torch.no_grad():
            spread = sample_sobol(space, _SPREAD, data.x, seeds.split("spread"))
            pool = torch.cat((spread, perturb_best(space, data, seeds.split("near"), _NEAR)), -2)
            value = logsigmoid(score(pool))
            exponential = -seeds.split("draw").uniform((pool.shape[-2],), pool).log()
            rows = top(pool, value - exponential.log(), count)
        discrete = torch.tensor([levels is not None for levels in space.levels], device=rows.device)
        still = discrete if score.differentiable else torch.ones_like(discrete)
        particles = _Particles(rows, torch.zeros_like(rows))
        for turn in range(self.turns):
            rows = _move(score, space, particles.rows, data.unordered, seeds.split(f"hop {turn}"))
            particles = replace(particles, rows=rows)
            if not bool(still.all()):
                held = still | ~space.columns.active(rows) if space.columns.conditions else still
                descended = _descend(score, particles, held, data.unordered, self._rates(turn))
                particles = replace(descended, rows=settled(space, descended.rows, particles.rows))
        with torch.no_grad():
            return torch.cat((project(space, particles.rows), top(pool, value, pool.shape[-2])), -2)

    def _rates(self, turn: int) -> list[float]:
        """Lengths of the gradient steps of a turn; over all turns they fall to a tenth."""
        count = -(-self.steps // self.turns)
        return [
            self.rate * _FINAL_RATE ** ((turn * count + step) / (count * self.turns)) for step in range(count)
        ]


@dataclass(frozen=True, eq=False)
class _Particles:
    """Particles, and running mean squares of their steps."""

    rows: Tensor
    mean_square: Tensor


def _descend(
    score: Score, particles: _Particles, still: Tensor, unordered: tuple[int, ...], rates: Sequence[float]
) -> _Particles:
    """Steps of Stein variational gradient descent, of the columns that are not still."""
    rows, mean_square = particles.rows, particles.mean_square
    for rate in rates:
        leaf = rows.detach().requires_grad_()
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(logsigmoid(score(leaf)).sum(), leaf)
        slope = slope.nan_to_num(0.0, 0.0, 0.0)
        square = _squares(rows, rows, unordered)
        width = _width(square)
        kernel = torch.exp(-0.5 * square / width)
        repulsion = (kernel[..., None] * (rows[..., :, None, :] - rows[..., None, :, :])).sum(-2) / width
        phi = torch.where(still, 0.0, (kernel @ slope + repulsion) / rows.shape[-2])
        mean_square = _OLD * mean_square + _NEW * phi.square()
        rows = (rows + rate * phi / (mean_square.sqrt() + 1e-6)).clamp(0.0, 1.0)
    return _Particles(rows, mean_square)


def _squares(x: Tensor, z: Tensor, unordered: tuple[int, ...]) -> Tensor:
    """Squared distances; different categories have distance 1."""
    gap = x[..., :, None, :] - z[..., None, :, :]
    columns = list(unordered)
    gap[..., columns] = (gap[..., columns] != 0).to(gap)
    return gap.square().sum(-1)


def _width(square: Tensor) -> Tensor:
    """Median squared distance of two particles divided by 2 log(q + 1)."""
    q = square.shape[-1]
    pairs = torch.triu_indices(q, q, 1, device=square.device)
    typical = (
        square[..., pairs[0], pairs[1]].median(-1).values if q > 1 else torch.ones_like(square[..., 0, 0])
    )
    return (typical / (2.0 * math.log(q + 1.0))).clamp(min=1e-8)[..., None, None]


def _move(score: Score, space: Space, rows: Tensor, unordered: tuple[int, ...], seeds: Seeds) -> Tensor:
    """The particles, each in turn moved to the best of some random moves, if one is better."""
    q = rows.shape[-2]
    seen = Seen(rows, space.columns.active(rows)) if space.columns.conditions else None
    moved = mutate(space, rows.repeat_interleave(_TRIALS, -2), seeds, seen)
    with torch.no_grad():
        trials = torch.cat((rows[..., None, :], moved.reshape(*rows.shape[:-1], _TRIALS, space.dim)), -2)
        value = logsigmoid(score(trials.flatten(-3, -2))).reshape(trials.shape[:-1])
    width = _width(_squares(rows, rows, unordered))
    rows = rows.clone()
    for index in range(q):
        others = rows[..., [other for other in range(q) if other != index], :]
        density = torch.exp(-0.5 * _squares(trials[..., index, :, :], others, unordered) / width).sum(-1)
        best = (value[..., index, :] - torch.log1p(density)).argmax(-1)
        chosen = best[..., None, None].expand(*best.shape, 1, space.dim)
        rows[..., index, :] = trials[..., index, :, :].gather(-2, chosen)[..., 0, :]
    return rows
