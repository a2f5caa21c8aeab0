"""The facts and figures on the page of a report, which the template report.html.j2 words."""

import json
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bo_suite.bench.attainment import attainment, attainment_figure
from bo_suite.bench.feasibility import stored_goals
from bo_suite.bench.figures import Style, dot_figure, progress_figure
from bo_suite.bench.records import Records
from bo_suite.bench.sentences import pair_sentences, summary_sentences
from bo_suite.bench.statistics import Comparison

if TYPE_CHECKING:  # plotly belongs to an extra
    pass

_REASONS, _LETTERS = 30, 300  # reasons of failures listed, and letters of each
_LISTED = 3  # methods in the summary that the leader is not separated from

Row = dict[Hashable, Any]


def page_facts(records: Records, comparison: Comparison) -> dict[str, Any]:
    """What the template needs: rows of tables by their columns, figures by what they show, and sentences."""
    standings = comparison.standings.to_dict("records")
    names = [row["method"] for row in standings]
    styles = {name: Style(sorted(names).index(name)) for name in names}
    lead, rest = summary_sentences(comparison, _LISTED)
    sentences = pair_sentences(comparison)
    pairs = comparison.pairs.to_dict("records")
    return {
        "findings": comparison.findings,
        "ranks": comparison.ranks,
        "lead": " ".join(lead),
        "rest": " ".join(rest),
        "standings": standings,
        "pairs": [row | {"sentence": one} for row, one in zip(pairs, sentences, strict=True)],
        "problems": problem_facts(records, comparison, styles),
        "reasons": reasons(records),
        "environments": _environments(records),
        **_figures(comparison, styles),
    }


def _figures(comparison: Comparison, styles: dict[str, Style]) -> dict[str, Any]:
    """Figures about all problems: the overall ones (value, axis, figure), the rank diagram, and the times."""
    tables = (
        ("share", "evaluation", comparison.profile),
        ("share", "optimizer_seconds", comparison.profile_over_time),
        ("normalized", "evaluation", comparison.overall_curves),
        ("normalized", "optimizer_seconds", comparison.overall_curves_over_time),
    )
    by_rank = comparison.ranks.table.sort_values("problem_rank", kind="stable")
    ranks = {row["method"]: [row["problem_rank"]] for row in by_rank.to_dict("records")}
    seconds = comparison.summary.groupby("method")["suggestion_seconds"]
    times = {name: seconds.get_group(name).tolist() for name in styles}
    half_width = 0.5 * comparison.ranks.critical_difference
    return {
        "overall": [
            (value, axis, progress_figure(table, axis, value, styles)) for value, axis, table in tables
        ],
        "rank_diagram": dot_figure(ranks, styles, "Mean rank over problems", half_width=half_width),
        "times": dot_figure(times, styles, "Seconds a suggestion", log=True),
    }


def problem_facts(records: Records, comparison: Comparison, styles: dict[str, Style]) -> list[Row]:
    """The problems with a unit: what is known of each, the final regret of each method, and its curves."""
    curves = dict(tuple(comparison.curves.groupby("problem")))
    summary = dict(tuple(comparison.summary.groupby("problem")))
    feasibility = dict(tuple(comparison.feasibility.groupby("problem")))
    problems = []
    for facts in records.problems.to_dict("records"):
        if (name := facts["problem"]) in curves:
            results = summary[name].set_index("method", drop=False)
            results = results.loc[[method for method in styles if method in results.index]]
            extra = {
                "results": results.to_dict("records"),
                "without_median": results["method"][np.isinf(results["regret"])].tolist(),
                "figure": progress_figure(curves[name], "evaluation", "regret", styles),
                "feasibility": feasibility[name].to_dict("records") if name in feasibility else [],
                **_outcome_facts(records, facts, styles),
            }
            problems.append(facts | extra)
    return problems


def _outcome_facts(records: Records, facts: Row, styles: dict[str, Style]) -> Row:
    """What the values of a problem of several outcomes mean, and the picture of two objectives."""
    if facts.get("goals") is None:
        return {"aims": None, "several": False, "attainment": None}
    goals = stored_goals(facts["goals"])
    table = attainment(records, facts["problem"])
    drawing = attainment_figure(table, styles) if len(table) else None
    return {"aims": str(goals), "several": goals.several, "attainment": drawing}


def reasons(records: Records) -> list[Row]:
    """Method, state, times and reason of failures, the most frequent first."""
    units, evaluations = records.units, records.evaluations
    ended = units[(units["state"] != "finished") | units["reason"].notna()][["method", "state", "reason"]]
    ended = ended.replace({"state": {"finished": "ended early"}})
    failed = evaluations[evaluations["failure"].notna()][["method", "failure"]]
    failed = failed.rename(columns={"failure": "reason"}).assign(state="failed evaluation")
    every = pd.concat([ended, failed]) if len(failed) else ended
    every = every.assign(reason=every["reason"].fillna("no reason given").astype(str).str[:_LETTERS])
    counts = every.groupby(["method", "state", "reason"], sort=False).size().reset_index(name="times")
    return counts.sort_values("times", ascending=False, kind="stable").head(_REASONS).to_dict("records")


def _environments(records: Records) -> list[Row]:
    """The environments of the units, each with the number of these and the versions of its libraries."""
    units = records.units["environment"].value_counts()
    return [
        row | {"units": units.get(row["environment"], 0), "versions": _versions(row["versions"])}
        for row in records.environments.to_dict("records")
    ]


def _versions(text: object) -> dict[str, Any]:
    """The versions in a JSON object; if it is none, the text itself."""
    try:
        versions = json.loads(str(text))
    except ValueError:
        versions = None
    return versions if isinstance(versions, dict) else {str(text): ""}
