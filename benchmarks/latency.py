"""Seconds per ask beside BoTorch's documented loop and Optuna's GPSampler, on the same data in one run.

    python benchmarks/latency.py --out /tmp/latency

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
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.quasirandom import SobolEngine

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import BoSuite, Peer, Task, make_peer
from rich.console import Console
from rich.table import Table

from bo_suite.problems import Problem, get_problem

PROBLEMS = {2: "branin", 6: "hartmann6", 20: "levy20"}
SIZES = (25, 50, 100, 200, 400)
PEERS = ("botorch", "optuna_gp")


def measure(peer: Peer, problem: Problem, n: int, asks: int) -> tuple[list[float], list[dict[str, Any]]]:
    """Seconds of each ask but the first, and what bo_suite says of where they went."""
    rows = SobolEngine(problem.space.dim, scramble=True, seed=n).draw(n, dtype=torch.float64)
    for params in problem.space.decode(rows):
        peer.add(params, problem(params))
    seconds, splits = [], []
    for _ in range(asks + 1):
        before = time.perf_counter()
        params = peer.ask()
        seconds.append(time.perf_counter() - before)
        if isinstance(peer, BoSuite):
            splits.append(peer.provenance())
        peer.tell(params, problem(params))
    return seconds[1:], splits[1:]


def run(n: int, dim: int, method: str, asks: int) -> dict[str, Any]:
    """One cell of the table, as a record."""
    problem = get_problem(PROBLEMS[dim])
    with tempfile.TemporaryDirectory() as folder:
        task = Task(problem.space, 0, n + asks + 1, noisy=False)
        ours = method == "bo_suite"
        peer = BoSuite(task, None, Path(folder) / "run.db") if ours else make_peer(method, task)
        seconds, splits = measure(peer, problem, n, asks)
    record = {"n": n, "d": dim, "method": method, "seconds": statistics.median(seconds), "asks": asks}
    if splits:
        fit = statistics.median(split["fit_ms"] for split in splits)
        search = statistics.median(split["search_ms"] for split in splits)
        record |= {"fit_ms": fit, "search_ms": search, "rest_ms": 1e3 * record["seconds"] - fit - search}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of latency.jsonl")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--dims", default=",".join(map(str, PROBLEMS)))
    parser.add_argument("--asks", type=int, default=5, help="asks that count, per cell")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    table = Table("n", "d", "bo_suite ms", "fit", "search", "rest", *[f"{p} ms (ratio)" for p in PEERS])
    with (options.out / "latency.jsonl").open("a") as file:
        for dim in map(int, options.dims.split(",")):
            for n in map(int, options.sizes.split(",")):
                records = {method: run(n, dim, method, options.asks) for method in ("bo_suite", *PEERS)}
                for record in records.values():
                    record |= {"commit": commit, "device": platform.processor() or platform.machine()}
                    file.write(json.dumps(record, allow_nan=False) + "\n")
                ours = records["bo_suite"]
                cells = [f"{1e3 * ours['seconds']:.0f}"]
                cells += [f"{ours[part]:.0f}" for part in ("fit_ms", "search_ms", "rest_ms")]
                for peer in PEERS:
                    theirs = records[peer]["seconds"]
                    cells.append(f"{1e3 * theirs:.0f} ({theirs / ours['seconds']:.1f}x)")
                table.add_row(str(n), str(dim), *cells)
                print(n, dim, *cells, flush=True)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
