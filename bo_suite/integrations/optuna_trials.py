"""Optuna's distributions and trials in our terms, and what of ours is kept with its trials."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import PartialFixedSampler
from optuna.trial import FrozenTrial, TrialState

from bo_suite.errors import SpaceError, StorageError
from bo_suite.integrations.optuna_space import dimension_of, nearest
from bo_suite.integrations.translate import Translation
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.storage.content import check
from bo_suite.storage.rows import provenance_fault
from bo_suite.storage.trial import Trial
from bo_suite.study.suggest import Suggestion
from bo_suite.values.describe import described

_PROPOSAL = "bo_suite:suggestion"
"""System attribute with the whole point of a trial, before the objective has asked for its parameters."""

_PASSED = "bo_suite:passed"
"""System attribute of a trial whose parameters are all decided, or drawn one by one."""

_CONSTRAINT = "constraints:"
"""What Optuna's attributes with the values of constraints begin with."""

_PATIENCE = 10.0
"""Seconds to wait for the next point of a trial begun before."""

_LONGEST_ASK = 60.0
"""Seconds after which a trial without a point is taken to have been given up."""

_POLL = 0.005
"""Seconds between looks at the other trials."""

_LARGEST = 1e100
"""What stands for an infinite value of a constraint."""


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's distribution of a parameter; of an ordered Choice, categories."""
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    if isinstance(parameter, Float):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    return IntDistribution(parameter.low, parameter.high, log=parameter.log)


def to_translation(
    search_space: Mapping[str, BaseDistribution], ordered: "set[str] | frozenset[str]" = frozenset()
) -> Translation:
    """Optuna's distributions in our terms; those of a single value are constants.

    Args:
        search_space: by name.
        ordered: names of categories that lie on a line.

    Raises:
        ValueError: no dict of distributions, or a distribution that cannot be searched.
    """
    if not isinstance(search_space, Mapping):
        raise ValueError(
            f"a search space must be a dict of Optuna's distributions, got {described(search_space)}"
        )
    dimensions, constants = {}, {}
    for name, distribution in search_space.items():
        if not isinstance(distribution, BaseDistribution):
            raise ValueError(
                f"parameter {name!r} must have one of Optuna's distributions, got {described(distribution)}"
            )
        if distribution.single():
            constants[name] = _only(distribution)
            continue
        try:
            dimensions[name] = dimension_of(distribution, name in ordered)
        except SpaceError as error:
            raise ValueError(f"parameter {name!r} cannot be searched: {error}") from error
    return Translation(dimensions, constants)


def _only(distribution: Any) -> Any:
    """The value of a distribution that has one."""
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low


def to_trials(trials: Sequence[FrozenTrial], translation: Translation, study: "optuna.Study") -> list[Trial]:
    """Optuna's trials as ours, those left out that have no point in the space or no outcome to learn from."""
    return list(translated(trials, values_of(trials, study), translation))


def values_of(trials: Sequence[FrozenTrial], study: "optuna.Study") -> dict[int, float]:
    """The value of each trial to learn a value from, by its number."""
    return dict(_outcomes(trials, sign=1.0 if study.direction.name == "MINIMIZE" else -1.0))


def translated(
    trials: Sequence[FrozenTrial], values: Mapping[int, float], translation: Translation
) -> Iterator[Trial]:
    """Trials as ours, given their values, those left out that have no point in the space."""
    for trial in trials:
        suggestion = remembered(trial, translation.space)
        try:
            params = translation.ours(_point(trial, suggestion, translation))
        except SpaceError:
            continue
        value = values.get(trial.number)
        state = "finished" if value is not None else "failed" if trial.state.is_finished() else "running"
        yield Trial(
            trial.number,
            params,
            state,  # type: ignore[arg-type]
            value,
            None,
            trial.state.name.lower() if state == "failed" else None,
            1,
            True,
            {} if suggestion is None else suggestion.provenance,
            0.0,
            None,
        )


def _point(trial: FrozenTrial, suggestion: Suggestion | None, translation: Translation) -> dict[str, Any]:
    """All that is known of the point of a trial.

    Optuna keeps a number as a float and a category as the first of equal ones: where it keeps what was
    proposed in the same way, the trial has the proposed value.
    """
    promised = {} if suggestion is None else translation.theirs(suggestion.params)
    own = {
        name: value
        for name, value in trial.params.items()
        if name not in promised or not _kept_alike(trial.distributions[name], promised[name], value)
    }
    return {**trial.system_attrs.get("fixed_params", {}), **promised, **own}


def _kept_alike(distribution: BaseDistribution, one: Any, other: Any) -> bool:
    try:
        return distribution.to_internal_repr(one) == distribution.to_internal_repr(other)
    except (ArithmeticError, TypeError, ValueError):  # it is not one of this distribution
        return False


def decided(study: "optuna.Study", trial: FrozenTrial) -> dict[str, Any]:
    """Values that a trial has whatever is proposed: of a PartialFixedSampler, `enqueue_trial`, or its own."""
    fixed: dict[str, Any] = {}
    sampler = study.sampler
    while isinstance(sampler, PartialFixedSampler):  # the outer one has its way
        fixed = {**sampler._fixed_params, **fixed}
        sampler = sampler._base_sampler
    return {**fixed, **trial.system_attrs.get("fixed_params", {}), **trial.params}


def fixed_values(
    fixed: Mapping[str, Any], search_space: Mapping[str, BaseDistribution], translation: Translation
) -> tuple[Params, list[str]]:
    """Fixed values as ours, and the names of those that are out of range, which count as the nearest."""
    found: Params = {}
    beyond = []
    for name, dimension in translation.dimensions.items():
        if name not in fixed:
            continue
        for value in (fixed[name], nearest(search_space[name], fixed[name])):
            with suppress(ArithmeticError, TypeError, ValueError):
                found[name] = dimension.parameter.check(dimension.ours(value))
                break
            beyond.append(name)
    return found, sorted(set(beyond))


def unused(trials: Sequence[FrozenTrial], known: Sequence[Trial]) -> list[FrozenTrial]:
    """The trials that have ended and are not among those that are known."""
    there = {trial.id for trial in known}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in there]


def left_out(lost: Sequence[FrozenTrial], count: int, translation: Translation) -> str:
    """A sentence on trials that nothing is learnt from, and why not from the first of them."""
    reason = ""
    try:
        translation.ours(_point(lost[0], remembered(lost[0], translation.space), translation))
    except SpaceError as error:
        reason = f", such as trial {lost[0].number}: {error}"
    return f"{len(lost)} of {count} trials have no point in the space that is searched{reason}"


def _outcomes(trials: Sequence[FrozenTrial], sign: float) -> Iterator[tuple[int, float]]:
    """Number and value of each trial to learn a value from, by the rules that BoSuiteSampler states."""
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete = {t.number: t.value for t in finished if t.value is not None and math.isfinite(t.value)}
    yield from complete.items()
    ordered = sorted(complete.values(), key=lambda value: sign * value)
    for trial in trials:
        last = trial.last_step
        if trial.state == TrialState.PRUNED and last is not None and ordered:
            value = trial.intermediate_values[last]
            if math.isfinite(value):
                yield trial.number, sign * max(sign * value, sign * ordered[len(ordered) // 2])


def constraints_by_number(trials: Sequence[FrozenTrial]) -> dict[int, list[float]]:
    """Constraint values by the number of a complete trial, NaN where not set; at most 0 is feasible."""
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    found = {trial.number: values for trial in complete if (values := _constraints_of(trial))}
    names = sorted({name for values in found.values() for name in values})
    return {number: [values.get(name, math.nan) for name in names] for number, values in found.items()}


def _constraints_of(trial: FrozenTrial) -> dict[str, float]:
    """Values by name, of `set_constraint` or the older `constraints_func`, those that are infinite cut."""
    attributes = trial.system_attrs
    found = {str(place): value for place, value in enumerate(attributes.get("constraints") or ())}
    for name, value in attributes.items():
        if name.startswith(_CONSTRAINT):
            found[name.removeprefix(_CONSTRAINT)] = value
    return {name: min(max(value, -_LARGEST), _LARGEST) for name, value in found.items() if value is not None}


def wait_for_earlier(study: "optuna.Study", trial: FrozenTrial) -> None:
    """Waits until each running trial of a smaller number has its point.

    Where none of them gets one for a while, their processes died, or another sampler asks for them.
    """
    started = trial.datetime_start or datetime.now()
    waiting, deadline = set[int](), 0.0
    while True:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        earlier = [other for other in running if other.number < trial.number and not _has_point(other)]
        before, waiting = waiting, {other.number for other in earlier if _recent(other, started)}
        if waiting != before:
            deadline = time.monotonic() + _PATIENCE
        if not waiting or time.monotonic() > deadline:
            return
        time.sleep(_POLL)


def let_pass(study: "optuna.Study", trial: FrozenTrial) -> None:
    """Says with a trial that nothing is proposed for it, so that others need not wait for its point."""
    study._storage.set_trial_system_attr(trial._trial_id, _PASSED, True)


def _has_point(trial: FrozenTrial) -> bool:
    return bool(trial.params) or not {_PROPOSAL, _PASSED}.isdisjoint(trial.system_attrs)


def _recent(trial: FrozenTrial, started: datetime) -> bool:
    """Whether a trial began so shortly before that its process may still be at work on its point."""
    began = trial.datetime_start
    return began is not None and (started - began).total_seconds() < _LONGEST_ASK


def remember(study: "optuna.Study", trial: FrozenTrial, space: Space, suggestion: Suggestion) -> None:
    """Stores a suggestion with its trial."""
    form: Any = {"params": suggestion.params, "space": space.fingerprint, "provenance": suggestion.provenance}
    study._storage.set_trial_system_attr(trial._trial_id, _PROPOSAL, form)


def remembered(trial: FrozenTrial, space: Space) -> Suggestion | None:
    """The suggestion that was stored with a trial; None where there is none, or one of another space.

    Raises:
        StorageError: what is stored is no suggestion.
    """
    if _PROPOSAL not in trial.system_attrs:
        return None
    form, what = trial.system_attrs[_PROPOSAL], f"trial {trial.number}, {_PROPOSAL}"
    check(
        isinstance(form, dict) and set(form) == {"params", "space", "provenance"}, what, "a suggestion", form
    )
    params, provenance = form["params"], form["provenance"]
    check(isinstance(form["space"], str), f"{what}, field space", "a fingerprint", form["space"])
    check(isinstance(params, dict), f"{what}, field params", "a dict of parameters", params)
    check(isinstance(provenance, dict), f"{what}, field provenance", "a dict", provenance)
    if (fault := provenance_fault(provenance)) is not None:
        raise StorageError(f"{what}, field {fault}, got {described(provenance, 200)}")
    if form["space"] != space.fingerprint:
        return None
    try:
        return Suggestion(space.check(params), provenance)
    except SpaceError as error:
        raise StorageError(f"{what}, field params must be a point of its space: {error}") from error
