"""Text about a user's objects that is safe to store, log and raise; imports nothing heavy.

The `repr` of a user's object may raise, or may be 20 MB long. The functions here raise nothing but
KeyboardInterrupt. Their texts have a maximum length, say how many characters were left out, and contain no
lone surrogates, which cannot be stored. Use `visible` for text that is shown in a terminal, figure or page.
"""

from collections.abc import Callable
from unicodedata import category

LONGEST = 10_000
"""Maximum number of characters of a stored text."""

SHORT = 200
"""Maximum number of characters of a stored text in a message."""

_IN_A_MESSAGE = 1_000
"""Maximum number of characters of one object in a message."""

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: control, format, lone surrogate, line and paragraph separator."""


def described(value: object, most: int = _IN_A_MESSAGE) -> str:
    """The repr of an object, at most `most` characters."""
    return shortened(_text(repr, value), most)


def plain_text(value: object, most: int = LONGEST) -> str:
    """The str of an object, at most `most` characters, and without NUL, which databases do not store."""
    return shortened(_text(str, value).replace("\0", "\\x00"), most)


def error_text(error: BaseException, most: int = _IN_A_MESSAGE) -> str:
    """The type and the message of an exception, at most `most` characters."""
    message = _text(str, error)
    return shortened(f"{_type_name(error)}: {message}" if message else _type_name(error), most)


def shortened(text: str, most: int) -> str:
    """The text if it is short enough; else its start and end, with the number of characters left out."""
    whole = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(whole) <= most:
        return whole
    room = max(most - len(_note(len(whole))), 0)
    tail = room // 2
    return (whole[: room - tail] + _note(len(whole) - room) + whole[len(whole) - tail :])[:most]


def visible(text: str) -> str:
    """The text on one line, with control and invisible characters escaped.

    Control and format characters (escape sequences, line breaks, tabs, marks that change the direction of
    writing) and lone surrogates become Python escapes: `\\x1b`, `\\n`, `\\u202e`, `\\udc80`.
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode("ascii") if category(letter) in _UNSEEN else letter
        for letter in text
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
    """The name of `type(value)`, even if `__class__` or a metaclass reports another one."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name
