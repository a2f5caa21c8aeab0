"""The tables and facts that the records of a suite give."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bo_suite.bench.bootstrap import median_interval
from bo_suite.bench.curves import curves, overall_curves, profile
from bo_suite.bench.feasibility import feasibility
from bo_suite.bench.pairs import ALPHA, pairs, per_problem_pairs
from bo_suite.bench.ranks import Ranks, ranks
from bo_suite.bench.records import Records
from bo_suite.bench.sentences import summary_sentences
from bo_suite.bench.trajectories import Trajectories, common_units, finals, trajectories
from bo_suite.storage.addresses import Location
from bo_suite.values.describe import visible

_ROUNDING = 1e-9  # of a problem's span
_STATE_OF = {"crashed": "crashed", "timed_out": "timed out", "ended_early": "finished"}


@dataclass(frozen=True)
class Findings:
    """Facts about the records that no table of a `Comparison` holds.

    Attributes:
        methods, problems, seeds, units: numbers of each.
        leaders: methods with the best mean rank; none if no (problem, seed) is common to all methods, or all
            runs of these crashed or found nothing.
        fewest_seeds, most_seeds: of a method on a problem.
        separable: whether the runs are enough to separate any two methods after Holm's correction.
        unknown_minima: problems whose minimum is not known.
        beaten: problems on which a run found less than the best known value, and by how much.
        sharing: methods whose seconds are shares of those of several runs at once.
        runs_at_once: the most runs at once.
        first_reasons: why the first unit that crashed, timed_out or ended_early did so, by these names.
    """

    methods: int
    problems: int
    seeds: int
    units: int
    leaders: tuple[str, ...]
    fewest_seeds: int
    most_seeds: int
    separable: bool
    unknown_minima: tuple[str, ...]
    beaten: Mapping[str, float]
    sharing: tuple[str, ...]
    runs_at_once: int
    first_reasons: Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the records of a suite show; the function of each table's name defines it.

    `str` gives the methods in a table and the sentences. Ranks, normalised regret and auc are over the
    (problem, seed) that every method has run.
    """

    finals: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    overall_curves: pd.DataFrame
    overall_curves_over_time: pd.DataFrame
    ranks: Ranks
    pairs: pd.DataFrame
    per_problem_pairs: pd.DataFrame
    profile: pd.DataFrame
    profile_over_time: pd.DataFrame
    failures: pd.DataFrame
    feasibility: pd.DataFrame
    findings: Findings

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was run, who leads, which methods the data separate from it, and what the data do not show."""
        lead, rest = summary_sentences(self)
        return (*lead, *rest)

    @property
    def standings(self) -> pd.DataFrame:
        """A row a method, the best mean rank first: the columns of ranks, and medians of what it measured."""
        common = self.finals[common_units(self.finals)].groupby("method")[["normalized", "auc"]].median()
        reached = self.profile.groupby("method")["share"].last()
        seconds = self.summary.groupby("method")["suggestion_seconds"].median()
        table = self.ranks.table.set_index("method", drop=False).join([common, reached, seconds])
        return table.join(self.failures.set_index("method")).reset_index(drop=True)

    def __str__(self) -> str:
        rows = self.standings
        table = rows[["method"]].map(visible)
        table["mean rank"] = [f"{rank:.2f}" for rank in rows["mean_rank"]]
        ends = rows[["low", "high"]].to_numpy()
        table["95%"] = ["" if np.isnan(low) else f"{low:.2f} to {high:.2f}" for low, high in ends]
        table["median normalised regret"] = rows["normalized"]
        table["median auc"] = rows["auc"]
        table["s/suggestion"] = rows["suggestion_seconds"]
        table["crashed"] = rows["crashed"]
        table["timed out"] = rows["timed_out"]
        text = table.to_string(index=False, float_format=lambda value: f"{value:.3g}")
        return "\n".join([text, "", *self.sentences])


def compare(source: Records | Location) -> Comparison:
    """Computes all tables of the records of a suite, or of the suite in a folder or at an address.

    Raises:
        StorageError: the folder holds no records.
        DataError: no unit has ended, or the records do not fit together.
    """
    records = Records.read(source) if isinstance(source, Location) else source
    paths = trajectories(records)
    timed, final, ranked, paired = paths.over_seconds(), finals(paths), ranks(paths), pairs(paths)
    return Comparison(
        finals=final,
        summary=summary(records, final),
        curves=curves(paths),
        overall_curves=overall_curves(paths),
        overall_curves_over_time=overall_curves(timed),
        ranks=ranked,
        pairs=paired,
        per_problem_pairs=per_problem_pairs(paths),
        profile=profile(paths),
        profile_over_time=profile(timed),
        failures=failures(records),
        feasibility=feasibility(records.units),
        findings=_findings(records, paths, ranked, paired),
    )


def summary(records: Records, final: pd.DataFrame) -> pd.DataFrame:
    """How each method did on each problem, of the records and their `finals`: a row a (problem, method).

    - seeds: number of units, whatever their state.
    - regret: median over the seeds of the final regret; low, high: its 95% bootstrap interval, see
      `median_interval`, NaN for fewer than 6 seeds.
    - normalized, auc: medians over the seeds of these columns of `finals`.
    - suggestion_seconds: median over the evaluations of the seconds in ask and tell; NaN without any.
    - crashed, timed_out: numbers of units.
    """
    evaluations = records.evaluations
    spent = evaluations["ask_seconds"].fillna(0.0) + evaluations["tell_seconds"].fillna(0.0)
    seconds = spent.groupby([evaluations["problem"], evaluations["method"]]).median().to_dict()
    rows = []
    for (problem, method), group in final.groupby(["problem", "method"]):
        low, high = median_interval(group["regret"].to_numpy(dtype=np.float64))
        medians = {name: float(np.median(group[name].to_numpy())) for name in ("regret", "normalized", "auc")}
        row = {"problem": problem, "method": method, "seeds": len(group), "regret": medians["regret"]}
        row |= {"low": float(low), "high": float(high), **medians}
        row["suggestion_seconds"] = seconds.get((problem, method), np.nan)
        row |= {kind: int((group["state"] == _STATE_OF[kind]).sum()) for kind in ("crashed", "timed_out")}
        rows.append(row)
    return pd.DataFrame(rows)


def failures(records: Records) -> pd.DataFrame:
    """How the units of each method ended: a row a method.

    units, finished, crashed, timed_out: numbers of units; ended_early: finished units with a reason for not
    spending their budget; failed_evaluations: evaluations without an outcome; reason: of the first unit that
    crashed or timed out, else of the first that ended early, else of the first failed evaluation, else None.
    """
    units = records.units.sort_values(["problem", "seed"])
    evaluations = records.evaluations.sort_values(["problem", "seed", "evaluation"])
    failed = evaluations[evaluations["failure"].notna()]
    rows = []
    for method in sorted(set(units["method"].astype(str))):
        own, broken = units[units["method"] == method], failed[failed["method"] == method]
        finished, reasons = own["state"] == "finished", own["reason"]
        texts = [*reasons[~finished].dropna(), *reasons[finished].dropna(), *broken["failure"]]
        rows.append(
            {
                "method": method,
                "units": len(own),
                "finished": int(finished.sum()),
                "crashed": int((own["state"] == "crashed").sum()),
                "timed_out": int((own["state"] == "timed out").sum()),
                "ended_early": int(reasons[finished].notna().sum()),
                "failed_evaluations": len(broken),
                "reason": texts[0] if texts else None,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(reason=pd.Series([row["reason"] for row in rows], dtype=object))  # None, not NaN


def _findings(records: Records, paths: Trajectories, ranked: Ranks, paired: pd.DataFrame) -> Findings:
    units, table = records.units, ranked.table
    best = table["method"][table["mean_rank"] == table["mean_rank"].min()]
    has_outcome = np.isfinite(finals(paths)["incumbent"][common_units(paths.units)]).any()
    seeds = units.groupby(["problem", "method"], observed=True).size()
    tests = int(paired["p"].notna().sum())
    smallest_p = 2.0 ** (1 - paired["pairs"].max()) if tests else 0.0
    facts = records.problems[records.problems["problem"].isin(set(units["problem"]))]
    shared = units[units["replicates"] > 1]
    ordered = units.sort_values(["problem", "seed"])
    reasons = {
        kind: ordered["reason"][ordered["state"] == state].dropna() for kind, state in _STATE_OF.items()
    }
    return Findings(
        methods=units["method"].nunique(),
        problems=units["problem"].nunique(),
        seeds=units["seed"].nunique(),
        units=len(units),
        leaders=tuple(sorted(best)) if has_outcome else (),
        fewest_seeds=int(seeds.min()),
        most_seeds=int(seeds.max()),
        separable=smallest_p * tests < ALPHA,
        unknown_minima=tuple(str(name) for name in facts["problem"][facts["minimum"].isna()]),
        beaten=_beaten(paths),
        sharing=tuple(sorted(set(shared["method"].astype(str)))),
        runs_at_once=int(units["replicates"].max()),
        first_reasons={kind: None if own.empty else str(own.iloc[0]) for kind, own in reasons.items()},
    )


def _beaten(paths: Trajectories) -> dict[str, float]:
    """By how much runs found less than the best known value of a problem, if not by rounding errors."""
    units = paths.units.assign(least=np.nan_to_num(paths.incumbent, nan=np.inf).min(axis=1))
    gaps = {}
    for name, own in units.groupby("problem"):
        gap = float(own["best_known"].iloc[0]) - float(own["least"].min())
        if gap > _ROUNDING * (float(own["span"].iloc[0]) or 1.0):
            gaps[str(name)] = gap
    return gaps
