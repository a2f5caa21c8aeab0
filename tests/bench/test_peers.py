"""Methods to compare, in this process and in one of their own."""

import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bo_suite.bench
from bo_suite.bench.method import Method, Run, Task, inside
from bo_suite.bench.peers import SubprocessMethod, get_method, methods
from bo_suite.bench.peers.seeded import Penalty, SeededPeer, from_levels, to_levels
from bo_suite.bench.peers.subprocess_method import SubprocessRun
from bo_suite.errors import DataError, SpaceError, SpaceExhausted
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.testing import check_method
from bo_suite.testing.method import SPACES

MIXED = SPACES["a mixed space"]
OUTCOMES_ONLY = {"botorch_hypervolume", "botorch_constrained", "scbo", "pymoo_nsga2", "smac_parego"}
ONE_VALUE = [name for name in methods() if name not in OUTCOMES_ONLY]
PLAIN = ("random", "sobol", "botorch", "turbo")
QUICK = ["bo_suite", "random", "sobol", "tpe", "optuna_gp", "optuna_cmaes", "scikit_optimize", "pycma"]


def marks(name: str, *, slow: bool) -> list[pytest.MarkDecorator]:
    optional = (
        name not in PLAIN and not name.startswith("bo_suite") and name.partition(":")[2] not in "rf mlp gp"
    )
    threaded = name == "nevergrad"  # some of its algorithms run, and warn, in a thread between calls
    quiet = [pytest.mark.filterwarnings("ignore::UserWarning")] * threaded
    return [pytest.mark.integration] * optional + [pytest.mark.slow] * slow + quiet


def method_of(name: str) -> Method:
    try:
        return get_method(name)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=marks(name, slow=name not in QUICK)) for name in ONE_VALUE]
)
def test_every_method_keeps_the_contract(name: str) -> None:
    check_method(method_of(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=marks(name, slow=False)) for name in ONE_VALUE if "bo_suite:" not in name],
)
def test_every_method_goes_on_past_its_space_filling_start(name: str) -> None:
    run = method_of(name).start(Task(MIXED, 3, 16, noisy=True))
    for step in range(16):
        params = run.ask()
        assert MIXED.check(params) == params
        if step in (1, 13):
            run.fail(params, "made to fail")
        else:
            run.tell(params, float(MIXED.encode([params]).sum()) + 1e3)


@pytest.mark.parametrize("name", methods())
def test_a_method_bears_the_name_that_it_is_found_by(name: str) -> None:
    assert method_of(name).name == name


def test_an_unknown_name_is_refused_with_close_ones() -> None:
    with pytest.raises(
        DataError, match=r"must be one of methods\(\), such as \['optuna_cmaes'.*got 'optuna_cma'"
    ):
        get_method("optuna_cma")
    with pytest.raises(DataError, match="got 'bore:rff'"):
        get_method("bore:rff")
    with pytest.raises(DataError, match="python must be an interpreter that can be run, got '/no/python'"):
        get_method("random", "/no/python")


def test_a_missing_library_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bo_suite.bench.peers.find_spec", lambda module: None)
    with pytest.raises(
        ImportError, match=r"'pycma' needs cma: install it with `pip install 'bo-suite\[peers\]'`"
    ):
        get_method("pycma")
    with pytest.raises(
        ImportError, match=r"needs xgboost: install it with `pip install 'bo-suite\[tables\]'`"
    ):
        get_method("lfbo:xgb")
    assert get_method("random").name == "random"


def test_what_rounding_moved_out_of_bounds_is_moved_back() -> None:
    given = {"rate": 0.1 + 1e-16, "depth": np.int64(13), "width": np.int64(32), "kernel": np.str_("rbf")}
    point = inside(MIXED, given)  # type: ignore[arg-type]
    assert point == {"rate": 0.1, "depth": 12, "width": 32, "kernel": "rbf"}
    assert [type(value) for value in point.values()] == [float, int, int, str]
    with pytest.raises(SpaceError, match="missing"):
        inside(MIXED, {"rate": 0.1})


def test_levels_stand_for_options_of_any_kind() -> None:
    space = Space({"a": Choice([None, True, "x", 2.5]), "b": Choice([8, 4], ordered=True), "c": Int(1, 3)})
    for point in space.decode(torch.rand(20, 3, dtype=torch.float64)):
        levels = to_levels(space, point)
        assert {*map(type, levels.values())} == {int}
        assert from_levels(space, levels) == point


def test_failures_count_as_the_worst_value_so_far() -> None:
    seen: list[tuple[str, float]] = []
    outcomes = Penalty(lambda point, value: seen.append((point, value)))
    outcomes.fail("a")
    outcomes.fail("b")
    assert (seen, outcomes.waiting) == ([], 2)
    outcomes.tell("c", 5.0)
    assert (seen, outcomes.waiting) == ([("c", 5.0), ("a", 5.0), ("b", 5.0)], 0)
    outcomes.tell("d", 7.0)
    outcomes.tell("e", 1.0)
    outcomes.fail("f")
    assert seen[3:] == [("d", 7.0), ("e", 1.0), ("f", 7.0)]


class Noisy:
    """A library that warns and draws from every global generator."""

    def __init__(self, task: Task) -> None:
        warnings.warn("made", stacklevel=1)

    def ask(self) -> Params:
        warnings.warn("asked", stacklevel=1)
        draws = (random.random(), float(np.random.random()), float(torch.rand(())))  # noqa: NPY002
        return dict(zip("abc", draws, strict=True))

    def tell(self, params: Params, value: float) -> None: ...

    def fail(self, params: Params) -> None: ...

    def add(self, params: Params, value: float) -> None: ...


def test_a_library_neither_sees_nor_leaves_traces_in_the_process() -> None:
    space = Space({name: Float(0.0, 1.0) for name in "abc"})

    def state() -> list[Any]:
        return [random.getstate(), *np.random.get_state()[1], *torch.get_rng_state().tolist()]  # noqa: NPY002

    before = state()
    first, second = (SeededPeer(Noisy, Task(space, seed, 4, noisy=False)) for seed in (0, 1))
    together = [(first.ask(), second.ask()) for _ in range(3)]
    assert state() == before
    alone = SeededPeer(Noisy, Task(space, 0, 4, noisy=False))
    assert [pair[0] for pair in together] == [alone.ask() for _ in range(3)]
    assert together[0][0] != together[0][1]


def walk(run: Run, steps: int) -> list[tuple[Params, list[str]]]:
    """Points, and what is said of them."""
    taken = []
    for step in range(steps):
        params = run.ask()
        taken.append((params, sorted(run.provenance())))
        if step == 2:
            run.fail(params, "made to fail")
        else:
            run.tell(params, float(MIXED.encode([params]).sum()))
    return taken


def test_a_method_in_its_own_process_takes_the_same_points() -> None:
    task = Task(MIXED, 7, 8, noisy=False)
    isolated = pickle.loads(pickle.dumps(get_method("bo_suite", sys.executable)))
    assert isinstance(isolated, SubprocessMethod)
    assert isolated.name == "bo_suite"
    run = isolated.start(task)
    assert walk(run, 8) == walk(get_method("bo_suite").start(task), 8)
    run.close()


def pid(run: SubprocessRun) -> int:
    return run._process.pid


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_errors_of_another_process_are_raised_here_and_it_goes_on() -> None:
    run = SubprocessMethod("bo_suite").start(Task(Space({"a": Choice([1, 2])}), 0, 4, noisy=False))
    for _ in range(2):
        run.tell(run.ask(), 1.0)
    with pytest.raises(SpaceExhausted):
        run.ask()
    with pytest.raises(
        RuntimeError, match=r"bo_suite, in its own process, raised in tell:\n(.|\n)*TypeError"
    ):
        run._call("tell")
    run.add({"a": 1}, 3.0)
    child = pid(run)
    del run
    gc.collect()
    assert not alive(child)


def test_a_process_that_dies_gives_one_clear_error() -> None:
    run = SubprocessMethod("random").start(Task(MIXED, 0, 4, noisy=False))
    run.tell(run.ask(), 1.0)
    os.kill(pid(run), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="random cannot ask: its process ended with code -9"):
        run.ask()
    with pytest.raises(RuntimeError, match="random cannot ask: its run has been closed"):
        run.ask()


def run_with(source: str, folder: Path) -> SubprocessRun:
    """A run of `scikit_optimize` in another process, over a module that stands for the library."""
    (folder / "skopt.py").write_text(source)
    python = folder / "python"
    paths = f'PYTHONPATH="$PYTHONPATH:{folder}"'
    python.write_text(f'#!/bin/sh\n{paths} exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    space = Space({"x": Float(0.0, 1.0)})
    return SubprocessMethod("scikit_optimize", str(python)).start(Task(space, 0, 4, noisy=False))


LIBRARY = """
import os, sys
print("loaded", flush=True)
class space:
    Real = staticmethod(lambda low, high, prior: print("a dimension"))
class Optimizer:
    def __init__(self, dimensions, random_state):
        os.system("echo a child speaks")
    def ask(self):
        os.write(1, b"noise without a line's end")
        print("noise")
        return [0.25]
    def tell(self, point, value):
        if value > 1.0:
            sys.stderr.write("all is lost")
            os._exit(3)
"""


def test_what_a_library_prints_does_not_come_between_answers(tmp_path: Path) -> None:
    run = run_with(LIBRARY, tmp_path)
    for _ in range(3):
        assert run.ask() == {"x": 0.25}
        run.tell({"x": 0.25}, 0.5)
    with pytest.raises(RuntimeError, match=r"its process ended with code 3;(.|\n)*all is lost"):
        run.tell({"x": 0.25}, 2.0)


@pytest.mark.slow
def test_a_library_that_is_missing_there_is_told_at_the_start() -> None:
    missing = next((name for name in ("hebo", "smac", "nevergrad") if not available(name)), None)
    if missing is None:
        pytest.skip("every library is installed here")
    with pytest.raises(ImportError, match=f"the method '{missing}' needs"):
        SubprocessMethod(missing).start(Task(MIXED, 0, 4, noisy=False))


def available(name: str) -> bool:
    try:
        return bool(get_method(name))
    except ImportError:
        return False


def test_the_name_of_version_0_8_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="SubprocessMethod"):
        assert bo_suite.bench.Isolated is SubprocessMethod


@pytest.mark.slow
def test_a_process_ends_with_the_one_that_started_it() -> None:
    code = """
import sys, time
from bo_suite.bench.method import Task
from bo_suite.bench.peers import SubprocessMethod
from bo_suite.testing.method import SPACES
run = SubprocessMethod("random").start(Task(SPACES["two columns"], 0, 4, False))
print(run._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    end = time.monotonic() + 20.0
    while alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(child)
