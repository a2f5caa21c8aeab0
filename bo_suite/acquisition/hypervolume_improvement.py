"""Expected hypervolume improvement in log space, for several objectives."""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.expected_hypervolume import log_expected_hypervolume_improvement
from bo_suite.acquisition.fronts import ObservedFront, several_objectives
from bo_suite.acquisition.hypervolume import Boxes, inferred_reference, non_dominated, non_dominated_boxes
from bo_suite.acquisition.improvement import SAMPLE_NOISE, at_least_one
from bo_suite.acquisition.objective_scales import FittedObjectives
from bo_suite.data import MISSING, Dataset, Outcomes, Seeds
from bo_suite.errors import DataError
from bo_suite.optim.maximize import Search
from bo_suite.surrogates import AutoGP
from bo_suite.surrogates.process import Hyperparameters, Process, Surrogate, WarmStart, sample_joint

_NEGLIGIBLE = 1e-2
"""Noise variance up to which observed outcomes count as exact. The prior of the noise has its median at a
quarter of this, where few observations of a smooth function leave it."""

_WIDTH = 2.0
"""Standard deviations by which a mean may be wrong, when rows that may be on the front are shortlisted."""

_SAMPLES = 128
"""Joint posterior samples whose fronts are the rows that may be on the front."""

_NEAR, _FAR = 0.1, 3.0
"""Shares of the front's range by which the inferred reference point is worse than the worst of the front."""

_TURN = 3
"""Every so many steps it is the far one."""

_COSTLY = 256
"""Boxes of all fantasies from which a row takes many times the time of means and variances."""

_SEARCH = Search(sobol=256, starts=16, evaluations=12)
"""The score has many maxima, between neighbours on the front: more starts find a higher one, and more than a
dozen rounds hardly do. A row takes longer than one of another score, so fewer are scored first."""


@dataclass(frozen=True, eq=False)
class HypervolumeScore:
    """Log of the expected hypervolume improvement, averaged over fantasies, each with its own front.

    Attributes:
        process: of the objectives, a leading dimension; conditioned on the fantasies, if any.
        boxes: the region that no point of the front dominates, of each fantasy.
        hyperparameters: of the fit, one vector.
        notes: the reference point on the surrogate's scale, and the size of the front.
    """

    process: Process
    boxes: Boxes
    hyperparameters: Hyperparameters
    notes: tuple[dict[str, Any], ...]
    differentiable: bool = field(default=True, init=False)

    @property
    def costly(self) -> bool:
        """Whether a row takes many times the time of the means and variances."""
        return self.boxes.upper[..., 0, :].numel() > _COSTLY

    def __call__(self, x: jt.Float[Tensor, "m d"]) -> jt.Float[Tensor, " m"]:
        """log mean_s EHVI_s(x)."""
        mean, var = self.process.mean_and_var(x.expand(self.boxes.upper.shape[-2], *x.shape))
        return log_expected_hypervolume_improvement(mean, var, self.boxes)


@dataclass(frozen=True)
class LogExpectedHypervolumeImprovement:
    """log E[(volume that the front and f(x) dominate - volume that the front dominates)₊], independent f_j.

    The front is that of the feasible observations. If an objective is noisy, its values at the rows that may
    be on the front are sampled jointly, with those at pending points; without noise those at pending points
    alone. The process is conditioned on each sample, each sample has its front, and the improvements are
    averaged (Daulton, Balandat and Bakshy 2021, with each inner expectation in closed form). If columns of
    the next point are fixed, the front is that of posterior means at observed rows moved to these values.

    Each objective is on the given or on a linear scale, whichever predicts its better half better (see
    `FittedObjectives`). Volume is measured on these scales, below a reference point. One near the front
    spends evaluations on its middle, one far away on its ends. If none is given, it is worse than the worst
    of the front by a tenth of the front's range in each objective and, in every third step, by three times
    the range.

    Attributes:
        surrogate: fitted to all objectives in one batch.
        fantasies: number of quasi-Monte Carlo samples; the time of the search is proportional to it.
        baseline: largest number of observed rows that are considered as possibly on the front under noise.
        reference: a point that all points of interest are better than, in the user's units and the order of
            the objectives; None to infer it from the front.
        search: how hard to search for the maximum of the score; None becomes fewer rounds from more starts
            than other scores have.

    Raises:
        DataError: fantasies or baseline below 1, or a reference point that is not finite.
    """

    surrogate: Surrogate = field(default_factory=AutoGP)
    fantasies: int = 8
    baseline: int = 64
    reference: tuple[float, ...] | None = None
    search: Search | None = field(default=None, kw_only=True)

    supports: ClassVar[frozenset[str]] = frozenset({"constraints", "objectives"})

    def __post_init__(self) -> None:
        at_least_one("fantasies", self.fantasies)
        at_least_one("baseline", self.baseline)
        if self.search is None:
            object.__setattr__(self, "search", _SEARCH)
        if self.reference is not None:
            object.__setattr__(self, "reference", tuple(float(value) for value in self.reference))
            if not all(math.isfinite(value) for value in self.reference):
                raise DataError(f"a reference point must be finite, got {self.reference}")

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> HypervolumeScore:
        """The score given the data.

        Raises:
            DataError: data with one objective, or a reference point with another number of them.
            FitError, NumericalError: the surrogate cannot be fitted.
        """
        outcomes = several_objectives(data, self)
        fitted = FittedObjectives.of(self.surrogate, data, seeds, start)
        process, outcomes = fitted.process, several_objectives(fitted.data, self)
        with torch.no_grad():
            noisy = _is_noisy(process, fitted.batch)
            observed = ObservedFront.of(process, fitted.data, noisy)
            count = outcomes.x.shape[-2] + data.pending.shape[-2]
            reference = self._reference(outcomes, observed, count)
            sampled = data.pending
            if noisy:
                rows = _promising(process, observed, self.baseline, seeds)
                sampled = torch.cat((sampled, rows), -2)
            front = observed.values[:, :0] if noisy else observed.values[:, observed.front]
            if sampled.shape[-2]:
                process, values = _fantasise(process, sampled, self.fantasies, seeds)
                front = torch.cat((front.expand(*values.shape[:-1], -1), values), -1)
            boxes = non_dominated_boxes(front, reference.expand(front.shape[:-1]))
        notes = {
            "reference": [float(f"{value:.7g}") for value in reference.tolist()],
            "front": int(observed.front.sum()),
            "linear": list(fitted.linear),
            **({"outputs": "together"} if fitted.together else {}),
        }
        return HypervolumeScore(process, boxes, fitted.hyperparameters, (notes,))

    def _reference(self, outcomes: Outcomes, observed: ObservedFront, count: int) -> Tensor:
        """The reference point on the scale of the surrogate, after `count` evaluations."""
        if self.reference is None:
            margin = _FAR if count % _TURN == _TURN - 1 else _NEAR
            return inferred_reference(observed.values, observed.front, margin)
        if len(self.reference) != outcomes.objectives:
            raise DataError(
                f"a reference point must have a value for each of {outcomes.objectives} objectives, "
                f"got {self.reference}"
            )
        scaled = self.reference if outcomes.scaled is None else outcomes.scaled(self.reference)
        return outcomes.y.new_tensor(tuple(scaled))


def _is_noisy(process: Process, batch: Dataset) -> bool:
    """Whether the noise of some objective matters, that of the observations where it is known."""
    noise = process.noise[..., None].expand(batch.y.shape)
    if batch.noise is not None:
        known = ~batch.noise.isnan() & (batch.noise < MISSING)
        noise = torch.where(known, batch.noise, noise)
    return bool((noise > _NEGLIGIBLE).any())


def _promising(process: Process, observed: ObservedFront, most: int, seeds: Seeds) -> Tensor:
    """The rows that are on the front of some joint posterior sample, at most `most`, the likeliest first."""
    x = observed.x[observed.counted]
    if not len(x):
        return x
    k = len(observed.values)
    mean, var = process.mean_and_var(x.expand(k, *x.shape))
    margin = _WIDTH * var.sqrt()
    certainly_better = (mean + margin)[:, :, None] < (mean - margin)[:, None, :]
    dominators = certainly_better.all(0).sum(0)
    x = x[dominators.argsort(stable=True)[:most]]
    values = _joint_samples(process, x, _SAMPLES, seeds.split("baseline"))
    wins = non_dominated(values).sum(0)
    order = wins.argsort(descending=True, stable=True)
    return x[order[: int((wins > 0).sum())]]


def _fantasise(process: Process, x: Tensor, count: int, seeds: Seeds) -> tuple[Process, Tensor]:
    """The process given joint samples of the objectives at rows x, and these (s, k, q)."""
    values = _joint_samples(process, x, count, seeds.split("fantasies"))
    rows = x.expand(values.shape[1], *x.shape)
    noise = (process.scale * SAMPLE_NOISE[x.dtype])[:, None].expand(rows.shape[:-1])
    return process.condition(rows, values, noise), values


def _joint_samples(process: Process, x: Tensor, count: int, seeds: Seeds) -> Tensor:
    """Joint posterior samples of the objectives at rows x: (s, k, q)."""
    k = process.noise.shape[0]
    base = seeds.quasi_normal(count, k * x.shape[-2], x)
    base = base.reshape(count, k, x.shape[-2]).movedim(1, 0)
    return sample_joint(process, x.expand(k, *x.shape), base)
