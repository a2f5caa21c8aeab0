"""Regret with gradients, beside the same without, L-BFGS-B and BoTorch's derivative GP; seconds of an ask.

    python benchmarks/gradients.py run --seeds 0:10 --jobs 2 --out /tmp/gradients.jsonl
    python benchmarks/gradients.py seconds --out /tmp/gradients.jsonl
    python benchmarks/gradients.py report --out /tmp/gradients.jsonl

`run`: six functions of 6 to 20 parameters and 30 evaluations, each a value with all derivatives; bo_suite
without gradients and random search ignore these. What the file has is not run again, so the benchmark can be
stopped at any time; every method has one seed of every function before any has the next. `seconds`: asks
after 50 Sobol points of a function of ten parameters with all derivatives, 550 numbers; "cold" is the first
ask that fits the model, without a start, "warm" are the next ones that fit it, "step" those by a step of a
quasi-Newton method, without a model. In brackets are seconds of the CPU, which other programs disturb less.
One thread a process.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import multiprocessing
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.quasirandom import SobolEngine

sys.path.insert(0, str(Path(__file__).resolve().parent))

from gradients_methods import METHODS, botorch_suggestion, tell
from gradients_problems import PROBLEMS, differentiable
from gradients_report import OURS, PEER, WITHOUT, report

from bo_suite import Optimizer

Record = dict[str, Any]
TIMED = "ackley10"


def searched(problem: str, method: str, seed: int, budget: int) -> Record:
    """The record of one run."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    target = differentiable(problem, seed)
    began = time.perf_counter()
    run = METHODS[method](target, seed, budget)
    return {
        "part": "regret",
        "problem": problem,
        "method": method,
        "seed": seed,
        "budget": budget,
        "dim": target.space.dim,
        "minimum": target.minimum,
        "values": run.values,
        "seconds": time.perf_counter() - began,
        "ask_seconds": run.seconds,
        "failures": run.failures,
        "restarts": run.restarts,
    }


def timed(method: str, n: int, seed: int, warm: int) -> Record:
    """Seconds of asks after n observations, by the clock and of the CPU.

    `cold` is the first ask that fits the model, `warm` are the next ones that do, as many as asked for.
    `steps` are asks by the rule "descent", which fits no model.
    """
    problem = differentiable(TIMED, seed)
    rows = SobolEngine(problem.space.dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
    points = [problem.encoded(row.numpy()) for row in rows]
    fits, steps = [], []
    if method == PEER:
        values, slopes = np.array([value for _, value, _ in points]), np.array([row for *_, row in points])
        fits.append(clocked(lambda: botorch_suggestion(rows, values, slopes))[1])
    else:
        optimizer = Optimizer(problem.space, seed=seed)
        for params, value, _ in points:
            gradient = problem.evaluate(params)[1]
            if method == OURS:
                optimizer.add(params, value, gradient=gradient)
            else:
                optimizer.add(params, value)
        while len(fits) < 1 + warm and len(steps) < 10 * (1 + warm):
            trial, taken = clocked(optimizer.ask)
            (steps if trial.provenance["chosen"].get("rule") == "descent" else fits).append(taken)
            value, gradient = problem.evaluate(trial.params)
            tell(optimizer, trial, value, gradient if method == OURS else None)
    key = {"part": "seconds", "method": method, "n": n, "dim": problem.space.dim, "seed": seed}
    return key | {"cold": fits[:1], "warm": fits[1:], "steps": steps}


def clocked(call: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What a call returns, with its seconds by the clock and of the CPU."""
    began, spent = time.perf_counter(), time.process_time()
    returned = call()
    return returned, (time.perf_counter() - began, time.process_time() - spent)


def read(path: Path) -> list[Record]:
    """The records in a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@cache
def measured_with() -> Record:
    """The commit when this was first called, versions and device."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here)
    names = ("torch", "scipy", "botorch", "gpytorch")
    return {
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in names},
        "device": platform.processor() or platform.machine(),
    }


def add(path: Path, record: Record) -> None:
    """Appends a record with where it was measured."""
    with path.open("a") as file:
        file.write(json.dumps(record | measured_with()) + "\n")


def work(tasks: Sequence[tuple[str, str, int, int]], jobs: int) -> Iterator[Record]:
    """The records of runs, as they end."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(searched, *task): task for task in tasks}
        for future in as_completed(futures):
            if future.exception() is None:
                yield future.result()
            else:
                print(f"not recorded: {futures[future]}: {future.exception()!r}", file=sys.stderr)


def run(options: argparse.Namespace) -> None:
    """The subcommand `run`."""
    done = {
        (record["problem"], record["method"], record["seed"], record["budget"])
        for record in read(options.out)
        if record["part"] == "regret"
    }
    tasks = [
        (problem, method, seed, options.budget)
        for seed in options.seeds
        for problem in options.functions
        for method in options.methods
    ]
    for record in work([task for task in tasks if task not in done], options.jobs):
        add(options.out, record)
        best = min(record["values"]) - record["minimum"]
        print(record["problem"], record["seed"], record["method"], f"{best:.3g}", flush=True)


def seconds(options: argparse.Namespace) -> None:
    """The subcommand `seconds`."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for method in options.methods:
        timed(method, 12, 0, 1)  # loads the code
        for seed in options.seeds:
            record = timed(method, options.n, seed, options.warm)
            add(options.out, record)
            print(method, record["cold"], record["warm"], record["steps"], flush=True)


def main() -> None:
    """Command line."""

    def listed(text: str) -> list[str]:
        return text.split(",")

    def numbers(text: str) -> range:
        first, end = text.split(":")
        return range(int(first), int(end))

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run what is not in the file yet")
    running.add_argument("--functions", type=listed, default=list(PROBLEMS))
    running.add_argument("--methods", type=listed, default=list(METHODS))
    running.add_argument("--seeds", type=numbers, default=range(10), help="first:end, the end left out")
    running.add_argument("--budget", type=int, default=30)
    running.add_argument("--jobs", type=int, default=1)
    timing = commands.add_parser("seconds", help="time asks")
    timing.add_argument("--methods", type=listed, default=[OURS, WITHOUT, PEER])
    timing.add_argument("--seeds", type=numbers, default=range(5), help="data sets, each with one cold ask")
    timing.add_argument("--n", type=int, default=50, help="observations")
    timing.add_argument("--warm", type=int, default=5, help="further fits of each data set")
    showing = commands.add_parser("report", help="print the tables of a file")
    showing.add_argument("--methods", type=listed, help="those to rank; all by default")
    for command in (running, timing, showing):
        command.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    options = parser.parse_args()
    if options.command == "report":
        report(read(options.out), options.methods)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    measured_with()  # before anybody commits something else
    {"run": run, "seconds": seconds}[options.command](options)


if __name__ == "__main__":
    main()
