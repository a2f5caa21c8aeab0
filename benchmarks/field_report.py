"""The report of benchmarks/field.py: ranks and regrets by class and by problem, and a method's weak spots."""

import numpy as np
import pandas as pd
from field_runs import Array, Medians, Runs, medians, ranks

from bo_suite.bench.bootstrap import percentile_interval

_FLOOR = 1e-6  # normalised regrets below it count as equal in ratios
_HEADER = """Rank: 0 is first and 1 last, by the median over seeds of the final value, mean over problems.
Regret: median over seeds of (final - best known) / (typical - best known), cut to [0, 1], mean over problems.
Intervals are 95%, from resampled problems and seeds. p: of the signed-rank test against the first, by
(problem, seed), after Holm's correction for all pairs of methods. Methods with fewer seeds are compared by
the medians of what they have; those with fewer problems, on these alone, come last."""


def report(runs: Runs, own: str) -> str:
    """All tables as text."""
    every = medians(runs.table)
    names = sorted(set(every.classes))
    parts = [_HEADER]
    for name in names:
        on = runs.on(name)
        parts.append(_standings(name, on, medians(on.table)))
    if len(names) > 1:
        parts.append(_standings("all classes", runs, every))
    parts += [_overview(every), _problems(every, runs), _weak(every, own)]
    return "\n\n".join(parts)


def _standings(title: str, runs: Runs, middle: Medians) -> str:
    rank, rank_ends = _mean_and_ends(middle, ranks(middle.values), ranks(middle.resampled))
    cut, cut_resampled = _cut(middle.values), _cut(middle.resampled)
    regret, regret_ends = _mean_and_ends(middle, cut, cut_resampled)
    rows = []
    for column, method in enumerate(middle.methods):
        own = runs.table[runs.table["method"] == method]
        counts = own.groupby("problem").size()
        rows.append(
            {
                "method": method,
                "problems": len(counts),
                "seeds": f"{counts.min()}"
                if counts.min() == counts.max()
                else f"{counts.min()}-{counts.max()}",
                "rank": rank[column],
                "95% of rank": _interval(rank_ends, column, ".2f"),
                "regret": regret[column],
                "95% of regret": _interval(regret_ends, column, ".3g"),
                "s/run": f"{own['seconds'].median():.1f}",
                "timed out": int((own["state"] == "timed out").sum()),
                "crashed": int((own["state"] == "crashed").sum()),
            }
        )
    table = pd.DataFrame(rows)
    complete = table["problems"] == len(middle.problems)
    table = table.iloc[np.lexsort([table["method"], table["rank"], ~complete])].reset_index(drop=True)
    first = table["method"][0]
    table.insert(5, "p", [_p(runs.pairs, first, method) for method in table["method"]])
    shown = table.assign(
        rank=table["rank"].map("{:.3f}".format), regret=table["regret"].map("{:.3g}".format)
    ).to_string(index=False)
    return f"== {title}: {len(middle.problems)} problems ==\n{shown}\n{_separation(runs.pairs, table)}"


def _overview(every: Medians) -> str:
    table = pd.DataFrame(ranks(every.values), columns=list(every.methods))
    means = table.groupby(np.array([name.removeprefix("field-") for name in every.classes])).mean().T
    means["all"] = table.mean()
    shown = means.sort_values("all").map(lambda value: "" if np.isnan(value) else f"{value:.2f}")
    return f"== mean rank by class ==\n{shown.to_string()}"


def _separation(pairs: pd.DataFrame, table: pd.DataFrame) -> str:
    if len(table) < 2:
        return "one method alone"
    first, second = table["method"][0], table["method"][1]
    row = _pair(pairs, first, second)
    if row is None:
        return f"{first} and {second} have no problem and seed in common"
    verdict = "not separated" if not row["separated"] else f"separated, {row['better']} found less"
    counts = f"{row['pairs']} pairs of runs on {row['problems']} problems"
    return f"first {first}, second {second}: {verdict} ({counts}, corrected p = {row['p_holm']:.2g})"


def _pair(pairs: pd.DataFrame, first: str, second: str) -> "pd.Series | None":
    names = {first, second}
    rows = [row for _, row in pairs.iterrows() if {row["first"], row["second"]} == names and row["pairs"]]
    return rows[0] if rows else None


def _p(pairs: pd.DataFrame, first: str, method: str) -> str:
    row = None if first == method else _pair(pairs, first, method)
    return "" if row is None else f"{row['p_holm']:.2g}"


def _mean_and_ends(middle: Medians, values: Array, resampled: Array) -> tuple[Array, tuple[Array, Array]]:
    mean, means = middle.mean(values, resampled)
    return mean, percentile_interval(means)


def _interval(ends: tuple[Array, Array], column: int, form: str) -> str:
    low, high = (float(end[column]) for end in ends)
    return "" if np.isnan(low + high) else f"{low:{form}} to {high:{form}}"


def _cut(regrets: Array) -> Array:
    """Regrets between 0, the best known value, and 1, a typical point; NaN stays."""
    return np.clip(regrets, 0.0, 1.0)


def _problems(every: Medians, runs: Runs) -> str:
    table = pd.DataFrame(every.values, columns=list(every.methods))
    shown = table.map(lambda value: "" if np.isnan(value) else f"{value:.3g}")
    shown.insert(0, "problem", list(every.problems))
    shown.insert(0, "class", [name.removeprefix("field-") for name in every.classes])
    lines = ["== median normalised regret of each problem ==", shown.to_string(index=False)]
    smallest = runs.table.groupby("problem")["regret"].min()
    if len(beaten := smallest[smallest < -1e-9]):
        lines.append(f"below the best known value: {', '.join(beaten.index)}")
    if runs.estimated:
        lines.append(
            f"{len(runs.estimated)} problems have no stored best known and typical value: the smallest value "
            "of all runs and the median of random's are taken"
        )
    return "\n".join(lines)


def _weak(every: Medians, own: str) -> str:
    if own not in every.methods:
        return f"no runs of {own}"
    column = every.methods.index(own)
    lines = [f"== where {own} is weak =="]
    if "random" in every.methods:
        lines += _behind_random(every, column)
    peers = [index for index, name in enumerate(every.methods) if not name.startswith(own)]
    if peers:
        lines += _behind_the_best(every, column, peers)
    return "\n".join(lines)


def _behind_random(every: Medians, column: int) -> list[str]:
    random = every.methods.index("random")
    with np.errstate(invalid="ignore"):  # both may have found nothing
        gaps = every.resampled[:, :, column] - every.resampled[:, :, random]
    low, _ = percentile_interval(gaps)
    behind = [
        f"  {name}: {every.values[row, column]:.3g}, random {every.values[row, random]:.3g}"
        for row, name in enumerate(every.problems)
        if low[row] > 0
    ]
    return [f"worse than random by more than the interval: {len(behind) or 'none'}", *behind]


def _behind_the_best(every: Medians, column: int, peers: list[int]) -> list[str]:
    floored = np.maximum(every.values, _FLOOR)
    both = ~np.isnan(floored[:, column]) & ~np.isnan(floored[:, peers]).all(axis=1)
    lines, within = [], 0
    for row in np.flatnonzero(both):
        best = peers[int(np.nanargmin(floored[row, peers]))]
        ratio = floored[row, column] / floored[row, best]
        if ratio <= 2.0 or np.isinf(floored[row, best]):
            within += 1
        else:
            name, regret = every.problems[row], every.values[row, column]
            lines.append(
                (ratio, f"  {name}: {regret:.3g}, {every.methods[best]} {every.values[row, best]:.3g}")
            )
    share = f"{within} of {int(both.sum())} problems ({within / max(1, int(both.sum())):.0%})"
    others = [f"{text} ({ratio:.3g} times)" for ratio, text in sorted(lines, reverse=True)]
    return [f"at most twice the median regret of the best peer: {share}; the others:", *others]
