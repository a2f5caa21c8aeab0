"""What the page of a run with outcomes by name says of them: values, feasible trials, front, predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

from bo_suite.report.fronts import front_figures, hypervolume_figure
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.belief import Belief
from bo_suite.study.fronts import FrontTrials
from bo_suite.study.summary import outcomes_of

MISSING = "–"
"""Stands for an outcome that was not measured."""


def outcome_headings(goals: Goals) -> list[str]:
    """Headings of the columns of outcomes in the table of trials."""
    if not goals.named:
        return ["Value"]
    return [*goals.names, *["Feasible"] * bool(goals.constraints)]


def outcome_texts(trial: Trial, goals: Goals) -> list[str]:
    """The cells of these columns: the outcomes of a trial with their noise."""
    if not goals.named:
        return [_text(trial.value, trial.std)]
    outcomes, stds = trial.outcomes, trial.stds or {}
    texts = [
        "nan" if name in (outcomes or {}) and value is None else _text(value, stds.get(name))
        for name, value in ((name, (outcomes or {}).get(name)) for name in goals.names)
    ]
    if not goals.constraints:
        return texts
    return [*texts, MISSING if outcomes is None else "yes" if goals.is_feasible(outcomes) else "no"]


def feasible_count(trials: Sequence[Trial], goals: Goals) -> str | None:
    """How many finished trials are feasible, in words; None without a constraint."""
    if not goals.constraints:
        return None
    finished = [trial for trial in trials if trial.state == "finished"]
    feasible = sum(goals.is_feasible(outcomes_of(trial, goals)) for trial in finished)
    limits = ", ".join(map(str, goals.constraints))
    return f"{feasible} of {len(finished)} finished trials are feasible ({limits})"


def front_facts(trials: Sequence[Trial], goals: Goals, space: Space) -> dict[str, Any] | None:
    """The Pareto front, its figures and its hypervolume; None with one objective."""
    if not goals.several:
        return None
    sorted_trials = FrontTrials.of(trials, goals, space)
    return {
        "figures": front_figures(sorted_trials),
        "hypervolume": hypervolume_figure(sorted_trials),
        "trials": [
            {
                "id": trial.id,
                "outcomes": outcome_texts(trial, goals)[: len(goals.names)],
                "params": trial.params,
            }
            for trial in sorted_trials.front
        ],
        "drawn": min(len(goals.objectives), 3),
        "objectives": len(goals.objectives),
    }


def predictions_at(points: Sequence[Params], beliefs: Mapping[str, Belief]) -> list[list[str]]:
    """For each point the mean of each outcome and the 90 % interval of its function, as text."""
    tables = [belief.predict(list(points)).to_dict("records") for belief in beliefs.values()]
    return [
        [f"{one['mean']:.6g} ({one['low']:.4g} to {one['high']:.4g})" for one in row]
        for row in zip(*tables, strict=True)
    ]


def _text(value: float | None, std: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.6g}" + (f" ± {std:.2g}" if std else "")
