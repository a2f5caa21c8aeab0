"""Best feasible values and largest hypervolumes of the problems of several outcomes, as far as can be seen.

    python benchmarks/outcome_optima.py --problems constrained --evaluations 200000

Prints a line a problem: name, what the problem states, what was seen. With one objective: differential
evolution with constraints (scipy), then SLSQP from the best feasible points. With several: NSGA-II of pymoo
(population 200), whose feasible non-dominated points over all generations count. Problems of tuning, which
are not cheap, are left out.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import warnings
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import NonlinearConstraint, differential_evolution, minimize

from bo_suite.problems.outcomes import OUTCOME_SUITES, OutcomeProblem
from bo_suite.problems.outcomes.botorch_functions import BoTorchFunction
from bo_suite.problems.outcomes.tuning import TUNING_TWO

Array = npt.NDArray[np.float64]


def outcomes(problem: OutcomeProblem, units: Array) -> tuple[Array, Array]:
    """Losses (n, k) and violations (n, c) of rows of the unit cube; what has no outcome is far off."""
    space, goals = problem.space, problem.goals
    if not len(units):  # scipy asks for no points where none of a generation is feasible
        return np.zeros((0, len(goals.objectives))), np.zeros((0, len(goals.constraints)))
    points = space.decode(torch.from_numpy(np.clip(np.atleast_2d(units), 0.0, 1.0)))
    if isinstance(problem.function, BoTorchFunction):
        rows = torch.tensor([[*point.values()] for point in points], dtype=torch.float64)
        losses, violations = problem.function.rows(rows)
        return losses.numpy(), violations.numpy()
    rows = []
    for point in points:
        own = problem(point)
        rows.append([*(goals.losses(own) or ()), *(own[one.name] for one in goals.constraints)])
    table = np.array(rows)
    return table[:, : len(goals.objectives)], table[:, len(goals.objectives) :]


def best_value(problem: OutcomeProblem, evaluations: int) -> float:
    """The smallest feasible value seen."""
    dim, best = problem.space.dim, np.inf

    def noted(units: Array) -> tuple[Array, Array]:
        nonlocal best
        losses, violations = outcomes(problem, units)
        feasible = (violations <= 0.0).all(axis=1)
        best = min(best, float(np.min(losses[feasible, 0], initial=np.inf)))
        return losses[:, 0], violations

    def limits(x: Array) -> Array:
        scaled = noted(x.T)[1] / scales
        return scaled.T if x.ndim > 1 else scaled[0]

    _, sampled = outcomes(problem, np.random.default_rng(0).random((512, dim)))
    scales = np.maximum(np.median(np.abs(sampled), axis=0), 1e-12)
    bounds = [(0.0, 1.0)] * dim
    for seed in range(4):
        starts = np.random.default_rng(seed).random((10, dim))
        result = differential_evolution(
            lambda x: noted(x.T)[0],
            bounds,
            constraints=NonlinearConstraint(limits, -np.inf, 0.0),
            maxiter=max(evaluations // (8 * 15 * dim), 20),
            popsize=15,
            rng=seed,
            tol=1e-10,
            polish=False,
            vectorized=True,
            updating="deferred",
        )
        for start, margin in ((result.x, 0.0), *((row, 1e-9) for row in (result.x, *starts))):
            minimize(
                lambda x: noted(x[None])[0][0],
                start,
                method="SLSQP",
                bounds=bounds,
                constraints={"type": "ineq", "fun": lambda x, m=margin: -(noted(x[None])[1] / scales)[0] - m},
                options={"maxiter": 300, "ftol": 1e-12},
            )
    return best


def largest_hypervolume(problem: OutcomeProblem, evaluations: int) -> float:
    """The largest hypervolume of the feasible points that NSGA-II sees."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize as run

    goals, reference = problem.goals, np.array(problem.reference_losses)
    front = np.zeros((0, len(reference)))

    class Rows(Problem):
        def _evaluate(self, x: Array, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            nonlocal front
            losses, violations = outcomes(problem, x)
            good = (violations <= 0.0).all(axis=1) & (losses < reference).all(axis=1)
            every = np.concatenate([front, losses[good]])
            front = every[moocore.is_nondominated(every)] if len(every) else every
            out["F"] = losses
            if goals.constraints:
                out["G"] = violations

    made = Rows(
        n_var=problem.space.dim,
        n_obj=len(reference),
        n_ieq_constr=len(goals.constraints),
        xl=0.0,
        xu=1.0,
    )
    for seed in range(2):
        run(made, NSGA2(pop_size=200), ("n_gen", evaluations // 400), seed=seed, verbose=False)
    return float(moocore.hypervolume(front, ref=reference)) if len(front) else 0.0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", help="comma-separated suites or problems; all by default")
    parser.add_argument("--evaluations", type=int, default=200_000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = args.problems.split(",") if args.problems else list(OUTCOME_SUITES)
    for suite, recipes in OUTCOME_SUITES.items():
        for name, make in recipes.items():
            if name in TUNING_TWO or not {suite, name} & set(wanted):
                continue
            problem = make()
            search = largest_hypervolume if problem.goals.several else best_value
            print(
                f"{name}: states {problem.best_seen}, saw {search(problem, args.evaluations)!r}", flush=True
            )


if __name__ == "__main__":
    main()
