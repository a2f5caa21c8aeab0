"""Methods on the suite `field`: eight classes of problems that others wrote. Runs them, and reports on them.

    python benchmarks/field.py run --methods bo_suite,tpe,smac --seeds 0:5 --out /tmp/field
    python benchmarks/field.py report --out /tmp/field
    python benchmarks/field.py compare bo_suite bo_suite_variant --out /tmp/field

`run` stores each class in a folder of OUT, skips what is stored, and can be stopped at any time. Seeds run
one after another, so every problem has seed 0 of every method before any has seed 1. A run has 40
evaluations, in the class field-high-dimensional 80, and is ended after twenty minutes. `--label NAME` stores
a method under another name, for a changed version of it. `report` and `compare` show what is there, also
while others run.
"""

import os

# Before numpy and torch are imported: one BLAS thread for every method.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from field_compare import comparison
from field_report import report
from field_runs import Runs, read

from bo_suite.bench import Method, get_method, get_suite, run_suite, suites
from bo_suite.problems import Problem

BUDGETS = {"field-high-dimensional": 80}
BUDGET = 40
TIME_LIMIT = 1200.0
CLASSES = tuple(name for name in suites() if name.startswith("field-"))


def run(
    classes: Sequence[str],
    methods: Sequence[Method],
    seeds: Sequence[int],
    out: Path,
    every: int,
    options: dict[str, Any],
) -> None:
    """Runs every method on each k-th problem of the classes, seed by seed."""
    problems = {name: [stored(problem) for problem in get_suite(name).build()[::every]] for name in classes}
    for seed in seeds:
        for name, own in problems.items():
            budget = BUDGETS.get(name, BUDGET)
            folder = out / name
            run_suite(
                own,
                methods,
                [seed],
                budget,
                folder,
                time_limit=TIME_LIMIT,
                together=1,
                progress=False,
                **options,
            )
            print(f"seed {seed} of {name}: {', '.join(method.name for method in methods)}", flush=True)


def stored(problem: Problem) -> Problem:
    """The problem without its best known value, which may be improved while its runs are stored."""
    return replace(problem, minimum=None, minimizers=(), best_known=None)


def chosen(names: str, label: str | None, python: Sequence[str]) -> list[Method]:
    """The methods of the command line."""
    interpreters = dict(one.split("=", 1) for one in python)
    methods = [get_method(name, interpreters.get(name)) for name in names.split(",")]
    if label is None:
        return methods
    if len(methods) > 1:
        raise SystemExit(f"--label names one method, got {names}")
    renamed: Any = methods[0]
    return [replace(renamed, name=label)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run methods")
    running.add_argument("--methods", required=True, help="comma-separated")
    running.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    running.add_argument("--workers", type=int, default=1)
    running.add_argument("--every", type=int, default=1, help="take each k-th problem of a class only")
    running.add_argument("--label", help="store the method under this name")
    running.add_argument("--python", action="append", default=[], metavar="METHOD=PYTHON")
    running.add_argument("--rerun", action="append", default=[], metavar="STATE", help="such as crashed")
    running.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    reporting = commands.add_parser("report", help="ranks and regrets of all methods")
    reporting.add_argument("--methods", help="comma-separated; all by default")
    reporting.add_argument("--own", default="bo_suite", help="the method whose weak problems are listed")
    reporting.add_argument("--common", action="store_true", help="only problems that all methods have run")
    comparing = commands.add_parser("compare", help="two methods, paired by problem and seed")
    comparing.add_argument("first", help="a method; METHOD@FOLDER if two folders have it")
    comparing.add_argument("second")
    for command in (reporting, comparing):
        command.add_argument("--out", type=Path, action="append", required=True, help="may be repeated")
        command.add_argument(
            "--visited",
            action="store_true",
            help="take the smallest noiseless value that a run visited, not the noiseless value at its best "
            "observed one",
        )
    for command in (running, reporting, comparing):
        command.add_argument("--classes", help="comma-separated; all by default")
    args = parser.parse_args()
    classes = tuple(args.classes.split(",")) if args.classes else CLASSES
    if args.command == "run":
        seeds = range(*(int(bound) for bound in args.seeds.split(":")))
        methods = chosen(args.methods, args.label, args.python)
        run(classes, methods, seeds, args.out, args.every, {"workers": args.workers, "again": args.rerun})
        return
    runs: Runs = read(args.out, classes, visited=args.visited)
    if args.command == "compare":
        print(comparison(runs, args.first, args.second))
        return
    runs = runs.of(args.methods.split(",")) if args.methods else runs
    print(report(runs.common() if args.common else runs, args.own))


if __name__ == "__main__":
    main()
