"""The objectives and constraints of an Optuna study, and what its trials measured, as ours by name."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from bo_suite.storage.goals import VALUE, Constraint, Goals, Objective

CONSTRAINTS = "constraints"
"""Optuna's attribute with the values of constraints that have no names."""

CONSTRAINT = f"{CONSTRAINTS}:"
"""Prefix of Optuna's attributes with the value of a constraint by name."""

LARGEST = 1e100
"""Replaces an infinite value of a constraint."""

_APART = "constraint "
"""Prefix of the names of constraints if one of them is the name of an objective."""


@dataclass(frozen=True)
class Measured:
    """What a trial measured, as the fields of a Trial of ours.

    Attributes:
        value: of the only objective, if it was measured.
        outcomes: by name, None for one whose measurement failed; None if `value` is all.
    """

    value: float | None
    outcomes: Mapping[str, float | None] | None = None


def goals_of(study: "optuna.Study", trials: Sequence[FrozenTrial]) -> Goals:
    """The objectives of a study, and its constraints: those that an ended trial has set.

    The only objective is named "value"; several have the names of `study.set_metric_names`, or else "0", "1"
    and so on. A constraint is met by values of at most 0. It has the name that Optuna has, or that name after
    "constraint " if an objective has it.
    """
    directions = [direction.name.lower() for direction in study.directions]
    names = [VALUE]
    if len(directions) > 1:
        names = study.metric_names or []
        if len(set(names)) < len(directions):
            names = list(map(str, range(len(directions))))
    measured = {name for trial in _ended(trials) for name in constraints_of(trial)}
    limits = tuple(Constraint(_ours(name, names), -math.inf, 0.0) for name in sorted(measured))
    objectives = tuple(map(Objective, names, directions))
    return Goals(objectives, limits, named=len(names) > 1 or bool(limits))


def measured_by_number(trials: Sequence[FrozenTrial], goals: Goals) -> dict[int, Measured]:
    """What each trial with an outcome measured by the rules of BoSuiteSampler, by number.

    Args:
        trials: of one study.
        goals: of the study.
    """
    names = [objective.name for objective in goals.objectives]
    values = {trial.number: _finite(trial) for trial in trials if trial.state == TrialState.COMPLETE}
    if not goals.several:
        values |= _pruned(trials, values, goals.objectives[0].sign)
    by_number = {}
    for trial in _ended(trials):
        outcomes = dict(zip(names, values.get(trial.number, [None] * len(names)), strict=True))
        outcomes |= {_ours(name, names): value for name, value in constraints_of(trial).items()}
        if any(value is not None for value in outcomes.values()):
            only = None if goals.several else outcomes[names[0]]
            by_number[trial.number] = Measured(only, outcomes if goals.named else None)
    return by_number


def constraints_of(trial: FrozenTrial) -> dict[str, float]:
    """Values by name, of `set_constraint` or the older `constraints_func`, clipped to finite ones."""
    attributes = trial.system_attrs
    values = {str(index): value for index, value in enumerate(attributes.get(CONSTRAINTS) or ())}
    for name, value in attributes.items():
        if name.startswith(CONSTRAINT):
            values[name.removeprefix(CONSTRAINT)] = value
    return {
        name: min(max(value, -LARGEST), LARGEST)
        for name, value in values.items()
        if value is not None and not math.isnan(value)
    }


def _ended(trials: Sequence[FrozenTrial]) -> Iterator[FrozenTrial]:
    return (trial for trial in trials if trial.state.is_finished())


def _ours(name: str, objectives: Sequence[str]) -> str:
    """The name of a constraint, which no objective and no other constraint has."""
    return _APART + name if name in objectives or name.startswith(_APART) else name


def _finite(trial: FrozenTrial) -> list[float | None]:
    """The values of a complete trial; None for one that is infinite."""
    return [value if math.isfinite(value) else None for value in trial.values]


def _pruned(
    trials: Sequence[FrozenTrial], complete: Mapping[int, list[float | None]], sign: float
) -> dict[int, list[float | None]]:
    """The last intermediate value of each pruned trial, but no better than the median complete trial."""
    ordered = sorted(sign * value for (value,) in complete.values() if value is not None)
    values: dict[int, list[float | None]] = {}
    for trial in trials:
        last = trial.last_step
        if trial.state == TrialState.PRUNED and last is not None and ordered:
            value = trial.intermediate_values[last]
            if math.isfinite(value):
                values[trial.number] = [sign * max(sign * value, ordered[len(ordered) // 2])]
    return values
