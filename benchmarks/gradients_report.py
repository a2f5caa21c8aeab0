"""Tables of the records of benchmarks/gradients.py, in Markdown."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from features_report import table
from scipy.stats import rankdata

Record = dict[str, Any]
Array = npt.NDArray[np.float64]

OURS, WITHOUT, PEER = "bo_suite with gradients", "bo_suite without", "BoTorch with gradients"

RESOLUTION = 1e-9
"""Regrets that differ by less than this share of a function's typical regret are tied: rounding errors."""

RESAMPLES = 2000


def report(records: Sequence[Record], methods: Sequence[str] | None = None) -> None:
    """Prints the tables of regret and of seconds."""
    if not records:
        print("no records")
        return
    for key in ("commit", "device"):
        print(f"{key}: {', '.join(dict.fromkeys(record[key] for record in records))}")
    print(", ".join(f"{name} {number}" for name, number in records[-1]["versions"].items()))
    runs = [record for record in records if record["part"] == "regret"]
    if runs:
        names = list(methods or dict.fromkeys(record["method"] for record in runs))
        regrets_of(runs, names)
        ranks_of(runs, names)
        failures_of(runs)
    asks = [record for record in records if record["part"] == "seconds"]
    if asks:
        seconds_of(asks)


def regrets(record: Record) -> Array:
    """The regret of the best value so far after each evaluation."""
    return np.minimum.accumulate(np.array(record["values"], dtype=np.float64)) - float(record["minimum"])


def quartiles(values: Sequence[float]) -> str:
    """Median and quartiles, to two digits."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.2g} ({low:.2g} to {high:.2g})"


def regrets_of(runs: Sequence[Record], methods: Sequence[str]) -> None:
    """A row a function: median and quartiles of the last regret of each method."""
    print("\nRegret after the last evaluation: median (quartiles)")
    lines = []
    for name in dict.fromkeys(record["problem"] for record in runs):
        own = [record for record in runs if record["problem"] == name]
        last = {
            method: [regrets(record)[-1] for record in own if record["method"] == method]
            for method in methods
        }
        seeds = "/".join(dict.fromkeys(str(len(last[method])) for method in methods))
        cells = [quartiles(last[method]) if last[method] else "-" for method in methods]
        lines.append([name, str(own[0]["dim"]), seeds, *cells])
    table(("function", "d", "seeds", *methods), lines)


def common(runs: Sequence[Record], methods: Sequence[str]) -> dict[str, Array]:
    """Regrets (seeds, methods, evaluations) of each function at the seeds that all methods have."""
    tables = {}
    for name in dict.fromkeys(record["problem"] for record in runs):
        found = {
            (record["method"], record["seed"]): regrets(record)
            for record in runs
            if record["problem"] == name
        }
        seeds = [
            seed
            for seed in sorted({seed for _, seed in found})
            if all((method, seed) in found for method in methods)
        ]
        if seeds:
            tables[name] = np.array([[found[method, seed] for method in methods] for seed in seeds])
    return tables


def ranked(regret: Array) -> Array:
    """Ranks (seeds, methods) from 1, the smallest regret; ties share the mean rank.

    The typical regret is the median of those of the first evaluations (seeds, methods, evaluations).
    """
    steps = np.round(regret[..., -1] / (RESOLUTION * np.median(regret[..., 0])))
    return np.asarray(rankdata(steps, axis=1))


def ranks_of(runs: Sequence[Record], methods: Sequence[str]) -> None:
    """Mean ranks over functions and seeds, by number of evaluations and by function, and paired wins."""
    tables = common(runs, methods)
    if not tables or len(methods) < 2:
        return
    pairs, most = sum(map(len, tables.values())), min(regret.shape[-1] for regret in tables.values())
    print(f"\nMean rank, 1 to {len(methods)}, over {pairs} pairs of function and seed (95% interval)")
    generator = np.random.default_rng(0)
    lines = [[method] for method in methods]
    after = [count for count in (10, 20, most) if count <= most]
    for count in after:
        ranks = [ranked(regret[..., :count]) for regret in tables.values()]
        means = np.concatenate(ranks).mean(axis=0)
        drawn = np.array(
            [
                np.concatenate([own[generator.integers(len(own), size=len(own))] for own in ranks]).mean(0)
                for _ in range(RESAMPLES)
            ]
        )
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        for line, *cell in zip(lines, means, low, high, strict=True):
            line.append("{:.2f} ({:.2f} to {:.2f})".format(*cell))
    last = {name: ranked(regret) for name, regret in tables.items()}
    for line, *cells in zip(lines, *(own.mean(axis=0) for own in last.values()), strict=True):
        line += [f"{cell:.1f}" for cell in cells]
    if OURS in methods:
        every = np.concatenate(list(last.values()))
        ours = every[:, [list(methods).index(OURS)]]
        wins, losses = (ours < every).sum(axis=0), (ours > every).sum(axis=0)
        for line, won, lost in zip(lines, wins, losses, strict=True):
            line.append("" if line[0] == OURS else f"{won}, {lost}")
    heads = ("method", *(f"after {count}" for count in after), *last)
    table((*heads, "ours less, more") if OURS in methods else heads, lines)


def failures_of(runs: Sequence[Record]) -> None:
    """Suggestions that failed: how many, at which numbers of evaluations, and why."""
    for method in dict.fromkeys(record["method"] for record in runs):
        own = [record for record in runs if record["method"] == method]
        failed = [(record["problem"], *failure) for record in own for failure in record["failures"]]
        if failed:
            sizes = ", ".join(f"{problem} n = {n}" for problem, n, _ in failed)
            print(f"\n{method}: {len(failed)} suggestions failed in {len(own)} runs ({sizes})")
            print("; ".join(dict.fromkeys(reason for *_, reason in failed)))


def seconds_of(asks: Sequence[Record]) -> None:
    """Median seconds of the first and of later asks, by the clock and of the CPU."""
    print("\nSeconds of an ask: medians, in brackets of the CPU")
    lines = []
    for method in dict.fromkeys(record["method"] for record in asks):
        own = [record for record in asks if record["method"] == method]
        sizes = f"n = {own[0]['n']}, d = {own[0]['dim']}"
        cells = [medians([pair for record in own for pair in record[kind]]) for kind in ASKS]
        lines.append([method, sizes, str(len(own)), *cells])
    table(("method", "data", "data sets", *(f"{kind}, s" for kind in ASKS)), lines)


ASKS = ("cold", "warm", "steps")
"""Kinds of asks."""


def medians(pairs: Sequence[Sequence[float]]) -> str:
    """Medians of seconds by the clock and of the CPU; a dash without any."""
    if not pairs:
        return "-"
    return "{:.3f} ({:.3f})".format(*(statistics.median(column) for column in zip(*pairs, strict=True)))
