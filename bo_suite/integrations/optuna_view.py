"""A history as a read-only Optuna study, for optuna-dashboard and Optuna's plots."""

import copy
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import optuna

from bo_suite.errors import SpaceError
from bo_suite.integrations.optuna_outcomes import CONSTRAINT, LARGEST
from bo_suite.integrations.optuna_trials import to_distribution
from bo_suite.space.parameters import Choice, Int, Parameter, Value
from bo_suite.storage.addresses import Address, Location
from bo_suite.storage.goals import VALUE, Constraint
from bo_suite.storage.history import History
from bo_suite.storage.trial import Header, Trial
from bo_suite.study.summary import outcomes_of

_STUDY_ID = 0

_STATES = {
    "running": optuna.trial.TrialState.RUNNING,
    "finished": optuna.trial.TrialState.COMPLETE,
    "failed": optuna.trial.TrialState.FAIL,
    "withdrawn": optuna.trial.TrialState.FAIL,
    "stopped": optuna.trial.TrialState.PRUNED,
    "paused": optuna.trial.TrialState.RUNNING,  # Optuna has no state for it
}


def to_study(path: Location) -> "optuna.Study":
    """Open a history, in a file or a database, as a read-only Optuna study, which follows it as it grows.

    Raises:
        StorageError: the file is missing, or is no history.
    """
    storage = HistoryStorage(path)
    return optuna.load_study(study_name=storage.get_study_name_from_id(_STUDY_ID), storage=storage)


class HistoryStorage(optuna.storages.BaseStorage):
    """A history file as a read-only Optuna storage with one study.

    It follows the file: new trials, amended and forgotten ones, and changes of the space.
    `optuna_dashboard.run_server(HistoryStorage("run.db"))` shows a run while it proceeds.

    Several objectives are values of the trials. A trial that lacks one is shown as failed, since Optuna has
    no room for it, with its outcomes as an attribute. A constraint on an interval is one of Optuna, of the
    same name: the distance of the outcome from the interval, at most 0 inside; a large number stands for one
    that was not measured. So `study.best_trials` are those of `Optimizer.pareto`, and all trials equal to
    them, in a space without fidelities that was not narrowed.

    Args:
        path: the file, without whose suffix the study is named, or the address of a run in a database.

    Raises:
        StorageError: the file is missing, or is no history.
        RuntimeError: a method that writes was called.
    """

    def __init__(self, path: Location) -> None:
        self._history = History.open(path, None)
        place = self._history.place
        self._name = place.run if isinstance(place, Address) else Path(str(place)).stem
        self._goals = self._history.header.goals
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
        """Return the direction of each objective."""
        self._check(study_id)
        return [optuna.study.StudyDirection[one.direction.upper()] for one in self._goals.objectives]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the seed, by name."""
        self._check(study_id)
        return {"seed": self._history.header.seed}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the names of the objectives, if the user has named them, for `study.metric_names`."""
        self._check(study_id)
        names = [objective.name for objective in self._goals.objectives]
        return {} if names == [VALUE] else {"study:metric_names": names}

    def get_all_studies(self) -> "list[optuna.study._frozen.FrozenStudy]":
        """Return a list of the only study."""
        directions = self.get_study_directions(_STUDY_ID)
        seed, names = self.get_study_user_attrs(_STUDY_ID), self.get_study_system_attrs(_STUDY_ID)
        return [
            optuna.study._frozen.FrozenStudy(self._name, None, seed, names, _STUDY_ID, directions=directions)
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
                name: to_distribution(
                    _containing(parameter, [point[name] for point in points if name in point])
                )
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
            "gradient": trial.gradient,
            "params_std": trial.params_std,
            "reason": trial.reason,
            "attempt": trial.attempt,
            "source": trial.provenance.get("source", "added"),
            "transient": trial.transient or None,
            "withdrawn": trial.state == "withdrawn" or None,
            "paused": trial.state == "paused" or None,
            "outside": not self._history.header.space.contains(trial.params) or None,
        }
        values, state = None if trial.state == "paused" else self._values(trial), _STATES[trial.state]
        ended = None if trial.ended is None or trial.state == "paused" else trial.ended
        if trial.outcomes is not None:
            attributes |= {"outcomes": trial.outcomes, "stds": trial.stds}
        if values is None and state == optuna.trial.TrialState.COMPLETE:
            state = optuna.trial.TrialState.FAIL
        return optuna.trial.FrozenTrial(
            number=trial.id,
            state=state,
            value=None,
            values=values,
            datetime_start=datetime.fromtimestamp(trial.started),
            datetime_complete=None if ended is None else datetime.fromtimestamp(ended),
            params=dict(trial.params),
            distributions={name: distributions[name] for name in trial.params},
            user_attrs={name: value for name, value in attributes.items() if value is not None},
            system_attrs=self._constraints(trial),
            intermediate_values={report.step: report.value for report in trial.reports},
            trial_id=trial.id,
        )

    def _values(self, trial: Trial) -> list[float] | None:
        """The objectives of a trial; None if one was not measured."""
        outcomes = outcomes_of(trial, self._goals)
        values = [outcomes.get(objective.name) for objective in self._goals.objectives]
        return None if None in values else [value for value in values if value is not None]

    def _constraints(self, trial: Trial) -> dict[str, float]:
        """Optuna's attributes of the constraints of a finished trial."""
        if trial.state != "finished":
            return {}
        outcomes = outcomes_of(trial, self._goals)
        return {
            CONSTRAINT + one.name: _excess(outcomes.get(one.name), one) for one in self._goals.constraints
        }

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise: the storage is read-only."""
        raise RuntimeError("this storage is read-only: write the history with bo_suite")

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


def _excess(value: float | None, constraint: Constraint) -> float:
    """The distance of an outcome from its interval: at most 0 inside, a large number if not measured."""
    if value is None:
        return LARGEST
    return min(max(constraint.low - value, value - constraint.high, -LARGEST), LARGEST)


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
