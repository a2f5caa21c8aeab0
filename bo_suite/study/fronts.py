"""What the trials of a run with several objectives show together: their front, and its hypervolume."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bo_suite.acquisition.hypervolume import hypervolume
from bo_suite.data import CPU_DOUBLES
from bo_suite.errors import ArgumentError
from bo_suite.space.space import Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.named import NamedOutcomes
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.summary import outcomes_of, pareto_trials, trials_at_target
from bo_suite.values.describe import described
from bo_suite.values.numbers import number_of

_LARGEST = 1e300
"""Hypervolumes are clipped here, so that they stay finite."""


@dataclass(frozen=True)
class FrontTrials:
    """Trials of a run with several objectives, at the target fidelity, by what they are to its front.

    Attributes:
        goals: of the run.
        front: feasible trials that no other dominates, ordered by the first objective.
        dominated: other feasible ones in the space.
        excluded: trials with all objectives that are infeasible, or outside of the space.
        incomplete: finished trials that lack an objective.
        failed: failed trials.
    """

    goals: Goals
    front: tuple[Trial, ...]
    dominated: tuple[Trial, ...]
    excluded: tuple[Trial, ...]
    incomplete: tuple[Trial, ...]
    failed: tuple[Trial, ...]

    @staticmethod
    def of(trials: Sequence[Trial], goals: Goals, space: Space) -> "FrontTrials":
        """The trials, sorted by what they are."""
        final = trials_at_target(trials, space)
        finished = [trial for trial in final if trial.state == "finished"]
        complete = [trial for trial in finished if goals.losses(outcomes_of(trial, goals)) is not None]
        front = pareto_trials(complete, goals, space)
        first = {trial.id for trial in front}
        counted = {
            trial.id
            for trial in complete
            if space.contains(trial.params) and goals.is_feasible(outcomes_of(trial, goals))
        }
        return FrontTrials(
            goals,
            tuple(front),
            tuple(trial for trial in complete if trial.id in counted - first),
            tuple(trial for trial in complete if trial.id not in counted),
            tuple(trial for trial in finished if goals.losses(outcomes_of(trial, goals)) is None),
            tuple(trial for trial in final if trial.state == "failed"),
        )

    @property
    def feasible(self) -> tuple[Trial, ...]:
        """Feasible trials in the space with all objectives, in order of id."""
        return tuple(sorted((*self.front, *self.dominated), key=lambda trial: trial.id))

    def losses(self, trial: Trial) -> tuple[float, ...]:
        """The objectives of a trial that has all of them, smaller is better."""
        losses = self.goals.losses(outcomes_of(trial, self.goals))
        assert losses is not None, "the trial lacks an objective"
        return losses

    @property
    def worst_feasible(self) -> dict[str, float] | None:
        """The worst feasible value of each objective, in the user's units; None if no trial is feasible."""
        if not self.feasible:
            return None
        worst = map(max, zip(*map(self.losses, self.feasible), strict=True))
        names = [(objective.name, objective.sign) for objective in self.goals.objectives]
        return {name: sign * loss for (name, sign), loss in zip(names, worst, strict=True)}


@dataclass(frozen=True)
class HypervolumeCourse:
    """The hypervolume of the feasible front after each feasible trial, in the product of the user's units.

    Attributes:
        reference: values by name of the objectives, of the point that bounds the volume.
        inferred: whether the reference point is the worst feasible value of each objective.
        ids: of the feasible trials, in order.
        volumes: after each of them.
    """

    reference: Mapping[str, float]
    inferred: bool
    ids: tuple[int, ...]
    volumes: tuple[float, ...]

    @staticmethod
    def of(sorted_trials: FrontTrials, reference: object = None) -> "HypervolumeCourse | None":
        """The course of trials; None if none is feasible and no reference point is given.

        Args:
            sorted_trials: the trials.
            reference: values by name of the objectives; None for the worst feasible ones.

        Raises:
            ArgumentError: the reference point has not a finite number for each objective.
        """
        goals, feasible = sorted_trials.goals, sorted_trials.feasible
        point = sorted_trials.worst_feasible if reference is None else _checked(reference, goals)
        if point is None:
            return None
        volumes = _volumes([sorted_trials.losses(trial) for trial in feasible], _losses(point, goals))
        return HypervolumeCourse(
            point, reference is None, tuple(trial.id for trial in feasible), tuple(volumes)
        )


def reference_used(trials: Sequence[Trial], goals: Goals) -> dict[str, float] | None:
    """The reference point of the latest suggestion that had one, in the user's units; None without any.

    The suggestion has stored it on the scale of its surrogate, which may be linear. It is mapped back by the
    transforms of the outcomes that were known then: None if these were changed since, or if the point is
    beyond all numbers.
    """
    asked = [trial for trial in trials if "reference" in trial.provenance.get("chosen", {})]
    if not asked or not goals.several:
        return None
    source, started = asked[-1].provenance, asked[-1].started
    known = [trial for trial in trials if trial.state == "finished" and (trial.ended or 0.0) <= started]
    losses = NamedOutcomes.of(goals, known).losses
    if int((~losses.isnan()).any(0).sum()) != source.get("observations"):
        return None
    point, chosen = {}, source["chosen"]
    linear = chosen.get("linear", [False] * len(losses))
    stored = zip(goals.objectives, losses, chosen["reference"], linear, strict=True)
    for objective, values, z, is_linear in stored:
        measured = values[~values.isnan()]
        scaled = torch.tensor([z], **CPU_DOUBLES)
        if len(measured):
            transform = OutcomeTransform.fit(measured)
            scaled = transform.linear_inverse(scaled) if is_linear else transform.inverse(scaled)
        point[objective.name] = objective.sign * float(scaled)
    return point if all(map(math.isfinite, point.values())) else None


def _checked(reference: object, goals: Goals) -> dict[str, float]:
    """The values of a reference point by name."""
    names = [objective.name for objective in goals.objectives]
    given = reference if isinstance(reference, Mapping) else {}
    values = {name: number_of(value) for name, value in given.items()}
    point = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    if set(values) != set(names) or len(point) < len(names):
        law = f"a reference point must have a finite number for each of {names}"
        raise ArgumentError(f"{law}, got {described(reference)}")
    return {name: point[name] for name in names}


def _losses(point: Mapping[str, float], goals: Goals) -> tuple[float, ...]:
    return tuple(objective.sign * point[objective.name] for objective in goals.objectives)


def _volumes(losses: Sequence[tuple[float, ...]], reference: tuple[float, ...]) -> list[float]:
    """The hypervolume after each point; of a point that is not better in all objectives nothing is added."""
    least = [min(column) for column in zip(*losses, reference, strict=True)]
    widths = [0.5 * worst - 0.5 * best or 0.5 for worst, best in zip(reference, least, strict=True)]
    unit = math.exp(min(sum(math.log(width) + math.log(2.0) for width in widths), math.log(_LARGEST)))
    front = torch.zeros(len(reference), 0, **CPU_DOUBLES)
    ones, volume, volumes = torch.ones(len(reference), **CPU_DOUBLES), 0.0, []
    for loss in losses:
        relative = [
            (0.5 * x - 0.5 * best) / width for x, best, width in zip(loss, least, widths, strict=True)
        ]
        point = torch.tensor(relative, **CPU_DOUBLES)[:, None]
        inside = all(x < end for x, end in zip(loss, reference, strict=True))
        if inside and not bool((front <= point).all(0).any()):
            front = torch.cat((front[:, ~(front >= point).all(0)], point), -1)
            volume = max(volume, float(hypervolume(front, ones)))
        volumes.append(volume * unit)
    return volumes
