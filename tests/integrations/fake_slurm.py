"""A Slurm of this machine: `sbatch`, `squeue`, `scancel` and `srun`, which store states of jobs in files.

As in Slurm, a job runs in the folder and with the environment of its sbatch. It starts when it is submitted,
and tests say when it is at its limit, preempted, requeued or forgotten.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

ENDED = ("CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")


class FakeSlurm:
    """The cluster, of which tests end jobs and read what was asked.

    Args:
        home: an empty folder for the commands and the jobs.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.jobs = home, home / "jobs"
        self.jobs.mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel", "srun"):
            command = home / name
            command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" {name} "$@"\n')
            command.chmod(command.stat().st_mode | stat.S_IXUSR)
        self.environment = {
            "PATH": f"{home}{os.pathsep}{os.environ['PATH']}",
            "FAKE_SLURM": str(home),
        }

    def state(self, job: str) -> str:
        """The state of a job; empty if Slurm has forgotten it."""
        return (self.jobs / job / "state").read_text()

    def end(self, job: str, state: str) -> None:
        """Kill a job, which then has this state: REQUEUED starts it again, "" makes squeue forget it."""
        replace(self.jobs / job / "state", state)
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(int((self.jobs / job / "group").read_text()), signal.SIGKILL)

    def warn(self, job: str) -> None:
        """Send the signal that Slurm sends before the time limit: to the task, not to the script."""
        os.kill(int((self.jobs / job / "task").read_text()), signal.SIGUSR2)

    def questions(self) -> int:
        """How often squeue was called."""
        return len(self.log("squeue"))

    def log(self, name: str) -> list[str]:
        """The arguments of each call of squeue or scancel."""
        log = self.home / f"{name}.log"
        return log.read_text().splitlines() if log.exists() else []


def replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)


def cluster() -> FakeSlurm:
    """The cluster that this command belongs to."""
    slurm = object.__new__(FakeSlurm)
    slurm.home = Path(os.environ["FAKE_SLURM"])
    slurm.jobs = slurm.home / "jobs"
    return slurm


def sbatch(script: str) -> None:
    home = cluster().home
    if (home / "refusal").exists():
        sys.exit((home / "refusal").read_text())
    for number in count(1):
        job = home / "jobs" / str(number)
        with suppress(FileExistsError):
            job.mkdir()
            break
    shutil.copy(script, job / "script")
    replace(job / "state", "PENDING")
    command = [sys.executable, "-S", "-E", __file__, "supervise", job.name]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    subprocess.Popen(command, start_new_session=True, **quiet)
    print(f"Submitted batch job {job.name}")


def supervise(name: str) -> None:
    """Run a job, again if it is requeued, and store how it ended."""
    slurm = cluster()
    job = slurm.jobs / name
    log = re.search(r"^#SBATCH --error=(.*)$", (job / "script").read_text(), re.MULTILINE)
    file = os.open(log[1].replace("%j", name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    environment = os.environ | {"SLURM_JOB_ID": name, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    while slurm.state(name) in ("PENDING", "REQUEUED"):
        replace(job / "state", "RUNNING")
        process = subprocess.Popen(
            ["bash", job / "script"], start_new_session=True, env=environment, stderr=file
        )
        replace(job / "group", str(process.pid))
        process.wait()
        if slurm.state(name) == "RUNNING":
            replace(job / "state", "FAILED" if process.returncode else "COMPLETED")


def srun(*arguments: str) -> None:
    name = os.environ["SLURM_JOB_ID"]
    options = iter(arguments)
    for option in options:
        if option in ("--output", "--error"):
            path = next(options).replace("%j", name).replace("%t", "0")
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1 if option == "--output" else 2)
        elif not option.startswith("--"):
            replace(cluster().jobs / name / "task", str(os.getpid()))
            command = [option, *options]
            os.execvp(command[0], command)


def squeue(*arguments: str) -> None:
    home = cluster().home
    note("squeue", *arguments)
    if (home / "down").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    for job in (home / "jobs").iterdir():
        if (job / "state").exists() and (state := (job / "state").read_text()):
            print(job.name, state)


def scancel(name: str) -> None:
    note("scancel", name)
    if cluster().state(name) not in ENDED:
        cluster().end(name, "CANCELLED")


def note(name: str, *arguments: str) -> None:
    with (cluster().home / f"{name}.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    {"sbatch": sbatch, "supervise": supervise, "srun": srun, "squeue": squeue, "scancel": scancel}[command](
        *rest
    )
