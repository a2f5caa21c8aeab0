"""Calling a user's function on a point, here or in a worker process; imports nothing heavy."""

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, SupportsFloat

from bo_suite.errors import BoSuiteError, TrialError
from bo_suite.run.raised import Raised, is_out_of_memory, kinds_of, traceback_text
from bo_suite.values.describe import LONGEST, SHORT, error_text
from bo_suite.values.numbers import number_of, refusal

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


def evaluate(
    function: Callable[[dict[str, Any]], SupportsFloat], params: dict[str, Any], wanted: bool
) -> Outcome:
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
