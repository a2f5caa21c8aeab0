"""Where the posterior mean may be smallest, now or after one more observation."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.optim import minimize_batch
from bo_suite.space.candidates import sample_observed, top
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.process import ROWS_AT_ONCE


@dataclass(frozen=True, eq=False)
class StartingPoints:
    """Rows to start searches from, half of them spread over the space and half near the best ones.

    Discrete columns hold values that have been observed.

    Attributes:
        x: rows, those spread over the space first.
        held: columns that no gradient moves.
        fidelities: columns that are 1 at the target.
    """

    x: jt.Float[Tensor, "*b m d"]
    held: tuple[int, ...]
    fidelities: tuple[int, ...]

    @staticmethod
    def of(data: Dataset, mean: jt.Float[Tensor, "*b n"], count: int, seeds: Seeds) -> "StartingPoints":
        """`count` rows, half of them near the rows of the data where `mean` is smallest, or the last one."""
        fixed = [column for column, _ in data.fixed]
        held = tuple(sorted({*data.unordered, *data.discrete, *data.fidelities, *fixed}))
        best = torch.cat((top(data.x, -mean, 3), data.x[..., -1:, :]), -2)
        return StartingPoints(sample_observed(data, best, held, count, seeds), held, data.fidelities)

    def leaders(self, value: jt.Float[Tensor, "*b m"], count: int) -> jt.Float[Tensor, "*b c d"]:
        """The rows of largest value, as many of the spread ones as of the near ones."""
        half = self.x.shape[-2] // 2
        spread = top(self.x[..., :half, :], value[..., :half], (count + 1) // 2)
        return torch.cat((spread, top(self.x[..., half:, :], value[..., half:], count // 2)), -2)


@dataclass(frozen=True, eq=False)
class OneStepMeans:
    """Posterior means that one more observation may lead to, as functions to be minimised.

    One-step mean r at x is sum_s fantasies[s, r] mean_s(x) + sum_c shifts[r, c] cov(x, candidate_c).

    Attributes:
        lookahead: with the candidates as its points.
        shifts: standard normal draws over the deviations of the candidates' observations.
        fantasies: weights of the fantasies, if there are any.
    """

    lookahead: Lookahead
    shifts: jt.Float[Tensor, "*b r c"]
    fantasies: jt.Float[Tensor, "s r"]

    def best_of(self, starts: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b r d"]:
        """The start where each one-step mean is smallest."""
        parts = [self.lookahead.mean_and_cov(part) for part in starts.split(ROWS_AT_ONCE, -2)]
        mean, cov = torch.cat([part[0] for part in parts], -1), torch.cat([part[1] for part in parts], -2)
        values = self.shifts @ cov.mT + torch.einsum("sr,s...m->...rm", self.fantasies, self._lead(mean))
        best = values.argmin(-1, keepdim=True)
        return starts.gather(-2, best.expand(*best.shape[:-1], starts.shape[-1]))

    def minimize(
        self, pool: StartingPoints, starts: jt.Float[Tensor, "*b r d"], *, evaluations: int
    ) -> jt.Float[Tensor, "*b r d"]:
        """A local minimum of each one-step mean, from its own start."""
        held = list(pool.held)
        if len(held) == starts.shape[-1]:
            return starts
        lower, upper = torch.zeros_like(starts), torch.ones_like(starts)
        lower[..., held] = upper[..., held] = starts[..., held]
        return minimize_batch(
            self.value_and_gradient,
            starts,
            bounds=(lower, upper),
            max_evaluations=evaluations,
            gradient_tolerance=1e-3,
            value_tolerance=1e-6,
        ).x

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each one-step mean at its own row, and its gradient."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            mean, cov = self.lookahead.mean_and_cov(leaf)
            value = torch.einsum("sr,s...r->...r", self.fantasies, self._lead(mean))
            value = value + (self.shifts * cov).sum(-1)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _lead(self, mean: Tensor) -> Tensor:
        return mean if self.lookahead.fantasies else mean[None]


def at_target(x: jt.Float[Tensor, "*b m d"], fidelities: tuple[int, ...]) -> jt.Float[Tensor, "*b m d"]:
    """Rows with their fidelities at the target, 1."""
    if not fidelities:
        return x
    free = x.new_ones(x.shape[-1])
    free[list(fidelities)] = 0.0
    return x * free + (1.0 - free)


def distinct(rows: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b k d"]:
    """The rows without copies, in order; as many of every replicate as of any, copies where it has fewer."""
    copy = (torch.cdist(rows, rows, p=0.0) == 0).tril(-1).any(-1)
    most = int((~copy).sum(-1).max())
    if most == rows.shape[-2]:
        return rows
    order = copy.to(torch.int8).argsort(dim=-1, stable=True)[..., :most]
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))
