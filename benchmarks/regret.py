"""Regret of bo_suite beside its peers, on test functions and on models to tune.

    python benchmarks/regret.py --methods bo_suite,botorch,ax --seeds 0:10 --workers 2 --out /tmp/regret

Each problem has a budget of its own. What has ended is in OUT, so a stopped benchmark goes on where it was;
at the end OUT/report.html is written. Every run is on its own, for the times of single suggestions.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
from pathlib import Path

from bo_suite.bench import compare, report, run_suite

BENCHMARK = {
    50: (
        "branin",
        "goldstein_price",
        "hartmann3",
        "shifted_ackley5",
        "rosenbrock5",
        "hartmann6",
        "noisy_branin",
        "noisy_hartmann6",
        "mixed_shifted_levy6",
        "svm_digits",
        "svr_diabetes",
        "boosting_diabetes",
        "forest_wine",
        "mlp_digits",
        "linear_breast_cancer",
    ),
    70: ("shifted_levy10",),
    100: ("hartmann6_in_20d", "shifted_ackley20"),
}
"""Problems by their budget."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", required=True, help="comma-separated")
    parser.add_argument("--problems", help="comma-separated; of others than these, 50 evaluations")
    parser.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    args = parser.parse_args()
    budgets = {name: budget for budget, names in BENCHMARK.items() for name in names}
    wanted = args.problems.split(",") if args.problems else list(budgets)
    seeds = range(*(int(bound) for bound in args.seeds.split(":")))
    for budget in sorted({budgets.get(name, 50) for name in wanted}):
        names = [name for name in wanted if budgets.get(name, 50) == budget]
        run_suite(names, args.methods, seeds, budget, args.out, workers=args.workers, together=1)
    print(compare(args.out))
    print(report(args.out))


if __name__ == "__main__":
    main()
