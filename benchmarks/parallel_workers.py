"""Simulated workers: regret at equal evaluations beside the sequential run, and the time to a regret.

    python benchmarks/parallel_workers.py run --methods random,tpe,bo_suite --seeds 10 --out results.jsonl
    python benchmarks/parallel_workers.py run --methods optuna_gp --seeds 3 --out results.jsonl
    python benchmarks/parallel_workers.py report results.jsonl

A worker that is free asks at once. The method then has the outcomes of all evaluations that have ended, and
knows which are running. An evaluation takes a time that is exponential with mean 1, drawn from (seed, number
of the trial), so it is the same for every method and number of workers. Asks take no simulated time; their
seconds of the processor are measured. bo_suite is the default Optimizer in memory. Optuna's samplers are at
their defaults: since version 5 TPESampler has `constant_liar=True`, and GPSampler also models running trials.

`run` makes 200 evaluations of each problem with 1 and with 8 workers, and 400 with 64, which need more for
the same regret. It writes a line a run; what is in OUT is not run again. `report` prints tables as Markdown
of the runs that OUT has.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and torch are imported
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")  # GPSampler computes with jax

import argparse
import heapq
import itertools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from bo_suite import Optimizer
from bo_suite.bench.environment import environment
from bo_suite.bench.method import Task, inside
from bo_suite.bench.peers.baselines import Random
from bo_suite.bench.peers.optuna_study import suggested
from bo_suite.bench.suite import named_problem
from bo_suite.bench.unit import seed_on
from bo_suite.problems import Problem
from bo_suite.space.space import Params

PROBLEMS = ("branin", "hartmann6", "shifted_ackley5", "hpobench_mlp_credit_g")
EVALUATIONS = {1: 200, 8: 200, 64: 400}
"""By workers."""
AT = (100, 200)
"""Numbers of evaluations after which regrets are compared; targets are regrets after the first of them."""
COMMON = "tpe"
"""The method whose regret is the target of all."""
FLOOR, SMALLEST_TARGET = 1e-9, 1e-3
"""Smallest regret in a logarithm, and as a target."""


class Asker(Protocol):
    """A method with any number of running trials."""

    def ask(self) -> tuple[Any, Params]:
        """A new trial and its point."""

    def tell(self, trial: Any, value: float) -> None:
        """Takes the outcome of a trial."""


class OwnAsker:
    """bo_suite's default Optimizer in memory."""

    def __init__(self, task: Task) -> None:
        self._optimizer = Optimizer(task.space, seed=task.seed, budget=task.budget)

    def ask(self) -> tuple[Any, Params]:
        trial = self._optimizer.ask()
        return trial, dict(trial.params)

    def tell(self, trial: Any, value: float) -> None:
        self._optimizer.tell(trial, value)


class OptunaAsker:
    """An Optuna study in memory with a sampler of its own, made with the seed alone."""

    def __init__(self, task: Task, sampler: str) -> None:
        optuna = import_module("optuna")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = task.space
        self._study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=task.seed))

    def ask(self) -> tuple[Any, Params]:
        trial = self._study.ask()
        return trial, inside(self._space, suggested(trial, self._space))

    def tell(self, trial: Any, value: float) -> None:
        self._study.tell(trial, value)


class RandomAsker:
    """Uniform draws."""

    def __init__(self, task: Task) -> None:
        self._draws = Random().start(task)

    def ask(self) -> tuple[Any, Params]:
        return None, self._draws.ask()

    def tell(self, trial: Any, value: float) -> None:
        pass


METHODS = {
    "random": RandomAsker,
    "tpe": lambda task: OptunaAsker(task, "TPESampler"),
    "bo_suite": OwnAsker,
    "optuna_gp": lambda task: OptunaAsker(task, "GPSampler"),
}


@dataclass
class Simulation:
    """What came of workers, in the order in which the evaluations ended.

    Attributes:
        values: outcomes.
        ends: simulated times.
        asks: seconds of the processor for each ask, in the order of the asks.
    """

    values: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    asks: list[float] = field(default_factory=list)


def duration(seed: int, number: int) -> float:
    """The simulated time that the evaluation of a trial takes."""
    return float(np.random.default_rng((seed, number)).exponential())


def simulate(asker: Asker, problem: Problem, workers: int, seed: int, budget: int) -> Simulation:
    """Evaluations of a method by workers, each of which asks as soon as its evaluation has ended."""
    result, running = Simulation(), list[tuple[float, int, Any, float]]()
    now = 0.0
    for number in range(budget):
        if number >= workers:
            now = _end(asker, running, result)
        began = time.process_time()
        trial, params = asker.ask()
        result.asks.append(time.process_time() - began)
        heapq.heappush(running, (now + duration(seed, number), number, trial, problem.value(params)))
    while running:
        _end(asker, running, result)
    return result


def _end(asker: Asker, running: list[tuple[float, int, Any, float]], result: Simulation) -> float:
    """Tells the outcome of the evaluation that ends next; returns when it ends."""
    end, _, trial, value = heapq.heappop(running)
    asker.tell(trial, value)
    result.values.append(value)
    result.ends.append(end)
    return end


def runs(
    methods: Iterable[str], problems: Iterable[str], workers: Iterable[int], seeds: int, out: Path
) -> None:
    """Runs what the file does not have yet, seed by seed."""
    keys = ("method", "seed", "problem", "workers")
    done = {tuple(row[key] for key in keys) for row in rows(out)} if out.exists() else set()
    torch.set_num_threads(1)
    for unit in itertools.product(methods, range(seeds), problems, workers):
        if unit in done:
            continue
        method, seed, name, count = unit
        problem, own = named_problem(name), seed_on(name, seed)
        began = time.perf_counter()
        asker = METHODS[method](Task(problem.space, own, EVALUATIONS[count], problem.noisy))
        result = simulate(asker, problem, count, own, EVALUATIONS[count])
        record = dict(zip(keys, unit, strict=True)) | {
            "minimum": problem.minimum,
            "values": result.values,
            "ends": [round(end, 6) for end in result.ends],
            "asks": [round(seconds, 5) for seconds in result.asks],
            "seconds": round(time.perf_counter() - began, 2),
        }
        with out.open("a") as file:
            file.write(json.dumps(record | json.loads(environment())) + "\n")
        print(*unit, f"regret {min(result.values) - problem.minimum:.2g}", record["seconds"], flush=True)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The stored runs."""
    return map(json.loads, path.read_text().splitlines())


# --- report ----------------------------------------------------------------------------------------------

Groups = dict[tuple[str, str], pd.DataFrame]
"""Runs by problem and method."""


def report(path: Path) -> str:
    """Tables of the stored runs, as Markdown."""
    frame = pd.DataFrame(rows(path))
    frame["regrets"] = [
        np.minimum.accumulate(values) - minimum
        for values, minimum in zip(frame["values"], frame["minimum"], strict=True)
    ]
    order = {name: position for position, name in enumerate(PROBLEMS)}
    frame = frame.sort_values("problem", key=lambda names: names.map(order), kind="stable")
    groups = dict(iter(frame.groupby(["problem", "method"], sort=False)))
    counts = sorted(frame["workers"].unique())
    own = {key: target for key, runs in groups.items() if (target := _target(runs)) is not None}
    common = {(name, method): own[name, COMMON] for name, method in groups if (name, COMMON) in own}
    law = f"median regret after {AT[0]} evaluations by one worker, or {SMALLEST_TARGET:g} if that is smaller"
    none = "none: half of the runs or more do not get there"
    return "\n\n".join(
        [
            f"Median log10 regret, by evaluations: workers\n\n{_regrets(groups, counts)}",
            f"Until a regret that is the method's own {law} (medians by workers; {none})",
            _targets(groups, counts, own),
            f"Until a regret that is {COMMON}'s {law} (medians by workers; {none})",
            _targets(groups, counts, common),
            f"Mean seconds of the processor of the first {AT[-1]} asks, by workers\n\n{_asks(frame, counts)}",
            f"Median simulated time of evaluations, by workers\n\n{_clock(frame, counts)}",
            "Commits: " + ", ".join(sorted(frame["commit"].unique())),
        ]
    )


def _target(runs: pd.DataFrame) -> float | None:
    """Regret of the median log10 of sequential runs after the first evaluations; None without such runs."""
    logs = _logs(_of(runs, 1), AT[0])
    return max(10 ** float(np.median(logs)), SMALLEST_TARGET) if logs else None


def _logs(runs: pd.DataFrame, evaluations: int) -> list[float]:
    """log10 regrets of runs after some evaluations."""
    return [float(np.log10(max(regrets[evaluations - 1], FLOOR))) for regrets in runs["regrets"]]


def _regrets(groups: Groups, counts: list[int]) -> str:
    table = [["problem", "method", "seeds", *(f"{n}: {workers}" for n in AT for workers in counts)]]
    for key, runs in groups.items():
        cells = (_median(_logs(_of(runs, workers), n), ".2f") for n in AT for workers in counts)
        table.append([*key, _seeds(runs), *cells])
    return _markdown(table)


def _targets(groups: Groups, counts: list[int], targets: dict[tuple[str, str], float]) -> str:
    columns = (f"{what}: {workers}" for what in ("evaluations", "time") for workers in counts)
    speeds = (f"speed-up: {workers}" for workers in counts[1:])
    table = [["problem", "method", "log10 regret", *columns, *speeds]]
    for key, target in targets.items():
        needed, times = zip(*(_until(_of(groups[key], workers), target) for workers in counts), strict=True)
        table.append(
            [
                *(*key, f"{np.log10(target):.2f}"),
                *(_median(numbers, ".0f") for numbers in needed),
                *(_median(moments, ".1f") for moments in times),
                *(_ratio(times[0], moments) for moments in times[1:]),
            ]
        )
    return _markdown(table)


def _until(runs: pd.DataFrame, target: float) -> tuple[list[float], list[float]]:
    """Evaluations and simulated times of each run until its regret is at most the target; inf if never."""
    needed, times = [], []
    for regrets, ends in zip(runs["regrets"], runs["ends"], strict=True):
        below = np.flatnonzero(regrets <= target * (1 + 1e-9))  # the target went through a logarithm
        needed.append(float(below[0] + 1) if len(below) else np.inf)
        times.append(ends[below[0]] if len(below) else np.inf)
    return needed, times


def _asks(frame: pd.DataFrame, counts: list[int]) -> str:
    table = [["method", *map(str, counts)]]
    for method, runs in frame.groupby("method", sort=False):
        means = (np.mean([asks[: AT[-1]] for asks in _of(runs, workers)["asks"]]) for workers in counts)
        table.append([method, *(f"{mean:.2g}" for mean in means)])
    return _markdown(table)


def _clock(frame: pd.DataFrame, counts: list[int]) -> str:
    table = [["evaluations", *map(str, counts)]]
    for n in AT:
        medians = (_median([ends[n - 1] for ends in _of(frame, w)["ends"]], ".1f") for w in counts)
        table.append([str(n), *medians])
    return _markdown(table)


def _of(runs: pd.DataFrame, workers: int) -> pd.DataFrame:
    return runs[runs["workers"] == workers]


def _seeds(runs: pd.DataFrame) -> str:
    sizes = runs.groupby("workers").size()
    return f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"


def _median(numbers: Iterable[float], form: str) -> str:
    middle = np.median(list(numbers) or [np.nan])
    return "" if np.isnan(middle) else "none" if np.isinf(middle) else f"{middle:{form}}"


def _ratio(sequential: list[float], parallel: list[float]) -> str:
    if not sequential or not parallel or not np.isfinite(np.median(sequential) + np.median(parallel)):
        return ""
    return f"{np.median(sequential) / np.median(parallel):.1f}×"


def _markdown(table: list[list[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join([head, "|---" * len(table[0]) + "|", *body])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run methods; what is stored is skipped")
    running.add_argument("--methods", default=",".join(METHODS), help="comma-separated")
    running.add_argument("--problems", default=",".join(PROBLEMS), help="comma-separated")
    running.add_argument("--workers", default=",".join(map(str, EVALUATIONS)), help="comma-separated")
    running.add_argument("--seeds", type=int, default=5)
    running.add_argument("--out", type=Path, required=True)
    commands.add_parser("report", help="print tables").add_argument("results", type=Path)
    args = parser.parse_args()
    if args.command == "run":
        workers = map(int, args.workers.split(","))
        runs(args.methods.split(","), args.problems.split(","), workers, args.seeds, args.out)
    else:
        print(report(args.results))


if __name__ == "__main__":
    main()
