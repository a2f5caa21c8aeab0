"""The best accuracy of each task of lcbench that is used for development, and what a whole evaluation costs.

    python benchmarks/learning_curves_best.py --data FOLDER --out benchmarks/results/lcbench_best.json

The best accuracy at the last epoch is that of 200,000 random points, improved from the best 32 of them by
random steps that become smaller. The median is that of the random points. The mean seconds are those of
2,000 random whole evaluations. The table makes regrets and times of `benchmarks/learning_curves.py`
comparable; no optimiser sees it.
Tasks at odd positions of the sorted ids are kept for checking, and refused.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bo_suite.problems.curves import LCBench, lcbench_tasks

DRAWS = 200_000
STARTS = 32
ROUNDS = 60
STEPS = 32  # points around each start and round
CURVES = 2_000


def development_tasks(folder: str | None = None) -> tuple[int, ...]:
    """The tasks at even positions of the sorted ids; the others are kept for checking."""
    return lcbench_tasks(folder)[::2]


def development_problem(task: int, folder: str | None = None) -> LCBench:
    """The problem of a task; raises a ValueError if the task is kept for checking."""
    if task not in development_tasks(folder):
        raise ValueError(f"the task must be one for development, not kept for checking, got {task}")
    return LCBench(task, folder)


def points_of(problem: LCBench, unit: np.ndarray) -> list[dict[str, Any]]:
    """The points of rows in the unit cube."""
    return problem.space.decode(problem.space.encoding.sample_from_unit(torch.from_numpy(unit)))


def final_accuracies(problem: LCBench, unit: np.ndarray) -> np.ndarray:
    """The accuracies at the last epoch."""
    values = [
        problem.values_at(points_of(problem, block), problem.max_step)
        for block in np.array_split(unit, max(1, len(unit) // 5_000))
    ]
    return np.concatenate(values)


def best_of(problem: LCBench) -> dict[str, Any]:
    """The best accuracy found and its point, and the mean seconds of an evaluation."""
    generator = np.random.default_rng(0)
    unit = generator.random((DRAWS, problem.space.dim))
    accuracies = final_accuracies(problem, unit)
    order = np.argsort(-accuracies)[:STARTS]
    centres, found = unit[order], accuracies[order]
    for scale in np.geomspace(0.2, 0.001, ROUNDS):
        noise = scale * generator.standard_normal((STARTS, STEPS, problem.space.dim))
        moved = np.where(generator.random(noise.shape) < 0.5, noise, 0.0)
        around = np.clip(centres[:, None] + moved, 0.0, 1.0 - 1e-12)
        values = final_accuracies(problem, around.reshape(-1, problem.space.dim)).reshape(STARTS, STEPS)
        index = values.argmax(axis=1)
        better = values.max(axis=1) > found
        centres[better] = around[better, index[better]]
        found = np.maximum(found, values.max(axis=1))
    totals = [float(curve.seconds[-1]) for curve in problem.curves(points_of(problem, unit[:CURVES]))]
    within = float((accuracies >= 0.99 * found.max()).mean())
    (point,) = points_of(problem, centres[found.argmax()][None])
    return {
        "best": float(found.max()),
        "random": float(accuracies.max()),
        "median": float(np.median(accuracies)),
        "share_within_1_percent": within,
        "mean_seconds": float(np.mean(totals)),
        "point": point,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of lcbench; without it that in BO_SUITE_DATA")
    parser.add_argument("--out", type=Path, required=True, help="the table, as JSON")
    options = parser.parse_args()
    table: dict[str, Any] = {}
    for task in development_tasks(options.data):
        table[str(task)] = best_of(development_problem(task, options.data))
        options.out.write_text(json.dumps(table, indent=1) + "\n")
        print(task, {name: value for name, value in table[str(task)].items() if name != "point"}, flush=True)


if __name__ == "__main__":
    main()
