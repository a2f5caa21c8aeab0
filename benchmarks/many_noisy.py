"""Very many noisy observations: what the models of the default and of `SGPR` find, and what they suggest.

    python benchmarks/many_noisy.py --sizes 2000,10000,30000,100000 --seeds 0:2
    python benchmarks/many_noisy.py --parts loop --sizes 2000,10000 --noises 0.1,1 --seeds 0:5

model: where the lowest posterior mean lies, of a smooth function of two inputs. loop: three asks and a
recommendation, of hartmann6. Uniformly random points; errors and values are of the function without noise.
Seconds are of CPU time, one thread. `--parts loop` appends one JSON line a run to the file of `--out`.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bo_suite import Optimizer, __version__
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.acquisition.base import Acquisition
from bo_suite.data import Dataset, Seeds
from bo_suite.problems import get_problem
from bo_suite.surrogates import SGPR, AutoGP
from bo_suite.surrogates.process import Surrogate

NOISE = 0.3
ASKS = 3
ACQUISITIONS: dict[str, Callable[[], Acquisition | None]] = {
    "default": lambda: None,
    "SGPR": lambda: LogExpectedImprovement(surrogate=SGPR()),
}


def truth(x: Tensor) -> Tensor:
    """The function without noise."""
    return torch.sin(6 * x[:, 0]) * torch.cos(5 * x[:, 1]) + 0.5 * x.square().sum(-1)


def measure(surrogate: Surrogate, n: int, seed: int) -> str:
    """Regret of the lowest mean, root mean squared error, and the noise found, as cells of a table."""
    torch.manual_seed(seed)
    grid = torch.rand(20_000, 2, dtype=torch.float64)
    x = torch.rand(n, 2, dtype=torch.float64)
    y = truth(x) + NOISE * torch.randn(n, dtype=torch.float64)
    data = Dataset(x, (y - y.mean()) / y.std())
    process = surrogate.fit(data, Seeds.of(seed=0, trial=0))
    with torch.no_grad():
        mean = y.mean() + y.std() * process.mean(grid)
    values = truth(grid)
    regret = float(values[mean.argmin()] - values.min())
    error = float((mean - values).square().mean().sqrt())
    return f"{regret:.4f} | {error:.3f} | {float(process.noise.sqrt() * y.std()):.2f}"


def loop(name: str, n: int, noise: float, seed: int) -> dict[str, Any]:
    """Asks after n noisy observations, and then the recommendation, with values without noise."""
    problem = get_problem("hartmann6")
    generator = torch.Generator().manual_seed(1000 * seed + 7)
    x = torch.rand(n, 6, generator=generator, dtype=torch.float64)
    errors = noise * torch.randn(n, generator=generator, dtype=torch.float64)
    optimizer = Optimizer(problem.space, ACQUISITIONS[name](), seed=seed)
    past = []
    for row, error in zip(x.tolist(), errors.tolist(), strict=True):
        point = {f"x{column + 1}": value for column, value in enumerate(row)}
        past.append(problem.value(point))
        optimizer.add(point, past[-1] + error)
    values, seconds = [], []
    for _ in range(ASKS):
        began = time.process_time()
        trial = optimizer.ask()
        seconds.append(time.process_time() - began)
        values.append(problem.value(trial.params))
        error = noise * float(torch.randn((), generator=generator, dtype=torch.float64))
        optimizer.tell(trial, values[-1] + error)
    began = time.process_time()
    recommended = problem.value(optimizer.recommend())
    seconds.append(time.process_time() - began)
    run = {"acquisition": name, "n": n, "noise": noise, "seed": seed, "version": __version__}
    return run | {"seconds": seconds, "values": values, "recommended": recommended, "past": min(past)}


def rows(runs: list[dict[str, Any]]) -> list[str]:
    """The table of the loop: means over the seeds."""
    lines = []
    for n, noise, name in dict.fromkeys((run["n"], run["noise"], run["acquisition"]) for run in runs):
        same = [run for run in runs if (run["n"], run["noise"], run["acquisition"]) == (n, noise, name)]
        suggested = statistics.mean(statistics.mean(run["values"]) for run in same)
        worst = max(statistics.mean(run["values"]) for run in same)
        recommended = statistics.mean(run["recommended"] for run in same)
        first, later, last = (
            statistics.median(pick(run["seconds"]) for run in same)
            for pick in (lambda all: all[0], lambda all: statistics.median(all[1:-1]), lambda all: all[-1])
        )
        cells = f"{suggested:.2f} | {worst:.2f} | {recommended:.2f} | {first:.1f} | {later:.2f} | {last:.1f}"
        lines.append(f"| {n:,} | {noise:g} | {name} | {len(same)} | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default="model", choices=["model", "loop"])
    parser.add_argument("--sizes", default="2000,10000,30000,100000")
    parser.add_argument("--noises", default="0.1,1", help="of the loop")
    parser.add_argument("--seeds", default="0:2", help="first:end, the end left out")
    parser.add_argument("--out", type=Path, default=Path("/tmp/many_noisy.jsonl"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [int(size) for size in given.sizes.split(",")]
    seeds = range(*(int(bound) for bound in given.seeds.split(":")))
    if given.parts == "loop":
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        for n in sizes:
            for noise in (float(noise) for noise in given.noises.split(",")):
                for seed in seeds:
                    for name in ACQUISITIONS:
                        run = loop(name, n, noise, seed) | {"commit": commit.stdout.strip()}
                        with given.out.open("a") as file:
                            file.write(json.dumps(run) + "\n")
        seconds = "first ask | later | recommend"
        print(f"| n | noise | surrogate | seeds | suggested | worst seed | recommended | {seconds} |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        print("\n".join(rows([json.loads(line) for line in given.out.read_text().splitlines()])))
        return
    print("| n | seed | default: regret | error | noise | `SGPR`: regret | error | noise |")
    print("|---|---|---|---|---|---|---|---|")
    for n in sizes:
        for seed in seeds:
            cells = " | ".join(measure(surrogate, n, seed) for surrogate in (AutoGP(), SGPR()))
            print(f"| {n:,} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
