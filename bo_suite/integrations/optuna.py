"""Optuna: a sampler with the suggestions of an Optimizer, and an Optimizer from a study."""

import copy
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition
from bo_suite.acquisition.default import default_acquisition
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError, SpaceExhausted
from bo_suite.integrations.translate import Dimension, Translation
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.initial import initial_size
from bo_suite.study.suggest import Suggester, Suggestion, check_acquisition
from bo_suite.values.numbers import require_int

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as missing:
    raise ImportError(
        "BoSuiteSampler needs optuna, which `pip install 'bo-suite[optuna]'` brings"
    ) from missing

from bo_suite.integrations.optuna_cache import SEARCHED, StudyCaches, Translations
from bo_suite.integrations.optuna_import import from_optuna
from bo_suite.integrations.optuna_outcomes import goals_of
from bo_suite.integrations.optuna_pruner import BoSuitePruner, steps_of
from bo_suite.integrations.optuna_space import conditions_of, drawn
from bo_suite.integrations.optuna_tree import Evidence, Tree
from bo_suite.integrations.optuna_trials import (
    decided,
    fixed_values,
    left_out,
    let_pass,
    remember,
    remembered,
    to_distribution,
    unused,
    wait_for_earlier,
)

logger = logging.getLogger("bo_suite")

__all__ = ["BoSuitePruner", "BoSuiteSampler", "from_optuna"]

_ALONE = "value"
"""Name of a parameter that is drawn alone: a Space may refuse its own name."""


class BoSuiteSampler(optuna.samplers.BaseSampler):
    """An Optuna sampler that suggests what an `Optimizer` holding the study's trials would.

    How trials count:

    - complete trials count by their values; of several objectives one of infinite value was not measured;
    - pruned trials count by their last intermediate value, but no better than the median complete trial; if
      the pruner of the study is a BoSuitePruner, they and running ones count by their curves;
    - failed trials, trials with an infinite value and trials pruned before their first report count as
      failures, from which the probability of success is modelled;
    - values of `trial.set_constraint` count whatever becomes of the trial;
    - running trials are pending, by their whole point: it is stored before the objective starts;
    - trials without a point in the search space do not count: this is logged once, and their number is stored
      with each suggestion as `left_out`.

    A parameter that some trials lack is conditional if other parameters explain where it occurs: their values
    in its trials are not those in the others. Each trial may change what is inferred (`optuna_tree`). A
    parameter that nothing explains, or whose range has changed, is outside of the search space.

    Threads and processes take turns, in the order of the trials' numbers: no two propose the same point.
    Trial k draws its random numbers from (seed, k), in any thread or process. A parameter outside the search
    space is drawn uniformly on its scale; so are points once a finite space is exhausted. Values that
    `enqueue_trial` or a PartialFixedSampler fix are respected: the rest of the point is chosen given them.

    Args:
        acquisition: chooses the points; None for the Optimizer's default for these objectives.
        search_space: parameters that are searched jointly: a dict of Optuna distributions, or a Space, which
            may have conditions; None for those that the complete and pruned trials explain.
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
        self._warned: set[str] = set()
        self._warned_of_ignored = False
        self._studies = StudyCaches()
        ordered, distributions = frozenset[str](), None
        if not isinstance(search_space, Space):
            distributions = search_space
        else:
            _check_aspects(search_space)
            ordered = frozenset(n for n, p in search_space if not isinstance(p, Choice) or p.ordered)
            distributions = {name: to_distribution(parameter) for name, parameter in search_space}
        self._translations = Translations(ordered)
        self._given: Tree | None = None
        if distributions is not None:
            dimensions = self._translations.of(distributions).dimensions  # raises if it cannot be searched
            when = conditions_of(search_space, dimensions) if isinstance(search_space, Space) else {}
            self._given = Tree({name: copy.copy(distributions[name]) for name in dimensions}, when)

    def infer_relative_search_space(
        self, study: "optuna.Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are searched jointly, without those of a single value."""
        return {name: copy.copy(one) for name, one in self._tree(study).distributions.items()}

    def _tree(self, study: "optuna.Study") -> Tree:
        if self._given is not None:
            return self._given
        return self._studies.of(study).tree(study.get_trials(deepcopy=False), self._dimension)

    def _dimension(self, name: str, distribution: BaseDistribution) -> Dimension | None:
        """The dimension that a parameter is searched in, if any; warns if it has values that cannot be."""
        try:
            dimensions = self._translations.of({name: distribution}).dimensions
            if not dimensions:
                return None
            Space({name: dimensions[name].parameter})  # refuses some names
        except ValueError as error:
            self._warn(f"{error}; it is drawn at random")
            return None
        return dimensions[name]

    def before_trial(self, study: "optuna.Study", trial: FrozenTrial) -> None:
        """Propose the point of a trial, and store it for other workers before the trial runs."""
        tree = self._tree(study)
        if self._is_decided(study, trial, tree):
            let_pass(study, trial)
            return
        try:
            self._propose(study, trial, tree.distributions, self._translation(tree.distributions, tree))
        except BaseException:
            let_pass(study, trial)
            raise

    def _is_decided(self, study: "optuna.Study", trial: FrozenTrial, tree: Tree) -> bool:
        """Whether all parameters of the next point are fixed."""
        fixed = decided(study, trial)
        if not tree.when or tree.distributions.keys() <= fixed.keys():
            return tree.distributions.keys() <= fixed.keys()
        translation = self._translation(tree.distributions, tree)
        values, _ = fixed_values(fixed, tree.distributions, translation)
        return translation.space.conditions.complete(values)

    def sample_relative(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point stored with a trial, or a new one if the search space has changed."""
        asked, tree = set(search_space), self._tree(study)
        if fixed := decided(study, trial).keys() - asked:  # a PartialFixedSampler removes them
            inferred = tree.distributions.items()
            whole = {name: one for name, one in inferred if name in fixed or name in asked}
            search_space = {**whole, **search_space} if asked else {}
        translation = self._translation(search_space, tree)
        if not translation.dimensions:
            return dict(translation.constants)
        suggestion = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        if suggestion is None:
            params = self._propose(study, trial, search_space, translation)
        else:
            params = suggestion.params
        return {name: value for name, value in translation.theirs(params).items() if name in asked}

    def _propose(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
        translation: Translation,
    ) -> Params:
        """Choose the next point and store it with the trial, after the points of all earlier trials."""
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
            tree = self._tree(study)  # another one if a trial has ended meanwhile
            if translation is self._translation(tree.distributions, tree):
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
        size, steps = initial_size(None, space), steps_of(study, goals)
        suggester = self._studies.of(study).suggester(
            translation,
            Suggester(
                space,
                self._acquisition or default,
                self._seed,
                goals,
                size,
                max_step=None if steps is None else steps.last,
            ),
        )
        try:
            (suggestion,) = suggester.suggest(others, number=trial.number, fixed=fixed or None)
        except SpaceExhausted as error:
            logger.info("trial %d repeats a point at random: %s", trial.number, error)
            return Suggestion(self._drawn(space, trial, "point", fixed), {"source": "repeat"})
        return suggestion

    def sample_independent(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a value uniformly on the parameter's scale; take the centre for the first trial."""
        fits = self._dimension(param_name, param_distribution) is not None
        try:
            translation = self._translations.of({_ALONE: param_distribution})
        except ValueError:
            return drawn(param_distribution, self._uniform(1, trial, param_name).item())
        if not translation.dimensions:
            return translation.constants[_ALONE]
        tree, point = self._tree(study), dict[str, Any]()
        if param_name in tree.distributions:
            point = self._stored(study, trial, self._translation(tree.distributions, tree))
        elif fits and (seen := self._distributions(study, trial, param_name)):
            if self._given is None and all(one == param_distribution for one in seen):
                point = self._completed(study, trial, param_name)
            else:
                law = "only parameters of the search space, with the same range in all trials, are searched"
                self._warn(f"{law}: {param_name!r} is drawn at random")
        if param_name in point:
            with suppress(SpaceError):  # the range may have changed
                return translation.theirs(translation.ours({_ALONE: point[param_name]}))[_ALONE]
        return translation.theirs(self._drawn(translation.space, trial, param_name))[_ALONE]

    def _distributions(self, study: "optuna.Study", trial: FrozenTrial, name: str) -> list[BaseDistribution]:
        """The distributions of a parameter in the ended trials that have it."""
        others = study.get_trials(deepcopy=False, states=SEARCHED)
        return [other.distributions[name] for other in others if name in other.distributions]

    def _completed(self, study: "optuna.Study", trial: FrozenTrial, name: str) -> dict[str, Any]:
        """A point with a parameter that no others explain, given what the trial has asked for.

        It is chosen by the trials that have the parameter, and by what explains others among these.
        """
        evidence = Evidence()
        for other in study.get_trials(deepcopy=False, states=SEARCHED):
            if name in other.distributions:
                evidence.add(other, self._dimension)
        tree = evidence.tree()
        translation = self._translation(tree.distributions, tree)
        fixed, _ = fixed_values(decided(study, trial), tree.distributions, translation)
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        trials = self._studies.of(study).trials(others, translation, study)
        goals = goals_of(study, others)
        return translation.theirs(self._proposal(study, trial, translation, trials, goals, fixed).params)

    def _stored(self, study: "optuna.Study", trial: FrozenTrial, translation: Translation) -> dict[str, Any]:
        """Return the point stored with a trial, or an empty dict.

        Optuna refuses a value that floats round off the grid of its distribution.
        """
        suggestion = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        return {} if suggestion is None else translation.theirs(suggestion.params)

    def _drawn(self, space: Space, trial: FrozenTrial, purpose: str, fixed: Params | None = None) -> Params:
        """Draw a point uniformly, but for fixed values; take the centre for the first trial."""
        row = space.encoding.sample_from_unit(self._uniform(space.dim, trial, purpose))
        for name, value in (fixed or {}).items():
            row[:, space.names.index(name)] = space[name].encode(value)
        return space.decode(row)[0]

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

    def _translation(self, search_space: Mapping[str, BaseDistribution], tree: Tree) -> Translation:
        """The translation of a search space, with the conditions of a tree that it is a part of."""
        is_part = search_space.items() <= tree.distributions.items()
        return self._translations.of(search_space, tree.when if is_part else {})


def _check_aspects(space: Space) -> None:
    """Raise a ValueError if a space has what a study has not."""
    if space.fidelities:
        raise ValueError(f"a study has no fidelities, got a Space with {list(space.target_fidelity)}")
    if space.contexts:
        raise ValueError(f"a study has no contexts, got a Space with {list(space.contexts)}")
    if space.candidates is not None:
        raise ValueError(f"a study has no candidates, got a Space with {space.candidates}")
    if names := [name for name, one in space if isinstance(one, Choice) and one.descriptors]:
        raise ValueError(f"a study has no descriptors of options, got a Space with those of {names}")
    if space.constraints:
        law = "a study has no constraints among parameters: let its function prune what is not allowed"
        raise ValueError(f"{law}, got {space.constraints.form}")
