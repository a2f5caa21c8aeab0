"""A history of ours as an Optuna study that can be looked at, by optuna-dashboard and Optuna's plots."""

import copy
from collections.abc import Container
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import optuna

from bo_suite.integrations.optuna_trials import to_distribution
from bo_suite.storage.history import History
from bo_suite.storage.trial import Trial

_STUDY_ID = 0

_STATES = {
    "running": optuna.trial.TrialState.RUNNING,
    "finished": optuna.trial.TrialState.COMPLETE,
    "failed": optuna.trial.TrialState.FAIL,
    "withdrawn": optuna.trial.TrialState.FAIL,
}


def to_study(path: str | Path) -> "optuna.Study":
    """The study that a history file is, for Optuna's plots: it follows the file, and can only be read.

    Raises:
        StorageError: a file that is missing or no history.
    """
    storage = HistoryStorage(path)
    return optuna.load_study(study_name=storage.get_study_name_from_id(_STUDY_ID), storage=storage)


class HistoryStorage(optuna.storages.BaseStorage):
    """A history file as an Optuna storage with one study, to be read alone.

    `optuna_dashboard.run_server(HistoryStorage("run.db"))` shows a run while it goes on.

    Args:
        path: the file; its name, without the ending, is that of the study.

    Raises:
        StorageError: a file that is missing or no history.
        RuntimeError: something is to be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._history = History.open(path, None)
        self._name = Path(path).stem
        header = self._history.header
        self._distributions = {name: to_distribution(parameter) for name, parameter in header.space}
        self._direction = optuna.study.StudyDirection[header.direction.upper()]

    def get_study_id_from_name(self, study_name: str) -> int:
        """The study's id.

        Raises:
            KeyError: another name.
        """
        if study_name != self._name:
            raise KeyError(f"the study must be {self._name!r}, got {study_name!r}")
        return _STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        """The study's name."""
        self._check(study_id)
        return self._name

    def get_study_directions(self, study_id: int) -> "list[optuna.study.StudyDirection]":
        """The direction, alone."""
        self._check(study_id)
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The seed."""
        self._check(study_id)
        return {"seed": self._history.header.seed}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """None."""
        self._check(study_id)
        return {}

    def get_all_studies(self) -> "list[optuna.study._frozen.FrozenStudy]":
        """The study."""
        directions = self.get_study_directions(_STUDY_ID)
        seed = self.get_study_user_attrs(_STUDY_ID)
        return [
            optuna.study._frozen.FrozenStudy(self._name, None, seed, {}, _STUDY_ID, directions=directions)
        ]

    def get_trial(self, trial_id: int) -> "optuna.trial.FrozenTrial":
        """A trial by its id.

        Raises:
            KeyError: no such trial.
        """
        trial = self._history.trial(trial_id)
        if trial is None:
            raise KeyError(
                f"a trial must be one of the {len(self._history.trials())} of the study, got {trial_id}"
            )
        return self._frozen(trial, copy.deepcopy(self._distributions))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: "Container[optuna.trial.TrialState] | None" = None,
    ) -> "list[optuna.trial.FrozenTrial]":
        """All trials, or those in some states; without `deepcopy` they share their distributions."""
        self._check(study_id)
        own = copy.deepcopy if deepcopy else copy.copy
        found = [self._frozen(trial, own(self._distributions)) for trial in self._history.trials()]
        return [trial for trial in found if states is None or trial.state in states]

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

    def create_new_study(self, directions: Any, study_name: str | None = None) -> NoReturn:
        """Refused."""
        _refuse()

    def delete_study(self, study_id: int) -> NoReturn:
        """Refused."""
        _refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Refused."""
        _refuse()

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> NoReturn:
        """Refused."""
        _refuse()

    def create_new_trial(self, study_id: int, template_trial: Any = None) -> NoReturn:
        """Refused."""
        _refuse()

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: Any
    ) -> NoReturn:
        """Refused."""
        _refuse()

    def set_trial_state_values(self, trial_id: int, state: Any, values: Any = None) -> NoReturn:
        """Refused."""
        _refuse()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> NoReturn:
        """Refused."""
        _refuse()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> NoReturn:
        """Refused."""
        _refuse()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> NoReturn:
        """Refused."""
        _refuse()


def _refuse() -> NoReturn:
    raise RuntimeError("a history is read through Optuna and written by bo_suite, got a change to it")
