"""The knowledge gradient by simulation: draw outcomes, condition on each, minimise each mean.

It is an independent check of the closed form, and the subject of notebook 03. A candidate takes seconds.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.optim import minimize_batch
from bo_suite.surrogates import Process

CHUNK = 128
"""Outcomes conditioned on at once. Each mean is evaluated at the points of all of them."""

SCREEN = 512
"""Points spread over the box; searches start from the best of them."""

STARTS = 8
"""Searches that start from these points."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """One simulation of the knowledge gradient, step by step.

    Attributes:
        process: the process before.
        candidate: x_c (d,), where the next observation would be made.
        minimum: tau_n, the minimum of the process's mean.
        minimizer: where it is (d,).
        outcomes: y^(m) (s,), simulated at the candidate.
        minima: tau^(m) (s,), the minimum of the mean given each outcome.
        minimizers: where they are (s, d).
    """

    process: Process
    candidate: Tensor
    minimum: Tensor
    minimizer: Tensor
    outcomes: Tensor
    minima: Tensor
    minimizers: Tensor

    @property
    def value(self) -> Tensor:
        """The estimate: the mean of tau_n - tau^(m)."""
        return (self.minimum - self.minima).mean()

    @property
    def standard_error(self) -> Tensor:
        """Sample standard deviation of tau_n - tau^(m), divided by √M; NaN for a single outcome."""
        return self.minima.std() / len(self.minima) ** 0.5


def simulate_knowledge_gradient(
    process: Process, candidate: Tensor, outcomes: int, seeds: Seeds, *, quasi: bool = False
) -> Simulation:
    """KG(x_c) = E[tau_n - tau_{n+1}], tau the minimum of the posterior mean over [0, 1]^d, by Monte Carlo.

    KG(x_c) ≈ mean_m (tau_n - tau^(m)), for m = 1 ... M, with
    tau_n   = min_x mean(x),
    y^(m)   ~ N(mean(x_c), var(x_c) + noise),
    tau^(m) = min_x mean(x | x_c, y^(m)),
    for outcomes to be minimised (Frazier, Powell and Dayanik 2009; Frazier 2018, equation 10, for outcomes to
    be maximised). Every minimum is the lowest of several L-BFGS searches: from the best local minima of a
    Sobol set, from the candidate, and for tau^(m) from the minimiser of the mean before. The estimate is
    unbiased only if all of these searches find global minima: a missed tau^(m) makes it too small, a missed
    tau_n too large.

    Args:
        process: of one replicate, without fantasies.
        candidate: x_c in [0, 1]^d.
        outcomes: their number M.
        seeds: of the outcomes and of the Sobol set.
        quasi: draw outcomes at the quantiles of a randomly shifted Sobol sequence; the standard error is then
            that of independent outcomes, and too large.
    """
    row = candidate[None]
    with torch.no_grad():
        mean, var = process.mean_and_var(row)
        normal = seeds.split("outcomes")
        base = normal.quasi_normal(outcomes, 1, row) if quasi else normal.normal((outcomes, 1), row)
        y = mean + (var + process.noise).sqrt() * base
        screen = seeds.split("screen").sobol(SCREEN, row)
        minimum, minimizer = _minimize(process, 1, row, screen)
        starts = torch.cat((minimizer, row))
        results = [
            _minimize(process.condition(row, chunk), len(chunk), starts, screen) for chunk in y.split(CHUNK)
        ]
    minima, minimizers = (torch.cat(chunks) for chunks in zip(*results, strict=True))
    return Simulation(process, candidate, minimum[0], minimizer[0], y[:, 0], minima, minimizers)


def _minimize(process: Process, count: int, starts: Tensor, screen: Tensor) -> tuple[Tensor, Tensor]:
    """Minima (s,) of the means of all s = count fantasies over the box, and the minimisers (s, d)."""
    level = process.mean(screen).reshape(count, -1)
    begin = torch.cat((_local_minima(level, screen), starts.expand(count, *starts.shape)), -2)

    def mean(points: Tensor) -> tuple[Tensor, Tensor]:
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            every = process.mean(leaf.flatten(-3, -2)).reshape(count, *points.shape[-3:-1])
            own = every.diagonal(dim1=0, dim2=-2).mT
            (gradient,) = torch.autograd.grad(own.sum(), leaf)
        return own.detach(), gradient

    result = minimize_batch(mean, begin, bounds=(torch.zeros_like(begin), torch.ones_like(begin)))
    value, best = result.value.min(-1)
    return value, result.x[torch.arange(count), best]


def _local_minima(level: Tensor, screen: Tensor) -> Tensor:
    """The lowest of the points (g, d) whose level (s, g) is below those of their neighbours: (s, k, d)."""
    distance = torch.cdist(screen, screen, compute_mode="donot_use_mm_for_euclid_dist")
    lower = torch.ones_like(level, dtype=torch.bool)
    for near in distance.topk(2 * screen.shape[-1] + 1, largest=False).indices.unbind(-1):
        lower &= level <= level[:, near]
    ranked = torch.where(lower, level, torch.inf)
    return screen[ranked.topk(min(STARTS, int(lower.sum(-1).max())), largest=False).indices]
