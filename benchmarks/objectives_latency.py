"""Seconds of a suggestion at n = 100, d = 6 with one, two and four objectives, and two constraints.

    python benchmarks/objectives_latency.py --methods bo_suite,botorch_hypervolume,optuna_gp --out speed.jsonl

The data are 100 Sobol points of DTLZ2 in 6 dimensions, with the constraints x1 + x2 <= 1.2 and x1 x2 >= 0.05.
Each method is given them, suggests a point, is told its outcomes, and so on: the first suggestion is left
out, the next --repeats count. Methods take turns, suggestion by suggestion, with one BLAS thread each, so
that a busy machine slows all of them alike. OUT gets a line of JSON for each setting and seed, with the
seconds of each method, the commit and the versions; what it has is not measured again. The table has medians,
and ratios to the first method, of the same run.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from botorch.test_functions.multi_objective import DTLZ2

from bo_suite import Optimizer
from bo_suite.bench import OutcomeTask
from bo_suite.bench.environment import environment
from bo_suite.bench.peers.botorch_outcomes import BoTorchHypervolume
from bo_suite.bench.peers.outcome_rows import rows_of
from bo_suite.linalg.environment import one_thread
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals

DIM, POINTS = 6, 100
SPACE = Space({f"x{index + 1}": Float(0.0, 1.0) for index in range(DIM)})
REFERENCE = 2.5


@dataclass(frozen=True)
class Setting:
    """A number of objectives, with or without the two constraints."""

    objectives: int
    constrained: bool

    @property
    def goals(self) -> Goals:
        direction = {f"f{index + 1}": "minimize" for index in range(self.objectives)}
        limits = {"c1": (None, 1.2), "c2": (0.05, None)} if self.constrained else None
        return Goals.of(direction, limits)

    def outcomes(self, params: Params) -> dict[str, float]:
        x = torch.tensor([*params.values()], dtype=torch.float64)
        # DTLZ2 has two objectives at least; the first of two is the only one of one.
        values = DTLZ2(dim=DIM, num_objectives=max(self.objectives, 2)).evaluate_true(x[None])[0].tolist()
        named = {f"f{index + 1}": value for index, value in enumerate(values[: self.objectives])}
        limits = {"c1": float(x[0] + x[1]), "c2": float(x[0] * x[1])} if self.constrained else {}
        return named | limits


SETTINGS = {
    "1": Setting(1, False),
    "2": Setting(2, False),
    "2+2": Setting(2, True),
    "4": Setting(4, False),
    "4+2": Setting(4, True),
}
"""By number of objectives + number of constraints."""


class Loop(Protocol):
    """A method with the data of a setting."""

    def ask(self) -> Params:
        """The next point."""

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        """Takes the outcomes of the last point."""


class BoSuiteLoop:
    """An Optimizer at its defaults."""

    def __init__(self, setting: Setting, seed: int, data: list[tuple[Params, dict[str, float]]]) -> None:
        goals = setting.goals
        self._optimizer = Optimizer(SPACE, seed=seed, direction=goals.direction, constraints=goals.limits)
        for params, outcomes in data:
            self._optimizer.add(params, outcomes)
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._optimizer.ask()
        return dict(self._trial.params)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._optimizer.tell(self._trial, outcomes)


class BoTorchLoop:
    """The loop of `botorch_hypervolume`, which takes points that it did not suggest."""

    def __init__(self, setting: Setting, seed: int, data: list[tuple[Params, dict[str, float]]]) -> None:
        reference = (REFERENCE,) * setting.objectives
        task = OutcomeTask(SPACE, seed, POINTS, setting.goals, reference)
        self._run = BoTorchHypervolume().start_outcomes(task)
        for params, outcomes in data:
            self._run.tell(params, outcomes)

    def ask(self) -> Params:
        return self._run.ask()

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        self._run.tell(params, outcomes)


class OptunaLoop:
    """A study with a GPSampler."""

    def __init__(self, setting: Setting, seed: int, data: list[tuple[Params, dict[str, float]]]) -> None:
        import optuna

        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._goals = setting.goals
        self._distributions = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name, _ in SPACE}
        directions = ["minimize"] * setting.objectives
        self._study = optuna.create_study(directions=directions, sampler=optuna.samplers.GPSampler(seed=seed))
        for params, outcomes in data:
            losses, violations = rows_of(self._goals, outcomes)
            trial = optuna.trial.create_trial(
                params=params,
                distributions=self._distributions,
                values=losses,
                constraints={f"c{index}": one for index, one in enumerate(violations)} or None,
            )
            self._study.add_trial(trial)
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask(self._distributions)
        return dict(self._trial.params)

    def tell(self, params: Params, outcomes: Mapping[str, float]) -> None:
        losses, violations = rows_of(self._goals, outcomes)
        for index, violation in enumerate(violations):
            self._trial.set_constraint(f"c{index}", violation)
        self._study.tell(self._trial, losses)


LOOPS: dict[str, Callable[[Setting, int, list[tuple[Params, dict[str, float]]]], Loop]] = {
    "bo_suite": BoSuiteLoop,
    "botorch_hypervolume": BoTorchLoop,
    "optuna_gp": OptunaLoop,
}


def measure(names: list[str], setting: Setting, seed: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of the suggestions of each method, which take turns."""
    engine = torch.quasirandom.SobolEngine(DIM, scramble=True, seed=seed)
    points = SPACE.decode(engine.draw(POINTS, dtype=torch.float64))
    data = [(params, setting.outcomes(params)) for params in points]
    loops = {name: LOOPS[name](setting, seed, data) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            params = loop.ask()
            asked = time.perf_counter()
            outcomes = setting.outcomes(params)
            resumed = time.perf_counter()
            loop.tell(params, outcomes)
            if repeat:
                times[name].append(asked - began + time.perf_counter() - resumed)
    return times


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join(LOOPS), help="the first is what ratios are to")
    parser.add_argument("--seeds", default="0:3", help="first:end, the end left out")
    parser.add_argument("--repeats", type=int, default=3, help="suggestions that count")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="comma-separated")
    parser.add_argument(
        "--out", type=Path, required=True, help="a file of JSON lines, continued if it exists"
    )
    args = parser.parse_args()
    names = args.methods.split(",")
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    rows = [json.loads(line) for line in lines]
    for seed in range(*(int(bound) for bound in args.seeds.split(":"))):
        for name in args.settings.split(","):
            # BoTorch's loop is of several objectives.
            own = [one for one in names if one != "botorch_hypervolume" or SETTINGS[name].objectives > 1]
            if own and not any(
                row["setting"] == name and row["seed"] == seed and set(row["seconds"]) >= set(own)
                for row in rows
            ):
                with one_thread():
                    seconds = measure(own, SETTINGS[name], seed, args.repeats)
                rows.append({"setting": name, "seed": seed, "seconds": seconds, **json.loads(environment())})
                with args.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows, names))


def table(rows: list[dict[str, Any]], names: list[str]) -> str:
    """Median seconds and ratios to the first method, by setting."""
    lines = []
    for setting in SETTINGS:
        own = [row["seconds"] for row in rows if row["setting"] == setting]
        seconds = {name: [one for row in own for one in row.get(name, [])] for name in names}
        ratios = {
            name: [
                np.median(row[name]) / np.median(row[names[0]]) for row in own if {name, names[0]} <= set(row)
            ]
            for name in names
        }
        line: dict[str, str] = {"setting": setting}
        for name in names:
            if seconds[name]:
                line[f"{name}, s"] = f"{np.median(seconds[name]):.3f}"
            if ratios[name]:
                line[f"{name}, ratio"] = f"{np.median(ratios[name]):.1f}"
        lines.append(line)
    return pd.DataFrame(lines).fillna("").to_string(index=False)


if __name__ == "__main__":
    main()
