"""What an ask costs where trials have failed, against as many that have finished.

    python benchmarks/failed_asks.py

Hartmann's function of six parameters at random points, a third of which have failed: those of largest x1,
or any. Prints the median CPU milliseconds of nine asks after two, each told before the next, and the ratios.
"""

import os
import random
import statistics
import time

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from bo_suite import Optimizer
from bo_suite.problems import get_problem

PROBLEM = get_problem("hartmann6")
FIRST, *REST = PROBLEM.space.parameters


def milliseconds(trials: int, failing: str) -> float:
    """Of an ask after so many trials, of which those of largest x1, any third or none have failed."""
    optimizer, draws = Optimizer(PROBLEM.space), random.Random(0)

    def fails(point: dict[str, float]) -> bool:
        return {"none": False, "region": point[FIRST] > 2 / 3, "random": draws.random() < 1 / 3}[failing]

    for _ in range(trials):
        point = {name: draws.random() for name in PROBLEM.space.parameters}
        if fails(point):
            optimizer.add_failed(point, "failed")
        else:
            optimizer.add(point, PROBLEM(point))
    found = []
    for _ in range(11):
        began = time.process_time()
        trial = optimizer.ask()
        found.append(1e3 * (time.process_time() - began))
        if fails(trial.params):
            optimizer.fail(trial, "failed")
        else:
            optimizer.tell(trial, PROBLEM(trial.params))
    return statistics.median(found[2:])


if __name__ == "__main__":
    print("| trials | none failed, ms | a region | ratio | at random | ratio |")
    print("|---|---|---|---|---|---|")
    for trials in (30, 60, 120, 240, 500, 900):
        none, region, chance = (milliseconds(trials, failing) for failing in ("none", "region", "random"))
        ratios = f"{region:.0f} | {region / none:.2f} | {chance:.0f} | {chance / none:.2f}"
        print(f"| {trials} | {none:.0f} | {ratios} |", flush=True)
