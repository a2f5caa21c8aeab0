"""What runs in a worker process: tasks of the parent, one after the other; imports nothing heavy."""

import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.machinery import ModuleSpec
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import cloudpickle
from threadpoolctl import threadpool_limits

from bo_suite.describe import error_text
from bo_suite.evaluate import TaskNotReadable

GOODBYE = b""
"""Sent instead of a task: there are no more."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that numerical libraries read when they load."""


@dataclass(frozen=True)
class Main:
    """The parent's `__main__` module: names of functions in it are found there by what f starts.

    Attributes:
        path: file of the script, None in an interactive session.
        name: what `python -m` ran, None of a script.
    """

    path: str | None
    name: str | None


@dataclass(frozen=True)
class Answer:
    """What a task has returned or raised."""

    value: Any = None
    error: BaseException | None = None


def serve(connection: "Connection[Any, Any]", main: Main | None) -> None:
    """Takes a pickled function, says that it is loaded, and calls it on each pickled tuple of arguments.

    The process leads a group of its own, so that its children can be ended with it. Where the parent ends,
    killed or not, the group ends: nobody would ever take what it computes.

    Args:
        connection: to the parent.
        main: its `__main__`, to stand in for; None where that was imported here.
    """
    if sys.platform != "win32":
        os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the parent
    messages = SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    try:
        function = _loaded(messages.get(), main)
    except BaseException as error:
        connection.send_bytes(_pickled(Answer(error=TaskNotReadable(error_text(error)))))
        return
    connection.send_bytes(_pickled(Answer()))
    while (task := messages.get()) != GOODBYE:
        answer = _pickled(_called(function, task))
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        connection.send_bytes(answer)


def _receive(connection: "Connection[Any, Any]", messages: "SimpleQueue[bytes]") -> None:
    try:
        while True:
            messages.put(connection.recv_bytes())
    except (EOFError, OSError):
        if sys.platform != "win32":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def _loaded(pickled: bytes, main: Main | None) -> Callable[..., Any]:
    """The function; numerical libraries that it has imported are limited to one thread."""
    if main is not None:
        sys.modules["__main__"] = _stand_in(main)
    function: Callable[..., Any] = pickle.loads(pickled)
    if main is not None:
        for names in _namespaces(function):
            vars(sys.modules["__main__"]).update(names)
    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return function


def _stand_in(main: Main) -> types.ModuleType:
    """A module that processes started by f take for the main one."""
    module = types.ModuleType("__main__")
    if main.path is not None:
        module.__file__ = main.path
    if main.name is not None:
        module.__spec__ = ModuleSpec(main.name, None)
    return module


def _namespaces(value: object) -> "Iterator[dict[str, Any]]":
    """Global names of what came from the main module, which pickle looks up there."""
    if isinstance(value, partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _namespaces(part)
    elif isinstance(value, types.MethodType):
        yield from _namespaces(value.__self__)
        yield from _namespaces(value.__func__)
    elif isinstance(value, types.FunctionType):
        if value.__module__ == "__main__":
            yield {value.__name__: value} | value.__globals__
    elif type(value).__module__ == "__main__":
        yield {type(value).__name__: type(value)}
        for method in vars(type(value)).values():
            yield from _namespaces(method)


def _called(function: Callable[..., Any], task: bytes) -> Answer:
    try:
        return Answer(function(*pickle.loads(task)))
    except BaseException as error:
        return Answer(error=error)


def _pickled(answer: Answer) -> bytes:
    try:
        return cloudpickle.dumps(answer)
    except BaseException as error:
        law = "what a worker returns must be picklable"
        return cloudpickle.dumps(Answer(error=TypeError(f"{law}, got {error_text(error)}")))
