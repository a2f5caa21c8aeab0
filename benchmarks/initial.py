"""How many space-filling points a run should begin with, on functions of 2 to 60 parameters.

    python benchmarks/initial.py run --out results.jsonl
    python benchmarks/initial.py table results.jsonl

`run` makes replicates of every function, dimension and number of initial points, and continues where it was
stopped. `table` prints, for each dimension and number, the mean over functions and seeds of the base-10
logarithm of the final regret, less that of six initial points: below 0 is better than six.
"""

import argparse
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pandas as pd

from bo_suite.bench.replicates import run_replicates
from bo_suite.problems import get_problem, shifted

FUNCTIONS = ("ackley", "levy", "rosenbrock", "styblinski_tang", "griewank")
SIZES = {2: (3, 6, 10), 6: (3, 6, 12, 18), 20: (3, 6, 12, 20, 40), 60: (6, 12, 30, 60)}
"""Numbers of initial points by dimension."""

BUDGETS = {2: 30, 6: 50, 20: 80, 60: 100}


@dataclass(frozen=True)
class Cell:
    """Replicates of one function with one number of initial points."""

    function: str
    dim: int
    initial: int


def run(out: Path, seeds: int) -> None:
    """Appends the final regrets of every cell to a file of JSON lines, but for those that it has."""
    done = {line["cell"] for line in map(json.loads, out.open())} if out.exists() else set()
    for dim, sizes in SIZES.items():
        for function in FUNCTIONS:
            problem = shifted(get_problem(f"{function}{dim}"), seed=1)
            for initial in sizes:
                cell = Cell(function, dim, initial)
                if str(cell) in done:
                    continue
                replicates = run_replicates(problem, None, range(seeds), BUDGETS[dim], initial=initial)
                regret = (replicates.best[:, -1] - (problem.minimum or 0.0)).tolist()
                line = {"cell": str(cell), **asdict(cell), "regret": regret}
                with out.open("a") as stream:
                    stream.write(json.dumps(line) + "\n")
                print(line, flush=True)


def table(results: Path) -> None:
    """Prints the mean logarithm of the regret, less that of six initial points."""
    frame = pd.read_json(results, lines=True).explode("regret")
    frame["log"] = np.log10(frame["regret"].astype(float).clip(lower=1e-12))
    mean = frame.groupby(["dim", "function", "initial"])["log"].mean().reset_index()
    six = mean[mean["initial"] == 6].set_index(["dim", "function"])["log"]
    mean["gain"] = mean["log"] - six.reindex(pd.MultiIndex.from_frame(mean[["dim", "function"]])).to_numpy()
    print(mean.pivot_table(index=["dim", "function"], columns="initial", values="gain").round(2).to_string())
    print(mean.pivot_table(index="dim", columns="initial", values="gain").round(2).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--seeds", type=int, default=6)
    commands.add_parser("table").add_argument("results", type=Path)
    given = parser.parse_args()
    if given.command == "run":
        run(given.out, given.seeds)
    else:
        table(given.results)
