"""What a sampler keeps of its studies from one trial to the next: a finished trial never changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from bo_suite.integrations.optuna_trials import to_translation, translated, values_of
from bo_suite.integrations.translate import Translation
from bo_suite.storage.trial import Trial
from bo_suite.study.suggest import Suggester

_LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials whose parameters are searched."""

_MOST_TRANSLATIONS = 32


class Translations:
    """Search spaces in our terms, each translated once; copies and pickles hold none.

    Args:
        ordered: names of categories that lie on a line.
    """

    def __init__(self, ordered: frozenset[str]) -> None:
        self._ordered = ordered
        self._found: dict[str, tuple[dict[str, BaseDistribution], Translation]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Translations, (self._ordered,)

    def of(self, search_space: Mapping[str, BaseDistribution]) -> Translation:
        """The translation, the same object for equal search spaces.

        Raises:
            ValueError: no dict of distributions, or a distribution that cannot be searched.
        """
        name = repr(search_space)  # by which 1 and True differ, which are equal
        before = self._found.get(name)
        if before is not None and before[0] == search_space:
            return before[1]
        translation = to_translation(search_space, self._ordered)
        if len(self._found) >= _MOST_TRANSLATIONS:
            self._found = {}
        self._found[name] = dict(search_space), translation
        return translation


class KnownStudies:
    """What is known of each study that a sampler serves; copies and pickles know none."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[Any, dict[int, KnownStudy]] = WeakKeyDictionary()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return KnownStudies, ()

    def of(self, study: "optuna.Study") -> "KnownStudy":
        """What is known of a study."""
        with self._lock:
            return self._of.setdefault(study._storage, {}).setdefault(study._study_id, KnownStudy())


class KnownStudy:
    """What is known of a study; threads may share it."""

    def __init__(self) -> None:
        self._common: tuple[dict[int, Any], dict[str, BaseDistribution]] = ({}, {})
        self._translated: _Translated | None = None

    def search_space(self, trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
        """The parameters that all complete and pruned ones of the trials have in common."""
        counted, common = self._common
        ended = {trial.number: trial for trial in trials if trial.state in _LEARNT_FROM}
        stamps = {number: _stamp(trial) for number, trial in ended.items()}
        fresh = [trial for number, trial in ended.items() if number not in counted]
        if not counted or counted.items() - stamps.items():  # others, as of another bracket of Hyperband
            common = intersection_search_space(list(ended.values()), include_pruned=True)
        elif fresh:
            more = intersection_search_space(fresh, include_pruned=True)
            common = {name: one for name, one in more.items() if common.get(name) == one}
        self._common = stamps, common
        return dict(common)

    def trials(
        self, trials: Sequence[FrozenTrial], translation: Translation, study: "optuna.Study"
    ) -> list[Trial]:
        """What `to_trials` makes of the trials."""
        return self._in(translation).trials(trials, study)

    def suggester(self, translation: Translation, suggester: Suggester) -> Suggester:
        """A suggester equal to the one given, with the rows of trials that it has encoded before."""
        there = self._in(translation)
        if there.suggester != suggester:
            there.suggester = suggester
        return there.suggester or suggester

    def _in(self, translation: Translation) -> "_Translated":
        there = self._translated
        if there is None or there.translation is not translation:
            there = self._translated = _Translated(translation)
        return there


@dataclass
class _Translated:
    """Trials of one study in one search space.

    Attributes:
        translation: to that space.
        found: the trial of each finished one that was translated, by its number: None of one left out.
        suggester: that has encoded them.
    """

    translation: Translation
    found: dict[int, tuple[Any, Trial | None]] = field(default_factory=dict)
    suggester: Suggester | None = None

    def trials(self, trials: Sequence[FrozenTrial], study: "optuna.Study") -> list[Trial]:
        values = values_of(trials, study)
        return [one for trial in trials if (one := self._one(trial, values)) is not None]

    def _one(self, trial: FrozenTrial, values: Mapping[int, float]) -> Trial | None:
        stamp, value = _stamp(trial), values.get(trial.number)
        before, found = self.found.get(trial.number, (None, None))
        if before == stamp and (found is None or found.value == value):  # one pruned gets another value
            return found
        if before is not None and before != stamp:
            self.suggester = None  # it holds the rows of a study that was deleted
        found = next(translated([trial], values, self.translation), None)
        if trial.state.is_finished():
            self.found[trial.number] = stamp, found
        return found


def _stamp(trial: FrozenTrial) -> tuple[Any, ...]:
    """What no two trials have in common, though a study be deleted and another get its id."""
    return trial._trial_id, trial.datetime_start, trial.datetime_complete
