"""Optuna: our suggestions as one of its samplers, and its studies as data of ours."""

import json
import logging
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bo_suite.acquisition import Acquisition, ConstrainedExpectedImprovement
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError, SpaceExhausted, TrialError
from bo_suite.integrations.translate import Dimension, Translation, listed, stepped
from bo_suite.optimizer import Optimizer
from bo_suite.parameters import Choice, Float, Int, Parameter
from bo_suite.proposer import Proposal, Proposer, default_acquisition
from bo_suite.space import Params, Space
from bo_suite.trials import Trial, whole_number

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.search_space import intersection_search_space
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as missing:
    raise ImportError(
        "BoSuiteSampler needs optuna, which `pip install 'bo-suite[optuna]'` brings"
    ) from missing

logger = logging.getLogger("bo_suite")

_PROPOSAL = "bo_suite:proposal"
"""System attribute with the whole point of a trial, before the objective has asked for its parameters."""

_CONSTRAINT = "constraints:"
"""What Optuna's attributes with the values of constraints begin with."""

_ATTRIBUTE_LENGTH = 2045
"""Characters that every storage of Optuna keeps of an attribute."""

_LARGEST = 1e100
"""Size of a constraint's value beyond which it is cut, infinity included."""

_MOST_OPTIONS = 1000
"""Values of a stepped parameter up to which `from_optuna` lists them."""


class BoSuiteSampler(optuna.samplers.BaseSampler):
    """An Optuna sampler: asks as an `Optimizer` does that knows the trials of the study.

    How trials count:

    - complete ones by their value, and by those of their constraints where these were set
      (`trial.set_constraint`);
    - pruned ones by their last intermediate value, but no better than the median complete one;
    - failed ones, those of infinite value, and those pruned before they reported a value, as places to
      avoid;
    - running ones as pending, by their whole point: it is in the study before the objective starts.

    Trial k draws its random numbers from (seed, k), whatever the thread or process. A parameter outside the
    search space is drawn uniformly on its scale; so are points once a finite space has no new one.

    Args:
        acquisition: how to choose; when None, LogExpectedImprovement, or ConstrainedExpectedImprovement once
            a trial has set a constraint.
        search_space: what is searched jointly: a dict of Optuna distributions, or a Space; when None, the
            parameters that all complete and pruned trials have in common.
        seed: of the random numbers; drawn when None.

    Raises:
        ValueError: a space that cannot be searched, a study with several objectives, or constraints that the
            given acquisition takes no note of.
    """

    def __init__(
        self,
        acquisition: Acquisition | None = None,
        search_space: Mapping[str, BaseDistribution] | Space | None = None,
        seed: int | None = None,
    ) -> None:
        self._acquisition = acquisition
        self._seed = secrets.randbits(62) if seed is None else whole_number("seed", seed)
        self._ordered: set[str] = set()
        given = search_space
        if isinstance(given, Space):
            self._ordered = {name for name, p in given if isinstance(p, Choice) and p.ordered}
            given = {name: to_distribution(parameter) for name, parameter in given}
        self._given = None if given is None else dict(given)
        if self._given is not None:
            self._translation(self._given)  # to refuse now what cannot be searched

    def infer_relative_search_space(
        self, study: "optuna.Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What is searched jointly, parameters of a single value left out."""
        found = self._given
        if found is None:
            found = intersection_search_space(study.get_trials(deepcopy=False), include_pruned=True)
        return {name: distribution for name, distribution in found.items() if not distribution.single()}

    def before_trial(self, study: "optuna.Study", trial: FrozenTrial) -> None:
        """Proposes the point of a trial and stores it, so that other workers know it while the trial runs."""
        if len(study.directions) == 1:
            search_space = self.infer_relative_search_space(study, trial)
            if not search_space.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
                self._propose(study, trial, self._translation(search_space))

    def sample_relative(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point that is stored with a trial; a new one where that is of another search space."""
        self._raise_error_if_multi_objective(study)
        translation = self._translation(search_space)
        if not translation.dimensions:
            return dict(translation.constants)
        remembered = _remembered(study._storage.get_trial(trial._trial_id))
        if remembered.get("space") == translation.space.fingerprint:
            return {**translation.constants, **remembered["params"]}
        return self._propose(study, trial, translation)

    def _propose(self, study: "optuna.Study", trial: FrozenTrial, translation: Translation) -> dict[str, Any]:
        space = translation.space
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        limits = _constraints(others)
        default = ConstrainedExpectedImprovement() if limits else default_acquisition(space)
        proposer = Proposer(space, self._acquisition or default, self._seed, study.direction.name.lower())
        known = to_trials(others, translation, study)
        try:
            (proposal,) = proposer.propose(known, number=trial.number, constraints=limits)
        except SpaceExhausted as error:
            logger.info("trial %d repeats a point at random: %s", trial.number, error)
            return translation.theirs(self._drawn(space, trial, "point"))
        params = translation.theirs(proposal.params)
        _remember(study, trial, params, space, proposal)
        return params

    def sample_independent(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value drawn uniformly on the parameter's scale; the centre for the first trial."""
        self._raise_error_if_multi_objective(study)
        translation = self._translation({param_name: param_distribution})
        if not translation.dimensions:
            return translation.constants[param_name]
        return translation.theirs(self._drawn(translation.space, trial, param_name))[param_name]

    def _drawn(self, space: Space, trial: FrozenTrial, purpose: str) -> Params:
        """A point drawn uniformly; the centre for the first trial."""
        like = space.encode([])
        uniform = (
            Seeds.of(self._seed, trial.number).split(f"independent {purpose}").uniform((1, space.dim), like)
        )
        if trial.number == 0:
            uniform = uniform.new_full((1, space.dim), 0.5)
        return space.decode(space.spread(uniform))[0]

    def _translation(self, search_space: Mapping[str, BaseDistribution]) -> Translation:
        return to_translation(search_space, self._ordered)


def from_optuna(
    study: "optuna.Study",
    acquisition: Acquisition | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
) -> Optimizer:
    """An Optimizer that starts from a study's trials, over the parameters that all of these have in common.

    Trials count as they do for BoSuiteSampler; but infeasible ones as failed, and running ones are left out.
    Parameters with a step become a Choice of their values, in order.

    Args:
        study: with one objective.
        acquisition: the Optimizer's.
        seed: the Optimizer's.
        storage: a file to be created.

    Raises:
        ValueError: several objectives, no complete trial with a parameter, or a parameter that has no
            counterpart here.
        TrialError: a storage that has trials already.
    """
    if len(study.directions) != 1:
        raise ValueError(f"a study must have one objective, got {len(study.directions)}")
    trials = study.get_trials(deepcopy=False)
    common = intersection_search_space(trials, include_pruned=True)
    space = Space({name: _named(name, one) for name, one in common.items() if not one.single()})
    optimizer = Optimizer(space, acquisition, seed, study.direction.name.lower(), storage=storage)
    if optimizer.trials:
        optimizer.close()
        raise TrialError(f"a storage must be new to be filled from a study, got {storage} with trials in it")
    same = Translation({name: Dimension(parameter) for name, parameter in space})
    limits = _constraints(trials)
    for trial in to_trials(trials, same, study):
        if any(value > 0.0 for value in limits.get(trial.id, ())):
            optimizer.add_failed(trial.params, "infeasible")
        elif trial.value is not None:
            optimizer.add(trial.params, trial.value)
        elif trial.state == "failed":
            optimizer.add_failed(trial.params, trial.reason or "failed")
    return optimizer


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
        ValueError: a distribution that cannot be searched.
    """
    dimensions, constants = {}, {}
    for name, distribution in search_space.items():
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


def _named(name: str, distribution: BaseDistribution) -> Parameter:
    """The parameter with the very values of a distribution.

    Raises:
        ValueError: there is none.
    """
    dimension = to_translation({name: distribution}).dimensions[name]
    parameter = dimension.parameter
    if isinstance(distribution, CategoricalDistribution):
        if parameter != Choice(distribution.choices):
            raise ValueError(f"the options of {name!r} must differ, got {distribution.choices}")
    elif isinstance(parameter, Int) and isinstance(dimension.theirs(parameter.low), float):
        if parameter.levels > _MOST_OPTIONS:
            raise ValueError(f"{name!r} must have at most {_MOST_OPTIONS} steps, got {parameter.levels}")
        return Choice(tuple(dimension.theirs(number) for number in range(parameter.levels)), ordered=True)
    return parameter


def to_trials(trials: Sequence[FrozenTrial], translation: Translation, study: "optuna.Study") -> list[Trial]:
    """Optuna's trials as ours, those left out that have no point in the space or no outcome to learn from."""
    values = dict(_outcomes(trials, sign=1.0 if study.direction.name == "MINIMIZE" else -1.0))
    return list(_translated(trials, values, translation))


def _translated(
    trials: Sequence[FrozenTrial], values: Mapping[int, float], translation: Translation
) -> Iterator[Trial]:
    for trial in trials:
        remembered = _remembered(trial)
        enqueued = trial.system_attrs.get("fixed_params", {})
        try:
            params = translation.ours({**remembered.get("params", {}), **enqueued, **trial.params})
        except SpaceError:
            continue
        fits = remembered.get("space") == translation.space.fingerprint
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
            remembered["provenance"] if fits else {},
            0.0,
            None,
        )


def _outcomes(trials: Sequence[FrozenTrial], sign: float) -> Iterator[tuple[int, float]]:
    """Number and value of each trial to learn a value from, by the rules that BoSuiteSampler states."""
    complete = {t.number: t.value for t in trials if t.value is not None and math.isfinite(t.value)}
    yield from complete.items()
    ordered = sorted(complete.values(), key=lambda value: sign * value)
    for trial in trials:
        last = trial.last_step
        if trial.state == TrialState.PRUNED and last is not None and ordered:
            value = trial.intermediate_values[last]
            if math.isfinite(value):
                yield trial.number, sign * max(sign * value, sign * ordered[len(ordered) // 2])


def _constraints(trials: Sequence[FrozenTrial]) -> dict[int, list[float]]:
    """Constraint values by the number of a complete trial, NaN where not set; at most 0 is feasible."""
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    found = {trial.number: values for trial in complete if (values := _constraints_of(trial))}
    names = sorted({name for values in found.values() for name in values})
    return {number: [values.get(name, math.nan) for name in names] for number, values in found.items()}


def _constraints_of(trial: FrozenTrial) -> dict[str, float]:
    """Values by name, of `set_constraint` or the older `constraints_func`, within what a model can take."""
    attributes = trial.system_attrs
    found = {str(place): value for place, value in enumerate(attributes.get("constraints") or ())}
    for name, value in attributes.items():
        if name.startswith(_CONSTRAINT):
            found[name.removeprefix(_CONSTRAINT)] = value
    return {name: min(max(value, -_LARGEST), _LARGEST) for name, value in found.items()}


def _remember(
    study: "optuna.Study", trial: FrozenTrial, params: dict[str, Any], space: Space, proposal: Proposal
) -> None:
    """Stores a proposal with its trial, in as many attributes as it takes."""
    form = {"params": params, "space": space.fingerprint, "provenance": proposal.provenance}
    text = json.dumps(form)
    for place in range(0, len(text), _ATTRIBUTE_LENGTH):
        part = text[place : place + _ATTRIBUTE_LENGTH]
        key = f"{_PROPOSAL}:{place // _ATTRIBUTE_LENGTH}"
        study._storage.set_trial_system_attr(trial._trial_id, key, part)


def _remembered(trial: FrozenTrial) -> dict[str, Any]:
    """What was stored with a trial; nothing where that is not there, or not yet all of it."""
    parts: list[str] = []
    while (key := f"{_PROPOSAL}:{len(parts)}") in trial.system_attrs:
        parts.append(trial.system_attrs[key])
    try:
        found: dict[str, Any] = json.loads("".join(parts))
    except ValueError:
        return {}
    return found
