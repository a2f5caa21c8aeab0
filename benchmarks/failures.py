"""Regret where evaluations fail: at random, whatever the point, or always in a region.

    python benchmarks/failures.py --seeds 0:8 --out /tmp/failures.jsonl
    python benchmarks/failures.py --seeds 0:8 --door optuna --out /tmp/failures_optuna.jsonl

Each run ends after 40 evaluations that succeed, or 120 in all. At random 10 or 30 % of evaluations fail; or
all in one third of the range of the first parameter, and those are wasted. On `border` the function goes down
into that third, and its best point is at the border. The table has the median and the largest regret over the
seeds, of wasted evaluations, and the seconds of a run. The doors are the Optimizer and, in an Optuna study,
BoSuiteSampler.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and torch are imported

import argparse
import json
import logging
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bo_suite import Float, Optimizer, Space
from bo_suite.bench.environment import command, environment
from bo_suite.problems import get_problem

SUCCESSES = 40
MOST = 120
"""Evaluations after which a run ends in any case."""


@dataclass(frozen=True)
class Case:
    """A problem, and which of its evaluations fail.

    Attributes:
        problem: its name.
        rate: share of all evaluations that fail at random.
        third: 0, 1 or 2: the third of the first parameter's range where all fail; None for none.
    """

    problem: str
    rate: float = 0.0
    third: int | None = None

    def __str__(self) -> str:
        parts = [f"{100 * self.rate:.0f} % at random"] if self.rate or self.third is None else []
        if self.third is not None:
            parts.append(f"the {('lower', 'middle', 'upper')[self.third]} third")
        return " and ".join(parts)


CASES = (
    *(Case(problem, rate) for problem in ("branin", "hartmann3") for rate in (0.0, 0.1, 0.3)),
    *(Case("branin", third=third) for third in range(3)),
    *(Case("branin", 0.1, third) for third in range(3)),
    Case("border", third=2),
)


@dataclass(frozen=True)
class Run:
    """What came of a run.

    Attributes:
        regret: of its best evaluation.
        wasted: evaluations in the failing third.
        failed: evaluations that failed.
        succeeded: evaluations that did not.
        seconds: that it took.
    """

    regret: float
    wasted: int
    failed: int
    succeeded: int
    seconds: float


@dataclass(frozen=True)
class Border:
    """A bowl whose lowest point lies in the upper third of x: where that fails, the best is at its border."""

    space: Space = field(default_factory=lambda: Space({"x": Float(0.0, 1.0), "z": Float(0.0, 1.0)}))
    minimum: float = (0.9 - 2 / 3) ** 2

    def __call__(self, params: dict[str, Any]) -> float:
        """The value at a point."""
        return (params["x"] - 0.9) ** 2 + (params["z"] - 0.9) ** 2


class OwnDoor:
    """An Optimizer."""

    def __init__(self, space: Space, seed: int) -> None:
        self._optimizer = Optimizer(space, seed=seed)
        self._trial: Any = None

    def ask(self) -> dict[str, Any]:
        """The next point."""
        self._trial = self._optimizer.ask()
        return dict(self._trial.params)

    def end(self, value: float | None) -> None:
        """Tells the outcome, or that there is none."""
        if value is None:
            self._optimizer.fail(self._trial, "failed")
        else:
            self._optimizer.tell(self._trial, value)


class OptunaDoor:
    """BoSuiteSampler, asked by a study."""

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        from bo_suite.integrations.optuna import BoSuiteSampler
        from bo_suite.integrations.optuna_trials import to_distribution

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._failed = optuna.trial.TrialState.FAIL
        self._distributions = {name: to_distribution(parameter) for name, parameter in space}
        self._study = optuna.create_study(sampler=BoSuiteSampler(search_space=space, seed=seed))
        self._trial: Any = None

    def ask(self) -> dict[str, Any]:
        """The next point."""
        self._trial = self._study.ask(self._distributions)
        return dict(self._trial.params)

    def end(self, value: float | None) -> None:
        """Tells the outcome, or that there is none."""
        if value is None:
            self._study.tell(self._trial, state=self._failed)
        else:
            self._study.tell(self._trial, value)


DOORS = {"own": OwnDoor, "optuna": OptunaDoor}


def run(case: Case, seed: int, door: str = "own") -> Run:
    """One run until so many evaluations have succeeded."""
    problem: Any = Border() if case.problem == "border" else get_problem(case.problem)
    chance = random.Random(1000 + seed)
    name, parameter = next(iter(problem.space))
    low, high = parameter.low, parameter.high
    search = DOORS[door](problem.space, seed)
    values: list[float] = []
    wasted = failed = 0
    began = time.perf_counter()
    while len(values) < SUCCESSES and len(values) + failed < MOST:
        params = search.ask()
        barred = case.third == min(int(3 * (params[name] - low) / (high - low)), 2)
        wasted += barred
        if barred or chance.random() < case.rate:
            failed += 1
            search.end(None)
        else:
            values.append(problem(params))
            search.end(values[-1])
    seconds = time.perf_counter() - began
    return Run(min(values) - (problem.minimum or 0.0), wasted, failed, len(values), seconds)


def row(case: Case, runs: Sequence[Run]) -> str:
    """The line of the table."""
    regrets, wasted = [one.regret for one in runs], [one.wasted for one in runs]
    failed = statistics.median(one.failed for one in runs)
    seconds = statistics.mean(one.seconds for one in runs)
    return (
        f"| {case.problem} | {case} | {statistics.median(regrets):.1e} | {max(regrets):.1e} | {failed:g} | "
        f"{statistics.median(wasted):g} | {max(wasted)} | {seconds:.1f} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:8", help="first:end, the end left out")
    parser.add_argument("--door", choices=DOORS, default="own")
    parser.add_argument("--out", type=Path, help="JSON lines, one a run")
    options = parser.parse_args()
    logging.getLogger("bo_suite").setLevel(logging.ERROR)
    seeds = range(*(int(bound) for bound in options.seeds.split(":")))
    surroundings = {"command": command()} | json.loads(environment())
    print("| problem | failing | median regret | largest | failed | wasted | most wasted | s a run |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        runs = []
        for seed in seeds:
            runs.append(run(case, seed, options.door))
            record = {**asdict(case), "door": options.door, "seed": seed, **asdict(runs[-1])}
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(record | surroundings) + "\n")
        print(row(case, runs), flush=True)


if __name__ == "__main__":
    main()
