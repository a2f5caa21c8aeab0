"""What an ask costs where every column is discrete, in units of LogExpectedImprovement on the same data.

    python benchmarks/slow_corners.py ratios
    python benchmarks/slow_corners.py dimensions

`ratios` prints a table: for each space, number of observations and number of pending points, the CPU seconds
of one suggestion by LogExpectedImprovement, and how many times as long each other acquisition takes. Where
the space has fidelities, LogExpectedImprovement sees them as plain columns. Each number is the smallest of
three repeats, from hyperparameters that an earlier suggestion has found. `dimensions` prints the CPU seconds
of the asks of a run in spaces of very many parameters. All of it runs in one process, with one thread.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bo_suite.study.observations import dataset_of
from bo_suite.study.step import next_steps

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite import acquisition as acquisitions
from bo_suite.acquisition import Acquisition
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import BoSuiteError

OPTIONS = [f"option {number}" for number in range(30)]

SPACES = {
    "15 Int(0, 1000)": Space({f"x{i}": Int(0, 1000) for i in range(15)}),
    "15 Choice of 30": Space({f"x{i}": Choice(OPTIONS) for i in range(15)}),
    "5 Float, 5 Int, 5 Choice": Space(
        {f"f{i}": Float(0, 1) for i in range(5)}
        | {f"n{i}": Int(0, 1000) for i in range(5)}
        | {f"c{i}": Choice(OPTIONS) for i in range(5)}
    ),
    "1 Int(0, 1000)": Space({"x": Int(0, 1000)}),
    "1 Int(0, 10**12)": Space({"x": Int(0, 10**12)}),
    "15 Int, 1 fidelity": Space(
        {f"x{i}": Int(0, 1000) for i in range(15)} | {"epochs": Int(1, 100, fidelity=True)}
    ),
    "mixed, 1 fidelity": Space(
        {f"f{i}": Float(0, 1) for i in range(5)}
        | {f"n{i}": Int(0, 1000) for i in range(5)}
        | {f"c{i}": Choice(OPTIONS) for i in range(5)}
        | {"share": Float(0.1, 1, fidelity=True)}
    ),
    "15 Float": Space({f"x{i}": Float(0, 1) for i in range(15)}),
}

OTHERS = (
    *("ThompsonSampling", "KnowledgeGradient", "UpperConfidenceBound", "NoisyExpectedImprovement"),
    "Bore",
)


def data_of(space: Space, observations: int, pending: int) -> Dataset:
    """Rows at random; the outcome is a bumpy function of the positions of their columns."""
    uniform = torch.rand(
        (observations + pending, space.dim), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    rows = space.encoding.project(space.encoding.sample_from_unit(uniform))
    center = torch.linspace(0.2, 0.8, space.dim, dtype=torch.float64)
    value = (rows - center).square().mean(-1) + 0.1 * torch.sin(7.0 * rows).mean(-1)
    data = dataset_of(space, rows[:observations], value[:observations])
    return replace(data, pending=rows[observations:])


def seconds(acquisition: Acquisition, space: Space, data: Dataset, repeats: int) -> float:
    """CPU seconds of a suggestion from the hyperparameters of another, the least of some repeats."""
    (first,) = next_steps(data, space, acquisition, Seeds.of(0, 0), [None])
    if first.source != "acquisition":
        raise RuntimeError(f"{acquisition} has failed: {first.reason}")
    took = []
    for turn in range(repeats):
        began = time.process_time()
        next_steps(data, space, acquisition, Seeds.of(1, turn), [first.start])
        took.append(time.process_time() - began)
    return min(took)


def ratios(
    names: Sequence[str], spaces: Sequence[str], counts: Sequence[int], pendings: Sequence[int]
) -> None:
    """Prints the table of ratios."""
    print("| space | observations | pending | LogEI, s | " + " | ".join(names) + " |")
    print("|---|---|---|---|" + "---|" * len(names), flush=True)
    for title in spaces:
        space = SPACES[title]
        for observations in counts:
            for pending in pendings:
                data = data_of(space, observations, pending)
                plain = replace(data, columns=replace(data.columns, fidelities=()))
                unit = seconds(acquisitions.LogExpectedImprovement(), space, plain, 3)
                cells = []
                for name in names:
                    chosen = getattr(acquisitions, name)()
                    if space.fidelities and name != "KnowledgeGradient":
                        cells.append("")
                        continue
                    cells.append(f"{seconds(chosen, space, data, 3) / unit:.1f}")
                row = [title, str(observations), str(pending), f"{unit:.3f}", *cells]
                print("| " + " | ".join(row) + " |", flush=True)


LARGE: dict[str, Callable[[int], Space]] = {
    "Float": lambda count: Space({f"x{i}": Float(0, 1) for i in range(count)}),
    "Int(0, 1000)": lambda count: Space({f"x{i}": Int(0, 1000) for i in range(count)}),
    "Choice of 5": lambda count: Space({f"x{i}": Choice(["a", "b", "c", "d", "e"]) for i in range(count)}),
    "Float(1e-4, 1), log": lambda count: Space({f"x{i}": Float(1e-4, 1, log=True) for i in range(count)}),
    "mixed": lambda count: Space(
        {f"x{i}": (Float(0, 1), Int(0, 1000), Choice(["a", "b", "c", "d", "e"]))[i % 3] for i in range(count)}
    ),
}


def asks(space: Space, observations: int) -> Iterator[float]:
    """Seconds of each ask of a run."""
    optimizer = Optimizer(space, seed=0)
    center = np.linspace(0.2, 0.8, space.dim)
    for _ in range(observations):
        began = time.process_time()
        trial = optimizer.ask()
        yield time.process_time() - began
        row = space.encode([trial.params])[0].numpy()
        optimizer.tell(trial, float(np.square(row - center).sum()))


def dimensions(counts: Sequence[int], kinds: Sequence[str], observations: int) -> None:
    """Prints seconds of an ask by kind and number of parameters."""
    print("| kind | parameters | first ask, s | slowest by the model, s | median by the model, s |")
    print("|---|---|---|---|---|", flush=True)
    for kind in kinds:
        for count in counts:
            try:
                took = list(asks(LARGE[kind](count), observations))
            except BoSuiteError as error:
                print(f"| {kind} | {count} | {error} |", flush=True)
                continue
            by_model = sorted(took[6:])
            middle = by_model[len(by_model) // 2]
            print(f"| {kind} | {count} | {took[0]:.2f} | {by_model[-1]:.2f} | {middle:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    ratio = commands.add_parser("ratios")
    ratio.add_argument("--acquisitions", nargs="+", choices=OTHERS, default=OTHERS)
    ratio.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    ratio.add_argument("--observations", nargs="+", type=int, default=[30, 100])
    ratio.add_argument("--pending", nargs="+", type=int, default=[0, 4])
    large = commands.add_parser("dimensions")
    large.add_argument("--parameters", nargs="+", type=int, default=[100, 300, 1000, 22_000])
    large.add_argument("--kinds", nargs="+", choices=list(LARGE), default=list(LARGE))
    large.add_argument("--observations", type=int, default=16)
    given = parser.parse_args()
    if given.command == "ratios":
        ratios(given.acquisitions, given.spaces, given.observations, given.pending)
    else:
        dimensions(given.parameters, given.kinds, given.observations)
