"""What jobs of tests run; imports nothing heavy, since each job imports it."""

import os
import signal
import time
from pathlib import Path


def job_id() -> str:
    return os.environ["SLURM_JOB_ID"]


def slurm_variables() -> dict[str, str]:
    names = ("SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "SLURM_CONF")
    return {name: os.environ[name] for name in names if name in os.environ}


def raising() -> None:
    raise ValueError("no luck")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(params: dict[str, float]) -> float:
    if params["x"] > 1.0:
        killed()
    return params["x"]


def note_and_sleep(ledger: Path, seconds: float) -> str:
    """Appends the id of the job, sleeps, and returns it."""
    with ledger.open("a") as file:
        file.write(f"{job_id()}\n")
    time.sleep(seconds)
    return job_id()


def once(ledger: Path) -> str:
    """Sleeps for long, except in a job that has started before."""
    again = ledger.exists() and job_id() in ledger.read_text().split()
    return note_and_sleep(ledger, 0 if again else 60)


def slow_at_first(ledger: Path, params: dict[str, float]) -> float:
    note_and_sleep(ledger, 0 if params["x"] > 0.5 else 60)
    return params["x"]
