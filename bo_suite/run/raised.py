"""Sends exceptions of a user's function between processes, to raise them again; imports nothing heavy."""

import importlib
import pickle
import re
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from bo_suite.errors import TrialError
from bo_suite.values.describe import LONGEST, SHORT, error_text, shortened

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")

_OUT_OF_MEMORY = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
"""Names of exceptions about memory in Python and NumPy, torch and CuPy, and TensorFlow."""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised in another process: its traceback from there."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}\n"""'


class Raised:
    """An exception: the object itself in the process that raised it, a pickled copy in others.

    Args:
        error: the exception.
        trace: its traceback as text, or "".
    """

    def __init__(self, error: BaseException, trace: str) -> None:
        self._error: BaseException | None = error
        self._sent: bytes | None = None
        self._trace, self._text, self._kind = trace, error_text(error), kinds_of(error)[0]

    def __getstate__(self) -> tuple[Any, ...]:
        sent = self._sent if self._error is None else _pickled(self._error)
        return sent, self._trace, self._text, self._kind

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._error = None
        self._sent, self._trace, self._text, self._kind = state

    def forget(self) -> None:
        """Drops the exception, and with it all objects that its traceback refers to."""
        self._error = self._sent = None

    def again(self, note: str) -> NoReturn:
        """Raises the exception; if another process raised it, a copy with its traceback as the cause.

        Args:
            note: a note to add to it.

        Raises:
            TrialError: the exception cannot be pickled and unpickled unchanged.
        """
        if self._error is not None:
            _add_note(self._error, note)
            raise self._error
        if (error := self._loaded()) is None:
            error = TrialError(
                f"the function raised {shortened(self._text, SHORT)} in another process, and that exception "
                "cannot be sent to this one: see the traceback above"
            )
        _add_note(error, note)
        if not self._trace:
            raise error
        raise error from RemoteTraceback(self._trace)

    def _loaded(self) -> BaseException | None:
        """The copy that was sent, if it equals the original."""
        return None if self._sent is None else _read(self._sent, self._kind, self._text)


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):  # it may refuse notes
        if note not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, note)


def _pickled(error: BaseException) -> bytes | None:
    """An exception as bytes that unpickle to an equal one; None if that is not possible.

    A class whose `args` do not fit its `__init__` is sent as class, arguments and attributes. A class that is
    not in a module needs cloudpickle.
    """
    kind, text = kinds_of(error)[0], error_text(error)
    for form in (error, (type(error), error.args, getattr(error, "__dict__", {}))):
        for module in ("pickle", "cloudpickle"):
            try:
                sent: bytes = importlib.import_module(module).dumps(form)
            except KeyboardInterrupt:
                raise
            except BaseException:  # what it contains may raise anything
                continue
            if _read(sent, kind, text) is not None:
                return sent
    return None


def _read(sent: bytes, kind: str, text: str) -> BaseException | None:
    """The exception in some bytes; None unless its class has that name and it has that text."""
    try:
        error = pickle.loads(sent)
        if type(error) is tuple:
            made, arguments, fields = error
            error = made.__new__(made, *arguments)
            BaseException.args.__set__(error, arguments)  # type: ignore[attr-defined]
            error.__dict__.update(fields)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's class may raise anything
        return None
    if not issubclass(type(error), BaseException) or kinds_of(error)[0] != kind:
        return None
    return error if _ADDRESS.sub("", error_text(error)) == _ADDRESS.sub("", text) else None


def traceback_text(error: BaseException) -> str:
    """The traceback of an exception and of its causes, at most 10,000 characters."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except KeyboardInterrupt:
        raise
    except BaseException:  # a user's class may raise anything
        text = error_text(error)
    return shortened(text.rstrip(), LONGEST)


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """The names of an exception's class and of its base classes, in order of resolution."""
    return tuple(map(kind_name, type.__dict__["__mro__"].__get__(type(error))))


def kind_name(kind: type) -> str:
    """The name of a class with its module; a script is `__main__` also in its workers."""
    module = type.__dict__["__dict__"].__get__(kind).get("__module__", "builtins")
    name: str = type.__dict__["__qualname__"].__get__(kind)
    return f"{'__main__' if module == '__mp_main__' else module}.{name}"


def is_out_of_memory(kinds: tuple[str, ...]) -> bool:
    """Whether an exception with these class names reports a lack of memory."""
    return any(kind.rpartition(".")[2] in _OUT_OF_MEMORY for kind in kinds)
