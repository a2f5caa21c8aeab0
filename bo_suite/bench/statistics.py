"""What the records of a suite show, and what they do not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bo_suite.bench.bootstrap import LEAST_SEEDS, LEAST_VALUES, median_interval
from bo_suite.bench.curves import (
    curves,
    overall_curves,
    overall_curves_over_time,
    profile,
    profile_over_time,
)
from bo_suite.bench.pairs import ALPHA, pairs, per_problem_pairs
from bo_suite.bench.ranks import Ranks, ranks
from bo_suite.bench.records import Records
from bo_suite.bench.trajectories import common_units, finals, runs, trajectories
from bo_suite.bench.wording import chance, counted, last_line, listed, number
from bo_suite.values.describe import visible

__all__ = [
    "Comparison",
    "Ranks",
    "compare",
    "curves",
    "failures",
    "finals",
    "overall_curves",
    "overall_curves_over_time",
    "pairs",
    "per_problem_pairs",
    "profile",
    "profile_over_time",
    "ranks",
    "runs",
    "shares",
    "summary",
]

_FEW_PROBLEMS = 5
_ROUNDING = 1e-9  # of a problem's span
_ENDINGS = (
    ("crashed", "crashed", "crashed", "as the worst outcome"),
    ("timed_out", "timed out", "timed out", "with what had been found by then"),
    ("ended_early", "ended before the budget was spent", "finished", "with what had been found by then"),
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the records of a suite show; each table is that of the function of its name.

    `str` gives the methods in a table and the sentences. Ranks, normalised regret and auc are over the
    (problem, seed) that every method has run.

    Attributes:
        sentences: what was run, who leads, whom the data separate it from, and what was not shown.
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
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        ranked = self.ranks.table
        table = ranked[["method"]].map(visible)
        table["mean rank"] = [f"{rank:.2f}" for rank in ranked["mean_rank"]]
        ends = ranked[["low", "high"]].to_numpy()
        table["95%"] = ["" if np.isnan(low) else f"{low:.2f} to {high:.2f}" for low, high in ends]
        common = self.finals[common_units(self.finals)].groupby("method")[["normalized", "auc"]].median()
        common = common.reindex(ranked["method"])
        table["median normalised regret"] = common["normalized"].to_numpy()
        table["median auc"] = common["auc"].to_numpy()
        seconds = self.summary.groupby("method")["suggestion_seconds"].median()
        table["s/suggestion"] = seconds.loc[ranked["method"]].to_numpy()
        counts = self.failures.set_index("method").loc[ranked["method"]]
        table["crashed"] = counts["crashed"].to_numpy()
        table["timed out"] = counts["timed_out"].to_numpy()
        text = table.to_string(index=False, float_format=lambda value: f"{value:.3g}")
        return "\n".join([text, "", *map(visible, self.sentences)])


def compare(source: Records | str | Path) -> Comparison:
    """All tables about the records of a suite, or of the suite in a folder, and their summary in sentences.

    Raises:
        StorageError: a folder without records.
        DataError: no unit that has ended, or records that do not fit together.
    """
    records = Records.read(source) if isinstance(source, str | Path) else source
    ranked, compared, failed, ends = ranks(records), pairs(records), failures(records), finals(records)
    return Comparison(
        finals=ends,
        summary=summary(records),
        curves=curves(records),
        overall_curves=overall_curves(records),
        overall_curves_over_time=overall_curves_over_time(records),
        ranks=ranked,
        pairs=compared,
        per_problem_pairs=per_problem_pairs(records),
        profile=profile(records),
        profile_over_time=profile_over_time(records),
        failures=failed,
        sentences=(
            _extent(records),
            *_results(ranked, compared, ends),
            *_limits(records, ranked, compared),
            *_endings(records, failed),
        ),
    )


def summary(records: Records) -> pd.DataFrame:
    """How each method did on each problem: a row a (problem, method).

    - seeds: units, whatever their state.
    - regret: median over the seeds of the final regret, see `finals`; low, high: its 95% bootstrap
      interval, see `median_interval`, NaN for fewer than 6 seeds.
    - normalized, auc: medians over the seeds of these columns of `finals`.
    - suggestion_seconds: median over the evaluations of the seconds in ask and tell; NaN without any.
    - crashed, timed_out: units.

    Raises:
        DataError: records that do not fit together.
    """
    evaluations = records.evaluations
    spent = evaluations["ask_seconds"].fillna(0.0) + evaluations["tell_seconds"].fillna(0.0)
    seconds = spent.groupby([evaluations["problem"], evaluations["method"]]).median().to_dict()
    rows = []
    for (problem, method), group in finals(records).groupby(["problem", "method"]):
        regret = group["regret"].to_numpy(dtype=np.float64)
        low, high = median_interval(regret)
        rows.append(
            {
                "problem": problem,
                "method": method,
                "seeds": len(group),
                "regret": float(np.median(regret)),
                "low": float(low),
                "high": float(high),
                "normalized": float(np.median(group["normalized"].to_numpy())),
                "auc": float(np.median(group["auc"].to_numpy())),
                "suggestion_seconds": seconds.get((problem, method), np.nan),
                "crashed": int((group["state"] == "crashed").sum()),
                "timed_out": int((group["state"] == "timed out").sum()),
            }
        )
    return pd.DataFrame(rows)


def failures(records: Records) -> pd.DataFrame:
    """What went wrong: a row a method.

    units, finished, crashed, timed_out: units; ended_early: finished units that give a reason for not having
    spent their budget; failed_evaluations: evaluations without an outcome; reason: why the first unit that
    crashed or timed out did so or, where none did, why the first ended early or, where none did, the first
    failure of an evaluation, None where all went well.

    Raises:
        DataError: records that do not fit together.
    """
    checked = trajectories(records).units
    units = records.units.sort_values(["problem", "seed"])
    evaluations = records.evaluations.sort_values(["problem", "seed", "evaluation"])
    failed = evaluations[evaluations["failure"].notna()]
    rows = []
    for method in sorted(set(checked["method"])):
        own = units[units["method"] == method]
        broken = failed[failed["method"] == method]
        finished, said = own["state"] == "finished", own["reason"].notna()
        reasons = [*own["reason"][~finished & said], *own["reason"][finished & said], *broken["failure"]]
        rows.append(
            {
                "method": method,
                "units": len(own),
                "finished": int(finished.sum()),
                "crashed": int((own["state"] == "crashed").sum()),
                "timed_out": int((own["state"] == "timed out").sum()),
                "ended_early": int((finished & said).sum()),
                "failed_evaluations": len(broken),
                "reason": reasons[0] if reasons else None,
            }
        )
    table = pd.DataFrame(rows)
    table["reason"] = pd.Series([row["reason"] for row in rows], dtype=object)
    return table


def _extent(records: Records) -> str:
    units = records.units
    counts = {name: units[name].nunique() for name in ("method", "problem", "seed")}
    return (
        f"{counted(counts['method'], 'method')} on {counted(counts['problem'], 'problem')} with "
        f"{counted(counts['seed'], 'seed')}: {counted(len(units), 'unit')}."
    )


def _results(ranked: Ranks, compared: pd.DataFrame, ends: pd.DataFrame) -> list[str]:
    """Who leads, and whom the data separate it from."""
    table = ranked.table
    if len(table) < 2:
        return ["One method: there is nothing to compare it with."]
    if not ranked.pairs:
        return ["No problem and seed has been run by every method: there are no common ranks."]
    if not np.isfinite(ends["incumbent"][common_units(ends)]).any():
        return ["All crashed, or found nothing, wherever every method was run: no method leads."]
    best = table.iloc[0]
    others = sorted(table["method"][table["mean_rank"] == best["mean_rank"]])
    verb = "has" if len(others) == 1 else "share"
    low, high = float(best["low"]), float(best["high"])
    interval = "" if np.isnan(low) else f" (95% interval {low:.2f} to {high:.2f})"
    return [
        f"{listed(others)} {verb} the best mean rank: {best['mean_rank']:.2f} of {len(table)}{interval}.",
        *_leads(str(best["method"]), compared),
        _over_problems(ranked),
    ]


def _leads(leader: str, compared: pd.DataFrame) -> list[str]:
    """Whom the data separate the leader from; in the pair's own words where they do not, or against it."""
    ahead, others = [], []
    for row in compared.to_dict("records"):
        if leader in (row["first"], row["second"]):
            leads = row["effect"] > 0 if row["first"] == leader else row["effect"] < 0
            if row["separated"] and leads:
                ahead.append(str(row["second"] if row["first"] == leader else row["first"]))
            else:
                others.append(str(row["sentence"]))
    return [*([f"The data separate {leader} from {listed(ahead)}."] if ahead else []), *others]


def _over_problems(ranked: Ranks) -> str:
    tested = f"(Friedman's test: {chance(ranked.friedman_p)})"
    if ranked.few:
        verb = "is" if ranked.problems == 1 else "are"
        return (
            f"{counted(ranked.problems, 'problem')} {verb} too few for their ranks to separate any two of "
            f"{len(ranked.table)} methods {tested}."
        )
    return (
        f"Over problems, ranks that differ by less than {ranked.critical_difference:.2f} are not separated "
        f"{tested}."
    )


def _limits(records: Records, ranked: Ranks, compared: pd.DataFrame) -> list[str]:
    """What the extent of the suite keeps it from showing."""
    found = []
    problems = records.units["problem"].nunique()
    if problems < _FEW_PROBLEMS:
        found.append(f"{counted(problems, 'problem')} cannot show how the methods do on others.")
    found += _seeds(records)
    tests = int(compared["p"].notna().sum())
    reachable = 2.0 ** (1 - compared["pairs"].max()) * tests if tests else 0.0
    if reachable >= ALPHA:
        found.append(
            f"With {counted(int(compared['pairs'].max()), 'pair')} of runs and "
            f"{counted(tests, 'comparison')}, no difference, however clear, would be separated."
        )
    if ranked.left_out:
        found.append(
            f"{ranked.left_out} of {ranked.pairs + ranked.left_out} (problem, seed) were not run by every "
            "method; ranks, profiles and overall curves leave them out."
        )
    return [*found, *_minima(records), *shares(records)]


def _seeds(records: Records) -> list[str]:
    """Whether there are too few for intervals."""
    counts = records.units.groupby(["problem", "method"], observed=True).size()
    fewest = int(counts.min())
    if fewest >= LEAST_VALUES:
        return []
    where = "With" if fewest == counts.max() else "Where there are no more than"
    ranks = f", nor one of ranks and effects, which take {LEAST_SEEDS}" if fewest < LEAST_SEEDS else ""
    return [
        f"{where} {counted(fewest, 'seed')} there is no interval of a problem's median, which takes "
        f"{LEAST_VALUES}{ranks}."
    ]


def _minima(records: Records) -> list[str]:
    """Minima that are not known, and known values that are none."""
    table = records.problems[records.problems["problem"].isin(set(records.units["problem"]))]
    unknown, found = [str(name) for name in table["problem"][table["minimum"].isna()]], []
    if unknown:
        found.append(
            f"The minimum of {listed(unknown)} is not known: regret is to the best value known, or found in "
            "these records."
        )
    paths, beaten = trajectories(records), []
    units = paths.units.assign(least=np.nan_to_num(paths.incumbent, nan=np.inf).min(axis=1))
    for name, own in units.groupby("problem"):
        best, span = float(own["best_known"].iloc[0]), float(own["span"].iloc[0])
        below = best - float(own["least"].min())
        if below > _ROUNDING * (span or 1.0):
            beaten.append(f"{name} (by {number(below)})")
    if beaten:
        found.append(
            f"Runs found less than the best known value of {listed(beaten)}: regrets that would be negative "
            "count as 0."
        )
    return found


def shares(records: Records) -> list[str]:
    """A sentence about seconds that are shares of those of several replicates; none where none are."""
    units = records.units[records.units["replicates"] > 1]
    if not len(units):
        return []
    names = listed(sorted(set(units["method"].astype(str))))
    return [
        f"Seconds of {names} are shares of up to {int(units['replicates'].max())} runs at once; "
        "`--together 1` times single suggestions."
    ]


def _endings(records: Records, failed: pd.DataFrame) -> list[str]:
    units = records.units.sort_values(["problem", "seed"])
    found = []
    for kind, verb, state, what in _ENDINGS:
        number_of = int(failed[kind].sum())
        if number_of:
            names = listed([str(name) for name in failed["method"][failed[kind] > 0]])
            reasons = units["reason"][units["state"] == state].dropna()
            first = f"; the first: {last_line(str(reasons.iloc[0]))}" if len(reasons) else ""
            found.append(f"{counted(number_of, 'unit')} {verb} ({names}) and counted {what}{first}.")
    evaluations = int(failed["failed_evaluations"].sum())
    if evaluations:
        found.append(f"{counted(evaluations, 'evaluation')} had no outcome; they used up budget.")
    return found
