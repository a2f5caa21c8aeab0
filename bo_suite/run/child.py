"""The main loop of a worker process, which runs the parent's tasks one by one; imports nothing heavy."""

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
"""Sent instead of a task to end the worker."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that numerical libraries read when they load."""


@dataclass(frozen=True)
class Setting:
    """What a worker copies from its parent.

    Attributes:
        pickled: the function to call.
        script: file of the parent's `__main__` module; None in an interactive session.
        module: the module that `python -m` ran; None for a script.
        imports_main: whether the worker imports the main module, which unpickling the function needs; if
            not, the worker only records its name, for processes that the function may start.
        arguments: `sys.argv`.
        start_method: start method that multiprocessing was set to; None for its default.
    """

    pickled: bytes
    script: str | None
    module: str | None
    imports_main: bool
    arguments: list[str]
    start_method: str | None


@dataclass(frozen=True)
class Answer:
    """What a task returned or raised."""

    value: Any = None
    error: BaseException | None = None


def serve(handle: int) -> None:
    """Receives a Setting, answers once its function is loaded, then calls it on each tuple of arguments.

    The process leads a process group, so that its children can be ended with it. When the parent ends, even
    by a kill, the group is killed.

    Args:
        handle: handle of the connection to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    if sys.platform == "win32":
        channel = connection.PipeConnection(handle)
    else:
        channel = connection.Connection(handle)
    messages = SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(channel, messages), daemon=True).start()
    try:
        function = _loaded(pickle.loads(messages.get()))
    except BaseException as error:
        channel.send_bytes(pickled(Answer(error=TaskNotReadable(error_text(error)))))
        return
    channel.send_bytes(pickled(Answer()))
    while (task := messages.get()) != GOODBYE:
        answer = pickled(_called(function, task))
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
    """Whether this is a worker that is importing its parent's script, which then must not start a run."""
    return _importing_main


_importing_main = False


def _loaded(setting: Setting) -> Callable[..., Any]:
    """The function; limits the numerical libraries that it imported to one thread."""
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
    """A main module for processes that the function may start."""
    module = types.ModuleType("__main__")
    if setting.script is not None:
        module.__file__ = setting.script
    if setting.module is not None:
        module.__spec__ = ModuleSpec(setting.module, None)
    return module


def _namespaces(value: object) -> "Iterator[dict[str, Any]]":
    """Global names of functions and classes of the main module, where pickle looks them up."""
    if isinstance(value, partial):
        for item in (value.func, *value.args, *value.keywords.values()):
            yield from _namespaces(item)
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


def pickled(answer: Answer) -> bytes:
    """An answer as bytes, of a TypeError if it cannot be pickled."""
    try:
        return bytes(cloudpickle.dumps(answer))
    except BaseException as error:
        message = f"what a worker returns must be picklable, got {error_text(error)}"
        return bytes(cloudpickle.dumps(Answer(error=TypeError(message))))
