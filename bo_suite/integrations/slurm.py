"""Slurm as a `concurrent.futures.Executor`: each call is one job, submitted by submitit."""

import concurrent.futures as futures
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import cloudpickle

from bo_suite.errors import ArgumentError, TrialError, WorkersDied
from bo_suite.run.child import Answer, pickled
from bo_suite.run.evaluate import TookTooLong, WorkerDied, call_pickled
from bo_suite.values.describe import described, error_text, plain_text, visible

_COMMANDS = ("sbatch", "squeue", "scancel", "srun")

_LOOKS = 30
"""Number of looks for results between two questions to Slurm."""

_SQUEUE_S = 60.0
"""Seconds after which a question to Slurm is given up, to be asked again later."""

_AT_LIMIT = frozenset({"TIMEOUT", "DEADLINE"})
"""States of a job that reached a time limit."""

_BY_CLUSTER = frozenset({"BOOT_FAIL", "CANCELLED", "NODE_FAIL", "PREEMPTED", "REVOKED"})
"""States of a job that the cluster or its users ended, whatever it computed."""

_ENDED = _AT_LIMIT | _BY_CLUSTER | {"COMPLETED", "FAILED", "OUT_OF_MEMORY", ""}
"""States of a job that has ended, "" if Slurm has forgotten it; a preempted one may be requeued yet."""


class SlurmExecutor(futures.Executor):
    """Run each call as one Slurm job, for `minimize` and `run_suite`; a context manager like any executor.

    It may run on a login node or in a job of its own. Jobs start in the current folder with the environment
    and `sys.path` of this process; f of a script is sent by value. Each executor writes tasks, results and
    logs into a new folder of its own inside `folder`.

    A job that ends without a result costs its call alone, since nothing else ran in it. The future raises
    TookTooLong at the time limit, else WorkerDied (a crash, too little memory, a dead node, a cancellation, a
    preemption without requeue), which `minimize(retries=)` repeats. A job that Slurm requeues is waited for.
    But as long as no job has begun its call, one that fails before it does raises WorkersDied, which ends the
    run: jobs cannot start Python, or not import bo_suite.

    `cancel` of a future that is not done always succeeds, and cancels the job by `scancel`, even if it runs.

    One thread looks for results; it asks Slurm by one `squeue` an interval for the states of all jobs. A job
    counts as ended without a result if two answers in a row say so. While Slurm does not answer, it waits.

    Args:
        folder: a folder that the nodes of the cluster share; created if it does not exist.
        interval: seconds between two questions to Slurm; results are looked for 30 times as often.
        parameters: of submitit's `AutoExecutor.update_parameters`: timeout_min, mem_gb, cpus_per_task, and
            options of sbatch, such as slurm_partition. Without timeout_min the limit is 5 minutes.

    Raises:
        ImportError: submitit is not installed.
        ArgumentError: a command of Slurm is missing, or the folder or a parameter cannot be used.
    """

    def __init__(self, folder: str | Path, *, interval: float = 30.0, **parameters: Any) -> None:
        try:
            submitit = import_module("submitit")
        except ModuleNotFoundError as error:
            raise ImportError(
                "SlurmExecutor needs submitit, which `pip install 'bo-suite[slurm]'` brings"
            ) from error
        if missing := [name for name in _COMMANDS if shutil.which(name) is None]:
            raise ArgumentError(
                "SlurmExecutor must run where Slurm's commands are, such as a login node (workers= evaluates "
                f"on this machine instead), but the PATH has no {', '.join(missing)}"
            )
        if not (isinstance(interval, int | float) and 0 < interval < math.inf):
            raise ArgumentError(
                f"the interval must be a number of seconds above 0, got {described(interval)}"
            )
        self._interval = interval
        self._folder = _new_folder(folder)
        self._submitit = submitit.AutoExecutor(self._folder, cluster="slurm")
        try:
            self._submitit.update_parameters(**parameters)
        except (AssertionError, NameError, TypeError, ValueError) as error:
            self._folder.rmdir()
            text = plain_text(error).partition("\n")[0]
            raise ArgumentError(f"submitit does not accept the parameters of the jobs: {text}") from error
        self._running: dict[futures.Future[Any], Any] = {}
        self._lock, self._open, self._watched = Lock(), True, False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        """Submit a job that calls fn(*args, **kwargs).

        Raises:
            RuntimeError: the executor was shut down.
            TrialError: Slurm does not accept the job.
        """
        future: futures.Future[Any] = futures.Future()
        with self._lock:
            if not self._open:
                raise RuntimeError("the executor was shut down and accepts no task")
            try:
                task = cloudpickle.dumps((partial(fn, *args, **kwargs), ()))
            except Exception as error:  # process pools set it, too
                future.set_exception(error)
                return future
            try:
                with _outside_of_jobs():
                    job = self._submitit.submit(_run, task, sys.path, self._folder / "begun")
            except Exception as error:
                raise TrialError(
                    f"Slurm did not accept a job: {'; '.join(plain_text(error).splitlines())}"
                ) from error
            self._running[future] = job.task(0)
            if not self._watched:
                self._watched = True
                Thread(target=self._watch, name="SlurmExecutor", daemon=True).start()
        future.add_done_callback(self._cancel)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks; with cancel_futures cancel the jobs; with wait, wait for all."""
        with self._lock:
            self._open = False
            running = list(self._running)
        if cancel_futures:
            for future in running:
                future.cancel()
        if wait:
            futures.wait(running)

    def _cancel(self, future: "futures.Future[Any]") -> None:
        """Cancel the job of a future that was cancelled."""
        if future.cancelled():
            future.set_running_or_notify_cancel()  # so that `futures.wait` returns it
            with self._lock:
                job = self._running.pop(future, None)
            if job is not None:
                job.cancel(check=False)

    def _watch(self) -> None:
        """End futures as their jobs end, until no job is left."""
        asked, suspects = time.monotonic(), set[str]()
        while True:
            time.sleep(self._interval / _LOOKS)
            with self._lock:
                running = dict(self._running)
                if not running:
                    self._watched = False
                    return
            with suppress(OSError):  # if the folder cannot be read now, it is read later
                self._collect(running)
                if time.monotonic() - asked >= self._interval:
                    asked = time.monotonic()
                    suspects = self._end_dead(running, suspects)

    def _collect(self, running: "dict[futures.Future[Any], Any]") -> None:
        """End the futures whose jobs have stored a result."""
        self._folder.chmod(self._folder.stat().st_mode)  # NFS then forgets which files were missing
        for future, job in running.items():
            if job.paths.result_pickle.exists():
                self._end(future, self._answer(job))

    def _end_dead(self, running: "dict[futures.Future[Any], Any]", suspects: set[str]) -> set[str]:
        """End the futures of suspects that have still ended; returns the ids of jobs that now have."""
        if (states := _states()) is None:
            return suspects
        for future, job in running.items():
            state = states.get(job.job_id, "")
            if job.job_id in suspects and state in _ENDED:
                self._end(future, Answer(error=self._death(job, state)))
        return {job.job_id for job in running.values() if states.get(job.job_id, "") in _ENDED}

    def _end(self, future: "futures.Future[Any]", answer: Answer) -> None:
        """Pass on what a job returned or raised, unless the future was cancelled or has ended."""
        with self._lock:
            if self._running.pop(future, None) is None:
                return
        with suppress(futures.InvalidStateError):  # cancelled just now
            if answer.error is None:
                future.set_result(answer.value)
            else:
                future.set_exception(answer.error)

    def _answer(self, job: Any) -> Answer:
        """What a job returned or raised.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            stored = job.result()
        except OSError:
            raise
        except Exception:  # submitit could not load the task
            return Answer(error=self._death(job, "FAILED"))
        try:
            answer: Answer = pickle.loads(stored)
        except Exception as error:
            return Answer(error=error)
        return answer

    def _death(self, job: Any, state: str) -> Exception:
        """The error for a job that ended without a result; the state is empty if Slurm has forgotten it."""
        if state in _AT_LIMIT:
            return TookTooLong(f"its Slurm job {job.job_id} reached its time limit")
        ended = f"Slurm job {job.job_id} ended{f' as {state}' if state else ''}"
        line = _last_line(job.paths.stderr)
        log = f"(log: {job.paths.stderr}{f', which ends with {visible(line)}' if line else ''})"
        if state in _BY_CLUSTER or (self._folder / "begun").exists():
            return WorkerDied(f"its {ended} without a result {log}")
        return WorkersDied(f"{ended} before it began its task {log}")


def _last_line(log: Path) -> str:
    """The last line of a log, if possible not of srun, which writes after the task; empty without one."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.strip()]
    return ([""] + lines[-1:] + [line for line in lines if not line.startswith("srun: ")])[-1]


def _new_folder(folder: str | Path) -> Path:
    """A new folder inside; ids of jobs are unique in it, even if clusters share the file system."""
    try:
        parent = Path(folder).expanduser().absolute()
        parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d_%H%M%S_"), dir=parent))
    except (OSError, TypeError) as error:
        raise ArgumentError(
            "the folder of the jobs must be a folder that can be written to, "
            f"got {described(folder)}: {error_text(error)}"
        ) from error


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hides that this process is in a job itself, whose settings the jobs that it submits would inherit."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    configuration = {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
    with import_module("submitit.helpers").clean_env():
        os.environ.update(configuration)
        yield


def _states() -> dict[str, str] | None:
    """States of this user's jobs by id; None if Slurm does not answer.

    sacct is not asked, since many clusters have no accounting, and elsewhere it may lag behind.
    """
    command = ["squeue", "--noheader", "--user", str(os.getuid()), "--states", "all", "--format", "%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=_SQUEUE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.decode(errors="replace").splitlines()
    return {job: state for job, _, state in (line.partition(" ") for line in lines)}


def _run(task: bytes, path: Iterable[str], begun: Path) -> bytes:
    """In a job: the pickled answer of a task.

    Slurm sends a signal some time before the limit. submitit then raises an exception inside of the function,
    or requeues the job and exits, which would be the function's failure. So the signal is ignored.
    """
    signal.signal(signal.Signals["SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")], signal.SIG_IGN)
    sys.path.extend(folder for folder in path if folder not in sys.path)
    begun.touch()
    try:
        return pickled(Answer(call_pickled(task)))
    except BaseException as error:
        return pickled(Answer(error=error))
