"""What objectives.py, limits.py and model_choice.py of benchmarks/ share: runs of suites, and tables of gaps.

Each problem has a folder of its own in OUT, which `run_suite` writes: a run that has ended is skipped by the
next command, and several may share OUT. `report` also writes OUT/runs.jsonl, a line a run, with the commit,
the versions of the libraries and the seed.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bo_suite.bench import compare, get_method, run_suite
from bo_suite.bench.feasibility import stored_goals
from bo_suite.bench.records import Records
from bo_suite.bench.store import FILE
from bo_suite.bench.suite import named_problem
from bo_suite.bench.trajectories import finals, trajectories
from bo_suite.problems.outcomes import OutcomeProblem

TIME_LIMIT = 3600.0
_FLOOR = 1e-9
"""Of a gap, as a share of the best known value (at least 1), before its logarithm."""


@dataclass(frozen=True)
class Claim:
    """A benchmark.

    Attributes:
        doc: of its script.
        suites: names of the problems, by suite.
        gap: what the gap is called.
        at: numbers of evaluations after which runs are compared; the last is the budget.
    """

    doc: str
    suites: dict[str, tuple[str, ...]]
    gap: str
    at: tuple[int, ...] = (60, 100)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(name for names in self.suites.values() for name in names)


def main(claim: Claim) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=claim.doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run methods; what is stored is skipped")
    running.add_argument("--methods", required=True, help="comma-separated")
    running.add_argument("--seeds", default="0:10", help="first:end, the end left out")
    running.add_argument("--python", action="append", default=[], metavar="METHOD=PYTHON")
    running.add_argument("--label", help="store the one method under this name")
    running.add_argument("--rerun", action="append", default=[], metavar="STATE", help="such as crashed")
    reporting = commands.add_parser("report", help="print the tables, and write runs.jsonl")
    reporting.add_argument("--methods", help="comma-separated; all by default")
    for command in (running, reporting):
        command.add_argument("--problems", help="comma-separated problems or suites; all by default")
        command.add_argument("--out", type=Path, required=True, help="a folder outside the repository")
    args = parser.parse_args()
    names = _chosen(claim, args.problems)
    if args.command == "report":
        print(report(claim, names, args.out, args.methods and args.methods.split(",")))
        return
    interpreters = dict(one.split("=", 1) for one in args.python)
    methods: list[Any] = [get_method(name, interpreters.get(name)) for name in args.methods.split(",")]
    if args.label:
        (method,) = methods
        methods = [replace(method, name=args.label)]
    for seed in range(*(int(bound) for bound in args.seeds.split(":"))):
        for name in names:
            run(claim, name, methods, seed, args.out, args.rerun)
        print(f"seed {seed}: {args.methods}", flush=True)


def _chosen(claim: Claim, text: str | None) -> list[str]:
    wanted = text.split(",") if text else list(claim.suites)
    if unknown := [name for name in wanted if name not in {*claim.suites, *claim.problems}]:
        raise SystemExit(f"--problems must name suites or problems of this benchmark, got {unknown[0]}")
    return [name for one in wanted for name in claim.suites.get(one, (one,))]


def run(
    claim: Claim, name: str, methods: Sequence[Any], seed: int, out: Path, again: Sequence[str] = ()
) -> None:
    """Runs the methods that accept the goals of the problem, if it has several outcomes."""
    problem: Any = named_problem(name)
    # The best known value may be improved while runs are stored.
    if isinstance(problem, OutcomeProblem):
        methods = [method for method in methods if method.accepts(problem.goals)]
        problem = replace(problem, optimum=None, best_seen=None)
    else:
        problem = replace(problem, minimum=None, minimizers=(), best_known=None)
    if methods:
        run_suite(
            problem,
            methods,
            [seed],
            claim.at[-1],
            out / name,
            workers=1,
            time_limit=TIME_LIMIT,
            together=1,
            again=again,
            progress=False,
        )


def report(claim: Claim, names: Sequence[str], out: Path, methods: Sequence[str] | None) -> str:
    """The tables as text, and runs.jsonl."""
    folders = [out / name for name in names if (out / name / FILE).exists()]
    stored = [records for folder in folders if len((records := Records.read(folder)).units)]
    if not stored:
        raise SystemExit(f"no runs of {', '.join(names)} in {out}")
    if methods:
        stored = [replace(one, units=one.units[one.units["method"].isin(methods)]) for one in stored]
        stored = [one for one in stored if len(one.units)]
    best = {str(one.problems["problem"][0]): _best(one) for one in stored}
    gaps = pd.concat([_gaps(claim, one, best) for one in stored], ignore_index=True)
    lines = [json.dumps(row) for row in gaps.to_dict("records")]
    (out / "runs.jsonl").write_text("\n".join(lines) + "\n")
    parts = []
    for evaluations in claim.at:
        records = truncated(stored, best, evaluations)
        table = gaps.pivot_table(
            index="problem", columns="method", values=f"log10_gap_{evaluations}", aggfunc="median"
        )
        shown = table.map(lambda value: f"{value:.2f}")
        shown.insert(0, "seeds", gaps.groupby("problem")["seed"].nunique())
        parts += [
            f"== median log10 {claim.gap} after {evaluations} evaluations ==\n{shown.to_string()}",
            f"== ranks and corrected tests after {evaluations} evaluations ==\n{compare(records)}",
        ]
    if gaps["first_feasible"].notna().any():
        table = gaps.pivot_table(index="problem", columns="method", values="first_feasible", aggfunc="median")
        parts.append(f"== median number of the first feasible evaluation ==\n{table.to_string()}")
        constrained = gaps[gaps["first_feasible"].notna()]
        ranks = constrained.groupby(["problem", "seed"])["first_feasible"].rank()
        means = ranks.groupby(constrained["method"]).mean().sort_values()
        parts.append(f"mean rank by it, of a (problem, seed):\n{means.to_string()}")
    asks = pd.concat([one.evaluations for one in stored]).groupby(["problem", "method"])["ask_seconds"]
    parts.append(f"== mean seconds an ask ==\n{asks.mean().unstack().map('{:.3f}'.format).to_string()}")
    return "\n\n".join(parts)


def _best(records: Records) -> float:
    """The smallest merit that is known: stated by the problem, or of a run."""
    problem: Any = named_problem(str(records.problems["problem"].iloc[0]))
    stated = np.inf if problem.best_known is None else problem.best_known
    return float(np.nanmin([stated, records.evaluations["value"].min()]))


def _gaps(claim: Claim, records: Records, best: dict[str, float]) -> pd.DataFrame:
    """A row a run: problem, method, seed, state, log10 gaps, first_feasible, and where it ran."""
    table = records.units.merge(records.environments[["environment", "commit", "versions"]])
    table = table[["problem", "method", "seed", "state", "seconds", "first_feasible", "commit", "versions"]]
    for evaluations in claim.at:
        final = finals(trajectories(truncated([records], best, evaluations)))
        floor = table["problem"].map(lambda name: _FLOOR * max(1.0, abs(best[name])))
        regret = table.merge(final[["problem", "method", "seed", "regret"]])["regret"].to_numpy()
        # Where no run dominates the reference point and no larger hypervolume is known, there is no gap.
        known = table["problem"].map(lambda name: best[name] != 0.0 or not _has_several(records))
        table[f"log10_gap_{evaluations}"] = np.where(known, np.log10(np.maximum(regret, floor)), np.nan)
    return table


def _has_several(records: Records) -> bool:
    goals = records.problems["goals"].iloc[0]
    return goals is not None and stored_goals(str(goals)).several


def truncated(several: Sequence[Records], best: dict[str, float], evaluations: int) -> Records:
    """The records as if the budget had been smaller, with the best known merits."""
    problems = pd.concat([one.problems for one in several], ignore_index=True)
    problems = problems.assign(budget=evaluations, best_known=problems["problem"].map(best).astype(float))
    rows = [one.evaluations[one.evaluations["evaluation"] <= evaluations] for one in several]
    return Records(
        problems=problems,
        units=pd.concat([one.units for one in several], ignore_index=True),
        evaluations=pd.concat(rows, ignore_index=True),
        environments=several[0].environments,
    )
