"""Receives the reports of a run in its process, from its own threads and from other processes of the host."""

import os
import platform
import secrets
import shutil
import tempfile
import threading
from contextlib import suppress
from multiprocessing import AuthenticationError, connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bo_suite.errors import TrialError
from bo_suite.run.checkpoints import Checkpoints
from bo_suite.run.evaluate import EvaluationEnded
from bo_suite.run.reporting import (
    LONGEST_MESSAGE,
    Answer,
    Earlier,
    Reporter,
    Route,
    answered,
    reached,
    receivers,
)
from bo_suite.storage.addresses import Address
from bo_suite.storage.trial import Trial

if TYPE_CHECKING:
    from bo_suite.study.optimizer import Optimizer

_BACKLOG = 128
"""Number of processes that may wait for their connections."""


class ReportServer:
    """Receives the reports of a run, one at a time; a context manager.

    It is pickled as the way to it. It listens for other processes from the first time that it is pickled.

    Args:
        optimizer: of the run.
        checkpoints: the folder for checkpoints. None for one beside the file of the history, or for a
            temporary one of a history in memory, which is removed at the end.
    """

    def __init__(self, optimizer: "Optimizer", checkpoints: Path | None = None) -> None:
        self._optimizer = optimizer
        self._folder, self._temporary = checkpoints, False
        self._lock = threading.Lock()
        self._process, self._key = os.getpid(), secrets.token_hex(16)
        self._secret = secrets.token_bytes(32)
        self._listener: connection.Listener | None = None
        self._handed: dict[tuple[int, int], Trial] = {}
        self._stopped: set[tuple[int, int]] = set()
        self._open = True

    def __enter__(self) -> "ReportServer":
        receivers[self._key] = self
        place = self._optimizer.place
        if self._folder is None and isinstance(place, Path):
            self._folder = place.with_name(f"{place.name}.checkpoints")
        elif self._folder is None and place is None and self._optimizer.scheduler is not None:
            self._folder, self._temporary = Path(tempfile.mkdtemp(prefix="bo_suite-")), True
        return self

    def __exit__(self, *error: object) -> None:
        """Waits for a report that is being stored; later ones raise EvaluationEnded."""
        with self._lock:
            self._open = False
        receivers.pop(self._key, None)
        if self._listener is not None:
            with suppress(OSError):  # ends the wait for a connection
                connection.Client(self._listener.address).close()
            self._listener.close()
        if self._temporary and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return reached, (self._route(),)

    def reporters(self, trial: Trial) -> tuple[Reporter, ...]:
        """What the evaluation of a trial reports with; nothing in a run without a scheduler."""
        if self._optimizer.scheduler is None:
            return ()
        self._handed[trial.id, trial.attempt] = trial
        return (Reporter(trial.id, trial.attempt, self, Checkpoints(self._folder, trial.run)),)

    def has_stopped(self, trial: Trial) -> bool:
        """Whether a report of this attempt was answered by "stop" here."""
        return (trial.id, trial.attempt) in self._stopped

    def earlier(self, trial: int, attempt: int) -> Earlier:
        """What was reported of a trial before."""
        with self._lock:
            self._check()
            return Earlier.of(self._optimizer, trial, attempt)

    def report(self, trial: int, attempt: int, step: int, value: float) -> Answer:
        """Stores a report of an attempt, and returns whether the evaluation goes on."""
        with self._lock:
            self._check()
            if (trial, attempt) in self._stopped:
                raise EvaluationEnded(f"an evaluation must return after 'stop', got step {step} of {trial}")
            if (trial, attempt) not in self._handed:
                raise TrialError(f"a report must be of a trial of this run, got {trial}, attempt {attempt}")
            answer = self._optimizer.report(self._handed[trial, attempt], step, value)
            if answer == "stop":
                self._stopped.add((trial, attempt))
            return answer

    def close(self) -> None:
        """Does nothing: there is no connection to end."""

    def _check(self) -> None:
        """Raises unless the run goes on, and this is its process."""
        if os.getpid() != self._process:
            raise TrialError(
                "a report must come from the process that f was called in, got one from a process that it "
                "has forked"
            )
        if not self._open:
            raise EvaluationEnded("a report must come before its run has ended")

    def _route(self) -> Route:
        """The way to it from other processes, to which it listens from now on."""
        with self._lock:
            if self._listener is None:
                self._listener = _listener()
                threading.Thread(
                    target=self._accept, args=(self._listener,), daemon=True, name="bo_suite reports"
                ).start()
            place, address = self._optimizer.place, self._listener.address
        database = str(place) if isinstance(place, Address) else None
        return Route(self._key, self._process, platform.node(), address, self._secret, database)

    def _accept(self, listener: connection.Listener) -> None:
        """Serves each process that connects in a thread of its own."""
        while self._open:
            try:
                channel = listener.accept()
            except ConnectionError:
                continue
            except OSError:
                return  # it is closed
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: "connection.Connection[Any, Any]") -> None:
        """Answers the requests of one process that knows the secret until it closes the connection."""
        with channel, suppress(AuthenticationError, EOFError, OSError):
            connection.deliver_challenge(channel, self._secret)  # as a Client with an authkey expects it
            connection.answer_challenge(channel, self._secret)
            while True:
                channel.send_bytes(answered(channel.recv_bytes(LONGEST_MESSAGE), self))


def _listener() -> connection.Listener:
    """A socket in a private folder, or on the loopback device where its path would be too long."""
    try:
        return connection.Listener(backlog=_BACKLOG)
    except OSError:
        return connection.Listener(("localhost", 0), backlog=_BACKLOG)
