"""Optuna: our suggestions as one of its samplers, and its studies as data of ours."""

import copy
import logging
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bo_suite.acquisition import Acquisition
from bo_suite.acquisition.default import default_acquisition
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError, SpaceExhausted, TrialError
from bo_suite.integrations.translate import Dimension, Translation, same
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.storage.trial import Trial, whole_number
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.suggest import Suggester, Suggestion, check_acquisition
from bo_suite.values.describe import described

try:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.search_space import intersection_search_space
    from optuna.trial import FrozenTrial, TrialState
except ModuleNotFoundError as missing:
    raise ImportError(
        "BoSuiteSampler needs optuna, which `pip install 'bo-suite[optuna]'` brings"
    ) from missing

from bo_suite.integrations.optuna_known import KnownStudies, Translations
from bo_suite.integrations.optuna_space import drawn
from bo_suite.integrations.optuna_trials import (
    constraints_by_number,
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
"""What a parameter that is drawn by itself is called, whose own name may be none of a Space."""

_MOST_OPTIONS = 1000
"""Values of a stepped parameter up to which `from_optuna` lists them."""


class BoSuiteSampler(optuna.samplers.BaseSampler):
    """An Optuna sampler: asks as an `Optimizer` does that knows the trials of the study.

    How trials count:

    - complete ones by their value, and by those of their constraints where these were set
      (`trial.set_constraint`);
    - pruned ones by their last intermediate value, but no better than the median complete one;
    - failed ones, those of infinite value, and those pruned before they reported a value, as failures,
      from which the probability of success is modelled;
    - running ones as pending, by their whole point: it is in the study before the objective starts;
    - those without a point in the space that is searched not at all: that is logged once, and their number is
      stored with each proposal as `left_out`.

    Threads and processes take turns, in the order of the trials' numbers: no two propose the same point.
    Trial k draws its random numbers from (seed, k), whatever the thread or process. A parameter outside the
    search space is drawn uniformly on its scale; so are points once a finite space has no new one. What a
    trial has whatever is proposed, by `enqueue_trial` in part or by a PartialFixedSampler, is taken as given:
    the rest of its point is chosen for it.

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
        if acquisition is not None:
            check_acquisition(acquisition)
        self._acquisition = acquisition
        self._seed = secrets.randbits(62) if seed is None else whole_number("seed", seed)
        self._ordered: set[str] = set()
        given = search_space
        self._warned: set[str] = set()
        self._said_left_out = False
        self._studies = KnownStudies()
        if isinstance(given, Space):
            if given.fidelities:
                raise ValueError(f"a study has no fidelities, got a Space with {list(given.target_fidelity)}")
            self._ordered = {name for name, p in given if isinstance(p, Choice) and p.ordered}
            given = {name: to_distribution(parameter) for name, parameter in given}
        self._translations = Translations(frozenset(self._ordered))
        if given is not None:
            self._translation(given)  # to refuse now what cannot be searched
        self._given = None if given is None else {name: copy.copy(one) for name, one in given.items()}

    def infer_relative_search_space(
        self, study: "optuna.Study", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What is searched jointly, parameters of a single value left out."""
        if self._given is not None:
            return {name: copy.copy(given) for name, given in self._given.items() if not given.single()}
        found = self._studies.of(study).search_space(study.get_trials(deepcopy=False))
        return {
            name: given for name, given in found.items() if not given.single() and self._fits(name, given)
        }

    def _fits(self, name: str, distribution: BaseDistribution) -> bool:
        """Whether a parameter can be searched, or has a single value; says it where it cannot."""
        try:
            for dimension in self._translation({name: distribution}).dimensions.values():
                Space({name: dimension.parameter})  # which refuses some names
        except ValueError as error:
            self._warn(f"{error}; it is drawn at random")
            return False
        return True

    def before_trial(self, study: "optuna.Study", trial: FrozenTrial) -> None:
        """Proposes the point of a trial and stores it, so that other workers know it while the trial runs."""
        if len(study.directions) == 1:
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
        """The point that is stored with a trial; a new one where that is of another search space."""
        self._raise_error_if_multi_objective(study)
        asked = set(search_space)
        if fixed := decided(study, trial).keys() - asked:  # as a PartialFixedSampler takes them out
            inferred = self.infer_relative_search_space(study, trial)
            whole = {name: one for name, one in inferred.items() if name in fixed or name in asked}
            search_space = {**whole, **search_space} if asked else {}
        translation = self._translation(search_space)
        if not translation.dimensions:
            return dict(translation.constants)
        proposal = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        params = self._propose(study, trial, search_space) if proposal is None else proposal.params
        return {name: value for name, value in translation.theirs(params).items() if name in asked}

    def _propose(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> Params:
        """The next point, stored with the trial once those of all trials begun before it are."""
        translation = self._translation(search_space)
        fixed, beyond = fixed_values(decided(study, trial), search_space, translation)
        if beyond:
            self._warn(f"fixed values of {beyond} are out of range: others are chosen as for the nearest")
        wait_for_earlier(study, trial)
        known = self._known(study, trial, translation)
        proposal = self._proposal(study, trial, translation, known, fixed)
        now = self._known(study, trial, translation)
        if len(now) > len(known):  # trials that took no turn were added meanwhile
            proposal = self._proposal(study, trial, translation, now, fixed)
        if lost := unused(study.get_trials(deepcopy=False), now):
            proposal.provenance["left_out"] = len(lost)
        remember(study, trial, translation.space, proposal)
        return proposal.params

    def _known(self, study: "optuna.Study", trial: FrozenTrial, translation: Translation) -> list[Trial]:
        """The other trials as ours."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        known = self._studies.of(study).trials(others, translation, study)
        if not known and any(other.state == TrialState.COMPLETE for other in others):
            names = list(translation.dimensions)
            self._warn(f"no trial has the parameters that are searched, {names}, within their ranges")
        elif (lost := unused(others, known)) and not self._said_left_out:
            self._said_left_out = True
            logger.warning(left_out(lost, len(others), translation))
        return known

    def _proposal(
        self,
        study: "optuna.Study",
        trial: FrozenTrial,
        translation: Translation,
        known: Sequence[Trial],
        fixed: Params,
    ) -> Suggestion:
        space = translation.space
        limits = constraints_by_number(study.get_trials(deepcopy=False))
        default = default_acquisition(space.aspects | ({"constraints"} if limits else set()))
        suggester = self._studies.of(study).suggester(
            translation,
            Suggester(space, self._acquisition or default, self._seed, study.direction.name.lower()),
        )
        try:
            (suggestion,) = suggester.suggest(
                known, number=trial.number, constraints=limits, fixed=fixed or None
            )
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
        """A value drawn uniformly on the parameter's scale; the centre for the first trial."""
        self._raise_error_if_multi_objective(study)
        started = any(other.state == TrialState.COMPLETE for other in study.get_trials(deepcopy=False))
        self._fits(param_name, param_distribution)
        search_space = self.infer_relative_search_space(study, trial)
        if started and param_name not in search_space:
            law = "only what all trials have, with the same range, is searched jointly"
            self._warn(f"{law}: {param_name!r} is drawn at random (a `search_space` can be given)")
        try:
            translation = self._translation({_ALONE: param_distribution})
        except ValueError:
            return drawn(param_distribution, self._uniform(1, trial, param_name).item())
        if not translation.dimensions:
            return translation.constants[_ALONE]
        if param_name in search_space:
            with suppress(SpaceError):  # as of a range that has changed
                stored = self._stored(study, trial, search_space)
                point = {_ALONE: stored[param_name]} if param_name in stored else {}
                return translation.theirs(translation.ours(point))[_ALONE]
        return translation.theirs(self._drawn(translation.space, trial, param_name))[_ALONE]

    def _stored(
        self, study: "optuna.Study", trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point that is stored with a trial, empty if there is none.

        Optuna takes a value for none of its distribution where floats round it off the grid.
        """
        translation = self._translation(search_space)
        proposal = remembered(study._storage.get_trial(trial._trial_id), translation.space)
        return {} if proposal is None else translation.theirs(proposal.params)

    def _drawn(self, space: Space, trial: FrozenTrial, purpose: str) -> Params:
        """A point drawn uniformly; the centre for the first trial."""
        return space.decode(space.encoding.sample_from_unit(self._uniform(space.dim, trial, purpose)))[0]

    def _uniform(self, count: int, trial: FrozenTrial, purpose: str) -> Tensor:
        """A row of uniform draws; the centre for the first trial."""
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
    """An Optimizer that starts from a study's trials, over the parameters that all of these have in common.

    Trials count as they do for BoSuiteSampler; but infeasible ones as failed, and running ones are left out.
    Parameters with a step become a Choice of their values, in order. What is left out is logged once.

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
    there = to_translation(intersection_search_space(trials, include_pruned=True))
    if not there.dimensions:
        raise ValueError("a study must have complete or pruned trials with a parameter in common, got none")
    space = Space({name: _named(name, dimension) for name, dimension in there.dimensions.items()})
    optimizer = Optimizer(space, acquisition, seed, study.direction.name.lower(), storage=storage)
    if optimizer.trials:
        optimizer.close()
        raise TrialError(f"a storage must be new to be filled from a study, got {storage} with trials in it")
    limits = constraints_by_number(trials)
    known = to_trials(trials, there, study)
    _log_left_out(trials, known, there)
    for trial in known:
        params = {name: dimension.theirs(trial.params[name]) for name, dimension in there.dimensions.items()}
        if any(value > 0.0 for value in limits.get(trial.id, ())):
            optimizer.add_failed(params, "infeasible")
        elif trial.value is not None:
            optimizer.add(params, trial.value)
        elif trial.state == "failed":
            optimizer.add_failed(params, trial.reason or "failed")
    return optimizer


def _log_left_out(trials: Sequence[FrozenTrial], known: Sequence[Trial], there: Translation) -> None:
    """Logs once which parameters and how many trials of a study are not taken over."""
    others = {name for trial in trials for name in trial.params} - there.dimensions.keys()
    texts = []
    if some := sorted(others - there.constants.keys()):
        texts.append(f"parameters {some}, which not all trials have with the same range")
    if there.constants:
        texts.append(f"parameters of a single value, {described(dict(there.constants))}")
    if lost := unused(trials, known):
        texts.append(left_out(lost, len(trials), there))
    if running := sum(not trial.state.is_finished() for trial in trials):
        texts.append(f"{running} trials that have not ended")
    if texts:
        logger.warning("of the study is left out: %s", "; ".join(texts))


def _named(name: str, dimension: Dimension) -> Parameter:
    """The parameter whose values are those of a distribution.

    Raises:
        ValueError: there is none.
    """
    parameter = dimension.parameter
    if dimension.theirs is same:
        return parameter
    if isinstance(parameter, Float):
        raise ValueError(f"{name!r} must be a Float or an Int within 2**53, got one with a larger range")
    levels = parameter.levels
    if levels > _MOST_OPTIONS:
        raise ValueError(f"{name!r} must have at most {_MOST_OPTIONS} steps, got {levels}")
    first = parameter.low if isinstance(parameter, Int) else 0
    options = tuple(dimension.theirs(place) for place in range(first, first + levels))
    try:
        return Choice(options, ordered=isinstance(parameter, Int))
    except SpaceError as error:
        raise ValueError(f"parameter {name!r} cannot be one of a Space: {error}") from error
