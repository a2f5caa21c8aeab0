"""Whether two versions of bo_suite suggest the same points, bit for bit.

    PYTHONPATH=OLD python benchmarks/same_suggestions.py record old.json
    python benchmarks/same_suggestions.py record new.json
    python benchmarks/same_suggestions.py compare old.json new.json

`record` runs ten problems with three seeds and forty evaluations each, without failures, by the default
acquisition, and two problems by each of the others. `compare` prints one row a run; the exit status is 1 when
any differs.
"""

import argparse
import json
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from bo_suite import Optimizer
from bo_suite import acquisition as acquisitions
from bo_suite.bench.suite import problems_of

PROBLEMS = (
    *("branin", "hartmann3", "hartmann6", "goldstein_price", "shifted_ackley5", "rosenbrock5"),
    *("noisy_branin", "mixed_branin", "mixed_hartmann6", "mixed_styblinski_tang5"),
)
OTHERS = (
    *("NoisyExpectedImprovement", "UpperConfidenceBound", "ThompsonSampling", "KnowledgeGradient", "Bore"),
    "LogExpectedImprovement",
)


def run(problem: str, acquisition: str | None, seed: int, budget: int) -> list[list[object]]:
    """The points of a run, in order."""
    (there,) = problems_of(problem)
    chosen = None if acquisition is None else getattr(acquisitions, acquisition)()
    optimizer = Optimizer(there.space, chosen, seed)
    for _ in range(budget):
        trial = optimizer.ask()
        optimizer.tell(trial, there(dict(trial.params)))
    return [list(trial.params.values()) for trial in optimizer.trials]


def record(out: Path) -> None:
    """Writes the points of every run into a file."""
    found: dict[str, list[list[object]]] = {}
    for problem in PROBLEMS:
        for seed in range(3):
            found[f"{problem} default {seed}"] = run(problem, None, seed, 40)
    for acquisition in OTHERS:
        for problem in ("branin", "mixed_hartmann6"):
            found[f"{problem} {acquisition} 0"] = run(problem, acquisition, 0, 15)
    out.write_text(json.dumps(found))


def compare(old: Path, new: Path) -> int:
    """Prints where the runs of two files part; the number of those that do."""
    before, after = json.loads(old.read_text()), json.loads(new.read_text())
    different = 0
    for name, points in before.items():
        pairs = enumerate(zip(points, after[name], strict=True))
        first = next((place for place, (one, other) in pairs if one != other), None)
        different += first is not None
        print(f"{name}: {'equal' if first is None else f'differs from evaluation {first}'}")
    print(f"{len(before) - different} of {len(before)} runs equal, bit for bit")
    return different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("out", type=Path)
    pair = commands.add_parser("compare")
    pair.add_argument("old", type=Path)
    pair.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.command == "record":
        record(given.out)
    else:
        sys.exit(bool(compare(given.old, given.new)))
