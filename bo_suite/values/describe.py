"""What a user's object says of itself, as text that can be stored and raised; imports nothing heavy.

An object of a user may fail to describe itself, or describe itself in 20 MB. The functions here raise
nothing but KeyboardInterrupt. Their texts are bounded, say what was left out, and hold no lone surrogates,
which cannot be stored. `visible` is for whatever shows a text to a person: a terminal, a picture, a page.
"""

from collections.abc import Callable
from unicodedata import category

LONGEST = 10_000
"""The most characters of a text that is stored."""

SHORT = 200
"""The most characters of a stored text that a message repeats."""

_IN_A_MESSAGE = 1_000
"""The most characters of an object in a message, which may name several."""

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: control, format, lone surrogate, line and paragraph separator."""


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


def visible(text: str) -> str:
    """The text on one line, without anything that a terminal obeys or that nobody sees.

    Control and format characters (escape sequences, line breaks, tabs, marks that turn the direction of
    writing) and lone surrogates become what Python writes for them: `\\x1b`, `\\n`, `\\u202e`, `\\udc80`.
    """
    if text.isprintable():
        return text
    return "".join(
        one.encode("unicode_escape").decode("ascii") if category(one) in _UNSEEN else one for one in text
    )


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
