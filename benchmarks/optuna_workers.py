"""Processes that optimise one Optuna study with BoSuiteSampler: points that were evaluated twice, and speed.

    apt-get install postgresql
    pip install 'bo-suite[optuna]' psycopg2-binary
    python benchmarks/optuna_workers.py --storage postgresql+psycopg2://postgres@/optuna --out FILE

Four processes share a study of 500 trials over three integers and a category, 32,000 points in all, so that
a point that two of them propose is the very same. Needs a database that may be written to; the study is
removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import optuna

from bo_suite.integrations.optuna import BoSuiteSampler

NAME = "bo_suite workers"
DISTRIBUTIONS = {
    "a": optuna.distributions.IntDistribution(0, 19),
    "b": optuna.distributions.IntDistribution(0, 19),
    "c": optuna.distributions.IntDistribution(0, 19),
    "kind": optuna.distributions.CategoricalDistribution(("w", "x", "y", "z")),
}


def objective(trial: Any) -> float:
    """A cheap function with many equal values."""
    a, b, c = (trial.suggest_int(name, 0, 19) for name in "abc")
    kind = trial.suggest_categorical("kind", ("w", "x", "y", "z"))
    return (a - 7) ** 2 + abs(b - 11) + (c - 3) ** 2 / 4 + "wxyz".index(kind)


def work(storage: str, trials: int) -> None:
    """Optimises until the study has so many trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = BoSuiteSampler(search_space=DISTRIBUTIONS, seed=0)
    study = optuna.load_study(study_name=NAME, storage=storage, sampler=sampler)
    study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(trials, states=None)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", required=True, help="A URL that Optuna takes.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name=NAME, storage=given.storage)
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    members = [
        context.Process(target=work, args=(given.storage, given.trials)) for _ in range(given.processes)
    ]
    for member in members:
        member.start()
    for member in members:
        member.join()
    seconds = time.perf_counter() - began
    trials = study.get_trials()
    optuna.delete_study(study_name=NAME, storage=given.storage)
    points = Counter(json.dumps(trial.params, sort_keys=True) for trial in trials)
    twice = sum(count - 1 for count in points.values())
    record = {
        "storage": given.storage.split("://")[0],
        "processes": given.processes,
        "trials": len(trials),
        "seconds": round(seconds, 1),
        "twice": twice,
        "best": min(trial.value for trial in trials if trial.value is not None),
    }
    print(record)
    if given.out is not None:
        with given.out.open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
