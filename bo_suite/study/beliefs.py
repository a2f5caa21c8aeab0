"""The models of all outcomes of a run, each as that of a run with this outcome alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bo_suite.errors import ArgumentError
from bo_suite.storage.goals import VALUE, Goals, Objective
from bo_suite.storage.trial import Trial
from bo_suite.study.belief import Belief, belief_of
from bo_suite.study.suggest import Suggester
from bo_suite.values.describe import described

if TYPE_CHECKING:  # pandas takes half a second to import
    import pandas as pd

    from bo_suite.study.belief import Points


def outcome_named(goals: Goals, outcome: str | None) -> str:
    """The name of an outcome, or of the only objective.

    Raises:
        ArgumentError: there is no such outcome, or there are several objectives and none is named.
    """
    if outcome is None and goals.several:
        raise ArgumentError(f"outcome= must be one of {list(goals.names)}, as there are several objectives")
    name = goals.objectives[0].name if outcome is None else outcome
    if name not in goals.names:
        raise ArgumentError(f"outcome= must be one of {list(goals.names)}, got {described(outcome)}")
    return name


def direction_of(goals: Goals, name: str) -> str:
    """The direction of an objective; "minimize" for an outcome that is none."""
    return next((one.direction for one in goals.objectives if one.name == name), "minimize")


def belief_about(suggester: Suggester, trials: Sequence[Trial], outcome: str | None) -> Belief:
    """The model of one outcome: of the only objective if it is None.

    Raises:
        ArgumentError: there is no such outcome, or there are several objectives and none is named.
        TrialError: the outcome was not measured in any trial.
        FitError, NumericalError: the model cannot be fitted.
    """
    goals = suggester.goals
    name = outcome_named(goals, outcome)
    if not goals.named:
        return belief_of(suggester, trials)
    alone = Goals((Objective(VALUE, direction_of(goals, name)),), named=False)
    return belief_of(replace(suggester, goals=alone), with_outcome_alone(trials, name, goals))


def with_outcome_alone(trials: Sequence[Trial], name: str, goals: Goals) -> list[Trial]:
    """The trials, with one outcome by name as their value; without finished trials that lack it.

    A gradient is that of the objective.
    """
    alone = []
    for trial in trials:
        outcomes, stds = trial.outcomes or {}, trial.stds or {}
        if trial.state != "finished":
            alone.append(trial)
        elif (value := outcomes.get(name)) is not None:
            gradient = trial.gradient if name == goals.objectives[0].name else None
            one = replace(trial, value=value, std=stds.get(name), outcomes=None, stds=None, gradient=gradient)
            alone.append(one)
    return alone


def predictions(
    suggester: Suggester, trials: Sequence[Trial], points: "Points", interval: float
) -> "pd.DataFrame":
    """`Belief.predict` of each outcome: with several outcomes, columns are (outcome, statistic)."""
    return _joined({name: one.predict(points, interval) for name, one in _beliefs(suggester, trials).items()})


def importances(suggester: Suggester, trials: Sequence[Trial]) -> "pd.DataFrame":
    """`Belief.importance` for each outcome: with several outcomes, columns are (outcome, statistic)."""
    return _joined({name: one.importance() for name, one in _beliefs(suggester, trials).items()})


def _beliefs(suggester: Suggester, trials: Sequence[Trial]) -> dict[str, Belief]:
    return {name: belief_about(suggester, trials, name) for name in suggester.goals.names}


def _joined(frames: Mapping[str, "pd.DataFrame"]) -> "pd.DataFrame":
    """The frames side by side, or the only one."""
    import pandas as pd

    only, *others = frames.values()
    return pd.concat(frames, axis=1) if others else only
