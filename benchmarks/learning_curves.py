"""Tuning networks on learning curves of lcbench, in simulated time: ours beside other schedulers.

    python benchmarks/learning_curves.py run --data FOLDER --out results.jsonl --methods asha --seeds 0:3
    python benchmarks/learning_curves.py report results.jsonl

`run` simulates each (seed, workers, task, method) that is not in the file yet, and appends a line for each;
several may write to one file. The tasks are those at even positions of the sorted ids; the others are kept
for checking, and refused. A method maximises the validation accuracy at epoch 52, and may stop trials before.
The unit of time is the mean of a whole evaluation at a random point of the task, so that a run of 4 workers
lasts 12.5 units (50 whole evaluations in all), and one of 32 workers 4 units (128). Asks take no simulated
time. `report` is described in benchmarks/learning_curves_report.py.
Peers run at their shipped defaults; they are only told the last epoch and that steps begin at 1.
Syne Tune's need `pip install syne-tune xgboost huggingface_hub s3fs`.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import fcntl
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from learning_curves_best import development_problem, development_tasks
from learning_curves_report import print_report
from rich.console import Console

from bo_suite.acquisition import PerCost, RungImprovement
from bo_suite.bench.peers.optuna_pruning import OptunaPruning, halving_pruner, hyperband_pruner
from bo_suite.bench.peers.syne_tune_halving import SyneTuneHalving
from bo_suite.bench.simulation import (
    BoSuiteCurves,
    CurveMethod,
    CurveTask,
    RandomCurves,
    Simulation,
    simulate,
)
from bo_suite.run.schedulers import (
    ASHA,
    PASHA,
    CurvePromotion,
    CurveStopping,
    Hyperband,
    MedianRule,
    PromotionASHA,
)

METHODS: dict[str, CurveMethod] = {
    method.name: method
    for method in (
        RandomCurves("random"),
        RandomCurves("asha", ASHA),
        RandomCurves("promotion_asha", PromotionASHA),
        RandomCurves("hyperband", Hyperband),
        RandomCurves("pasha", PASHA),
        RandomCurves("median_rule", MedianRule),
        BoSuiteCurves("bo_suite_full"),
        BoSuiteCurves("bo_suite_curves", CurveStopping),
        BoSuiteCurves("bo_suite_curves_per_cost", CurveStopping, PerCost(exponent=0.5)),
        BoSuiteCurves("bo_suite_curve_promotion", lambda last: CurvePromotion(last, 3)),
        BoSuiteCurves("bo_suite_mobster", ASHA, RungImprovement()),
        BoSuiteCurves("bo_suite_asha", ASHA),
        BoSuiteCurves("bo_suite_promotion", PromotionASHA),
        BoSuiteCurves("bo_suite_hyperband", Hyperband),
        OptunaPruning("optuna_tpe_hyperband", hyperband_pruner),
        OptunaPruning("optuna_tpe_asha", halving_pruner),
        SyneTuneHalving("syne_tune_asha", "ASHA"),
        SyneTuneHalving("syne_tune_bohb", "BOHB"),
        SyneTuneHalving("syne_tune_ashabore", "ASHABORE"),
        SyneTuneHalving("syne_tune_ashacqr", "ASHACQR"),
    )
}
HORIZONS = {4: 12.5, 32: 4.0}
"""Simulated time of a run by its number of workers, in mean whole evaluations."""

BEST = Path(__file__).parent / "results" / "lcbench_best.json"
Record = dict[str, Any]


def simulated(method: CurveMethod, task: int, seed: int, workers: int, data: str | None) -> Record:
    """The record of one run."""
    problem = development_problem(task, data)
    unit = json.loads(BEST.read_text())[str(task)]["mean_seconds"]
    before = time.perf_counter()
    tuner = method.start_curves(CurveTask.of(problem, seed))
    simulation = simulate(problem, tuner, workers, HORIZONS[workers] * unit)
    return {
        "method": method.name,
        "task": task,
        "seed": seed,
        "workers": workers,
        "horizon": HORIZONS[workers],
        "wall_seconds": round(time.perf_counter() - before, 2),
        "simulated_seconds": round(simulation.seconds, 1),
        **summary(simulation, unit),
    }


def summary(simulation: Simulation, unit: float) -> Record:
    """What a record says about a simulation, with times in a unit."""
    trials, better = simulation.trials, simulation.sign
    best = min(trials, key=lambda trial: (better * trial.final, trial.id))
    return {
        "finished": rounded(simulation.incumbents(), unit),
        "any_step": rounded(simulation.incumbents(any_step=True), unit),
        "fates": {
            fate: sum(one.fate == fate for one in trials) for fate in ("finished", "stopped", "running")
        },
        "steps": len(simulation.events),
        "best_started": {
            "final": best.final,
            "fate": best.fate,
            "step": best.step,
            "started": best.started / unit,
        },
    }


def rounded(improvements: Sequence[tuple[float, float]], unit: float) -> list[tuple[float, float]]:
    """(time, value) of each improvement, to digits that matter."""
    return [(round(seconds / unit, 4), round(value, 4)) for seconds, value in improvements]


def key(record: Record) -> tuple[Any, ...]:
    """What identifies a run."""
    return record["method"], record["task"], record["seed"], record["workers"]


def read(path: Path) -> list[Record]:
    """The records in a file; none if there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, record: Record) -> None:
    """Appends a line, whole, whoever else writes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(record) + "\n")


def run(options: argparse.Namespace) -> None:
    """The subcommand `run`."""
    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    for name, task, seed, workers in units(options):
        if (name, task, seed, workers) in map(key, read(options.out)):
            continue
        record = simulated(METHODS[name], task, seed, workers, options.data) | {"commit": commit}
        append(options.out, record)
        last = record["finished"][-1][1] if record["finished"] else None
        print(name, task, seed, workers, f"{record['wall_seconds']} s", last, flush=True)


def units(options: argparse.Namespace) -> Iterator[tuple[str, int, int, int]]:
    """The runs, so that all methods have one seed on all tasks before the next seed."""
    first, end = (int(bound) for bound in options.seeds.split(":"))
    tasks = (
        [int(task) for task in options.tasks.split(",")] if options.tasks else development_tasks(options.data)
    )
    for seed in range(first, end):
        for workers in options.workers.split(","):
            for task in tasks:
                for name in options.methods.split(","):
                    yield name, task, seed, int(workers)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="simulate what is not in the file yet")
    runs.add_argument("--data", help="folder of lcbench; without it that in BO_SUITE_DATA")
    runs.add_argument("--out", type=Path, required=True, help="file of JSON lines")
    runs.add_argument("--methods", default=",".join(METHODS))
    runs.add_argument("--tasks", help="OpenML ids; all for development without it")
    runs.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    runs.add_argument("--workers", default="4,32")
    tables = commands.add_parser("report", help="print tables of a file")
    tables.add_argument("file", type=Path)
    tables.add_argument("--any-step", action="store_true", help="count outcomes before the last epoch, too")
    tables.add_argument("--methods", help="those to compare; all without it")
    options = parser.parse_args()
    if options.command == "run":
        run(options)
        return
    records = read(options.file)
    if options.methods:
        records = [record for record in records if record["method"] in options.methods.split(",")]
    references = {int(task): row for task, row in json.loads(BEST.read_text()).items()}
    print_report(records, references, "any_step" if options.any_step else "finished", Console(width=200))


if __name__ == "__main__":
    main()
