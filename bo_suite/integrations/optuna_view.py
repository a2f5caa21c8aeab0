"""A history as a read-only Optuna study, for optuna-dashboard and Optuna's plots."""

import copy
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import optuna

from bo_suite.errors import SpaceError
from bo_suite.integrations.optuna_trials import to_distribution
from bo_suite.space.parameters import Choice, Int, Parameter, Value
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header, Trial

_STUDY_ID = 0

_STATES = {
    "running": optuna.trial.TrialState.RUNNING,
    "finished": optuna.trial.TrialState.COMPLETE,
    "failed": optuna.trial.TrialState.FAIL,
    "withdrawn": optuna.trial.TrialState.FAIL,
}


def to_study(path: str | Path) -> "optuna.Study":
    """Open a history file as a read-only Optuna study, which follows the file as it grows.

    Raises:
        StorageError: the file is missing, or is no history.
    """
    storage = HistoryStorage(path)
    return optuna.load_study(study_name=storage.get_study_name_from_id(_STUDY_ID), storage=storage)


class HistoryStorage(optuna.storages.BaseStorage):
    """A history file as a read-only Optuna storage with one study.

    It follows the file: new trials, amended and forgotten ones, and changes of the space.
    `optuna_dashboard.run_server(HistoryStorage("run.db"))` shows a run while it proceeds.

    Args:
        path: the file; the study is named after it, without the suffix.

    Raises:
        StorageError: the file is missing, or is no history.
        RuntimeError: a method that writes was called.
    """

    def __init__(self, path: str | Path) -> None:
        self._history = History.open(path, None)
        self._name = Path(path).stem
        self._direction = optuna.study.StudyDirection[
            self._history.header.goals.objectives[0].direction.upper()
        ]
        self._latest: tuple[Header, dict[str, Any]] | None = None

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the study's id.

        Raises:
            KeyError: the study has another name.
        """
        if study_name != self._name:
            raise KeyError(f"the study must be {self._name!r}, got {study_name!r}")
        return _STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the study's name."""
        self._check(study_id)
        return self._name

    def get_study_directions(self, study_id: int) -> "list[optuna.study.StudyDirection]":
        """Return a list of the only direction."""
        self._check(study_id)
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the seed, by name."""
        self._check(study_id)
        return {"seed": self._history.header.seed}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return an empty dict."""
        self._check(study_id)
        return {}

    def get_all_studies(self) -> "list[optuna.study._frozen.FrozenStudy]":
        """Return a list of the only study."""
        directions = self.get_study_directions(_STUDY_ID)
        seed = self.get_study_user_attrs(_STUDY_ID)
        return [
            optuna.study._frozen.FrozenStudy(self._name, None, seed, {}, _STUDY_ID, directions=directions)
        ]

    def get_trial(self, trial_id: int) -> "optuna.trial.FrozenTrial":
        """Return a trial by its id.

        Raises:
            KeyError: the study has no such trial.
        """
        trial = self._history.trial(trial_id)
        if trial is None:
            raise KeyError(
                f"a trial must be one of the {len(self._history.trials())} of the study, got {trial_id}"
            )
        return self._frozen(trial, copy.deepcopy(self._distributions(self._history.trials())))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: "Container[optuna.trial.TrialState] | None" = None,
    ) -> "list[optuna.trial.FrozenTrial]":
        """Return all trials, or those in some states; without `deepcopy` they share distributions."""
        self._check(study_id)
        own = copy.deepcopy if deepcopy else copy.copy
        trials = self._history.trials()
        distributions = self._distributions(trials)
        frozen = [self._frozen(trial, own(distributions)) for trial in trials]
        return [trial for trial in frozen if states is None or trial.state in states]

    def _distributions(self, trials: Sequence[Trial]) -> dict[str, Any]:
        """Distributions by name, of the space as it was last read; they contain trials outside of it too.

        Optuna compares trials by their distributions, so all trials have the same.
        """
        header = self._history.header
        if self._latest is None or self._latest[0] is not header:
            points = [trial.params for trial in trials] if header.since else []
            distributions = {
                name: to_distribution(_containing(parameter, [point[name] for point in points]))
                for name, parameter in header.space
            }
            self._latest = header, distributions
        return self._latest[1]

    def _check(self, study_id: int) -> None:
        if study_id != _STUDY_ID:
            raise KeyError(f"the study's id must be {_STUDY_ID}, got {study_id}")

    def _frozen(self, trial: Trial, distributions: dict[str, Any]) -> "optuna.trial.FrozenTrial":
        attributes = {
            "std": trial.std,
            "reason": trial.reason,
            "attempt": trial.attempt,
            "source": trial.provenance.get("source", "added"),
            "transient": trial.transient or None,
            "withdrawn": trial.state == "withdrawn" or None,
            "outside": not self._history.header.space.contains(trial.params) or None,
        }
        return optuna.trial.FrozenTrial(
            number=trial.id,
            state=_STATES[trial.state],
            value=trial.value,
            datetime_start=datetime.fromtimestamp(trial.started),
            datetime_complete=None if trial.ended is None else datetime.fromtimestamp(trial.ended),
            params=dict(trial.params),
            distributions=distributions,
            user_attrs={name: value for name, value in attributes.items() if value is not None},
            system_attrs={},
            intermediate_values={},
            trial_id=trial.id,
        )

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: the storage is read-only."""
        raise RuntimeError("this storage is read-only: write the history with bo_suite")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _containing(parameter: Parameter, values: Sequence[Value]) -> Parameter:
    """The parameter, or one in place of it that has past values too, which may be outside of its range."""
    if isinstance(parameter, Choice):
        return Choice([*parameter.options, *(option for option, _ in parameter.retired)])
    if all(_has(parameter, value) for value in values):
        return parameter
    numbers: list[Any] = [parameter.low, parameter.high, *values]
    step = {"step": 1} if isinstance(parameter, Int) else {"step": None}
    return replace(parameter, low=min(numbers), high=max(numbers), **step)


def _has(parameter: Parameter, value: Value) -> bool:
    try:
        parameter.check(value)
    except SpaceError:
        return False
    return True
