"""Calling a user's function on a point, here or in a worker process; imports nothing heavy."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bo_suite.describe import LONGEST, SHORT, described, error_text
from bo_suite.errors import BoSuiteError

_REASON = LONGEST - 100
"""The most characters of a reason: the number of tries is added to it."""


class TaskNotReadable(BoSuiteError):
    """A worker cannot import or unpickle the task that it was sent."""


class TaskEnded(BoSuiteError):
    """A task was ended from outside before it had returned; the text says what goes into its trial."""


class WorkerDied(TaskEnded):
    """The process of a task has died, alone."""


class TookTooLong(TaskEnded):
    """A task has exceeded its timeout, and was killed with its process."""


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a finite value, or the reason that there is none."""

    value: float | None
    reason: str | None


def evaluate(function: Callable[[dict[str, Any]], float], params: dict[str, Any]) -> Outcome:
    """The outcome of function(params), which gets a copy of params.

    An exception, a NaN or another type becomes a reason; so does a BaseException, such as the panic of an
    extension in Rust. Only a KeyboardInterrupt is raised.
    """
    try:
        raw = function(copy.deepcopy(params))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Outcome(None, error_text(error, _REASON))
    try:
        value = float(raw)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return Outcome(None, f"the function must return a number, got {described(raw, SHORT)}")
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
