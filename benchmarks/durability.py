"""Nothing is lost: kill -9 at random instants and at every statement of the store, and a hammer.

    python benchmarks/durability.py --kills 200 --out benchmarks/results/durability.jsonl

A child process asks and tells on one file and writes each acknowledged ask and tell to a ledger (one
unbuffered write each). Its parent, or the child itself at a given statement of the store, kills it with
SIGKILL; the next child resumes, evaluates what was left running, and goes on. After every kill, on a copy
of the files (so that the next child meets them as the dead one left them):

- each acknowledged ask is stored with its point, each acknowledged tell with its value;
- each running trial has its complete point;
- SQLite's integrity check passes;
- the points so far are those of a run that nobody interrupted, bit for bit.

Prints a table of what was done and what was found; the exit status is 1 when anything was found.
"""

import argparse
import json
import math
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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bo_suite.errors import SpaceError, StorageError
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.storage import database
from bo_suite.study.optimizer import Optimizer

SPACE = Space(
    {
        "x": Float(-5.0, 10.0),
        "rate": Float(1e-5, 1e-1, log=True),
        "depth": Int(1, 12),
        "kernel": Choice(["rbf", "poly", "linear"]),
    }
)
SEED = 11

processes = multiprocessing.get_context("forkserver")  # one import of torch serves every child
processes.set_forkserver_preload(["bo_suite.study.suggest", "bo_suite.acquisition", "rich.table"])


def objective(params: Params) -> float:
    """A value that depends on every parameter, the same each time."""
    x, rate, depth = (float(params[name] or 0.0) for name in ("x", "rate", "depth"))
    kernel = ("rbf", "poly", "linear").index(str(params["kernel"]))
    return (x - 2.0) ** 2 / 10 + (math.log10(rate) + 3) ** 2 + abs(depth - 7) / 4 + kernel + math.sin(3 * x)


# The child.


def work(path: str, ledger: str, count: int, kill_at: int | None, pause: float = 0.0) -> None:
    """Asks and tells until the file holds `count` finished trials; dies at statement moment `kill_at`.

    An evaluation takes `pause` seconds.
    """
    out = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(*entry: Any) -> None:
        os.write(out, (json.dumps(entry) + "\n").encode())

    moments = 0

    def die(moment: str) -> None:
        nonlocal moments
        moments += 1
        if moments == kill_at:
            note("killed", " ".join(moment.split()[:5]))
            os.kill(os.getpid(), signal.SIGKILL)

    database._failpoint = die
    try:
        optimizer = Optimizer.resume(path)
    except StorageError:  # only the first children: nothing is stored yet
        optimizer = Optimizer(SPACE, seed=SEED, storage=path)
    start, left = time.perf_counter(), optimizer.reclaim(attempts=None)
    note("resumed", len(optimizer.trials), len(left))
    while left or len(optimizer.trials) < count:
        trial = left.pop(0) if left else optimizer.ask()
        note("asked", trial.id, trial.params)
        time.sleep(pause)
        told = optimizer.tell(trial, objective(trial.params))
        note("told", told.id, told.value)
    note("ended", moments, time.perf_counter() - start)
    optimizer.close()
    os.close(out)


def swing(path: str, count: int, suggest: bool, barrier: Any, pipe: Any) -> None:
    """One process of the hammer: `count` asks and tells beside the others; random points unless `suggest`."""
    barrier.wait()
    optimizer = Optimizer(SPACE, seed=SEED, storage=path)
    store, told = optimizer._history, []
    for _ in range(count):
        trial = optimizer.ask() if suggest else None
        while trial is None:
            point = SPACE.decode(torch.rand(1, SPACE.dim, generator=torch.Generator().manual_seed(_fresh())))
            asked = store.insert(point, [{}], expected=len(store.trials()))
            trial = asked[0] if asked else None
        told.append(optimizer.tell(trial, objective(trial.params)))
    pipe.send([(trial.id, trial.params, trial.value) for trial in told])
    optimizer.close()


def _fresh() -> int:
    return int.from_bytes(os.urandom(7), "big")


# What must hold afterwards.


@dataclass
class Result:
    """One experiment's ledger."""

    name: str
    files: int = 0
    kills: int = 0
    asks: int = 0
    tells: int = 0
    reclaimed: int = 0
    resumed_equal: int = 0
    problems: list[str] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def stored(path: Path) -> list[tuple[int, Params, str, float | None]]:
    """Trials as plain SQL finds them in a copy of the files; raises where the database is damaged."""
    with tempfile.TemporaryDirectory() as folder:
        copy(path, Path(folder) / "copy.db")
        connection = sqlite3.connect(f"{folder}/copy.db")
        try:
            report = connection.execute("PRAGMA integrity_check").fetchall()
            if report != [("ok",)]:
                raise sqlite3.DatabaseError(str(report))
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials'").fetchall():
                return []  # killed before the file was created in full
            rows = connection.execute("SELECT id, params, state, value FROM trials ORDER BY id").fetchall()
            return [(number, json.loads(params), state, value) for number, params, state, value in rows]
        finally:
            connection.close()


def entries(ledger: Path) -> Iterator[list[Any]]:
    """Acknowledgements, oldest first."""
    for line in ledger.read_bytes().splitlines() if ledger.exists() else []:
        yield json.loads(line)


def check(path: Path, ledger: Path, reference: list[Params] | None, result: Result) -> bool:
    """Compares the file with the ledger and the uninterrupted run; adds what is wrong to the result."""
    problems = []
    try:
        rows = {number: rest for number, *rest in stored(path)} if path.exists() else {}
    except (sqlite3.Error, ValueError) as error:
        result.problems.append(f"{path.name}: {error!r}")
        return False
    if list(rows) != list(range(len(rows))):
        problems.append(f"ids have gaps: {list(rows)}")
    for number, (params, state, value) in rows.items():
        try:
            whole = repr(SPACE.check(params)) == repr(params)
        except SpaceError:
            whole = False
        if not whole:
            problems.append(f"{state} trial {number} lacks its point: {params}")
        elif state == "finished" and value != objective(params):
            problems.append(f"trial {number} has value {value}, not {objective(params)}")
        if reference is not None and (number >= len(reference) or repr(params) != repr(reference[number])):
            problems.append(f"trial {number} is {params}, another than in the uninterrupted run")
    for kind, number, *rest in entries(ledger):
        if kind == "asked" and (number not in rows or repr(rows[number][0]) != repr(rest[0])):
            problems.append(f"acknowledged ask {number} {rest[0]} is stored as {rows.get(number)}")
        if kind == "told" and (number not in rows or rows[number][1:] != ["finished", rest[0]]):
            problems.append(f"acknowledged tell {number} {rest[0]} is stored as {rows.get(number)}")
    result.problems += problems
    return not problems


def tally(ledger: Path, result: Result, skip: int) -> None:
    """Adds what a file's ledger acknowledged to the result, but for the first entries."""
    for kind, *rest in islice(entries(ledger), skip, None):
        result.asks += kind == "asked"
        result.tells += kind == "told"
        result.reclaimed += rest[1] if kind == "resumed" else 0
        result.moments.update([rest[0]] if kind == "killed" else [])


@contextmanager
def measured(name: str) -> Iterator[tuple[Result, Path]]:
    """A result and a folder for its files."""
    result, start = Result(name), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="durability-", dir=os.environ.get("DURABILITY_DIR")) as folder:
        yield result, Path(folder)
    result.seconds = round(time.perf_counter() - start, 2)


def child(path: Path, ledger: Path, count: int, kill_at: int | None, pause: float = 0.0) -> Any:
    """A started process at `work`."""
    process = processes.Process(target=work, args=(str(path), str(ledger), count, kill_at, pause))
    process.start()
    return process


def finish(path: Path, ledger: Path, count: int, result: Result) -> None:
    """Runs a child that nobody kills."""
    process = child(path, ledger, count, None)
    process.join()
    if process.exitcode != 0:
        result.problems.append(f"{path.name}: a child that was not killed ended with {process.exitcode}")


def uninterrupted(folder: Path, count: int, result: Result) -> tuple[list[Params], int, float]:
    """Points, statement moments and seconds in asks and tells of a run that nobody kills."""
    path, ledger = folder / "reference.db", folder / "reference.ledger"
    finish(path, ledger, count, result)
    ended = [rest for kind, *rest in entries(ledger) if kind == "ended"]
    moments, seconds = ended[0] if ended else (0, 0.0)
    return [params for _, params, *_ in stored(path)], moments, seconds


# Experiments.


def random_kills(kills: int, count: int, say: Callable[[str], None]) -> Result:
    """Kills at random instants, file after file of `count` trials, until there were `kills` of them."""
    draw = random.Random(SEED)
    with measured("random instants") as (result, folder):
        finish(folder / "warm.db", folder / "warm.ledger", 0, result)  # imports torch, once
        start = time.perf_counter()
        reference, _, seconds = uninterrupted(folder, count, result)
        pause = seconds / count  # as long as an ask and a tell
        patience = time.perf_counter() - start - seconds + 5 * pause  # starts, and one or two trials
        while result.kills < kills and not result.problems:
            path = folder / f"random-{result.files}.db"
            ledger = ledger_of(path)
            while result.kills < kills:
                process = child(path, ledger, count, None, pause)
                process.join(draw.uniform(0.0, patience))
                done = process.exitcode is not None
                if not done:
                    process.kill()
                    process.join()
                    result.kills += 1
                elif process.exitcode != 0:
                    result.problems.append(f"{path.name}: a child ended with {process.exitcode}")
                if not check(path, ledger, reference, result) or done:
                    break
            complete(path, count, reference, result)
            say(f"{result.kills} kills, {result.files} files, {result.asks} asks, {result.tells} tells")
    return result


def complete(path: Path, count: int, reference: list[Params], result: Result, skip: int = 0) -> None:
    """Resumes to the end, where all must be there and as in the uninterrupted run."""
    ledger = ledger_of(path)
    finish(path, ledger, count, result)
    result.files += 1
    rows = stored(path)
    if check(path, ledger, reference, result):
        same = [params for _, params, *_ in rows] == reference
        if same and all(state == "finished" for *_, state, _ in rows):
            result.resumed_equal += 1
        elif not result.problems:
            result.problems.append(
                f"{path.name}: {len(rows)} trials at the end, not {len(reference)} finished"
            )
    tally(ledger, result, skip)


def statement_kills(count: int, say: Callable[[str], None]) -> Result:
    """A kill before and after each writing statement of a run, and of a resumption; then the rest of it."""
    with measured("every statement") as (result, folder):
        reference, moments, _ = uninterrupted(folder, count, result)
        left = folder / "left.db"  # as a kill with a trial running left it
        for moment in range(1, moments + 1):
            path = folder / f"{moment}.db"
            killed_at(moment, path, count, reference, result)
            if not left.exists() and [state for *_, state, _ in stored(path)] == ["running"]:
                copy(path, left)
            complete(path, count, reference, result)
            say(f"{moment} of {moments}")
            if result.problems:
                return result
        moment, killed, inherited = 0, True, len(list(entries(ledger_of(left))))
        while killed and not result.problems:
            moment += 1
            path = folder / f"resumption-{moment}.db"
            copy(left, path)
            killed = killed_at(moment, path, 1, reference, result)  # resumes, tells, and asks no more
            complete(path, count, reference, result, inherited)
            say(f"{moment} of a resumption")
    return result


def killed_at(moment: int, path: Path, count: int, reference: list[Params], result: Result) -> bool:
    """Runs a child that dies at a statement; False when it ended before."""
    process = child(path, ledger_of(path), count, moment)
    process.join()
    killed = process.exitcode == -signal.SIGKILL
    result.kills += killed
    if process.exitcode not in (0, -signal.SIGKILL):
        result.problems.append(f"{path.name}: a child ended with {process.exitcode}")
    check(path, ledger_of(path), reference, result)
    return killed


def ledger_of(path: Path) -> Path:
    """Where the children of a file write what was acknowledged."""
    return path.with_suffix(".ledger")


def copy(source: Path, target: Path) -> None:
    """The files of a history, and its ledger."""
    for suffix in ("", "-journal"):
        if Path(f"{source}{suffix}").exists():
            shutil.copy(f"{source}{suffix}", f"{target}{suffix}")
    if ledger_of(source).exists():
        shutil.copy(ledger_of(source), ledger_of(target))


def hammer(workers: int, count: int, suggest: bool, say: Callable[[str], None]) -> Result:
    """Many processes asking and telling on one file: no trial doubled, none lost, all finished."""
    with measured(f"none: {workers} processes, {'suggested' if suggest else 'random'}") as (result, folder):
        path, result.files = folder / "hammer.db", 1
        barrier, told, crew = processes.Barrier(workers), {}, []
        for _ in range(workers):
            mine, theirs = processes.Pipe()
            crew.append(
                (
                    processes.Process(
                        target=swing, args=(str(path), count // workers, suggest, barrier, theirs)
                    ),
                    mine,
                )
            )
            crew[-1][0].start()
            theirs.close()
        for process, mine in crew:
            try:
                for number, params, value in mine.recv():
                    if number in told:
                        result.problems.append(f"trial {number} was handed out twice")
                    told[number] = [params, "finished", value]
            except EOFError:
                result.problems.append("a process of the hammer died")
            process.join()
        check(path, folder / "none", None, result)
        rows = {number: rest for number, *rest in stored(path)}
        if repr(rows) != repr(dict(sorted(told.items()))) or len(rows) != count // workers * workers:
            result.problems.append(f"{len(told)} acknowledged tells, {len(rows)} trials, or they differ")
        points = Counter(repr(params) for params, *_ in rows.values())
        result.problems += [f"{point} was suggested {n} times" for point, n in points.items() if n > 1]
        result.asks = result.tells = len(told)
        say(f"{len(told)} trials")
    return result


def print_ledger(results: Sequence[Result], console: Console) -> None:
    """The table of what was done and found, and each problem."""
    table = Table(
        "kills", "files", "times", "asks", "tells", "taken over", "runs equal", "wrong", "s", box=box.SIMPLE
    )
    for result in results:
        equal = f"{result.resumed_equal} of {result.files}" if result.kills else "-"
        cells = (result.files, result.kills, result.asks, result.tells, result.reclaimed, equal)
        found = (len(result.problems), round(result.seconds, 1))
        table.add_row(result.name, *map(str, (*cells, *found)))
    console.print(table)
    kinds = Counter[str]()
    for result in results:
        kinds += result.moments
    if kinds:
        console.print("kills by statement: " + ", ".join(f"{kind} {n}" for kind, n in sorted(kinds.items())))
    for result in results:
        for problem in result.problems:
            console.print(f"{result.name}: {problem}", style="red", soft_wrap=True)


def record(result: Result) -> dict[str, Any]:
    """JSON form of a result, with what it was measured on."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    return asdict(result) | {
        "moments": dict(result.moments),
        "seed": SEED,
        "commit": subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None,
        "device": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
    }


def main() -> int:
    """Runs the three experiments and prints their ledger."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="kills at random instants")
    parser.add_argument("--trials", type=int, default=12, help="trials of each killed run")
    parser.add_argument("--workers", type=int, default=8, help="processes of the hammer")
    parser.add_argument("--hammer", type=int, default=200, help="trials of the hammer, in all")
    parser.add_argument("--out", type=Path, help="JSON lines to append to")
    options = parser.parse_args()
    console = Console()
    with console.status("") as status:
        results = [
            random_kills(
                options.kills, options.trials, lambda text: status.update(f"random instants: {text}")
            ),
            statement_kills(min(options.trials, 8), lambda text: status.update(f"statements: {text}")),
            *(
                hammer(
                    options.workers, options.hammer, suggest, lambda text: status.update(f"hammer: {text}")
                )
                for suggest in (False, True)
            ),
        ]
    print_ledger(results, console)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with options.out.open("a") as lines:
            lines.writelines(json.dumps(record(result)) + "\n" for result in results)
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())
