"""What each part of the default recipe is worth: the same runs without it, on the same seeds.

    python benchmarks/default.py --out /tmp/default

Problems are those of the suite `field` in up to 20 dimensions whose evaluations do not fail; eight seeds that
the other benchmarks do not use, and 40 evaluations. Every run is stored, so the script can be stopped and
continued. Prints a row a class with the mean difference of the log10 regret to the whole recipe, positive if
the recipe is better, and its 95% interval over problems. Regret is normalised as in field.py, 0.0001 is added
before its logarithm is taken, and a regret above 2 counts as 2.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from bo_suite.acquisition import (
    Acquisition,
    AdaptiveImprovement,
    LogExpectedImprovement,
    outcome_scales,
    plateaus,
)
from bo_suite.acquisition.adaptive import AdaptiveScore
from bo_suite.bench.replicates import run_replicates
from bo_suite.bench.suite import named_problem
from bo_suite.data import Dataset
from bo_suite.problems.field import field_references
from bo_suite.problems.field.suites import FIELD
from bo_suite.surrogates import exact

VARIANTS = ("whole", "one scale", "no factor", "no plateaus", "no escapes", "0.8")
FAIL = {"convolution_A100", "convolution_A4000", "convolution_W6600", "bocode_EulerBernoulliBeamBending"}
PROBLEMS = {
    problem_class: [name for name in recipes if name not in FAIL]
    for problem_class, recipes in FIELD.items()
    if problem_class != "high-dimensional"
}
SEEDS, BUDGET = range(100, 108), 40
SMALLEST, LARGEST = 1e-4, 2.0


def no_ties(data: Dataset) -> torch.Tensor:
    """As if no outcomes were equal."""
    return torch.zeros_like(data.y, dtype=torch.bool)


@contextmanager
def variant(name: str) -> Iterator[Acquisition]:
    """The recipe without one of its parts."""
    with ExitStack() as stack:
        if name == "one scale":
            stack.enter_context(mock.patch.object(outcome_scales, "_STRONG", math.inf))
        elif name == "no factor":
            stack.enter_context(
                mock.patch.object(AdaptiveScore, "_log_news", lambda self, var: torch.zeros_like(var))
            )
        elif name == "no plateaus":
            for module in (exact, outcome_scales, plateaus):
                stack.enter_context(mock.patch.object(module, "tied", no_ties))
        patience = 10**9 if name == "no escapes" else AdaptiveImprovement().patience
        yield LogExpectedImprovement() if name == "0.8" else AdaptiveImprovement(patience=patience)


def log_regret(problem: str, name: str, out: Path) -> float:
    """Mean log10 regret of the runs, whose best values are stored in a file of their own."""
    path = out / f"{problem}-{name.replace(' ', '_')}.json"
    if not path.exists():
        with variant(name) as acquisition:
            runs = run_replicates(named_problem(problem), acquisition, SEEDS, BUDGET)
        path.write_text(json.dumps(runs.best[:, -1].tolist()))
        print(problem, name, flush=True)
    reference = field_references()[problem]
    regret = np.array(json.loads(path.read_text())) - reference.best_known
    regret = regret / (reference.typical - reference.best_known)
    return float(np.log10(regret.clip(0.0, LARGEST) + SMALLEST).mean())


def row(label: str, differences: np.ndarray) -> str:
    """A row of the table: the mean over problems of the difference of each variant, and its interval."""
    mean = differences.mean(0)
    half = 1.96 * differences.std(0, ddof=1) / math.sqrt(len(differences))
    cells = (f"{value:+.2f} ± {width:.2f}" for value, width in zip(mean, half, strict=True))
    return f"| {label} ({len(differences)}) | {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows, everything = [], []
    for problem_class, names in PROBLEMS.items():
        logs = np.array([[log_regret(problem, name, args.out) for name in VARIANTS] for problem in names])
        everything.append(logs[:, 1:] - logs[:, :1])
        rows.append(row(problem_class, everything[-1]))
    rows.append(row("all", np.concatenate(everything)))
    print(
        f"| class (problems) | {' | '.join(VARIANTS[1:])} |", "|---|" + "---|" * (len(VARIANTS) - 1), sep="\n"
    )
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
