"""Functions that report while they are evaluated; imports little, since child processes load it."""

import os
import platform
import signal
import time
from typing import Any

STEPS = 9


def curve(params: dict[str, Any], step: int) -> float:
    """The loss after a step: curves do not cross."""
    return float(params["x"]) + 1.0 / step


def trains(params: dict[str, Any], report: Any) -> None:
    for step in range(1, STEPS + 1):
        if report(step=step, value=curve(params, step)) == "stop":
            return


def says_where(params: dict[str, Any], report: Any) -> float | None:
    """Reports, and writes down its process in the folder of its trial."""
    with (report.folder / "processes").open("a") as file:
        file.write(f"{os.getpid()}\n")
    trains(params, report)
    return curve(params, STEPS)


def goes_on(params: dict[str, Any], report: Any) -> None:
    """Saves each step before it is reported, and begins with the step that was saved.

    At x = 0.5 the process is killed at step 5, once: after the report, or between saving and reporting if
    `early` is true.
    """
    saved, log = report.folder / "saved", report.folder / "log"
    step = int(saved.read_text()) if saved.exists() else 0
    with log.open("a") as file:
        file.write(f"{report.step} {step}\n")
    kills = params["x"] == 0.5 and not step
    if step > report.step:
        report(step, curve(params, step))
    while step < STEPS:
        step += 1
        saved.write_text(str(step))
        if kills and step == 5 and params["early"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if report(step, curve(params, step)) == "stop":
            return
        if kills and step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


def saves_after_stop(params: dict[str, Any], report: Any) -> None:
    """Takes a moment after it was told to stop."""
    trains(params, report)
    time.sleep(0.2)
    (report.folder / "saved").touch()


def kills_its_worker(params: dict[str, Any], report: Any) -> None:
    """As `goes_on`; but at step 5 it kills the worker whose child it runs in, once."""
    saved = report.folder / "saved"
    step = int(saved.read_text()) if saved.exists() else 0
    kills = not step
    while step < STEPS:
        step += 1
        saved.write_text(str(step))
        if report(step, curve(params, step)) == "stop":
            return
        if kills and step == 5:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)


def run(path: str, budget: int) -> None:
    """A run in this process, of queued points."""
    from bo_suite import Optimizer, minimize

    optimizer = Optimizer.resume(path)
    space = optimizer.space
    optimizer.close()
    minimize(goes_on, space, budget, storage=path, progress=False)


def serve(path: str, function: str) -> None:
    """A worker in this process."""
    from bo_suite import Optimizer
    from bo_suite.run.worker import work

    optimizer = Optimizer.resume(path)
    work(globals()[function], optimizer)
    optimizer.close()


def move_away() -> None:
    """Gives this process the name of another machine."""
    platform.node = lambda: "elsewhere"
