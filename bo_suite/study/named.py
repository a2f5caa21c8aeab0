"""Outcomes by name of trials, as the part of a Dataset that holds several objectives and constraints."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import CPU_DOUBLES, LinearObjectives, Outcomes
from bo_suite.storage.goals import Constraint, Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.limits import LimitTransform
from bo_suite.study.outcomes import OutcomeTransform


@dataclass(frozen=True, eq=False)
class NamedOutcomes:
    """The outcomes of finished trials in the user's units: of each objective, then of each constraint.

    Attributes:
        goals: objectives and constraints.
        values: NaN where one was not measured.
        stds: standard deviations of their noise, NaN if unknown.
        broken: trials in which the measurement of an outcome failed that is no label.
    """

    goals: Goals
    values: jt.Float64[Tensor, "o n"]
    stds: jt.Float64[Tensor, "o n"]
    broken: jt.Bool[Tensor, " n"]

    @staticmethod
    def of(goals: Goals, finished: Sequence[Trial]) -> "NamedOutcomes":
        """The outcomes of finished trials; a label whose measurement failed is False."""
        rows = [(trial.outcomes or {}, trial.stds or {}) for trial in finished]
        labels = {one.name for one in goals.constraints if one.binary}
        names = [one.name for one in goals.objectives] + [one.name for one in goals.constraints]
        failed = {name: 0.0 if name in labels else math.nan for name in names}
        values = [[_number(outcomes, name, failed[name]) for outcomes, _ in rows] for name in names]
        stds = [[known.get(name, math.nan) for _, known in rows] for name in names]
        broken = [
            any(value is None and name not in labels for name, value in outcomes.items())
            for outcomes, _ in rows
        ]
        shape = len(names), len(rows)
        return NamedOutcomes(
            goals,
            torch.tensor(values, **CPU_DOUBLES).reshape(shape),
            torch.tensor(stds, **CPU_DOUBLES).reshape(shape),
            torch.tensor(broken, dtype=torch.bool, device="cpu"),
        )

    @property
    def losses(self) -> jt.Float64[Tensor, "k n"]:
        """The objectives, smaller is better."""
        signs = torch.tensor([one.sign for one in self.goals.objectives], **CPU_DOUBLES)
        return signs[:, None] * self.values[: len(signs)]

    def encoded(self, rows: jt.Float64[Tensor, "n d"]) -> Outcomes | None:
        """The outcomes on the surrogate's scale; None if there is one objective and no measured constraint.

        A constraint that was not measured yet is left out, and so is an only objective.

        Args:
            rows: encoded points of the trials.
        """
        columns = [self._objective(index) for index in range(self._modelled)]
        limits = [self._limit(index) for index in self._limited]
        if not columns and not limits:
            return None
        ends = [(-math.inf, math.inf)] * len(columns) + [limit.ends for limit in limits]
        low, high = torch.tensor(ends, **CPU_DOUBLES).unbind(-1)
        y, noise = (
            torch.stack(part) for part in zip(*columns, *(one.moments for one in limits), strict=True)
        )
        return Outcomes(
            rows,
            y,
            self._modelled,
            low,
            high,
            None if bool(noise.isnan().all()) else noise,
            sum(limit.constraint.binary for limit in limits),
            self._violation(limits) if limits else None,
            self._scaled if columns else None,
            self._linear if columns else None,
        )

    @property
    def _linear(self) -> LinearObjectives:
        """The objectives on a linear scale; one that was not measured has no number."""
        pairs = list(zip(self.losses, self._transforms, strict=True))
        y = [losses if transform is None else transform.linear(losses) for losses, transform in pairs]
        slope = [losses if transform is None else transform.log_slope(losses) for losses, transform in pairs]
        return LinearObjectives(torch.stack(y), torch.stack(slope), self._scaled_linearly)

    def _scaled_linearly(self, values: Sequence[float]) -> list[float]:
        """Values of the objectives in the user's units on the linear scale, beyond the caps too."""
        return self._mapped(values, lambda transform, loss: uncapped(transform).linear(loss))

    @property
    def rank(self) -> jt.Float64[Tensor, " n"]:
        """A number by which trials with several objectives are ranked, smaller is better.

        The number of trials that dominate it, plus a number below 1 that grows with its worst objective. An
        objective that was not measured counts as average.
        """
        z = torch.stack([self._objective(index)[0] for index in range(self._modelled)]).nan_to_num(0.0)
        first, other = z[:, :, None], z[:, None, :]
        dominating = ((other <= first).all(0) & (other < first).any(0)).sum(-1)
        rank: Tensor = dominating + torch.special.ndtr(z.amax(0))
        return rank

    @property
    def _modelled(self) -> int:
        """Number of objectives in the encoded outcomes."""
        return len(self.goals.objectives) if self.goals.several else 0

    @property
    def _limited(self) -> list[int]:
        """Indices of the constraints that were measured in some trial, labels last."""
        measured = ~self.values[len(self.goals.objectives) :].isnan().all(-1)
        limits = [(one.binary, index) for index, one in enumerate(self.goals.constraints) if measured[index]]
        return [index for _, index in sorted(limits)]

    def _objective(self, index: int) -> tuple[Tensor, Tensor]:
        """An objective and its noise variances on the surrogate's scale."""
        losses, stds = self.losses[index], self.stds[index]
        transform = self._transforms[index]
        if transform is None:
            return losses, stds
        return transform(losses), transform.noise(losses, stds)

    @cached_property
    def _transforms(self) -> list[OutcomeTransform | None]:
        """The transform of each objective; None if it was not measured."""
        measured = [losses[~losses.isnan()] for losses in self.losses]
        return [OutcomeTransform.fit(losses) if len(losses) else None for losses in measured]

    def _limit(self, index: int) -> "_Limit":
        at = len(self.goals.objectives) + index
        return _Limit.of(self.goals.constraints[index], self.values[at], self.stds[at])

    def _violation(self, limits: Sequence["_Limit"]) -> Tensor:
        """By how much each trial violates constraints; infinite if none was measured."""
        parts = torch.stack([limit.violation for limit in limits])
        total = parts.nan_to_num(0.0).sum(0) + self.broken.to(parts)
        return torch.where(parts.isnan().all(0), torch.inf, total)

    def _scaled(self, values: Sequence[float]) -> list[float]:
        """Values of the objectives in the user's units on the surrogate's scale, beyond the caps too."""
        return self._mapped(values, lambda transform, loss: uncapped(transform)(loss))

    def _mapped(
        self, values: Sequence[float], scale: Callable[[OutcomeTransform, Tensor], Tensor]
    ) -> list[float]:
        """Values of the objectives in the user's units, as losses on a scale of each one's transform."""
        mapped = []
        for objective, transform, value in zip(self.goals.objectives, self._transforms, values, strict=True):
            loss = torch.tensor([objective.sign * value], **CPU_DOUBLES)
            mapped.append(float(loss if transform is None else scale(transform, loss)))
        return mapped


def uncapped(transform: OutcomeTransform) -> OutcomeTransform:
    """The transform without its cap, so that a reference point beyond it stays apart from the outcomes."""
    return replace(transform, cap=torch.full_like(transform.cap, torch.inf))


@dataclass(frozen=True, eq=False)
class _Limit:
    """A constrained outcome on the surrogate's scale: its ends, its values and variances, its violation."""

    constraint: Constraint
    ends: tuple[float, float]
    moments: tuple[Tensor, Tensor]
    violation: Tensor

    @staticmethod
    def of(constraint: Constraint, values: Tensor, stds: Tensor) -> "_Limit":
        if constraint.binary:
            violation = torch.where(values.isnan(), torch.nan, (values < constraint.low).to(values))
            return _Limit(constraint, (constraint.low, math.inf), (values, stds.square()), violation)
        transform = LimitTransform.fit(values[~values.isnan()], constraint)
        low, high = transform(torch.tensor([constraint.low, constraint.high], **CPU_DOUBLES)).tolist()
        violation = transform.violation(values, constraint)
        return _Limit(constraint, (low, high), (transform(values), transform.noise(stds)), violation)


def _number(outcomes: Mapping[str, float | None], name: str, failed: float) -> float:
    """A number by name; NaN if there is none, and `failed` if its measurement failed."""
    value = outcomes.get(name, math.nan)
    return failed if value is None else value
