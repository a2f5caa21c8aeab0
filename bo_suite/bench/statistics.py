"""What the records of a suite show, and what they do not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bo_suite.bench.bootstrap import median_interval
from bo_suite.bench.curves import (
    curves,
    curves_over_time,
    overall_curves,
    overall_curves_over_time,
    profile,
    profile_over_time,
)
from bo_suite.bench.pairs import ALPHA, pairs, per_problem_pairs, written
from bo_suite.bench.ranks import Ranks, ranks
from bo_suite.bench.records import Records
from bo_suite.bench.trajectories import finals, runs, trajectories

__all__ = [
    "Comparison",
    "Ranks",
    "compare",
    "curves",
    "curves_over_time",
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
    "summary",
]

_FEW_PROBLEMS = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """What the records of a suite show; each table is that of the function of its name.

    `str` gives the methods in a table and the sentences.

    Attributes:
        sentences: what was run, who leads, whom the data separate it from, and what was not shown.
    """

    runs: pd.DataFrame
    finals: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    curves_over_time: pd.DataFrame
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
        table = ranked[["method"]].copy()
        table["mean rank"] = [f"{rank:.2f}" for rank in ranked["mean_rank"]]
        ends = ranked[["low", "high"]].to_numpy()
        table["95%"] = ["" if np.isnan(low) else f"{low:.2f} to {high:.2f}" for low, high in ends]
        groups = self.finals.groupby("method")
        table["median normalised regret"] = groups["normalized"].median().loc[table["method"]].to_numpy()
        table["median auc"] = groups["auc"].median().loc[table["method"]].to_numpy()
        seconds = self.summary.groupby("method")["suggestion_seconds"].median()
        table["s/suggestion"] = seconds.loc[table["method"]].to_numpy()
        counts = self.failures.set_index("method").loc[table["method"]]
        table["crashed"] = counts["crashed"].to_numpy()
        table["timed out"] = counts["timed_out"].to_numpy()
        text = table.to_string(index=False, float_format=lambda value: f"{value:.3g}")
        return "\n".join([text, "", *self.sentences])


def compare(source: Records | str | Path) -> Comparison:
    """All tables about the records of a suite, or of the suite in a folder, and their summary in sentences.

    Raises:
        StorageError: a folder without records.
        DataError: no unit that has ended, or records that do not fit together.
    """
    records = Records.read(source) if isinstance(source, str | Path) else source
    ranked, compared, failed = ranks(records), pairs(records), failures(records)
    return Comparison(
        runs=runs(records),
        finals=finals(records),
        summary=summary(records),
        curves=curves(records),
        curves_over_time=curves_over_time(records),
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
            *_results(ranked, compared),
            *_limits(records, ranked, compared),
            *_endings(failed),
        ),
    )


def summary(records: Records) -> pd.DataFrame:
    """How each method did on each problem: a row a (problem, method).

    - seeds: units, whatever their state.
    - regret: median over the seeds of the final regret, see `finals`; low, high: its 95% bootstrap
      interval, see `median_interval`, NaN for one seed.
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

    units, finished, crashed, timed_out: units; failed_evaluations: evaluations without an outcome; reason:
    why the first unit that crashed or timed out did so or, where none did, the first failure of an
    evaluation, None where all went well.

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
        reasons = [*own["reason"][own["state"] != "finished"].dropna(), *broken["failure"]]
        rows.append(
            {
                "method": method,
                "units": len(own),
                "finished": int((own["state"] == "finished").sum()),
                "crashed": int((own["state"] == "crashed").sum()),
                "timed_out": int((own["state"] == "timed out").sum()),
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
        f"{_count(counts['method'], 'method')} on {_count(counts['problem'], 'problem')} with "
        f"{_count(counts['seed'], 'seed')}: {_count(len(units), 'unit')}."
    )


def _results(ranked: Ranks, compared: pd.DataFrame) -> list[str]:
    """Who leads, and whom the data separate it from."""
    table = ranked.table
    if len(table) < 2:
        return ["One method: there is nothing to compare it with."]
    if not ranked.pairs:
        return ["No problem and seed has been run by every method: there are no common ranks."]
    leader, best = str(table["method"].iloc[0]), table.iloc[0]
    others = sorted(table["method"][table["mean_rank"] == best["mean_rank"]])
    name = _listed(others)
    verb = "has" if len(others) == 1 else "share"
    low, high = float(best["low"]), float(best["high"])
    interval = "" if np.isnan(low) else f" (95% interval {low:.2f} to {high:.2f})"
    found = [f"{name} {verb} the best mean rank: {best['mean_rank']:.2f} of {len(table)}{interval}."]
    own = compared[(compared["first"] == leader) | (compared["second"] == leader)]
    rivals = [b if a == leader else a for a, b in zip(own["first"], own["second"], strict=True)]
    apart = [rival for rival, separated in zip(rivals, own["separated"], strict=True) if separated]
    if apart:
        found.append(f"The data separate {leader} from {_listed(apart)}.")
    found += [
        sentence
        for sentence, separated in zip(own["sentence"], own["separated"], strict=True)
        if not separated
    ]
    found.append(
        f"Over problems, ranks that differ by less than {ranked.critical_difference:.2f} are not separated "
        f"(Friedman's test: {written(ranked.friedman_p)})."
    )
    return found


def _limits(records: Records, ranked: Ranks, compared: pd.DataFrame) -> list[str]:
    """What the extent of the suite keeps it from showing."""
    found = []
    problems = records.units["problem"].nunique()
    if problems < _FEW_PROBLEMS:
        found.append(f"{_count(problems, 'problem')} cannot show how the methods do on others.")
    if records.units["seed"].nunique() == 1:
        found.append("One seed: no interval can be given for a problem's outcome.")
    tests = int(compared["p"].notna().sum())
    reachable = 2.0 ** (1 - compared["pairs"].max()) * tests if tests else 0.0
    if reachable >= ALPHA:
        found.append(
            f"With {_count(int(compared['pairs'].max()), 'pair')} of runs and {_count(tests, 'comparison')}, "
            "no difference, however clear, would be separated."
        )
    if ranked.left_out:
        found.append(
            f"{ranked.left_out} of {ranked.pairs + ranked.left_out} (problem, seed) were not run by every "
            "method; ranks, profiles and overall curves leave them out."
        )
    table = records.problems
    run = table[table["problem"].isin(set(records.units["problem"])) & table["minimum"].isna()]
    if len(run):
        found.append(
            f"The minimum of {_listed([str(name) for name in run['problem']])} is not known: regret is to "
            "the best value known, or found in these records."
        )
    return found


def _endings(failed: pd.DataFrame) -> list[str]:
    crashed, late, evaluations = (
        int(failed[name].sum()) for name in ("crashed", "timed_out", "failed_evaluations")
    )
    found = []
    if crashed:
        names = _listed([str(name) for name in failed["method"][failed["crashed"] > 0]])
        found.append(f"{_count(crashed, 'unit')} crashed ({names}) and counted as the worst outcome.")
    if late:
        names = _listed([str(name) for name in failed["method"][failed["timed_out"] > 0]])
        found.append(
            f"{_count(late, 'unit')} timed out ({names}) and counted with what had been found by then."
        )
    if evaluations:
        found.append(f"{_count(evaluations, 'evaluation')} had no outcome; they used up budget.")
    return found


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
