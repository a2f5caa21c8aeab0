"""A suite loses nothing and doubles nothing: SIGKILL at random instants, then the same again.

    python benchmarks/suite_kills.py --kills 50 --out benchmarks/results/suite_kills.jsonl

A process runs a small suite with two worker processes: three methods on two problems, of which one runs its
seeds together as one program, one is crashed and one always fails somewhere. Its parent kills it and all its
workers at a random instant, and starts it again on the same folder, until the suite has ended; then a new
folder, until there were enough kills. After every kill:

- SQLite's integrity check passes;
- units that had ended are as they were, to the last bit;
- each evaluation belongs to a unit that has ended, and each unit that has ended has all of its own.

When a suite has ended, its records equal those of one that nobody interrupted in everything but times; no
unit was started again after it had ended, and none was running twice at a time. Prints what happened; the
exit status is 1 when anything else was found.
"""

import argparse
import concurrent.futures as futures
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and torch load

import torch

from bo_suite.bench import run_suite
from bo_suite.bench.method import Method, Run, Task
from bo_suite.bench.peers import get_method
from bo_suite.bench.replicates import Replicates
from bo_suite.bench.store import FILE
from bo_suite.bench.unit import seed_on
from bo_suite.problems import Problem, get_problem, noisy
from bo_suite.space.space import Params

SEED = 7
SEEDS = range(4)
BUDGET = 8
PAUSE = 0.08
"""Seconds that each suggestion takes longer than it would; a third of it with forked workers."""

processes = multiprocessing.get_context("forkserver")  # one import of torch serves every runner
processes.set_forkserver_preload(["bo_suite.bench.runner", "bo_suite.study.suggest", "bo_suite.acquisition"])

PROBLEMS = ("noisy_branin", "brittle")
_GIVEN = {seed_on(problem, seed): seed for problem in PROBLEMS for seed in SEEDS}
"""Seeds as given by those of the runs."""

Start = Callable[[Path], None]
"""What runs the suite in a folder, in a process of its own."""


# The suite.


@dataclass(frozen=True)
class Noted:
    """A method whose starts are written to a file, and which takes its time.

    Attributes:
        method: what suggests points.
        folder: where the file is.
        pause: seconds that each suggestion takes longer than it would.
        crash_at: raises at this suggestion of seed 1.
    """

    method: Method
    folder: Path
    pause: float
    crash_at: int | None = None

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def lockstep(self) -> bool:
        """The method's, where it has any."""
        return bool(getattr(self.method, "lockstep", False))

    def start(self, task: Task) -> Run:
        """The method's run."""
        self._note(task.space.dim, [task.seed])
        crash_at = self.crash_at if _GIVEN[task.seed] == 1 else None
        return Slow(self.method.start(task), self.pause, crash_at)

    def replicates(self, problem: Problem, seeds: Sequence[int], budget: int) -> Replicates:
        """The method's."""
        self._note(problem.space.dim, seeds)
        time.sleep(self.pause * budget)
        return self.method.replicates(problem, seeds, budget)  # type: ignore[attr-defined]

    def _note(self, dim: int, seeds: Sequence[int]) -> None:
        out = os.open(self.folder / "starts", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for seed in map(_GIVEN.__getitem__, seeds):  # dim tells the problems apart
            os.write(out, (json.dumps([f"{dim} {self.name} {seed}", time.time()]) + "\n").encode())
        os.close(out)


class Slow:
    """A run that takes its time, and may raise."""

    def __init__(self, run: Run, pause: float, crash_at: int | None) -> None:
        self._run, self._pause, self._left = run, pause, crash_at

    def ask(self) -> Params:
        """The run's next point."""
        time.sleep(self._pause)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise RuntimeError("made to crash")
        return self._run.ask()

    def tell(self, params: Params, value: float) -> None:
        """Passes it on."""
        self._run.tell(params, value)

    def fail(self, params: Params, reason: str) -> None:
        """Passes it on."""
        self._run.fail(params, reason)

    def provenance(self) -> dict[str, Any]:
        """The run's."""
        return self._run.provenance()


def brittle(params: Params) -> float:
    """Hartmann3, which fails in a quarter of its box."""
    if float(params["x1"]) > 0.75:  # type: ignore[arg-type]
        raise ValueError("too far")
    return get_problem("hartmann3").value(params)


def suite(folder: Path, pause: float) -> tuple[list[Problem], list[Method]]:
    """The problems and methods."""
    problems = [
        noisy(get_problem("branin"), 0.5),
        Problem("brittle", get_problem("hartmann3").space, brittle),
    ]
    named = {name: get_method(name) for name in ("bo_suite", "random", "sobol")}
    return problems, [
        Noted(one, folder, pause, 5 if name == "sobol" else None) for name, one in named.items()
    ]


def own_workers(folder: Path) -> None:
    """Runs the suite as users do."""
    _run(folder, PAUSE, None)


def forked_workers(folder: Path) -> None:
    """Runs the suite on workers that start at once."""
    _run(folder, PAUSE / 3, _forked)


def _forked() -> futures.Executor:
    return futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"))


def _run(folder: Path, pause: float, executor: Callable[[], futures.Executor] | None) -> None:
    os.setsid()  # so that the workers can be killed with it
    torch.set_num_threads(1)
    problems, methods = suite(folder, pause)
    run_suite(problems, methods, SEEDS, BUDGET, folder, executor, workers=2, progress=False)


# What must hold afterwards.


@dataclass
class Result:
    """What happened, and what was wrong with it."""

    kills: int = 0
    folders: int = 0
    equal: int = 0
    units: int = 0
    starts: int = 0
    started_again: int = 0
    claimed_at_kills: int = 0
    ended_at_kills: list[int] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


UNITS = "SELECT problem, method, seed, state, reason, replicates FROM units WHERE state != 'running'"
EVALUATIONS = """SELECT problem, method, seed, evaluation, params, value, true_value, regret, provenance,
    failure FROM evaluations"""
TIMES = ("ask_ms", "fit_ms", "search_ms")
"""Provenance that differs from run to run."""


@dataclass(frozen=True)
class Content:
    """What a folder holds: all but times of units and evaluations that have ended, and who is at work."""

    units: dict[tuple[Any, ...], tuple[Any, ...]]
    evaluations: dict[tuple[Any, ...], tuple[Any, ...]]
    claimed: int


def content(folder: Path) -> Content:
    """What plain SQL finds in a copy, so that the next runner meets the files as they were left.

    Raises where the database is damaged.
    """
    if not (folder / FILE).exists():
        return Content({}, {}, 0)
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal"):
            if Path(f"{folder / FILE}{suffix}").exists():
                shutil.copy(f"{folder / FILE}{suffix}", f"{place}/copy{suffix}")
        with closing(sqlite3.connect(f"{place}/copy")) as connection:
            return _content(connection)


def _content(connection: sqlite3.Connection) -> Content:
    report = connection.execute("PRAGMA integrity_check").fetchall()
    if report != [("ok",)]:
        raise sqlite3.DatabaseError(str(report))
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'units'").fetchall():
        return Content({}, {}, 0)  # killed before the tables were there
    units = {row[:3]: row[3:] for row in connection.execute(UNITS)}
    rows = {row[:4]: (*row[4:8], _timeless(row[8]), row[9]) for row in connection.execute(EVALUATIONS)}
    (claimed,) = connection.execute("SELECT count(*) FROM units WHERE state = 'running'").fetchone()
    return Content(units, rows, claimed)


def _timeless(provenance: str) -> str:
    form = json.loads(provenance)
    return json.dumps({key: value for key, value in form.items() if key not in TIMES}, sort_keys=True)


def check(before: Content, now: Content) -> list[str]:
    """What is wrong after a kill."""
    wrong = [
        f"{kind} {key} was {value} and is {found.get(key)}"
        for kind, held, found in (
            ("unit", before.units, now.units),
            ("evaluation", before.evaluations, now.evaluations),
        )
        for key, value in held.items()
        if found.get(key) != value
    ]
    numbers: dict[tuple[Any, ...], list[int]] = {key: [] for key in now.units}
    for *key, number in sorted(now.evaluations):
        numbers.setdefault(tuple(key), []).append(number)
    for key, found in numbers.items():
        state = now.units[key][0] if key in now.units else "not ended"
        whole = list(range(1, BUDGET + 1))
        if state not in ("finished", "crashed") or (
            found != whole if state == "finished" else found != whole[:5]
        ):
            wrong.append(f"unit {key}, {state}, has evaluations {found}")
    return wrong


def starts(folder: Path) -> list[str]:
    """Units that were started, oldest first."""
    path = folder / "starts"
    return [json.loads(line)[0] for line in path.read_bytes().splitlines()] if path.exists() else []


def check_starts(new: Sequence[str], before: Content) -> list[str]:
    """What is wrong with the starts of one runner on a folder that held something before."""
    ended = {f"{2 if problem != 'brittle' else 3} {method} {seed}" for problem, method, seed in before.units}
    wrong = [f"unit {unit} was started again, but had ended" for unit in new if unit in ended]
    return wrong + [f"unit {unit} was started twice" for unit in set(new) if new.count(unit) > 1]


# The experiment.


def random_kills(kills: int, start: Start, say: Callable[[str], None]) -> Result:
    """Kills at random instants of the time that a whole run takes, and what came of it."""
    draw, result, began = random.Random(SEED), Result(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="suite-kills-") as place:
        folder = Path(place) / "whole"
        folder.mkdir()
        whole = time.perf_counter()
        _visit(start, folder, None, result)
        patience = time.perf_counter() - whole
        reference = content(folder)
        result.units = len(reference.units)
        while result.kills < kills and not result.wrong:
            folder, result.folders = Path(place) / str(result.folders), result.folders + 1
            folder.mkdir()
            alive = True
            while alive and not result.wrong:
                limit = draw.uniform(0.0, patience) if result.kills < kills else None
                alive = _visit(start, folder, limit, result)
                say(
                    f"{result.kills} kills, {result.folders} folders, {sum(result.ended_at_kills)} units kept"
                )
            result.starts += len(starts(folder))
            result.started_again += len(starts(folder)) - len(set(starts(folder)))
            if not result.wrong:
                _compare(content(folder), reference, result)
    result.seconds = round(time.perf_counter() - began, 1)
    return result


def _visit(start: Start, folder: Path, limit: float | None, result: Result) -> bool:
    """Runs the suite in a folder until it ends, or is killed; whether it was."""
    before = content(folder)
    known = len(starts(folder))
    process = processes.Process(target=start, args=(folder,))
    process.start()
    process.join(limit)
    killed = process.exitcode is None
    if killed:
        _kill(process)
        result.kills += 1
    elif process.exitcode != 0:
        result.wrong.append(f"a runner that was not killed ended with {process.exitcode}")
    now = content(folder)
    result.wrong += check(before, now) + check_starts(starts(folder)[known:], before)
    if killed:
        result.ended_at_kills.append(len(now.units))
        result.claimed_at_kills += now.claimed
    return killed


def _kill(process: Any) -> None:
    """Kills a runner and its workers, at once."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it has not come to lead a group
        process.kill()
    process.join()


def _compare(found: Content, reference: Content, result: Result) -> None:
    """Adds what differs from an uninterrupted run."""
    for held, other in ((found.units, reference.units), (found.evaluations, reference.evaluations)):
        for key in held.keys() | other.keys():
            if held.get(key) != other.get(key):
                result.wrong.append(f"{key} is {held.get(key)}, uninterrupted {other.get(key)}")
    result.wrong += [f"{found.claimed} units are claimed at the end"] * bool(found.claimed)
    result.equal += not result.wrong


def record(result: Result) -> dict[str, Any]:
    """JSON form of a result, with what it was measured on."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return asdict(result) | {
        "seed": SEED,
        "commit": subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
    }


def main() -> int:
    """Runs the experiment and prints what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="kills at random instants")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    result = random_kills(
        options.kills, own_workers, lambda text: print(f"\r{text}", end="", file=sys.stderr)
    )
    print(file=sys.stderr)
    kept = sorted(result.ended_at_kills)
    print(f"kills: {result.kills}, in {result.folders} folders of {result.units} units; {result.seconds:g} s")
    print(f"units that had ended at a kill: {kept}")
    print(f"units that were at work at kills: {result.claimed_at_kills}")
    print(f"units started: {result.starts}, of these again, after a kill: {result.started_again}")
    print(f"suites equal to the uninterrupted one: {result.equal} of {result.folders}")
    print(*(result.wrong or ["nothing lost, nothing doubled"]), sep="\n")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("a") as lines:
            lines.write(json.dumps(record(result)) + "\n")
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
