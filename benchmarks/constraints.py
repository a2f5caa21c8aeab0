"""Minima under constraints: BoSuiteSampler beside Optuna's GPSampler and TPESampler, which all model them.

    python benchmarks/constraints.py --seeds 0:10 --out /tmp/constraints.jsonl

Four functions of two parameters, 30 evaluations each. The table has the median and the worst regret of the
best feasible point over the seeds, and CPU seconds a trial.
"""

import os

# Before numpy and torch are imported: one thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from bo_suite.bench.environment import command, environment
from bo_suite.integrations.optuna import BoSuiteSampler

TRIALS = 30


@dataclass(frozen=True)
class Constrained:
    """A function on a rectangle, constraints to be at most 0, and the least value that meets them."""

    function: Callable[[float, float], float]
    constraints: Callable[[float, float], tuple[float, ...]]
    low: tuple[float, float]
    high: tuple[float, float]
    least: float

    def __call__(self, trial: Any) -> float:
        """The value at a trial's point."""
        x = trial.suggest_float("x", self.low[0], self.high[0])
        y = trial.suggest_float("y", self.low[1], self.high[1])
        for place, value in enumerate(self.constraints(x, y)):
            trial.set_constraint(str(place), value)
        return self.function(x, y)


def _branin(x: float, y: float) -> float:
    inner = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return inner**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


PROBLEMS = {
    "corner": Constrained(lambda x, y: 2 * x + y, lambda x, y: (1 - x - y,), (0.0, 1e-3), (1.0, 1.0), 1.0),
    # Gardner et al. (2014), section 4.1
    "gardner": Constrained(
        lambda x, y: math.cos(2 * x) * math.cos(y) + math.sin(x),
        lambda x, y: (math.cos(x) * math.cos(y) - math.sin(x) * math.sin(y) + 0.5,),
        (0.0, 0.0),
        (6.0, 6.0),
        -1.888751361,
    ),
    # Gelbart et al. (2014), section 6.1: Branin within a disk
    "branin in a disk": Constrained(
        _branin, lambda x, y: ((x - 2.5) ** 2 + (y - 7.5) ** 2 - 50,), (-5.0, 0.0), (10.0, 15.0), 0.397887
    ),
    # Gramacy et al. (2016), section 2.2
    "gramacy": Constrained(
        lambda x, y: x + y,
        lambda x, y: (
            1.5 - x - 2 * y - 0.5 * math.sin(2 * math.pi * (x * x - 2 * y)),
            x * x + y * y - 1.5,
        ),
        (0.0, 0.0),
        (1.0, 1.0),
        0.599788,
    ),
}

SAMPLERS: dict[str, Callable[[int], Any]] = {
    "BoSuiteSampler": lambda seed: BoSuiteSampler(seed=seed),
    "GPSampler": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "TPESampler": lambda seed: optuna.samplers.TPESampler(seed=seed),
}


def run(problem: Constrained, sampler: Any) -> tuple[float, float]:
    """Regret of the best feasible point, infinite where there is none, and CPU seconds a trial."""
    study = optuna.create_study(sampler=sampler)
    began = time.process_time()
    study.optimize(problem, n_trials=TRIALS)
    seconds = (time.process_time() - began) / TRIALS
    feasible = [
        trial.value for trial in study.trials if all(value <= 0 for value in trial.constraints.values())
    ]
    return min(feasible, default=math.inf) - problem.least, seconds


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a run")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seeds = range(*(int(bound) for bound in args.seeds.split(":")))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    print("| problem | sampler | median regret | worst | CPU s a trial |\n|---|---|---|---|---|")
    with args.out.open("a", encoding="utf-8") as file:
        for name, problem in PROBLEMS.items():
            for sampler, make in SAMPLERS.items():
                found = [run(problem, make(seed)) for seed in seeds]
                regrets, seconds = (np.array(part) for part in zip(*found, strict=True))
                print(
                    f"| {name} | {sampler} | {np.median(regrets):.2g} | {regrets.max():.2g} "
                    f"| {np.median(seconds):.3f} |",
                    flush=True,
                )
                for seed, (regret, took) in zip(seeds, found, strict=True):
                    line = {"problem": name, "sampler": sampler, "seed": seed, "regret": regret}
                    line |= {"cpu_seconds": took, "command": command()} | json.loads(environment())
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
