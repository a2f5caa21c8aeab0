"""Batches by Stein variational gradient descent: particles that spread over where a classifier hopes."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bo_suite.acquisition.base import Score
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.space.candidates import mutate, perturb_best, project, sample_sobol, top
from bo_suite.space.space import Space

_SPREAD, _NEAR = 1024, 256
"""Points spread over the space, and near the best ones, that particles are drawn from."""

_TRIALS = 16
"""Random moves tried a particle and turn."""


@dataclass(frozen=True)
class SteinBatch:
    """Points for one batch that are jointly distributed as p(x | y ≤ tau) ∝ π(x), π = σ(score).

    Stein variational gradient descent moves each particle along
    φ(x) = 1/q Σ_j k(x_j, x) ∇log π(x_j) + ∇_{x_j} k(x_j, x), with an RBF kernel whose squared width is the
    median squared distance of two particles over 2 log(q + 1), and RMS-scaled steps (Liu and Wang 2016;
    Oliveira, Tiao and Ramos 2022). In turns with it, and alone where there is no gradient, each particle
    takes the best of some random moves, if that raises log π(x) - log Σ_j k(x_j, x), its part in the negative
    divergence of a kernel density estimate from π. Particles start as draws from π over many points.

    Attributes:
        steps: of gradient descent, in all, one a turn at least.
        rate: length of a step of a column, at first; it falls to a tenth.
        turns: alternations between gradient and random moves.
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
        """Candidates in order of choice: the particles, then the points they were drawn from, best first.

        Those that are told or pending are not yet left out. All are representable in the space.

        Args:
            score: the logit of π.
            space: where to search.
            data: what is told and pending.
            seeds: of the random numbers.
            count: number q of particles, at most as many as there are points to draw from.
        """
        with torch.no_grad():
            spread = sample_sobol(space, _SPREAD, data.x, seeds.split("spread"))
            pool = torch.cat((spread, perturb_best(space, data, seeds.split("near"), _NEAR)), -2)
            value = logsigmoid(score(pool))
            exponential = -seeds.split("draw").uniform((pool.shape[-2],), pool).log()
            rows = top(pool, value - exponential.log(), count)
        discrete = torch.tensor([levels is not None for levels in space.levels], device=rows.device)
        still = discrete if score.differentiable else torch.ones_like(discrete)
        memory = torch.zeros_like(rows)
        for turn in range(self.turns):
            rows = _hop(score, space, rows, data.unordered, seeds.split(f"hop {turn}"))
            if not bool(still.all()):
                rows, memory = self._descend(score, rows, memory, still, data.unordered, turn)
        with torch.no_grad():
            return torch.cat((project(space, rows), top(pool, value, pool.shape[-2])), -2)

    def _descend(
        self, score: Score, rows: Tensor, memory: Tensor, still: Tensor, unordered: tuple[int, ...], turn: int
    ) -> tuple[Tensor, Tensor]:
        """Some steps of Stein variational gradient descent of the columns that are not still."""
        each = -(-self.steps // self.turns)
        for step in range(each):
            leaf = rows.detach().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(logsigmoid(score(leaf)).sum(), leaf)
            slope = slope.nan_to_num(0.0, 0.0, 0.0)
            square = _squares(rows, rows, unordered)
            width = _width(square)
            kernel = torch.exp(-0.5 * square / width)
            repulsion = (kernel[..., None] * (rows[..., :, None, :] - rows[..., None, :, :])).sum(-2) / width
            phi = torch.where(still, 0.0, (kernel @ slope + repulsion) / rows.shape[-2])
            memory = 0.9 * memory + 0.1 * phi.square()
            length = self.rate * 0.1 ** ((turn * each + step) / (each * self.turns))
            rows = (rows + length * phi / (memory.sqrt() + 1e-6)).clamp(0.0, 1.0)
        return rows, memory


def _squares(x: Tensor, z: Tensor, unordered: tuple[int, ...]) -> Tensor:
    """Squared distances, categories that differ being 1 apart."""
    gap = x[..., :, None, :] - z[..., None, :, :]
    columns = list(unordered)
    gap[..., columns] = (gap[..., columns] != 0).to(gap)
    return gap.square().sum(-1)


def _width(square: Tensor) -> Tensor:
    """Median squared distance of two particles over 2 log(q + 1)."""
    q = square.shape[-1]
    pairs = torch.triu_indices(q, q, 1, device=square.device)
    typical = (
        square[..., pairs[0], pairs[1]].median(-1).values if q > 1 else torch.ones_like(square[..., 0, 0])
    )
    return (typical / (2.0 * math.log(q + 1.0))).clamp(min=1e-8)[..., None, None]


def _hop(score: Score, space: Space, rows: Tensor, unordered: tuple[int, ...], seeds: Seeds) -> Tensor:
    """Each particle in turn at the best of some random moves, or where it is."""
    q = rows.shape[-2]
    moved = mutate(space, rows.repeat_interleave(_TRIALS, -2), seeds)
    with torch.no_grad():
        trials = torch.cat((rows[..., None, :], moved.reshape(*rows.shape[:-1], _TRIALS, space.dim)), -2)
        value = logsigmoid(score(trials.flatten(-3, -2))).reshape(trials.shape[:-1])
    width = _width(_squares(rows, rows, unordered))
    rows = rows.clone()
    for place in range(q):
        others = rows[..., [other for other in range(q) if other != place], :]
        near = torch.exp(-0.5 * _squares(trials[..., place, :, :], others, unordered) / width).sum(-1)
        best = (value[..., place, :] - torch.log1p(near)).argmax(-1)
        chosen = best[..., None, None].expand(*best.shape, 1, space.dim)
        rows[..., place, :] = trials[..., place, :, :].gather(-2, chosen)[..., 0, :]
    return rows
