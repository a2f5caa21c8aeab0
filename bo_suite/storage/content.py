"""Checks of values read from a file, which may be damaged or written by anybody."""

import hashlib
import json
import math
from typing import Any

from bo_suite.errors import StorageError


def check(fits: bool, what: str, requirement: str, value: object) -> None:
    """Raises a StorageError unless `fits`.

    Args:
        fits: whether the value is valid.
        what: name of the value: file, row and field.
        requirement: what the value must be.
        value: the value.
    """
    if not fits:
        raise StorageError(f"{what} must be {requirement}, got {value!r:.100}")


def parsed(what: str, text: object) -> Any:
    """The value of a JSON text.

    Raises:
        StorageError: it is not text, or not JSON.
    """
    check(isinstance(text, str | bytes), what, "JSON", text)
    try:
        return json.loads(text)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise StorageError(f"{what} must be JSON, got {text!r:.100}: {error}") from error


def is_whole(value: object, at_least: int | None = None) -> bool:
    """Whether a value is an int, at least `at_least`; a bool is not."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and (at_least is None or value >= at_least)  # type: ignore[operator]


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float; a bool is not."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False


def digest(value: object) -> str:
    """A hash of a JSON value, which reveals changes that leave the value valid."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
