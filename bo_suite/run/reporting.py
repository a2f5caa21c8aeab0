"""What a function reports with while it runs: the way from an evaluation to its run; imports nothing heavy.

In the process of the run a report is a call. From another process of the host it is a message on a connection
that only those know who were sent the task. From another machine it goes to the database of the run.
"""

import json
import os
import platform
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import AuthenticationError, connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsFloat

from bo_suite.errors import (
    ArgumentError,
    BoSuiteError,
    DataError,
    FitError,
    NumericalError,
    SpaceError,
    StorageError,
    SupersededError,
    TrialError,
)
from bo_suite.run.checkpoints import Checkpoints
from bo_suite.run.evaluate import EvaluationEnded
from bo_suite.values.describe import LONGEST, error_text, shortened
from bo_suite.values.numbers import number_of, refusal, require_int

if TYPE_CHECKING:
    from bo_suite.study.optimizer import Optimizer

Answer = Literal["continue", "stop"]
"""Whether the evaluation goes on after a report."""

LONGEST_MESSAGE = 1 << 20
"""Bytes of the longest message."""


@dataclass(frozen=True)
class Earlier:
    """What was reported of a trial before this evaluation began.

    Attributes:
        step: the largest step; 0 if there is none.
        repeated: the largest step of the same attempt, of which this evaluation is then a repetition.
        value: the value at the largest step; None if there is none.
    """

    step: int = 0
    repeated: int = 0
    value: float | None = None

    @staticmethod
    def of(optimizer: "Optimizer", trial: int, attempt: int) -> "Earlier":
        """What the history has of a trial."""
        reports = optimizer.trial(trial).reports
        own = [report.step for report in reports if report.attempt == attempt]
        return Earlier(reports[-1].step, max(own, default=0), reports[-1].value) if reports else Earlier()


class Receiver(Protocol):
    """Where reports are stored and answered."""

    def earlier(self, trial: int, attempt: int) -> Earlier:
        """What was reported of a trial before."""

    def report(self, trial: int, attempt: int, step: int, value: float) -> Answer:
        """Stores a report of an attempt, and returns whether the evaluation goes on."""

    def close(self) -> None:
        """Ends the connection of this evaluation."""


class Reporter:
    """Reports intermediate outcomes of one evaluation; the second argument of f in a run with a scheduler.

    `report(step, value)` returns "continue" or "stop". After "stop" the trial has ended, or is paused: f is
    to return, and what it returns is not used. Whoever goes on with a paused trial may begin at once, so
    checkpoints are written before a report, not after it.

    Args:
        trial: id of the trial.
        attempt: the attempt that is evaluated.
        receiver: where the reports go.
        checkpoints: where the trials have their folders.
    """

    def __init__(self, trial: int, attempt: int, receiver: Receiver, checkpoints: Checkpoints) -> None:
        self._trial, self._attempt, self._receiver = trial, attempt, receiver
        self._checkpoints = checkpoints
        self._known: Earlier | None = None
        self._value: float | None = None
        self._ended = False
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Reporter, (self._trial, self._attempt, self._receiver, self._checkpoints)

    def __call__(self, step: int, value: SupportsFloat) -> Answer:
        """Stores an intermediate outcome; on return it survives a crash.

        Steps ascend. An evaluation that repeats a failed one may report its steps again: they are stored
        already, and the answer is "continue".

        Args:
            step: the number of the step, such as an epoch, from 1 to the scheduler's `max_step`.
            value: the outcome after this step, in the user's units and direction. With NaN or an infinite
                value the trial has failed.

        Returns:
            "continue", or "stop" if f is to return.

        Raises:
            TrialError: the step or the value is of a wrong type, the step does not increase or is above
                `max_step`, or the run cannot be reached from here.
            SupersededError: the trial was handed out again; f is to return.
            EvaluationEnded: an earlier report was answered by "stop", or the run has ended.
            StorageError: the report cannot be stored.
        """
        number = require_int("a step", step, at_least=1)
        outcome = number_of(value)
        if outcome is None:
            raise TrialError(refusal("a reported value must be a number", value))
        with self._lock:
            if self._ended:
                raise EvaluationEnded(
                    f"an evaluation must return once a report is answered by 'stop', got step {number} of "
                    f"trial {self._trial} after that"
                )
            if number <= self._earlier.repeated:
                return "continue"
            try:
                answer = self._receiver.report(self._trial, self._attempt, number, outcome)
            except (EvaluationEnded, SupersededError):
                self._ended = True
                raise
            self._value, self._ended = outcome, answer == "stop"
            return answer

    @property
    def step(self) -> int:
        """The largest step that earlier evaluations of the trial have reported; 0 if none has."""
        return self._earlier.step

    @property
    def folder(self) -> Path:
        """The folder for checkpoints of the trial, the same in all its evaluations; it exists.

        Raises:
            TrialError: the history is in a database, and the run was given no folder; or the folder has the
                checkpoints of another run.
            StorageError: it cannot be created.
        """
        return self._checkpoints.of(self._trial)

    @property
    def ended(self) -> bool:
        """Whether nothing is expected of this evaluation any more."""
        return self._ended

    @property
    def last(self) -> float | None:
        """The value at the largest step that was reported; None if there is none."""
        return self._earlier.value if self._value is None else self._value

    def close(self) -> None:
        """Closes the connection to the run."""
        self._receiver.close()

    @property
    def _earlier(self) -> Earlier:
        with self._lock:
            if self._known is None:
                self._known = self._receiver.earlier(self._trial, self._attempt)
            return self._known


@dataclass(frozen=True)
class Route:
    """How other processes reach a run.

    Attributes:
        key: a unique name of what receives its reports.
        process: id of its process.
        host: its host.
        address: where it listens.
        secret: what both ends of a connection must know.
        database: the address of its storage, without secrets; None if that is a file, or in memory.
    """

    key: str
    process: int
    host: str
    address: Any
    secret: bytes = field(repr=False)
    database: str | None


receivers: dict[str, Receiver] = {}
"""What receives reports in this process, by key; a forked child has these entries too."""


def reached(route: Route) -> Receiver:
    """What receives the reports of a run: itself in its own process, else the way to it."""
    if route.process == os.getpid() and route.key in receivers:
        return receivers[route.key]
    return _FromElsewhere(route)


class _FromElsewhere:
    """Receives reports in a process that is not that of the run; connects when it is first used."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._connected: tuple[int, Receiver] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return reached, (self._route,)

    def earlier(self, trial: int, attempt: int) -> Earlier:
        return self._receiver.earlier(trial, attempt)

    def report(self, trial: int, attempt: int, step: int, value: float) -> Answer:
        return self._receiver.report(trial, attempt, step, value)

    def close(self) -> None:
        if self._connected is not None and self._connected[0] == os.getpid():
            self._connected[1].close()
        self._connected = None

    @property
    def _receiver(self) -> Receiver:
        if self._connected is None or self._connected[0] != os.getpid():  # a child needs one of its own
            self._connected = os.getpid(), _receiver_at(self._route)
        return self._connected[1]


def _receiver_at(route: Route) -> Receiver:
    """A connection to the process of a run, else to its database.

    Raises:
        TrialError: the process cannot be reached, and the storage is no database.
    """
    here = platform.node()
    if here == route.host:  # else its address would be one of this machine
        with suppress(OSError, EOFError, AuthenticationError):
            return _Connected(connection.Client(route.address, authkey=route.secret))
    if route.database is not None:
        return _Stored(route.database)
    raise TrialError(
        "a report needs the process of its run, or a storage that is a database (postgresql://...), which "
        f"other machines reach, got {here}, where process {route.process} of {route.host} is not found"
    )


class _Connected:
    """Sends reports to the process of the run, as JSON."""

    def __init__(self, channel: "connection.Connection[Any, Any]") -> None:
        self._channel = channel

    def earlier(self, trial: int, attempt: int) -> Earlier:
        return Earlier(**self._answer("earlier", trial, attempt))

    def report(self, trial: int, attempt: int, step: int, value: float) -> Answer:
        answer: Answer = self._answer("report", trial, attempt, step, value)
        return answer

    def close(self) -> None:
        self._channel.close()

    def _answer(self, *request: Any) -> Any:
        """The answer to a request; raises the error that the process of the run met, by its class."""
        try:
            self._channel.send_bytes(json.dumps(request).encode())
            answer = json.loads(self._channel.recv_bytes(LONGEST_MESSAGE))
        except (EOFError, OSError) as error:
            raise EvaluationEnded("a report needs the process of its run, which has ended") from error
        if "error" in answer:
            raise _KINDS.get(answer["error"], RuntimeError)(answer["text"])
        return answer["answer"]


class _Stored:
    """Stores reports in the database of the run.

    Args:
        database: its address.
    """

    def __init__(self, database: str) -> None:
        from bo_suite.study.optimizer import Optimizer

        self._optimizer = Optimizer.resume(database)

    def earlier(self, trial: int, attempt: int) -> Earlier:
        return Earlier.of(self._optimizer, trial, attempt)

    def report(self, trial: int, attempt: int, step: int, value: float) -> Answer:
        own = replace(self._optimizer.trial(trial), attempt=attempt)
        return self._optimizer.report(own, step, value)

    def close(self) -> None:
        self._optimizer.close()


_KINDS: dict[str, type[BoSuiteError]] = {
    kind.__name__: kind
    for kind in (
        *(ArgumentError, DataError, EvaluationEnded, FitError, NumericalError, SpaceError, StorageError),
        *(SupersededError, TrialError),
    )
}
"""Errors that a report raises as what they are, by name; others are RuntimeErrors in other processes."""


def answered(message: bytes, receiver: Receiver) -> bytes:
    """The answer to a request that another process has sent, as JSON; an error by its class and text.

    Args:
        message: the request.
        receiver: what answers it.
    """
    try:
        verb, *arguments = json.loads(message)
        if verb == "earlier":
            return json.dumps({"answer": vars(receiver.earlier(*arguments))}).encode()
        return json.dumps({"answer": receiver.report(*arguments)}).encode()
    except Exception as error:  # a user's scheduler may raise anything
        name = type(error).__name__
        text = str(error) if name in _KINDS else error_text(error)
        return json.dumps({"error": name, "text": shortened(text, LONGEST)}).encode()
