"""Optuna's distributions and trials in our terms, and what of ours is kept with its trials."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from bo_suite.content import check
from bo_suite.describe import described
from bo_suite.errors import SpaceError, StorageError
from bo_suite.integrations.translate import Dimension, Translation, listed, stepped
from bo_suite.parameters import Choice, Float, Int, Parameter
from bo_suite.proposer import Proposal
from bo_suite.rows import provenance_fault
from bo_suite.space import Space
from bo_suite.trials import Trial

_PROPOSAL = "bo_suite:proposal"
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
            dimensions[name] = _dimension(distribution, name in ordered)
        except SpaceError as error:
            raise ValueError(f"parameter {name!r} cannot be searched: {error}") from error
    return Translation(dimensions, constants)


def _only(distribution: Any) -> Any:
    """The value of a distribution that has one."""
    return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low


def _dimension(distribution: BaseDistribution, ordered: bool) -> Dimension:
    if isinstance(distribution, CategoricalDistribution):
        return listed(distribution.choices, ordered)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise SpaceError(f"it must be a float, an integer or categorical, got {distribution}")
    low, high, step = distribution.low, distribution.high, distribution.step
    if step is None or (isinstance(distribution, IntDistribution) and step == 1):
        kind = Float if isinstance(distribution, FloatDistribution) else Int
        return Dimension(kind(low, high, log=distribution.log))  # type: ignore[arg-type]
    steps = stepped(low, step, 1 + round((high - low) / step))
    return replace(steps, theirs=lambda number: min(steps.theirs(number), high))


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
        proposal = remembered(trial, translation.space)
        promised = {} if proposal is None else translation.theirs(proposal.params)
        enqueued = trial.system_attrs.get("fixed_params", {})
        try:
            params = translation.ours({**promised, **enqueued, **trial.params})
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
            {} if proposal is None else proposal.provenance,
            0.0,
            None,
        )


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


def remember(study: "optuna.Study", trial: FrozenTrial, space: Space, proposal: Proposal) -> None:
    """Stores a proposal with its trial."""
    form: Any = {"params": proposal.params, "space": space.fingerprint, "provenance": proposal.provenance}
    study._storage.set_trial_system_attr(trial._trial_id, _PROPOSAL, form)


def remembered(trial: FrozenTrial, space: Space) -> Proposal | None:
    """The proposal that was stored with a trial; None where there is none, or one of another space.

    Raises:
        StorageError: what is stored is no proposal.
    """
    if _PROPOSAL not in trial.system_attrs:
        return None
    form, what = trial.system_attrs[_PROPOSAL], f"trial {trial.number}, {_PROPOSAL}"
    check(isinstance(form, dict) and set(form) == {"params", "space", "provenance"}, what, "a proposal", form)
    params, provenance = form["params"], form["provenance"]
    check(isinstance(form["space"], str), f"{what}, field space", "a fingerprint", form["space"])
    check(isinstance(params, dict), f"{what}, field params", "a dict of parameters", params)
    check(isinstance(provenance, dict), f"{what}, field provenance", "a dict", provenance)
    if (fault := provenance_fault(provenance)) is not None:
        raise StorageError(f"{what}, field {fault}, got {described(provenance, 200)}")
    if form["space"] != space.fingerprint:
        return None
    try:
        return Proposal(space.check(params), provenance)
    except SpaceError as error:
        raise StorageError(f"{what}, field params must be a point of its space: {error}") from error
