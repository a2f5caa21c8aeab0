"""Results of translating studies, cached between trials: a finished trial never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from bo_suite.integrations.optuna_curves import Steps
from bo_suite.integrations.optuna_outcomes import Measured, goals_of, measured_by_number
from bo_suite.integrations.optuna_pruner import steps_of
from bo_suite.integrations.optuna_tree import DimensionOf, Evidence, Tree
from bo_suite.integrations.optuna_trials import to_translation, translated
from bo_suite.integrations.translate import Translation
from bo_suite.space.when import When
from bo_suite.storage.trial import Trial
from bo_suite.study.suggest import Suggester

SEARCHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials whose parameters are searched."""

_MOST_TRANSLATIONS = 32
_MOST_SPACES = 4

_ALWAYS: Mapping[str, When] = MappingProxyType({})


class Translations:
    """Cached translations of search spaces. Copies and pickles start empty.

    Args:
        ordered: names of parameters with ordered categories.
    """

    def __init__(self, ordered: frozenset[str]) -> None:
        self._ordered = ordered
        self._cache: dict[str, tuple[dict[str, BaseDistribution], Translation]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Translations, (self._ordered,)

    def of(
        self, search_space: Mapping[str, BaseDistribution], when: Mapping[str, When] = _ALWAYS
    ) -> Translation:
        """Return the translation, the same object for equal search spaces with equal conditions.

        Raises:
            ValueError: it is no dict of distributions, or a distribution cannot be searched.
        """
        name = repr((search_space, dict(when)))  # 1 and True are equal, and differ in their repr
        cached = self._cache.get(name)
        if cached is not None and cached[0] == search_space:
            return cached[1]
        translation = to_translation(search_space, self._ordered, when)
        if len(self._cache) >= _MOST_TRANSLATIONS:
            self._cache = {}
        self._cache[name] = dict(search_space), translation
        return translation


class StudyCaches:
    """A cache for each study that a sampler serves. Copies and pickles start empty."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Any, dict[int, StudyCache]] = WeakKeyDictionary()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return StudyCaches, ()

    def of(self, study: "optuna.Study") -> "StudyCache":
        """Return the cache of a study."""
        with self._lock:
            return self._of.setdefault(study._storage, {}).setdefault(study._study_id, StudyCache())


class StudyCache:
    """The cache of one study; threads may share it."""

    def __init__(self) -> None:
        self._shown: tuple[dict[int, Any], Evidence, Tree] = ({}, Evidence(), Tree())
        self._lock = Lock()
        self._translated: tuple[_Translated, ...] = ()

    def tree(self, trials: Sequence[FrozenTrial], dimension_of: DimensionOf) -> Tree:
        """Return the parameters that the complete and pruned trials show to be searched."""
        ended = {trial.number: trial for trial in trials if trial.state in SEARCHED}
        stamps = {number: _stamp(trial) for number, trial in ended.items()}
        with self._lock:
            counted, evidence, tree = self._shown
            if counted.items() - stamps.items():  # other trials: another bracket of Hyperband
                counted, evidence = {}, Evidence()
            for number, trial in ended.items():
                if number not in counted:
                    evidence.add(trial, dimension_of)
            if counted != stamps:
                tree = evidence.tree()
            self._shown = stamps, evidence, tree
        return tree

    def trials(
        self, trials: Sequence[FrozenTrial], translation: Translation, study: "optuna.Study"
    ) -> list[Trial]:
        """Return `to_trials(trials, translation, study)`; with their curves beside a BoSuitePruner."""
        return self._in(translation).trials(trials, study)

    def suggester(self, translation: Translation, suggester: Suggester) -> Suggester:
        """Return an equal suggester that has encoded earlier trials, if there is one."""
        cached = self._in(translation)
        if cached.suggester != suggester:
            cached.suggester = suggester
        return cached.suggester or suggester

    def _in(self, translation: Translation) -> "_Translated":
        for cached in self._translated:
            if cached.translation is translation:
                return cached
        new = _Translated(translation)
        self._translated = (new, *self._translated[: _MOST_SPACES - 1])
        return new


@dataclass
class _Translated:
    """Trials of one study in one search space.

    Attributes:
        translation: to that space.
        steps: how steps are counted, if the trials have curves.
        finished: stamp and translation of each finished trial, by number; None if it was left out.
        suggester: the suggester that has encoded them.
    """

    translation: Translation
    steps: Steps | None = None
    finished: dict[int, tuple[Any, Trial | None]] = field(default_factory=dict)
    suggester: Suggester | None = None

    def trials(self, trials: Sequence[FrozenTrial], study: "optuna.Study") -> list[Trial]:
        goals = goals_of(study, trials)
        if (steps := steps_of(study, goals)) != self.steps:
            self.steps, self.finished = steps, {}
        measured = measured_by_number(trials, goals)
        return [one for trial in trials if (one := self._one(trial, measured)) is not None]

    def _one(self, trial: FrozenTrial, measured: Mapping[int, Measured]) -> Trial | None:
        stamp, outcome = _stamp(trial), measured.get(trial.number)
        cached_stamp, cached = self.finished.get(trial.number, (None, None))
        learnt = cached is None or self.steps is not None or _has(cached, outcome)
        if cached_stamp == stamp and learnt:  # that of a trial with a curve never changes
            return cached
        if cached_stamp is not None and cached_stamp != stamp:
            self.suggester = None  # it holds the rows of a deleted study
        translation = next(translated([trial], measured, self.translation, self.steps), None)
        if trial.state.is_finished():
            self.finished[trial.number] = stamp, translation
        return translation


def _has(trial: Trial, outcome: Measured | None) -> bool:
    """Whether a trial has the outcome: that of a pruned one changes, the first constraint gives all names."""
    if outcome is None:
        return trial.state == "failed"
    return trial.value == outcome.value and trial.outcomes == outcome.outcomes


def _stamp(trial: FrozenTrial) -> tuple[Any, ...]:
    """Differs between any two trials, even if a study is deleted and another gets its id."""
    return trial._trial_id, trial.datetime_start, trial.datetime_complete
