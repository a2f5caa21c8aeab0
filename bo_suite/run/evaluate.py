"""Calls a user's function on a point, in this process or in a worker; imports nothing heavy."""

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeGuard

from bo_suite.errors import BoSuiteError, TrialError
from bo_suite.run.raised import Raised, is_out_of_memory, kinds_of, traceback_text
from bo_suite.storage.by_parameter import ByName, Kinds, checked_gradient
from bo_suite.storage.goals import Goals, Told
from bo_suite.values.describe import LONGEST, SHORT, described, error_text
from bo_suite.values.numbers import is_mapping, number_of, refusal

_REASON = LONGEST - 100
"""Maximum number of characters of a reason, to which the number of tries is appended."""


Returned = Told | tuple[Told, ByName]
"""What a function may return: an outcome, or an outcome and its gradient."""


class TaskNotReadable(BoSuiteError):
    """A worker cannot import or unpickle its task."""


class TaskEnded(BoSuiteError):
    """A task was ended from outside before it returned; the message becomes the reason of its trial."""


class WorkerDied(TaskEnded):
    """The process of a task died, and no other task was in it."""


class TookTooLong(TaskEnded):
    """A task exceeded its timeout and was killed with its process."""


class EvaluationEnded(BoSuiteError):
    """An evaluation reports again after it was told to stop, or after its run has ended."""


class Reporting(Protocol):
    """What a function gets as its second argument in a run with a scheduler; `Reporter` is one.

    Attributes:
        ended: whether the evaluation was told to stop, so that nothing is expected of it any more.
        last: the value at the largest step that was reported; None if there is none.
    """

    @property
    def ended(self) -> bool: ...

    @property
    def last(self) -> float | None: ...

    def close(self) -> None:
        """Closes the connection to the run, if there is one."""


@dataclass(frozen=True)
class Outcome:
    """The result of one call: a finite value or values by name, or the reason why there is none.

    Attributes:
        value: the value; values by name, NaN where one has no number; or None.
        reason: why there is no value, or None.
        traceback: traceback of the exception, as text.
        kinds: names of the exception's class and its base classes.
        raised: the exception, if it may end the run.
        ended: whether a report has ended the trial before, so that there is nothing to store; the reason is
            then what the function raised after that, or None.
        gradient: derivatives of the value by name of a parameter, NaN where one is not finite; None if the
            function returned none.
    """

    value: float | dict[str, float] | None
    reason: str | None
    traceback: str | None = field(default=None, repr=False)
    kinds: tuple[str, ...] = field(default=(), repr=False)
    raised: Raised | None = field(default=None, repr=False, compare=False)
    ended: bool = False
    gradient: dict[str, float] | None = None


@dataclass(frozen=True)
class Expected:
    """What a function may return.

    Attributes:
        goals: which outcomes.
        kinds: of the parameters, as they were when the run began.
    """

    goals: Goals
    kinds: Kinds = field(default_factory=dict)


def evaluate(
    function: Callable[..., Returned | None],
    expected: Expected,
    params: dict[str, Any],
    with_raised: bool,
    report: Reporting | None = None,
) -> Outcome:
    """The outcome of function(params), or of function(params, report); it gets a copy of params.

    An exception, a NaN or a value of another type becomes a reason; so does a BaseException, such as a panic
    in Rust code. Only a KeyboardInterrupt is raised.

    Args:
        function: the function to call.
        expected: what it may return: an outcome, or a pair of an outcome and a gradient.
        params: its argument.
        with_raised: whether to return an exception, or a TrialError about a value of a wrong type, in
            `raised`, since it may be a bug of the program. A value that is not finite is not a bug, nor is a
            lack of memory, since points differ in the memory that they need.
        report: the second argument, in a run with a scheduler; None for a function of params alone. If the
            function then returns None, its outcome is the last reported value.
    """
    try:
        if report is None:
            raw = function(copy.deepcopy(params))
        else:
            raw = function(copy.deepcopy(params), report)
            raw = report.last if raw is None and not report.ended else raw
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if report is not None and report.ended:
            quiet = isinstance(error, EvaluationEnded)
            return Outcome(None, None if quiet else error_text(error, _REASON), ended=True)
        trace = error.__traceback__
        BaseException.with_traceback(error, trace and trace.tb_next)  # without this function's frame
        kinds, text = kinds_of(error), traceback_text(error)
        raised = Raised(error, text) if with_raised and not is_out_of_memory(kinds) else None
        return Outcome(None, error_text(error, _REASON), text, kinds, raised)
    finally:
        if report is not None:
            report.close()
    if report is not None and report.ended:
        return Outcome(None, None, ended=True)
    told, gradient = raw if _is_pair(raw) else (raw, None)
    outcome = _outcome(told, expected.goals, with_raised)
    if gradient is None or outcome.value is None:
        return outcome
    return _with_gradient(outcome, gradient, expected, params, with_raised)


def _is_pair(raw: object) -> TypeGuard[tuple[Any, Any]]:
    """Whether a function has returned an outcome and, as it seems, a gradient: two numbers are no pair."""
    return type(raw) is tuple and len(raw) == 2 and number_of(raw[1]) is None


def _outcome(raw: Any, goals: Goals, with_raised: bool) -> Outcome:
    """The outcome of a function that returned a value, or values by name."""
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


def _with_gradient(
    outcome: Outcome, told: Any, expected: Expected, params: dict[str, Any], with_raised: bool
) -> Outcome:
    """The outcome with the gradient that the function returned too, if the objective has a value."""
    failed = {}
    if is_mapping(told):
        numbers = {name: number_of(one) for name, one in told.items()}
        failed = {name: 0.0 for name, one in numbers.items() if one is not None and not math.isfinite(one)}
        told = {**told, **failed}
    kinds = dict.fromkeys(params, "Float") | dict(expected.kinds)  # the space may have got parameters since
    try:
        gradient = checked_gradient(told, expected.goals, kinds, params)
    except TrialError as error:
        return _wrong_type(f"the function returned a wrong gradient: {error}", with_raised)
    value = outcome.value
    if isinstance(value, dict) and not math.isfinite(value.get(expected.goals.objectives[0].name, math.nan)):
        return outcome
    return replace(
        outcome, gradient={name: math.nan if name in failed else one for name, one in gradient.items()}
    )


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
