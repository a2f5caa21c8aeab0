"""A method in a process of its own, for libraries whose pins clash with those of this one."""

import json
import os
import subprocess
import sys
import tempfile
import weakref
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import bo_suite
from bo_suite import errors
from bo_suite.bench.method import Task
from bo_suite.space.space import Params

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PATIENCE = 10.0
"""Seconds to wait for a process whose input has ended."""

_RAISED: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        errors.SpaceError,
        errors.SpaceExhausted,
        errors.DataError,
        errors.TrialError,
        errors.FitError,
        errors.NumericalError,
        errors.StorageError,
        ImportError,
    )
}
"""Errors that are raised here as what they were there; others are a RuntimeError."""


@dataclass(frozen=True)
class Isolated:
    """A method of `get_method` in a process of its own, by any Python interpreter.

    The interpreter needs what `bo_suite.space` imports (torch, numpy, jaxtyping) and the method's library;
    the package itself it is given. Its arithmetic has one thread. The process ends with the run.

    Attributes:
        method: what `get_method` knows the method by there.
        python: the interpreter.
    """

    method: str
    python: str = sys.executable

    @property
    def name(self) -> str:
        """The method's name: what runs is the same."""
        return self.method

    def start(self, task: Task) -> "IsolatedRun":
        """The method at the start of a task, in a new process.

        Raises:
            ImportError: the library is missing there.
            RuntimeError: the process ended, or anything else was raised there.
        """
        return IsolatedRun(self, task)


class IsolatedRun:
    """A run in another process; each call waits for its answer."""

    def __init__(self, method: Isolated, task: Task) -> None:
        from bo_suite.bench.peers.serve import task_form

        self._name = method.method
        self._process, self._log, end = _start(method)
        # Also at exit; a process that is killed here has its input ended by the system.
        self.close = weakref.finalize(self, end.close)
        try:
            self._call("start", task_form(task))
        except BaseException:
            self.close()
            raise

    def ask(self) -> Params:
        """The next point to evaluate, a point of the space."""
        params: Params = self._call("ask")
        return params

    def tell(self, params: Params, value: float) -> None:
        """Takes the outcome of the point that was asked last."""
        self._call("tell", params, float(value))

    def fail(self, params: Params, reason: str) -> None:
        """Takes that the point that was asked last has no outcome."""
        self._call("fail", params, reason)

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""
        self._call("add", params, float(value))

    def provenance(self) -> dict[str, Any]:
        """Where the last point came from."""
        said: dict[str, Any] = self._call("provenance")
        return said

    def _call(self, name: str, *given: Any) -> Any:
        line = ""
        if self.close.alive and self._process.stdin and self._process.stdout:
            with suppress(BrokenPipeError):
                print(json.dumps({"call": name, "with": given}), file=self._process.stdin, flush=True)
                line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise RuntimeError(self._obituary(name))
        answer = json.loads(line)
        if "error" in answer:
            kind = _RAISED.get(answer["kind"])
            if kind is not None:
                raise kind(answer["error"])
            raise RuntimeError(f"{self._name}, in its own process, raised in {name}:\n{answer['trace']}")
        return answer["answer"]

    def _obituary(self, name: str) -> str:
        if not self.close.alive:
            return f"the process of {self._name} must be alive to {name}, got a run that has been closed"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 2000))
        last = self._log.read().decode(errors="replace").strip() or "nothing"
        code = self._process.returncode
        self.close()
        return f"the process of {self._name} must be alive to {name}, got its end (code {code}): {last}"


def _start(method: Isolated) -> tuple["subprocess.Popen[str]", IO[bytes], ExitStack]:
    """The process, what it says beside its answers, and what ends and tidies both."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bo_suite_peer")))
        log = stack.enter_context(tempfile.TemporaryFile())
        # The package alone: the folder that it lies in may hold the libraries of this interpreter.
        (folder / "bo_suite").symlink_to(Path(bo_suite.__file__).parent, target_is_directory=True)
        # The process starts elsewhere; a link stays one, for it is what tells a virtual environment.
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
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
