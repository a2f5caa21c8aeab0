"""Whether evaluating points again under noise helps: runs with `repeats=True` beside runs without.

    python benchmarks/repeats.py --seeds 0:10 --out /tmp/repeats.jsonl

Four functions with noise whose standard deviation the Optimizer is not told, 50 evaluations. Every pair of
runs is stored, so the script can be stopped and continued. Prints a row a function: median true regret of the
point that `recommend` returns, in how many pairs repeats were better, and the median number of repeats.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from bo_suite import Optimizer
from bo_suite.bench.environment import command, environment
from bo_suite.problems import get_problem

BUDGET = 50
NOISE = {"branin": 15.0, "hartmann3": 0.3, "hartmann6": 0.25, "sphere5": 5.0}
"""Standard deviations of the noise."""


def run(name: str, seed: int, repeats: bool) -> dict[str, Any]:
    """True regret of the recommended point, and the number of repeats."""
    problem, noise = get_problem(name), random.Random(seed)
    assert problem.minimum is not None
    optimizer = Optimizer(problem.space, seed=seed, repeats=repeats)
    for _ in range(BUDGET):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params) + noise.gauss(0.0, NOISE[name]))
    return {
        "regret": problem(optimizer.recommend()) - problem.minimum,
        "repeats": sum(bool(trial.provenance.get("repeat")) for trial in optimizer.trials),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:10", help="range of seeds, first:last")
    parser.add_argument("--out", type=Path, required=True, help="file of the runs, JSON lines")
    args = parser.parse_args()
    args.out.touch()
    lines = [json.loads(line) for line in args.out.read_text().splitlines()]
    runs = {(line["problem"], line["seed"]): line for line in lines}
    print(
        command(),
        "",
        "| function | without | with repeats | better | repeats |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    wins, pairs = 0, 0
    for name in NOISE:
        own = []
        for seed in range(*map(int, args.seeds.split(":"))):
            if (name, seed) not in runs:
                line = {"problem": name, "seed": seed, "environment": environment()}
                line |= {kind: run(name, seed, kind == "with") for kind in ("without", "with")}
                runs[name, seed] = line
                with args.out.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
            own.append(runs[name, seed])
        without, given = (np.array([line[kind]["regret"] for line in own]) for kind in ("without", "with"))
        better = int((given < without).sum())
        wins, pairs = wins + better, pairs + len(own)
        count = np.median([line["with"]["repeats"] for line in own])
        medians = f"{np.median(without):.3g} | {np.median(given):.3g}"
        print(f"| {name} | {medians} | {better} of {len(own)} | {count:.0f} |", flush=True)
    print(f"\nbetter in {wins} of {pairs} pairs, p = {binomtest(wins, pairs).pvalue:.2g}")


if __name__ == "__main__":
    main()
