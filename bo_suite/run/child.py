"""What runs in a worker process: tasks of the parent, one after the other; imports nothing heavy."""

import multiprocessing
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
from multiprocessing import connection, spawn
from queue import SimpleQueue
from typing import Any

import cloudpickle
from threadpoolctl import threadpool_limits

from bo_suite.run.evaluate import TaskNotReadable
from bo_suite.values.describe import error_text

GOODBYE = b""
"""Sent instead of a task: there are no more."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that numerical libraries read when they load."""


@dataclass(frozen=True)
class Setting:
    """What a worker needs to stand in for its parent.

    Attributes:
        pickled: the function that it calls.
        script: file of the parent's `__main__` module, None in an interactive session.
        module: what `python -m` ran, None of a script.
        imports_main: whether that is imported, since the function cannot be read without it; else it is only
            named, for processes that the function may start.
        arguments: `sys.argv`.
        start_method: how multiprocessing was told to start processes, None for its default.
    """

    pickled: bytes
    script: str | None
    module: str | None
    imports_main: bool
    arguments: list[str]
    start_method: str | None


@dataclass(frozen=True)
class Answer:
    """What a task has returned or raised."""

    value: Any = None
    error: BaseException | None = None


def serve(handle: int) -> None:
    """Takes a Setting, says that its function is loaded, and calls it on each pickled tuple of arguments.

    The process leads a group of its own, so that its children can be ended with it. Where the parent ends,
    killed or not, the group ends: nobody would ever take what it computes.

    Args:
        handle: of the connection to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the parent
    if sys.platform == "win32":
        channel = connection.PipeConnection(handle)
    else:
        channel = connection.Connection(handle)
    messages = SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(channel, messages), daemon=True).start()
    try:
        function = _loaded(pickle.loads(messages.get()))
    except BaseException as error:
        channel.send_bytes(_pickled(Answer(error=TaskNotReadable(error_text(error)))))
        return
    channel.send_bytes(_pickled(Answer()))
    while (task := messages.get()) != GOODBYE:
        answer = _pickled(_called(function, task))
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
        channel.send_bytes(answer)


def _receive(channel: "connection.Connection[Any, Any]", messages: "SimpleQueue[bytes]") -> None:
    try:
        while True:
            messages.put(channel.recv_bytes())
    except (EOFError, OSError):
        if sys.platform != "win32":
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def importing_main() -> bool:
    """Whether this is a worker that imports the script of its parent, which must not run it again."""
    return _importing_main


_importing_main = False


def _loaded(setting: Setting) -> Callable[..., Any]:
    """The function; numerical libraries that it has imported are limited to one thread."""
    sys.argv = setting.arguments
    if setting.start_method is not None:
        multiprocessing.set_start_method(setting.start_method, force=True)
    if setting.imports_main:
        _import_main(setting)
    else:
        sys.modules["__main__"] = _stand_in(setting)
    function: Callable[..., Any] = pickle.loads(setting.pickled)
    if not setting.imports_main:
        for names in _namespaces(function):
            vars(sys.modules["__main__"]).update(names)
    threadpool_limits(limits=1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    return function


def _import_main(setting: Setting) -> None:
    global _importing_main
    _importing_main = True
    if setting.module is not None:
        spawn.prepare({"init_main_from_name": setting.module})
    else:
        spawn.prepare({"init_main_from_path": setting.script})
    _importing_main = False


def _stand_in(setting: Setting) -> types.ModuleType:
    """A module that processes started by the function take for the main one."""
    module = types.ModuleType("__main__")
    if setting.script is not None:
        module.__file__ = setting.script
    if setting.module is not None:
        module.__spec__ = ModuleSpec(setting.module, None)
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
        return bytes(cloudpickle.dumps(answer))
    except BaseException as error:
        law = "what a worker returns must be picklable"
        return bytes(cloudpickle.dumps(Answer(error=TypeError(f"{law}, got {error_text(error)}"))))
