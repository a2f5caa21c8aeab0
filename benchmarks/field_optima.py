"""Finds the best known and the typical value of every problem of the suite `field`.

    python benchmarks/field_optima.py [--problems NAME,...] [--effort 1] [--seed 0] [--records FOLDER ...]

Writes `bo_suite/problems/field/data/references.csv` after each problem: problem, best_known, kind (exact or
seen), typical. Typical is the median of 200 uniform points. The minimum is exact where it is known: from
COCO, a formula, or all points of a table. Otherwise a search begins with 2,000 uniform points and improves
the best of them by mutation, and by CMA-ES and Nelder-Mead if all parameters are Floats. A call with another
seed or a larger effort, or with the records of suites (`--records`), improves what is there and never worsens
it.
"""

import argparse
import contextlib
import csv
import itertools
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from scipy.optimize import minimize

from bo_suite.bench.records import Records
from bo_suite.errors import SpaceError
from bo_suite.problems import Problem
from bo_suite.problems.field import FIELD_PROBLEMS
from bo_suite.problems.field.bocode import _loaded
from bo_suite.space.parameters import Choice, Float
from bo_suite.space.space import Params

FILE = Path(__file__).parents[1] / "bo_suite" / "problems" / "field" / "data" / "references.csv"
FIELDS = ("problem", "best_known", "kind", "typical")
UNIFORM = 2000
ENUMERATED = 20_000

FORMULAS = {
    "bocode_BraninCategorical": {"x1": math.pi, "x2": 2.275, "x3": 0.0},
    "bocode_GoldsteinLVGP": {"x1": 0.0, "x2": -1.0},
    "bocode_MixedAckley": {"x1": 0.0, "x2": 0.0, "x3": 0.0, "x4": 0.0, "x5": 0.0},
    "bocode_StyblinskiTangCat": {f"x{index}": -2.5 for index in range(1, 11)},
    "bocode_SchwefelCat": {f"x{index}": 500.0 / 3.0 for index in range(1, 21)},
}
"""Points that attain the minimum by the formulas of their authors."""


class Search:
    """The best value of a problem so far, over rows of positions in [0, 1]."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.generator = problem, np.random.default_rng(seed)
        self.rows = np.empty((0, problem.space.dim))
        self.values = np.empty(0)

    def evaluate(self, row: np.ndarray) -> float:
        clipped = np.clip(row, 0.0, 1.0)
        (point,) = self.problem.space.decode(torch.from_numpy(clipped)[None])
        value = value_or_inf(self.problem, point)
        self._store(clipped, value)
        return value

    def _store(self, row: np.ndarray, value: float) -> None:
        """Stores the row if it is among the twenty best."""
        self.rows, self.values = np.vstack((self.rows, row)), np.append(self.values, value)
        if len(self.values) > 40:
            order = np.argsort(self.values, kind="stable")[:20]
            self.rows, self.values = self.rows[order], self.values[order]

    def uniform(self, count: int) -> list[float]:
        return [self.evaluate(row) for row in uniform_rows(self.problem, self.generator, count)]

    def try_points(self, points: Iterable[Sequence[float]]) -> None:
        """Evaluates points in the units of the user; leaves those out that lie outside of the space."""
        names = [name for name, _ in self.problem.space]
        for values in points:
            with contextlib.suppress(SpaceError):
                point = self.problem.space.check(dict(zip(names, values, strict=True)))
                self.evaluate(self.problem.space.encode([point]).numpy()[0])

    def mutate(self, seconds: float, count: int) -> None:
        """Changes some columns of one of the best rows, by steps of all sizes or from another row."""
        began, space = time.perf_counter(), self.problem.space
        for _ in range(count):
            if time.perf_counter() - began > seconds:
                return
            order = np.argsort(self.values, kind="stable")
            row = self.rows[order[min(self.generator.geometric(0.3) - 1, len(order) - 1)]].copy()
            fresh = uniform_rows(self.problem, self.generator, 1)[0]
            share = max(1.0 / len(row), self.generator.random() ** 3)
            scale = 10.0 ** self.generator.uniform(-6.0, 0.0)
            for column, (_, parameter) in enumerate(space):
                if self.generator.random() >= share:
                    continue
                is_ordered = not isinstance(parameter, Choice) or parameter.ordered
                step = max(scale, 1.0 / (parameter.levels or math.inf)) * self.generator.standard_normal()
                is_near = isinstance(parameter, Float) or (is_ordered and self.generator.random() < 0.5)
                row[column] = row[column] + step if is_near else fresh[column]
            self.evaluate(row)

    def continuous(self, seconds: float) -> None:
        """CMA-ES with restarts, then Nelder-Mead and L-BFGS-B from the best row."""
        import cma

        began = time.perf_counter()
        for restart in itertools.count():
            if time.perf_counter() - began > seconds:
                break
            start = self.best_row() if restart % 2 == 0 else self.generator.random(self.rows.shape[1])
            options = {
                "bounds": [0.0, 1.0],
                "verbose": -9,
                "seed": int(self.generator.integers(1, 2**31)),
                "timeout": max(0.5, seconds - (time.perf_counter() - began)),
                "popsize": 10 + 10 * (restart % 4),
            }
            cma.fmin(self.evaluate, start, 0.1 if restart % 2 == 0 else 0.3, options)
        for method, limit in (("L-BFGS-B", 40), ("Nelder-Mead", 4000)):
            box = [(0.0, 1.0)] * self.rows.shape[1]
            minimize(self.evaluate, self.best_row(), method=method, bounds=box, options={"maxiter": limit})

    def hop(self, seconds: float) -> None:
        """Changes some of the discrete columns of one of the best rows, then minimises over its Floats."""
        began = time.perf_counter()
        parameters = [parameter for _, parameter in self.problem.space]
        floats = [index for index, parameter in enumerate(parameters) if isinstance(parameter, Float)]
        others = [index for index in range(len(parameters)) if index not in floats]
        while floats and time.perf_counter() - began < seconds:
            order = np.argsort(self.values, kind="stable")
            row = self.rows[order[min(self.generator.geometric(0.3) - 1, len(order) - 1)]].copy()
            fresh = uniform_rows(self.problem, self.generator, 1)[0]
            for column in self.generator.permutation(others)[: self.generator.integers(0, 3)]:
                row[column] = fresh[column]
            start = row[floats]
            if self.generator.random() < 0.3:
                start = np.clip(start + 0.1 * self.generator.standard_normal(len(floats)), 0.0, 1.0)

            def of_floats(values: np.ndarray, row: np.ndarray = row) -> float:
                row[floats] = values
                return self.evaluate(row)

            minimize(
                of_floats,
                start,
                method="Nelder-Mead",
                bounds=[(0.0, 1.0)] * len(floats),
                options={"maxfev": 150 * len(floats), "adaptive": True, "xatol": 1e-9, "fatol": 1e-12},
            )

    def best_row(self) -> np.ndarray:
        return self.rows[np.argmin(self.values)].copy()


def uniform_rows(problem: Problem, generator: np.random.Generator, count: int) -> np.ndarray:
    units = torch.from_numpy(generator.random((count, problem.space.dim)))
    return problem.space.encoding.sample_from_unit(units).numpy()


def value_or_inf(problem: Problem, point: Params) -> float:
    """The value of a point; inf if the evaluation fails."""
    try:
        return problem.value(point)
    except RuntimeError:
        return math.inf


def typical_value(problem: Problem) -> float:
    rows = torch.from_numpy(uniform_rows(problem, np.random.default_rng(0), 200))
    values = np.array([value_or_inf(problem, point) for point in problem.space.decode(rows)])
    return float(np.median(values[np.isfinite(values)]))


def exact_minimum(problem: Problem) -> float | None:
    """The minimum where it is known, or all points can be tried."""
    if problem.minimum is not None:
        return problem.minimum
    if problem.name in FORMULAS:
        return problem.value(FORMULAS[problem.name])
    if problem.name == "bocode_GearTrain":
        return gear_train()
    if problem.name.startswith(("bocode_HPOB_", "bocode_LCBench")):
        # The value is that of the nearest row of a pool, each of which is a point of the space.
        return -float(_loaded(problem.name.removeprefix("bocode_")).problem.values.max())
    if (problem.space.cardinality or ENUMERATED + 1) <= ENUMERATED:
        return min(value_or_inf(problem, point) for point in all_points(problem))
    return None


def all_points(problem: Problem) -> Iterator[Params]:
    options = {name: parameter.options for name, parameter in problem.space if isinstance(parameter, Choice)}
    for values in itertools.product(*options.values()):
        yield dict(zip(options, values, strict=True))


def gear_train() -> float:
    """The smallest error of all trains of four gears with 12 to 60 teeth."""
    teeth = np.arange(12.0, 61.0)
    products = np.unique(np.outer(teeth, teeth))
    return float(((1.0 / 6.931 - products[:, None] / products[None, :]) ** 2).min())


def searched(problem: Problem, seed: int, effort: float) -> float:
    """The smallest value that the search finds; `effort` minutes, about."""
    search = Search(problem, seed)
    search.uniform(UNIFORM)
    if problem.name.startswith("bocode_"):
        search.try_points(_loaded(problem.name.removeprefix("bocode_")).problem.x_opt or ())
    if all(isinstance(parameter, Float) for _, parameter in problem.space):
        search.continuous(30.0 * effort)
    else:
        search.hop(15.0 * effort)
    search.mutate(15.0 * effort, 200_000)
    search.hop(15.0 * effort)
    return float(search.values.min())


def seen_in(folders: list[Path]) -> dict[str, float]:
    """The smallest noiseless value of each problem in the records of suites."""
    best: dict[str, float] = {}
    for folder in folders:
        for name, value in Records.read(folder).evaluations.groupby("problem")["true_value"].min().items():
            best[str(name)] = min(best.get(str(name), math.inf), float(value))
    return best


def read() -> dict[str, dict[str, str]]:
    if not FILE.exists():
        return {}
    with FILE.open(newline="") as file:
        return {row["problem"]: row for row in csv.DictReader(file)}


def write(rows: dict[str, dict[str, str]]) -> None:
    ordered = [rows[name] for name in FIELD_PROBLEMS if name in rows]
    temporary = FILE.with_suffix(".new")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
    temporary.replace(FILE)


def reference(
    problem: Problem, old: dict[str, str] | None, arguments: argparse.Namespace, seen: float
) -> dict[str, str]:
    """The row of a problem, no worse than the old one and than what was seen elsewhere."""
    typical = float(old["typical"]) if old else typical_value(problem)
    best, kind = exact_minimum(problem), "exact"
    if best is None:
        kind, best = "seen", min(seen, float(old["best_known"]) if old else math.inf)
        if arguments.effort > 0.0:
            best = min(best, searched(problem, arguments.seed, arguments.effort))
    values = (problem.name, repr(best), kind, repr(typical))
    return dict(zip(FIELDS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", default=",".join(FIELD_PROBLEMS))
    parser.add_argument("--effort", type=float, default=1.0, help="minutes a problem; 0 for no search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--missing", action="store_true", help="leave out problems that the file has")
    parser.add_argument("--records", nargs="*", type=Path, default=[])
    arguments = parser.parse_args()
    rows, seen = read(), seen_in(arguments.records)
    for name in arguments.problems.split(","):
        old = rows.get(name)
        if old is not None and (arguments.missing or old["kind"] == "exact"):
            continue
        problem = FIELD_PROBLEMS[name]()
        rows[name] = reference(problem, old, arguments, seen.get(name, math.inf))
        if not math.isfinite(float(rows[name]["best_known"])):
            sys.exit(f"{name} has no best known value: give --effort above 0")
        write(rows)
        print(rows[name], "before", old["best_known"] if old else None, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
