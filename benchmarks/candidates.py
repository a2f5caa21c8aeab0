"""Candidates: evaluations to the best of 40 solvents, with descriptors and without; and seconds an ask.

    python benchmarks/candidates.py run --seeds 10 --out results.jsonl
    python benchmarks/candidates.py table results.jsonl
    python benchmarks/candidates.py latency

Each seed draws 40 solvents with two descriptors, evenly in a square, and a yield that is smooth in these and
in a temperature: 100 exp(-2 |s - s*|² - 3 (t - t*)²), with random s* and t*. The candidates are the solvents
at 21 temperatures. `described` is told both descriptors, `hamming` none, `shuffled` those of other solvents,
and `random` draws candidates without return. A run of 60 evaluations has succeeded when its regret is at most
1 % of the largest yield. `latency` prints seconds of the processor an ask takes over many candidates of six
parameters, with 100 observations.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pandas as pd
import torch
from scipy.stats import wilcoxon

import bo_suite
from bo_suite import Choice, Float, Optimizer, Space

BUDGET, SOLVENTS, TEMPERATURES = 60, 40, 21
METHODS = ("described", "hamming", "shuffled", "random")


def problem(seed: int) -> pd.DataFrame:
    """The candidates with their descriptors and yields."""
    generator = np.random.default_rng(seed)
    solvents, optimum, best_heat = generator.random((SOLVENTS, 2)), generator.random(2), generator.random()
    heat = np.linspace(0.0, 1.0, TEMPERATURES)
    near = np.exp(-2.0 * ((solvents - optimum) ** 2).sum(-1))
    table = pd.DataFrame(
        {
            "solvent": np.repeat([f"solvent {index}" for index in range(SOLVENTS)], TEMPERATURES),
            "heat": np.tile(20.0 + 70.0 * heat, SOLVENTS).round(1),
            "first": np.repeat(solvents[:, 0], TEMPERATURES),
            "second": np.repeat(solvents[:, 1], TEMPERATURES),
        }
    )
    table["yield"] = 100.0 * np.outer(near, np.exp(-3.0 * (heat - best_heat) ** 2)).ravel()
    return table


def regrets(table: pd.DataFrame, method: str, seed: int) -> list[float]:
    """The regret of the best of the evaluations so far, after each."""
    yields = table.set_index(["solvent", "heat"])["yield"]
    if method == "random":
        order = np.random.default_rng(1000 + seed).permutation(len(table))[:BUDGET]
        found = table["yield"].to_numpy()[order]
    else:
        described = table.drop_duplicates("solvent").set_index("solvent")[["first", "second"]]
        if method == "shuffled":
            described = described.iloc[np.random.default_rng(seed).permutation(SOLVENTS)].set_index(
                described.index
            )
        names = list(described.index)
        solvent = Choice(names) if method == "hamming" else Choice(names, descriptors=described)
        space = Space({"solvent": solvent, "heat": Float(20, 90)}, candidates=table[["solvent", "heat"]])
        optimizer = Optimizer(space, seed=seed, direction="maximize")
        found = []
        for _ in range(BUDGET):
            trial = optimizer.ask()
            found.append(float(yields[trial.params["solvent"], trial.params["heat"]]))
            optimizer.tell(trial, found[-1])
    return [float(one) for one in yields.max() - np.maximum.accumulate(found)]


def run(seeds: int, out: Path) -> None:
    """Runs what the file does not have yet."""
    done = (
        {(one["method"], one["seed"]) for one in map(json.loads, out.read_text().splitlines())}
        if out.exists()
        else set()
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    versions = {
        "bo_suite": bo_suite.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    for seed in range(seeds):
        table = problem(seed)
        for method in METHODS:
            if (method, seed) in done:
                continue
            regret = regrets(table, method, seed)
            reached = next(
                (index for index, one in enumerate(regret, 1) if one <= 0.01 * table["yield"].max()), None
            )
            record = {"method": method, "seed": seed, "reached": reached, "regret": regret}
            record |= {"commit": commit, "versions": versions, "device": "cpu"}
            with out.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
            print(method, seed, reached, [round(one, 2) for one in regret[9::10]], flush=True)


def table(results: Path) -> None:
    """Prints a row for each method; a run without success counts as one evaluation more than it had."""
    frame = pd.DataFrame(map(json.loads, results.read_text().splitlines()))
    wide = frame.assign(reached=frame["reached"].fillna(BUDGET + 1)).pivot(
        index="seed", columns="method", values="reached"
    )
    print("| method | seeds | succeeded | median evaluations | fewer with descriptors, p |")
    print("|---|---|---|---|---|")
    for method in METHODS:
        fewer = (wide["described"] < wide[method]).sum()
        p = (
            ""
            if method == "described"
            else f"{fewer} of {len(wide)}, {wilcoxon(wide['described'], wide[method]).pvalue:.2g}"
        )
        print(
            "|",
            method,
            "|",
            len(wide),
            "|",
            int((wide[method] <= BUDGET).sum()),
            "|",
            f"{wide[method].median():g}",
            "|",
            p,
            "|",
        )


def latency() -> None:
    """Prints a row for each number of candidates: the first ask, and the median of the next nine."""
    print("| candidates | seconds to make the space | the first ask | an ask |")
    print("|---|---|---|---|")
    for count in (1_000, 10_000, 100_000, 300_000):
        generator, names = np.random.default_rng(0), [f"x{index}" for index in range(5)]
        table = pd.DataFrame(generator.random((count, 5)), columns=names)
        table["option"] = generator.choice(list("abcdef"), count)
        began = time.process_time()
        space = Space(
            {**{name: Float(0, 1) for name in names}, "option": Choice(list("abcdef"))}, candidates=table
        )
        seconds = [time.process_time() - began]
        optimizer = Optimizer(space, seed=0)
        for row in table.iloc[:100].to_dict("records"):
            optimizer.add(row, value_of(row))
        for _ in range(10):
            began = time.process_time()
            trial = optimizer.ask()
            seconds.append(time.process_time() - began)
            optimizer.tell(trial, value_of(trial.params))
        print(
            "|",
            f"{count:,}",
            "|",
            f"{seconds[0]:.2f} | {seconds[1]:.2f} | {np.median(seconds[2:]):.2f} |",
            flush=True,
        )


def value_of(row: dict[str, Any]) -> float:
    """A bowl over the numbers, deeper for one option."""
    return sum((row[f"x{index}"] - 0.3) ** 2 for index in range(5)) + float(row["option"] != "d")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--seeds", type=int, default=10)
    runs.add_argument("--out", type=Path, required=True)
    commands.add_parser("table").add_argument("results", type=Path)
    commands.add_parser("latency")
    chosen = parser.parse_args()
    if chosen.command == "run":
        run(chosen.seeds, chosen.out)
    elif chosen.command == "table":
        table(chosen.results)
    else:
        latency()
