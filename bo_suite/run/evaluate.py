"""Calls a user's function on a point, in this process or in a worker; imports nothing heavy."""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bo_suite.errors import BoSuiteError, TrialError
from bo_suite.run.raised import Raised, is_out_of_memory, kinds_of, traceback_text
from bo_suite.storage.goals import Goals, Told
from bo_suite.values.describe import LONGEST, SHORT, described, error_text
from bo_suite.values.numbers import is_mapping, number_of, refusal

_REASON = LONGEST - 100
"""Maximum number of characters of a reason, to which the number of tries is appended."""


class TaskNotReadable(BoSuiteError):
    """A worker cannot import or unpickle its task."""


class TaskEnded(BoSuiteError):
    """A task was ended from outside before it returned; the message becomes the reason of its trial."""


class WorkerDied(TaskEnded):
    """The process of a task died, and no other task was in it."""


class TookTooLong(TaskEnded):
    """A task exceeded its timeout and was killed with its process."""


@dataclass(frozen=True)
class Outcome:
    """The result of one call: a finite value or values by name, or the reason why there is none.

    Attributes:
        value: the value; values by name, NaN where one has no number; or None.
        reason: why there is no value, or None.
        traceback: traceback of the exception, as text.
        kinds: names of the exception's class and its base classes.
        raised: the exception, if it may end the run.
    """

    value: float | dict[str, float] | None
    reason: str | None
    traceback: str | None = field(default=None, repr=False)
    kinds: tuple[str, ...] = field(default=(), repr=False)
    raised: Raised | None = field(default=None, repr=False, compare=False)


def evaluate(
    function: Callable[[dict[str, Any]], Told], goals: Goals, params: dict[str, Any], with_raised: bool
) -> Outcome:
    """The outcome of function(params), which gets a copy of params.

    An exception, a NaN or a value of another type becomes a reason; so does a BaseException, such as a panic
    in Rust code. Only a KeyboardInterrupt is raised.

    Args:
        function: the function to call.
        goals: which outcomes it may return.
        params: its argument.
        with_raised: whether to return an exception, or a TrialError about a value of a wrong type, in
            `raised`, since it may be a bug of the program. A value that is not finite is not a bug, nor is a
            lack of memory, since points differ in the memory that they need.
    """
    try:
        raw = function(copy.deepcopy(params))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        trace = error.__traceback__
        BaseException.with_traceback(error, trace and trace.tb_next)  # without this function's frame
        kinds, text = kinds_of(error), traceback_text(error)
        raised = Raised(error, text) if with_raised and not is_out_of_memory(kinds) else None
        return Outcome(None, error_text(error, _REASON), text, kinds, raised)
    if is_mapping(raw):
        return _named_outcome(raw, goals, with_raised)
    value = None if goals.several else number_of(raw)
    if value is None:
        names = ", ".join(map(repr, goals.names))
        wanted = f"a dict of {names}" if goals.several else "a number"
        return _wrong_type(refusal(f"the function must return {wanted}", raw, SHORT), with_raised)
    if not math.isfinite(value):
        return Outcome(None, f"the function returned {value}")
    return Outcome(value, None)


def _named_outcome(raw: Mapping[Any, Any], goals: Goals, with_raised: bool) -> Outcome:
    """The outcome of a function that returned values by name; an infinite one counts as NaN."""
    values = {}
    for name, one in raw.items():
        number = float(one) if isinstance(one, bool) else number_of(one)
        values[name] = one if number is None else number if math.isfinite(number) else math.nan
    if values and all(isinstance(one, float) and math.isnan(one) for one in values.values()):
        return Outcome(None, f"the function returned no number, {described(dict(raw), SHORT)}")
    try:
        goals.check(values)
    except TrialError as error:
        return _wrong_type(str(error), with_raised)
    return Outcome({name: one for name, one in values.items() if one is not None}, None)


def _wrong_type(reason: str, with_raised: bool) -> Outcome:
    """The outcome of a function that returned something else than it should."""
    error = TrialError(reason)
    return Outcome(None, reason, None, kinds_of(error), Raised(error, "") if with_raised else None)


def call_pickled(task: bytes) -> Any:
    """Calls a pickled pair of a function and its arguments.

    Raises:
        TaskNotReadable: they cannot be unpickled here. If the executor unpickled them, the worker would end.
    """
    try:
        function, arguments = pickle.loads(task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise TaskNotReadable(error_text(error)) from None
    return function(*arguments)
