"""What a function says of keyword arguments that other libraries have under another name."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def renamed(names: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the function raises a TypeError that says what to write in the place of a name.

    Args:
        names: what to write, by the name that others have for it.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in names.keys() & kwargs.keys():
                raise TypeError(f"{function.__name__} has no argument {name!r}: write {names[name]}")
            return function(*args, **kwargs)

        return checked

    return decorate
