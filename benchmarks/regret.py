"""Regret of bo_suite beside its peers, on test functions and on models to tune.

    python benchmarks/regret.py --methods bo_suite,botorch,ax --seeds 0:10 --workers 2 --out /tmp/regret
    python benchmarks/regret.py --report --out /tmp/regret

Every run appends one JSON line to OUT/regret.jsonl, so a stopped benchmark goes on where it was. Seed k
gives every method the same noise. The final value of a run is the noiseless value of the trial with the best
observed value; a run that crashed counts as the worst.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import dataclasses
import fcntl
import importlib.metadata
import json
import math
import multiprocessing
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import Task, make_peer

from bo_suite.parameters import Float
from bo_suite.problems import Problem, embedded, get_problem, mixed, noisy, shifted
from bo_suite.space import Params, Space

BENCHMARK: dict[str, tuple[Callable[[], Problem], int]] = {
    "branin": (lambda: get_problem("branin"), 50),
    "goldstein_price": (lambda: get_problem("goldstein_price"), 50),
    "hartmann3": (lambda: get_problem("hartmann3"), 50),
    "shifted_ackley5": (lambda: shifted(get_problem("ackley5")), 50),
    "rosenbrock5": (lambda: get_problem("rosenbrock5"), 50),
    "hartmann6": (lambda: get_problem("hartmann6"), 50),
    "shifted_levy10": (lambda: shifted(get_problem("levy10")), 70),
    "hartmann6_in_20d": (lambda: embedded(get_problem("hartmann6"), 20), 100),
    "shifted_ackley20": (lambda: shifted(get_problem("ackley20")), 100),
    "noisy_branin": (lambda: noisy(get_problem("branin"), 2.0), 50),
    "noisy_hartmann6": (lambda: noisy(get_problem("hartmann6"), 0.2), 50),
    "mixed_levy6": (lambda: mixed(shifted(get_problem("levy6")), integers=(1, 3), unordered=(2, 5)), 50),
    "svm_digits": (lambda: get_problem("svm_digits"), 50),
    "svr_diabetes": (lambda: get_problem("svr_diabetes"), 50),
    "boosting_diabetes": (lambda: get_problem("boosting_diabetes"), 50),
    "forest_wine": (lambda: get_problem("forest_wine"), 50),
    "mlp_digits": (lambda: get_problem("mlp_digits"), 50),
    "linear_breast_cancer": (lambda: get_problem("linear_breast_cancer"), 50),
}
"""Problem and budget by name. Results in the files were made with these: change a name with a definition."""

NAMED_ONLY: dict[str, tuple[Callable[[], Problem], int]] = {
    "michalewicz5": (lambda: get_problem("michalewicz5"), 50),
    "styblinski_tang5": (lambda: get_problem("styblinski_tang5"), 50),
}
"""Likewise, of problems that run and are reported where `--problems` names them."""

LIBRARIES = (
    "torch",
    "botorch",
    "gpytorch",
    "ax-platform",
    "optuna",
    "scikit-learn",
    "numpy",
    "xgboost",
    "lightgbm",
    "syne-tune",
)


def _inside(space: Space, params: Params) -> Params:
    # Some libraries return the bounds of a log scale with a rounding error.
    clipped = {
        name: min(max(params[name], parameter.low), parameter.high)  # type: ignore[type-var]
        if isinstance(parameter, Float)
        else params[name]
        for name, parameter in space
    }
    return space.check(clipped)


def run_one(name: str, method: str, seed: int, budget: int | None = None) -> dict[str, Any]:
    """One run, as the record that goes into the file."""
    make_problem, default_budget = (BENCHMARK | NAMED_ONLY)[name]
    problem = dataclasses.replace(make_problem(), seed=seed)
    budget = budget or default_budget
    observed: list[float] = []
    noiseless: list[float] = []
    ask_seconds: list[float] = []
    ask_cpu_seconds: list[float] = []
    tell_seconds = 0.0
    error = None
    start = time.perf_counter()
    try:
        peer = make_peer(method, Task(problem.space, seed, budget, problem.noise > 0))
        for call in range(budget):
            before, before_cpu = time.perf_counter(), time.process_time()
            params = peer.ask()
            ask_seconds.append(time.perf_counter() - before)
            ask_cpu_seconds.append(time.process_time() - before_cpu)
            point = _inside(problem.space, params)
            true = problem.value(point)
            # call by call, so that every method meets the same noise
            draw = np.random.default_rng((seed, call)).standard_normal() if problem.noise > 0 else 0.0
            seen = true + problem.noise * float(draw)
            if not (math.isfinite(seen) and math.isfinite(true)):
                raise ArithmeticError(f"{name} must be finite, got {seen} at {point}")
            observed.append(seen)
            noiseless.append(true)
            before = time.perf_counter()
            peer.tell(params, seen)
            tell_seconds += time.perf_counter() - before
    except Exception:
        error = traceback.format_exc()[-2000:]
    return {
        "problem": name,
        "method": method,
        "seed": seed,
        "budget": budget,
        "space": problem.space.fingerprint,
        "minimum": problem.minimum,
        "observed": observed,
        "noiseless": noiseless,
        "ask_seconds": [round(seconds, 5) for seconds in ask_seconds],
        "ask_cpu_seconds": [round(seconds, 5) for seconds in ask_cpu_seconds],
        "tell_seconds": round(tell_seconds, 4),
        "wall_seconds": round(time.perf_counter() - start, 3),
        "error": error,
        "versions": {library: _version(library) for library in LIBRARIES},
        "commit": _commit(),
        "device": f"cpu {platform.machine()}",
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _append(file: Path, record: dict[str, Any]) -> None:
    line = json.dumps(record, allow_nan=False) + "\n"
    with file.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(line)


def read(file: Path) -> list[dict[str, Any]]:
    """Records of a file; a last line cut off by a kill is left out."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"left out a broken line of {file}", file=sys.stderr)
    return records


def _work(tasks: list[tuple[str, str, int, int | None]], taken: Any, file: Path) -> None:
    torch.set_num_threads(1)
    while True:
        with taken.get_lock():
            place, taken.value = taken.value, taken.value + 1
        if place >= len(tasks):
            return
        record = run_one(*tasks[place])
        _append(file, record)
        final = f"{final_value(record):.5g}" if record["error"] is None else "CRASHED"
        print(
            f"{place + 1}/{len(tasks)} {record['problem']} {record['method']} seed {record['seed']}: "
            f"{final} in {record['wall_seconds']:.1f} s",
            flush=True,
        )


def run_all(tasks: list[tuple[str, str, int, int | None]], workers: int, file: Path) -> None:
    """Work off the tasks in order; a worker that dies loses its run, which the next call makes up."""
    context = multiprocessing.get_context("spawn")
    taken = context.Value("i", 0)
    running = [context.Process(target=_work, args=(tasks, taken, file)) for _ in range(workers)]
    for process in running:
        process.start()
    while running:
        for place, process in enumerate(running):
            process.join(timeout=1.0)
            if process.exitcode is None:
                continue
            if process.exitcode == 0:
                del running[place]
                break
            print(f"a worker died with exit code {process.exitcode}; another takes its place", flush=True)
            running[place] = context.Process(target=_work, args=(tasks, taken, file))
            running[place].start()


def final_value(record: dict[str, Any]) -> float:
    """The noiseless value of the trial with the best observed value; inf for a crashed run."""
    if record["error"] is not None:
        return math.inf
    return float(record["noiseless"][int(np.argmin(record["observed"]))])


def report(records: list[dict[str, Any]], methods: list[str] | None, names: list[str]) -> None:
    """Print medians by problem and mean ranks, over the (problem, seed) pairs that every method has run."""
    from scipy.stats import rankdata

    methods = methods or sorted({record["method"] for record in records})
    finals = {
        (record["problem"], record["seed"], record["method"]): final_value(record)
        for record in records
        if record["method"] in methods and record["problem"] in names
    }
    pairs = sorted({key[:2] for key in finals if all((*key[:2], method) in finals for method in methods)})
    if not pairs:
        raise SystemExit(f"no (problem, seed) pair has been run by all of {methods}")
    width = max(12, *(len(method) + 1 for method in methods))
    print(f"{'median final value':24}{'seeds':>6}" + "".join(f"{method:>{width}}" for method in methods))
    for name in names:
        seeds = [seed for problem, seed in pairs if problem == name]
        if seeds:
            medians = [np.median([finals[name, seed, method] for seed in seeds]) for method in methods]
            print(f"{name:24}{len(seeds):>6}" + "".join(f"{median:>{width}.5g}" for median in medians))
    # Values that differ by rounding alone are ties.
    ranks = {
        pair: rankdata([float(f"{finals[(*pair, method)]:.9g}") for method in methods]) for pair in pairs
    }
    seeds = sorted({seed for _, seed in pairs})
    by_seed = [np.array([ranks[pair] for pair in pairs if pair[1] == seed]) for seed in seeds]
    mean = np.concatenate(by_seed).mean(axis=0)
    generator = np.random.default_rng(0)
    draws = [
        np.concatenate([by_seed[place] for place in generator.integers(len(seeds), size=len(seeds))]).mean(
            axis=0
        )
        for _ in range(2000)
    ]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    scale = max(len(methods) - 1, 1)
    print(
        f"\nmean rank over {len(pairs)} (problem, seed) pairs, 1 is best; "
        f"95% intervals over {len(seeds)} seeds"
    )
    for place in np.argsort(mean):
        method = methods[place]
        chosen = [record for record in records if record["method"] == method and record["error"] is None]
        asks = [
            seconds for record in chosen for seconds in record["ask_cpu_seconds"][record["budget"] // 2 :]
        ]
        crashed = sum(math.isinf(finals[(*pair, method)]) for pair in pairs)
        print(
            f"{method:24}{mean[place]:6.2f} [{low[place]:.2f}, {high[place]:.2f}]  "
            f"0..1: {(mean[place] - 1) / scale:.3f} [{(low[place] - 1) / scale:.3f}, "
            f"{(high[place] - 1) / scale:.3f}]  crashed {crashed}  "
            f"CPU s per ask, median of later half {np.median(asks) if asks else math.nan:.3f}"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", help="comma-separated; the report takes all in the file by default")
    parser.add_argument(
        "--problems", default=",".join(BENCHMARK), help=f"comma-separated; also {', '.join(NAMED_ONLY)}"
    )
    parser.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    parser.add_argument("--budget", type=int, help="instead of each problem's own, to try things out")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a directory outside the repository")
    parser.add_argument("--report", action="store_true", help="print tables of the runs so far, run nothing")
    args = parser.parse_args()
    names = args.problems.split(",")
    if unknown := [name for name in names if name not in BENCHMARK | NAMED_ONLY]:
        parser.error(f"problems must be among {[*BENCHMARK, *NAMED_ONLY]}, got {unknown}")
    methods = args.methods.split(",") if args.methods else None
    file = args.out / "regret.jsonl"
    if args.report:
        report(read(file), methods, names)
        return
    if methods is None:
        parser.error("--methods must be given")
    first, end = (int(bound) for bound in args.seeds.split(":"))
    args.out.mkdir(parents=True, exist_ok=True)
    if file.exists() and not file.read_text(encoding="utf-8").endswith("\n"):
        with file.open("a", encoding="utf-8") as stream:
            stream.write("\n")  # a line cut off by a kill must not swallow the next one
    done = {(record["problem"], record["method"], record["seed"]) for record in read(file)}
    tasks = [
        (name, method, seed, args.budget)
        for seed in range(first, end)
        for name in names
        for method in methods
        if (name, method, seed) not in done
    ]
    run_all(tasks, args.workers, file)


if __name__ == "__main__":
    main()
