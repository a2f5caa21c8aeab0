"""A method in a process of its own, for libraries whose pinned versions clash with those of this process."""

import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import bo_suite
from bo_suite import errors
from bo_suite.bench.method import OutcomeTask, Task, task_to_json
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_GRACE = 10.0  # seconds for a process to end after its input has ended


@dataclass(frozen=True)
class SubprocessMethod:
    """A method of `get_method`, run by any Python interpreter in a process of its own.

    The interpreter needs what `bo_suite.space` imports (torch, numpy, jaxtyping) and the method's library;
    bo_suite itself it takes from here. The process has one thread for arithmetic, and ends with the run.

    Attributes:
        method: the method's name for `get_method`.
        python: the interpreter.
    """

    method: str
    python: str = sys.executable

    @property
    def name(self) -> str:
        """The method's name: where it runs makes no difference to its points."""
        return self.method

    def accepts(self, goals: Goals) -> bool:
        """True: the method itself is there, so it decides when it starts."""
        return True

    def start_outcomes(self, task: OutcomeTask) -> "SubprocessRun":
        """Starts the method on a task of several outcomes, in a new process; raises what `start` raises."""
        return SubprocessRun(self, task)

    def start(self, task: Task) -> "SubprocessRun":
        """Starts the method on a task, in a new process.

        Raises:
            ImportError: the library is missing there.
            RuntimeError: the process ended, or the method raised another error.
        """
        return SubprocessRun(self, task)


class SubprocessRun:
    """A run in another process; each call waits for its answer.

    Errors of this package and ImportError are raised here as in the process, others as a RuntimeError.
    """

    def __init__(self, method: SubprocessMethod, task: Task | OutcomeTask) -> None:
        self._name = method.method
        self._process, self._log, end = _start(method)
        # Also at exit; if this process is killed, the system ends the input of the other.
        self.close = weakref.finalize(self, end.close)
        try:
            self._call("start", task_to_json(task))
        except BaseException:
            self.close()
            raise

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""
        params: Params = self._call("ask")
        return params

    def tell(self, params: Params, value: float | Mapping[str, float]) -> None:
        """Takes the outcome of the point that was asked last."""
        told = dict(value) if isinstance(value, Mapping) else float(value)
        self._call("tell", params, told)

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcome."""
        self._call("fail", params, reason)

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""
        self._call("add", params, float(value))

    def provenance(self) -> dict[str, Any]:
        """Where the last point came from."""
        provenance: dict[str, Any] = self._call("provenance")
        return provenance

    def _call(self, name: str, *arguments: Any) -> Any:
        if not self.close.alive:
            raise RuntimeError(f"{self._name} cannot {name}: its run has been closed")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            print(json.dumps({"call": name, "with": arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise RuntimeError(f"{self._name} cannot {name}: its process ended {self._last_words()}")
        answer = json.loads(line)
        if "error" not in answer:
            return answer["answer"]
        kind = ImportError if answer["kind"] == "ImportError" else getattr(errors, answer["kind"], None)
        if kind is not None:
            raise kind(answer["error"])
        raise RuntimeError(f"{self._name}, in its own process, raised in {name}:\n{answer['trace']}")

    def _last_words(self) -> str:
        """The exit code of the process, and the end of what it printed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
        printed = self._log.read().decode(errors="replace").strip() or "nothing"
        self.close()
        return f"with code {self._process.returncode}; it printed: {printed}"


def _start(method: SubprocessMethod) -> tuple["subprocess.Popen[str]", IO[bytes], ExitStack]:
    """The process, a file of what it prints, and what ends the one and deletes the other."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bo_suite_peer")))
        log = stack.enter_context(tempfile.TemporaryFile())
        # The package alone: the folder that it lies in may hold the libraries of this interpreter.
        (folder / "bo_suite").symlink_to(Path(bo_suite.__file__).parent, target_is_directory=True)
        # The process has another working directory. Links are kept: they mark a virtual environment.
        python = os.path.abspath(method.python) if os.sep in method.python else method.python
        process = subprocess.Popen(
            [python, "-m", "bo_suite.bench.peers.serve", method.method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(folder)} | dict.fromkeys(_THREADS, "1"),
            encoding="utf-8",
        )
        stack.callback(_end, process)
        return process, log, stack.pop_all()
    raise AssertionError("unreachable")


def _end(process: "subprocess.Popen[str]") -> None:
    with suppress(BrokenPipeError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
