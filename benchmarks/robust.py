"""Whether the broad one of two minima is recommended where settings vary, and the sharp one where not.

    python benchmarks/robust.py --seeds 0:10 --out /tmp/robust.jsonl

A function with a sharp minimum of about -1 and a broad one of about -0.75, of one and of two parameters. In
"exact" runs it is evaluated at the points that were asked for; in "noisy" ones at points with normal noise,
of which `params_std` tells the deviation, and in "untold" ones it does not. Then `recommend()` and, with the
same deviation, `recommend(robust=)` are compared with the two minima. Every run is stored, so the script can
be stopped and continued. Prints a row for each function and kind of run: in how many runs `recommend()`
returned the sharp minimum and `recommend(robust=)` the broad one, and medians of what their mean outcome over
the noise is above the smallest one.
"""

import os

# Before numpy and torch are imported: one BLAS thread.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bo_suite import Float, Optimizer, Space
from bo_suite.bench.environment import command, environment

KINDS = ("exact", "noisy", "untold")


@dataclass(frozen=True)
class TwoMinima:
    """-exp(-|x - sharp|² / 2 width²) - depth exp(-|x - broad|² / 2 spread²) on [0, 1]^d.

    Attributes:
        sharp: one minimum.
        width: of it.
        broad: the other minimum.
        spread: of it.
        depth: of it.
        noise: standard deviation of what is set in each parameter.
        budgets: number of evaluations with exact and with noisy settings.
    """

    sharp: tuple[float, ...]
    width: float
    broad: tuple[float, ...]
    spread: float
    depth: float
    noise: float
    budgets: tuple[int, int]

    @property
    def names(self) -> list[str]:
        """Names of the parameters."""
        return [f"x{index}" for index in range(len(self.sharp))]

    @property
    def std(self) -> dict[str, float]:
        """The noise by name."""
        return dict.fromkeys(self.names, self.noise)

    def value(self, x: Sequence[float], noise: float = 0.0) -> float:
        """The function or, for a noise above 0, its mean over it, as if there were no ends of the range."""
        total = 0.0
        for centre, width, depth in ((self.sharp, self.width, 1.0), (self.broad, self.spread, self.depth)):
            square = sum((one - other) ** 2 for one, other in zip(x, centre, strict=True))
            wider = width**2 + noise**2
            total -= depth * (width**2 / wider) ** (len(x) / 2) * float(np.exp(-0.5 * square / wider))
        return total

    @property
    def best_mean(self) -> float:
        """The smallest mean over the noise, on a grid."""
        grid = itertools.product(
            np.linspace(0.0, 1.0, 201 if len(self.names) == 1 else 101), repeat=len(self.names)
        )
        return min(self.value(x, self.noise) for x in grid)

    def is_at(self, x: Sequence[float], centre: Sequence[float]) -> bool:
        """Whether a point is nearer to one minimum than to half of the way to the other."""
        half = 0.5 * float(np.linalg.norm(np.subtract(self.sharp, self.broad)))
        return float(np.linalg.norm(np.subtract(x, centre))) < half


FUNCTIONS = {
    "one parameter": TwoMinima((0.25,), 0.05, (0.7,), 0.15, 0.8, 0.06, (30, 40)),
    "two parameters": TwoMinima((0.3, 0.3), 0.1, (0.65, 0.65), 0.25, 0.7, 0.15, (60, 100)),
}


def run(function: TwoMinima, seed: int, kind: str) -> dict[str, Any]:
    """What was recommended in a run, and the seconds that it took."""
    draws, start = np.random.default_rng(seed), time.monotonic()
    optimizer = Optimizer(Space({name: Float(0, 1) for name in function.names}), seed=seed)
    for _ in range(function.budgets[kind != "exact"]):
        trial = optimizer.ask()
        asked = [trial.params[name] for name in function.names]
        if kind == "exact":
            optimizer.tell(trial, function.value(asked))
            continue
        actual = np.clip(asked + function.noise * draws.standard_normal(len(asked)), 0.0, 1.0)
        told = function.std if kind == "noisy" else None
        optimizer.tell(trial, function.value(actual.tolist()), params_std=told)
    points = {"plain": optimizer.recommend(), "robust": optimizer.recommend(robust=function.std)}
    line: dict[str, Any] = {name: list(point.values()) for name, point in points.items()}
    return line | {"seconds": time.monotonic() - start}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0:10", help="range of seeds, first:last")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of runs")
    parser.add_argument("--functions", default=",".join(FUNCTIONS), help="names of the functions")
    parser.add_argument("--out", type=Path, required=True, help="file of the runs, JSON lines")
    args = parser.parse_args()
    args.out.touch()
    lines = [json.loads(line) for line in args.out.read_text().splitlines()]
    runs = {(line["function"], line["kind"], line["seed"]): line for line in lines}
    heads = ["settings", "function", "evaluations", "`recommend()` sharp", "`recommend(robust=)` broad"]
    heads += [
        "mean over the noise above the smallest: `recommend()`",
        "`recommend(robust=)`",
        "seconds a run",
    ]
    print(command(), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", sep="\n")
    for kind, name in itertools.product(args.kinds.split(","), args.functions.split(",")):
        function = FUNCTIONS[name]
        own = []
        for seed in range(*map(int, args.seeds.split(":"))):
            if (name, kind, seed) not in runs:
                line = {"function": name, "kind": kind, "seed": seed, "environment": environment()}
                runs[name, kind, seed] = line | run(function, seed, kind)
                with args.out.open("a") as stream:
                    stream.write(json.dumps(runs[name, kind, seed]) + "\n")
            own.append(runs[name, kind, seed])
        sharp = sum(function.is_at(line["plain"], function.sharp) for line in own)
        broad = sum(function.is_at(line["robust"], function.broad) for line in own)
        above = [
            np.median([function.value(line[which], function.noise) for line in own]) - function.best_mean
            for which in ("plain", "robust")
        ]
        cells = [kind, name, str(function.budgets[kind != "exact"]), f"{sharp} of {len(own)}"]
        cells += [f"{broad} of {len(own)}", *(f"{one:.3f}" for one in above)]
        seconds = np.median([line["seconds"] for line in own])
        print(f"| {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
