"""How often the regret is below its bound, when `RegretBelow` ends a run, and what the bound costs.

    python benchmarks/stopping.py --seeds 0:10 --out /tmp/stopping

Each problem is minimised for 60 evaluations from each seed. After every tenth, `Optimizer.regret_bound`, of
its own width and of two standard deviations, is compared with the true regret of the point that it is about:
the noiseless value less the problem's minimum.
The tabular problems need the extra `tables`.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.quasirandom import SobolEngine

from bo_suite import Optimizer
from bo_suite.bench.suite import named_problem

PROBLEMS = (
    *("branin", "hartmann3", "shifted_ackley5", "noisy_branin", "noisy_hartmann3", "noisy_shifted_levy4"),
    *("hpobench_mlp_credit_g", "hpolib_protein"),
)
MOMENTS = (10, 20, 30, 40, 50, 60)
WIDTHS = {"own": None, "2": 2.0}
Record = dict[str, Any]


def run(name: str, seed: int) -> Iterator[Record]:
    """What the bound says at each moment of one run."""
    problem = replace(named_problem(name), seed=seed)
    optimizer = Optimizer(problem.space, seed=seed, budget=MOMENTS[-1])
    for count in range(1, MOMENTS[-1] + 1):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
        for width in WIDTHS if count in MOMENTS else ():
            before = time.perf_counter()
            found = optimizer.regret_bound(WIDTHS[width])
            seconds = time.perf_counter() - before
            yield {
                "problem": name,
                "seed": seed,
                "n": count,
                "width": width,
                "bound": found.value,
                "noise": found.noise,
                "true_noise": problem.noise,
                "regret": problem.value(found.trial.params) - (problem.minimum or 0.0),
                "seconds": seconds,
            }


def latency(n: int, name: str, repeats: int) -> Record:
    """Seconds of a bound and of an ask, of n evaluated Sobol points."""
    problem = named_problem(name)
    optimizer = Optimizer(problem.space)
    rows = SobolEngine(problem.space.dim, scramble=True, seed=n).draw(n, dtype=torch.float64)
    for params in problem.space.decode(rows):
        optimizer.add(params, problem(params))
    taken: dict[str, list[float]] = {"bound": [], "ask": []}
    for _ in range(repeats + 1):
        for what, call in (("bound", optimizer.regret_bound), ("ask", optimizer.ask)):
            before = time.perf_counter()
            call()
            taken[what].append(time.perf_counter() - before)
    ms = {what: 1e3 * statistics.median(times[1:]) for what, times in taken.items()}
    return {"n": n, "problem": name, "d": problem.space.dim, **ms}


def covered(records: Sequence[Record]) -> str:
    """Share of records whose regret is below its bound."""
    good = sum(record["regret"] <= record["bound"] + 1e-12 for record in records)
    return f"{good / len(records):.2f}" if records else "-"


def medians(records: Sequence[Record], *names: str) -> list[str]:
    """Medians of fields."""
    return [f"{statistics.median(record[name] for record in records):.2g}" for name in names]


def print_coverage(records: Sequence[Record], width: str, console: Console) -> None:
    """Coverage of every problem at every moment, and the medians at the last one."""
    names = list(dict.fromkeys(record["problem"] for record in records))
    heads = ("bound at 60", "regret at 60", "model's noise", "true noise")
    table = Table("problem", *(f"n={n}" for n in MOMENTS), "all", *heads)
    for name in names:
        own = [record for record in records if record["problem"] == name]
        last = [record for record in own if record["n"] == MOMENTS[-1]]
        shares = [covered([record for record in own if record["n"] == n]) for n in MOMENTS]
        table.add_row(name, *shares, covered(own), *medians(last, "bound", "regret", "noise", "true_noise"))
    shares = [covered([record for record in records if record["n"] == n]) for n in MOMENTS]
    table.add_row("all", *shares, covered(records))
    console.print(f"share of runs whose regret is below the bound of width {width}")
    console.print(table)


def print_stops(records: Sequence[Record], width: str, console: Console) -> None:
    """Where RegretBelow would have ended the runs of noisy problems, asked at these moments."""
    table = Table("problem", "runs ended", "median n", "regret then", "regret at 60", "noise")
    for name in dict.fromkeys(record["problem"] for record in records if record["true_noise"]):
        own = [record for record in records if record["problem"] == name]
        first: dict[int, Record] = {}
        for record in own:
            if record["n"] >= 30 and record["bound"] <= record["noise"]:
                first.setdefault(record["seed"], record)
        ends = [record for record in own if record["n"] == MOMENTS[-1] and record["seed"] in first]
        cells = [*medians(list(first.values()), "n", "regret"), *medians(ends, "regret")] if first else []
        runs = len({record["seed"] for record in own})
        table.add_row(name, f"{len(first)} of {runs}", *(cells or ["-"] * 3), f"{own[0]['true_noise']:g}")
    console.print(f"noisy problems: runs that RegretBelow of width {width} ends")
    console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    parser.add_argument("--out", type=Path, required=True, help="folder of stopping.jsonl")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(*(int(bound) for bound in options.seeds.split(":")))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    records: list[Record] = []
    began = time.perf_counter()
    with (options.out / "stopping.jsonl").open("w") as file:
        for name in options.problems.split(","):
            for seed in seeds:
                for record in run(name, seed):
                    records.append(record)
                    file.write(json.dumps(record | {"commit": commit}) + "\n")
                file.flush()
    console = Console(width=160)
    for width in WIDTHS:
        own = [record for record in records if record["width"] == width]
        print_coverage(own, width, console)
        print_stops(own, width, console)
    table = Table("n", "d", "bound ms", "ask ms")
    for name in ("branin", "hartmann6"):
        for n in (20, 100):
            found = latency(n, name, 5)
            table.add_row(str(n), str(found["d"]), f"{found['bound']:.0f}", f"{found['ask']:.0f}")
    console.print(table)
    console.print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
