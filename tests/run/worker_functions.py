"""Functions that workers evaluate in the tests of workers; imports little, since child processes load it."""

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import Any

FOLDER = "BO_SUITE_TEST_FOLDER"
"""Environment variable: the folder where functions write down that they were called."""


def _note(params: dict[str, Any]) -> int:
    """Writes down a call; returns how many there were before at this point."""
    calls = Path(os.environ[FOLDER]) / f"x={params['x']}"
    before = calls.read_text().count("\n") if calls.exists() else 0
    with calls.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return before


def quick(params: dict[str, Any]) -> float:
    _note(params)
    return float(params["x"])


def hangs_first(params: dict[str, Any]) -> float:
    """At 0.5, the first call takes a minute."""
    if _note(params) == 0 and params["x"] == 0.5:
        time.sleep(60)
    return float(params["x"])


def takes_a_moment(params: dict[str, Any]) -> float:
    """At 0.5."""
    _note(params)
    time.sleep(0.5 * (params["x"] == 0.5))
    return float(params["x"])


def kills_itself(params: dict[str, Any]) -> float:
    _note(params)
    if params["x"] == 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return float(params["x"])


def kills_its_worker(params: dict[str, Any]) -> float:
    _note(params)
    if params["x"] == 0.5:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return float(params["x"])


def holds_the_lock(params: dict[str, Any]) -> float:
    """No other thread of its process runs."""
    _note(params)
    ctypes.PyDLL(None).sleep(60)
    return 0.0


def has_a_bug(params: dict[str, Any]) -> float:
    _note(params)
    return float(params["y"])


def serve(path: str, folder: str, function: str, options: dict[str, Any]) -> None:
    """A worker as a process; its exit code is 0 if the budget is spent, 143 after SIGTERM, 3 otherwise."""
    from bo_suite import Optimizer
    from bo_suite.run.worker import work

    os.environ[FOLDER] = folder
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
    optimizer = Optimizer.resume(path)
    result = work(globals()[function], optimizer, **options)
    optimizer.close()
    raise SystemExit({None: 0, "terminated": 143, "interrupted": 130}.get(result.stopped, 3))


def command(folder: str, arguments: list[str]) -> None:
    """`bo-suite ARGUMENTS` in a folder."""
    from bo_suite.cli import app

    os.environ[FOLDER] = folder
    os.chdir(folder)
    app(arguments)
