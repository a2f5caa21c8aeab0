"""Where the lowest posterior mean lies after very many noisy observations: the default surrogate, and SGPR.

    python benchmarks/many_noisy.py --sizes 2000,10000,30000,100000 --seeds 0:2

Uniformly random points of a smooth function of two inputs; errors are against the function without noise.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse

import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import SGPR, AutoGP
from bo_suite.surrogates.process import Surrogate

NOISE = 0.3


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="2000,10000,30000,100000")
    parser.add_argument("--seeds", default="0:2", help="first:end, the end left out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| n | seed | default: regret | error | noise | `SGPR`: regret | error | noise |")
    print("|---|---|---|---|---|---|---|---|")
    for n in (int(size) for size in given.sizes.split(",")):
        for seed in range(*(int(bound) for bound in given.seeds.split(":"))):
            cells = " | ".join(measure(surrogate, n, seed) for surrogate in (AutoGP(), SGPR()))
            print(f"| {n:,} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
