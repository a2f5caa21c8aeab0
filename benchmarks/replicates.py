"""Replicate-suggestions per second of run_replicates, beside the same runs one by one and BoTorch's loop.

    python benchmarks/replicates.py --out /tmp/replicates
    python benchmarks/replicates.py --device cuda --replicates 256 --sizes 1,16,64 --out /tmp/replicates

Hartmann6 with LogExpectedImprovement, whole runs from the first evaluation to the last, one thread. Single
runs are by Optimizer, on the first few of the same seeds; BoTorch's documented loop is always on the CPU, and
takes min(2 d, 10) = 10 points for its start where ours takes 6. Every measurement is made in a process of its
own, which has suggested a few points before; wall time and the CPU time of the process are both written down.
`model` is what follows the start of the first fit alone, evaluations included. Memory is what the peak of the
process grew by: of the resident set, or what torch allocated on the GPU.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import importlib.metadata
import json
import multiprocessing
import platform
import resource
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from bo_suite import Optimizer
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.acquisition.base import Score
from bo_suite.bench.method import Run, Task
from bo_suite.bench.peers import get_method
from bo_suite.bench.replicates import run_replicates
from bo_suite.data import Dataset, Seeds
from bo_suite.problems import Problem, get_problem
from bo_suite.study.initial import initial_size
from bo_suite.surrogates import WarmStart

PROBLEM = "hartmann6"
_WARM = 8
"""Evaluations of the run that loads the code; a few of them fit a model."""
_LIBRARIES = ("torch", "numpy", "botorch", "gpytorch", "numba")


@dataclass(frozen=True)
class Cell:
    """What is measured: "replicates" at once, "solo" runs one by one, or those of "botorch"."""

    method: str
    device: str
    runs: int
    budget: int


@dataclass
class Clock:
    """Wall and CPU seconds since the start, and since the first model."""

    device: str
    marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        """Notes the present."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), time.process_time()))

    def between(self, first: int, last: int) -> tuple[float, float]:
        """Wall and CPU seconds between two marks."""
        (wall, cpu), (later, busier) = self.marks[first], self.marks[last]
        return later - wall, busier - cpu


@dataclass(frozen=True)
class Clocked:
    """LogExpectedImprovement that marks when the first of its scores is built."""

    clock: Clock

    def build(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Score:
        """The score, after the mark."""
        if len(self.clock.marks) == 1:
            self.clock.mark()
        return LogExpectedImprovement().build(data, seeds, start)


def _replicates(problem: Problem, cell: Cell, clock: Clock) -> list[float]:
    """Marks on the clock, and the best values of the runs."""
    clock.mark()
    found = run_replicates(problem, Clocked(clock), range(cell.runs), cell.budget, cell.device)
    clock.mark()
    return [float(value) for value in found.best[:, -1]]


def _solo(problem: Problem, cell: Cell, seed: int, clock: Clock) -> float:
    clock.mark()
    optimizer = Optimizer(problem.space, Clocked(clock), seed=seed, budget=cell.budget, device=cell.device)
    for _ in range(cell.budget):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
    clock.mark()
    best = optimizer.best.value
    assert best is not None
    return best


def _botorch(problem: Problem, cell: Cell, seed: int, clock: Clock) -> float:
    values: list[float] = []
    clock.mark()
    run: Run = get_method("botorch").start(Task(problem.space, seed, cell.budget, noisy=False))
    for trial in range(cell.budget):
        if trial == _start(cell, problem):
            clock.mark()
        params = run.ask()
        values.append(problem(params))
        run.tell(params, values[-1])
    clock.mark()
    return min(values)


def _start(cell: Cell, problem: Problem) -> int:
    """Points before the first model."""
    dim = problem.space.dim
    return min(2 * dim, 10) if cell.method == "botorch" else initial_size(cell.budget, problem.space)


def measure(cell: Cell) -> dict[str, Any]:
    """The record of a cell; to be called in a fresh process, whose peak memory it reads."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    problem = get_problem(PROBLEM)
    _run(problem, Cell(cell.method, cell.device, 1, 12 if cell.method == "botorch" else _WARM))
    before = peak_memory(cell.device)
    whole, model, values = _run(problem, cell)
    memory = peak_memory(cell.device) - before
    suggested = cell.runs * (cell.budget - _start(cell, problem))
    assert problem.minimum is not None
    return {
        "method": cell.method,
        "device": cell.device,
        "replicates": cell.runs,
        "budget": cell.budget,
        "wall_seconds": whole[0],
        "cpu_seconds": whole[1],
        "wall_rate": cell.runs * cell.budget / whole[0],
        "cpu_rate": cell.runs * cell.budget / whole[1],
        "model_wall_rate": suggested / model[0],
        "model_cpu_rate": suggested / model[1],
        "mib_per_replicate": memory / 2**20 / (cell.runs if cell.method == "replicates" else 1),
        "median_regret": statistics.median(values) - problem.minimum,
    }


def _run(problem: Problem, cell: Cell) -> tuple[list[float], list[float], list[float]]:
    """Wall and CPU seconds, the same after the start of the first fit, and the best values."""
    if cell.method == "replicates":
        clock = Clock(cell.device)
        values = _replicates(problem, cell, clock)
        return list(clock.between(0, 2)), list(clock.between(1, 2)), values
    one: Callable[[Problem, Cell, int, Clock], float] = _solo if cell.method == "solo" else _botorch
    whole, model, values = [0.0, 0.0], [0.0, 0.0], []
    for seed in range(cell.runs):
        clock = Clock(cell.device)
        values.append(one(problem, cell, seed, clock))
        for total, first in ((whole, 0), (model, 1)):
            for place, seconds in enumerate(clock.between(first, 2)):
                total[place] += seconds
    return whole, model, values


def peak_memory(device: str) -> float:
    """Bytes: the peak of what torch has allocated on the GPU, or of the resident set of this process."""
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():  # getrusage keeps the peak of the process that this one was started from
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def environment() -> dict[str, Any]:
    """What the figures depend on beside the code that is measured."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "versions": versions,
        "processor": platform.processor() or platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": 1,
        "load": os.getloadavg()[0],
    }


def table(records: list[dict[str, Any]], replicates: int) -> Table:
    """Rates, and how often faster the replicates are than each."""
    ours = next(r for r in records if r["method"] == "replicates" and r["replicates"] == replicates)
    found = Table(
        *("method", "device", "runs", "CPU s", "wall s", "a CPU s", "a wall s", "model, a CPU s"),
        *("model, a wall s", f"R={replicates} is faster, CPU", "wall", "model, CPU", "model, wall"),
        *("MiB each", "median regret"),
    )
    for one in records:
        rates = [one[kind] for kind in ("cpu_rate", "wall_rate", "model_cpu_rate", "model_wall_rate")]
        factors = [ours[kind] / one[kind] for kind in ("cpu_rate", "wall_rate", "model_cpu_rate")]
        factors.append(ours["model_wall_rate"] / one["model_wall_rate"])
        found.add_row(
            *(one["method"], one["device"], str(one["replicates"])),
            *(f"{one[kind]:.1f}" for kind in ("cpu_seconds", "wall_seconds")),
            *(f"{rate:.1f}" for rate in rates),
            *(f"{factor:.1f}x" for factor in factors),
            *(f"{one['mib_per_replicate']:.2f}", f"{one['median_regret']:.1e}"),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of replicates.jsonl")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--replicates", type=int, default=64, help="what is compared")
    parser.add_argument("--budget", type=int, default=60)
    parser.add_argument("--sizes", default="1,4,16,64", help="other numbers of replicates")
    parser.add_argument("--solo", type=int, default=8, help="seeds run one by one")
    parser.add_argument("--botorch", type=int, default=2, help="seeds of BoTorch's loop")
    options = parser.parse_args()
    sizes = sorted({*map(int, options.sizes.split(",")), options.replicates} - {0})
    cells = [Cell("replicates", options.device, size, options.budget) for size in sizes]
    for device in dict.fromkeys((options.device, "cpu")):
        cells.append(Cell("solo", device, options.solo, options.budget))
    cells.append(Cell("botorch", "cpu", options.botorch, options.budget))
    options.out.mkdir(parents=True, exist_ok=True)
    records = []
    with (options.out / "replicates.jsonl").open("a") as file:
        for cell in cells:
            if cell.runs == 0:
                continue
            spawned = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=spawned) as pool:
                records.append(pool.submit(measure, cell).result() | environment())
            file.write(json.dumps(records[-1], allow_nan=False) + "\n")
            file.flush()
            print(json.dumps(records[-1]), flush=True)
    Console(width=200).print(table(records, options.replicates))


if __name__ == "__main__":
    main()
