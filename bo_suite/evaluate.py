"""Calling a user's function on a point, here or in a worker process; imports nothing heavy."""

import copy
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import threadpool_limits

from bo_suite.describe import LONGEST, SHORT, error_text
from bo_suite.errors import BoSuiteError, TrialError
from bo_suite.outcomes import number_of, refusal
from bo_suite.raised import Raised, is_out_of_memory, kinds_of, traceback_text

_REASON = LONGEST - 100
"""The most characters of a reason: the number of tries is added to it."""


class TaskNotReadable(BoSuiteError):
    """A worker cannot import or unpickle the task that it was sent."""


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a finite value, or the reason that there is none.

    Attributes:
        value: the value, or None.
        reason: why there is none, or None.
        traceback: of the exception, as text.
        kinds: names of the exception's class and of those that it inherits from.
        raised: the exception, where it may end the run.
    """

    value: float | None
    reason: str | None
    traceback: str | None = field(default=None, repr=False)
    kinds: tuple[str, ...] = field(default=(), repr=False)
    raised: Raised | None = field(default=None, repr=False, compare=False)


def evaluate(function: Callable[[dict[str, Any]], float], params: dict[str, Any], wanted: bool) -> Outcome:
    """The outcome of function(params), which gets a copy of params.

    An exception, a NaN or another type becomes a reason; so does a BaseException, such as the panic of an
    extension in Rust. Only a KeyboardInterrupt is raised.

    Args:
        function: what to call.
        params: its argument.
        wanted: whether the outcome is to hold an exception, or a TrialError about a value of a wrong type:
            a bug of the program. Neither a value that is not finite is one, nor a lack of memory: points
            differ in what they need.
    """
    try:
        raw = function(copy.deepcopy(params))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = error.__traceback__
        BaseException.with_traceback(error, trace and trace.tb_next)  # without the frame of this function
        kinds, text = kinds_of(error), traceback_text(error)
        raised = Raised(error, text) if wanted and not is_out_of_memory(kinds) else None
        return Outcome(None, error_text(error, _REASON), text, kinds, raised)
    value = number_of(raw)
    if value is None:
        reason = refusal("the function must return a number", raw, SHORT)
        wrong = TrialError(reason)
        raised = Raised(wrong, "") if wanted else None
        return Outcome(None, reason, None, kinds_of(wrong), raised)
    if not math.isfinite(value):
        return Outcome(None, f"the function returned {value}")
    return Outcome(value, None)


def call_pickled(task: bytes) -> Any:
    """Calls a pickled pair of a function and its arguments.

    Raises:
        TaskNotReadable: they cannot be unpickled here. Unpickled by the executor, they would end the worker.
    """
    try:
        function, arguments = pickle.loads(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TaskNotReadable(error_text(error)) from None
    return function(*arguments)


def start_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with it, and keeps numerical libraries to one thread a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")  # for libraries that f loads later
    threadpool_limits(limits=1)  # for those that its module has loaded already
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with_parent() -> None:
    """Ends this process when its parent does, killed or not: nobody would ever take what it computes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
