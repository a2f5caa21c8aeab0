"""What large batches cost, and what an Optuna sampler costs at many trials, beside TPE.

    python benchmarks/pending.py

Hartmann's function of six parameters. First table: `ask(count)` after 60 random points, once; then the same
by other acquisitions. Second table: the median, and the mean, of the asks of a study with 1,000 trials, each
told before the next, after two that are not counted; the Optimizer alone, and TPE, in the same process.
One BLAS thread, CPU seconds and milliseconds (`--wall`: by the clock, on an idle machine).
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import optuna

from bo_suite import Optimizer
from bo_suite.acquisition import (
    Acquisition,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    ThompsonSampling,
)
from bo_suite.integrations.optuna import BoSuiteSampler
from bo_suite.problems import get_problem
from bo_suite.space.space import Params

PROBLEM = get_problem("hartmann6")
DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in PROBLEM.space.parameters
}


def points(count: int) -> list[Params]:
    """So many uniform ones."""
    draws = random.Random(0)
    return [{name: draws.random() for name in PROBLEM.space.parameters} for _ in range(count)]


def filled(count: int, acquisition: Acquisition | None = None) -> Optimizer:
    """An Optimizer that knows so many outcomes."""
    optimizer = Optimizer(PROBLEM.space, acquisition)
    for point in points(count):
        optimizer.add(point, PROBLEM(point))
    return optimizer


def batch_seconds(count: int, acquisition: Acquisition, clock: Callable[[], float]) -> float:
    """Of `ask(count)` after 60 points."""
    filled(8).ask()  # what is loaded once
    optimizer = filled(60, acquisition)
    began = clock()
    optimizer.ask(count)
    return clock() - began


def optimizer_milliseconds(trials: int, asks: int, clock: Callable[[], float]) -> list[float]:
    """Of each ask of an Optimizer."""
    optimizer, found = filled(trials), []
    for _ in range(asks):
        began = clock()
        trial = optimizer.ask()
        found.append(1e3 * (clock() - began))
        optimizer.tell(trial, PROBLEM(trial.params))
    return found


def study_milliseconds(
    sampler: "optuna.samplers.BaseSampler", trials: int, asks: int, clock: Callable[[], float]
) -> list[float]:
    """Of each ask of a study, its parameters suggested."""
    study, found = optuna.create_study(sampler=sampler), []
    for known in points(trials):
        study.add_trial(
            optuna.trial.create_trial(params=known, distributions=DISTRIBUTIONS, value=PROBLEM(known))
        )
    for _ in range(asks):
        began = clock()
        trial = study.ask()
        point: Params = {name: trial.suggest_float(name, 0.0, 1.0) for name in DISTRIBUTIONS}
        found.append(1e3 * (clock() - began))
        study.tell(trial, PROBLEM(point))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=(8, 200))
    parser.add_argument("--others", type=int, default=32, help="size of the batches of other acquisitions")
    parser.add_argument("--trials", type=int, nargs="+", default=(960, 1000))
    parser.add_argument("--asks", type=int, default=22)
    parser.add_argument("--wall", action="store_true")
    given = parser.parse_args()
    now = time.perf_counter if given.wall else time.process_time
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| acquisition | points | seconds | ms a point |")
    print("|---|---|---|---|")
    recipes: list[tuple[int, Acquisition]] = [(count, LogExpectedImprovement()) for count in given.counts]
    recipes += [(given.others, recipe) for recipe in (KnowledgeGradient(), ThompsonSampling(), Bore())]
    for count, recipe in recipes:
        seconds = batch_seconds(count, recipe, now)
        name = type(recipe).__name__
        print(f"| {name} | {count} | {seconds:.2f} | {1e3 * seconds / count:.1f} |", flush=True)
    print("\n| trials | ask of | median ms | mean ms |")
    print("|---|---|---|---|")
    for trials in given.trials:
        ways = {
            "Optimizer": optimizer_milliseconds(trials, given.asks, now),
            "BoSuiteSampler": study_milliseconds(BoSuiteSampler(seed=0), trials, given.asks, now),
            "TPESampler": study_milliseconds(optuna.samplers.TPESampler(seed=0), trials, given.asks, now),
        }
        for name, each in ways.items():
            middle, mean = statistics.median(each[2:]), statistics.mean(each[2:])
            print(f"| {trials} | {name} | {middle:.0f} | {mean:.0f} |", flush=True)
