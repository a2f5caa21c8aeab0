"""Translation of Optuna's distributions and trials, and the proposals stored with its trials."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
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
from bo_suite.integrations.optuna_curves import Steps
from bo_suite.integrations.optuna_outcomes import Measured, goals_of, measured_by_number
from bo_suite.integrations.optuna_space import dimension_of, nearest
from bo_suite.integrations.translate import Translation
from bo_suite.space.parameters import Choice, Float, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.space.when import When
from bo_suite.storage.content import check
from bo_suite.storage.rows import provenance_fault
from bo_suite.storage.trial import Trial
from bo_suite.study.suggest import Suggestion
from bo_suite.values.describe import described

_PROPOSAL = "bo_suite:proposal"
"""System attribute with the whole point of a trial, set before the objective runs."""

_PASSED = "bo_suite:passed"
"""System attribute of a trial without a suggestion: its parameters are fixed, or drawn one by one."""

_PATIENCE = 10.0
"""Seconds to wait for the next point of an earlier trial."""

_LONGEST_ASK = 60.0
"""Seconds after which a trial without a point counts as abandoned."""

_POLL = 0.005
"""Seconds between looks at the other trials."""

_MOST_CATEGORIES = 10**6
"""Most values of a parameter that become categories."""


def to_distribution(parameter: Parameter) -> BaseDistribution:
    """Return Optuna's distribution of a parameter.

    A Choice becomes categories, ordered or not, and so do the values of a number with a step on a log scale,
    or with one that Optuna's decimal arithmetic finds not to divide the range, such as 1/3.

    Raises:
        SpaceError: these categories would be more than 10**6.
    """
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    kind: Callable[..., BaseDistribution] = (
        FloatDistribution if isinstance(parameter, Float) else IntDistribution
    )
    if not parameter.has_step or parameter.levels == 1:
        return kind(parameter.low, parameter.high, log=parameter.log)
    low, high, step = (Decimal(str(number)) for number in (parameter.low, parameter.high, parameter.step))
    if not parameter.log and (high - low) % step == 0:
        return kind(parameter.low, parameter.high, step=parameter.step)
    levels = range(parameter.levels or 0)
    if len(levels) > _MOST_CATEGORIES:
        raise SpaceError(
            f"as categories of Optuna there must be at most 10**6 values, got {parameter.levels}"
        )
    return CategoricalDistribution([parameter.value(level) for level in levels])


def to_translation(
    search_space: Mapping[str, BaseDistribution],
    ordered: "set[str] | frozenset[str]" = frozenset(),
    when: Mapping[str, When] = MappingProxyType({}),
) -> Translation:
    """Translate Optuna's distributions; those of a single value become constants.

    Args:
        search_space: distributions by name.
        ordered: names of parameters with ordered categories.
        when: conditions by name, in values of our parameters; those on others than the searched parameters
            do not count.

    Raises:
        ValueError: `search_space` is no dict of distributions, or a distribution cannot be searched.
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
            constants[name] = _single_value(distribution)
            continue
        try:
            dimensions[name] = dimension_of(distribution, name in ordered)
        except SpaceError as error:
            raise ValueError(f"parameter {name!r} cannot be searched: {error}") from error
    for name, condition in when.items():
        if {name, *condition} <= dimensions.keys():
            parameter = replace(dimensions[name].parameter, when=condition)
            dimensions[name] = replace(dimensions[name], parameter=parameter)
    return Translation(dimensions, constants)


def _single_value(distribution: Any) -> Any:
    """Return the only value of a distribution."""
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low


def to_trials(trials: Sequence[FrozenTrial], translation: Translation, study: "optuna.Study") -> list[Trial]:
    """Translate Optuna's trials, without those that have no point in the space."""
    return list(translated(trials, measured_by_number(trials, goals_of(study, trials)), translation))


def translated(
    trials: Sequence[FrozenTrial],
    measured: Mapping[int, Measured],
    translation: Translation,
    steps: Steps | None = None,
) -> Iterator[Trial]:
    """Translate trials given what they measured, without those that have no point in the space.

    Args:
        trials: of one study.
        measured: by number of the trial.
        translation: to the space.
        steps: how steps are counted, if trials have curves: then pruned ones are stopped, with the last value
            that they have reported.
    """
    for trial in trials:
        suggestion = remembered(trial, translation.space)
        try:
            params = translation.ours(_point(trial, suggestion, translation))
        except SpaceError:
            continue
        outcome, reports = measured.get(trial.number), () if steps is None else steps.reports(trial)
        state = "finished" if outcome is not None else "failed" if trial.state.is_finished() else "running"
        if steps is not None and steps.stopped(trial):
            state, outcome = "stopped", Measured(reports[-1].value)
        elif steps is not None and trial.state == TrialState.PRUNED:
            state, outcome = "failed", None
        yield Trial(
            trial.number,
            params,
            state,  # type: ignore[arg-type]
            None if outcome is None else outcome.value,
            None,
            trial.state.name.lower() if state == "failed" else None,
            1,
            True,
            {} if suggestion is None else suggestion.provenance,
            0.0,
            None,
            outcomes=None if outcome is None else outcome.outcomes,
            reports=reports,
        )


def _point(trial: FrozenTrial, suggestion: Suggestion | None, translation: Translation) -> dict[str, Any]:
    """Return all known parameters of a trial.

    Optuna stores a number as a float, and a category as the first of equal ones. If it stores the proposed
    value in the same way as the trial's, the trial has the proposed value.
    """
    proposed = {} if suggestion is None else translation.theirs(suggestion.params)
    own = {
        name: value
        for name, value in trial.params.items()
        if name not in proposed or not _stored_alike(trial.distributions[name], proposed[name], value)
    }
    return {**trial.system_attrs.get("fixed_params", {}), **proposed, **own}


def _stored_alike(distribution: BaseDistribution, one: Any, other: Any) -> bool:
    try:
        return distribution.to_internal_repr(one) == distribution.to_internal_repr(other)
    except (ArithmeticError, TypeError, ValueError):  # a value outside the distribution
        return False


def decided(study: "optuna.Study", trial: FrozenTrial) -> dict[str, Any]:
    """Return the fixed values of a trial: of a PartialFixedSampler, of `enqueue_trial`, or its own."""
    fixed: dict[str, Any] = {}
    sampler = study.sampler
    while isinstance(sampler, PartialFixedSampler):  # the outer sampler wins
        fixed = {**sampler._fixed_params, **fixed}
        sampler = sampler._base_sampler
    return {**fixed, **trial.system_attrs.get("fixed_params", {}), **trial.params}


def fixed_values(
    fixed: Mapping[str, Any], search_space: Mapping[str, BaseDistribution], translation: Translation
) -> tuple[Params, list[str]]:
    """Translate fixed values; list the names of those out of range, which become the nearest in range.

    Conditional parameters count only if their parents are fixed at values that activate them.
    """
    values: Params = {}
    beyond = []
    for name, dimension in translation.dimensions.items():
        if name not in fixed:
            continue
        for value in (fixed[name], nearest(search_space[name], fixed[name])):
            with suppress(ArithmeticError, TypeError, ValueError):
                values[name] = dimension.parameter.check(dimension.ours(value))
                break
            beyond.append(name)
    return translation.active(values) if values else values, sorted(set(beyond))


def unused(trials: Sequence[FrozenTrial], translated: Sequence[Trial]) -> list[FrozenTrial]:
    """Return the ended trials that were not translated."""
    numbers = {trial.id for trial in translated}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in numbers]


def left_out(ignored: Sequence[FrozenTrial], count: int, translation: Translation) -> str:
    """Say in a sentence how many of `count` trials are ignored, and why the first one is."""
    first, reason = ignored[0], ""
    try:
        translation.ours(_point(first, remembered(first, translation.space), translation))
    except SpaceError as error:
        reason = f", such as trial {first.number}: {error}"
    return f"{len(ignored)} of {count} trials have no point in the space that is searched{reason}"


def wait_for_earlier(study: "optuna.Study", trial: FrozenTrial) -> None:
    """Wait until each running trial of a smaller number has its point.

    If none of them gets one for a while, their processes died, or another sampler asks for them.
    """
    started = trial.datetime_start or datetime.now()
    waiting, deadline = set[int](), 0.0
    while True:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        earlier = [other for other in running if other.number < trial.number and not _has_point(other)]
        previous, waiting = waiting, {other.number for other in earlier if _recent(other, started)}
        if waiting != previous:
            deadline = time.monotonic() + _PATIENCE
        if not waiting or time.monotonic() > deadline:
            return
        time.sleep(_POLL)


def let_pass(study: "optuna.Study", trial: FrozenTrial) -> None:
    """Mark a trial as one without a suggestion, so that others do not wait for its point."""
    study._storage.set_trial_system_attr(trial._trial_id, _PASSED, True)


def _has_point(trial: FrozenTrial) -> bool:
    return bool(trial.params) or not {_PROPOSAL, _PASSED}.isdisjoint(trial.system_attrs)


def _recent(trial: FrozenTrial, started: datetime) -> bool:
    """Whether a trial began so shortly before `started` that its process may still choose its point."""
    began = trial.datetime_start
    return began is not None and (started - began).total_seconds() < _LONGEST_ASK


def remember(study: "optuna.Study", trial: FrozenTrial, space: Space, suggestion: Suggestion) -> None:
    """Store a suggestion with its trial."""
    fields: Any = {
        "params": suggestion.params,
        "space": space.fingerprint,
        "provenance": suggestion.provenance,
    }
    study._storage.set_trial_system_attr(trial._trial_id, _PROPOSAL, fields)


def remembered(trial: FrozenTrial, space: Space) -> Suggestion | None:
    """Return the suggestion stored with a trial; None if there is none, or its space differs.

    Raises:
        StorageError: the attribute is damaged.
    """
    if _PROPOSAL not in trial.system_attrs:
        return None
    fields, what = trial.system_attrs[_PROPOSAL], f"trial {trial.number}, {_PROPOSAL}"
    complete = isinstance(fields, dict) and set(fields) == {"params", "space", "provenance"}
    check(complete, what, "a proposal", fields)
    params, provenance = fields["params"], fields["provenance"]
    check(isinstance(fields["space"], str), f"{what}, field space", "a fingerprint", fields["space"])
    check(isinstance(params, dict), f"{what}, field params", "a dict of parameters", params)
    check(isinstance(provenance, dict), f"{what}, field provenance", "a dict", provenance)
    if (fault := provenance_fault(provenance)) is not None:
        raise StorageError(f"{what}, field {fault}, got {described(provenance, 200)}")
    if fields["space"] != space.fingerprint:
        return None
    try:
        return Suggestion(space.check(params), provenance)
    except SpaceError as error:
        raise StorageError(f"{what}, field params must be a point of its space: {error}") from error
