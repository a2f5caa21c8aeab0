"""Records of benchmarks/bore.py: their file, tables of them, and a picture."""

import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bo_suite.plot.style import LINES, legend_below, new_figure

Record = dict[str, Any]

KEYS = ("problem", "method", "seed", "budget")


def regrets(record: Record, length: int) -> np.ndarray:
    """Normalised regret after each of 1 ... length evaluations; 1 from a crash on."""
    curve = np.ones(length)
    spread = record["maximum"] - record["minimum"]
    for evaluation, value in record["improvements"]:
        curve[evaluation - 1 :] = (value - record["minimum"]) / spread
    if record["error"]:
        curve[record["evaluations"] :] = 1.0
    return curve


def longest(records: Iterable[Record]) -> list[Record]:
    """Of each problem, method and seed the run with the largest budget."""
    found: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=lambda record: int(record["budget"])):
        found[record["problem"], record["method"], record["seed"]] = record
    return list(found.values())


def read(files: Iterable[Path]) -> list[Record]:
    """The last record of each problem, method, seed and budget; a line cut off by a kill is left out."""
    records: dict[tuple[Any, ...], Record] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                print(f"left out a broken line of {file}", file=sys.stderr)
                continue
            if record:
                records[tuple(record[key] for key in KEYS)] = record
    return list(records.values())


def append(out: Path, record: Record) -> None:
    """Writes a record as one line."""
    cut = out.exists() and not out.read_text(encoding="utf-8").endswith("\n")  # by a kill
    with out.open("a", encoding="utf-8") as file:
        file.write("\n" * cut + json.dumps(record, allow_nan=False) + "\n")


def medians(records: Sequence[Record], places: Mapping[str, int]) -> dict[tuple[str, str], float]:
    """Median regret of each problem and method at the problem's place, of the runs that come so far."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        place = places[record["problem"]]
        if record["budget"] >= place:
            regret = float(regrets(record, place)[-1])
            found.setdefault((record["problem"], record["method"]), []).append(regret)
    return {key: statistics.median(values) for key, values in found.items()}


def mean_ranks(values: dict[tuple[str, str], float], methods: Sequence[str]) -> dict[str, float]:
    """Mean rank of each method's medians, 1 is best, over the problems; none for one that lacks a problem."""
    from scipy.stats import rankdata

    names = sorted({problem for problem, _ in values})
    whole = [method for method in methods if all((name, method) in values for name in names)]
    ranks = [rankdata([float(f"{values[name, method]:.9g}") for method in whole]) for name in names]
    return dict(zip(whole, np.mean(ranks, axis=0).tolist(), strict=True)) if whole else {}


def report(records: Sequence[Record], evaluations: Sequence[int], budgets: Mapping[str, int]) -> None:
    """Prints medians, numbers of seeds, mean ranks and seconds."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    names = list(dict.fromkeys(record["problem"] for record in records))
    for line in sorted({_origin_line(record) for record in records}):
        print(line)
    for at in evaluations:
        places = {name: min(at, budgets[name]) for name in names}
        values = medians(records, places)
        ranks = mean_ranks(values, methods)
        rows = [[n, *(_cell(values, records, (n, m), places[n]) for m in methods)] for n in names]
        rows.append(["mean rank", *(f"{ranks[m]:.2f}" if m in ranks else "" for m in methods)])
        print(f"\nMedian normalised regret at {at} evaluations (seeds), or at the problem's budget if less\n")
        markdown(["problem", *methods], rows)
    print("\nMedian evaluations to the minimum of the table (runs that found it)\n")
    markdown(["problem", *methods], [[n, *(_reached(records, n, m) for m in methods)] for n in names])
    print("\nSeconds an ask, median over runs of the mean of the last 50 asks (crashed runs)\n")
    rows = [[name, *(_seconds(records, name, method) for method in methods)] for name in names]
    markdown(["problem", *methods], rows)


def _origin_line(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{record['method']}: commit {record['commit']}, {record['device']}, {versions}"


def _cell(
    values: Mapping[tuple[str, str], float], records: Sequence[Record], key: tuple[str, str], at: int
) -> str:
    chosen = [record for record in records if (record["problem"], record["method"]) == key]
    seeds = sum(record["budget"] >= at for record in chosen)
    return f"{values[key]:.3g} ({seeds})" if seeds else ""


def _reached(records: Sequence[Record], name: str, method: str) -> str:
    chosen = [record for record in records if (record["problem"], record["method"]) == (name, method)]
    counts = [
        record["improvements"][-1][0]
        if record["improvements"] and record["improvements"][-1][1] <= record["minimum"]
        else math.inf
        for record in chosen
    ]
    if not counts:
        return ""
    middle, found = statistics.median(counts), sum(map(math.isfinite, counts))
    return (
        f"{middle:.0f} ({found} of {len(counts)})"
        if math.isfinite(middle)
        else f"- ({found} of {len(counts)})"
    )


def _seconds(records: Sequence[Record], name: str, method: str) -> str:
    chosen = [record for record in records if (record["problem"], record["method"]) == (name, method)]
    last = [record["ask_seconds"][-1] for record in chosen if record["error"] is None]
    crashed = sum(record["error"] is not None for record in chosen)
    return (f"{statistics.median(last):.4f}" if last else "") + (f" ({crashed} crashed)" if crashed else "")


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")


def plot(records: Sequence[Record], file: Path) -> None:
    """Draws medians and quartiles of the regret, a panel a problem; zeros lie on the lower edge."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    names = list(dict.fromkeys(record["problem"] for record in records))
    rows = -(-len(names) // 3)
    figure, panels = new_figure(rows, 3, width=8.4, height=2.5 * rows + 0.6)
    for name, axes in zip(names, panels.flat, strict=False):
        _panel(axes, [record for record in records if record["problem"] == name], methods)
        axes.set_title(name)
        axes.set_xlabel("evaluations" if name in names[-3:] else "")
    for axes in panels.flat[len(names) :]:
        axes.axis("off")
    figure.supylabel("normalised regret: median and quartiles", fontsize=10)
    legend_below(figure, 4)
    figure.savefig(file)


def _panel(axis: Any, records: Sequence[Record], methods: Sequence[str]) -> None:
    lowest, highest = math.inf, 0.0
    for place, method in enumerate(methods):
        line = LINES[place % len(LINES)]
        chosen = [record for record in records if record["method"] == method]
        if not chosen:
            continue
        length = max(record["budget"] for record in chosen)  # a shorter run has no part in the longer ones
        curves = np.array([regrets(record, length) for record in chosen if record["budget"] == length])
        lower, middle, upper = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        lowest = min(lowest, float(middle[middle > 0].min(initial=1.0)))
        steps, below = np.arange(1, length + 1), 1e-30
        axis.fill_between(
            steps, np.maximum(lower, below), np.maximum(upper, below), color=line.color, alpha=0.13, lw=0
        )
        shown = np.maximum(middle, below)
        axis.plot(steps, shown, color=line.color, linestyle=line.dashes, linewidth=1.6, label=method)
        highest = max(highest, float(middle[min(9, length - 1)]))
    axis.set_yscale("log")
    axis.set_ylim(lowest / 2, 4 * highest)  # the first few draws go off the top
    axis.margins(x=0.0)
