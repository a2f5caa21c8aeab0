"""What one known good point is worth: runs that begin at the model's defaults, beside runs that do not.

    python benchmarks/start.py --seeds 0:10 --out /tmp/start

The suite `tuning`, 40 evaluations, `minimize(..., start=[defaults])` and the same without. The defaults are
scikit-learn's; those outside of a space are at its border, and what scikit-learn sets by the data is computed
from them. Every run is stored, so the script can be stopped and continued. Prints, after 2, 5, 12 and 40
evaluations, the median regret in units of the regret of the defaults (1 means: as good as these), in how many
pairs of runs the one that began at the defaults was better, and the p value of a sign test of that.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from bo_suite import minimize
from bo_suite.bench.environment import command, environment
from bo_suite.problems import Problem, get_problem
from bo_suite.space.space import Params

BUDGET, AFTER = 40, (2, 5, 12, 40)
DEFAULTS: dict[str, Params] = {
    # gamma is 1 / (inputs × variance): three of the 64 pixels are constant
    "svm_digits": {"C": 1.0, "gamma": 1 / 61, "kernel": "rbf", "degree": 3, "coef0": 0.0},
    "svr_diabetes": {"C": 1.0, "gamma": 1 / 10, "epsilon": 0.1},
    "boosting_diabetes": {
        "learning_rate": 0.1,
        "n_estimators": 80,
        "max_depth": 3,
        "subsample": 1.0,
        "min_samples_leaf": 1,
        "max_features": 1.0,
        "loss": "squared_error",
    },
    "forest_wine": {
        "n_estimators": 50,
        "max_depth": 12,
        "min_samples_leaf": 1,
        "max_features": math.sqrt(13) / 13,
        "criterion": "gini",
        "bootstrap": True,
    },
    "mlp_digits": {
        "learning_rate": 1e-3,
        "alpha": 1e-4,
        "beta_1": 0.9,
        "batch_size": 128,
        "width": 64,
        "depth": 1,
        "activation": "relu",
    },
    "linear_breast_cancer": {
        "alpha": 1e-4,
        "l1_ratio": 0.15,
        "eta0": 0.01,
        "learning_rate": "optimal",
        "average": False,
    },
    "svm_breast_cancer": {
        "C": 1.0,
        "gamma": 1 / 30,
        "kernel": "rbf",
        "degree": 3,
        "coef0": 0.0,
        "class_weight": None,
    },
    "boosting_breast_cancer": {
        "learning_rate": 0.1,
        "max_iter": 60,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 20,
        "l2_regularization": 1e-6,
        "max_features": 1.0,
        "max_bins": 64,
    },
}


def best_so_far(problem: Problem, seed: int, start: Sequence[Params]) -> list[float]:
    """The best loss after each evaluation of a run; infinite before one has finished."""
    result = minimize(problem, problem.space, BUDGET, seed, start=start, progress=False)
    losses = [math.inf if trial.value is None else trial.value for trial in result.trials]
    return np.minimum.accumulate(losses).tolist()


def runs(problem: Problem, seeds: Sequence[int], out: Path) -> dict[str, list[list[float]]]:
    """Curves of all seeds without and with the defaults; each pair is stored in a file of its own."""
    curves: dict[str, list[list[float]]] = {"without": [], "with": []}
    for seed in seeds:
        path = out / f"{problem.name}-{seed}.json"
        if not path.exists():
            pair = {
                name: best_so_far(problem, seed, start)
                for name, start in (("without", []), ("with", [DEFAULTS[problem.name]]))
            }
            path.write_text(json.dumps(pair | {"environment": environment()}))
        for name, curve in json.loads(path.read_text()).items():
            if name in curves:
                curves[name].append(curve)
    return curves


def table(seeds: Sequence[int], out: Path) -> str:
    """The table in the module's docstring, as Markdown."""
    regrets: dict[str, list[np.ndarray]] = {"without": [], "with": []}
    for name in DEFAULTS:
        problem = get_problem(name)
        curves = runs(problem, seeds, out)
        lowest = min(
            problem.best_known or math.inf, *(curve[-1] for group in curves.values() for curve in group)
        )
        span = problem(DEFAULTS[name]) - lowest
        for group, own in curves.items():
            regrets[group].append((np.array(own)[:, [count - 1 for count in AFTER]] - lowest) / span)
        print(
            name, *(f"{group}: {np.median(regrets[group][-1], 0).round(3)}" for group in curves), flush=True
        )
    without, given = (np.concatenate(regrets[group]) for group in ("without", "with"))
    rows = [
        f"| evaluations | without | from the defaults | better, of {len(given)} | p |",
        "|---|---|---|---|---|",
    ]
    for column, count in enumerate(AFTER):
        better = int((given[:, column] < without[:, column]).sum())
        decided = int((given[:, column] != without[:, column]).sum())
        p = binomtest(better, decided).pvalue if decided else 1.0
        medians = np.median(without[:, column]), np.median(given[:, column])
        rows.append(f"| {count} | {medians[0]:.3f} | {medians[1]:.3f} | {better} | {p:.2g} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:10", help="range of seeds, first:last")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    first, last = map(int, args.seeds.split(":"))
    print(command())
    print(table(range(first, last), args.out))


if __name__ == "__main__":
    main()
