"""What each part of the default recipe is worth: the same runs without it, on the same seeds.

    python benchmarks/default.py --out /tmp/default

Problems are of several classes: smooth, multimodal, noisy, constant in steps, with outcomes over many orders
of magnitude. Five seeds and 40 evaluations each. Every run is stored, so the script can be stopped and
continued. Prints a row a problem with the median regret of each variant, and below it the mean difference of
the log10 regret to the whole recipe, positive if the recipe is better, with a 95% interval over problems.
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

from bo_suite import Float, Space
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
from bo_suite.problems import Problem
from bo_suite.problems.field import field_references
from bo_suite.surrogates import exact

VARIANTS = ("whole", "one scale", "no factor", "no plateaus", "no escapes", "0.8")
PROBLEMS = (
    *("hartmann6", "goldstein_price", "bbob_f9_i4_5d", "shifted_levy4", "noisy_hartmann6", "noisy_branin"),
    *("steps4", "table7", "bbob_f6_i2_5d", "bbob_f12_i4_5d", "bbob_f8_i1_10d"),
    "bocode_PressureVesselContinuous",
)
SEEDS, BUDGET = range(5), 40
SMALLEST = 1e-6
"""Regret is scaled by its typical size, and this is added before its logarithm is taken."""


class Steps:
    """A bowl with ripples in four dimensions, rounded to 1/20."""

    target = np.random.default_rng(4).random(4)

    def __call__(self, params: dict[str, float]) -> float:
        """The value of a point."""
        away = np.array(list(params.values())) - self.target
        bowl = (2.0 * away**2).sum() + 0.1 * (1.0 - np.cos(6.0 * np.pi * away)).sum()
        return round(20.0 * float(bowl)) / 20.0


class Table:
    """A bowl in seven dimensions known at 400 points, each standing for what is nearest to it."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.rows = generator.random((400, 7))
        values = ((self.rows - generator.random(7)) ** 2).sum(1)
        self.values = values - values.min()

    def __call__(self, params: dict[str, float]) -> float:
        """The value of a point."""
        return float(self.values[((self.rows - list(params.values())) ** 2).sum(1).argmin()])


def problem_of(name: str) -> Problem:
    """The problem of a name."""
    if name in ("steps4", "table7"):
        function, dim = (Steps(), 4) if name == "steps4" else (Table(), 7)
        space = Space({f"x{column}": Float(0.0, 1.0) for column in range(dim)})
        return Problem(name, space, function, best_known=0.0)
    return named_problem(name)


def no_ties(data: Dataset) -> torch.Tensor:
    """As if no outcomes were equal."""
    return torch.zeros_like(data.y, dtype=torch.bool)


@contextmanager
def variant(name: str) -> Iterator[Acquisition]:
    """The recipe without one of its parts."""
    if name == "one scale":
        with mock.patch.object(outcome_scales, "_STRONG", math.inf):
            yield AdaptiveImprovement()
    elif name == "no factor":
        with mock.patch.object(AdaptiveScore, "_log_news", lambda self, var: torch.zeros_like(var)):
            yield AdaptiveImprovement()
    elif name == "no plateaus":
        with ExitStack() as stack:
            for module in (exact, outcome_scales, plateaus):
                stack.enter_context(mock.patch.object(module, "tied", no_ties))
            yield AdaptiveImprovement()
    elif name == "no escapes":
        yield AdaptiveImprovement(patience=10**9)
    else:
        yield AdaptiveImprovement() if name == "whole" else LogExpectedImprovement()


def best_values(problem: str, name: str, out: Path) -> list[float]:
    """The noiseless value of the best observed point of each run, stored in a file of its own."""
    path = out / f"{problem}-{name.replace(' ', '_')}.json"
    if not path.exists():
        with variant(name) as acquisition:
            runs = run_replicates(problem_of(problem), acquisition, SEEDS, BUDGET)
        path.write_text(
            json.dumps({"best": runs.best[:, -1].tolist(), "first": runs.true_values[:, 0].tolist()})
        )
        print(problem, name, flush=True)
    best: list[float] = json.loads(path.read_text())["best"]
    return best


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    references, differences, lines = field_references(), [], []
    for problem in PROBLEMS:
        best = np.array([best_values(problem, name, args.out) for name in VARIANTS])
        first = json.loads((args.out / f"{problem}-whole.json").read_text())["first"]
        known = problem_of(problem).best_known
        known = references[problem].best_known if known is None else known
        regret = np.maximum(best - min(known, best.min()), 0.0)
        logs = np.log10(regret / (np.median(first) - known) + SMALLEST).mean(1)
        differences.append(logs - logs[0])
        lines.append(f"| {problem} | " + " | ".join(f"{np.median(row):.3g}" for row in regret) + " |")
    print(f"| problem | {' | '.join(VARIANTS)} |", "|---|" + "---|" * len(VARIANTS), *lines, sep="\n")
    mean = np.mean(differences, 0)
    half = 1.96 * np.std(differences, 0, ddof=1) / math.sqrt(len(PROBLEMS))
    cells = (f"{value:+.2f} ± {width:.2f}" for value, width in zip(mean[1:], half[1:], strict=True))
    print(f"| log10 regret beside the whole |  | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
