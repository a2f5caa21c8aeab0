"""The facts and figures on the page of a report; the template report.html.j2 words them."""

import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd

from bo_suite.bench.figures import Style, dot_figure, progress_figure
from bo_suite.bench.records import Records
from bo_suite.bench.sentences import pair_sentences, summary_sentences
from bo_suite.bench.statistics import Comparison

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure

_REASONS, _LETTERS = 30, 300  # reasons of failures listed, and letters of each
_LISTED = 3  # methods in the summary that the leader is not separated from

Row = dict[Hashable, Any]


@dataclass(frozen=True)
class Problem:
    """What is known of a problem, the final regret of each method, and the curves of these."""

    facts: Row
    results: list[Row]
    figure: "Figure"
    without_median: list[str]


@dataclass(frozen=True, eq=False)
class Page:
    """The contents of a page: what a suite has measured, and how its methods compare."""

    records: Records
    comparison: Comparison
    command: str

    @cached_property
    def standings(self) -> list[Row]:
        """A row a method, the best mean rank first."""
        return self.comparison.standings.to_dict("records")

    @cached_property
    def styles(self) -> dict[str, Style]:
        """The style of each method, which its place in the alphabet decides; the best mean rank first."""
        numbers = {
            name: number for number, name in enumerate(sorted(row["method"] for row in self.standings))
        }
        return {row["method"]: Style(numbers[row["method"]]) for row in self.standings}

    @cached_property
    def summary(self) -> tuple[str, str]:
        """What was run and who leads; and what the data do and do not show."""
        lead, rest = summary_sentences(self.comparison, _LISTED)
        return " ".join(lead), " ".join(rest)

    @property
    def overall(self) -> list[tuple[str, str, "Figure"]]:
        """What is drawn, over which axis, and the figure."""
        found = self.comparison
        return [
            (value, axis, progress_figure(table, axis, value, self.styles))
            for value, axis, table in (
                ("share", "evaluation", found.profile),
                ("share", "optimizer_seconds", found.profile_over_time),
                ("normalized", "evaluation", found.overall_curves),
                ("normalized", "optimizer_seconds", found.overall_curves_over_time),
            )
        ]

    @property
    def ranks(self) -> "Figure":
        """Ranks over problems, whose bars overlap where the critical difference does not separate methods."""
        ranks = self.comparison.ranks
        rows = ranks.table.sort_values("problem_rank", kind="stable")
        values = {row["method"]: [row["problem_rank"]] for row in rows.to_dict("records")}
        return dot_figure(
            values, self.styles, "Mean rank over problems", half_width=0.5 * ranks.critical_difference
        )

    @property
    def time(self) -> "Figure":
        """Seconds a suggestion, over those of each problem."""
        seconds = self.comparison.summary.groupby("method")["suggestion_seconds"]
        values = {name: seconds.get_group(name).tolist() for name in self.styles}
        return dot_figure(values, self.styles, "Seconds a suggestion", log=True)

    @property
    def pairs(self) -> list[Row]:
        """The rows of the pairs, each with its sentence."""
        rows = self.comparison.pairs.to_dict("records")
        return [
            row | {"sentence": sentence}
            for row, sentence in zip(rows, pair_sentences(self.comparison), strict=True)
        ]

    @property
    def problems(self) -> list[Problem]:
        """The problems that have a unit, in the order of the records."""
        curves = dict(tuple(self.comparison.curves.groupby("problem")))
        summary = dict(tuple(self.comparison.summary.groupby("problem")))
        found = []
        for facts in self.records.problems.to_dict("records"):
            if (name := facts["problem"]) in curves:
                row_of = {row["method"]: row for row in summary[name].to_dict("records")}
                results = [row_of[method] for method in self.styles if method in row_of]
                figure = progress_figure(curves[name], "evaluation", "regret", self.styles)
                lost = [row["method"] for row in results if row["regret"] == float("inf")]
                found.append(Problem(facts, results, figure, lost))
        return found

    @property
    def reasons(self) -> list[Row]:
        """Method, kind, times and text of the reasons for failures, the most frequent first."""
        units, evaluations = self.records.units, self.records.evaluations
        ended = units[(units["state"] != "finished") | units["reason"].notna()][["method", "state", "reason"]]
        ended = ended.replace({"state": {"finished": "ended early"}})
        failed = evaluations[evaluations["failure"].notna()][["method", "failure"]]
        failed = failed.rename(columns={"failure": "reason"}).assign(state="failed evaluation")
        every = pd.concat([ended, failed]) if len(failed) else ended
        every = every.assign(reason=every["reason"].fillna("no reason given").astype(str).str[:_LETTERS])
        counts = every.groupby(["method", "state", "reason"], sort=False).size().reset_index(name="times")
        return counts.sort_values("times", ascending=False, kind="stable").head(_REASONS).to_dict("records")

    @property
    def environments(self) -> list[Row]:
        """The environments of the units, each with the number of these and the versions of its libraries."""
        units = self.records.units["environment"].value_counts()
        return [
            row | {"units": units.get(row["environment"], 0), "versions": _versions(row["versions"])}
            for row in self.records.environments.to_dict("records")
        ]


def _versions(text: object) -> dict[str, Any]:
    """The versions in a JSON object; if it is none, the text itself."""
    try:
        versions = json.loads(str(text))
    except ValueError:
        versions = None
    return versions if isinstance(versions, dict) else {str(text): ""}
