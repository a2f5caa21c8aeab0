"""Rows where the posterior mean may be smallest, now or after one more observation."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.optim import minimize_batch
from bo_suite.space.activity import movable
from bo_suite.space.candidates import sample_observed, top
from bo_suite.surrogates.lookahead import Lookahead
from bo_suite.surrogates.process import ROWS_AT_ONCE

_BEST = 3
"""Rows of smallest mean that starting points are placed near, beside the last row."""


@dataclass(frozen=True, eq=False)
class StartingPoints:
    """Rows that searches start from: half of them spread over the space, then half near the best rows.

    Discrete columns hold observed values.

    Attributes:
        x: rows, the spread half first.
        held: columns that gradient searches do not move.
        columns: kinds of the columns.
    """

    x: jt.Float[Tensor, "*b m d"]
    held: tuple[int, ...]
    columns: Columns

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Columns that are 1 at the target."""
        return self.columns.fidelities

    @staticmethod
    def of(data: Dataset, mean: jt.Float[Tensor, "*b n"], count: int, seeds: Seeds) -> "StartingPoints":
        """`count` rows, half of them near the last row of the data or the rows of smallest `mean`."""
        fixed = [column for column, _ in data.columns.fixed]
        held = tuple(sorted({*data.unordered, *data.columns.discrete, *data.fidelities, *fixed}))
        best = torch.cat((top(data.x, -mean, _BEST), data.x[..., -1:, :]), -2)
        return StartingPoints(sample_observed(data, best, held, count, seeds), held, data.columns)

    def leaders(self, value: jt.Float[Tensor, "*b m"], count: int) -> jt.Float[Tensor, "*b c d"]:
        """The rows of largest value, half of them from each half of `x`."""
        half = self.x.shape[-2] // 2
        spread = top(self.x[..., :half, :], value[..., :half], (count + 1) // 2)
        return torch.cat((spread, top(self.x[..., half:, :], value[..., half:], count // 2)), -2)


@dataclass(frozen=True, eq=False)
class OneStepMeans:
    """Posterior means after one more observation, as functions to be minimised.

    One-step mean r at x is sum_s fantasies[s, r] mean_s(x) + sum_c shifts[r, c] cov(x, candidate_c).

    Attributes:
        lookahead: of the process, at the candidates.
        shifts: standard normal draws divided by the standard deviations of the candidates' observations.
        fantasies: weights of the fantasies; one row of ones without fantasies.
    """

    lookahead: Lookahead
    shifts: jt.Float[Tensor, "*b r c"]
    fantasies: jt.Float[Tensor, "s r"]

    def best_of(self, starts: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b r d"]:
        """The start at which each one-step mean is smallest."""
        moments = [self.lookahead.mean_and_cov(rows) for rows in starts.split(ROWS_AT_ONCE, -2)]
        mean, cov = torch.cat([mean for mean, _ in moments], -1), torch.cat([cov for _, cov in moments], -2)
        values = self.shifts @ cov.mT + torch.einsum(
            "sr,s...m->...rm", self.fantasies, self._with_fantasies(mean)
        )
        best = values.argmin(-1, keepdim=True)
        return starts.gather(-2, best.expand(*best.shape[:-1], starts.shape[-1]))

    def minimize(
        self, pool: StartingPoints, starts: jt.Float[Tensor, "*b r d"], *, evaluations: int
    ) -> jt.Float[Tensor, "*b r d"]:
        """A local minimum of each one-step mean, from its start."""
        if len(pool.held) == starts.shape[-1]:
            return starts
        return minimize_batch(
            self.value_and_gradient,
            starts,
            bounds=movable(pool.columns, starts, pool.held),
            max_evaluations=evaluations,
            gradient_tolerance=1e-3,
            value_tolerance=1e-6,
        ).x

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The value of each one-step mean at its row, and the gradient."""
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            mean, cov = self.lookahead.mean_and_cov(leaf)
            value = torch.einsum("sr,s...r->...r", self.fantasies, self._with_fantasies(mean))
            value = value + (self.shifts * cov).sum(-1)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _with_fantasies(self, mean: Tensor) -> Tensor:
        return mean if self.lookahead.fantasies else mean[None]


def at_target(x: jt.Float[Tensor, "*b m d"], fidelities: tuple[int, ...]) -> jt.Float[Tensor, "*b m d"]:
    """The rows with fidelity columns set to the target, 1."""
    if not fidelities:
        return x
    free = x.new_ones(x.shape[-1])
    free[list(fidelities)] = 0.0
    return x * free + (1.0 - free)


def distinct(rows: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b k d"]:
    """The rows without copies, in order.

    k is the largest number of distinct rows of any replicate; replicates with fewer end with copies.
    """
    copy = (torch.cdist(rows, rows, p=0.0) == 0).tril(-1).any(-1)
    most = int((~copy).sum(-1).max())
    if most == rows.shape[-2]:
        return rows
    order = copy.to(torch.int8).argsort(dim=-1, stable=True)[..., :most]
    return rows.gather(-2, order[..., None].expand(*order.shape, rows.shape[-1]))
