"""The knowledge gradient by simulation: draw outcomes, condition on each, minimise each mean."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.optim import minimize_batch
from bo_suite.surrogates.process import Process
from bo_suite.values.scalars import flag

_CHUNK = 128
"""Outcomes conditioned on at once. Each mean is evaluated at the points of all, so more are not faster."""

_SCREEN = 512
"""Points spread over the box, among which the searches start."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """What one simulation of the knowledge gradient found, step by step.

    Attributes:
        process: the process before.
        candidate: x_c, where the next observation would be made.
        minimum: tau_n, the minimum of the process's mean.
        minimizer: where it is.
        outcomes: y^(m), simulated at the candidate.
        minima: tau^(m), the minimum of the mean given each outcome.
        minimizers: where they are.
    """

    process: Process
    candidate: jt.Float[Tensor, "*b d"]
    minimum: jt.Float[Tensor, "*b"]
    minimizer: jt.Float[Tensor, "*b d"]
    outcomes: jt.Float[Tensor, "*sb"]
    minima: jt.Float[Tensor, "*sb"]
    minimizers: jt.Float[Tensor, "*sb d"]

    @property
    def value(self) -> jt.Float[Tensor, "*b"]:
        """The estimate: the mean of tau_n - tau^(m)."""
        return (self.minimum - self.minima).mean(0)

    @property
    def standard_error(self) -> jt.Float[Tensor, "*b"]:
        """Sample standard deviation of tau_n - tau^(m), divided by √M; NaN of a single outcome."""
        count = self.minima.shape[0]
        return ((self.minima - self.minima.mean(0)).square().sum(0) / (count - 1) / count).sqrt()


@numerical_environment()
def simulate_knowledge_gradient(
    process: Process,
    candidate: jt.Float[Tensor, "*b d"],
    outcomes: int,
    seeds: Seeds,
    *,
    starts: int = 8,
    quasi: bool = False,
) -> Simulation:
    """KG(x_c) = E[tau_n - tau_{n+1}], tau the minimum of the posterior mean over [0, 1]^d, by Monte Carlo.

    KG(x_c) ≈ mean_m (tau_n - tau^(m)), for m = 1 ... M, with
    tau_n   = min_x mean(x),
    y^(m)   ~ N(mean(x_c), var(x_c) + noise),
    tau^(m) = min_x mean(x | x_c, y^(m)),
    for outcomes that are to be minimised (Frazier, Powell and Dayanik 2009; Frazier 2018, equation 10, for
    ones that are to be maximised). Every minimum is the lowest end of several L-BFGS searches: from the best
    of those points of a Sobol set that lie lower than their neighbours, from the candidate, and for tau^(m)
    from where tau_n is. The estimate is unbiased only where all of these problems are solved globally: a
    minimum tau^(m) that is missed makes it too small, a missed tau_n too large.

    It is a reference and for pictures; a single candidate takes seconds.

    Args:
        process: without fantasies.
        candidate: x_c in [0, 1]^d, one a replicate.
        outcomes: number M of them.
        seeds: of the outcomes and of the Sobol set, a key a replicate.
        starts: searches at most that begin from points of the Sobol set.
        quasi: outcomes at the quantiles of a randomly shifted Sobol sequence; the standard error is then
            that of independent outcomes, and too large.

    Raises:
        DataError: outcomes or starts < 1, a process with fantasies, or replicates that do not match.
    """
    if not outcomes >= 1 or not starts >= 1:
        raise DataError(f"outcomes and starts must be >= 1, got {outcomes} and {starts}")
    quasi = flag("quasi", quasi, DataError)
    row = candidate[..., None, :]
    with torch.no_grad():
        mean, var = process.mean_and_var(row)
        shape = row.shape[:-1]
        if mean.shape != shape or seeds.batch_shape != shape[:-1]:
            raise DataError(
                "a process without fantasies, its candidate (*b, d) and seeds must have the same replicates "
                f"*b, got a mean {tuple(mean.shape)}, {tuple(candidate.shape)} and {seeds.batch_shape}"
            )
        normal = seeds.split("outcomes")
        base = normal.quasi_normal(outcomes, 1, row) if quasi else normal.normal((outcomes, 1), row)
        y = mean + (var + process.noise[..., None]).sqrt() * base.movedim(-2, 0)
        screen = seeds.split("screen").sobol(_SCREEN, row)
        minimum, minimizer = (part[0] for part in _minimize(process, 1, row, screen, starts))
        known = torch.cat((minimizer[..., None, :], row), -2)
        parts = [
            _minimize(process.condition(row, part), len(part), known, screen, starts)
            for part in y.split(_CHUNK)
        ]
    minima, minimizers = (torch.cat(part) for part in zip(*parts, strict=True))
    return Simulation(process, candidate, minimum, minimizer, y[..., 0], minima, minimizers)


def _minimize(
    process: Process, count: int, known: Tensor, screen: Tensor, starts: int
) -> tuple[Tensor, Tensor]:
    """Minima (s, *b) of the means of all s = count fantasies over the box, and where (s, *b, d)."""
    size = (count, *known.shape[:-2])
    level = process.mean(screen).reshape(*size, -1).movedim(0, -2)
    begin = torch.cat((_basins(level, screen, starts), _each(known, count)), -2)

    def mean(points: Tensor) -> tuple[Tensor, Tensor]:
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            every = process.mean(leaf.flatten(-3, -2)).reshape(*size, *points.shape[-3:-1])
            own = every.diagonal(dim1=0, dim2=-2).mT
            (gradient,) = torch.autograd.grad(own.sum(), leaf)
        return own.detach(), gradient

    box = (torch.zeros_like(begin), torch.ones_like(begin))
    found = minimize_batch(mean, begin, bounds=box)
    value, best = found.value.min(-1)
    index = best[..., None, None].expand(*best.shape, 1, begin.shape[-1])
    return value.movedim(-1, 0), found.x.gather(-2, index)[..., 0, :].movedim(-2, 0)


def _basins(level: Tensor, screen: Tensor, most: int) -> Tensor:
    """The lowest of those points (*b, g, d) at levels (*b, s, g) below their neighbours: (*b, s, k, d)."""
    distance = torch.cdist(screen, screen, compute_mode="donot_use_mm_for_euclid_dist")
    lower = torch.ones_like(level, dtype=torch.bool)
    for near in distance.topk(2 * screen.shape[-1] + 1, largest=False).indices.unbind(-1):
        lower &= level <= level.gather(-1, near[..., None, :].expand(level.shape))
    ranked = torch.where(lower, level, torch.inf)
    order = ranked.topk(min(most, int(lower.sum(-1).max())), largest=False).indices
    index = order[..., None].expand(*order.shape, screen.shape[-1])
    return _each(screen, level.shape[-2]).gather(-2, index)


def _each(rows: Tensor, count: int) -> Tensor:
    """Rows (*b, k, d) for each of s = count fantasies: (*b, s, k, d)."""
    return rows[..., None, :, :].expand(*rows.shape[:-2], count, *rows.shape[-2:])
