"""What the trials of a run show together: the best one, and lines of text."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from bo_suite.errors import StorageError, TrialError
from bo_suite.space.space import Space
from bo_suite.storage.changes import Change
from bo_suite.storage.goals import Goals
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import STATES, Finished, Trial
from bo_suite.study.extension import differences
from bo_suite.values.describe import SHORT, shortened, visible
from bo_suite.values.display import html_table, shown_text, shown_value

_BEST = 5
"""Rows of the table of the best trials."""

_CHOICES = {"reference": "reference on the model's scale", "branch": "in a branch that had few points"}
"""Names of choices, as text where that is another."""


@dataclass(frozen=True)
class RegretBound:
    """An upper bound of the regret of an evaluated point, in the user's units.

    Attributes:
        value: the bound; infinite if nothing is known.
        noise: standard deviation of an observation of that point, from its trial or else from the model.
        trial: the trial of that point, which is finished.
    """

    value: float
    noise: float
    trial: Trial


def best_trial(trials: Sequence[Trial], goals: Goals, space: Space) -> Finished:
    """The feasible trial of best value, in the space and at the target fidelity; the earliest of equal ones.

    Raises:
        TrialError: no such trial is finished, or there are several objectives.
    """
    if goals.several:
        names = [objective.name for objective in goals.objectives]
        raise TrialError(f"one objective must be given for a best trial, got {names}: see `pareto`")
    finished = [trial for trial in trials if trial.measured]
    if not finished:
        reasons = [" ".join((trial.reason or "").split()) for trial in trials if trial.state == "failed"]
        last = f"; {len(reasons)} failed, the last with: {shortened(reasons[-1], SHORT)}" if reasons else ""
        early = sum(trial.state in ("stopped", "paused") for trial in trials)
        last = f"; {early} stopped or paused: see `recommend`{last}" if early else last
        raise TrialError(
            f"there is no best trial before one has finished, got {len(trials)} trials, none finished{last}"
        )
    finished = _feasible(finished, goals)
    final = trials_at_target(finished, space)
    if not final:
        raise TrialError(
            "there is no best trial before one at the target fidelity has finished, "
            f"got {len(finished)} finished, none with {space.target_fidelity}"
        )
    for trial in _sorted(final, goals):
        if space.contains(trial.params):
            return cast(Finished, trial)
    raise TrialError(
        f"there is no best trial before one inside the space has finished, got {len(final)} finished, which "
        "are all outside of it"
    )


def pareto_trials(trials: Sequence[Trial], goals: Goals, space: Space) -> list[Trial]:
    """The feasible trials that no other one dominates, ordered by the first objective.

    A trial dominates another if it is as good in every objective, and better in one. Trials that lack an
    objective, outside of the space or below the target fidelity do not count. Of trials with equal objectives
    the first one counts. The list may be empty.
    """
    final = [trial for trial in trials_at_target(trials, space) if space.contains(trial.params)]
    losses: dict[tuple[float, ...], Trial] = {}
    for trial in final:
        outcomes = outcomes_of(trial, goals)
        if goals.is_feasible(outcomes) and (loss := goals.losses(outcomes)) is not None:
            losses.setdefault(loss, trial)
    front = [loss for loss in losses if not any(_dominates(other, loss) for other in losses)]
    return [losses[loss] for loss in sorted(front)]


def best_text(trials: Sequence[Trial], goals: Goals, space: Space) -> str:
    """The best value so far, or the size of the Pareto front, in a few words."""
    if goals.several:
        return f"{len(pareto_trials(trials, goals, space))} in the Pareto front"
    try:
        return f"best {best_trial(trials, goals, space).value:.6g}"
    except TrialError:
        return "none feasible"


def outcomes_of(trial: Trial, goals: Goals) -> Mapping[str, float | None]:
    """The outcomes of a trial by name, also of one that has a value alone."""
    outcomes = trial.outcomes
    return {goals.objectives[0].name: trial.value} if outcomes is None else outcomes


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(first <= second for first, second in zip(one, other, strict=True))


def _feasible(finished: Sequence[Trial], goals: Goals) -> list[Trial]:
    """The trials that meet all constraints.

    Raises:
        TrialError: there is none.
    """
    feasible = [trial for trial in finished if goals.is_feasible(outcomes_of(trial, goals))]
    if feasible:
        return feasible
    fewest = min(finished, key=lambda trial: len(goals.violated(outcomes_of(trial, goals))))
    outcomes = outcomes_of(fewest, goals)
    limits = ", ".join(map(str, goals.constraints))
    measured = ", ".join(
        f"{one.name}: {'not measured' if (value := outcomes.get(one.name)) is None else f'{value:.6g}'}"
        for one in goals.constraints
    )
    raise TrialError(
        f"there is no best trial before one is feasible ({limits}), got {len(finished)} finished, of which "
        f"trial {fewest.id} violates the fewest constraints ({measured})"
    )


def trials_at_target(trials: Sequence[Trial], space: Space) -> list[Trial]:
    """The trials at the target fidelity; all trials if the space has no fidelities."""
    if not space.fidelities:
        return list(trials)
    return [trial for trial in trials if space.at_target(params := trial.params) == params]


def explanation(provenance: Mapping[str, Any]) -> str:
    """How a point was chosen, in words."""
    source = provenance.get("source", "added")
    observations = f"{provenance.get('observations', 0)} observations"
    given = f"; {', '.join(provenance['fixed'])} given" if provenance.get("fixed") else ""
    given += " in a queued point" if provenance.get("queued") else ""
    if source == "added":
        return "added by the user, not suggested"
    if source == "queue":
        return "queued by the user, not suggested"
    if source == "design":
        return f"an initial point, spread over the space, after {observations}{_branch(provenance)}{given}"
    if source == "fallback":
        failed = f"since the model failed: {provenance.get('fallback')}"
        return f"a random point after {observations}{given}, {failed}"
    acquisition = str(provenance.get("acquisition")).split("(")[0]
    chosen = provenance.get("chosen", {}).items()
    choices = "".join(f"; {_CHOICES.get(name, name)}: {value}" for name, value in chosen)
    again = "evaluated again, since that teaches most; " if provenance.get("repeat") else ""
    reasons = _reasons(provenance.get("why", {}))
    return f"{again}{reasons}chosen from {observations} by {acquisition}{choices}{given}"


def _branch(provenance: Mapping[str, Any]) -> str:
    """The branch of an initial point as a clause; empty if it was free."""
    branch = provenance.get("chosen", {}).get("branch")
    return f"; {_CHOICES['branch']}: {branch}" if branch else ""


def _reasons(why: Mapping[str, Any]) -> str:
    """The reasons of a suggestion as a clause; empty if there are none."""
    texts = [str(why["purpose"])] if "purpose" in why else []
    if {"predicted", "low", "high"} <= why.keys():
        texts.append(f"predicted {why['predicted']:.4g} ({why['low']:.4g} to {why['high']:.4g})")
    if {"best", "improvement"} <= why.keys():
        texts.append(f"expected to improve on {why['best']:.4g} by {why['improvement']:.2g}")
    if "feasible" in why:
        texts.append(f"feasible with probability {why['feasible']:.2g}")
    if "distance" in why:
        texts.append(f"{why['distance']:.2g} ranges from the best point")
    return ", ".join(texts) + "; " if texts else ""


def ranked(trials: Sequence[Trial], goals: Goals, space: Space) -> list[Trial]:
    """The finished trials in the space, at the target fidelity: best first, the earliest of equal ones.

    Trials that meet the constraints come first, and with several objectives those of the Pareto front.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    final = [trial for trial in trials_at_target(finished, space) if space.contains(trial.params)]
    if not goals.several:
        return _sorted([trial for trial in final if trial.value is not None], goals)
    front = {trial.id for trial in pareto_trials(final, goals, space)}

    def order(trial: Trial) -> tuple[Any, ...]:
        losses = goals.losses(outcomes := outcomes_of(trial, goals))
        return trial.id not in front, not goals.is_feasible(outcomes), losses is None, losses or (), trial.id

    return sorted(final, key=order)


def _sorted(finished: Sequence[Trial], goals: Goals) -> list[Trial]:
    """Finished trials with a value, feasible ones and the best first, the earliest first of equal ones."""
    sign = goals.objectives[0].sign

    def order(trial: Trial) -> tuple[bool, float, int]:
        return not goals.is_feasible(outcomes_of(trial, goals)), sign * (trial.value or 0.0), trial.id

    return sorted(finished, key=order)


def overview(trials: Sequence[Trial], goals: Goals) -> str:
    """The number of trials, and how many are in each state."""
    counts = [(state, sum(trial.state == state for trial in trials)) for state in STATES]
    states = ", ".join(f"{count} {state}" for state, count in counts if count)
    number = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}"
    return f"{goals}, {number}{f' ({states})' if states else ''}"


def html_of_best(trials: Sequence[Trial], goals: Goals, space: Space) -> str:
    """The best trials at the target fidelity, as an HTML table."""
    rows = [
        (
            str(trial.id),
            *(shown_value(outcomes_of(trial, goals).get(name)) for name in goals.names),
            *(shown_value(params[name]) if name in params else "" for name in space.names),
        )
        for trial in ranked(trials, goals, space)[:_BEST]
        for params in (trial.params,)
    ]
    caption = f"{overview(trials, goals)}; the best"
    return html_table(caption, ("id", *goals.names, *space.parameters), rows)


def text_of_run(history: Storage, acquisition: str) -> str:
    """What a history holds, for the repr of an Optimizer; why it cannot be read if it was closed."""
    try:
        return shown_text(f"Optimizer({overview(history.trials(), history.header.goals)}, {acquisition})")
    except StorageError as error:
        return shown_text(f"Optimizer({error})")


def html_of_run(history: Storage) -> str | None:
    """The best trials of a history as an HTML table; None if it cannot be read."""
    with suppress(StorageError):
        return html_of_best(history.trials(), history.header.goals, history.header.space)
    return None


def change_lines(change: Change) -> list[str]:
    """What a change has changed, as text: a line for each parameter, or one for the outcome of a trial."""
    if change.trial is None:
        return differences(Space.from_dict(change.before), Space.from_dict(change.after))
    before, after = _outcome(change.before), _outcome(change.after)
    if change.action == "late":
        return [
            f"attempt {change.after.get('attempt')} gave {after}, which was not taken; it was {before} then"
        ]
    return [f"{before} -> {after}"]


def _outcome(outcome: Mapping[str, Any]) -> str:
    """An outcome of a change as text: its value and noise, or the state and why there is no value."""
    if outcome.get("outcomes") is not None:
        numbers = json.loads(outcome["outcomes"])
        listed = ", ".join(f"{name} {value}" for name, value in numbers.items())
        return f"{listed}{_by_parameter(outcome)}"
    if outcome.get("value") is None:
        return f"{outcome['state']} ({outcome['reason']})" if outcome.get("reason") else str(outcome["state"])
    noise = f" ± {outcome['std']:.2g}" if outcome.get("std") else ""
    return f"{outcome['value']:.6g}{noise}{_by_parameter(outcome)}"


def _by_parameter(outcome: Mapping[str, Any]) -> str:
    """The gradient and the deviations of what was set, of an outcome of a change, as text."""
    texts = {"gradient": outcome.get("gradient"), "params_std": outcome.get("params_std")}
    forms = {what: json.loads(text) for what, text in texts.items() if text is not None}
    return "".join(
        f", {what} " + " ".join(f"{name}={one:.4g}" for name, one in numbers.items())
        for what, numbers in forms.items()
    )


def ended_text(trial: Trial, best: float | None) -> str:
    """One line about a trial that has ended.

    Args:
        trial: the trial.
        best: the best value so far, if there is one.
    """
    seconds = f"{(trial.ended or trial.started) - trial.started:.3g} s"
    what = trial.fate if trial.state == "finished" else f"was {trial.fate}"
    if outcomes := trial.outcomes:
        numbers = ((name, math.nan if value is None else value) for name, value in outcomes.items())
        values = ", ".join(f"{name} {number:.6g}" for name, number in numbers)
        return f"trial {trial.id} {what}: {values} in {seconds}"
    if trial.value is not None:
        so_far = "" if best is None else f" (best {best:.6g})"
        return f"trial {trial.id} {what}: {trial.value:.6g} in {seconds}{so_far}"
    if trial.state == "withdrawn":
        return f"trial {trial.id} was withdrawn after {seconds}"
    reason = shortened(" ".join((trial.reason or "").split()), SHORT)
    return f"trial {trial.id} failed after {seconds}: {visible(reason)}"
