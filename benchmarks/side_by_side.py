"""Processes and threads that ask and tell on one history, against one alone.

    python benchmarks/side_by_side.py --out benchmarks/results/side_by_side.jsonl

Each of 1, 2, 4 and 8 processes, and as many threads on one Optimizer and on one each, asks and
tells a cheap function on one file until it has so many trials. Prints trials a second up to there, the
median and the longest ask, the smallest and the largest share of trials, and points that were asked twice. A
process's first asks, which load libraries, are left out.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from bo_suite import Choice, Float, Int, Optimizer, Space

SPACE = Space(
    {"x": Float(-5.0, 10.0), "y": Float(0.0, 15.0), "n": Int(1, 12), "kind": Choice(["a", "b", "c"])}
)


def objective(params: dict[str, Any]) -> float:
    """A cheap function of all parameters."""
    kind = "abc".index(params["kind"])
    return (params["x"] - 2) ** 2 / 10 + abs(params["y"] - 6) / 3 + abs(params["n"] - 7) / 4 + kind


def work(optimizer: Optimizer, trials: int) -> list[float]:
    """Asks and tells until there are so many trials; the seconds of each ask that gave one of these."""
    seconds = []
    while len(optimizer.trials) < trials:
        began = time.perf_counter()
        trial = optimizer.ask()
        if trial.id < trials:  # as processes end, those that ask once more are slowed down
            seconds.append(time.perf_counter() - began)
        optimizer.tell(trial, objective(trial.params))
    return seconds


def _process(path: str, trials: int, barrier: Any, results: Any) -> None:
    warm = Optimizer(SPACE)
    for _ in range(8):
        trial = warm.ask()
        warm.tell(trial, objective(trial.params))
    optimizer = Optimizer(SPACE, storage=path)
    barrier.wait()
    results.put(work(optimizer, trials))
    optimizer.close()


def processes(path: str, count: int, trials: int) -> list[list[float]]:
    """Seconds of the asks of each process."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count + 1), context.Queue()
    children = [context.Process(target=_process, args=(path, trials, barrier, results)) for _ in range(count)]
    for child in children:
        child.start()
    barrier.wait()
    asks = [results.get() for _ in children]
    for child in children:
        child.join()
    return asks


def threads(path: str, count: int, trials: int, *, shared: bool) -> list[list[float]]:
    """Seconds of the asks of each thread, of one Optimizer or of one each."""
    first = Optimizer(SPACE, storage=path)
    optimizers = [first if shared else Optimizer(SPACE, storage=path) for _ in range(count)]
    asks: list[list[float]] = []
    members = [threading.Thread(target=lambda one=one: asks.append(work(one, trials))) for one in optimizers]
    for member in members:
        member.start()
    for member in members:
        member.join()
    for one in optimizers:
        one.close()
    return asks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=160)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    print("| side by side | trials/s | median ask, ms | longest ask, ms | shares | points asked twice |")
    print("|---|---|---|---|---|---|")
    kinds = {
        "processes": processes,
        "threads, one Optimizer": lambda *args: threads(*args, shared=True),
        "threads, an Optimizer each": lambda *args: threads(*args, shared=False),
    }
    for kind, run in kinds.items():
        for count in given.counts:
            with tempfile.TemporaryDirectory() as folder:
                path = str(Path(folder) / "run.db")
                asks = run(path, count, given.trials)
                trials = Optimizer.resume(path).trials
            points = [json.dumps(trial.params) for trial in trials]
            wall = max(trial.ended or 0.0 for trial in trials[: given.trials]) - trials[0].started
            every = [1e3 * one for own in asks for one in own]
            shares = [len(own) for own in asks]
            record = {
                "kind": kind,
                "count": count,
                "trials": len(points),
                "rate": given.trials / wall,
                "median_ms": statistics.median(every),
                "longest_ms": max(every),
                "shares": [min(shares), max(shares)],
                "twice": len(points) - len(set(points)),
            }
            print(
                f"| {count} {kind} | {record['rate']:.1f} | {record['median_ms']:.0f} | "
                f"{record['longest_ms']:.0f} | {min(shares)} to {max(shares)} | {record['twice']} |",
                flush=True,
            )
            if given.out is not None:
                with given.out.open("a") as file:
                    file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
