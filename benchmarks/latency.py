"""Seconds per ask beside BoTorch's documented loop and Optuna's GPSampler, on the same data in one run.

    python benchmarks/latency.py --out /tmp/latency
    python benchmarks/latency.py --methods lfbo:mlp,syne_tune_bore --dims 6 --out /tmp/latency

For every n and d each method is given the same n evaluated Sobol points, then asks and tells a few times;
the median of these asks counts, the first left out (it loads code and has no warm start). One thread each.
bo_suite keeps its history in a file here, so that its time includes storage.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.table import Table
from torch.quasirandom import SobolEngine

from bo_suite import Optimizer
from bo_suite.bench.method import Run, Task
from bo_suite.bench.peers import BoSuite, get_method
from bo_suite.bench.peers.own import WEIGHTINGS, BoSuiteRun
from bo_suite.problems import Problem, get_problem
from bo_suite.space.space import Params

PROBLEMS = {2: "branin", 6: "hartmann6", 20: "levy20"}
SIZES = (25, 50, 100, 200, 400)
METHODS = ("bo_suite", "botorch", "optuna_gp")
OURS = ("bo_suite", *WEIGHTINGS)
PARTS = ("fit_ms", "search_ms", "rest_ms")


class Peer(Run, Protocol):
    """A run that also takes observations that it did not ask for."""

    def add(self, params: Params, value: float) -> None: ...


def start(method: str, task: Task, storage: Path) -> Any:
    """The run of a method, ours with its history in a file."""
    found = get_method(method)
    if not isinstance(found, BoSuite):
        return found.start(task)
    kept = Optimizer(task.space, found.acquisition, task.seed, budget=task.budget, storage=storage)
    return BoSuiteRun(kept)


def measure(peer: Peer, problem: Problem, n: int, asks: int) -> tuple[list[float], list[dict[str, Any]]]:
    """Seconds of each ask but the first, and what bo_suite says of those that fitted a model."""
    rows = SobolEngine(problem.space.dim, scramble=True, seed=n).draw(n, dtype=torch.float64)
    for params in problem.space.decode(rows):
        peer.add(params, problem(params))
    seconds, splits = [], []
    for _ in range(asks + 1):
        before = time.perf_counter()
        params = peer.ask()
        seconds.append(time.perf_counter() - before)
        splits.append(peer.provenance())
        peer.tell(params, problem(params))
    return seconds[1:], [split for split in splits[1:] if "fit_ms" in split]


def run(n: int, dim: int, method: str, asks: int) -> dict[str, Any]:
    """One cell of the table, as a record."""
    problem = get_problem(PROBLEMS[dim])
    with tempfile.TemporaryDirectory() as folder:
        task = Task(problem.space, 0, n + asks + 1, noisy=False)
        peer = start(method, task, Path(folder) / "run.db")
        seconds, splits = measure(peer, problem, n, asks)
    record = {"n": n, "d": dim, "method": method, "seconds": statistics.median(seconds), "asks": asks}
    if splits:
        fit = statistics.median(split["fit_ms"] for split in splits)
        search = statistics.median(split["search_ms"] for split in splits)
        record |= {"fit_ms": fit, "search_ms": search, "rest_ms": 1e3 * record["seconds"] - fit - search}
    return record


def heads(methods: list[str]) -> list[str]:
    """Names of the columns that `cells` fills."""
    names = []
    for place, method in enumerate(methods):
        names.append(f"{method} ms" + (" (ratio)" if place else ""))
        if method.partition(":")[0] in OURS:
            names += [part.removesuffix("_ms") for part in PARTS]
    return names


def cells(records: list[dict[str, Any]]) -> list[str]:
    """Milliseconds of each method and their ratio to the first's, ours with the parts of it."""
    texts = []
    for place, record in enumerate(records):
        ratio = f" ({record['seconds'] / records[0]['seconds']:.1f}x)" if place else ""
        texts.append(f"{1e3 * record['seconds']:.0f}{ratio}")
        if record["method"].partition(":")[0] in OURS:
            texts += [f"{record[part]:.0f}" if part in record else "-" for part in PARTS]
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of latency.jsonl")
    parser.add_argument("--methods", default=",".join(METHODS), help="ratios are to the first")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--dims", default=",".join(map(str, PROBLEMS)))
    parser.add_argument("--asks", type=int, default=5, help="asks that count, per cell")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    methods = options.methods.split(",")
    table = Table("n", "d", *heads(methods))
    with (options.out / "latency.jsonl").open("a") as file:
        for dim in map(int, options.dims.split(",")):
            for n in map(int, options.sizes.split(",")):
                records = [run(n, dim, method, options.asks) for method in methods]
                for record in records:
                    record |= {"commit": commit, "device": platform.processor() or platform.machine()}
                    file.write(json.dumps(record, allow_nan=False) + "\n")
                table.add_row(str(n), str(dim), *cells(records))
                print(n, dim, *cells(records), flush=True)
    Console(width=max(110, 12 * len(table.columns))).print(table)


if __name__ == "__main__":
    main()
