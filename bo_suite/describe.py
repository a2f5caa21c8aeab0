"""What a user's object says of itself, as text that can be stored and raised; imports nothing heavy.

An object of a user may fail to describe itself, or describe itself in 20 MB. The functions here raise
nothing but KeyboardInterrupt. Their texts are bounded, say what was left out, and hold no lone surrogates,
which cannot be stored.
"""

from collections.abc import Callable

LONGEST = 10_000
"""The most characters of a text that is stored."""

SHORT = 200
"""The most characters of a stored text that a message repeats."""

_IN_A_MESSAGE = 1_000
"""The most characters of an object in a message, which may name several."""


def described(value: object, most: int = _IN_A_MESSAGE) -> str:
    """The repr of an object, at most so many characters."""
    return shortened(_text(repr, value), most)


def plain_text(value: object, most: int = LONGEST) -> str:
    """The str of an object, at most so many characters."""
    return shortened(_text(str, value), most)


def error_text(error: BaseException, most: int = _IN_A_MESSAGE) -> str:
    """The type and the message of an exception, at most so many characters."""
    message = _text(str, error)
    return shortened(f"{_type_name(error)}: {message}" if message else _type_name(error), most)


def shortened(text: str, most: int) -> str:
    """The text if it is short enough; else its start and its end, with the number of characters left out."""
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(whole) <= most:
        return whole
    room = max(most - len(_note(len(whole))), 0)
    tail = room // 2
    return (whole[: room - tail] + _note(len(whole) - room) + whole[len(whole) - tail :])[:most]


def _note(left_out: int) -> str:
    return f" ... ({left_out} characters left out) ... "


def _text(function: Callable[[object], str], value: object) -> str:
    try:
        return str.__str__(function(value))  # not of a subclass of str, whose methods may raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"<{_type_name(value)}, whose {function.__name__} raised {_type_name(error)}>"


def _type_name(value: object) -> str:
    """The name of the true type, whatever `__class__` or a metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name
