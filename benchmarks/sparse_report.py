"""Tables and the picture of the records of benchmarks/sparse.py."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bo_suite.plot.style import LINES, legend_below, new_figure

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.axes import Axes

Record = dict[str, Any]

CLOSE = 0.005
"""Difference of NLPD that counts as none."""

IGNORANT = 0.5 * math.log(2.0 * math.pi * math.e)
"""NLPD of who knows nothing but the mean and the variance of the outcomes."""

LOOKS = {
    "gpytorch_1024": ("GPyTorch SVGP, batch 1024", LINES[1].color, LINES[1].dashes),
    "gpytorch_256": ("GPyTorch SVGP, batch 256", LINES[3].color, LINES[3].dashes),
    "botorch": ("BoTorch SingleTaskVariationalGP", LINES[4].color, LINES[4].dashes),
    "SGPR": ("bo_suite SGPR", LINES[0].color, "o"),
    "SVGP": ("bo_suite SVGP", LINES[2].color, "^"),
    "SGPR_learned": ("bo_suite SGPR, learned inputs", LINES[0].color, "D"),
    "SVGP_learned": ("bo_suite SVGP, learned inputs", LINES[2].color, "v"),
}
"""Name, colour, and marker or dashes of each method."""


def is_ours(record: Record) -> bool:
    """Whether a fit is one of bo_suite's."""
    return len(record["curve"]) == 1


def settled(record: Record) -> float:
    """Earliest training seconds at which the held-out NLPD is at most `CLOSE` above the final one."""
    return next(float(at) for at, nlpd, _ in record["curve"] if nlpd <= record["nlpd"] + CLOSE)


def overtakes(peer: Record, ours: Record) -> float | None:
    """Earliest training seconds at which the peer's held-out NLPD is no worse than ours."""
    return next((float(at) for at, nlpd, _ in peer["curve"] if nlpd <= ours["nlpd"]), None)


def compare(ours: Record, peer: Record) -> Record:
    """How many times sooner ours has what the peer ends with; None where ours is worse in one of the scores.

    `ratio` is by all of the peer's training seconds, `settled_ratio` by those until its NLPD has settled,
    `overtaken_ratio` by those until its NLPD is no worse than ours (None: never).
    """
    reached = ours["nlpd"] <= peer["nlpd"] and ours["rmse"] <= peer["rmse"]
    overtaken = overtakes(peer, ours)
    return {
        "reached": reached,
        "ratio": peer["seconds"] / ours["seconds"] if reached else None,
        "settled_ratio": settled(peer) / ours["seconds"] if reached else None,
        "overtaken": overtaken,
        "overtaken_ratio": None if overtaken is None else overtaken / ours["seconds"],
    }


def latest(records: Sequence[Record], part: str, *keys: str) -> list[Record]:
    """The last record of a part for every combination of keys."""
    return list({tuple(r[key] for key in keys): r for r in records if r["part"] == part}.values())


def report(records: Sequence[Record]) -> None:
    """Prints a table for each part that has records."""
    console = Console(width=140)
    if records:
        last = records[-1]
        versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
        console.print(f"commit {last['commit']}, {versions}, {last['device']}")
    fits = latest(records, "fit", "data", "method", "dtype", "device", "seed")
    for name in dict.fromkeys(r["data"] for r in fits):
        console.print(fit_table(name, [r for r in fits if r["data"] == name]))
        console.print(ratio_table(name, [r for r in fits if r["data"] == name]))
    for r in latest(records, "absorb", "n", "inducing", "device"):
        console.print(
            f"absorb, n = {r['n']}, m = {r['inducing']}: {1e3 * r['seconds']:.3f} ms; closed-form refit "
            f"{1e3 * r['refit_seconds']:.0f} ms ({r['refit_ratio']:.0f}x), warm-started fit "
            f"{r['fit_seconds']:.2f} s ({r['fit_ratio']:.0f}x); moments differ by {r['difference']:.1e}"
        )
    for r in latest(records, "ask", "past", "device"):
        console.print(
            f"ask after {r['past']}: {r['seconds']:.3f} s, of it fit {r['fit_ms'] / 1e3:.3f}, search "
            f"{r['search_ms'] / 1e3:.3f}; the first {r['first_seconds']:.2f} s ({', '.join(r['sources'])})"
        )
    regrets = latest(records, "regret", "problem", "past", "asks", "search_seed")
    if regrets:
        console.print(regret_table(regrets))


def fit_table(name: str, fits: Sequence[Record]) -> Table:
    """Seconds and scores of every method."""
    first = fits[0]
    title = f"{name}: {first['n']} x {first['d']}, {first['inducing']} inducing inputs"
    table = Table(title=f"{title}, NLPD of the noise alone {first['floor']:.4f}", title_justify="left")
    for column in (
        "method",
        "dtype",
        "seconds",
        "NLPD",
        "RMSE",
        "settled at, s",
        "gain in last fifth",
        "steps",
    ):
        table.add_column(column, justify="left" if column in ("method", "dtype") else "right")
    table.add_column("ended by")
    for r in fits:
        gain = "" if r["last_fifth"] is None else f"{r['last_fifth']:+.4f}"
        numbers = f"{r['seconds']:.2f}", f"{r['nlpd']:.4f}", f"{r['rmse']:.4f}"
        curve = "" if is_ours(r) else f"{settled(r):.2f}"
        table.add_row(r["method"], r["dtype"], *numbers, curve, gain, str(r.get("steps", "")), r["stopped"])
    return table


def ratio_table(name: str, fits: Sequence[Record]) -> Table:
    """Each of bo_suite's fits beside each peer."""
    title = f"{name}: times sooner than the peer with NLPD and RMSE no worse than its final ones"
    table = Table(title=title, title_justify="left")
    for column in ("bo_suite", "peer", "NLPD difference", "RMSE difference"):
        table.add_column(column)
    for column in ("by all its time", "until it settles", "until its NLPD is no worse than ours"):
        table.add_column(column, justify="right")
    for ours in filter(is_ours, fits):
        for peer in (r for r in fits if not is_ours(r)):
            result = compare(ours, peer)
            cells = [f"{ours[key] - peer[key]:+.4f}" for key in ("nlpd", "rmse")]
            for key in ("ratio", "settled_ratio"):
                cells.append("not reached" if result[key] is None else f"{result[key]:.1f}x")
            ratio = result["overtaken_ratio"]
            cells.append("never" if ratio is None else f"{ratio:.1f}x")
            table.add_row(ours["method"], f"{peer['method']}, {peer['dtype']}", *cells)
    return table


def regret_table(records: Sequence[Record]) -> Table:
    """Mean distance of the best new value to the minimum, and its paired difference to the first way."""
    title = f"best of {records[0]['asks']} asks after {records[0]['past']} observations, above the minimum"
    table = Table(title=title, title_justify="left")
    for column in ("problem", "given", "seeds", "mean", "more than all, mean", "95% interval", "ask, s"):
        table.add_column(column, justify="left" if column in ("problem", "given") else "right")
    for problem in dict.fromkeys(r["problem"] for r in records):
        rows = [r for r in records if r["problem"] == problem]
        known = statistics.fmean(r["past_regret"] for r in rows)
        table.add_row(problem, "best of the past", str(len(rows)), f"{known:.4g}", "", "", "")
        for way in rows[0]["regret"]:
            regrets = [r["regret"][way] for r in rows]
            seconds = statistics.median(r["ask_seconds"][way] for r in rows)
            cells = [problem, way, str(len(rows)), f"{statistics.fmean(regrets):.4g}"]
            cells += (
                paired([r["regret"][way] - r["regret"]["all"] for r in rows]) if way != "all" else ["", ""]
            )
            table.add_row(*cells, f"{seconds:.3f}")
    return table


def paired(differences: Sequence[float]) -> list[str]:
    """Mean of the differences and Student's 95% interval of it."""
    from scipy.stats import t

    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return [f"{mean:+.4g}", ""]
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences)
    half /= math.sqrt(len(differences))
    return [f"{mean:+.4g}", f"[{mean - half:+.4g}, {mean + half:+.4g}]"]


def plot(records: Sequence[Record], path: Path) -> None:
    """Held-out NLPD over training seconds: curves of the peers, dots for bo_suite; one panel a data set."""
    fits = latest(records, "fit", "data", "method")
    names = [name for name in ("small", "large") if any(r["data"] == name for r in fits)]
    if not names:
        return
    figure, (panels,) = new_figure(1, len(names), width=4.2 * len(names), height=4.6)
    for axes, name in zip(panels, names, strict=True):
        panel(axes, [r for r in fits if r["data"] == name])
    legend_below(figure, 2)
    figure.savefig(path)


def panel(axes: "Axes", fits: Sequence[Record]) -> None:
    """One data set; the NLPD axis ends where nothing has been learnt."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    first = fits[0]
    floor, best = first["floor"], min(r["nlpd"] for r in fits)
    for r in sorted(fits, key=is_ours):
        label, colour, look = LOOKS[r["method"]]
        at, nlpd = [point[0] for point in r["curve"]], [point[1] for point in r["curve"]]
        if is_ours(r):
            axes.axvline(at[0], color=colour, linewidth=0.8, alpha=0.35, zorder=1)
            axes.plot(
                at, nlpd, look, color=colour, markersize=9, markeredgecolor="white", label=label, zorder=4
            )
        else:
            axes.plot(at, nlpd, color=colour, linestyle=look, linewidth=1.8, label=label, zorder=2)
            axes.plot(at[-1:], nlpd[-1:], "o", color=colour, markersize=4.5, zorder=3)
    span = IGNORANT - best
    if best - floor < 0.3 * span:
        axes.axhline(floor, color="0.45", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate("noise alone", (0.01, floor), xytext=(0, 3), fontsize=9, color="0.4", **place)
        best = min(best, floor)
    axes.set_ylim(best - 0.06 * span, IGNORANT + 0.06 * span)
    axes.set_xscale("log")
    axes.set_title(
        f"{first['n']:,} × {first['d']}, {first['inducing']} inducing inputs", loc="left", fontsize=11
    )
    axes.set(xlabel="training seconds", ylabel="held-out NLPD")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
