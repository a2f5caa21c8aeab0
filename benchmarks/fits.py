"""How well fits are calibrated: coverage of leave-one-out intervals, and the noise that is found.

    python benchmarks/fits.py

Data sets are Sobol points of a function, with normal noise of a given share of the standard deviation of its
values, standardised. Of each fit: the fitted noise variance beside the true one, and the share of outcomes in
the 90% intervals that the others predict, in closed form and at the fitted hyperparameters. The last table is
of points that runs of the default chose: the share of the last 20 of 60 outcomes that lie in the interval
predicted from the observations before, one ahead. Before it stands what `plot_cross_validation` says after a
run of the default: the share of its outcomes in the intervals that the others predict, over the suites.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import math
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite import minimize
from bo_suite.bench.replicates import run_replicates
from bo_suite.bench.suite import named_problem, problems_of
from bo_suite.data import Seeds
from bo_suite.plot.cross_validation import held_out
from bo_suite.study.observations import dataset_of
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.leave_one_out import leave_one_out

FUNCTIONS = ("branin", "hartmann3", "rosenbrock4", "shifted_levy4", "shifted_ackley5", "hartmann6")
SHARES = (0.0, 0.1, 0.3, 0.5)
"""Standard deviations of the noise, in those of the function's values."""

SIZES = (10, 20, 50, 150)
RUNS = ("branin", "hartmann6", "shifted_levy4", "noisy_branin", "noisy_hartmann6")
SUITES = ("synthetic", "noisy", "mixed", "tuning")
SEEDS = range(10)
WIDTH = 1.6449
"""Standard deviations of a central 90% interval."""


def design(name: str, n: int, share: float) -> tuple[Tensor, Tensor, float]:
    """Points, outcomes and the true noise variance of all seeds."""
    problem = named_problem(name)
    x = torch.stack(
        [
            SobolEngine(problem.space.dim, scramble=True, seed=seed).draw(n, dtype=torch.float64)
            for seed in SEEDS
        ]
    )
    values = torch.tensor([[problem.value(point) for point in problem.space.decode(rows)] for rows in x])
    std = share * float(values.std())
    generator = torch.Generator().manual_seed(n)
    return x, values + std * torch.randn(values.shape, generator=generator, dtype=torch.float64), std**2


def fit(name: str, n: int, share: float, surrogate: ExactGP) -> tuple[list[float], list[float]]:
    """Ratio of the fitted to the true noise variance, and the coverage, of each seed."""
    x, y, variance = design(name, n, share)
    mean, std = y.mean(-1, keepdim=True), y.std(-1, keepdim=True)
    data = dataset_of(named_problem(name).space, x, y)
    data = type(data)(
        data.x, (y - mean) / std, columns=data.columns
    )  # no power transform: noise stays normal
    process = surrogate.fit(data, Seeds.of_each(SEEDS, n))
    true = variance / std[:, 0].square()
    predicted, spread = leave_one_out(process, data.y)
    inside = ((data.y - predicted).abs() <= WIDTH * spread.sqrt()).double().mean(-1)
    ratio = process.noise / true if share else process.noise
    return ratio.tolist(), inside.tolist()


def within_two(ratios: Sequence[float]) -> str:
    """Share of ratios from a half to two."""
    return f"{sum(0.5 <= ratio <= 2.0 for ratio in ratios) / len(ratios):.2f}"


def ahead(name: str, surrogate: ExactGP) -> float:
    """Share of the last 20 outcomes of runs within the interval predicted from those before."""
    problem = named_problem(name)
    runs = run_replicates(problem, None, SEEDS, 60)
    inside = []
    for n in range(40, 60):
        data = dataset_of(problem.space, runs.rows[:, : n + 1], runs.values[:, : n + 1])
        y = data.y[:, n]
        before = type(data)(data.x[:, :n], data.y[:, :n], columns=data.columns)
        process = surrogate.fit(before, Seeds.of_each(SEEDS, n))
        mean, var = process.mean_and_var(data.x[:, n : n + 1])
        width = WIDTH * (var[:, 0] + process.noise).sqrt()
        inside.append(((y - mean[:, 0]).abs() <= width).double().mean())
    return float(torch.stack(inside).mean())


def held_out_table() -> Table:
    """Coverage of `plot_cross_validation` after 40 evaluations of each problem of the suites, two seeds."""
    table = Table("suite", "runs", "outcomes in their 90% intervals", "lowest run", "highest run")
    for suite in SUITES:
        shares = []
        for problem in problems_of(suite):
            for seed in range(2):
                result = minimize(problem, problem.space, 40, seed, progress=False)
                shares.append(float(held_out(result.belief()).inside.double().mean()))
        mean = math.fsum(shares) / len(shares)
        table.add_row(suite, f"{len(shares)}", f"{mean:.3f}", f"{min(shares):.2f}", f"{max(shares):.2f}")
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--location", type=float, default=ExactGP().noise_location, help="of the noise prior")
    parser.add_argument("--spread", type=float, default=ExactGP().noise_spread, help="of the noise prior")
    args = parser.parse_args()
    torch.set_num_threads(1)
    surrogate, console = ExactGP(noise_location=args.location, noise_spread=args.spread), Console(width=140)
    noise = Table(
        "noise / signal", *(f"n={n}" for n in SIZES), title="share of fits with noise within a factor of 2"
    )
    inside = Table(
        "noise / signal", *(f"n={n}" for n in SIZES), title="outcomes in 90% leave-one-out intervals"
    )
    lost = Table(
        "noise / signal",
        *(f"n={n}" for n in SIZES),
        title="share of fits with noise below a tenth of the true one",
    )
    for share in SHARES:
        found = [[fit(name, n, share, surrogate) for name in FUNCTIONS] for n in SIZES]
        ratios = [[ratio for one in column for ratio in one[0]] for column in found]
        covered = [[value for one in column for value in one[1]] for column in found]
        if share:
            noise.add_row(f"{share}", *(within_two(column) for column in ratios))
            lost.add_row(
                f"{share}", *(f"{sum(r < 0.1 for r in column) / len(column):.2f}" for column in ratios)
            )
        else:
            medians = (f"{torch.tensor(column).median():.1e}" for column in ratios)
            noise.add_row("none: median variance", *medians)
        inside.add_row(f"{share}", *(f"{math.fsum(column) / len(column):.2f}" for column in covered))
    console.print(noise, lost, inside)
    table = Table("problem", "outcomes in the 90% interval one ahead")
    for name in RUNS:
        table.add_row(name, f"{ahead(name, surrogate):.2f}")
    console.print(held_out_table(), table)


if __name__ == "__main__":
    main()
