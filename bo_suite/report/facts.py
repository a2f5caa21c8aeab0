"""What the page of a run says, which the template run.html.j2 words."""

import importlib.metadata
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bo_suite.errors import BoSuiteError, FitError, NumericalError, TrialError
from bo_suite.plot.cross_validation import held_out
from bo_suite.plot.run import axis_of
from bo_suite.report.axes import MOST_PARAMETERS
from bo_suite.report.curves import curves_facts
from bo_suite.report.figures import convergence_figure, held_out_figure, importance_figure
from bo_suite.report.lines import MOST_LINES, parallel_figure
from bo_suite.report.outcomes import (
    feasible_count,
    front_facts,
    outcome_headings,
    outcome_texts,
    predictions_at,
)
from bo_suite.report.slices import contour_figure, slice_figures
from bo_suite.space.space import Params, Space
from bo_suite.storage.addresses import Address
from bo_suite.storage.changes import Change
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import STATES, Header, State, Trial
from bo_suite.study.belief import Belief
from bo_suite.study.summary import best_trial, change_lines, explanation, ranked
from bo_suite.study.views import OutcomeView
from bo_suite.values.describe import SHORT, plain_text, shortened

_LIBRARIES = ("bo-suite", "torch", "numpy", "scipy", "botorch", "gpytorch", "plotly")

_MOST_OPEN = 100
"""Most trials whose table is open when the page is."""

_LONGEST = 60
"""Most letters of a value in a table."""


@dataclass(frozen=True)
class RunRecord:
    """What a history holds.

    Attributes:
        place: its file, or where it is in a database.
        header: space, direction and settings.
        trials: all trials.
        changes: what was amended, forgotten and changed in the space.
    """

    place: Path | Address
    header: Header
    trials: Sequence[Trial]
    changes: Sequence[Change]


@dataclass(frozen=True)
class Models:
    """What is believed of a run.

    Attributes:
        beliefs: the models by name of their outcome.
        reasons: why there is no model, by name of the other outcomes.
        points: that are recommended, if outcomes have names.
    """

    beliefs: Mapping[str, Belief]
    reasons: Mapping[str, str]
    points: Sequence[Params]


def run_facts(run: RunRecord, models: Models) -> dict[str, Any]:
    """What the template needs."""
    space, goals = run.header.space, run.header.goals
    counts = {state: sum(trial.state == state for trial in run.trials) for state in STATES}
    feasible = feasible_count(run.trials, goals)
    greys = {"outside of the space": space.constraints.stated, "likely to be infeasible": feasible}
    return {
        "name": run.place.run if isinstance(run.place, Address) else run.place.name,
        "named": goals.named,
        "objective": goals.objectives[0].name,
        "direction": goals.objectives[0].direction,
        "feasible": feasible,
        "grey": " or ".join(what for what, present in greys.items() if present),
        "counts": counts,
        "total": len(run.trials),
        "best": _best(run),
        "names": list(space.names),
        "ended": _ended(run, counts),
        "front": _front(run),
        "convergence": None if goals.several else convergence_figure(run.trials, goals, space),
        "curves": curves_facts(run.trials, run.header),
        "models": (described := _models(run, models)),
        "model": next((one["model"] for one in described if one["model"]), None),
        "recommended": _recommended(models, space),
        "modelled": list(models.beliefs),
        "lines": _lines(run, described),
        "headings": outcome_headings(goals),
        "rows": [_row(trial, goals, space) for trial in run.trials],
        "open": len(run.trials) <= _MOST_OPEN,
        "changes": [_change(change) for change in run.changes],
        "space": [(name, repr(parameter)) for name, parameter in space.current] + space.constraints.rows,
        "settings": _settings(run.header),
        "commands": _commands(run),
        "versions": _versions(),
        "written": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _best(run: RunRecord) -> dict[str, Any] | None:
    """The best trial; None before there is one."""
    try:
        trial = best_trial(run.trials, run.header.goals, run.header.space)
    except TrialError:
        return None
    return {"id": trial.id, "value": trial.value, "std": trial.std, "point": _texts(trial.params)}


def _ended(run: RunRecord, counts: Mapping[State, int]) -> str:
    """Why the run has ended, as far as the history shows it."""
    budget, space = run.header.budget, run.header.space
    used = len(run.trials) - counts["withdrawn"]
    if space.cardinality is not None:
        points = [trial.params for trial in run.trials if trial.informative]
        if len({repr(point) for point in points if space.contains(point)}) >= space.cardinality:
            return f"Every one of the {space.cardinality:,} points of the space has been suggested."
    if budget is None:
        return "No budget was set."
    if used >= budget:
        return f"The budget of {budget:,} trials is spent."
    return f"{budget - used:,} of the budget of {budget:,} trials are left."


def _front(run: RunRecord) -> dict[str, Any] | None:
    """The Pareto front, with values of parameters as text; None with one objective."""
    front = front_facts(run.trials, run.header.goals, run.header.space)
    if front is not None:
        front["trials"] = [
            one | {"cells": _cells(one["params"], run.header.space)} for one in front["trials"]
        ]
    return front


def _models(run: RunRecord, models: Models) -> list[dict[str, Any]]:
    """For each outcome its name, a suffix of anchors, and its model or why there is none."""
    described = []
    for number, name in enumerate(run.header.goals.names):
        belief, model, reason = models.beliefs.get(name), None, models.reasons.get(name)
        if belief is not None:
            try:
                view = OutcomeView.of(belief, run.trials, run.header.goals, run.header.space)
                model = _model(view)
            except (FitError, NumericalError) as error:
                reason = str(error)
        suffix = f"-{number + 1}" if number else ""
        described.append({"name": name, "suffix": suffix, "model": model, "no_model": reason})
    return described


def _recommended(models: Models, space: Space) -> list[dict[str, Any]]:
    """The recommended points, with what is predicted there."""
    predictions = predictions_at(models.points, models.beliefs) if models.points else []
    return [
        {"predictions": row, "cells": _cells(point, space)}
        for point, row in zip(models.points, predictions, strict=True)
    ]


def _lines(run: RunRecord, described: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The figure of trials as lines over the parameters that slices show; None without a model."""
    model = next((one["model"] for one in described if one["model"]), None)
    if model is None:
        return None
    space, goals = run.header.space, run.header.goals
    varying = [name for name in space.varying.names if space[name].levels != 1]
    shown = [name for name in varying if name in model["shown_names"]]
    return {
        "figure": parallel_figure(run.trials, goals, space, shown),
        "trials": len(ranked(run.trials, goals, space)),
        "most": MOST_LINES,
        "shown": len(shown),
        "varying": len(varying),
    }


def _model(view: OutcomeView) -> dict[str, Any]:
    """The recommended point, and the figures of the model; None in place of one that cannot be drawn."""
    belief, point = view.belief, view.point
    space = belief.space
    importances = _importances(belief)
    varying = [name for name in belief.searched.names if space[name].levels != 1 and name in point]
    order = [row["name"] for row in importances["importances"] if row["name"] in varying]
    order += [
        name for name in varying if name not in order
    ]  # fidelities; or all, if nothing is known of them
    shown, two = order[:MOST_PARAMETERS], [axis_of(space, name) for name in order[:2]]
    facts: dict[str, Any] = {
        "point": _texts(point),
        "prediction": belief.predict(point).to_dict("records")[0],
        "finished": len(belief.trials),
        "slices": slice_figures(view, shown),
        "varying": len(varying),
        "shown": len(shown),
        "shown_names": shown,
        "contour_of": order[:2],
        "contour": contour_figure(view, *two) if len(two) == 2 else None,
        "contexts": list(space.contexts),
    }
    return facts | importances | _held_out(belief)


def _importances(belief: Belief) -> dict[str, Any]:
    """The table of importances and its figure, or why there is none."""
    try:
        table = belief.importance()
    except BoSuiteError as error:
        return {"importance": None, "importances": [], "no_importance": str(error)}
    rows = [{"name": name} | row for name, row in zip(table.index, table.to_dict("records"), strict=True)]
    return {"importance": importance_figure(table), "importances": rows, "no_importance": None}


def _held_out(belief: Belief) -> dict[str, Any]:
    """The figure of predictions from all others and their coverage, or why there is none."""
    try:
        held = held_out(belief)
    except BoSuiteError as error:
        return {"held_out": None, "coverage": None, "no_held_out": str(error)}
    return {"held_out": held_out_figure(held), "coverage": held.coverage, "no_held_out": None}


def _row(trial: Trial, goals: Goals, space: Space) -> dict[str, Any]:
    """The cells of a trial."""
    point = trial.params
    outside = not space.contains(point)
    return {
        "id": trial.id,
        "state": trial.fate
        + (" by chance" if trial.transient else "")
        + (", outside the space" if outside else ""),
        "outcomes": outcome_texts(trial, goals),
        "cells": _cells(point, space),
        "chosen": explanation(trial.provenance),
        "reason": None if trial.reason is None else shortened(trial.reason, SHORT),
    }


def _change(change: Change) -> dict[str, Any]:
    """When, who, what, and what was there before and is there now."""
    what = "space" if change.trial is None else f"trial {change.trial}"
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(change.made))
    return {
        "made": made,
        "author": change.author,
        "action": change.action,
        "what": what,
        "lines": change_lines(change),
    }


def _settings(header: Header) -> list[tuple[str, str]]:
    """The settings of the run that are set, as text."""
    goals = header.goals
    aims = ", ".join(f"{one.direction} {one.name}" for one in goals.objectives)
    settings: dict[str, object] = {
        "direction": aims if goals.named else header.direction,
        "constraints": ", ".join(map(str, goals.constraints)) or None,
        "seed": header.seed,
        "budget": header.budget,
        "initial points": header.initial,
        "repeats": header.repeats,
        "acquisition": _class_in(header.acquisition),
        "scheduler": _class_in(header.scheduler),
    }
    return [(name, str(value)) for name, value in settings.items() if value is not None]


def _class_in(form: object) -> str | None:
    """The name of the class of a stored form; None if there is none."""
    kind = form.get("type", "") if isinstance(form, dict) else ""
    return str(kind).rpartition(".")[2] or None


def _commands(run: RunRecord) -> list[tuple[str, str]]:
    """What one may do next, and the command for it."""
    file = shlex.quote(str(run.place))
    more = f"--budget {len(run.trials) + 10}"
    failed = any(trial.state == "failed" for trial in run.trials)
    contexts = run.header.space.contexts  # which are given at each ask, and so in no loop
    ask = " ".join(("bo-suite ask", file, *(f"--fixed {shlex.quote(f'{name}=...')}" for name in contexts)))
    loop = f"bo-suite minimize MODULE:FUNCTION --storage {file} {more}"
    return [
        ("Ask for the next point", ask),
        *([] if contexts else [("Continue a function", loop)]),
        ("Continue in Python", f"optimizer = bo_suite.Optimizer.resume({str(run.place)!r})"),
        *([("Read the tracebacks of failures", f"bo-suite trials {file} --why")] if failed else []),
        ("Write this page anew", f"bo-suite report {file}"),
    ]


def _versions() -> list[tuple[str, str]]:
    """The versions of Python and of the libraries that made the page."""
    versions = [("python", platform.python_version())]
    for library in _LIBRARIES:
        try:
            versions.append((library, importlib.metadata.version(library)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cells(point: Params, space: Space) -> list[str]:
    """The values of a point as text, for each parameter of a space; "" for an inactive one."""
    texts = _texts(point)
    return [texts.get(name, "") for name in space.names]


def _texts(point: Params) -> dict[str, str]:
    """The values of a point as text, by name."""
    return {
        name: f"{value:.6g}" if isinstance(value, float) else shortened(plain_text(value), _LONGEST)
        for name, value in point.items()
    }
