"""Methods and problems that misbehave, and suites of them, for tests of the runner."""

import asyncio
import concurrent.futures as futures
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bo_suite.bench import Records, run_suite
from bo_suite.bench.method import Run, Task
from bo_suite.bench.peers import BoSuite, get_method
from bo_suite.bench.replicates import Replicates
from bo_suite.bench.unit import seed_on
from bo_suite.problems import Problem
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space

_PROBLEMS = ("branin", "noisy_branin", "hartmann3", "noisy_hartmann3", "moody", "exits", "finite")
_GIVEN = {seed_on(problem, seed): seed for problem in _PROBLEMS for seed in range(100)}


def given(seed: int) -> int:
    """The seed of a unit, from that of its run."""
    return _GIVEN.get(seed, seed)


def fine(seed: int, step: int) -> None:
    """Does nothing."""


def raises(seed: int, step: int) -> None:
    if step == 2:
        raise ValueError("out of ideas")


def quits(seed: int, step: int) -> None:
    if step == 2:
        sys.exit("usage")


def cancels(seed: int, step: int) -> None:
    """As asyncio does, with a text that cannot be encoded."""
    raise asyncio.CancelledError("file \udcff")


def interrupts(seed: int, step: int) -> None:
    if seed == 1:
        raise KeyboardInterrupt


def hangs(seed: int, step: int) -> None:
    if step == 2:
        time.sleep(60)


def hangs_and_shrugs(seed: int, step: int) -> None:
    """As a method that catches whatever is raised in it."""
    if step == 1:
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)


def dawdles(seed: int, step: int) -> None:
    time.sleep(0.1)


def exits(seed: int, step: int) -> None:
    """Takes its worker down at the third point of seed 1, never the process of the tests."""
    if (seed, step) == (1, 2) and multiprocessing.parent_process() is not None:
        os._exit(7)


def is_killed(seed: int, step: int) -> None:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class dies_away_from:
    """Is killed at one step of one seed, but for in one process."""

    here: int
    step: int = 2
    seed: int = 1

    def __call__(self, seed: int, step: int) -> None:
        if (seed, step) == (self.seed, self.step) and os.getpid() != self.here:
            os.kill(os.getpid(), signal.SIGKILL)


def note_and_sleep(ledger: Path) -> None:
    with ledger.open("a") as out:
        out.write("started\n")
    time.sleep(60)


@dataclass(frozen=True)
class Scripted:
    """Random points, with something done before each; starts and failures are noted in a file."""

    act: Callable[[int, int], None] = fine
    ledger: Path | None = None
    name: str = "scripted"
    provenance: Any = None

    def start(self, task: Task) -> "ScriptedRun":
        self.note(f"start {task.space.dim} {given(task.seed)} {os.getpid()}")
        return ScriptedRun(self, task, get_method("random").start(task))

    def note(self, line: str) -> None:
        if self.ledger is not None:
            with self.ledger.open("a") as lines:
                lines.write(f"{line}\n")


class ScriptedRun:
    def __init__(self, method: Scripted, task: Task, draws: Run) -> None:
        self._method, self._task, self._draws, self._step = method, task, draws, 0

    def ask(self) -> Params:
        self._method.act(given(self._task.seed), self._step)
        self._step += 1
        return self._draws.ask()

    def tell(self, params: Params, value: float) -> None:
        """Nothing is learnt."""

    def fail(self, params: Params, reason: str) -> None:
        self._method.note(f"fail {given(self._task.seed)} {reason}")

    def provenance(self) -> dict[str, Any]:
        return {"step": self._step} if self._method.provenance is None else self._method.provenance


@dataclass(frozen=True)
class Together:
    """bo_suite, with something done first where seeds run together; both are noted."""

    act: Callable[[int, int], None] = fine
    ledger: Path | None = None
    name: str = "together"
    lockstep: bool = True

    def start(self, task: Task) -> Run:
        Scripted.note(self, f"start {task.space.dim} {given(task.seed)} {os.getpid()}")
        return BoSuite().start(task)

    def replicates(self, problem: Problem, seeds: Sequence[int], budget: int) -> Replicates:
        Scripted.note(
            self, f"together {problem.space.dim} {','.join(str(given(seed)) for seed in seeds)} {os.getpid()}"
        )
        self.act(0, 2)
        return BoSuite().replicates(problem, seeds, budget)


forked = multiprocessing.get_context("forkserver")  # one import of torch serves every worker
forked.set_forkserver_preload(["bo_suite.bench.runner", "bo_suite.study.suggest", "bo_suite.acquisition"])


def forked_workers() -> futures.ProcessPoolExecutor:
    return futures.ProcessPoolExecutor(2, mp_context=forked)


def run(problems, methods, seeds, budget, out, executor=None, **options) -> Records:
    options = {"workers": 1, "progress": False} | options
    return run_suite(problems, methods, seeds, budget, out, executor, **options)


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines() if ledger.exists() else []


def _moody(params: Params) -> float:
    """Fails in two ways in two thirds of the range."""
    if params["x"] > 1.0:
        raise ValueError("too far")
    return float("nan") if params["x"] > 0.5 else params["x"] ** 2


def _exits(params: Params) -> float:
    sys.exit("no licence")


def _sum(params: Params) -> float:
    return float(params["a"] + (params["b"] == "yes"))


MOODY = Problem("moody", Space({"x": Float(-1.0, 2.0)}), _moody, 0.0)
EXITS = Problem("exits", Space({"x": Float(-1.0, 2.0)}), _exits)
FINITE = Problem("finite", Space({"a": Int(0, 2), "b": Choice(["yes", "no"])}), _sum, 0.0)
