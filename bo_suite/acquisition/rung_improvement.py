"""Expected improvement after fewer steps than a whole evaluation has, where enough is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import (
    ImprovementScore,
    at_least_one,
    draws_at,
    fantasise,
)
from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import DecayGP
from bo_suite.surrogates.curves.groups import curves_of
from bo_suite.surrogates.process import ROWS_AT_ONCE, Hyperparameters, Process, WarmStart


@dataclass(frozen=True, eq=False)
class RungScore:
    """Log of the expected improvement at one step.

    Attributes:
        improvement: at the step.
        step: of each replicate, divided by the last step.
    """

    improvement: ImprovementScore
    step: jt.Float[Tensor, "*b"]
    differentiable: bool = field(default=True, init=False)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Of the fit."""
        return self.improvement.hyperparameters

    @property
    def notes(self) -> Sequence[Mapping[str, Any]]:
        """The step, for each replicate."""
        steps = self.step.reshape(-1).tolist()
        return tuple({"rule": f"improvement after {step:.3g} of the steps"} for step in steps)

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """The score of each row."""
        return self.improvement(x)


@dataclass(frozen=True)
class RungImprovement:
    """log E[(y_r* - f(x, r))₊] at a step r, as MOBSTER has it (Klein, Tiao et al. 2020).

    r is the largest step on the grid of `Dataset.curves` at which at least d configurations have been
    observed, for d columns; if there is none, the smallest step. y_r* is the best outcome at that step; if
    columns of the next point are fixed, the smallest posterior mean of the observed points moved to these.
    f(x, r) is a Gaussian process over configurations and steps: curves are conditioned on as far as they
    have come. The outcomes at r of pending points and of running ones that have not reached it are
    fantasised: the expectation is also taken over joint posterior samples of these.

    Data without curves are outcomes at the last step, where this is `LogExpectedImprovement`.

    Attributes:
        surrogate: fitted to the curves.
        fantasies: number of quasi-Monte Carlo samples of the unknown outcomes.
        search: how hard to search for the maximum of the score; None for the defaults.

    Raises:
        DataError: fantasies < 1.
    """

    surrogate: DecayGP = field(default_factory=DecayGP)
    fantasies: int = 32
    search: Search | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)

    @property
    def batched(self) -> bool:
        """Whether `build` accepts replicates."""
        return self.surrogate.batched

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> RungScore:
        """The score given the data.

        Raises:
            FitError, NumericalError: the surrogate cannot be fitted.
        """
        curves = curves_of(data)
        index = rung_index(curves)
        step = curves.steps[index]
        process = self.surrogate.fit(data, seeds, start).at(step)
        y = curves.y.gather(-1, index[..., None, None].expand(*curves.y.shape[:-1], 1))[..., 0]
        best = _best(process, data, curves, y)
        points, unknown = _unknown(data, curves, y)
        if not points.shape[-2]:
            return RungScore(ImprovementScore(process, best, process.hyperparameters), step)
        draws = draws_at(seeds, self.fantasies, points)
        return RungScore(fantasise(process, points, best, draws, unknown), step)


def rung_index(curves: Curves) -> jt.Int64[Tensor, "*b"]:
    """The index of the largest step that at least d configurations have been observed at, else 0."""
    enough = curves.observed.sum(-2) >= curves.x.shape[-1]
    return (enough * torch.arange(len(curves.steps), device=curves.x.device)).amax(-1)


def _best(process: Process, data: Dataset, curves: Curves, y: Tensor) -> Tensor:
    """The outcome to improve on: (*b, 1). Rows outside of the space are not."""
    losses = torch.where(y.isnan(), torch.inf, y)
    with torch.no_grad():
        moved = data.within_space(curves.x)
        inside = losses
        if data.columns.narrowed:
            inside = torch.where((moved == curves.x).all(-1), losses, torch.inf)
        if data.columns.fixed or bool(inside.isinf().all(-1).any()):
            means = torch.cat([process.mean(rows) for rows in moved.split(ROWS_AT_ONCE, -2)], -1)
            inside = torch.where(y.isnan(), torch.inf, means)
    return inside.amin(-1, keepdim=True)


def _unknown(data: Dataset, curves: Curves, y: Tensor) -> tuple[Tensor, Tensor]:
    """Rows whose outcome at the step is still to come: (*b, u, d), and which of these count: (*b, u).

    Those are the pending rows, and rows with a curve that has not reached the step and goes on. Curves of
    stopped and paused rows do not, so that nothing is to come.
    """
    coming = y.isnan() & curves.observed.any(-1) & curves.y[..., -1].isnan()
    for others in (data.stopped, data.failures, data.pending):
        if others is not None and others.shape[-2]:
            coming = coming & ~(curves.x[..., :, None, :] == others[..., None, :, :]).all(-1).any(-1)
    count = int(coming.sum(-1).max()) if coming.numel() else 0
    chosen = coming.byte().argsort(dim=-1, descending=True, stable=True)[..., :count]
    rows = curves.x.gather(-2, chosen[..., None].expand(*chosen.shape, curves.x.shape[-1]))
    points = torch.cat((data.pending, rows), -2)
    always = coming.new_ones(data.pending.shape[:-1])
    return points, torch.cat((always, coming.gather(-1, chosen)), -1)
