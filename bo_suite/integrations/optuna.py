"""Optuna: a sampler with the suggestions of an Optimizer, and an Optimizer from a study."""

import copy
import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition
from bo_suite.acquisition.default import default_acquisition
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError, SpaceExhausted, TrialError
from bo_suite.integrations.translate import Dimension, Translation, same
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals, Told
from bo_suite.storage.trial import Trial
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.suggest import Suggester, Suggestion, check_acquisition
from bo_suite.values.describe import described
from bo_suite.values.numbers import require_int

try:
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
    from optuna.search_space import intersection_search_space
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as missing:
    raise ImportError(
        "BoSuiteSampler needs optuna, which `pip install 'bo-suite[optuna]'` brings"
    ) from missing

from bo_suite.integrations.optuna_cache import StudyCaches, Translations
from bo_suite.integrations.optuna_outcomes import goals_of
from bo_suite.integrations.optuna_space import drawn
from bo_suite.integrations.optuna_trials import (
    decided,
    fixed_values,
    left_out,
    let_pass,
    remember,
    remembered,
    to_distribution,
    to_translation,
    to_trials,
    unused,
    wait_for_earlier,
)

logger = logging.getLogger("bo_suite")

_ALONE = "value"
"""Name of a parameter that is drawn alone: a Space may refuse its own name."""

_MOST_OPTIONS = 1000
"""Largest number of values of a stepped parameter that `from_optuna` lists."""


class BoSuiteSampler(optuna.samplers.BaseSampler):
    """An Optuna sampler that suggests what an `Optimizer` holding the study's trials would.

    How trials count:

    - complete trials count by their values; of several objectives one of infinite value was not measured;
    - pruned trials count by their last intermediate value, but no better than the median complete trial;
    - failed trials, trials with an infinite value and trials pruned before their first report count as
      failures, from which the probability of success is modelled;
    - values of `trial.set_constraint` count whatever becomes of the trial;
    - running trials are pending, by their whole point: it is stored before the objective starts;
    - trials without a point in the search space do not count: this is logged once, and their number is stored
      with each suggestion as `left_out`.

    Threads and processes take turns, in the order of the trials' numbers: no two propose the same point.
    Trial k draws its random numbers from (seed, k), in any thread or process. A parameter outside the search
    space is drawn uniformly on its scale; so are points once a finite space is exhausted. Values that
    `enqueue_trial` or a PartialFixedSampler fix are respected: the rest of the point is chosen given them.

    Args:
        acquisition: chooses the points; None for the Optimizer's default for these objectives.
        search_space: parameters that are searched jointly: a dict of Optuna distributions, or a Space; None
            for the parameters that all complete and pruned trials have in common.
        seed: of the random numbers; drawn if None.

    Raises:
        ValueError: the space cannot be searched, or the acquisition does not support several objectives or
            the constraints.
    """

    def __init__(
        self,
        acquisition: Acquisition | None = None,
        search_space: Mapping[str, BaseDistribution] | Space | None = None,
        seed: int | None = None,
    ) -> None:
        if acquisition is not None:
            check_acquisition(acquisition)
        self._acquisition = acquisition
        self._seed = secrets.randbits(62) if seed is None else require_int("seed", seed)
        self._ordered: set[str] = set()
        space = search_space
        self._warned: set[str] = set()
        self._warned_of_ignored = False
        self._studies = StudyCaches()
        if isinstance(space, Space):
            if space.fidelities:
                raise ValueError(f"a study has no fidelities, got a Space with {list(space.target_fidelity)}")
            if space.contexts:
                raise ValueError(f"a study has no contexts, got a Space with {list(space.contexts)}")
            if space.conditions.order:
                law = "a study gets conditional parameters from its function, not from a Space"
                raise ValueError(f"{law}, got conditions of {list(space.conditions.order)}")
            self._ordered = {name for name, p in space if not isinstance(p, Choice) or p.ordered}
            space = {name: to_distribution(parameter) for name, parameter in space}
        self._translations = Translations(frozenset(self._ordered))
        if space is not None:
            self._translation(space)  # raises now if it cannot be searched
        self._space = None if space is None else {name: copy.copy(one) for name, one in space.items()}

    def infer_relative_search_space(
        self, study: "optuna.Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are searched jointly, without those of a single value."""
        if self._space is not None:
            return {name: copy.copy(one) for name, one in self._space.items() if not one.single()}
        common = self._studies.of(study).search_space(study.get_trials(deepcopy=False))
        return {name: one for name, one in common.items() if not one.single() and self._fits(name, one)}

    def _fits(self, name: str, distribution: BaseDistribution) -> bool:
        """Whether a parameter can be searched, or has a single value; warns if it cannot."""
        try:
            for dimension in self._translation({name: distribution}).dimensions.values():
                Space({name: dimension.parameter})  # refuses some names
        except ValueError as error:
            self._warn(f"{error}; it is drawn at random")
            return False
        return True

    def before_trial(self, study: "optuna.Study", trial: FrozenTrial) -> None:
        """Propose the point of a trial, and store it for other workers before the trial runs."""
        search_space = self.infer_relative_search_space(study, trial)
        if search_space.keys() <= decided(study, trial).keys():
            let_pass(study, trial)
            return
        try:
            self._propose(study, trial, search_space)
        except BaseException:
            let_pass(study, trial)
            raise

    def sample_relative(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point stored with a trial, or a new one if the search space has changed."""
        asked = set(search_space)
        if fixed := decided(study, trial).keys() - asked:  # a PartialFixedSampler removes them
            inferred = self.infer_relative_search_space(study, trial)
            whole = {name: one for name, one in inferred.items() if name in fixed or name in asked}
            search_space = {**whole, **search_space} if asked else {}
        translation = self._translation(search_space)
        if not translation.dimensions:
            return dict(translation.constants)
        suggestion = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        params = self._propose(study, trial, search_space) if suggestion is None else suggestion.params
        return {name: value for name, value in translation.theirs(params).items() if name in asked}

    def _propose(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> Params:
        """Choose the next point and store it with the trial, after the points of all earlier trials."""
        translation = self._translation(search_space)
        fixed, beyond = fixed_values(decided(study, trial), search_space, translation)
        if beyond:
            self._warn(
                f"fixed values of {beyond} are out of range: others are chosen given the nearest values"
            )
        wait_for_earlier(study, trial)
        others, goals = self._other_trials(study, trial, translation)
        suggestion = self._proposal(study, trial, translation, others, goals, fixed)
        now, goals = self._other_trials(study, trial, translation)
        if len(now) > len(others):  # trials without a turn were added meanwhile
            suggestion = self._proposal(study, trial, translation, now, goals, fixed)
        if ignored := unused(study.get_trials(deepcopy=False), now):
            suggestion.provenance["left_out"] = len(ignored)
        remember(study, trial, translation.space, suggestion)
        return suggestion.params

    def _other_trials(
        self, study: "optuna.Study", trial: FrozenTrial, translation: Translation
    ) -> tuple[list[Trial], Goals]:
        """Translate all trials but one, and return their goals."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        trials = self._studies.of(study).trials(others, translation, study)
        if not trials and any(other.state == TrialState.COMPLETE for other in others):
            names = list(translation.dimensions)
            self._warn(f"no trial has the parameters that are searched, {names}, within their ranges")
        elif (ignored := unused(others, trials)) and not self._warned_of_ignored:
            self._warned_of_ignored = True
            logger.warning(left_out(ignored, len(others), translation))
        return trials, goals_of(study, others)

    def _proposal(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        translation: Translation,
        others: Sequence[Trial],
        goals: Goals,
        fixed: Params,
    ) -> Suggestion:
        """Choose a point given the other trials; repeat one at random if the space is exhausted."""
        space = translation.space
        default = default_acquisition(space.aspects | goals.aspects, len(goals.objectives))
        suggester = self._studies.of(study).suggester(
            translation, Suggester(space, self._acquisition or default, self._seed, goals)
        )
        try:
            (suggestion,) = suggester.suggest(others, number=trial.number, fixed=fixed or None)
        except SpaceExhausted as error:
            logger.info("trial %d repeats a point at random: %s", trial.number, error)
            return Suggestion({**self._drawn(space, trial, "point"), **fixed}, {"source": "repeat"})
        return suggestion

    def sample_independent(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a value uniformly on the parameter's scale; take the centre for the first trial."""
        started = any(other.state == TrialState.COMPLETE for other in study.get_trials(deepcopy=False))
        self._fits(param_name, param_distribution)
        search_space = self.infer_relative_search_space(study, trial)
        if started and param_name not in search_space:
            law = "only parameters that all trials have, with the same range, are searched jointly"
            self._warn(f"{law}: {param_name!r} is drawn at random (pass a `search_space` to search it)")
        try:
            translation = self._translation({_ALONE: param_distribution})
        except ValueError:
            return drawn(param_distribution, self._uniform(1, trial, param_name).item())
        if not translation.dimensions:
            return translation.constants[_ALONE]
        if param_name in search_space:
            with suppress(SpaceError):  # the range may have changed
                stored = self._stored(study, trial, search_space)
                point = {_ALONE: stored[param_name]} if param_name in stored else {}
                return translation.theirs(translation.ours(point))[_ALONE]
        return translation.theirs(self._drawn(translation.space, trial, param_name))[_ALONE]

    def _stored(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point stored with a trial, or an empty dict.

        Optuna refuses a value that floats round off the grid of its distribution.
        """
        translation = self._translation(search_space)
        suggestion = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        return {} if suggestion is None else translation.theirs(suggestion.params)

    def _drawn(self, space: Space, trial: FrozenTrial, purpose: str) -> Params:
        """Draw a point uniformly; take the centre for the first trial."""
        return space.decode(space.encoding.sample_from_unit(self._uniform(space.dim, trial, purpose)))[0]

    def _uniform(self, count: int, trial: FrozenTrial, purpose: str) -> Tensor:
        """Draw a row of uniform numbers; all are 0.5 for the first trial."""
        like = torch.empty(0, dtype=torch.float64, device="cpu")
        if trial.number == 0:
            return like.new_full((1, count), 0.5)
        return Seeds.of(self._seed, trial.number).split(f"independent {purpose}").uniform((1, count), like)

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message)

    def _translation(self, search_space: Mapping[str, BaseDistribution]) -> Translation:
        return self._translations.of(search_space)


def from_optuna(
    study: "optuna.Study",
    acquisition: Acquisition | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
) -> Optimizer:
    """Make an Optimizer with a study's trials, over the parameters that all of them have in common.

    Trials count as for BoSuiteSampler, except that running trials are ignored. Constraints have the
    interval (None, 0). Several objectives have the names of `study.set_metric_names`, or else "0", "1" and so
    on. Parameters with a step keep it. Everything that is left out is logged once.

    Args:
        study: with complete or pruned trials.
        acquisition: the Optimizer's.
        seed: the Optimizer's.
        storage: path of a file to create.

    Raises:
        ValueError: the study has no complete trial with a parameter, or the package has no counterpart of a
            parameter.
        TrialError: the storage has trials already.
    """
    trials = study.get_trials(deepcopy=False)
    goals = goals_of(study, trials)
    distributions = intersection_search_space(trials, include_pruned=True)
    translation = to_translation(distributions)
    if not translation.dimensions:
        raise ValueError("a study must have complete or pruned trials with a parameter in common, got none")
    dimensions = translation.dimensions
    space = Space({name: _parameter(name, one, distributions[name]) for name, one in dimensions.items()})
    optimizer = Optimizer(
        space, acquisition, seed, goals.direction, storage=storage, constraints=goals.limits
    )
    if optimizer.trials:
        optimizer.close()
        raise TrialError(f"a storage must be new to be filled from a study, got {storage} with trials in it")
    translated = to_trials(trials, translation, study)
    _log_left_out(trials, translated, translation)
    for trial in translated:
        params = {name: dimension.theirs(trial.params[name]) for name, dimension in dimensions.items()}
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
    constants = translation.constants
    others = {name for trial in trials for name in trial.params} - translation.dimensions.keys()
    texts = []
    if varying := sorted(others - constants.keys()):
        texts.append(f"parameters {varying}, which not all trials have with the same range")
    if constants:
        texts.append(f"parameters of a single value, {described(dict(constants))}")
    if ignored := unused(trials, translated):
        texts.append(left_out(ignored, len(trials), translation))
    if running := sum(not trial.state.is_finished() for trial in trials):
        texts.append(f"{running} trials that have not ended")
    if texts:
        logger.warning("left out of the study: %s", "; ".join(texts))


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
