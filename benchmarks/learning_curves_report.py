"""The tables of `benchmarks/learning_curves.py report`.

All are over the (task, seed) that every method has run. For each number of workers:

- to 1%: share of runs with an accuracy within 1% (a hundredth of it) of the task's best one, and the median
  of the simulated time to it in mean whole evaluations, inf for a run that does not get there;
- regret at shares of the run: mean over runs of 1 - accuracy / best, in per cent; the accuracy is that of the
  median random point until a run has a better one;
- area: mean over runs of the regret, averaged over the time of the run;
- mean rank by the area, with its 95% bootstrap interval over seeds within tasks;
- separated: the stratified signed-rank test of the area against the best method, Holm's correction;
- factor saved: the time of the whole run over the time at which the method's median run has what the median
  run of `bo_suite_full` has at the end; the geometric mean over tasks, 1 for one on which it never has it;
- best stopped: share of runs in which the trial whose curve ends best of all that were started was stopped,
  and the mean of what this costs, in per cent of the accuracy.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from bo_suite.bench.bootstrap import LEAST_SEEDS, fewest, percentile_interval, resampled_counts
from bo_suite.bench.signed_ranks import differences, holm, rank_biserial, signed_rank_p

Record = dict[str, Any]
Improvements = Sequence[tuple[float, float]]
Reference = Mapping[str, Any]  # of a task: "best" and "median"
SHARES = (0.1, 0.25, 0.5, 1.0)
FULL = "bo_suite_full"


def value_at(improvements: Improvements, moment: float) -> float:
    """The best accuracy at a time; 0 before the first."""
    return max((value for at, value in improvements if at <= moment), default=0.0)


def time_to(improvements: Improvements, value: float) -> float:
    """The first time with an accuracy; inf if there is none."""
    return min((at for at, reached in improvements if reached >= value), default=math.inf)


def regret_at(improvements: Improvements, moment: float, reference: Reference) -> float:
    """1 - accuracy / best at a time; the accuracy is at least that of the median random point."""
    return 1.0 - max(value_at(improvements, moment), reference["median"]) / reference["best"]


def area(improvements: Improvements, horizon: float, reference: Reference) -> float:
    """The regret averaged over the time of a run."""
    moments = [0.0, *(at for at, _ in improvements), horizon]
    pieces = [(end - start) * regret_at(improvements, start, reference) for start, end in pairwise(moments)]
    return math.fsum(pieces) / horizon


def common(records: Sequence[Record]) -> dict[tuple[int, int], dict[str, Record]]:
    """By (task, seed) that every method has run, the records by method."""
    methods = {record["method"] for record in records}
    by_unit: dict[tuple[int, int], dict[str, Record]] = {}
    for record in records:
        by_unit.setdefault((record["task"], record["seed"]), {})[record["method"]] = record
    return {unit: rows for unit, rows in sorted(by_unit.items()) if set(rows) == methods}


def mean_ranks(areas: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean rank of each column, and the ends of its interval; NaN if a task has fewer than 5 seeds."""
    ranks = stats.rankdata(areas, axis=1)
    if fewest(strata) < LEAST_SEEDS:
        unknown = np.full(areas.shape[1], np.nan)
        return ranks.mean(axis=0), unknown, unknown
    low, high = percentile_interval(resampled_counts(strata) @ ranks / len(ranks))
    return ranks.mean(axis=0), low, high


def factor_saved(rows: Mapping[tuple[int, int], Mapping[str, Record]], method: str, field: str) -> float:
    """The geometric mean over tasks of how much sooner a method has what `bo_suite_full` has at the end."""
    logs = []
    for task in {task for task, _ in rows}:
        own = [by_method for (one, _), by_method in rows.items() if one == task]
        horizon = own[0][method]["horizon"]
        target = statistics.median(value_at(by[FULL][field], horizon) for by in own)
        times = [time_to(by[method][field], target) for by in own]
        logs.append(math.log(horizon / min(statistics.median(times), horizon)))
    return math.exp(statistics.fmean(logs))


def wrongly_stopped(records: Sequence[Record]) -> tuple[float, float]:
    """The share of runs whose best trial was stopped, and the mean of what that costs in per cent."""
    costs = [
        100.0 * (1.0 - value_at(record["finished"], math.inf) / record["best_started"]["final"])
        if record["best_started"]["fate"] == "stopped"
        else 0.0
        for record in records
    ]
    return statistics.fmean(r["best_started"]["fate"] == "stopped" for r in records), statistics.fmean(costs)


def print_report(
    records: Sequence[Record], references: Mapping[int, Reference], field: str, console: Console
) -> None:
    """Prints the tables of each number of workers."""
    for workers in sorted({record["workers"] for record in records}):
        own = [record for record in records if record["workers"] == workers]
        rows = common(own)
        if not rows:
            console.print(f"{workers} workers: no (task, seed) was run by every method")
            continue
        print_workers(workers, rows, references, field, console)


def print_workers(
    workers: int,
    rows: Mapping[tuple[int, int], Mapping[str, Record]],
    references: Mapping[int, Reference],
    field: str,
    console: Console,
) -> None:
    """Prints the table of one number of workers; the best mean rank comes first."""
    methods = sorted(next(iter(rows.values())))
    strata = np.array([str(task) for task, _ in rows])
    areas = np.array(
        [
            [area(by[m][field], by[m]["horizon"], references[task]) for m in methods]
            for (task, _), by in rows.items()
        ]
    )
    ranks, low, high = mean_ranks(areas, strata)
    order = np.argsort(ranks, kind="stable")
    leader = order[0]
    gains = [differences(areas[:, index], areas[:, leader]) for index in range(len(methods))]
    p = holm(
        [math.nan if index == leader else signed_rank_p(gain, strata) for index, gain in enumerate(gains)]
    )
    table = Table("method", "mean rank", "95%", "area %", *(f"at {share:g}" for share in SHARES), "to 1%")
    for name in ("median time", "factor saved", "best stopped", "cost %", "p", "effect", "trials", "wall s"):
        table.add_column(name)
    for index in order:
        name = methods[index]
        runs = [(task, by[name]) for (task, _), by in rows.items()]
        regrets = [
            100 * statistics.fmean(regret_at(r[field], share * r["horizon"], references[t]) for t, r in runs)
            for share in SHARES
        ]
        times = [time_to(record[field], 0.99 * references[task]["best"]) for task, record in runs]
        stopped, cost = wrongly_stopped([record for _, record in runs])
        saved = f"{factor_saved(rows, name, field):.2f}" if FULL in methods else "-"
        table.add_row(
            name,
            f"{ranks[index]:.2f}",
            "" if math.isnan(low[index]) else f"{low[index]:.2f} to {high[index]:.2f}",
            f"{100 * areas[:, index].mean():.2f}",
            *(f"{regret:.2f}" for regret in regrets),
            f"{statistics.fmean(map(math.isfinite, times)):.2f}",
            f"{statistics.median(times):.2f}",
            saved,
            f"{stopped:.2f}",
            f"{cost:.2f}",
            "" if index == leader else f"{p[index]:.2g}",
            "" if index == leader else f"{rank_biserial(gains[index], strata):.2f}",
            f"{statistics.fmean(sum(record['fates'].values()) for _, record in runs):.0f}",
            f"{statistics.median(record['wall_seconds'] for _, record in runs):.1f}",
        )
    tasks = len(set(strata))
    console.print(f"{workers} workers: {tasks} tasks, {len(rows)} runs of each method, outcomes: {field}")
    console.print(table)
