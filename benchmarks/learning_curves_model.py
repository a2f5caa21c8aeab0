"""What the model of learning curves is worth: is its probability of improvement right, and is it fast?

    python benchmarks/learning_curves_model.py calibration --data FOLDER --seeds 0:3
    python benchmarks/learning_curves_model.py speed

`calibration` runs random search with asynchronous halving from step 5 on, with 4 simulated workers, on the
tasks of lcbench at even positions of the sorted ids, for 12.5 mean whole evaluations. At 12 moments of each
run it asks the model for the probability that each unfinished trial would be better at epoch 52 than the
best finished trial, and compares with its whole curve. `speed` times an ask of an Optimizer that has 200
trials with reports up to step 52, a twentieth of them finished, on one thread, and the fits of the models
of curves.
"""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy and torch are imported

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from learning_curves_best import development_problem, development_tasks
from rich.console import Console
from rich.table import Table

from bo_suite import Optimizer
from bo_suite.bench import simulate
from bo_suite.bench.simulation import CurveTask, RandomCurves, Simulation
from bo_suite.data import Seeds
from bo_suite.problems.curves import LearningCurves, SlowStarters
from bo_suite.run.schedulers import ASHA, CurveStopping
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.curves import curve_belief
from bo_suite.surrogates import DecayGP, FreezeThaw

BEST = Path(__file__).parent / "results" / "lcbench_best.json"
MOMENTS, BINS, FINISHED = 12, 10, 7


def trials_at(simulation: Simulation, problem: LearningCurves, moment: float) -> list[Trial]:
    """The trials as they were at a moment; one that is not finished by then counts as stopped."""
    last: dict[int, int] = {}
    for event in simulation.events:
        if event.seconds <= moment:
            last[event.trial] = event.step
    trials = []
    for one in simulation.trials:
        if (step := last.get(one.id, 0)) == 0:
            continue
        curve = problem.curve(one.params)
        reports = tuple(
            Report(t, float(curve.values[t - 1]), float(curve.seconds[t - 1]), 1, "continue")
            for t in range(1, step + 1)
        )
        state = "finished" if step == problem.max_step else "stopped"
        value = float(curve.values[step - 1])
        trials.append(
            Trial(one.id, one.params, state, value, None, None, 1, True, {}, 0.0, 1.0, reports=reports)
        )
    return trials


def judgements(task: int, seed: int, data: str | None) -> list[tuple[float, bool]]:
    """(probability of improvement, whether it was one) of the unfinished trials at the moments of one run."""
    problem = development_problem(task, data)
    unit = json.loads(BEST.read_text())[str(task)]["mean_seconds"]
    method = RandomCurves("asha", lambda last: ASHA(last, 5))
    simulation = simulate(problem, method.start_curves(CurveTask.of(problem, seed)), 4, 12.5 * unit)
    finals = {one.id: one.final for one in simulation.trials}
    pairs = []
    for moment in np.linspace(0.0, simulation.seconds, MOMENTS + 1)[1:]:
        trials = trials_at(simulation, problem, float(moment))
        finished = [one.value for one in trials if one.state == "finished" and one.value is not None]
        unfinished = [one for one in trials if one.state != "finished"]
        if len(finished) < FINISHED or not unfinished:
            continue
        curves = curve_belief(trials, -1.0, problem.max_step)
        for one in unfinished:
            pairs.append((curves.probability_of_improvement(one), finals[one.id] > max(finished)))
    return pairs


def calibration(options: argparse.Namespace, console: Console) -> None:
    """The subcommand `calibration`."""
    first, end = (int(bound) for bound in options.seeds.split(":"))
    pairs = [
        pair
        for task in development_tasks(options.data)
        for seed in range(first, end)
        for pair in judgements(task, seed, options.data)
    ]
    chances = np.array([chance for chance, _ in pairs])
    better = np.array([improved for _, improved in pairs])
    table = Table("probability", "trials", "mean probability", "share that was better")
    bins = np.minimum((chances * BINS).astype(int), BINS - 1)
    for index in range(BINS):
        inside = bins == index
        shares = (chances[inside].mean(), better[inside].mean()) if inside.any() else (np.nan, np.nan)
        bounds = f"{index / BINS:.1f} to {(index + 1) / BINS:.1f}"
        table.add_row(bounds, str(int(inside.sum())), *(f"{share:.3f}" for share in shares))
    console.print(table)
    low = chances < 0.05
    console.print(
        f"{len(pairs)} judgements; Brier score {np.mean((chances - better) ** 2):.4f}, of the mean share "
        f"{np.mean((better.mean() - better) ** 2):.4f}; below 0.05: {int(low.sum())}, of which "
        f"{int(better[low].sum())} of {int(better.sum())} were better"
    )


def speed(options: argparse.Namespace, console: Console) -> None:
    """The subcommand `speed`."""
    torch.set_num_threads(1)
    problem = SlowStarters(52)
    optimizer = Optimizer(problem.space, scheduler=CurveStopping(52), seed=0)
    points = Optimizer(problem.space, seed=1, initial=200)
    for number in range(200):
        params = points.ask().params
        optimizer.enqueue(params)
        trial, curve = optimizer.ask(), problem.curve(params)
        steps = 52 if number % 20 == 0 else (5, 8, 11, 17, 25)[number % 5]
        for step in range(1, steps + 1):
            value, seconds = float(curve.values[step - 1]), float(curve.seconds[step - 1])
            if optimizer.report(trial, step, value, seconds) == "stop":
                break
        else:
            if steps == 52:
                optimizer.tell(trial, float(curve.values[-1]))
    rows = []
    for name in ("first ask", "second ask", "third ask"):
        before = time.perf_counter()
        optimizer.ask()
        rows.append((name, time.perf_counter() - before))
    data = optimizer._suggester.observations.dataset(optimizer.trials)
    for name, surrogate in (("fit of FreezeThaw", FreezeThaw()), ("fit of DecayGP", DecayGP())):
        before = time.perf_counter()
        surrogate.fit(data, Seeds((0,)))
        rows.append((name, time.perf_counter() - before))
    table = Table("200 trials with reports", "seconds")
    for name, seconds in rows:
        table.add_row(name, f"{seconds:.2f}")
    console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    right = commands.add_parser("calibration", help="is the probability of improvement right?")
    right.add_argument("--data", help="folder of lcbench; without it that in BO_SUITE_DATA")
    right.add_argument("--seeds", default="0:3", help="first:end, the end left out")
    commands.add_parser("speed", help="how long do an ask and the fits take?")
    options = parser.parse_args()
    {"calibration": calibration, "speed": speed}[options.command](options, Console(width=120))


if __name__ == "__main__":
    main()
