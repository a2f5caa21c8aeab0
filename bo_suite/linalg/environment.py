"""What a step computes in: whatever the caller has set for torch and NumPy, results are the same.

Gradients are recorded, inference mode, autocast, anomaly detection and deterministic algorithms are off,
tensors are made on the CPU, and one thread computes. The default dtype is the exception: it belongs to all
threads of a process, and another one may be making tensors of the caller's meanwhile. So it stays as it is,
every tensor of ours names its dtype, and only a caller's own code (`fresh_dtype`) runs with that of a fresh
process.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from bo_suite.errors import TrialError
from bo_suite.system.locks import FairLock
from bo_suite.values.describe import SHORT, described, error_text, shortened

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_lock = FairLock()
"""Of several threads, one computes: they share the number of threads, among other things."""

_ERRORS: Any = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
}
"""How NumPy treats floating-point errors in a fresh process."""


def usable_device(given: object) -> torch.device:
    """The device of a name, on which double precision was computed just now.

    Raises:
        TrialError: a name that torch does not know, or a device that is not here or cannot do this.
    """
    try:
        if not isinstance(given, str | torch.device):
            raise TypeError("neither a name nor a torch.device")
        device = torch.device(given)
        float(torch.ones(2, dtype=torch.float64, device=device).sum())
    except Exception as error:  # of several types: torch has none of its own for this
        cause = shortened(error_text(error).partition("\n")[0], SHORT)
        law = (
            "a device must be one of this machine that computes in double precision, such as 'cpu' or 'cuda'"
        )
        raise TrialError(f"{law}, got {described(given)} ({cause})") from error
    return device


@contextmanager
def numerical_environment() -> Iterator[None]:
    """The state of a fresh process inside, with one thread; the caller's after. It may be nested.

    One thread has it at a time. A process that is forked while another thread has it gets the caller's state.
    """
    with _lock, thread_environment(), one_thread():
        yield


@contextmanager
def thread_environment() -> Iterator[None]:
    """The state of a fresh process inside, as far as each thread has its own; the caller's after."""
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
            stack.enter_context(torch.inference_mode(False))  # which records gradients, too
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                torch.set_autocast_enabled(device, False)
                stack.callback(torch.set_autocast_enabled, device, True)
        if np.geterr() != _ERRORS:
            stack.enter_context(np.errstate(**_ERRORS))
        yield


@contextmanager
def fresh_dtype() -> Iterator[None]:
    """The default dtype of a fresh process inside, for code of the caller's that makes constants."""
    dtype = torch.get_default_dtype()
    if dtype == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, arithmetic has one thread, and gradients are computed without checks; may be nested.

    It holds for the whole process, and ends when the last thread has left it; no thread waits for another.
    A process that is forked meanwhile computes with one thread only if the forking thread does.
    """
    own = _shared.enter()
    try:
        yield
    finally:
        _shared.leave(own)


@dataclass(frozen=True)
class _State:
    """What all threads of the process share, as it was outside.

    Attributes:
        blas: the libraries, each with its number of threads.
        anomaly: whether gradients are checked.
        deterministic: whether deterministic algorithms are asked for.
    """

    blas: tuple[tuple[Any, int], ...]
    anomaly: bool
    deterministic: bool

    @staticmethod
    def now() -> "_State":
        """The state at present."""
        return _State(
            tuple((library, library.get_num_threads()) for library in _libraries()),
            torch.is_anomaly_enabled(),
            torch.are_deterministic_algorithms_enabled(),
        )

    def limit(self) -> None:
        """Sets what a step needs."""
        for library, threads in self.blas:
            if threads != 1:
                library.set_num_threads(1)
        if self.anomaly:
            _detect_anomalies(False)
        if self.deterministic:
            _be_deterministic(False)

    def restore(self) -> None:
        """Sets what it was."""
        if self.deterministic:
            _be_deterministic(True)
        if self.anomaly:
            _detect_anomalies(True)
        for library, threads in self.blas:
            if threads != 1:
                library.set_num_threads(threads)


class _Shared:
    """Which threads compute with one thread, and the state of the process before the first of them did."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self._depths = Counter[int]()
        self._outside: _State | None = None
        self._torch_threads = 1

    def enter(self) -> int:
        """Limits the process; returns the number of threads that torch has in the calling one."""
        with self.guard:
            own = torch.get_num_threads()
            if self._outside is None:
                self._torch_threads, self._outside = own, _State.now()
            if own != 1:
                torch.set_num_threads(1)  # of this thread, and of BLAS in all
            self._outside.limit()
            self._depths[threading.get_ident()] += 1
            return own

    def leave(self, own: int) -> None:
        """Gives the calling thread its number of threads, and the process its state if it was the last."""
        with self.guard:
            thread = threading.get_ident()
            self._depths[thread] -= 1
            self._depths += Counter()  # without zeros
            if own != 1:
                torch.set_num_threads(own)
            if self._outside is not None:
                if self._depths:
                    self._outside.limit()
                else:
                    self._outside.restore()
                    self._outside = None

    def after_fork(self) -> None:
        """Forgets the threads that a forked process does not have."""
        self.guard.release()
        thread = threading.get_ident()
        depth = self._depths.get(thread, 0)
        self._depths = Counter({thread: depth} if depth else {})
        if self._outside is not None and not depth:
            # the calling thread is not the one that was limited: it may have a number of its own
            if torch.get_num_threads() == 1:
                torch.set_num_threads(self._torch_threads)
            self._outside.restore()
            self._outside = None


_shared = _Shared()


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, ...]:
    """The BLAS libraries that are loaded: to look for them takes milliseconds, so it is done once."""
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def _detect_anomalies(on: bool) -> None:
    torch.autograd.set_detect_anomaly(on, torch.is_anomaly_check_nan_enabled())


def _be_deterministic(on: bool) -> None:
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(on, warn_only=warn_only)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_shared.guard.acquire,
        after_in_parent=_shared.guard.release,
        after_in_child=_shared.after_fork,
    )


def outside_inference_mode(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function, run with inference mode off: nothing can be differentiated in it."""

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return call


def differentiable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy where it was made in inference mode: autograd refuses such."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()
