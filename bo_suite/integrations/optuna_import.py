"""An Optimizer from the trials of an Optuna study."""

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from bo_suite.acquisition import Acquisition
from bo_suite.errors import SpaceError, TrialError
from bo_suite.integrations.optuna_cache import StudyCache
from bo_suite.integrations.optuna_outcomes import goals_of
from bo_suite.integrations.optuna_trials import left_out, to_translation, to_trials, unused
from bo_suite.integrations.translate import Dimension, Translation, same
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Space
from bo_suite.space.when import Accepted, Interval, When
from bo_suite.storage.addresses import Location
from bo_suite.storage.goals import Told
from bo_suite.storage.paths import storage_place
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.values.describe import described

logger = logging.getLogger("bo_suite")

_MOST_OPTIONS = 1000
"""Largest number of values of a stepped parameter that `from_optuna` lists."""


def from_optuna(
    study: "optuna.Study",
    acquisition: Acquisition | None = None,
    seed: int = 0,
    storage: Location | None = None,
) -> Optimizer:
    """Make an Optimizer with a study's trials, over the parameters that all of them have or explain.

    Parameters are conditional and trials count as for BoSuiteSampler, except that running trials are ignored.
    Constraints have the interval (None, 0). Several objectives have the names of `study.set_metric_names`, or
    else "0", "1" and so on. Parameters with a step keep it. Everything that is left out is logged once.

    Args:
        study: with complete or pruned trials.
        acquisition: the Optimizer's.
        seed: the Optimizer's.
        storage: path of a file to create, or the address of a run in a database.

    Raises:
        ValueError: the study has no complete trial with a parameter, or the package has no counterpart of a
            parameter.
        TrialError: the storage has trials already.
    """
    trials = study.get_trials(deepcopy=False)
    goals = goals_of(study, trials)
    tree = StudyCache().tree(trials, lambda name, one: to_translation({name: one}).dimensions.get(name))
    translation = to_translation(tree.distributions, when=tree.when)
    if not translation.dimensions:
        raise ValueError("a study must have complete or pruned trials with a parameter in common, got none")
    space = _space(translation, tree.distributions)
    optimizer = Optimizer(
        space, acquisition, seed, goals.direction, storage=storage, constraints=goals.limits
    )
    if optimizer.trials:
        optimizer.close()
        place = storage_place(storage)
        raise TrialError(f"a storage must be new to be filled from a study, got {place} with trials in it")
    translated = to_trials(trials, translation, study)
    _log_left_out(trials, translated, translation)
    for trial in translated:
        params = translation.theirs(trial.params)
        if trial.state == "finished":
            optimizer.add(params, _told(trial))
        elif trial.state == "failed":
            optimizer.add_failed(params, trial.reason or "failed")
    return optimizer


def _told(trial: Trial) -> Told:
    """The outcome of a finished trial, as a user tells it."""
    if trial.outcomes is None:
        return cast(float, trial.value)
    return {name: math.nan if value is None else value for name, value in trial.outcomes.items()}


def _log_left_out(
    trials: Sequence[FrozenTrial], translated: Sequence[Trial], translation: Translation
) -> None:
    """Log which parameters and how many trials of a study are left out."""
    constants = {
        name: trial.params[name]
        for trial in trials
        for name, distribution in trial.distributions.items()
        if distribution.single()
    }
    others = {name for trial in trials for name in trial.params} - translation.dimensions.keys()
    texts = []
    if varying := sorted(others - constants.keys()):
        texts.append(f"parameters {varying}, whose range has changed, or which only some trials have")
    if constants:
        texts.append(f"parameters of a single value, {described(constants)}")
    if ignored := unused(trials, translated):
        texts.append(left_out(ignored, len(trials), translation))
    if running := sum(not trial.state.is_finished() for trial in trials):
        texts.append(f"{running} trials that have not ended")
    if texts:
        logger.warning("left out of the study: %s", "; ".join(texts))


def _space(translation: Translation, distributions: Mapping[str, BaseDistribution]) -> Space:
    """The space with the values of the distributions, and conditions in these values."""
    dimensions = translation.dimensions
    parameters = {name: _parameter(name, one, distributions[name]) for name, one in dimensions.items()}
    for name, dimension in dimensions.items():
        if dimension.parameter.when is not None:
            when = {
                parent: _theirs(
                    When.of(dimension.parameter.when)[parent], dimensions[parent], parameters[parent]
                )
                for parent in dimension.parameter.when
            }
            parameters[name] = replace(parameters[name], when=when)
    return Space(parameters)


def _theirs(accepted: Accepted, dimension: Dimension, parameter: Parameter) -> object:
    """What a condition accepts of a dimension, in the values of its parameter."""
    if not isinstance(accepted, Interval):
        return [dimension.theirs(value) for value in accepted]
    if isinstance(parameter, Choice):
        return [dimension.theirs(level) for level in range(int(accepted.low), int(accepted.high) + 1)]
    return tuple(map(dimension.theirs, accepted))


def _parameter(name: str, dimension: Dimension, distribution: BaseDistribution) -> Parameter:
    """Return the parameter with the values of a dimension, which is that of a distribution.

    Raises:
        ValueError: no parameter has them.
    """
    parameter = dimension.parameter
    if dimension.theirs is same:
        return parameter
    with suppress(SpaceError):
        if isinstance(distribution, IntDistribution):
            return Int(distribution.low, distribution.high, distribution.log, distribution.step)
        if isinstance(distribution, FloatDistribution) and distribution.step is not None:
            return Float(distribution.low, distribution.high, step=distribution.step)
    if isinstance(parameter, Float):
        raise ValueError(f"{name!r} must be a Float or an Int within 2**53, got one with a larger range")
    levels = parameter.levels
    if levels > _MOST_OPTIONS:
        raise ValueError(f"{name!r} must have at most {_MOST_OPTIONS} steps, got {levels}")
    first = parameter.low if isinstance(parameter, Int) else 0
    options = tuple(dimension.theirs(level) for level in range(first, first + levels))
    try:
        return Choice(options, ordered=isinstance(parameter, Int))
    except SpaceError as error:
        raise ValueError(f"parameter {name!r} cannot be in a Space: {error}") from error
