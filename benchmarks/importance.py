"""Whether importances name the inputs that matter: runs of the default on functions with known indices.

    python benchmarks/importance.py --out /tmp/importance.jsonl

Twenty functions of six to ten inputs, of which two to four are active, in shuffled columns: embedded test
functions, sums of functions of one input, and functions with interactions. The true total Sobol indices of
active inputs that follow each other differ by a factor of 1.5 at least. Each run is one of the default
Optimizer with 60 evaluations. The columns: the share of runs whose totals order the active inputs as the true
ones do; the share of those where, in addition, no inactive input is above an active one; the share of runs
where the second opinion, PED-ANOVA, orders the active inputs so; the share of runs where the total index of
every inactive input is below 0.02; and the largest one. The scale of the indices was chosen on seeds 0 to 9.

The second table has the share in the right order in variants of the same runs: with indices on the scale of
the process, and with three outcomes of each run, at random, replaced by a very bad one.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from torch import Tensor

from bo_suite import Float, Optimizer, Space
from bo_suite.bench.environment import environment
from bo_suite.bench.replicates import run_replicates
from bo_suite.data import Seeds
from bo_suite.problems import Problem, get_problem
from bo_suite.space.space import Params
from bo_suite.study import importance as of_study
from bo_suite.study.importance import sobol_indices

BUDGET = 60
CLEAR = 1.5
"""Least ratio of true total indices that follow each other."""

NEGLIGIBLE = 0.02
"""Total index below which an input counts as inactive."""

OUTLIERS = 3
"""Outcomes of a run that are replaced in a variant."""

POINTS = 2**16
"""Rows of each sample for the true indices."""

Rows = Callable[[Tensor], Tensor]


def embedded(name: str) -> Rows:
    """A test function of the first inputs."""
    problem = get_problem(name)
    assert problem.vectorized is not None
    function, dim, values = problem.vectorized, problem.space.dim, problem.space.encoding.values
    return lambda x: function(values(x[:, :dim]))


def weighted_sum(shape: Rows, *weights: float) -> Rows:
    """Σ w_i shape(x_i)."""
    return lambda x: shape(x[:, : len(weights)]) @ x.new_tensor(weights)


def g_function(*a: float) -> Rows:
    """Π (|4 x_i - 2| + a_i) / (1 + a_i) (Saltelli and Sobol 1995)."""

    def values(x: Tensor) -> Tensor:
        offsets = x.new_tensor(a)
        return (((4.0 * x[:, : len(a)] - 2.0).abs() + offsets) / (1.0 + offsets)).prod(-1)

    return values


def ishigami(a: float, b: float) -> Rows:
    """sin z_1 + a sin² z_2 + b z_3⁴ sin z_1 with z in [-π, π] (Ishigami and Homma 1990)."""

    def values(x: Tensor) -> Tensor:
        z = math.pi * (2.0 * x - 1.0)
        return z[:, 0].sin() + a * z[:, 1].sin().square() + b * z[:, 2] ** 4 * z[:, 0].sin()

    return values


def bowl(x: Tensor) -> Tensor:
    return (x - 0.3).square()


def wave(x: Tensor) -> Tensor:
    return torch.sin(2.0 * math.pi * x)


def corner(x: Tensor) -> Tensor:
    return (x - 0.6).abs()


def rise(x: Tensor) -> Tensor:
    return torch.exp(1.5 * x)


def mixed_sum(x: Tensor) -> Tensor:
    return 3.0 * wave(x[:, 0]) + 6.0 * bowl(x[:, 1]) + 1.2 * x[:, 2]


def products(x: Tensor) -> Tensor:
    return 4.0 * bowl(x[:, 0]) * (1.0 + x[:, 1]) + 0.5 * x[:, 1] * x[:, 2]


def switched(x: Tensor) -> Tensor:
    gate = torch.sigmoid(10.0 * (x[:, 0] - 0.5))
    return gate * 2.0 * bowl(x[:, 1]) + (1.0 - gate) * (0.5 + 0.5 * x[:, 2])


def ridge(x: Tensor) -> Tensor:
    return (3.0 * x[:, 0] + 1.5 * x[:, 1] + 0.75 * x[:, 2] - 2.0).square()


def valley(x: Tensor) -> Tensor:
    return 2.0 * (x[:, 1] - x[:, 0].square()).square() + 2.0 * (0.8 - x[:, 0]).square() + bowl(x[:, 2])


def well(x: Tensor) -> Tensor:
    square = (x[:, :3] - x.new_tensor([0.3, 0.6, 0.5])).square() @ x.new_tensor([9.0, 4.0, 1.5])
    return -torch.exp(-square)


@dataclass(frozen=True)
class Case:
    """A function of the first `active` of `dim` inputs."""

    name: str
    function: Rows
    active: int
    dim: int


CASES = (
    Case("goldstein_price", embedded("goldstein_price"), 2, 6),
    Case("well", well, 3, 8),
    Case("six_hump_camel", embedded("six_hump_camel"), 2, 8),
    Case("hartmann3", embedded("hartmann3"), 3, 8),
    Case("sum of bowls", weighted_sum(bowl, 4.0, 2.0), 2, 8),
    Case("sum of bowls", weighted_sum(bowl, 4.0, 2.5, 1.5), 3, 10),
    Case("sum of bowls", weighted_sum(bowl, 6.0, 3.5, 2.2, 1.4), 4, 10),
    Case("sum of waves", weighted_sum(wave, 2.0, 1.0), 2, 6),
    Case("sum of waves", weighted_sum(wave, 2.0, 1.4, 1.0), 3, 8),
    Case("sum of corners", weighted_sum(corner, 3.0, 2.0, 1.0), 3, 8),
    Case("sum of rises", weighted_sum(rise, 3.0, 2.0, 1.2, 0.7), 4, 10),
    Case("mixed sum", mixed_sum, 3, 8),
    Case("g-function", g_function(0.0, 1.5), 2, 6),
    Case("g-function", g_function(0.0, 1.0, 3.0), 3, 8),
    Case("ishigami", ishigami(3.0, 0.1), 3, 6),
    Case("products", products, 3, 8),
    Case("switched", switched, 3, 8),
    Case("ridge", ridge, 3, 9),
    Case("valley", valley, 3, 8),
    Case("cubic interaction", lambda x: (x[:, 0] - 0.4) ** 3 * 8.0 + 2.0 * x[:, 0] * x[:, 1], 2, 7),
)


def columns_of(case: Case, index: int) -> list[int]:
    """The column of each input of a function."""
    return torch.randperm(case.dim, generator=torch.Generator().manual_seed(index)).tolist()


def true_totals(case: Case) -> Tensor:
    """The total indices of the active inputs.

    Raises:
        ValueError: two of them are too close.
    """
    space = Space({f"x{column}": Float(0.0, 1.0) for column in range(case.active)})
    _, totals = sobol_indices(lambda rows: case.function(rows)[None], space, POINTS, Seeds.of(0, 0))
    ordered = totals[0].sort(descending=True).values
    if float((ordered[:-1] / ordered[1:]).min()) < CLEAR:
        raise ValueError(f"strengths of {case.name} must differ clearly, got {totals[0].tolist()}")
    return totals[0]


def in_order(indices: "pd.Series[float]", names: list[str]) -> bool:
    """Whether the named inputs are in this order, the most important first."""
    return bool((indices[names].diff().dropna() < 0.0).all())


def importance(space: Space, seed: int, points: list[Params], values: list[float]) -> pd.DataFrame:
    """What an Optimizer with these observations says."""
    optimizer = Optimizer(space, seed=seed)
    for point, value in zip(points, values, strict=True):
        optimizer.add(point, value)
    return optimizer.importance()


def on_process_scale(space: Space, seed: int, points: list[Params], values: list[float]) -> pd.DataFrame:
    """The same on the scale of the process."""
    with mock.patch.object(of_study, "_outcomes_in_units", lambda belief: belief.data):
        return importance(space, seed, points, values)


def run(case: Case, index: int, seeds: range) -> list[dict[str, object]]:
    """One result a seed."""
    columns = columns_of(case, index)
    space = Space({f"x{column}": Float(0.0, 1.0) for column in range(case.dim)})
    totals = true_totals(case)
    names = [f"x{columns[place]}" for place in totals.argsort(descending=True).tolist()]
    problem = Problem(
        case.name,
        space,
        lambda params: float(case.function(space.encode([params])[:, columns])),
        vectorized=lambda rows: case.function(rows[:, columns]),
    )
    runs = run_replicates(problem, None, seeds, BUDGET)
    results: list[dict[str, object]] = []
    for seed, evaluations in zip(seeds, runs.evaluations(), strict=True):
        values = [evaluation.value for evaluation in evaluations]
        worse = max(values) + 100.0 * (max(values) - min(values))
        bad = random.Random(seed).sample(range(BUDGET), OUTLIERS)
        spoilt = [worse if number in bad else value for number, value in enumerate(values)]
        points = [evaluation.params for evaluation in evaluations]
        table = importance(space, seed, points, values)
        inactive = table["total"].drop(names)
        results.append(
            {
                "function": case.name,
                "inputs": case.dim,
                "true": dict(zip(names, totals.sort(descending=True).values.tolist(), strict=True)),
                "seed": seed,
                "total": table["total"].to_dict(),
                "low": table["low"].to_dict(),
                "high": table["high"].to_dict(),
                "ped_anova": table["ped_anova"].to_dict(),
                "right": in_order(table["total"], names),
                "separated": in_order(table["total"], names)
                and bool(inactive.max() < table["total"][names[-1]]),
                "right_ped_anova": in_order(table["ped_anova"], names),
                "largest_inactive": float(inactive.max()),
                "right_outliers": in_order(importance(space, seed, points, spoilt)["total"], names),
                "right_process": in_order(on_process_scale(space, seed, points, values)["total"], names),
                "right_process_outliers": in_order(
                    on_process_scale(space, seed, points, spoilt)["total"], names
                ),
            }
        )
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds")
    parser.add_argument("--first", type=int, default=10, help="first seed")
    parser.add_argument("--out", type=Path, required=True, help="a file outside the repository")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [environment()]
    found: list[pd.DataFrame] = []
    heads = ("function (inputs)", "true totals", "right order", "and above the inactive", "PED-ANOVA")
    print(f"| {' | '.join(heads)} | inactive below 0.02 | largest inactive |", flush=True)
    print("|---|---|---|---|---|---|---|", flush=True)
    for index, case in enumerate(CASES):
        results = run(case, index, range(args.first, args.first + args.seeds))
        lines += [json.dumps(result) for result in results]
        table = pd.DataFrame(results)
        found.append(table)
        truth = ", ".join(f"{value:.2f}" for value in results[0]["true"].values())  # type: ignore[attr-defined]
        print(f"| {case.name} ({case.dim}) | {truth} | {shares(table)} |", flush=True)
        args.out.write_text("\n".join(lines) + "\n")
    everything = pd.concat(found)
    print(f"| all | | {shares(everything)} |")
    print("\n| in the right order | as run | with outliers |\n|---|---|---|")
    for name, columns in (
        ("outcomes in units", ["right", "right_outliers"]),
        ("on the scale of the process", ["right_process", "right_process_outliers"]),
    ):
        print(f"| {name} | {' | '.join(f'{everything[column].mean():.1%}' for column in columns)} |")


def shares(table: pd.DataFrame) -> str:
    """The cells of a row after the true totals."""
    inactive = table["largest_inactive"]
    rates = (table["right"], table["separated"], table["right_ped_anova"], inactive < NEGLIGIBLE)
    return " | ".join(f"{rate.mean():.0%}" for rate in rates) + f" | {inactive.max():.3f}"


if __name__ == "__main__":
    main()
