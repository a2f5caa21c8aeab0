"""What stands on the page of a report: its tables, its charts and the sentences about them."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from markupsafe import Markup

from bo_suite.bench.charts import Axis, Curve, Row, axis, dots, lines, rank_diagram, swatch
from bo_suite.bench.records import Records
from bo_suite.bench.statistics import Comparison, shares
from bo_suite.bench.trajectories import common_units
from bo_suite.bench.wording import (
    chance,
    counted,
    interval,
    missing,
    number,
    percent,
    told,
    typeset,
    versions,
)

_STEPS = 6000  # of all curves on the page, which bounds its size
_REASONS, _LETTERS = 30, 300  # reasons of failures listed, and letters of each
_LISTED = 3  # pairs in the summary
_INTERVAL = "95% interval"


@dataclass(frozen=True)
class Column:
    label: str
    kind: str  # "name", "pair", "number" or "text": a class of the style sheet


@dataclass(frozen=True)
class Line:
    """A row of a table; its first cell names it."""

    cells: tuple[str, ...]
    swatch: Markup | None = None


@dataclass(frozen=True)
class Table:
    caption: str
    columns: tuple[Column, ...]
    rows: list[Line]


@dataclass(frozen=True)
class Figure:
    title: str
    note: str
    chart: Markup


@dataclass(frozen=True, eq=False)
class Page:
    """The contents of a page, of what a suite has measured and of how its methods compare."""

    records: Records
    comparison: Comparison
    command: str

    @cached_property
    def styles(self) -> dict[str, int]:
        """The number of each method's colour, dash and marker, in whatever order units have ended."""
        return {name: place for place, name in enumerate(sorted(set(self.records.units["method"])))}

    @cached_property
    def ranked(self) -> list[str]:
        """The methods, best mean rank first, then those without one."""
        table = self.comparison.ranks.table.sort_values("mean_rank", kind="stable")
        return list(dict.fromkeys([*table["method"], *self.styles]))

    @cached_property
    def names(self) -> list[str]:
        """The problems, in the order of the records, that have a unit."""
        present = set(self.records.units["problem"])
        return [name for name in self.records.problems["problem"] if name in present]

    @property
    def title(self) -> str:
        return f"{counted(len(self.styles), 'method')} on {counted(len(self.names), 'problem')}"

    @property
    def lead(self) -> str:
        """What was run, and who leads."""
        return typeset(" ".join(self.comparison.sentences[:2]))

    @property
    def rest(self) -> str:
        """Whom the data separate the leader from, what they do not show, and what failed.

        More than three methods that they do not separate from it are counted, for each has a sentence below.
        """
        pairs, sentences = self.comparison.pairs, list(self.comparison.sentences[2:])
        below = {one for one, apart in zip(pairs["sentence"], pairs["separated"], strict=True) if not apart}
        alike = [place for place, sentence in enumerate(sentences) if sentence in below]
        if len(alike) > _LISTED:
            sentences[alike[0]] = (
                f"The data do not separate {self.ranked[0]} from {len(alike)} methods; see the pairs."
            )
            sentences = [one for place, one in enumerate(sentences) if place not in alike[1:]]
        return typeset(" ".join(sentences))

    @property
    def standings(self) -> Table:
        ranks, failures = keyed(self.comparison.ranks.table), keyed(self.comparison.failures)
        finals, reached = self.comparison.finals, keyed(self.comparison.profile)
        regret = finals[common_units(finals)].groupby("method")["normalized"].median().to_dict()
        rows = []
        for name in self.ranked:
            rank, lost = ranks.get(name, {}), failures[name]
            cells = (
                number(rank.get("mean_rank")),
                interval(rank.get("low"), rank.get("high")),
                number(regret.get(name)),
                percent(reached.get(name, {}).get("share")),
                number(self.seconds(name).median()),
                f"{lost['units'] - lost['finished']:,} of {lost['units']:,}",
            )
            rows.append(self.line(name, *cells))
        numbers = (
            "Mean rank",
            _INTERVAL,
            "Normalised regret",
            "Targets reached",
            "Seconds each",
            "Units lost",
        )
        caption = "Methods by mean rank; medians at the end of the budget, seconds a suggestion"
        return Table(caption, columns(["Method"], numbers), rows)

    @property
    def overall(self) -> list[Figure]:
        profile, timed = self.comparison.profile, self.comparison.profile_over_time
        regret, later = self.comparison.overall_curves, self.comparison.overall_curves_over_time
        share = Axis("Share of targets reached", 0.0, 1.0)
        evaluations = axis("Evaluations", [0.0, *profile["evaluation"]])
        seconds = axis("Seconds in the optimiser (log scale)", list(timed["optimizer_seconds"]), log=True)
        ends = [*bounds(regret, "normalized"), *bounds(later, "normalized")]
        scale = axis("Normalised regret (log scale)", ends, log=True)
        higher = "Share of the targets that were reached, over all problems and seeds. Higher is better."
        lower = "Median over all problems and seeds. Lower is better."
        if regret["normalized_low"].notna().any():
            lower = lower.replace(".", ", with its 95% interval.", 1)
        timing = "".join(f" {sentence}" for sentence in self.shared)
        return [
            self.progress("Targets reached over evaluations", higher, profile, evaluations, share),
            self.progress(
                "Targets reached over the optimiser's time", higher + timing, timed, seconds, share
            ),
            self.progress("Normalised regret over evaluations", lower, regret, evaluations, scale),
            self.progress(
                "Normalised regret over the optimiser's time", lower + timing, later, seconds, scale
            ),
        ]

    @property
    def ranks(self) -> Figure:
        ranks = self.comparison.ranks
        rows = [
            Row(str(row["method"]), self.styles[row["method"]], row["problem_rank"])
            for row in ranks.table.to_dict("records")
        ]
        told = ", ".join(
            f"{row.label} {number(row.value)}" for row in sorted(rows, key=lambda row: row.value)
        )
        chart = rank_diagram(
            rows, ranks.groups, ranks.critical_difference, title="Ranks over problems", text=f"{told}."
        )
        bars = (
            f"A bar joins methods that differ by less than the critical difference, "
            f"{number(ranks.critical_difference)}: these problems do not separate them."
        )
        if ranks.few:
            bars = "The problems are too few to separate any two methods: one bar joins them all."
        note = typeset(
            f"Mean over {counted(ranks.problems, 'problem')} of the rank of the median over seeds "
            f"(Friedman's test: {chance(ranks.friedman_p)}). {bars}"
        )
        if missing(ranks.critical_difference):
            note = "Ranks take two methods, and a problem and seed that all of them have run."
        return Figure("Ranks over problems", note, chart)

    @property
    def pairs(self) -> Table:
        rows = []
        for pair in self.comparison.pairs.to_dict("records"):
            needed = pair["seeds_needed"]
            cells = (
                f"{pair['first']} – {pair['second']}",
                f"{pair['wins']:,} / {pair['ties']:,} / {pair['losses']:,}",
                number(pair["effect"]),
                interval(pair["low"], pair["high"]),
                level(pair["p"]),
                level(pair["p_holm"]),
                "yes" if pair["separated"] else "no",
                "–" if needed is None or pd.isna(needed) else f"{int(needed):,}",
            )
            rows.append(Line(cells))
        head = (
            Column("Pair", "pair"),
            *columns([], ("Wins / ties / losses", "Effect", _INTERVAL, "p", "p (Holm)")),
        )
        head += columns(["Separated"], ["Seeds needed"])
        return Table("Each pair: the first method against the second", head, rows)

    @property
    def pair_sentences(self) -> list[str]:
        return [typeset(str(sentence)) for sentence in self.comparison.pairs["sentence"]]

    @property
    def problems(self) -> list[tuple[Figure, Table]]:
        """A chart and a table each."""
        facts = keyed(self.records.problems, "problem")
        curves = dict(tuple(self.comparison.curves.groupby("problem")))
        summary = dict(tuple(self.comparison.summary.groupby("problem")))
        return [self.problem(facts[name], curves[name], summary[name]) for name in self.names]

    def problem(
        self, facts: Mapping[Hashable, Any], curves: pd.DataFrame, summary: pd.DataFrame
    ) -> tuple[Figure, Table]:
        name = str(facts["problem"])
        evaluations = axis("Evaluations", [0.0, *curves["evaluation"]])
        scale = axis("Median regret (log scale)", bounds(curves, "regret"), log=True)
        known = "minimum" if not missing(facts["minimum"]) else "best known value"
        best = facts["best_known"] if missing(facts["minimum"]) else facts["minimum"]
        if missing(best):
            known = "minimum not known: regret is to the smallest value that a run has found"
        else:
            known = f"{known} {number(best)}"
        noise = f"noise of standard deviation {number(facts['noise'])}" if facts["noise"] else "no noise"
        note = f"{counted(facts['dim'], 'dimension')}, {noise}, {known}"
        rows, found = [], keyed(summary)
        for method in (method for method in self.ranked if method in found):
            row = found[method]
            cells = (
                number(row["regret"]),
                interval(row["low"], row["high"]),
                number(row["suggestion_seconds"]),
            )
            rows.append(self.line(method, *cells))
        table = Table(f"Final regret on {name}", columns(["Method"], ("Median", _INTERVAL, "Seconds")), rows)
        return self.progress(name, f"{note}.", curves, evaluations, scale), table

    @property
    def time(self) -> Figure:
        rows = []
        for name in self.ranked:
            values = self.seconds(name)
            rows.append(Row(name, self.styles[name], float(values.median()), others=tuple(values)))
        scale = axis("Seconds (log scale)", list(self.comparison.summary["suggestion_seconds"]), log=True)
        told = ", ".join(f"{row.label} {number(row.value)} s" for row in rows)
        chart = dots(rows, x=scale, title="Time per suggestion", text=f"Median seconds a suggestion: {told}.")
        note = (
            "Median seconds in the optimiser for one evaluation. Strokes: each problem. Marker: their median."
        )
        return Figure("Seconds a suggestion", note, chart)

    @property
    def shared(self) -> list[str]:
        """What is said of seconds that are shares of those of several replicates."""
        return shares(self.records)

    @property
    def failures(self) -> Table:
        kinds = ("units", "finished", "crashed", "timed_out", "ended_early", "failed_evaluations")
        found = keyed(self.comparison.failures)
        rows = [self.line(name, *(f"{found[name][kind]:,}" for kind in kinds)) for name in self.ranked]
        head = [kind.replace("_", " ").capitalize() for kind in kinds]
        return Table("What became of each method's units", columns(["Method"], head), rows)

    @property
    def failures_sentence(self) -> str:
        counts = self.comparison.failures
        lost = int((counts["units"] - counts["finished"]).sum())
        failed = int(counts["failed_evaluations"].sum())
        early = int(counts["ended_early"].sum())
        every = counted(int(counts["units"].sum()), "unit")
        more = f" {counted(early, 'unit')} finished before the budget was spent." if early else ""
        if not lost and not failed:
            return f"None: all of {every} finished, and no evaluation failed.{more}"
        what = f"{lost:,} of {every} did not finish, and {counted(failed, 'evaluation')} failed."
        return f"{what} All of them count.{more}"

    @property
    def reasons(self) -> Table:
        """What is said of failures, most frequent first."""
        units, evaluations = self.records.units, self.records.evaluations
        ended = units[(units["state"] != "finished") | units["reason"].notna()][["method", "state", "reason"]]
        ended = ended.replace({"state": {"finished": "ended early"}})
        failed = evaluations[evaluations["failure"].notna()][["method", "failure"]]
        failed = failed.rename(columns={"failure": "reason"}).assign(state="failed evaluation")
        every = pd.concat([ended, failed]) if len(failed) else ended
        every = every.assign(reason=every["reason"].fillna("no reason given").astype(str).str[:_LETTERS])
        counts = every.groupby(["method", "state", "reason"], sort=False).size().reset_index(name="times")
        counts = counts.sort_values("times", ascending=False, kind="stable")
        rows = [
            Line((str(row["method"]), str(row["state"]), f"{row['times']:,}", str(row["reason"])))
            for row in counts.head(_REASONS).to_dict("records")
        ]
        more = f", the {_REASONS} most frequent of {len(counts)}" if len(counts) > _REASONS else ""
        heads = (
            Column("Method", "name"),
            Column("What", "name"),
            Column("Times", "number"),
            Column("Reason", "text"),
        )
        return Table(f"Reasons{more}", heads, rows)

    @property
    def environments(self) -> list[list[tuple[str, str]]]:
        """Names and values, an environment each."""
        units = self.records.units["environment"].value_counts()
        return [
            [("Units", f"{units.get(row['environment'], 0):,}")]
            + [
                (name.capitalize(), told(row[name]))
                for name in ("python", "platform", "device", "threads", "commit")
            ]
            + [("Versions", versions(row["versions"]))]
            for row in self.records.environments.to_dict("records")
        ]

    def line(self, method: str, *cells: str) -> Line:
        return Line((method, *cells), swatch(self.styles[method]))

    def seconds(self, method: str) -> pd.Series:
        """Of a suggestion of the method, for each problem."""
        summary = self.comparison.summary
        return summary.loc[summary["method"] == method, "suggestion_seconds"].astype(float)

    def progress(self, title: str, note: str, frame: pd.DataFrame, x: Axis, y: Axis) -> Figure:
        """A chart of what the frame says of each method: a share of targets, a regret or a normalised one."""
        parts = dict(tuple(frame.groupby("method")))
        curves = [self.curve(method, parts[method]) for method in self.ranked if method in parts]
        finals = ", ".join(f"{curve.label} {number(curve.y[-1])}" for curve in curves)
        absent = [curve.label for curve in curves if not any(math.isfinite(value) for value in curve.y)]
        if absent:
            note += f" Without a median: {', '.join(absent)}."
        chart = lines(curves, x=x, y=y, title=title, text=f"{y.label}, at the end: {finals}.")
        return Figure(title, note, chart)

    def curve(self, method: str, frame: pd.DataFrame) -> Curve:
        over = "evaluation" if "evaluation" in frame else "optimizer_seconds"
        value = next(name for name in ("share", "regret", "normalized") if name in frame)
        low, high = (
            frame[end].tolist() if end in frame and frame[end].notna().any() else ()
            for end in (f"{value}_low", f"{value}_high")
        )
        detail = max(12, min(60, _STEPS // (len(self.names) * len(self.styles))))
        x, y = frame[over].tolist(), frame[value].tolist()
        return Curve(method, self.styles[method], x, y, low, high, detail)


def columns(names: Sequence[str], numbers: Sequence[str]) -> tuple[Column, ...]:
    return (*(Column(name, "name") for name in names), *(Column(name, "number") for name in numbers))


def keyed(frame: pd.DataFrame, by: str = "method") -> dict[Any, dict[Hashable, Any]]:
    """The last row of each method."""
    return {row[by]: row for row in frame.to_dict("records")}


def level(p: float) -> str:
    """A p-value without its letter, as cells have it."""
    space = "\N{NO-BREAK SPACE}"
    return "–" if missing(p) else typeset(chance(p)).removeprefix(f"p{space}").removeprefix(f"={space}")


def bounds(frame: pd.DataFrame, name: str) -> list[float]:
    """The values between which an axis lies: medians and intervals, down to a tenth of the least median."""
    medians = frame[name][frame[name] > 0]
    ends = [*medians, *frame[f"{name}_low"], *frame[f"{name}_high"]]
    return [value for value in ends if value >= 0.1 * medians.min()]
