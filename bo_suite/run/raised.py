"""Exceptions of a user's function on their way to whoever raises them again; imports nothing heavy."""

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
"""Names of such exceptions, of Python and NumPy, torch and CuPy, and TensorFlow."""


class RemoteTraceback(Exception):
    """The traceback of an exception in another process, as its cause here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}\n"""'


class Raised:
    """An exception: itself in the process that raised it, pickled in others, as far as it can be.

    Args:
        error: the exception.
        trace: its traceback, as text; "" for none.
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
        """Lets go of the exception, and so of whatever the frames of its traceback hold."""
        self._error = self._sent = None

    def again(self, note: str) -> NoReturn:
        """Raises the exception; its copy from the traceback, as its cause, if another process raised it.

        Args:
            note: is added to it.

        Raises:
            TrialError: the exception cannot be pickled, or does not come back as it was.
        """
        if self._error is not None:
            _add_note(self._error, note)
            raise self._error
        if (error := self._loaded()) is None:
            error = TrialError(
                f"the function raised {shortened(self._text, SHORT)} in another process, from which that "
                "exception cannot be sent as it is: see the traceback above"
            )
        _add_note(error, note)
        if not self._trace:
            raise error
        raise error from RemoteTraceback(self._trace)

    def _loaded(self) -> BaseException | None:
        """What was sent, if it is as it was."""
        return None if self._sent is None else _read(self._sent, self._kind, self._text)


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):  # an exception that is raised again and again has it already, or refuses it
        if note not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, note)


def _pickled(error: BaseException) -> bytes | None:
    """An exception as bytes that are read as the same exception; None where there are none such.

    Classes whose arguments are not those of their `__init__` are not read as they say themselves, but part by
    part. Classes that are in no module need cloudpickle.
    """
    kind, text = kinds_of(error)[0], error_text(error)
    for form in (error, (type(error), error.args, getattr(error, "__dict__", {}))):
        for module in ("pickle", "cloudpickle"):
            try:
                sent: bytes = importlib.import_module(module).dumps(form)
            except KeyboardInterrupt:
                raise
            except BaseException:  # whatever what it holds raises
                continue
            if _read(sent, kind, text) is not None:
                return sent
    return None


def _read(sent: bytes, kind: str, text: str) -> BaseException | None:
    """The exception of some bytes, if it is of the class of that name and has that text."""
    try:
        error = pickle.loads(sent)
        if type(error) is tuple:
            made, arguments, fields = error
            error = made.__new__(made, *arguments)
            BaseException.args.__set__(error, arguments)  # type: ignore[attr-defined]
            error.__dict__.update(fields)
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the class of a user raises
        return None
    if not issubclass(type(error), BaseException) or kinds_of(error)[0] != kind:
        return None
    return error if _ADDRESS.sub("", error_text(error)) == _ADDRESS.sub("", text) else None


def traceback_text(error: BaseException) -> str:
    """The traceback of an exception with those of its causes, at most 10,000 characters of it."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except KeyboardInterrupt:
        raise
    except BaseException:  # whatever the class of a user raises
        text = error_text(error)
    return shortened(text.rstrip(), LONGEST)


def kinds_of(error: BaseException) -> tuple[str, ...]:
    """The names of an exception's class and of those that it inherits from, the class first."""
    return tuple(map(kind_name, type.__dict__["__mro__"].__get__(type(error))))


def kind_name(kind: type) -> str:
    """The name of a class with its module; that of a script is `__main__` in its workers, too."""
    module = type.__dict__["__dict__"].__get__(kind).get("__module__", "builtins")
    name: str = type.__dict__["__qualname__"].__get__(kind)
    return f"{'__main__' if module == '__mp_main__' else module}.{name}"


def is_out_of_memory(kinds: tuple[str, ...]) -> bool:
    """Whether an exception of these names says that memory is short."""
    return any(kind.rpartition(".")[2] in _OUT_OF_MEMORY for kind in kinds)
