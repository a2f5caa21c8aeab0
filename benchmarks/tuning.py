"""Models tuned through Optuna and through scikit-learn: bo_suite's doors beside what is used there.

    python benchmarks/tuning.py optuna --seeds 0:10 --out /tmp/tuning/optuna
    python benchmarks/tuning.py sklearn --seeds 0:10 --out /tmp/tuning/sklearn
    python benchmarks/tuning.py overhead --out /tmp/tuning/overhead.jsonl

The first two run 50 evaluations of each of the eight problems of the suite `tuning`. What has ended is in
OUT, so a stopped benchmark goes on where it was; `--methods none` prints the tables of what is there. They
write OUT/report.html and OUT/units.jsonl, a line a run. `--python hebo=PYTHON` gives a method another
interpreter. The third times what stands between two evaluations, on a function that costs nothing.
"""

import os

# Before numpy and torch are imported: one thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tuning_searches import SEARCHES, run_searches

from bo_suite.bench import Method, Records, Task, compare, get_method, report, run_suite
from bo_suite.bench.bootstrap import median_interval
from bo_suite.bench.environment import command, environment
from bo_suite.bench.peers.optuna_study import OptunaStudy
from bo_suite.bench.unit import seed_on
from bo_suite.linalg.environment import one_thread
from bo_suite.problems import get_problem
from bo_suite.problems.tuning import TUNING
from bo_suite.space.space import Params, Space

BUDGET = 50

DOOR = OptunaStudy("optuna:bo_suite", "bo_suite.integrations.optuna:BoSuiteSampler")
"""Our sampler in an Optuna study."""

OPTUNA = (DOOR.name, "bo_suite", "tpe", "optuna_gp", "random")
"""Methods that are run where none are named; `hebo` needs an interpreter of its own."""


def optuna_door(names: Sequence[str], pythons: dict[str, str], args: argparse.Namespace) -> None:
    """Runs of samplers and of our own loop."""
    methods = [DOOR if name == DOOR.name else get_method(name, pythons.get(name)) for name in names]
    run_suite(args.problems, methods, args.seeds, args.budget, args.out, workers=args.workers, together=1)


# --- tables ----------------------------------------------------------------------------------------------


def tables(folder: Path) -> str:
    """What the records of a folder show, as Markdown."""
    records = Records.read(folder)
    compared = compare(records)
    methods = [str(name) for name in compared.ranks.table["method"]]
    return "\n".join(
        [
            *_markdown(["median final loss (95% interval)", *methods], _final_rows(compared.finals, methods)),
            "",
            *_markdown(
                ["method", "mean rank", "95% interval", "rank of medians", "overhead a trial, s", "runs"],
                _rank_rows(records, compared.ranks.table),
            ),
            "",
            *compared.sentences,
        ]
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _final_rows(finals: pd.DataFrame, methods: Sequence[str]) -> list[list[str]]:
    rows = []
    for problem in [name for name in TUNING if name in set(finals["problem"])]:
        cells = [f"{problem}"]
        for method in methods:
            own = finals[(finals["problem"] == problem) & (finals["method"] == method)]
            values = own["incumbent"].fillna(np.inf).to_numpy(dtype=np.float64)
            cells.append(_median(values) if len(values) else "")
        rows.append(cells)
    return rows


def _median(values: np.ndarray) -> str:
    low, high = (float(end) for end in median_interval(values))
    ends = "" if np.isnan(low) else f" ({low:.4g} to {high:.4g})"
    return f"{np.median(values):.4g}{ends}"


def _rank_rows(records: Records, ranks: pd.DataFrame) -> list[list[str]]:
    seconds = records.evaluations.assign(
        overhead=records.evaluations["ask_seconds"] + records.evaluations["tell_seconds"]
    )
    means = seconds.groupby("method")["overhead"].mean()
    units = records.units
    rows = []
    for row in ranks.to_dict("records"):
        own = units[units["method"] == row["method"]]
        crashed = int((own["state"] != "finished").sum())
        rows.append(
            [
                str(row["method"]),
                f"{row['mean_rank']:.2f}",
                f"{row['low']:.2f} to {row['high']:.2f}",
                f"{row['problem_rank']:.2f}",
                f"{means.get(row['method'], np.nan):.4f}",
                f"{len(own)}" + (f", {crashed} not finished" if crashed else ""),
            ]
        )
    return rows


def write_units(folder: Path) -> Path:
    """A line of JSON a run: its losses so far by evaluation, its seconds, and where it ran."""
    records = Records.read(folder)
    places = records.environments.set_index("environment").to_dict("index")
    runs = dict(iter(records.evaluations.groupby(["problem", "method", "seed"])))
    path = folder / "units.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for unit in records.units.to_dict("records"):
            rows = runs.get((unit["problem"], unit["method"], unit["seed"]))
            line = {name: unit[name] for name in ("problem", "method", "seed", "state", "reason", "seconds")}
            if rows is not None:
                so_far = np.fmin.accumulate(rows["value"].to_numpy(dtype=np.float64))
                line["best_so_far"] = [float(loss) if np.isfinite(loss) else None for loss in so_far]
                line["overhead_seconds"] = float((rows["ask_seconds"] + rows["tell_seconds"]).mean())
                line["evaluate_seconds"] = float(rows["evaluate_seconds"].mean())
            place = dict(places[unit["environment"]])
            place["versions"] = json.loads(place["versions"])
            file.write(json.dumps(line | place, allow_nan=False, default=int) + "\n")
    return path


# --- overhead --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bowl:
    """A function that costs nothing: squared distance in the unit cube from a fixed point."""

    space: Space

    def __call__(self, params: Params) -> float:
        """The value of a point."""
        row = self.space.encode([params])[0]
        return float(((row - 0.3) ** 2).sum())


def overhead(names: Sequence[str], args: argparse.Namespace) -> str:
    """Wall and CPU seconds of ask and tell, by method; runs of the methods take turns."""
    space = get_problem(args.problems[0]).space
    methods = [DOOR if name == DOOR.name else get_method(name) for name in names]
    lines: list[dict[str, Any]] = []
    with one_thread():
        for method in methods:  # imports and compilation are nobody's trial
            _timed(method, Bowl(space), 10_000, min(args.budget, 25))
        for seed in args.seeds:
            for method in methods:
                wall, cpu = _timed(method, Bowl(space), seed, args.budget)
                lines.append(
                    {"method": method.name, "problem": args.problems[0], "seed": seed}
                    | {"trials": args.budget, "wall": wall, "cpu": cpu, "command": command()}
                    | json.loads(environment())
                )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return _overhead_table(lines, names)


def _timed(method: Method, function: Bowl, seed: int, trials: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of each trial's ask and tell."""
    own = seed_on("overhead", seed)
    run, wall, cpu = method.start(Task(function.space, own, trials, False)), list[float](), list[float]()
    for _ in range(trials):
        began, busy = time.perf_counter(), time.process_time()
        params = run.ask()
        asked, used = time.perf_counter() - began, time.process_time() - busy
        value = function(params)
        began, busy = time.perf_counter(), time.process_time()
        run.tell(params, value)
        wall.append(asked + time.perf_counter() - began)
        cpu.append(used + time.process_time() - busy)
    return wall, cpu


def _overhead_table(lines: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    def cells(kind: str, name: str) -> list[float]:
        runs = np.array([line[kind] for line in lines if line["method"] == name])
        return [float(np.median(1e3 * part)) for part in (runs.mean(axis=1), runs[:, -10:].mean(axis=1))]

    own = cells("cpu", "bo_suite")[0] if "bo_suite" in names else np.nan
    rows = []
    for name in names:
        wall, cpu = cells("wall", name), cells("cpu", name)
        rows.append([name, *(f"{cell:.1f}" for cell in (*wall, *cpu)), f"{cpu[0] / own:.2f}"])
    head = [
        "method",
        "wall ms a trial",
        "the last ten",
        "CPU ms a trial",
        "the last ten",
        "CPU, bo_suite = 1",
    ]
    return "\n".join(_markdown(head, rows))


# --- command line ----------------------------------------------------------------------------------------


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("door", choices=("optuna", "sklearn", "overhead"))
    parser.add_argument("--methods", help="comma-separated; none for tables alone")
    parser.add_argument("--problems", help="comma-separated; all of the suite by default")
    parser.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--workers", type=int, default=1, help="of the Optuna door")
    parser.add_argument("--python", action="append", default=[], metavar="METHOD=PYTHON")
    parser.add_argument("--out", type=Path, required=True, help="outside the repository")
    args = parser.parse_args()
    args.seeds = range(*(int(bound) for bound in args.seeds.split(":")))
    args.problems = args.problems.split(",") if args.problems else list(TUNING)
    return args


def main() -> None:
    """Command line."""
    args = _parsed()
    known = tuple(SEARCHES) if args.door == "sklearn" else OPTUNA
    names = args.methods.split(",") if args.methods else list(known)
    if args.door == "overhead":
        print(overhead(names, args))
        return
    if names != ["none"] and args.door == "sklearn":
        run_searches(args.problems, names, args.seeds, args.budget, args.out)
    elif names != ["none"]:
        optuna_door(names, dict(one.split("=", 1) for one in args.python), args)
    print(tables(args.out))
    print(f"\n{write_units(args.out)} {report(args.out)}")


if __name__ == "__main__":
    main()
