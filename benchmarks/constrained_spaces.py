"""Constraints among parameters: regret, feasibility and seconds an ask, beside BoTorch's optimize_acqf.

    python benchmarks/constrained_spaces.py run --seeds 3 --out results.jsonl
    python benchmarks/constrained_spaces.py table results.jsonl

`run` makes 60 evaluations of each problem by each method and continues where it was stopped. Both methods see
the same linear constraints. BoTorch's loop is that of its tutorials: points of the polytope first (2 per
dimension, at most 10), then a SingleTaskGP with Normalize and Standardize, and qLogExpectedImprovement
maximised by optimize_acqf with 10 restarts, 512 raw samples and the constraints. `table` prints medians over
seeds, and the largest violation of a constraint in units of the parameters.
"""

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize as scipy_minimize

from bo_suite import Mixture, Optimizer, Space
from bo_suite.data import Seeds
from bo_suite.problems import get_problem
from bo_suite.space.candidates import sample_sobol

BUDGET = 60
METHODS = ("bo_suite", "botorch")
Function = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Problem:
    """A function over Floats with linear constraints; the minimum is None if it has to be found."""

    name: str
    space: Space
    function: Function
    minimum: float | None = None

    @property
    def bounds(self) -> np.ndarray:
        """Low and high of each parameter, in two rows."""
        return np.array([[p.low, p.high] for _, p in self.space]).T

    def linear(self) -> list[tuple[np.ndarray, float, bool]]:
        """Each constraint as coefficients, bound, and whether it is an equality."""
        names = list(self.space.names)
        made = []
        for one in self.space.constraints.comparisons:
            row = np.zeros(len(names))
            for name, coefficient in one.coefficients:
                row[names.index(name)] = coefficient
            made.append((row, one.bound, one.equality))
        return made

    def violation(self, x: np.ndarray) -> float:
        """The largest violation of a constraint or a bound."""
        low, high = self.bounds
        excess = [max(float((low - x).max()), float((x - high).max()), 0.0)]
        for row, bound, equality in self.linear():
            off = float(row @ x) - bound
            excess.append(abs(off) if equality else off)
        return max(excess)

    def solve(self) -> float:
        """The minimum, by SLSQP from 400 points; that of the problem if it is known."""
        if self.minimum is not None:
            return self.minimum
        rows = sample_sobol(self.space, 400, torch.zeros(0, self.space.dim).double(), Seeds.of(0, 0))
        low, high = self.bounds
        limits = [
            {"type": "eq", "fun": lambda x, a=a, b=b: a @ x - b}
            if equality
            else {"type": "ineq", "fun": lambda x, a=a, b=b: b - a @ x}
            for a, b, equality in self.linear()
        ]
        found = [
            scipy_minimize(self.function, start, bounds=self.bounds.T, constraints=limits, method="SLSQP")
            for start in low + rows.numpy() * (high - low)
        ]
        return min(float(one.fun) for one in found if one.success and self.violation(one.x) < 1e-7)


def simplex_ackley(parts: int) -> Problem:
    """Ackley's function of a mixture, ten times as steep as usual, with its minimum at uneven shares."""
    names = [f"p{index}" for index in range(parts)]
    best = np.random.default_rng(parts).dirichlet(np.ones(parts))
    mixture = Mixture(names)

    def function(x: np.ndarray) -> float:
        z = 10.0 * (x - best)
        spread = -20.0 * math.exp(-0.2 * math.sqrt(float((z**2).mean())))
        return spread - math.exp(float(np.cos(2.0 * math.pi * z).mean())) + 20.0 + math.e

    return Problem(f"simplex Ackley, {parts} parts", Space(mixture.parameters, [mixture]), function, 0.0)


def of_known(name: str, title: str, constraints: list[str]) -> Problem:
    """A known function with constraints."""
    known = get_problem(name)
    names = known.space.names

    def function(x: np.ndarray) -> float:
        low, high = np.array([[p.low, p.high] for _, p in known.space]).T
        point = dict(zip(names, np.clip(x, low, high).tolist(), strict=True))
        return float(known.function(known.space.accept(point)))

    return Problem(title, Space(dict(known.space), constraints), function)


def problems() -> list[Problem]:
    """All problems."""
    hartmann = list(get_problem("hartmann6").space.names)
    tang = list(get_problem("styblinski_tang5").space.names)
    return [
        *map(simplex_ackley, (3, 5, 10)),
        of_known(
            "hartmann6",
            "polytope Hartmann6",
            [
                f"{' + '.join(hartmann)} <= 1.8",
                f"{hartmann[0]} + {hartmann[5]} <= 0.6",
                f"{hartmann[2]} - {hartmann[3]} <= 0.1",
            ],
        ),
        of_known(
            "styblinski_tang5",
            "Styblinski-Tang, 2 equalities",
            [f"{' + '.join(tang)} == -5", f"{tang[0]} - {tang[1]} + 2*{tang[2]} == -3"],
        ),
    ]


def by_bo_suite(problem: Problem, seed: int) -> tuple[list[np.ndarray], list[float]]:
    """Points and seconds of each ask of the default Optimizer."""
    optimizer, points, seconds = Optimizer(problem.space, seed=seed), [], []
    for _ in range(BUDGET):
        began = time.perf_counter()
        trial = optimizer.ask()
        seconds.append(time.perf_counter() - began)
        points.append(np.array(list(trial.params.values())))
        optimizer.tell(trial, problem.function(points[-1]))
    return points, seconds


def by_botorch(problem: Problem, seed: int) -> tuple[list[np.ndarray], list[float]]:
    """Points and seconds of each step of BoTorch's loop."""
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.transforms import Normalize, Standardize
    from botorch.optim import optimize_acqf
    from botorch.utils.sampling import get_polytope_samples
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(seed)
    bounds = torch.tensor(problem.bounds)
    limits: dict[bool, list[tuple[torch.Tensor, torch.Tensor, float]]] = {True: [], False: []}
    for row, bound, equality in problem.linear():
        index = torch.tensor(np.flatnonzero(row))
        sign = 1.0 if equality else -1.0  # BoTorch's inequalities are >=
        limits[equality].append((index, sign * torch.tensor(row)[index], sign * bound))
    given = {"inequality_constraints": limits[False] or None, "equality_constraints": limits[True] or None}
    first = get_polytope_samples(min(2 * problem.space.dim, 10), bounds, seed=seed, **given)
    points, seconds = [row.numpy() for row in first], [0.0] * len(first)
    values = [problem.function(one) for one in points]
    while len(points) < BUDGET:
        began = time.perf_counter()
        x, y = torch.tensor(np.array(points)), -torch.tensor(values)[:, None].double()
        model = SingleTaskGP(
            x,
            y,
            input_transform=Normalize(problem.space.dim, bounds=bounds),
            outcome_transform=Standardize(m=1),
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition = qLogExpectedImprovement(model, best_f=y.max())
        row, _ = optimize_acqf(acquisition, bounds, q=1, num_restarts=10, raw_samples=512, **given)
        seconds.append(time.perf_counter() - began)
        points.append(row[0].numpy())
        values.append(problem.function(points[-1]))
    return points, seconds


def run(names: list[str], methods: list[str], seeds: int, out: Path) -> None:
    """Runs what the file does not have yet; of problems whose names have one of the texts, or all."""
    lines = out.read_text().splitlines() if out.exists() else []
    done = {(one["problem"], one["method"], one["seed"]) for one in map(json.loads, lines)}
    for problem in problems():
        if names and not any(name in problem.name for name in names):
            continue
        minimum = problem.solve()
        for seed in range(seeds):
            for method in methods:
                if (problem.name, method, seed) in done:
                    continue
                points, seconds = (by_bo_suite if method == "bo_suite" else by_botorch)(problem, seed)
                record = {
                    "problem": problem.name,
                    "method": method,
                    "seed": seed,
                    "regret": min(map(problem.function, points)) - minimum,
                    "violation": max(map(problem.violation, points)),
                    "seconds": float(np.median(seconds[-40:])),
                    "minimum": minimum,
                }
                with out.open("a") as stream:
                    stream.write(json.dumps(record) + "\n")
                print(record, flush=True)


def table(results: Path) -> None:
    """Prints a row for each problem and method."""
    frame = pd.DataFrame(map(json.loads, results.read_text().splitlines()))
    print("| problem | method | seeds | regret | largest violation | seconds an ask |")
    print("|---|---|---|---|---|---|")
    for (problem, method), rows in frame.groupby(["problem", "method"], sort=False):
        numbers = rows["regret"].median(), rows["violation"].max(), rows["seconds"].median()
        print(
            "|", problem, "|", method, "|", len(rows), "|", " | ".join(f"{one:.2g}" for one in numbers), "|"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--problems", nargs="+", default=[])
    runs.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    runs.add_argument("--seeds", type=int, default=3)
    runs.add_argument("--out", type=Path, required=True)
    commands.add_parser("table").add_argument("results", type=Path)
    chosen = parser.parse_args()
    if chosen.command == "run":
        run(chosen.problems, chosen.methods, chosen.seeds, chosen.out)
    else:
        table(chosen.results)
