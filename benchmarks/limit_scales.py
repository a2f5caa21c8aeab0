"""How well each scale of constrained outcomes predicts whether the next points meet the constraints.

    python benchmarks/limit_scales.py --seeds 0:2

Runs of the default on problems with constraints. After 12, 20, 30 and 45 of 60 evaluations, each constrained
outcome is fitted on each of the four scales and on the one that `FittedLimits` chooses, and the log
probability of what the next ten points turn out to be is averaged. The table has the means over constraints,
moments and seeds.
"""

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bo_suite import Optimizer
from bo_suite.acquisition.feasibility import log_probability_between
from bo_suite.acquisition.limit_scales import FittedLimits, LimitScales
from bo_suite.acquisition.several import outcome_dataset
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.linalg.environment import one_thread
from bo_suite.problems.outcomes import OUTCOME_PROBLEMS
from bo_suite.problems.outcomes.base import OutcomeProblem
from bo_suite.study.named import NamedOutcomes
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.process import Process

PROBLEMS = (
    *("pressure_vessel", "welded_beam_one", "tension_compression_string", "speed_reducer"),
    *("constrained_gramacy", "constrained_hartmann6", "constrained_hartmann6_smooth", "constrained_ackley5"),
)
MOMENTS, NEXT, EVALUATIONS = (12, 20, 30, 45), 10, 60
NAMES = ("linear", "bilog", "log from below", "log from above")
LEAST = -20.0
"""Log probabilities are clipped here, so that no single point decides."""


def trials_of(problem: OutcomeProblem, seed: int) -> tuple[Tensor, NamedOutcomes]:
    """The rows and the outcomes of a run of the default."""
    goals = problem.goals
    intervals = {
        one.name: tuple(end if np.isfinite(end) else None for end in (one.low, one.high))
        for one in goals.constraints
    }
    directions = {one.name: one.direction for one in goals.objectives}
    optimizer = Optimizer(problem.space, seed=seed, direction=directions, constraints=intervals)
    for _ in range(EVALUATIONS):
        trial = optimizer.ask()
        optimizer.tell(trial, problem(trial.params))
    rows = problem.space.encode([trial.params for trial in optimizer.trials])
    return rows, NamedOutcomes.of(optimizer.goals, optimizer.trials)


def limits_at(rows: Tensor, named: NamedOutcomes, count: int) -> Outcomes:
    """The constrained outcomes of the first trials."""
    part = replace(
        named, values=named.values[:, :count], stds=named.stds[:, :count], broken=named.broken[:count]
    )
    outcomes = part.encoded(rows[:count])
    assert outcomes is not None
    return outcomes


def log_scores(process: Process, low: Tensor, high: Tensor, rows: Tensor, met: Tensor) -> Tensor:
    """Mean log probability of what the rows turned out to be, for each constraint."""
    mean, var = process.mean_and_var(rows.expand(len(low), *rows.shape))
    inside = log_probability_between((low - mean) / var.sqrt(), (high - mean) / var.sqrt()).clamp(max=-1e-12)
    outside = torch.log(-torch.expm1(inside))
    return torch.where(met, inside, outside).clamp(min=LEAST).mean(-1)


def measure(problem: OutcomeProblem, seed: int) -> pd.DataFrame:
    """A row for each moment and constraint, a column for each scale, and one for the choice."""
    rows, named = trials_of(problem, seed)
    tables = []
    for count in MOMENTS:
        limits, following = limits_at(rows, named, count), rows[count : count + NEXT]
        values = named.values[len(named.goals.objectives) :, count : count + NEXT].tolist()
        pairs = zip(named.goals.constraints, values, strict=True)
        met = torch.tensor([[one.allows(value) for value in each] for one, each in pairs])
        data = Dataset(rows[:count], rows[:count].sum(-1), outcomes=limits)
        chosen = FittedLimits.of(data, limits, Seeds((seed,)), None)
        every = LimitScales.of(limits).of_outcomes(limits)
        processes = ExactGP().fit(
            outcome_dataset(replace(data, outcomes=every), 0, every.y.shape[-2]), Seeds((seed,))
        )
        repeated = met.repeat(len(NAMES), 1)
        scores = log_scores(processes, every.low[:, None], every.high[:, None], following, repeated)
        table = pd.DataFrame(scores.unflatten(0, (len(NAMES), -1)).T.numpy(), columns=list(NAMES))
        table["chosen"] = log_scores(chosen.process, chosen.low, chosen.high, following, met).numpy()
        table["best in hindsight"] = table[list(NAMES)].max(axis=1)
        tables.append(table)
    return pd.concat(tables)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:2", help="first:end, the end left out")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="comma-separated")
    args = parser.parse_args()
    first, end = map(int, args.seeds.split(":"))
    tables = {}
    with one_thread(), torch.no_grad():
        for name in args.problems.split(","):
            runs = [measure(OUTCOME_PROBLEMS[name](), seed) for seed in range(first, end)]
            tables[name] = pd.concat(runs).mean()
    table = pd.DataFrame(tables).T
    table.loc["mean"] = table.mean()
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
